/* Metadata and exemplars: small, so all of them are written anew when something changed. */
#include "base/checks.h"
#include "metrics/metrics_internal.h"

#define SIDE_KIND "metrics.side"

enum { SIDE_VERSION = 1, BYTES_MAX = 256 << 20, BLOCK_BYTES = 4 << 20 };

static errc put_blocks(struct part_writer *w, str bytes, struct err *e)
{
	while (bytes.len) {
		size_t n = bytes.len < BLOCK_BYTES ? bytes.len : BLOCK_BYTES;
		TRY(part_writer_block(w, (str){ bytes.ptr, n }, NULL, e));
		bytes = (str){ bytes.ptr + n, bytes.len - n };
	}
	return OK;
}

static errc write_file(struct metrics *m, const char *name, str metadata, str exemplars,
		       struct err *e)
{
	struct part_writer_options options = { .folder = m->parts_folder,
					       .name = name,
					       .kind = SIDE_KIND,
					       .kind_version = SIDE_VERSION };
	struct buf meta CLEANUP(buf_done) = buf_init(64);
	struct part_writer *w = NULL;
	TRY(part_writer_new(&options, &w, e));
	errc rc = put_blocks(w, metadata, e);
	uint32_t metadata_blocks = part_writer_block_count(w);
	if (rc == OK)
		rc = put_blocks(w, exemplars, e);
	buf_add_varint(&meta, metadata_blocks);
	if (rc == OK)
		rc = part_writer_finish(w, buf_str(&meta), NULL, e);
	part_writer_free(w);
	return rc;
}

errc side_file_write(struct metrics *m, struct part_file **ret_side, struct err *e)
{
	struct buf metadata CLEANUP(buf_done) = buf_init(BYTES_MAX);
	struct buf exemplars CLEANUP(buf_done) = buf_init(BYTES_MAX);
	char name[PART_NAME_MAX + 1];
	*ret_side = NULL;
	pthread_mutex_lock(&m->state);
	bool changed = m->metadata.changed || m->exemplars.changed;
	if (changed) {
		for (size_t i = 0; i < m->metadata.count; i++)
			metadata_add_bytes(&metadata, &m->metadata.items[i]);
		exemplar_store_write(&m->exemplars, &exemplars);
		m->metadata.changed = m->exemplars.changed = false;
	}
	pthread_mutex_unlock(&m->state);
	if (!changed || metadata.overflow || exemplars.overflow ||
	    metadata.len + exemplars.len == 0)
		return OK;
	engine_part_name(m, 'x', name);
	errc rc = write_file(m, name, buf_str(&metadata), buf_str(&exemplars), e);
	if (rc == OK)
		rc = part_file_open(m->parts_folder, name, SIDE_KIND, m->quarantine, ret_side, e);
	if (rc != OK) {
		pthread_mutex_lock(&m->state);
		m->metadata.changed = true;
		pthread_mutex_unlock(&m->state);
	}
	return rc;
}

static void join_blocks(struct part_file *side, uint32_t from, uint32_t to, struct buf *into)
{
	for (uint32_t i = from; i < to; i++) {
		str bytes;
		if (part_block(side, i, &bytes, NULL) != OK)
			return; /* an entry may go over into the next block */
		buf_add(into, bytes);
	}
}

void side_file_read(struct metrics *m, struct part_file *side)
{
	struct buf bytes CLEANUP(buf_done) = buf_init(BYTES_MAX);
	struct reader meta = reader_init(part_file_meta(side));
	uint64_t metadata_blocks = reader_varint(&meta);
	uint32_t blocks = part_block_count(side);
	if (meta.failed || metadata_blocks > blocks)
		return;
	join_blocks(side, 0, (uint32_t)metadata_blocks, &bytes);
	struct reader r = reader_init(buf_str(&bytes));
	while (metadata_read_bytes(&r, &m->metadata))
		;
	buf_clear(&bytes);
	join_blocks(side, (uint32_t)metadata_blocks, blocks, &bytes);
	r = reader_init(buf_str(&bytes));
	while (exemplar_read_bytes(&r, &m->exemplars))
		;
	m->metadata.changed = m->exemplars.changed = false;
}
