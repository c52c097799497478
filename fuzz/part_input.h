/* A part made of the bytes of an input, so that what is read gets past the checksums. An input is
 * any number of chunks: u16 length, bytes. The last chunk is META, the others are blocks. */
#pragma once

#include <stdio.h>
#include <stdlib.h>

#include "base/checks.h"
#include "codec/varint.h"
#include "os/io.h"
#include "store/part_file.h"

enum { PART_INPUT_CHUNKS_MAX = 64 };

static char part_input_folder[64];

static int part_input_no_sync(int fd)
{
	(void)fd;
	return 0;
}

static inline void part_input_remove(void)
{
	struct err e;
	(void)!io_remove_tree(part_input_folder, &e);
}

/* Write it as NAME into part_input_folder; false when the input is no part at all. */
static inline bool part_input_write(const uint8_t *bytes, size_t len, const char *kind,
				    const char *name)
{
	static struct io_ops ops;
	str chunks[PART_INPUT_CHUNKS_MAX];
	struct reader r = reader_init((str){ (const char *)bytes, len });
	struct part_writer *w = NULL;
	struct err e;
	size_t count = 0;
	if (!part_input_folder[0]) {
		ops = io_linux;
		ops.fsync = ops.fdatasync = part_input_no_sync;
		io = &ops;
		snprintf(part_input_folder, sizeof(part_input_folder), "/tmp/hf-fuzz-XXXXXX");
		must(mkdtemp(part_input_folder));
		atexit(part_input_remove);
	}
	while (reader_left(&r) && count < PART_INPUT_CHUNKS_MAX)
		chunks[count++] = reader_bytes(&r, reader_u16(&r));
	if (r.failed || !count)
		return false;
	struct part_writer_options options = {
		.folder = part_input_folder, .name = name, .kind = kind, .kind_version = 1
	};
	must(part_writer_new(&options, &w, &e) == OK);
	for (size_t i = 0; i + 1 < count; i++)
		must(part_writer_block(w, chunks[i], NULL, &e) == OK);
	errc rc = part_writer_finish(w, chunks[count - 1], NULL, &e);
	part_writer_free(w);
	return rc == OK;
}
