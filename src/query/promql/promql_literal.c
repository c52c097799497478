#include <math.h>
#include <stdio.h>
#include <string.h>

#include "codec/number.h"
#include "codec/text.h"
#include "query/promql/promql_internal.h"

static int hex_value(int c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The form of the escape whose letter is C: how many digits of which base; 0 digits for none. */
static int escape_digits(int c, int *ret_base)
{
	*ret_base = c >= '0' && c <= '7' ? 8 : 16;
	return *ret_base == 8 ? 3 : c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
}

static errc fail_escape(const struct lexer *l, size_t pos, struct err *e, const char *what)
{
	str rest = { l->text.ptr + pos, l->text.len - pos };
	size_t step = text_utf8_step(rest);
	unsigned rune = step == 1 ? (unsigned char)rest.ptr[0] : 0xfffd;
	if (!rest.len)
		return lexer_fail(l, e, "escape sequence not terminated");
	if (step > 1) {
		rune = (unsigned char)rest.ptr[0] & (0x7fu >> step);
		for (size_t i = 1; i < step; i++)
			rune = rune << 6 | ((unsigned char)rest.ptr[i] & 0x3fu);
	}
	if (rune < 0x20 || rune == 0x7f || !step)
		return lexer_fail(l, e, what, rune, "");
	char printed[16];
	snprintf(printed, sizeof(printed), " '%.*s'", (int)step, rest.ptr);
	return lexer_fail(l, e, what, rune, printed);
}

errc lexer_escape(struct lexer *l, char quote, struct err *e)
{
	int c = lexer_peek(l), base;
	int digits = escape_digits(c, &base);
	uint64_t value = 0;
	if (c == quote || (c > 0 && strchr("abfnrtv\\", c))) {
		l->pos++;
		return OK;
	}
	if (!digits)
		return fail_escape(l, l->pos, e, "unknown escape sequence U+%04X%s");
	if (base == 16)
		l->pos++;
	for (int i = 0; i < digits; i++, l->pos++) {
		int digit = hex_value(lexer_peek(l));
		if (digit < 0 || digit >= base)
			return fail_escape(l, l->pos, e,
					   "illegal character U+%04X%s in escape sequence");
		value = value * (uint64_t)base + (uint64_t)digit;
	}
	if (value > (digits < 4 ? 0xff : 0x10ffff) || (value >= 0xd800 && value < 0xe000))
		return lexer_fail(l, e, "escape sequence is an invalid Unicode code point");
	return OK;
}

static char *put_utf8(char *out, uint32_t rune)
{
	if (rune < 0x80) {
		*out++ = (char)rune;
		return out;
	}
	int more = rune < 0x800 ? 1 : rune < 0x10000 ? 2 : 3;
	*out++ = (char)((0xf00 >> more & 0xff) | (rune >> (6 * more)));
	while (more--)
		*out++ = (char)(0x80 | (rune >> (6 * more) & 0x3f));
	return out;
}

/* The escape at *IN (behind the backslash), which the lexer has found to be in order. */
static char *unescape(const char **in, char *out)
{
	static const char letters[] = "abfnrtv", values[] = "\a\b\f\n\r\t\v";
	char c = *(*in)++;
	int base;
	int digits = escape_digits(c, &base);
	const char *letter = strchr(letters, c);
	if (letter) {
		*out++ = values[letter - letters];
		return out;
	}
	if (!digits) {
		*out++ = c;
		return out;
	}
	if (base == 8)
		(*in)--;
	uint32_t value = 0;
	for (int i = 0; i < digits; i++)
		value = value * (uint32_t)base + (uint32_t)hex_value(*(*in)++);
	if (digits >= 4)
		return put_utf8(out, value);
	*out++ = (char)value;
	return out;
}

errc literal_unquote(struct parser *p, str quoted, str *ret)
{
	const char *in = quoted.ptr + 1, *end = quoted.ptr + quoted.len - 1;
	char *text = arena_alloc(p->arena, quoted.len);
	if (!text)
		return parser_memory(p);
	char *out = text;
	while (in < end) {
		if (*in != '\\' || quoted.ptr[0] == '`') {
			*out++ = *in++;
			continue;
		}
		in++;
		out = unescape(&in, out);
	}
	*out = '\0';
	*ret = (str){ text, (size_t)(out - text) };
	return OK;
}

/* Whole of S as an unsigned number of BASE; false on another digit and from 2^63 on. */
static bool parse_integer(str s, unsigned base, double *ret)
{
	uint64_t value = 0;
	for (size_t i = 0; i < s.len; i++) {
		int digit = hex_value(s.ptr[i]);
		if (digit < 0 || (unsigned)digit >= base ||
		    value > ((uint64_t)INT64_MAX - (uint64_t)digit) / base)
			return false;
		value = value * base + (uint64_t)digit;
	}
	*ret = (double)value;
	return s.len > 0;
}

static errc number_value(struct parser *p, const struct token *token, double *ret)
{
	size_t pos = (size_t)(token->text.ptr - p->lexer.text.ptr);
	char *digits = arena_alloc(p->arena, token->text.len + 1);
	str s = { digits, 0 };
	if (!digits)
		return parser_memory(p);
	for (size_t i = 0; i < token->text.len; i++)
		if (token->text.ptr[i] != '_')
			digits[s.len++] = token->text.ptr[i];
	if (s.len > 1 && s.ptr[0] == '0') {
		bool hexadecimal = (s.ptr[1] | 0x20) == 'x';
		str rest = { s.ptr + 1 + hexadecimal, s.len - 1 - hexadecimal };
		if (parse_integer(rest, hexadecimal ? 16 : 8, ret))
			return OK;
	}
	double value;
	if (!number_parse(s, &value))
		return parser_fail(p, pos,
				   "error parsing number: strconv.ParseFloat: parsing \"%.*s\": "
				   "invalid syntax",
				   (int)(s.len > 100 ? 100 : s.len), s.ptr);
	if (isinf(value) && (digits[0] | 0x20) != 'i')
		return parser_fail(p, pos,
				   "error parsing number: strconv.ParseFloat: parsing \"%.*s\": "
				   "value out of range",
				   (int)(s.len > 100 ? 100 : s.len), s.ptr);
	*ret = value;
	return OK;
}

/* Each unit once, from the largest to the smallest. */
static errc duration_value(struct parser *p, const struct token *token, double *ret)
{
	static const struct {
		const char *unit;
		int64_t ms;
	} units[] = {
		{ "y", 365LL * 86400 * 1000 },
		{ "w", 7LL * 86400 * 1000 },
		{ "d", 86400 * 1000 },
		{ "h", 3600 * 1000 },
		{ "m", 60 * 1000 },
		{ "s", 1000 },
		{ "ms", 1 },
	};
	size_t pos = (size_t)(token->text.ptr - p->lexer.text.ptr), unit = 0;
	str rest = token->text;
	int64_t total = 0;
	while (rest.len) {
		int64_t count = 0, part;
		bool overflow = false;
		while (rest.len && rest.ptr[0] >= '0' && rest.ptr[0] <= '9') {
			overflow |= __builtin_mul_overflow(count, 10, &count) ||
				    __builtin_add_overflow(count, rest.ptr[0] - '0', &count);
			rest = (str){ rest.ptr + 1, rest.len - 1 };
		}
		size_t letters = 0;
		while (letters < rest.len && (rest.ptr[letters] < '0' || rest.ptr[letters] > '9'))
			letters++;
		str name = { rest.ptr, letters };
		while (unit < 7 && !str_eq_c(name, units[unit].unit))
			unit++;
		if (unit == 7)
			return parser_fail(p, pos, "not a valid duration string: \"%.*s\"",
					   (int)(token->text.len > 100 ? 100 : token->text.len),
					   token->text.ptr);
		overflow |= __builtin_mul_overflow(count, units[unit++].ms, &part) ||
			    __builtin_add_overflow(total, part, &total);
		/* what Go's nanoseconds hold */
		if (overflow || total > INT64_MAX / 1000000)
			return parser_fail(p, pos, "duration out of range");
		rest = (str){ rest.ptr + letters, rest.len - letters };
	}
	if (!total)
		return parser_fail(p, pos, "duration must be greater than 0");
	*ret = (double)total / 1000;
	return OK;
}

errc literal_number(struct parser *p, const struct token *token, double *ret)
{
	return token->kind == TOKEN_DURATION ? duration_value(p, token, ret)
					     : number_value(p, token, ret);
}
