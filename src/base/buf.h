/*
 * buf: growing bytes with a mandatory cap. Appends past the cap change nothing and set a sticky
 * overflow, which the writer checks once at the end.
 */
#pragma once

#include "base/str.h"

struct buf {
	char *ptr; /* NUL-terminated when not NULL; the NUL is not counted */
	size_t len;
	size_t size;
	size_t cap;
	bool overflow;
};

/* An empty buf of at most CAP bytes; allocates nothing yet. */
struct buf buf_init(size_t cap);
void buf_done(struct buf *b);
/* Empty it and forget an overflow; memory is kept. */
void buf_clear(struct buf *b);
void buf_add(struct buf *b, str s);
void buf_add_c(struct buf *b, const char *s);
void buf_add_byte(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Room for N more bytes at ptr + len, for a reader to fill; NULL past the cap. The caller adds to
 * len. */
char *buf_reserve(struct buf *b, size_t n);
/* Drop N bytes from the front. */
void buf_consume(struct buf *b, size_t n);
str buf_str(const struct buf *b);
/* The contents with a NUL; "" when empty. Valid until: the next append. */
const char *buf_cstr(const struct buf *b);
/* ERR_LIMIT naming WHAT when an append went past the cap. */
WARN_UNUSED errc buf_check(const struct buf *b, const char *what, struct err *e);
