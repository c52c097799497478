/* holdfast.yml: no text crashes it, and what is accepted reads back from its canonical form. */
#include <stdint.h>

#include "base/checks.h"
#include "spec/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void check_canonical(const struct spec *spec)
{
	struct arena config = arena_init(SPEC_ARENA_BYTES);
	struct buf first = buf_init(64 << 20), second = buf_init(64 << 20);
	struct json_writer w = json_writer_init(&first, true);
	const struct spec *again = NULL;
	struct err e = { 0 };
	spec_write_json(spec, &w);
	if (first.len <= SPEC_BYTES_MAX) {
		must(spec_parse(&config, buf_str(&first), "x", &again, NULL, &e) == OK);
		w = json_writer_init(&second, true);
		spec_write_json(again, &w);
		must(str_eq(buf_str(&first), buf_str(&second)));
	}
	buf_done(&first);
	buf_done(&second);
	arena_done(&config);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct arena config = arena_init(SPEC_ARENA_BYTES);
	const struct spec *spec = NULL;
	struct err e = { 0 };
	if (spec_parse(&config, (str){ (const char *)bytes, len }, "x", &spec, NULL, &e) != OK)
		must(e.message[0]);
	else
		check_canonical(spec);
	arena_done(&config);
	return 0;
}
