/* matcher_internal: what matcher.c and the look at the text of an expression share. */
#pragma once

#include "base/arena.h"
#include "base/buf.h"

enum {
	MATCHER_BYTES_MAX = 64 * 1024,
	MATCHER_LITERALS_MAX = 1000,
};

/* What can be told of an expression by its text. */
struct pattern_facts {
	str *literals; /* NULL: it is not only alternatives of plain text */
	size_t literal_count;
	str prefix;
};

/* RE2's syntax as PCRE2's, appended to INTO. Errors: ERR_INVALID with the place for what RE2 does
 * not have. */
errc pattern_translate(str pattern, struct buf *into, struct err *e);
void pattern_look(str pattern, struct arena *arena, struct pattern_facts *ret);
