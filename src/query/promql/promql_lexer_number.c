#include <string.h>

#include "query/promql/promql_internal.h"

/* `0x1F`, `0X_ff`. False: no number, though some of it may have been read. */
static bool scan_hexadecimal(struct lexer *l)
{
	static const char digits[] = "0123456789abcdefABCDEF";
	lexer_accept(l, "_");
	while (lexer_accept(l, digits))
		if (lexer_peek(l) == '_') {
			l->pos++;
			int c = lexer_peek(l);
			if (c <= 0 || !strchr(digits, c))
				return false;
		}
	return !is_alphanumeric(lexer_peek(l)) && lexer_peek(l) != '.';
}

/* A dot comes once and not beside an underscore, an exponent comes once and has a digit, an
 * underscore stands between digits. */
static bool scan_decimal(struct lexer *l)
{
	bool dot = lexer_accept(l, "."), exponent = false;
	while (lexer_accept(l, "0123456789"))
		;
	for (;;) {
		int c = lexer_peek(l);
		if (c == '.') {
			l->pos++;
			if (dot || exponent || lexer_accept(l, "_."))
				return false;
			dot = true;
		} else if (c == 'e' || c == 'E') {
			l->pos++;
			if (exponent)
				return false;
			exponent = true;
			lexer_accept(l, "+-");
			if (lexer_accept(l, "._eE") || lexer_peek(l) == -1)
				return false;
		} else if (c == '_') {
			l->pos++;
			if (lexer_accept(l, "._eE") || lexer_peek(l) == -1)
				return false;
		} else if (!lexer_accept(l, "0123456789")) {
			return !is_alphanumeric(c);
		}
	}
}

static bool scan_number(struct lexer *l)
{
	if (lexer_peek(l) == '0' && l->pos + 1 < l->text.len &&
	    (l->text.ptr[l->pos + 1] | 0x20) == 'x') {
		l->pos += 2;
		return scan_hexadecimal(l);
	}
	return scan_decimal(l);
}

/* What follows the first digits of `1h30m`. Units out of order are found when it is read. */
static bool scan_duration(struct lexer *l)
{
	if (!lexer_accept(l, "smhdwy"))
		return false;
	lexer_accept(l, "s"); /* of ms */
	while (lexer_accept(l, "0123456789")) {
		while (lexer_accept(l, "0123456789"))
			;
		if (!lexer_accept(l, "smhdw"))
			return false;
		lexer_accept(l, "s");
	}
	if (!is_alphanumeric(lexer_peek(l)))
		return true;
	l->pos++;
	return false;
}

errc lexer_number(struct lexer *l, struct token *ret_token, struct err *e)
{
	enum token_kind kind = TOKEN_NUMBER;
	if (!scan_number(l)) {
		kind = TOKEN_DURATION;
		if (!scan_duration(l)) {
			struct buf text = buf_init(4096);
			str part = { l->text.ptr + l->start, l->pos - l->start };
			if (part.len > 64)
				part.len = 64;
			promql_print_string(&text, part);
			errc rc = lexer_fail(l, e, "bad number or duration syntax: %s",
					     buf_cstr(&text));
			buf_done(&text);
			return rc;
		}
	}
	*ret_token = (struct token){ .kind = kind,
				     .text = { l->text.ptr + l->start, l->pos - l->start } };
	return OK;
}
