#include "base/str.h"

#include <stdlib.h>
#include <string.h>

#include "base/checks.h"

str str_c(const char *s)
{
	return (str){ s ? s : "", s ? strlen(s) : 0 };
}

bool str_eq(str a, str b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

bool str_eq_c(str a, const char *b)
{
	return str_eq(a, str_c(b));
}

int str_cmp(str a, str b)
{
	size_t n = a.len < b.len ? a.len : b.len;
	int c = n ? memcmp(a.ptr, b.ptr, n) : 0;
	if (c)
		return c;
	return a.len < b.len ? -1 : a.len > b.len;
}

bool str_starts(str s, str prefix)
{
	return s.len >= prefix.len &&
	       (prefix.len == 0 || memcmp(s.ptr, prefix.ptr, prefix.len) == 0);
}

bool str_ends(str s, str suffix)
{
	return s.len >= suffix.len &&
	       (suffix.len == 0 || memcmp(s.ptr + s.len - suffix.len, suffix.ptr, suffix.len) == 0);
}

ptrdiff_t str_find(str s, str needle)
{
	if (needle.len == 0)
		return 0;
	const char *p = s.len ? memmem(s.ptr, s.len, needle.ptr, needle.len) : NULL;
	return p ? p - s.ptr : -1;
}

static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

str str_trim(str s)
{
	while (s.len && is_space(s.ptr[0]))
		s = (str){ s.ptr + 1, s.len - 1 };
	while (s.len && is_space(s.ptr[s.len - 1]))
		s.len--;
	return s;
}

bool str_split(str *rest, char sep, str *ret_field)
{
	if (!rest->ptr)
		return false;
	const char *end = rest->len ? memchr(rest->ptr, sep, rest->len) : NULL;
	if (!end) {
		*ret_field = *rest;
		*rest = (str){ NULL, 0 };
		return true;
	}
	*ret_field = (str){ rest->ptr, (size_t)(end - rest->ptr) };
	*rest = (str){ end + 1, rest->len - ret_field->len - 1 };
	return true;
}

bool str_to_u64(str s, uint64_t *ret_value)
{
	uint64_t v = 0;
	if (s.len == 0)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		if (s.ptr[i] < '0' || s.ptr[i] > '9')
			return false;
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(s.ptr[i] - '0'), &v))
			return false;
	}
	*ret_value = v;
	return true;
}

bool str_to_i64(str s, int64_t *ret_value)
{
	bool negative = s.len && s.ptr[0] == '-';
	uint64_t v = 0;
	if (!str_to_u64(negative ? (str){ s.ptr + 1, s.len - 1 } : s, &v))
		return false;
	if (v > (uint64_t)INT64_MAX + negative)
		return false;
	*ret_value = negative ? (int64_t)(0 - v) : (int64_t)v;
	return true;
}

bool str_copy(str s, char *dst, size_t dst_size)
{
	must(dst_size > 0);
	dst[0] = '\0';
	if (s.len >= dst_size || (s.len && memchr(s.ptr, 0, s.len)))
		return false;
	if (s.len)
		memcpy(dst, s.ptr, s.len);
	dst[s.len] = '\0';
	return true;
}

char *str_dup(str s)
{
	char *copy = must_calloc(s.len + 1, 1);
	if (s.len)
		memcpy(copy, s.ptr, s.len);
	return copy;
}

bool str_is_name(str s, size_t max)
{
	if (s.len == 0 || s.len > max || s.ptr[0] == '-')
		return false;
	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];
		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'))
			return false;
	}
	return true;
}
