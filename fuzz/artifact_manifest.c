/* A manifest that is accepted has exactly one encoding: writing it gives the same bytes. */
#include <stdint.h>

#include "artifact/manifest.h"
#include "base/checks.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct arena arena CLEANUP(arena_done) = arena_init(16 << 20);
	struct buf again CLEANUP(buf_done) = buf_init(len);
	struct manifest m;
	struct err e;
	str text = { (const char *)bytes, len };
	if (manifest_parse(text, &arena, &m, &e) != OK)
		return 0;
	manifest_write(&m, &again);
	must(str_eq(buf_str(&again), text));
	return 0;
}
