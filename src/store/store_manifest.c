/* The folder of the parts: its manifests, what they name, and what nobody names. */
#include "store/store_manifest.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/checks.h"
#include "os/io.h"
#include "store/store_manifest_internal.h"

#define PREFIX "MANIFEST-"

enum {
	MANIFEST_BYTES_MAX = 128 << 20,
	PREFIX_LEN = sizeof(PREFIX) - 1,
	DIGITS = 16,
	REMOVED = 8, /* at most with each commit: more than there should be */
	FILES_MAX = 1 << 20,
};

struct store_manifest {
	char folder[IO_PATH_MAX - 128];
	char engine[STORE_MANIFEST_ENGINE_MAX + 1];
	uint64_t generation; /* the highest that was used */
	uint64_t good;       /* that counts */
	uint64_t *bad;       /* to be moved aside once another counts */
	size_t bad_count;
};

/* One look at the folder. */
struct looking {
	const char *folder, *engine;
	struct quarantine *quarantine;
	struct arena *arena;
	bool change;                        /* whether leftovers may be removed */
	uint64_t *generations;              /* newest first */
	size_t generation_count, bad_count; /* the first so many are bad */
	char **names;                       /* of part files and temporary ones */
	size_t name_count;
	uint64_t highest; /* generation of any name */
};

static errc path_of(const char *folder, const char *name, char path[static IO_PATH_MAX],
		    struct err *e)
{
	if (snprintf(path, IO_PATH_MAX, "%s/%s", folder, name) >= IO_PATH_MAX)
		FAIL(e, ERR_LIMIT, "the path %.60s… is too long", folder);
	return OK;
}

static errc manifest_path(const char *folder, uint64_t generation, char path[static IO_PATH_MAX],
			  struct err *e)
{
	char name[PREFIX_LEN + DIGITS + 1];
	snprintf(name, sizeof(name), PREFIX "%016llx", (unsigned long long)generation);
	return path_of(folder, name, path, e);
}

static bool parse_name(const char *name, uint64_t *ret_generation)
{
	uint64_t generation = 0;
	if (strncmp(name, PREFIX, PREFIX_LEN) != 0 || strlen(name) != PREFIX_LEN + DIGITS)
		return false;
	for (const char *c = name + PREFIX_LEN; *c; c++) {
		if (!isxdigit((unsigned char)*c) || isupper((unsigned char)*c))
			return false;
		generation = generation << 4 | (uint64_t)(*c <= '9' ? *c - '0' : *c - 'a' + 10);
	}
	*ret_generation = generation;
	return generation != 0;
}

/* ---- Listing. */

static int newest_first(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x < y) - (x > y);
}

static void *grown(void *items, size_t count, size_t size)
{
	/* by powers of two */
	if (count & (count - 1))
		return items;
	return must_realloc(items, (count ? count * 2 : 1) * size);
}

static void take_name(struct looking *l, const char *name)
{
	uint64_t generation;
	if (parse_name(name, &generation)) {
		l->generations = grown(l->generations, l->generation_count,
				       sizeof(l->generations[0]));
		l->generations[l->generation_count++] = generation;
	} else if (part_name_is_valid(name) ||
		   (name[0] != '.' && str_ends(str_c(name), STR(PART_TEMPORARY)))) {
		l->names = grown(l->names, l->name_count, sizeof(l->names[0]));
		l->names[l->name_count++] = str_dup(str_c(name));
	}
}

static errc list_folder(struct looking *l, struct err *e)
{
	DIR *dir = opendir(l->folder);
	if (!dir)
		FAIL_ERRNO(e, "cannot list %s", l->folder);
	errno = 0;
	for (struct dirent *d; (d = readdir(dir)); errno = 0) {
		if (l->name_count + l->generation_count == FILES_MAX)
			break;
		take_name(l, d->d_name);
	}
	int failure = errno;
	closedir(dir);
	errno = failure;
	if (failure)
		FAIL_ERRNO(e, "cannot list %s", l->folder);
	if (l->generation_count)
		qsort(l->generations, l->generation_count, sizeof(l->generations[0]), newest_first);
	l->highest = l->generation_count ? l->generations[0] : 0;
	return OK;
}

static void looking_done(struct looking *l)
{
	for (size_t i = 0; i < l->name_count; i++)
		free(l->names[i]);
	free(l->names);
	free(l->generations);
}

/* ---- Which manifest counts. */

static errc read_manifest(struct looking *l, uint64_t generation, struct store_manifest_found *f,
			  struct err *e)
{
	struct buf bytes CLEANUP(buf_done) = buf_init(MANIFEST_BYTES_MAX);
	char path[IO_PATH_MAX];
	uint64_t said = 0;
	TRY(manifest_path(l->folder, generation, path, e));
	if (io_read_file(path, &bytes, NULL) != OK) { /* some failures pass */
		buf_clear(&bytes);
		TRY(io_read_file(path, &bytes, e));
	}
	errc rc = store_manifest_decode(buf_str(&bytes), l->engine, l->arena, &said, &f->content,
					e);
	if (rc == OK && said != generation) {
		f->content = (struct store_manifest_content){ 0 };
		FAIL(e, ERR_CORRUPT, "%s says that it is generation %llu", path,
		     (unsigned long long)said);
	}
	return rc == OK ? OK : err_prepend(e, "%s", path);
}

static errc bad_manifest(struct looking *l, uint64_t generation, struct err *e)
{
	char path[IO_PATH_MAX];
	TRY(manifest_path(l->folder, generation, path, e));
	/* It stays where it is for now: without it a later look would not know that the newest was
	 * bad, and would take the parts that it names for leftovers. */
	quarantine_add(l->quarantine, path, 0, 0, "the manifest is damaged");
	l->bad_count++;
	return OK;
}

static errc choose(struct looking *l, struct store_manifest_found *f, struct err *e)
{
	for (size_t i = 0; i < l->generation_count; i++) {
		struct err why;
		errc rc = read_manifest(l, l->generations[i], f, &why);
		if (rc == OK) {
			f->generation = l->generations[i];
			return OK;
		}
		/* what cannot be read now may be whole: falling back would undo what it says */
		if (rc != ERR_CORRUPT) {
			if (e)
				*e = why;
			return rc;
		}
		f->fell_back = true;
		TRY(bad_manifest(l, l->generations[i], e));
	}
	return OK;
}

/* ---- The parts it names, and the others. */

static errc look_at_parts(struct looking *l, struct store_manifest_found *f, struct err *e)
{
	bool *missing = arena_array(l->arena, f->content.part_count + 1, sizeof(missing[0]));
	char path[IO_PATH_MAX];
	TRY(arena_check(l->arena, "the manifest", e));
	for (size_t i = 0; i < f->content.part_count; i++) {
		const struct store_manifest_part *part = &f->content.parts[i];
		struct stat st;
		TRY(path_of(l->folder, part->name.ptr, path, e));
		bool there = lstat(path, &st) == 0;
		missing[i] = !there || !S_ISREG(st.st_mode) || (uint64_t)st.st_size != part->bytes;
		f->missing_count += missing[i];
		if (missing[i])
			quarantine_add(l->quarantine, path, 0, 0,
				       there ? "the part is not of its size"
					     : "the part is missing");
	}
	f->missing = missing;
	return OK;
}

static int by_text(const void *a, const void *b)
{
	return str_cmp(*(const str *)a, *(const str *)b);
}

static bool is_named(const str *sorted, size_t count, str name)
{
	return count && bsearch(&name, sorted, count, sizeof(sorted[0]), by_text);
}

static errc remove_leftover(struct looking *l, const char *name, struct store_manifest_found *f,
			    struct err *e)
{
	char path[IO_PATH_MAX];
	TRY(path_of(l->folder, name, path, e));
	if (io->unlink(path) < 0 && errno != ENOENT)
		FAIL_ERRNO(e, "cannot remove the leftover %s", path);
	f->removed_count++;
	return OK;
}

static errc look_at_others(struct looking *l, struct store_manifest_found *f, struct err *e)
{
	size_t count = f->content.part_count;
	str *named = arena_array(l->arena, count + 1, sizeof(named[0]));
	str *orphans = arena_array(l->arena, l->name_count + 1, sizeof(orphans[0]));
	TRY(arena_check(l->arena, "the manifest", e));
	for (size_t i = 0; i < count; i++)
		named[i] = f->content.parts[i].name;
	if (count)
		qsort(named, count, sizeof(named[0]), by_text);
	for (size_t i = 0; i < l->name_count; i++) {
		str name = str_c(l->names[i]);
		if (is_named(named, count, name))
			continue;
		if (f->fell_back && !str_ends(name, STR(PART_TEMPORARY)))
			orphans[f->orphan_count++] = arena_str(l->arena, name);
		else if (l->change)
			TRY(remove_leftover(l, l->names[i], f, e));
	}
	f->orphans = orphans;
	return arena_check(l->arena, "the manifest", e);
}

static errc look(struct looking *l, struct store_manifest_found *f, struct err *e)
{
	*f = (struct store_manifest_found){ 0 };
	TRY(list_folder(l, e));
	TRY(choose(l, f, e));
	TRY(look_at_parts(l, f, e));
	return look_at_others(l, f, e);
}

errc store_manifest_scan(const char *folder, const char *engine, struct quarantine *quarantine,
			 struct arena *arena, struct store_manifest_found *ret_found, struct err *e)
{
	struct looking l = { folder, engine, quarantine, arena };
	struct store_manifest_found found;
	errc rc = look(&l, &found, e);
	looking_done(&l);
	if (rc == OK)
		*ret_found = found;
	return rc;
}

errc store_manifest_open(const char *folder, const char *engine, struct quarantine *quarantine,
			 struct arena *arena, struct store_manifest_found *ret_found,
			 struct store_manifest **ret_manifest, struct err *e)
{
	struct looking l = { folder, engine, quarantine, arena, .change = true };
	struct store_manifest_found found;
	struct store_manifest *m = must_calloc(1, sizeof(*m));
	errc rc = OK;
	if (!str_copy(str_c(folder), m->folder, sizeof(m->folder)) ||
	    !str_copy(str_c(engine), m->engine, sizeof(m->engine)))
		rc = err_fill(e, ERR_LIMIT, 0, __FILE__, __LINE__, "the path %.60s… is too long",
			      folder);
	if (rc == OK)
		rc = io_make_dirs(folder, 0700, e);
	if (rc == OK)
		rc = look(&l, &found, e);
	if (rc == OK && l.bad_count) {
		m->bad = l.generations;
		m->bad_count = l.bad_count;
		l.generations = NULL;
	}
	looking_done(&l);
	if (rc != OK) {
		store_manifest_close(m);
		return rc;
	}
	/* above a bad one too, which may come back from a backup */
	m->generation = l.highest > found.generation ? l.highest : found.generation;
	m->good = found.generation;
	*ret_found = found;
	*ret_manifest = m;
	return OK;
}

void store_manifest_close(struct store_manifest *m)
{
	if (!m)
		return;
	free(m->bad);
	free(m);
}

/* ---- Writing. */

static errc check_content(const struct store_manifest_content *content, struct err *e)
{
	if (content->part_count > STORE_MANIFEST_PARTS_MAX ||
	    content->state.len > STORE_MANIFEST_STATE_MAX)
		FAIL(e, ERR_LIMIT, "the manifest has too many parts or too large a state");
	str *names = must_calloc(content->part_count + 1, sizeof(names[0]));
	errc rc = OK;
	for (size_t i = 0; i < content->part_count && rc == OK; i++) {
		char text[PART_NAME_MAX + 1];
		names[i] = content->parts[i].name;
		if (!str_copy(names[i], text, sizeof(text)) || strlen(text) != names[i].len ||
		    !part_name_is_valid(text))
			rc = err_fill(e, ERR_INVALID, 0, __FILE__, __LINE__,
				      "\"%.*s\" cannot be the name of a part", STR_ARG(names[i]));
		if (content->parts[i].note.len > STORE_MANIFEST_NOTE_MAX)
			rc = err_fill(e, ERR_LIMIT, 0, __FILE__, __LINE__,
				      "the note of a part is too long");
	}
	if (rc == OK && content->part_count)
		qsort(names, content->part_count, sizeof(names[0]), by_text);
	for (size_t i = 1; i < content->part_count && rc == OK; i++)
		if (str_eq(names[i - 1], names[i]))
			rc = err_fill(e, ERR_INVALID, 0, __FILE__, __LINE__,
				      "the part %.*s is named twice", STR_ARG(names[i]));
	free(names);
	return rc;
}

/* What could not be moved is bad at the next open again, and older than the one that counts. */
static void move_bad_aside(struct store_manifest *m)
{
	char path[IO_PATH_MAX];
	for (size_t i = 0; i < m->bad_count; i++)
		if (manifest_path(m->folder, m->bad[i], path, NULL) == OK)
			(void)!quarantine_move(path, NULL);
	m->bad_count = 0;
}

errc store_manifest_commit(struct store_manifest *m, const struct store_manifest_content *content,
			   struct err *e)
{
	struct buf bytes CLEANUP(buf_done) = buf_init(MANIFEST_BYTES_MAX);
	char path[IO_PATH_MAX];
	TRY(check_content(content, e));
	uint64_t next = m->generation + 1;
	TRY(store_manifest_encode(m->engine, next, content, &bytes, e));
	TRY(manifest_path(m->folder, next, path, e));
	/* whatever becomes of it, its number is used */
	m->generation = next;
	errc rc = io_write_file(path, buf_str(&bytes), 0600, e);
	if (rc != OK)
		return rc == ERR_LIMIT ? rc : ERR_IO;
	move_bad_aside(m);
	/* the one that counted until now stays as fallback */
	for (uint64_t old = m->good; old > 1 && old + REMOVED > m->good;) {
		old--;
		if (manifest_path(m->folder, old, path, NULL) == OK)
			io->unlink(path);
	}
	m->good = next;
	return OK;
}

uint64_t store_manifest_generation(const struct store_manifest *m)
{
	return m->good;
}
