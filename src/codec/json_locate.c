#include "codec/json_locate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "codec/text.h"

enum { NESTING_MAX = 64 };

struct scan {
	str text;
	size_t pos;
	const char *message;    /* the mistake at pos, once there is one */
	char open[NESTING_MAX]; /* `{` or `[` a level */
	size_t depth;
};

static bool fail_at(struct scan *s, size_t pos, const char *message)
{
	s->pos = pos;
	s->message = message;
	return false;
}

/* The byte at POS; NUL at the end, which no grammar rule takes. */
static unsigned char peek(const struct scan *s, size_t pos)
{
	return pos < s->text.len ? (unsigned char)s->text.ptr[pos] : 0;
}

static void skip_space(struct scan *s)
{
	while (s->pos < s->text.len && strchr(" \t\r\n", s->text.ptr[s->pos]) &&
	       s->text.ptr[s->pos])
		s->pos++;
}

/* The four digits after `\u`; -1 when they are none. */
static int hex4(const struct scan *s, size_t pos)
{
	int v = 0;
	for (size_t i = 0; i < 4; i++) {
		unsigned char c = peek(s, pos + i), lower = c | 0x20;
		if (c >= '0' && c <= '9')
			v = v * 16 + c - '0';
		else if (lower >= 'a' && lower <= 'f')
			v = v * 16 + lower - 'a' + 10;
		else
			return -1;
	}
	return v;
}

/* At a backslash. */
static bool scan_escape(struct scan *s)
{
	size_t at = s->pos;
	unsigned char c = peek(s, at + 1);
	if (c != 'u') {
		s->pos += 2;
		return c && strchr("\"\\/bfnrt", c) ? true : fail_at(s, at, "unknown escape");
	}
	int unit = hex4(s, at + 2);
	s->pos += 6;
	if (unit < 0)
		return fail_at(s, at, "\\u needs four hexadecimal digits");
	if (unit < 0xd800 || unit > 0xdfff)
		return true;
	int low = peek(s, at + 6) == '\\' && peek(s, at + 7) == 'u' ? hex4(s, at + 8) : -1;
	s->pos += 6;
	if (unit > 0xdbff || low < 0xdc00 || low > 0xdfff)
		return fail_at(s, at, "half of a surrogate pair");
	return true;
}

static bool scan_string(struct scan *s)
{
	size_t start = s->pos++;
	while (s->pos < s->text.len) {
		unsigned char c = peek(s, s->pos);
		if (c == '"') {
			s->pos++;
			return true;
		}
		if (c < ' ')
			return fail_at(s, s->pos, "control character in a string; escape it");
		if (c == '\\') {
			if (!scan_escape(s))
				return false;
			continue;
		}
		size_t step = text_utf8_step((str){ s->text.ptr + s->pos, s->text.len - s->pos });
		if (!step)
			return fail_at(s, s->pos, "this is not UTF-8");
		s->pos += step;
	}
	return fail_at(s, start, "this string has no end");
}

static size_t skip_digits(struct scan *s)
{
	size_t start = s->pos;
	while (peek(s, s->pos) >= '0' && peek(s, s->pos) <= '9')
		s->pos++;
	return s->pos - start;
}

static bool number_fits(str number, bool whole)
{
	char text[512];
	uint64_t u;
	int64_t i;
	if (whole)
		return str_to_u64(number, &u) || str_to_i64(number, &i);
	/* one too long to copy is not judged */
	return !str_copy(number, text, sizeof(text)) || isfinite(strtod(text, NULL));
}

static bool scan_number(struct scan *s)
{
	size_t start = s->pos;
	bool whole = true;
	if (peek(s, s->pos) == '-')
		s->pos++;
	bool zero = peek(s, s->pos) == '0';
	size_t digit_count = skip_digits(s);
	if (digit_count == 0 || (zero && digit_count > 1))
		return fail_at(s, start,
			       digit_count ? "a number must not begin with 0"
					   : "a number must have digits");
	if (peek(s, s->pos) == '.') {
		whole = false;
		s->pos++;
		if (!skip_digits(s))
			return fail_at(s, start, "digits must follow the decimal point");
	}
	if ((peek(s, s->pos) | 0x20) == 'e') {
		whole = false;
		s->pos++;
		if (peek(s, s->pos) == '+' || peek(s, s->pos) == '-')
			s->pos++;
		if (!skip_digits(s))
			return fail_at(s, start, "digits must follow the exponent");
	}
	if (!number_fits((str){ s->text.ptr + start, s->pos - start }, whole))
		return fail_at(s, start, "this number is out of range");
	return true;
}

static bool scan_word(struct scan *s)
{
	static const char *const words[] = { "true", "false", "null" };
	str rest = { s->text.ptr + s->pos, s->text.len - s->pos };
	for (size_t i = 0; i < ARRAY_COUNT(words); i++) {
		if (!str_starts(rest, str_c(words[i])))
			continue;
		s->pos += strlen(words[i]);
		return true;
	}
	return fail_at(s, s->pos,
		       rest.len ? "expected a value" : "it ends where a value must come");
}

/* A key and its colon. */
static bool scan_key(struct scan *s)
{
	skip_space(s);
	if (peek(s, s->pos) != '"')
		return fail_at(s, s->pos,
			       s->pos < s->text.len ? "expected a key in double quotes"
						    : "it ends where a key must come");
	if (!scan_string(s))
		return false;
	skip_space(s);
	if (peek(s, s->pos) != ':')
		return fail_at(s, s->pos, "expected a colon after the key");
	s->pos++;
	return true;
}

/* A scalar, an empty container, or the opening of one; *RET_OPENED says which. */
static bool scan_value(struct scan *s, size_t depth_max, bool *ret_opened)
{
	skip_space(s);
	unsigned char c = peek(s, s->pos);
	*ret_opened = false;
	if (c == '"')
		return scan_string(s);
	if (c == '-' || (c >= '0' && c <= '9'))
		return scan_number(s);
	if (c != '{' && c != '[')
		return scan_word(s);
	if (s->depth >= depth_max || s->depth >= NESTING_MAX)
		return fail_at(s, s->pos, "it is nested too deeply");
	s->pos++;
	skip_space(s);
	if (peek(s, s->pos) == (c == '{' ? '}' : ']')) {
		s->pos++;
		return true;
	}
	s->open[s->depth++] = (char)c;
	*ret_opened = true;
	return c == '[' || scan_key(s);
}

/* What follows a value: closings, then a comma and perhaps a key. *RET_DONE: the text is whole. */
static bool scan_after(struct scan *s, bool *ret_done)
{
	for (;;) {
		skip_space(s);
		unsigned char c = peek(s, s->pos);
		if (s->depth == 0) {
			*ret_done = true;
			return s->pos == s->text.len ||
			       fail_at(s, s->pos, "something follows the value");
		}
		bool object = s->open[s->depth - 1] == '{';
		if (c == (object ? '}' : ']')) {
			s->depth--;
			s->pos++;
			continue;
		}
		if (c != ',')
			return fail_at(s, s->pos,
				       object ? "expected a comma or }" : "expected a comma or ]");
		s->pos++;
		return !object || scan_key(s);
	}
}

static void fill_place(const struct scan *s, struct json_mistake *mistake)
{
	*mistake = (struct json_mistake){ 1, 1, s->message };
	for (size_t i = 0; i < s->pos && i < s->text.len; i++) {
		if (s->text.ptr[i] == '\n') {
			mistake->line++;
			mistake->column = 1;
		} else if ((s->text.ptr[i] & 0xc0) != 0x80) {
			mistake->column++;
		}
	}
}

bool json_locate(str text, size_t depth_max, struct json_mistake *ret_mistake)
{
	struct scan s = { .text = text };
	bool opened = false, done = false;
	while (!done && scan_value(&s, depth_max, &opened) && (opened || scan_after(&s, &done)))
		;
	if (!s.message)
		return false;
	fill_place(&s, ret_mistake);
	return true;
}
