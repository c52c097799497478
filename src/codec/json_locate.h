/* Where a JSON text is malformed: simdjson says only that it is. */
#pragma once

#include "base/str.h"

struct json_mistake {
	size_t line;         /* 1-based, in both */
	size_t column;       /* in characters */
	const char *message; /* static */
};

/* The first mistake of TEXT; false when there is none. Cost: one pass; used after a failure only.
 */
bool json_locate(str text, size_t depth_max, struct json_mistake *ret_mistake);
