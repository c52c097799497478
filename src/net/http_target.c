#include "net/http_target.h"

#include <string.h>

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Decode into the arena; false for a bad escape or NUL. Without an escape RAW itself is the result.
 */
static bool decode(str raw, bool plus_is_space, struct arena *request, str *ret_text)
{
	bool plain = !memchr(raw.ptr, '%', raw.len) &&
		     !(plus_is_space && memchr(raw.ptr, '+', raw.len));
	if (raw.len == 0 || plain) {
		*ret_text = raw;
		return true;
	}
	char *to = arena_alloc(request, raw.len + 1);
	size_t n = 0;
	if (!to)
		return false;
	for (size_t i = 0; i < raw.len; i++) {
		char c = raw.ptr[i];
		if (c == '+' && plus_is_space) {
			c = ' ';
		} else if (c == '%') {
			int high = i + 1 < raw.len ? hex_value(raw.ptr[i + 1]) : -1;
			int low = i + 2 < raw.len ? hex_value(raw.ptr[i + 2]) : -1;
			if (high < 0 || low < 0 || high + low == 0)
				return false;
			c = (char)(high * 16 + low);
			i += 2;
		}
		to[n++] = c;
	}
	*ret_text = (str){ to, n };
	return true;
}

/* What a program that takes a segment for a file name could stumble over. */
static bool segment_is_safe(str s)
{
	if (str_eq_c(s, ".") || str_eq_c(s, ".."))
		return false;
	for (size_t i = 0; i < s.len; i++)
		if ((unsigned char)s.ptr[i] < 0x20 || s.ptr[i] == 0x7f || s.ptr[i] == '/' ||
		    s.ptr[i] == '\\')
			return false;
	return true;
}

static errc parse_path(str path, struct arena *request, struct http_target *t, struct err *e)
{
	size_t count = 0;
	for (size_t i = 0; i < path.len; i++)
		count += path.ptr[i] == '/';
	if (count > HTTP_SEGMENT_COUNT_MAX)
		FAIL(e, ERR_INVALID, "the path has more than %d segments", HTTP_SEGMENT_COUNT_MAX);
	t->path = path;
	t->segments = arena_array(request, count, sizeof(t->segments[0]));
	if (!t->segments)
		FAIL(e, ERR_LIMIT, "the request is too large");
	const char *at = path.ptr + 1;
	const char *end = path.ptr + path.len;
	for (size_t i = 0; i < count; i++) {
		const char *slash = at < end ? memchr(at, '/', (size_t)(end - at)) : NULL;
		str raw = { at, (size_t)((slash ? slash : end) - at) };
		str *segment = &t->segments[t->segment_count++];
		if (!decode(raw, false, request, segment))
			FAIL(e, ERR_INVALID, "the path has a bad percent-encoding");
		if (!segment_is_safe(*segment))
			FAIL(e, ERR_INVALID,
			     "the path has a segment that is '.' or '..', or holds an encoded "
			     "slash, backslash or control character");
		if (raw.len == 0 && slash)
			FAIL(e, ERR_INVALID, "the path has an empty segment ('//')");
		at = slash ? slash + 1 : end;
	}
	return OK;
}

errc http_pairs_parse(str text, size_t count_max, struct arena *request,
		      struct http_pair **ret_pairs, size_t *ret_count, struct err *e)
{
	size_t count = text.len > 0, n = 0;
	for (size_t i = 0; i < text.len; i++)
		count += text.ptr[i] == '&';
	if (count > count_max)
		FAIL(e, ERR_INVALID, "more than %zu parameters", count_max);
	struct http_pair *pairs = count ? arena_array(request, count, sizeof(pairs[0])) : NULL;
	if (count && !pairs)
		FAIL(e, ERR_LIMIT, "the request is too large");
	str field;
	while (str_split(&text, '&', &field)) {
		if (field.len == 0)
			continue;
		const char *equals = memchr(field.ptr, '=', field.len);
		size_t name_len = equals ? (size_t)(equals - field.ptr) : field.len;
		str name = { field.ptr, name_len };
		str value = equals ? (str){ equals + 1, field.len - name_len - 1 } : STR("");
		struct http_pair *pair = &pairs[n++];
		if (!decode(name, true, request, &pair->name) ||
		    !decode(value, true, request, &pair->value))
			FAIL(e, ERR_INVALID, "a parameter has a bad percent-encoding");
	}
	*ret_pairs = pairs;
	*ret_count = n;
	return OK;
}

errc http_target_parse(str raw, size_t query_count_max, struct arena *request,
		       struct http_target *ret_target, struct err *e)
{
	struct http_target t = { 0 };
	for (size_t i = 0; i < raw.len; i++)
		if (raw.ptr[i] <= 0x20 || raw.ptr[i] >= 0x7f || raw.ptr[i] == '#')
			FAIL(e, ERR_INVALID,
			     "the request target has a byte that must be percent-encoded");
	/* absolute form: the authority is for proxies, Host was checked already */
	for (size_t i = 0; i < 2; i++) {
		str scheme = i ? STR("https://") : STR("http://");
		if (!str_starts(raw, scheme))
			continue;
		size_t at = scheme.len;
		while (at < raw.len && raw.ptr[at] != '/' && raw.ptr[at] != '?')
			at++;
		raw = (str){ raw.ptr + at, raw.len - at };
		break;
	}
	if (raw.len == 0 || raw.ptr[0] != '/')
		FAIL(e, ERR_INVALID, "the request target must begin with a slash");
	const char *mark = memchr(raw.ptr, '?', raw.len);
	size_t path_len = mark ? (size_t)(mark - raw.ptr) : raw.len;
	TRY(parse_path((str){ raw.ptr, path_len }, request, &t, e));
	if (mark)
		TRY(http_pairs_parse((str){ mark + 1, raw.len - path_len - 1 }, query_count_max,
				     request, &t.query, &t.query_count, e));
	*ret_target = t;
	return OK;
}

errc http_pattern_parse(const char *pattern, struct http_pattern *ret_pattern, struct err *e)
{
	struct http_pattern p = { 0 };
	if (pattern[0] != '/')
		FAIL(e, ERR_INVALID, "route '%s' must begin with a slash", pattern);
	for (const char *at = pattern; *at == '/';) {
		size_t len = strcspn(++at, "/");
		if (p.count == HTTP_SEGMENT_COUNT_MAX)
			FAIL(e, ERR_INVALID, "route '%s' has too many segments", pattern);
		struct http_pattern_segment *s = &p.segments[p.count++];
		s->kind = len && *at == ':'   ? HTTP_PATTERN_PARAM
			  : len && *at == '*' ? HTTP_PATTERN_REST
					      : HTTP_PATTERN_LITERAL;
		size_t skip = s->kind != HTTP_PATTERN_LITERAL;
		s->text = (str){ at + skip, len - skip };
		at += len;
		if ((skip && s->text.len == 0) || (s->kind == HTTP_PATTERN_REST && *at))
			FAIL(e, ERR_INVALID,
			     "route '%s': ':' and '*' need a name, and '*' must be last", pattern);
	}
	*ret_pattern = p;
	return OK;
}

bool http_pattern_matches(const struct http_pattern *p, const struct http_target *t)
{
	bool rest = p->segments[p->count - 1].kind == HTTP_PATTERN_REST;
	if (rest ? t->segment_count < p->count : t->segment_count != p->count)
		return false;
	for (size_t i = 0; i < p->count; i++) {
		const struct http_pattern_segment *s = &p->segments[i];
		if (s->kind == HTTP_PATTERN_LITERAL && !str_eq(s->text, t->segments[i]))
			return false;
		if (s->kind == HTTP_PATTERN_PARAM && t->segments[i].len == 0)
			return false;
	}
	return true;
}

int http_pattern_cmp(const struct http_pattern *a, const struct http_pattern *b)
{
	for (size_t i = 0; i < a->count && i < b->count; i++)
		if (a->segments[i].kind != b->segments[i].kind)
			return (int)a->segments[i].kind - (int)b->segments[i].kind;
	return 0;
}

str http_pattern_param(const struct http_pattern *p, const struct http_target *t, const char *name,
		       struct arena *request)
{
	for (size_t i = 0; i < p->count; i++) {
		const struct http_pattern_segment *s = &p->segments[i];
		if (s->kind == HTTP_PATTERN_LITERAL || !str_eq_c(s->text, name))
			continue;
		if (s->kind == HTTP_PATTERN_PARAM || i + 1 == t->segment_count)
			return t->segments[i];
		size_t len = 0;
		for (size_t j = i; j < t->segment_count; j++)
			len += t->segments[j].len + 1;
		char *joined = arena_alloc(request, len);
		char *to = joined;
		for (size_t j = i; joined && j < t->segment_count; j++) {
			if (j > i)
				*to++ = '/';
			if (t->segments[j].len)
				memcpy(to, t->segments[j].ptr, t->segments[j].len);
			to += t->segments[j].len;
		}
		return (str){ joined, joined ? (size_t)(to - joined) : 0 };
	}
	return (str){ 0 };
}
