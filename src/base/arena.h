/*
 * arena: memory with one lifetime and a hard cap, freed at once. Parameters of this type are named
 * by that lifetime: `request`, `query`, `config`, `scratch`.
 *
 * Limits: past the cap arena_alloc() gives NULL and the string helpers give "", and a sticky
 *   overflow is set, which arena_check() turns into ERR_LIMIT.
 */
#pragma once

#include <stdarg.h>

#include "base/str.h"

struct arena_chunk;

struct arena {
	struct arena_chunk *chunks;
	size_t used; /* bytes given out */
	size_t cap;
	bool overflow;
};

struct arena arena_init(size_t cap);
void arena_done(struct arena *a);
/* Zeroed bytes aligned for any type; NULL past the cap. Valid until: arena_done(). */
void *arena_alloc(struct arena *a, size_t size);
/* COUNT zeroed elements; NULL past the cap or when the product overflows. */
void *arena_array(struct arena *a, size_t count, size_t size);
/* A copy with a NUL behind it. */
str arena_str(struct arena *a, str s);
char *arena_cstr(struct arena *a, str s);
char *arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
char *arena_vprintf(struct arena *a, const char *fmt, va_list ap);
WARN_UNUSED errc arena_check(const struct arena *a, const char *what, struct err *e);
