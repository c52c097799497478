/* Which entries of a folder go into an artifact, in the manifest's order. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "artifact/artifact_internal.h"
#include "base/checks.h"
#include "base/glob.h"

enum { FOLDER_DEPTH_MAX = 66 };

struct candidate {
	struct manifest_entry entry;
	size_t parent; /* index + 1; 0: the root */
	bool selected;
};

struct selection {
	const struct artifact_pack *pack;
	struct arena *into;
	struct candidate *candidates;
	size_t count;
	size_t size;
	size_t open_folders[FOLDER_DEPTH_MAX]; /* index + 1 of the folder last met at each depth */
	uint64_t byte_count;
};

static bool matches_any(const str *globs, size_t count, str path)
{
	for (size_t i = 0; i < count; i++)
		if (glob_match(globs[i], path))
			return true;
	return false;
}

static struct candidate *add_candidate(struct selection *s)
{
	if (s->count == s->size) {
		s->size = s->size ? s->size * 2 : 256;
		s->candidates = must_realloc(s->candidates, s->size * sizeof(*s->candidates));
	}
	s->candidates[s->count] = (struct candidate){ 0 };
	return &s->candidates[s->count++];
}

static errc read_link(struct selection *s, struct manifest_entry *entry, struct err *e)
{
	char full[IO_PATH_MAX], target[MANIFEST_PATH_MAX + 1];
	const char *reason;
	if (snprintf(full, sizeof(full), "%s/%.*s", s->pack->folder, STR_ARG(entry->path)) >=
	    (int)sizeof(full))
		FAIL(e, ERR_LIMIT, "a path below %s is too long", s->pack->folder);
	ssize_t n = readlink(full, target, sizeof(target));
	if (n < 0)
		FAIL_ERRNO(e, "cannot read the link %s", full);
	entry->target = arena_str(s->into, (str){ target, (size_t)n });
	/* asked here too, for a message that names the whole path */
	if (!manifest_link_ok(entry->path, entry->target, &reason))
		FAIL(e, ERR_INVALID, "the link %s cannot be in an artifact: %s", full, reason);
	return OK;
}

static errc fill_entry(struct selection *s, const struct stat *st, struct manifest_entry *entry,
		       struct err *e)
{
	const char *reason;
	if (!manifest_path_ok(entry->path, &reason))
		FAIL(e, ERR_INVALID, "%s/%.*s cannot be in an artifact: %s", s->pack->folder,
		     STR_ARG(entry->path), reason);
	if (S_ISDIR(st->st_mode)) {
		entry->type = MANIFEST_FOLDER;
		return OK;
	}
	if (S_ISLNK(st->st_mode)) {
		entry->type = MANIFEST_LINK;
		return read_link(s, entry, e);
	}
	if (!S_ISREG(st->st_mode))
		FAIL(e, ERR_INVALID,
		     "%s/%.*s is a socket, pipe or device and cannot be in an artifact; remove or "
		     "exclude it",
		     s->pack->folder, STR_ARG(entry->path));
	entry->type = MANIFEST_FILE;
	entry->executable = st->st_mode & S_IXUSR;
	entry->size = (uint64_t)st->st_size;
	if (entry->size > MANIFEST_BYTES_MAX - s->byte_count)
		FAIL(e, ERR_LIMIT,
		     "the artifact would hold more than 4 GiB (at %s/%.*s); exclude what is not "
		     "needed to run",
		     s->pack->folder, STR_ARG(entry->path));
	s->byte_count += entry->size;
	return OK;
}

/* An entry brings the folders above it. */
static void select_with_parents(struct selection *s, size_t index_plus_1)
{
	while (index_plus_1 && !s->candidates[index_plus_1 - 1].selected) {
		s->candidates[index_plus_1 - 1].selected = true;
		index_plus_1 = s->candidates[index_plus_1 - 1].parent;
	}
}

static errc visit(void *ctx, const struct io_entry *found, enum io_walk *ret_walk, struct err *e)
{
	struct selection *s = ctx;
	const struct artifact_pack *pack = s->pack;
	str path = str_c(found->path);
	bool is_folder = S_ISDIR(found->st.st_mode);
	size_t depth = 0;
	*ret_walk = IO_WALK_INTO;
	if (matches_any(pack->exclude, pack->exclude_count, path)) {
		*ret_walk = IO_WALK_SKIP;
		return OK;
	}
	bool selected = !pack->include_count ||
			matches_any(pack->include, pack->include_count, path);
	if (!selected && !is_folder)
		return OK;
	for (size_t i = 0; i < path.len; i++)
		depth += path.ptr[i] == '/';
	must(depth + 1 < FOLDER_DEPTH_MAX);
	struct candidate *c = add_candidate(s);
	c->entry.path = arena_str(s->into, path);
	c->parent = depth ? s->open_folders[depth - 1] : 0;
	TRY(arena_check(s->into, "the list of files", e));
	if (is_folder)
		s->open_folders[depth] = s->count;
	TRY(fill_entry(s, &found->st, &c->entry, e));
	if (selected)
		select_with_parents(s, s->count);
	return OK;
}

static int by_path(const void *a, const void *b)
{
	return str_cmp(((const struct manifest_entry *)a)->path,
		       ((const struct manifest_entry *)b)->path);
}

/* The selected candidates as sorted entries with totals. */
static errc collect(struct selection *s, struct manifest *ret_manifest, struct err *e)
{
	struct manifest m = { .application = s->pack->application };
	size_t count = 0;
	for (size_t i = 0; i < s->count; i++)
		count += s->candidates[i].selected;
	if (count == 0)
		FAIL(e, ERR_INVALID,
		     "nothing in %s is selected for the artifact; did the build write its output "
		     "elsewhere, or do the globs miss it?",
		     s->pack->folder);
	if (count > MANIFEST_ENTRY_COUNT_MAX)
		FAIL(e, ERR_LIMIT,
		     "%s holds %zu files for the artifact, more than %d; exclude what is not "
		     "needed to run",
		     s->pack->folder, count, MANIFEST_ENTRY_COUNT_MAX);
	struct manifest_entry *entries = arena_array(s->into, count, sizeof(*entries));
	TRY(arena_check(s->into, "the list of files", e));
	for (size_t i = 0; i < s->count; i++) {
		struct manifest_entry *entry = &s->candidates[i].entry;
		if (!s->candidates[i].selected)
			continue;
		entries[m.entry_count++] = *entry;
		m.file_count += entry->type == MANIFEST_FILE;
		m.folder_count += entry->type == MANIFEST_FOLDER;
		m.link_count += entry->type == MANIFEST_LINK;
	}
	qsort(entries, m.entry_count, sizeof(*entries), by_path);
	m.byte_count = s->byte_count;
	m.entries = entries;
	*ret_manifest = m;
	return OK;
}

errc artifact_select(const struct artifact_pack *pack, struct arena *into,
		     struct manifest *ret_manifest, struct err *e)
{
	struct selection s = { .pack = pack, .into = into };
	errc rc = io_walk(pack->folder, visit, &s, e);
	if (rc == OK)
		rc = collect(&s, ret_manifest, e);
	free(s.candidates);
	return rc;
}
