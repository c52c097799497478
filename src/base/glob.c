#include "base/glob.h"

#include <string.h>

enum { PATTERN_MAX = 256, STEPS_MAX = 100000 };

struct matcher {
	unsigned steps; /* spent so far; the whole match gives up at STEPS_MAX */
};

static bool match(struct matcher *m, const char *p, const char *p_end, const char *s,
		  const char *s_end);

static bool match_class(const char **p, const char *p_end, char c)
{
	const char *at = *p + 1;
	bool negate = at < p_end && (*at == '!' || *at == '^');
	bool hit = false;
	if (negate)
		at++;
	for (bool first = true; at < p_end && (first || *at != ']'); first = false) {
		char low = *at++, high = low;
		if (at + 1 < p_end && *at == '-' && at[1] != ']') {
			high = at[1];
			at += 2;
		}
		hit |= c >= low && c <= high;
	}
	*p = at < p_end ? at + 1 : p_end;
	return hit != negate && c != '/';
}

/* `{a,b}rest`: try each alternative followed by the rest. */
static bool match_braces(struct matcher *m, const char *p, const char *p_end, const char *s,
			 const char *s_end)
{
	const char *close = memchr(p, '}', (size_t)(p_end - p));
	if (!close)
		return s < s_end && *s == '{' && match(m, p + 1, p_end, s + 1, s_end);
	str rest = { p + 1, (size_t)(close - p - 1) };
	str option;
	while (str_split(&rest, ',', &option)) {
		char joined[PATTERN_MAX];
		size_t tail = (size_t)(p_end - close - 1);
		if (option.len + tail > sizeof(joined))
			return false;
		memcpy(joined, option.ptr, option.len);
		memcpy(joined + option.len, close + 1, tail);
		if (match(m, joined, joined + option.len + tail, s, s_end))
			return true;
	}
	return false;
}

static bool match_star(struct matcher *m, const char *p, const char *p_end, const char *s,
		       const char *s_end)
{
	bool folders = p + 1 < p_end && p[1] == '*';
	p += folders ? 2 : 1;
	if (folders && p < p_end && *p == '/') {
		/* a leading or middle double star also stands for no folder at all */
		if (match(m, p + 1, p_end, s, s_end))
			return true;
	}
	for (;; s++) {
		if (match(m, p, p_end, s, s_end))
			return true;
		if (s == s_end || (!folders && *s == '/'))
			return false;
	}
}

static bool match(struct matcher *m, const char *p, const char *p_end, const char *s,
		  const char *s_end)
{
	while (p < p_end) {
		if (++m->steps > STEPS_MAX)
			return false;
		if (*p == '*')
			return match_star(m, p, p_end, s, s_end);
		if (*p == '{')
			return match_braces(m, p, p_end, s, s_end);
		if (s == s_end)
			return false;
		if (*p == '[') {
			if (!match_class(&p, p_end, *s))
				return false;
		} else if (*p == '?' ? *s != '/' : *p == *s) {
			p++;
		} else {
			return false;
		}
		s++;
	}
	return s == s_end || *s == '/';
}

bool glob_match(str pattern, str path)
{
	if (pattern.len && pattern.ptr[pattern.len - 1] == '/')
		pattern.len--;
	if (pattern.len == 0 || pattern.len > PATTERN_MAX)
		return false;
	struct matcher m = { 0 };
	return match(&m, pattern.ptr, pattern.ptr + pattern.len, path.ptr, path.ptr + path.len);
}
