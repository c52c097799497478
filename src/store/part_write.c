/* Parts as they are written: blocks one after another, then the table twice. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "os/io.h"
#include "store/part_internal.h"

enum { WRITE_BUFFER_BYTES = 256 * 1024 };

const char part_header_magic[8] = "HFPART01";
const char part_trailer_magic[8] = "HFPARTE1";

struct part_writer {
	char path[IO_PATH_MAX], temporary[IO_PATH_MAX];
	int fd;
	bool failed, finished;
	uint64_t bytes; /* of the file, what is buffered included */
	uint8_t *buffer;
	size_t buffered;
	uint8_t *table;
	uint32_t block_count;
	size_t table_room; /* blocks */
};

bool part_name_is_valid(const char *name)
{
	size_t len = strlen(name);
	return len > strlen(PART_ENDING) && len <= PART_NAME_MAX && name[0] != '.' &&
	       !strchr(name, '/') && strcmp(name + len - strlen(PART_ENDING), PART_ENDING) == 0;
}

/* ---- Header and trailer: the checksum is over the whole with its own field as zeros. */

static uint32_t sealed_crc(const uint8_t *bytes, size_t len)
{
	static const char zero[4];
	uint32_t crc = crc32c(0, (str){ (const char *)bytes, 8 });
	crc = crc32c(crc, (str){ zero, 4 });
	return crc32c(crc, (str){ (const char *)bytes + 12, len - 12 });
}

void part_header_encode(const struct part_header *header, uint8_t bytes[static PART_HEADER_BYTES])
{
	memset(bytes, 0, PART_HEADER_BYTES);
	memcpy(bytes, part_header_magic, 8);
	put_u32(bytes + 12, header->version);
	memcpy(bytes + 16, header->kind, strnlen(header->kind, PART_KIND_MAX));
	put_u32(bytes + 32, header->kind_version);
	put_u32(bytes + 8, sealed_crc(bytes, PART_HEADER_BYTES));
}

bool part_header_decode(const uint8_t bytes[static PART_HEADER_BYTES], struct part_header *ret)
{
	if (memcmp(bytes, part_header_magic, 8) != 0 ||
	    get_u32(bytes + 8) != sealed_crc(bytes, PART_HEADER_BYTES))
		return false;
	*ret = (struct part_header){ .version = get_u32(bytes + 12),
				     .kind_version = get_u32(bytes + 32) };
	memcpy(ret->kind, bytes + 16, PART_KIND_MAX);
	return true;
}

void part_trailer_encode(const struct part_trailer *trailer,
			 uint8_t bytes[static PART_TRAILER_BYTES])
{
	memset(bytes, 0, PART_TRAILER_BYTES);
	memcpy(bytes, part_trailer_magic, 8);
	put_u32(bytes + 12, trailer->block_count);
	put_u32(bytes + 16, trailer->meta_len);
	put_u32(bytes + 20, trailer->copy_crc);
	put_u64(bytes + 24, trailer->copy_offset);
	put_u64(bytes + 32, trailer->file_bytes);
	put_u32(bytes + 8, sealed_crc(bytes, PART_TRAILER_BYTES));
}

bool part_trailer_decode(const uint8_t bytes[static PART_TRAILER_BYTES], struct part_trailer *ret)
{
	if (memcmp(bytes, part_trailer_magic, 8) != 0 ||
	    get_u32(bytes + 8) != sealed_crc(bytes, PART_TRAILER_BYTES))
		return false;
	*ret = (struct part_trailer){ .block_count = get_u32(bytes + 12),
				      .meta_len = get_u32(bytes + 16),
				      .copy_crc = get_u32(bytes + 20),
				      .copy_offset = get_u64(bytes + 24),
				      .file_bytes = get_u64(bytes + 32) };
	return true;
}

/* ---- The writer. */

static errc write_out(struct part_writer *w, const void *bytes, size_t len, struct err *e)
{
	return io_write_all(w->fd, (str){ bytes, len }, w->temporary, e);
}

static errc flush_buffer(struct part_writer *w, struct err *e)
{
	size_t len = w->buffered;
	w->buffered = 0;
	return len ? write_out(w, w->buffer, len, e) : OK;
}

static errc put(struct part_writer *w, const void *bytes, size_t len, struct err *e)
{
	w->bytes += len;
	if (len > WRITE_BUFFER_BYTES - w->buffered)
		TRY(flush_buffer(w, e));
	if (len >= WRITE_BUFFER_BYTES)
		return write_out(w, bytes, len, e);
	if (len)
		memcpy(w->buffer + w->buffered, bytes, len);
	w->buffered += len;
	return OK;
}

static errc pad(struct part_writer *w, struct err *e)
{
	static const uint8_t zeros[8];
	return put(w, zeros, align8(w->bytes) - w->bytes, e);
}

static errc begin(struct part_writer *w, const struct part_writer_options *options, struct err *e)
{
	struct part_header header = { .version = PART_VERSION,
				      .kind_version = options->kind_version };
	uint8_t bytes[PART_HEADER_BYTES];
	if (!part_name_is_valid(options->name))
		FAIL(e, ERR_INVALID, "\"%.80s\" cannot be the name of a part", options->name);
	if (!str_copy(str_c(options->kind), header.kind, sizeof(header.kind)))
		FAIL(e, ERR_INVALID, "\"%.80s\" cannot be the kind of a part", options->kind);
	if (snprintf(w->path, sizeof(w->path), "%s/%s", options->folder, options->name) >=
		    (int)sizeof(w->path) ||
	    snprintf(w->temporary, sizeof(w->temporary), "%s" PART_TEMPORARY, w->path) >=
		    (int)sizeof(w->temporary))
		FAIL(e, ERR_LIMIT, "the path %.60s… is too long", options->folder);
	w->fd = io->open(w->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600);
	if (w->fd < 0)
		FAIL_ERRNO(e, "cannot create %s", w->temporary);
	part_header_encode(&header, bytes);
	return put(w, bytes, sizeof(bytes), e);
}

errc part_writer_new(const struct part_writer_options *options, struct part_writer **ret_writer,
		     struct err *e)
{
	struct part_writer *w = must_calloc(1, sizeof(*w));
	w->fd = -1;
	w->buffer = must_realloc(NULL, WRITE_BUFFER_BYTES);
	errc rc = begin(w, options, e);
	if (rc != OK) {
		part_writer_free(w);
		return rc;
	}
	*ret_writer = w;
	return OK;
}

void part_writer_free(struct part_writer *w)
{
	if (!w)
		return;
	bool made = w->fd >= 0 || w->failed;
	io_close(&w->fd);
	if (made && !w->finished)
		io->unlink(w->temporary);
	free(w->buffer);
	free(w->table);
	free(w);
}

static errc add_entry(struct part_writer *w, uint64_t len, uint32_t crc, struct err *e)
{
	if (w->block_count == PART_BLOCK_COUNT_MAX)
		FAIL(e, ERR_LIMIT, "%s would have more than %d blocks", w->path,
		     PART_BLOCK_COUNT_MAX);
	if (w->block_count == w->table_room) {
		w->table_room = w->table_room ? w->table_room * 2 : 256;
		w->table = must_realloc(w->table, w->table_room * PART_TABLE_ENTRY);
	}
	uint8_t *entry = w->table + (size_t)w->block_count * PART_TABLE_ENTRY;
	put_u32(entry, (uint32_t)len);
	put_u32(entry + 4, crc);
	w->block_count++;
	return OK;
}

static errc add_block(struct part_writer *w, const str *pieces, size_t piece_count, struct err *e)
{
	uint32_t crc = part_block_seed(w->block_count);
	uint64_t len = 0;
	for (size_t i = 0; i < piece_count; i++) {
		len += pieces[i].len;
		if (len > PART_BLOCK_BYTES_MAX)
			FAIL(e, ERR_LIMIT, "a block of %s would have more than %d bytes", w->path,
			     PART_BLOCK_BYTES_MAX);
		crc = crc32c(crc, pieces[i]);
		TRY(put(w, pieces[i].ptr, pieces[i].len, e));
	}
	TRY(pad(w, e));
	return add_entry(w, len, crc, e);
}

errc part_writer_blockv(struct part_writer *w, const str *pieces, size_t piece_count,
			uint32_t *ret_index, struct err *e)
{
	must(!w->failed && !w->finished);
	errc rc = add_block(w, pieces, piece_count, e);
	w->failed = rc != OK;
	if (rc == OK && ret_index)
		*ret_index = w->block_count - 1;
	return rc;
}

errc part_writer_block(struct part_writer *w, str bytes, uint32_t *ret_index, struct err *e)
{
	return part_writer_blockv(w, &bytes, 1, ret_index, e);
}

uint64_t part_writer_bytes(const struct part_writer *w)
{
	return w->bytes;
}

uint32_t part_writer_block_count(const struct part_writer *w)
{
	return w->block_count;
}

/* One copy of table and META with its trailer. */
static errc put_copy(struct part_writer *w, str meta, uint64_t file_bytes, struct err *e)
{
	str table = { (const char *)w->table, (size_t)w->block_count * PART_TABLE_ENTRY };
	uint8_t bytes[PART_TRAILER_BYTES];
	struct part_trailer trailer = { .copy_offset = w->bytes,
					.file_bytes = file_bytes,
					.block_count = w->block_count,
					.meta_len = (uint32_t)meta.len,
					.copy_crc = crc32c(crc32c(0, table), meta) };
	TRY(put(w, table.ptr, table.len, e));
	TRY(put(w, meta.ptr, meta.len, e));
	TRY(pad(w, e));
	part_trailer_encode(&trailer, bytes);
	return put(w, bytes, sizeof(bytes), e);
}

static errc finish(struct part_writer *w, str meta, struct err *e)
{
	if (meta.len > PART_META_BYTES_MAX)
		FAIL(e, ERR_LIMIT, "%s would have more than %d bytes of meta", w->path,
		     PART_META_BYTES_MAX);
	uint64_t copy = part_copy_len(w->block_count, (uint32_t)meta.len) + PART_TRAILER_BYTES;
	uint64_t file_bytes = w->bytes + 2 * copy;
	TRY(put_copy(w, meta, file_bytes, e));
	TRY(put_copy(w, meta, file_bytes, e));
	must(w->bytes == file_bytes);
	TRY(flush_buffer(w, e));
	if (io->fsync(w->fd) < 0)
		FAIL_ERRNO(e, "cannot sync %s", w->temporary);
	if (io->rename(w->temporary, w->path) < 0)
		FAIL_ERRNO(e, "cannot rename %s", w->temporary);
	return OK;
}

errc part_writer_finish(struct part_writer *w, str meta, uint64_t *ret_bytes, struct err *e)
{
	must(!w->failed && !w->finished);
	errc rc = finish(w, meta, e);
	w->failed = rc != OK;
	if (rc != OK)
		return rc;
	w->finished = true;
	rc = io_sync_parent(w->path, e);
	if (rc != OK) {
		io->unlink(w->path);
		return rc;
	}
	if (ret_bytes)
		*ret_bytes = w->bytes;
	return OK;
}
