#include "artifact/manifest.h"

#include <string.h>

#include "base/checks.h"
#include "codec/text.h"

/* UTF-8 without control characters: C0, DEL, C1 (which begins with 0xc2). */
static bool is_printable(str s)
{
	for (size_t i = 0, step; i < s.len; i += step) {
		unsigned char c = (unsigned char)s.ptr[i];
		step = text_utf8_step((str){ s.ptr + i, s.len - i });
		if (step == 0 || c < 0x20 || c == 0x7f ||
		    (c == 0xc2 && (unsigned char)s.ptr[i + 1] < 0xa0))
			return false;
	}
	return true;
}

/* A name of a path: not empty, not `.` or `..`, and short enough for a file system. */
static bool name_ok(str name, const char **ret_reason)
{
	*ret_reason = "it has an empty name, `.` or `..` in it";
	if (name.len == 0 || str_eq(name, STR(".")) || str_eq(name, STR("..")))
		return false;
	*ret_reason = "a name in it is longer than 255 bytes";
	return name.len <= 255;
}

bool manifest_path_ok(str path, const char **ret_reason)
{
	size_t depth = 0, begin = 0;
	*ret_reason = "it is empty or longer than 1024 bytes";
	if (path.len == 0 || path.len > MANIFEST_PATH_MAX)
		return false;
	*ret_reason = "it is not UTF-8 or holds control characters; rename it";
	if (!is_printable(path))
		return false;
	for (size_t i = 0; i <= path.len; i++) {
		if (i < path.len && path.ptr[i] != '/')
			continue;
		if (!name_ok((str){ path.ptr + begin, i - begin }, ret_reason))
			return false;
		begin = i + 1;
		depth++;
	}
	*ret_reason = "it is nested deeper than 64 folders";
	return depth <= MANIFEST_DEPTH_MAX;
}

static size_t depth_of(str path)
{
	size_t depth = 0;
	for (size_t i = 0; i < path.len; i++)
		depth += path.ptr[i] == '/';
	return depth;
}

/*
 * `..` only at the front of the target, and no more of them than there are real folders above the
 * link: then no step can leave the artifact, and a step through another link is that link's matter.
 */
bool manifest_link_ok(str path, str target, const char **ret_reason)
{
	str rest = target, name;
	size_t up = 0;
	bool down = false;
	*ret_reason = "its target is empty, too long, not UTF-8 or holds control characters";
	if (target.len == 0 || target.len > MANIFEST_PATH_MAX || !is_printable(target))
		return false;
	*ret_reason = "it points to an absolute path; make it relative";
	if (target.ptr[0] == '/')
		return false;
	*ret_reason = "it points outside the folder; copy the target into it";
	while (str_split(&rest, '/', &name)) {
		if (name.len == 0 || str_eq(name, STR(".")))
			continue;
		if (!str_eq(name, STR("..")))
			down = true;
		else if (down || ++up > depth_of(path))
			return false;
	}
	return true;
}

struct totals {
	uint64_t file_count, folder_count, link_count, byte_count;
};

static errc check_entry(const struct manifest_entry *entry, struct totals *totals, struct err *e)
{
	const char *reason;
	if (!manifest_path_ok(entry->path, &reason))
		FAIL(e, ERR_INVALID, "the path %.*s cannot be in an artifact: %s",
		     STR_ARG(entry->path), reason);
	switch (entry->type) {
	case MANIFEST_FOLDER:
		totals->folder_count++;
		return OK;
	case MANIFEST_LINK:
		totals->link_count++;
		if (!manifest_link_ok(entry->path, entry->target, &reason))
			FAIL(e, ERR_INVALID, "the link %.*s cannot be in an artifact: %s",
			     STR_ARG(entry->path), reason);
		return OK;
	case MANIFEST_FILE:
		totals->file_count++;
		if (entry->size > MANIFEST_BYTES_MAX - totals->byte_count)
			FAIL(e, ERR_LIMIT,
			     "the artifact would hold more than 4 GiB (at %.*s); exclude what is "
			     "not needed to run",
			     STR_ARG(entry->path));
		totals->byte_count += entry->size;
		return OK;
	}
	FAIL(e, ERR_INVALID, "%.*s is of an unknown type", STR_ARG(entry->path));
}

/* The folder that holds an entry must be an entry itself, and a folder. */
static errc check_parent(const struct manifest *m, str path, struct err *e)
{
	size_t len = path.len;
	while (len && path.ptr[len - 1] != '/')
		len--;
	if (len == 0)
		return OK;
	const struct manifest_entry *parent = manifest_find(m, (str){ path.ptr, len - 1 });
	if (!parent || parent->type != MANIFEST_FOLDER)
		FAIL(e, ERR_INVALID, "the folder of %.*s is missing", STR_ARG(path));
	return OK;
}

errc manifest_check(const struct manifest *m, struct err *e)
{
	struct totals totals = { 0 };
	if (!str_is_name(m->application, MANIFEST_APPLICATION_MAX))
		FAIL(e, ERR_INVALID,
		     "the application's name %.*s must be lower-case letters, digits and dashes",
		     STR_ARG(m->application));
	if (m->entry_count > MANIFEST_ENTRY_COUNT_MAX)
		FAIL(e, ERR_LIMIT,
		     "the artifact would hold more than %d files; exclude what is not needed to "
		     "run",
		     MANIFEST_ENTRY_COUNT_MAX);
	for (size_t i = 0; i < m->entry_count; i++) {
		TRY(check_entry(&m->entries[i], &totals, e));
		if (i && str_cmp(m->entries[i - 1].path, m->entries[i].path) >= 0)
			FAIL(e, ERR_INVALID, "%.*s is out of order or there twice",
			     STR_ARG(m->entries[i].path));
	}
	for (size_t i = 0; i < m->entry_count; i++)
		TRY(check_parent(m, m->entries[i].path, e));
	if (totals.file_count != m->file_count || totals.folder_count != m->folder_count ||
	    totals.link_count != m->link_count || totals.byte_count != m->byte_count)
		FAIL(e, ERR_INVALID, "the totals are not those of the entries");
	return OK;
}

const struct manifest_entry *manifest_find(const struct manifest *m, str path)
{
	size_t low = 0, high = m->entry_count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = str_cmp(m->entries[middle].path, path);
		if (order == 0)
			return &m->entries[middle];
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}
