/* Whatever a part file holds: it is refused, or its blocks are within it and check. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "os/io.h"
#include "store/part_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static char root[64], path[128];

static void clean_up(void)
{
	must(io_remove_tree(root, NULL) == OK);
}

static void set_up(void)
{
	snprintf(root, sizeof(root), "/tmp/holdfast-fuzz-XXXXXX");
	must(mkdtemp(root) != NULL);
	atexit(clean_up);
	snprintf(path, sizeof(path), "%s/fuzz.part", root);
}

static void read_part(const uint8_t *bytes, size_t len)
{
	struct part_file *p = NULL;
	struct err e;
	uint64_t bad = 0, sum = 0, total = 0;
	FILE *file = fopen(path, "wb");
	must(file != NULL);
	must(fwrite(bytes, 1, len, file) == len);
	must(fclose(file) == 0);
	errc rc = part_file_open(root, "fuzz.part", "fuzz", NULL, &p, &e);
	must(rc == OK || rc == ERR_CORRUPT || rc == ERR_CONFLICT);
	if (rc != OK)
		return;
	for (size_t i = 0; i < part_file_meta(p).len; i++)
		sum += (uint8_t)part_file_meta(p).ptr[i];
	for (uint32_t i = 0; i < part_block_count(p); i++) {
		str block;
		total += part_block_len(p, i);
		if (part_block(p, i, &block, &e) != OK)
			continue;
		must((uintptr_t)block.ptr % 8 == 0 && block.len == part_block_len(p, i));
		for (size_t at = 0; at < block.len + PART_SLACK_BYTES; at++)
			sum += (uint8_t)block.ptr[at];
	}
	must(total <= len && sum < UINT64_MAX);
	must(part_file_verify(p, &bad, &e) == OK && bad <= part_block_count(p));
	part_file_unref(p);
}

/* Set the checksums of header, tables and trailers right, so that what is behind them is met. */
static void seal(uint8_t *bytes, size_t len)
{
	const struct part_header header = { .kind = "fuzz", .version = PART_VERSION };
	struct part_trailer t = { .copy_offset = get_u64(bytes + len - PART_TRAILER_BYTES + 24),
				  .file_bytes = len,
				  .block_count = get_u32(bytes + len - PART_TRAILER_BYTES + 12),
				  .meta_len = get_u32(bytes + len - PART_TRAILER_BYTES + 16) };
	uint64_t covered = (uint64_t)t.block_count * PART_TABLE_ENTRY + t.meta_len;
	part_header_encode(&header, bytes);
	if (t.copy_offset <= len && covered <= len - t.copy_offset)
		t.copy_crc = crc32c(0, (str){ (const char *)bytes + t.copy_offset, covered });
	part_trailer_encode(&t, bytes + len - PART_TRAILER_BYTES);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	if (!root[0])
		set_up();
	read_part(bytes, len);
	if (len < PART_HEADER_BYTES + PART_TRAILER_BYTES || len > 1 << 20)
		return 0;
	uint8_t *copy = must_realloc(NULL, len);
	memcpy(copy, bytes, len);
	seal(copy, len);
	read_part(copy, len);
	free(copy);
	return 0;
}
