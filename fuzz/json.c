/* JSON: what is parsed is written and parsed again to the same; what is refused has a place. */
#include <stdint.h>
#include <string.h>

#include "base/checks.h"
#include "codec/json.h"
#include "codec/json_locate.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void write(const struct json *v, bool pretty, struct buf *into)
{
	struct json_writer w = json_writer_init(into, pretty);
	struct err e;
	json_add_value(&w, v);
	must(buf_check(into, "the text", &e) == OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct arena scratch = arena_init(64 << 20);
	struct buf once = buf_init(32 << 20), twice = buf_init(32 << 20);
	const struct json *first = NULL, *second = NULL;
	struct json_mistake mistake = { 0 };
	struct err e = { 0 };
	str text = { (const char *)bytes, len };
	bool wrong = json_locate(text, JSON_DEPTH_MAX, &mistake);
	must(!wrong || (mistake.line && mistake.column && mistake.message[0]));
	if (json_parse(&scratch, text, 1 << 20, &first, &e) == OK) {
		must(!wrong);
		write(first, len % 2, &once);
		must(json_parse(&scratch, buf_str(&once), once.len, &second, &e) == OK);
		write(second, len % 2, &twice);
		must(str_eq(buf_str(&once), buf_str(&twice)));
	} else {
		must(e.message[0]);
		/* a text without mistakes is refused for a key that comes twice only */
		must(wrong || len > 1 << 20 || strstr(e.message, "comes twice"));
	}
	buf_done(&twice);
	buf_done(&once);
	arena_done(&scratch);
	return 0;
}
