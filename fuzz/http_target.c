/* Request targets: what is accepted is safe to use as names. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/checks.h"
#include "net/http_target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena request = arena_init(1 << 20);
	struct http_target t;
	struct http_pattern p;
	struct err e;
	if (http_target_parse((str){ (const char *)data, size }, 100, &request, &t, &e) == OK) {
		must(t.segment_count > 0 && t.segment_count <= HTTP_SEGMENT_COUNT_MAX);
		must(t.query_count <= 100);
		for (size_t i = 0; i < t.segment_count; i++) {
			str s = t.segments[i];
			must(s.len || i + 1 == t.segment_count);
			must(!str_eq_c(s, ".") && !str_eq_c(s, ".."));
			must(!s.len || (!memchr(s.ptr, '/', s.len) && !memchr(s.ptr, 0, s.len)));
		}
		must(http_pattern_parse("/*rest", &p, &e) == OK);
		must(http_pattern_matches(&p, &t));
		must(http_pattern_param(&p, &t, "rest", &request).len <= size);
	}
	arena_done(&request);
	return 0;
}
