/* A bill of materials from any lock file is JSON, and the same each time. */
#include <stdint.h>

#include "artifact/sbom.h"
#include "base/checks.h"
#include "codec/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct arena arena CLEANUP(arena_done) = arena_init(256 << 20);
	struct buf one CLEANUP(buf_done) = buf_init(16 << 20);
	struct buf two CLEANUP(buf_done) = buf_init(16 << 20);
	const struct json *document;
	struct err e;
	str lock = { (const char *)bytes, len };
	if (sbom_from_npm_lock(lock, &one, &e) != OK)
		return 0;
	must(json_parse(&arena, buf_str(&one), 16 << 20, &document, &e) == OK);
	must(sbom_from_npm_lock(lock, &two, &e) == OK);
	must(str_eq(buf_str(&one), buf_str(&two)));
	return 0;
}
