/*
 * Assertions on our own reasoning, never on input. must() is always on: a broken invariant stops
 * the process, and the journal recovers. must_slow() costs too much for production.
 */
#pragma once

#define must(cond)                                                        \
	do {                                                              \
		if (__builtin_expect(!(cond), 0))                         \
			must_failed(#cond, __FILE__, __LINE__, __func__); \
	} while (0)

#ifdef HOLDFAST_SLOW_CHECKS
#define must_slow(cond) must(cond)
#else
#define must_slow(cond) ((void)sizeof(cond))
#endif

#define CLEANUP(fn) __attribute__((cleanup(fn)))
#define ARRAY_COUNT(a) (sizeof(a) / sizeof((a)[0]))

_Noreturn void must_failed(const char *cond, const char *file, int line, const char *func);

/* malloc and friends that abort when memory is truly out. For sizes that we choose, not the input.
 */
void *must_calloc(unsigned long count, unsigned long size) __attribute__((malloc, returns_nonnull));
void *must_realloc(void *p, unsigned long size) __attribute__((returns_nonnull));
char *must_strdup(const char *s) __attribute__((malloc, returns_nonnull));
