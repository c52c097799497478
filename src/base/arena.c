#include "base/arena.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"

enum { CHUNK_BYTES_MIN = 4096, ALIGN = 16 };

struct arena_chunk {
	struct arena_chunk *next;
	size_t used;
	size_t size;
	_Alignas(ALIGN) char bytes[];
};

struct arena arena_init(size_t cap)
{
	return (struct arena){ .cap = cap };
}

void arena_done(struct arena *a)
{
	if (!a)
		return;
	for (struct arena_chunk *c = a->chunks; c;) {
		struct arena_chunk *next = c->next;
		free(c);
		c = next;
	}
	*a = (struct arena){ .cap = a->cap };
}

void *arena_alloc(struct arena *a, size_t size)
{
	if (size > a->cap || a->used > a->cap - size) {
		a->overflow = true;
		return NULL;
	}
	a->used += size;
	size_t need = (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
	struct arena_chunk *c = a->chunks;
	if (!c || c->size - c->used < need) {
		size_t bytes = need > CHUNK_BYTES_MIN ? need : CHUNK_BYTES_MIN;
		c = must_calloc(1, sizeof(*c) + bytes);
		c->size = bytes;
		c->next = a->chunks;
		a->chunks = c;
	}
	void *p = c->bytes + c->used;
	c->used += need;
	return p;
}

void *arena_array(struct arena *a, size_t count, size_t size)
{
	size_t total = 0;
	if (__builtin_mul_overflow(count, size, &total)) {
		a->overflow = true;
		return NULL;
	}
	return arena_alloc(a, total);
}

char *arena_cstr(struct arena *a, str s)
{
	static char empty[1];
	char *copy = s.len < SIZE_MAX ? arena_alloc(a, s.len + 1) : NULL;
	if (!copy)
		return empty;
	if (s.len)
		memcpy(copy, s.ptr, s.len);
	return copy;
}

str arena_str(struct arena *a, str s)
{
	char *copy = arena_cstr(a, s);
	return (str){ copy, a->overflow ? 0 : s.len };
}

char *arena_vprintf(struct arena *a, const char *fmt, va_list ap)
{
	static char empty[1];
	va_list again;
	va_copy(again, ap);
	int n = vsnprintf(NULL, 0, fmt, ap);
	must(n >= 0);
	char *dst = arena_alloc(a, (size_t)n + 1);
	if (dst)
		vsnprintf(dst, (size_t)n + 1, fmt, again);
	va_end(again);
	return dst ? dst : empty;
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	char *s = arena_vprintf(a, fmt, ap);
	va_end(ap);
	return s;
}

errc arena_check(const struct arena *a, const char *what, struct err *e)
{
	if (a->overflow)
		FAIL(e, ERR_LIMIT, "%s needs more than the limit of %zu bytes of memory", what,
		     a->cap);
	return OK;
}
