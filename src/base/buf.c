#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"

struct buf buf_init(size_t cap)
{
	return (struct buf){ .cap = cap };
}

void buf_done(struct buf *b)
{
	if (!b)
		return;
	free(b->ptr);
	*b = (struct buf){ .cap = b->cap };
}

void buf_clear(struct buf *b)
{
	b->len = 0;
	b->overflow = false;
	if (b->ptr)
		b->ptr[0] = '\0';
}

char *buf_reserve(struct buf *b, size_t n)
{
	if (b->overflow || n > b->cap || b->len > b->cap - n) {
		b->overflow = true;
		return NULL;
	}
	size_t need = b->len + n + 1;
	if (need > b->size) {
		size_t size = b->size ? b->size : 64;
		while (size < need)
			size *= 2;
		b->ptr = must_realloc(b->ptr, size);
		b->size = size;
	}
	return b->ptr + b->len;
}

void buf_add(struct buf *b, str s)
{
	char *dst = buf_reserve(b, s.len);
	if (!dst)
		return;
	if (s.len)
		memcpy(dst, s.ptr, s.len);
	b->len += s.len;
	b->ptr[b->len] = '\0';
}

void buf_add_c(struct buf *b, const char *s)
{
	buf_add(b, str_c(s));
}

void buf_add_byte(struct buf *b, char c)
{
	buf_add(b, (str){ &c, 1 });
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	must(n >= 0);
	char *dst = buf_reserve(b, (size_t)n);
	if (!dst)
		return;
	va_start(ap, fmt);
	vsnprintf(dst, (size_t)n + 1, fmt, ap);
	va_end(ap);
	b->len += (size_t)n;
}

void buf_consume(struct buf *b, size_t n)
{
	must(n <= b->len);
	if (n == 0)
		return;
	memmove(b->ptr, b->ptr + n, b->len - n);
	b->len -= n;
	b->ptr[b->len] = '\0';
}

str buf_str(const struct buf *b)
{
	return (str){ b->ptr ? b->ptr : "", b->len };
}

const char *buf_cstr(const struct buf *b)
{
	return b->ptr && b->len ? b->ptr : "";
}

errc buf_check(const struct buf *b, const char *what, struct err *e)
{
	if (b->overflow)
		FAIL(e, ERR_LIMIT, "%s is larger than the limit of %zu bytes", what, b->cap);
	return OK;
}
