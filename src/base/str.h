/*
 * str: a view of bytes by value. It owns nothing and need not end in NUL; NUL-terminated strings
 * are made only where a system call wants one.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

typedef struct str {
	const char *ptr;
	size_t len;
} str;

#define STR(literal) ((str){ (literal), sizeof(literal) - 1 })
/* For printf: "%.*s" with STR_ARG(s). */
#define STR_ARG(s) (int)(s).len, (s).ptr

/* The view of a NUL-terminated string; NULL gives the empty one. */
str str_c(const char *s);
bool str_eq(str a, str b);
bool str_eq_c(str a, const char *b);
/* Byte order, as memcmp; a prefix sorts first. */
int str_cmp(str a, str b);
bool str_starts(str s, str prefix);
bool str_ends(str s, str suffix);
/* Offset of NEEDLE in S, or -1. */
ptrdiff_t str_find(str s, str needle);
/* Without leading and trailing ASCII white space. */
str str_trim(str s);
/* Cut the next field up to SEP off *REST; false when nothing is left. */
bool str_split(str *rest, char sep, str *ret_field);
/* Whole of S as a decimal number; false on anything else, overflow included. */
bool str_to_u64(str s, uint64_t *ret_value);
bool str_to_i64(str s, int64_t *ret_value);
/* Copy into DST with a NUL; false (and DST empty) when it does not fit or holds a NUL. */
bool str_copy(str s, char *dst, size_t dst_size);
/* A heap copy with a NUL. Owns: the caller frees it. */
char *str_dup(str s);
/* [a-z0-9] then [a-z0-9-]*, at most MAX bytes: names of applications, environments, services. */
bool str_is_name(str s, size_t max);
