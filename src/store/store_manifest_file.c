/* The bytes of a manifest. */
#include <string.h>

#include "base/checks.h"
#include "codec/crc32c.h"
#include "codec/varint.h"
#include "store/store_internal.h"
#include "store/store_manifest_internal.h"

static const char MAGIC[8] = "HFMANIF1";

enum { VERSION = 1, HEADER_BYTES = 48 };

/* magic 8, crc 4 (of all behind it), version 4, engine 16, generation 8, length of the rest 8 */
errc store_manifest_encode(const char *engine, uint64_t generation,
			   const struct store_manifest_content *content, struct buf *into,
			   struct err *e)
{
	uint8_t header[HEADER_BYTES] = { 0 };
	size_t begin = into->len;
	buf_add(into, (str){ (const char *)header, sizeof(header) });
	buf_add_varint(into, content->state.len);
	buf_add(into, content->state);
	buf_add_varint(into, content->part_count);
	for (size_t i = 0; i < content->part_count; i++) {
		const struct store_manifest_part *part = &content->parts[i];
		buf_add_varint(into, part->name.len);
		buf_add(into, part->name);
		buf_add_varint(into, part->bytes);
		buf_add_varint(into, part->note.len);
		buf_add(into, part->note);
	}
	TRY(buf_check(into, "the manifest", e));
	memcpy(header, MAGIC, 8);
	put_u32(header + 12, VERSION);
	memcpy(header + 16, engine, strnlen(engine, STORE_MANIFEST_ENGINE_MAX));
	put_u64(header + 32, generation);
	put_u64(header + 40, into->len - begin - HEADER_BYTES);
	memcpy(into->ptr + begin, header, sizeof(header));
	put_u32(into->ptr + begin + 8,
		crc32c(0, (str){ into->ptr + begin + 12, into->len - begin - 12 }));
	return OK;
}

static errc damaged(struct err *e)
{
	FAIL(e, ERR_CORRUPT, "the manifest is damaged");
}

static errc read_parts(struct reader *r, struct arena *arena,
		       struct store_manifest_content *ret_content, struct err *e)
{
	uint64_t count = reader_varint(r);
	/* a part takes three bytes at least */
	if (count > STORE_MANIFEST_PARTS_MAX || count > reader_left(r) / 3 + 1)
		return damaged(e);
	struct store_manifest_part *parts = arena_array(arena, count + 1, sizeof(parts[0]));
	TRY(arena_check(arena, "the manifest", e));
	for (uint64_t i = 0; i < count; i++) {
		parts[i].name = arena_str(arena, reader_bytes(r, reader_varint(r)));
		parts[i].bytes = reader_varint(r);
		parts[i].note = arena_str(arena, reader_bytes(r, reader_varint(r)));
		if (parts[i].name.len > PART_NAME_MAX || !part_name_is_valid(parts[i].name.ptr) ||
		    strlen(parts[i].name.ptr) != parts[i].name.len ||
		    parts[i].note.len > STORE_MANIFEST_NOTE_MAX)
			return damaged(e);
	}
	ret_content->parts = parts;
	ret_content->part_count = count;
	return OK;
}

errc store_manifest_decode(str bytes, const char *engine, struct arena *arena,
			   uint64_t *ret_generation, struct store_manifest_content *ret_content,
			   struct err *e)
{
	struct store_manifest_content content = { 0 };
	char owner[STORE_MANIFEST_ENGINE_MAX + 1] = "";
	if (bytes.len < HEADER_BYTES || memcmp(bytes.ptr, MAGIC, 8) != 0 ||
	    get_u32(bytes.ptr + 8) != crc32c(0, (str){ bytes.ptr + 12, bytes.len - 12 }) ||
	    get_u64(bytes.ptr + 40) != bytes.len - HEADER_BYTES)
		return damaged(e);
	uint32_t version = get_u32(bytes.ptr + 12);
	memcpy(owner, bytes.ptr + 16, STORE_MANIFEST_ENGINE_MAX);
	if (version > VERSION)
		FAIL(e, ERR_CONFLICT,
		     "the manifest was written by a newer Holdfast (format %u, this one knows %d); "
		     "start that one",
		     version, VERSION);
	if (strcmp(owner, engine) != 0)
		FAIL(e, ERR_CONFLICT, "the manifest belongs to %s, not to %s", owner, engine);
	struct reader r = reader_init((str){ bytes.ptr + HEADER_BYTES, bytes.len - HEADER_BYTES });
	content.state = arena_str(arena, reader_bytes(&r, reader_varint(&r)));
	TRY(read_parts(&r, arena, &content, e));
	TRY(arena_check(arena, "the manifest", e));
	if (r.failed || reader_left(&r) || content.state.len > STORE_MANIFEST_STATE_MAX)
		return damaged(e);
	*ret_generation = get_u64(bytes.ptr + 32);
	*ret_content = content;
	return OK;
}
