/*
 * The canonical JSON of a manifest. There is exactly one encoding, so reading is a comparison with
 * what would be written: no general JSON parser could be as strict.
 */
#include <inttypes.h>
#include <string.h>

#include "artifact/manifest.h"
#include "base/checks.h"

#define FORMAT "holdfast-artifact-1"

static void add_string(struct buf *into, str s)
{
	buf_add_byte(into, '"');
	for (size_t i = 0; i < s.len; i++) {
		if (s.ptr[i] == '"' || s.ptr[i] == '\\')
			buf_add_byte(into, '\\');
		buf_add_byte(into, s.ptr[i]);
	}
	buf_add_byte(into, '"');
}

static void add_entry(struct buf *into, const struct manifest_entry *entry)
{
	char hex[DIGEST_HEX_SIZE];
	buf_add_c(into, "{\"path\":");
	add_string(into, entry->path);
	switch (entry->type) {
	case MANIFEST_FILE:
		buf_printf(into,
			   ",\"type\":\"file\",\"mode\":\"%s\",\"size\":%" PRIu64
			   ",\"sha256\":\"%s\"}",
			   entry->executable ? "0755" : "0644", entry->size,
			   digest_hex(&entry->sha256, hex));
		break;
	case MANIFEST_FOLDER:
		buf_add_c(into, ",\"type\":\"folder\"}");
		break;
	case MANIFEST_LINK:
		buf_add_c(into, ",\"type\":\"link\",\"target\":");
		add_string(into, entry->target);
		buf_add_byte(into, '}');
		break;
	}
}

void manifest_write(const struct manifest *m, struct buf *into)
{
	char text[DIGEST_TEXT_SIZE];
	buf_add_c(into, "{\"format\":\"" FORMAT "\",\n\"application\":");
	add_string(into, m->application);
	buf_printf(into,
		   ",\n\"totals\":{\"files\":%" PRIu64 ",\"folders\":%" PRIu64 ",\"links\":%" PRIu64
		   ",\"bytes\":%" PRIu64 "},\n",
		   m->file_count, m->folder_count, m->link_count, m->byte_count);
	if (m->has_sbom)
		buf_printf(into, "\"sbom\":\"%s\",\n", digest_text(&m->sbom, text));
	buf_add_c(into, "\"entries\":[");
	for (size_t i = 0; i < m->entry_count; i++) {
		buf_add_c(into, i ? ",\n" : "\n");
		add_entry(into, &m->entries[i]);
	}
	buf_add_c(into, "\n]}\n");
}

struct reader {
	str rest;
	struct arena *into;
};

static bool skip(struct reader *r, const char *literal)
{
	str s = str_c(literal);
	if (!str_starts(r->rest, s))
		return false;
	r->rest = (str){ r->rest.ptr + s.len, r->rest.len - s.len };
	return true;
}

static bool read_string(struct reader *r, size_t len_max, str *ret_string)
{
	char text[MANIFEST_PATH_MAX];
	size_t len = 0, i = 1;
	must(len_max <= sizeof(text));
	if (!skip(r, "\""))
		return false;
	for (i = 0; i < r->rest.len && r->rest.ptr[i] != '"'; i++) {
		if (r->rest.ptr[i] == '\\' &&
		    (++i == r->rest.len || (r->rest.ptr[i] != '"' && r->rest.ptr[i] != '\\')))
			return false;
		if (len == len_max)
			return false;
		text[len++] = r->rest.ptr[i];
	}
	if (i >= r->rest.len)
		return false;
	r->rest = (str){ r->rest.ptr + i + 1, r->rest.len - i - 1 };
	*ret_string = arena_str(r->into, (str){ text, len });
	return true;
}

/* Without leading zeros: canonical. */
static bool read_number(struct reader *r, uint64_t *ret_number)
{
	size_t len = 0;
	while (len < r->rest.len && r->rest.ptr[len] >= '0' && r->rest.ptr[len] <= '9')
		len++;
	if (len > 1 && r->rest.ptr[0] == '0')
		return false;
	if (!str_to_u64((str){ r->rest.ptr, len }, ret_number))
		return false;
	r->rest = (str){ r->rest.ptr + len, r->rest.len - len };
	return true;
}

static bool read_digest(struct reader *r, struct digest *ret_digest)
{
	size_t len = DIGEST_HEX_SIZE - 1;
	if (r->rest.len < len || !digest_parse_hex((str){ r->rest.ptr, len }, ret_digest))
		return false;
	r->rest = (str){ r->rest.ptr + len, r->rest.len - len };
	return true;
}

static bool read_file(struct reader *r, struct manifest_entry *entry)
{
	entry->type = MANIFEST_FILE;
	entry->executable = skip(r, "0755\"");
	return (entry->executable || skip(r, "0644\"")) && skip(r, ",\"size\":") &&
	       read_number(r, &entry->size) && skip(r, ",\"sha256\":\"") &&
	       read_digest(r, &entry->sha256) && skip(r, "\"}");
}

static bool read_entry(struct reader *r, struct manifest_entry *entry)
{
	if (!skip(r, "{\"path\":") || !read_string(r, MANIFEST_PATH_MAX, &entry->path))
		return false;
	if (skip(r, ",\"type\":\"file\",\"mode\":\""))
		return read_file(r, entry);
	if (skip(r, ",\"type\":\"folder\"}")) {
		entry->type = MANIFEST_FOLDER;
		return true;
	}
	entry->type = MANIFEST_LINK;
	return skip(r, ",\"type\":\"link\",\"target\":") &&
	       read_string(r, MANIFEST_PATH_MAX, &entry->target) && skip(r, "}");
}

static bool read_head(struct reader *r, struct manifest *m)
{
	if (!skip(r, "{\"format\":\"" FORMAT "\",\n\"application\":") ||
	    !read_string(r, MANIFEST_APPLICATION_MAX, &m->application) ||
	    !skip(r, ",\n\"totals\":{\"files\":") || !read_number(r, &m->file_count) ||
	    !skip(r, ",\"folders\":") || !read_number(r, &m->folder_count) ||
	    !skip(r, ",\"links\":") || !read_number(r, &m->link_count) || !skip(r, ",\"bytes\":") ||
	    !read_number(r, &m->byte_count) || !skip(r, "},\n"))
		return false;
	m->has_sbom = skip(r, "\"sbom\":\"sha256:");
	if (m->has_sbom && (!read_digest(r, &m->sbom) || !skip(r, "\",\n")))
		return false;
	return skip(r, "\"entries\":[");
}

errc manifest_parse(str text, struct arena *into, struct manifest *ret_manifest, struct err *e)
{
	struct reader r = { text, into };
	struct manifest m = { 0 };
	if (text.len > MANIFEST_TEXT_MAX)
		FAIL(e, ERR_LIMIT, "the manifest is larger than %d bytes", MANIFEST_TEXT_MAX);
	if (!read_head(&r, &m))
		FAIL(e, ERR_CORRUPT, "the manifest does not begin as format " FORMAT " does");
	if (m.file_count > MANIFEST_ENTRY_COUNT_MAX || m.folder_count > MANIFEST_ENTRY_COUNT_MAX ||
	    m.link_count > MANIFEST_ENTRY_COUNT_MAX ||
	    m.file_count + m.folder_count + m.link_count > MANIFEST_ENTRY_COUNT_MAX)
		FAIL(e, ERR_LIMIT, "the manifest lists more than %d files",
		     MANIFEST_ENTRY_COUNT_MAX);
	m.entry_count = (size_t)(m.file_count + m.folder_count + m.link_count);
	/* an entry takes 26 bytes at least: a small text cannot make us allocate much */
	if (m.entry_count > text.len / 26)
		FAIL(e, ERR_CORRUPT, "the manifest ends before its last entry");
	struct manifest_entry *entries = arena_array(into, m.entry_count, sizeof(*entries));
	for (size_t i = 0; entries && i < m.entry_count; i++)
		if (!skip(&r, i ? ",\n" : "\n") || !read_entry(&r, &entries[i]))
			FAIL(e, ERR_CORRUPT, "entry %zu of the manifest is malformed", i + 1);
	TRY(arena_check(into, "a manifest", e));
	if (!skip(&r, "\n]}\n") || r.rest.len)
		FAIL(e, ERR_CORRUPT, "the manifest goes on after its last entry");
	m.entries = entries;
	if (manifest_check(&m, e) != OK) {
		err_prepend(e, "the manifest breaks a rule of its format");
		if (e)
			e->code = ERR_CORRUPT;
		return ERR_CORRUPT;
	}
	*ret_manifest = m;
	return OK;
}
