/* Whatever a manifest holds: it is refused, or says the same when it is written again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "codec/crc32c.h"
#include "store/store_internal.h"
#include "store/store_manifest_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

enum { HEADER_BYTES = 48 };

static void same(const struct store_manifest_content *a, const struct store_manifest_content *b)
{
	must(a->part_count == b->part_count && str_eq(a->state, b->state));
	for (size_t i = 0; i < a->part_count; i++)
		must(str_eq(a->parts[i].name, b->parts[i].name) &&
		     str_eq(a->parts[i].note, b->parts[i].note) &&
		     a->parts[i].bytes == b->parts[i].bytes);
}

static void decode(str bytes)
{
	struct arena arena = arena_init(64 << 20);
	struct store_manifest_content content, again;
	uint64_t generation, generation_again;
	struct err e;
	errc rc = store_manifest_decode(bytes, "fuzz", &arena, &generation, &content, &e);
	must(rc == OK || rc == ERR_CORRUPT || rc == ERR_CONFLICT);
	if (rc == OK) {
		struct buf out = buf_init(8 << 20);
		must(store_manifest_encode("fuzz", generation, &content, &out, &e) == OK);
		must(store_manifest_decode(buf_str(&out), "fuzz", &arena, &generation_again, &again,
					   &e) == OK);
		must(generation == generation_again);
		same(&content, &again);
		buf_done(&out);
	}
	arena_done(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	decode((str){ (const char *)bytes, len });
	if (len < HEADER_BYTES || len > 1 << 20)
		return 0;
	/* once more with length and checksum set right */
	char *copy = must_realloc(NULL, len);
	memcpy(copy, bytes, len);
	put_u64(copy + 40, len - HEADER_BYTES);
	put_u32(copy + 8, crc32c(0, (str){ copy + 12, len - 12 }));
	decode((str){ copy, len });
	free(copy);
	return 0;
}
