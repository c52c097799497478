#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/checks.h"
#include "codec/text.h"
#include "query/promql/promql_internal.h"

static const struct {
	const char *word;
	enum token_kind kind;
	int value;
} keywords[] = {
	{ "and", TOKEN_OPERATOR, PROMQL_AND },
	{ "or", TOKEN_OPERATOR, PROMQL_OR },
	{ "unless", TOKEN_OPERATOR, PROMQL_UNLESS },
	{ "atan2", TOKEN_OPERATOR, PROMQL_ATAN2 },
#define X(token, text, parameter, experimental) { text, TOKEN_AGGREGATION, token },
	PROMQL_AGGREGATIONS(X)
#undef X
		{ "by", TOKEN_BY, 0 },
	{ "without", TOKEN_WITHOUT, 0 },
	{ "on", TOKEN_ON, 0 },
	{ "ignoring", TOKEN_IGNORING, 0 },
	{ "group_left", TOKEN_GROUP_LEFT, 0 },
	{ "group_right", TOKEN_GROUP_RIGHT, 0 },
	{ "bool", TOKEN_BOOL, 0 },
	{ "offset", TOKEN_OFFSET, 0 },
	{ "anchored", TOKEN_ANCHORED, 0 },
	{ "smoothed", TOKEN_SMOOTHED, 0 },
	{ "fill", TOKEN_FILL, 0 },
	{ "fill_left", TOKEN_FILL_LEFT, 0 },
	{ "fill_right", TOKEN_FILL_RIGHT, 0 },
	{ "start", TOKEN_START, 0 },
	{ "end", TOKEN_END, 0 },
	{ "step", TOKEN_STEP, 0 },
	{ "range", TOKEN_RANGE, 0 },
	{ "min_of", TOKEN_MIN_OF, 0 },
	{ "max_of", TOKEN_MAX_OF, 0 },
	{ "inf", TOKEN_NUMBER, 0 },
	{ "nan", TOKEN_NUMBER, 0 },
};

bool is_alpha(int c)
{
	return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(int c)
{
	return c >= '0' && c <= '9';
}

bool is_alphanumeric(int c)
{
	return is_alpha(c) || is_digit(c);
}

static bool is_space(int c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

int lexer_peek(const struct lexer *l)
{
	return l->pos < l->text.len ? (unsigned char)l->text.ptr[l->pos] : -1;
}

bool lexer_accept(struct lexer *l, const char *set)
{
	int c = lexer_peek(l);
	if (c <= 0 || !strchr(set, c))
		return false;
	l->pos++;
	return true;
}

static int peek_second(const struct lexer *l)
{
	return l->pos + 1 < l->text.len ? (unsigned char)l->text.ptr[l->pos + 1] : -1;
}

errc lexer_fail(const struct lexer *l, struct err *e, const char *fmt, ...)
{
	unsigned line, column;
	char message[1024];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	promql_line_column(l->text, l->start, &line, &column);
	FAIL(e, ERR_INVALID, "%u:%u: parse error: %s", line, column, message);
}

/* The character at POS as Go's %q prints it: 'x'. */
static const char *quoted_char(const struct lexer *l, size_t pos, char out[static 16])
{
	str rest = { l->text.ptr + pos, l->text.len - pos };
	size_t step = text_utf8_step(rest);
	unsigned char c = rest.len ? (unsigned char)rest.ptr[0] : 0;
	if (!rest.len)
		snprintf(out, 16, "end of input");
	else if (c == '\'' || c == '\\')
		snprintf(out, 16, "'\\%c'", c);
	else if (c == '\n' || c == '\t' || c == '\r')
		snprintf(out, 16, "'\\%c'", c == '\n' ? 'n' : c == '\t' ? 't' : 'r');
	else if (step == 1 && (c < 0x20 || c == 0x7f))
		snprintf(out, 16, "'\\x%02x'", c);
	else if (step)
		snprintf(out, 16, "'%.*s'", (int)step, rest.ptr);
	else
		snprintf(out, 16, "'\xef\xbf\xbd'");
	return out;
}

static errc fail_char(const struct lexer *l, size_t pos, struct err *e, const char *what)
{
	char out[16];
	return lexer_fail(l, e, "%s: %s", what, quoted_char(l, pos, out));
}

static errc fail_bracket(const struct lexer *l, struct err *e, const char *what)
{
	char out[16];
	return lexer_fail(l, e, "unexpected %s %s", what, quoted_char(l, l->start, out));
}

static errc emit(const struct lexer *l, enum token_kind kind, int value, struct token *ret)
{
	*ret = (struct token){ .kind = kind,
			       .value = value,
			       .text = { l->text.ptr + l->start, l->pos - l->start } };
	return OK;
}

static void skip_blanks(struct lexer *l)
{
	for (;;) {
		int c = lexer_peek(l);
		if (is_space(c)) {
			l->pos++;
		} else if (c == '#') {
			while (lexer_peek(l) != -1 && lexer_peek(l) != '\n')
				l->pos++;
		} else {
			return;
		}
	}
}

static errc lex_string(struct lexer *l, struct token *ret, struct err *e)
{
	char quote = l->text.ptr[l->pos++];
	for (;;) {
		int c = lexer_peek(l);
		if (c == -1 || (quote != '`' && c == '\n'))
			return lexer_fail(l, e,
					  quote == '`' ? "unterminated raw string"
						       : "unterminated quoted string");
		if (c == quote) {
			l->pos++;
			return emit(l, TOKEN_STRING, 0, ret);
		}
		if (c == '\\' && quote != '`') {
			l->pos++;
			TRY(lexer_escape(l, quote, e));
			continue;
		}
		str rest = { l->text.ptr + l->pos, l->text.len - l->pos };
		size_t step = text_utf8_step(rest);
		if (!step)
			return lexer_fail(l, e, "invalid UTF-8 rune");
		l->pos += step;
	}
}

static errc lex_word(struct lexer *l, struct token *ret)
{
	bool colon = false;
	while (is_alphanumeric(lexer_peek(l)) || lexer_peek(l) == ':') {
		colon |= lexer_peek(l) == ':';
		l->pos++;
	}
	str word = { l->text.ptr + l->start, l->pos - l->start };
	for (size_t i = 0; i < ARRAY_COUNT(keywords); i++)
		if (word.len == strlen(keywords[i].word) &&
		    !strncasecmp(word.ptr, keywords[i].word, word.len))
			return emit(l, keywords[i].kind, keywords[i].value, ret);
	return emit(l, colon ? TOKEN_METRIC_IDENTIFIER : TOKEN_IDENTIFIER, 0, ret);
}

/* Between { and }: no word is a keyword. */
static errc lex_matchers(struct lexer *l, struct token *ret, struct err *e)
{
	int c = lexer_peek(l);
	if (c == -1)
		return lexer_fail(l, e, "unexpected end of input inside braces");
	if (is_alpha(c)) {
		while (is_alphanumeric(lexer_peek(l)))
			l->pos++;
		return emit(l, TOKEN_IDENTIFIER, 0, ret);
	}
	if (c == '"' || c == '\'' || c == '`')
		return lex_string(l, ret, e);
	l->pos++;
	switch (c) {
	case ',':
		return emit(l, TOKEN_COMMA, 0, ret);
	case '=':
		if (lexer_accept(l, "~"))
			return emit(l, TOKEN_EQL_REGEX, 0, ret);
		return emit(l, TOKEN_EQUAL, 0, ret);
	case '!':
		if (lexer_accept(l, "~"))
			return emit(l, TOKEN_NEQ_REGEX, 0, ret);
		if (lexer_accept(l, "="))
			return emit(l, TOKEN_OPERATOR, PROMQL_NEQ, ret);
		return fail_char(l, l->pos, e, "unexpected character after '!' inside braces");
	case '{':
		return fail_bracket(l, e, "left brace");
	case '}':
		l->brace_open = false;
		return emit(l, TOKEN_RIGHT_BRACE, 0, ret);
	default:
		return fail_char(l, l->start, e, "unexpected character inside braces");
	}
}

static errc lex_close_paren(struct lexer *l, struct token *ret, struct err *e)
{
	if (--l->paren_depth < 0)
		return fail_bracket(l, e, "right parenthesis");
	return emit(l, TOKEN_RIGHT_PAREN, 0, ret);
}

/* Tokens of one character that mean the same everywhere; TOKEN_EOF for others. */
static enum token_kind simple_operator(int c, int *ret_value)
{
	static const struct {
		char c;
		int value;
	} operators[] = {
		{ '+', PROMQL_ADD }, { '-', PROMQL_SUB }, { '*', PROMQL_MUL },
		{ '/', PROMQL_DIV }, { '%', PROMQL_MOD }, { '^', PROMQL_POW },
	};
	for (size_t i = 0; i < ARRAY_COUNT(operators); i++)
		if (operators[i].c == c) {
			*ret_value = operators[i].value;
			return TOKEN_OPERATOR;
		}
	return c == ',' ? TOKEN_COMMA : c == '(' ? TOKEN_LEFT_PAREN : TOKEN_EOF;
}

/* `step`, `range`, `min_of` and `max_of` are all the words that brackets may hold. */
static errc lex_bracket_word(struct lexer *l, struct token *ret, struct err *e)
{
	TRY(lex_word(l, ret));
	if (ret->kind >= TOKEN_STEP)
		return OK;
	return fail_char(l, l->start, e, "unexpected character in duration expression");
}

/* Between [ and ]. */
static errc lex_duration(struct lexer *l, struct token *ret, struct err *e)
{
	int c = lexer_peek(l), value = 0;
	if (c == -1)
		return lexer_fail(l, e, "unexpected end of input in duration expression");
	if (is_digit(c) || (c == '.' && is_digit(peek_second(l)))) {
		l->got_duration = true;
		return lexer_number(l, ret, e);
	}
	if (is_alpha(c)) {
		/* a colon belongs to the subquery here, not to a word */
		size_t end = l->pos;
		while (end < l->text.len && is_alphanumeric((unsigned char)l->text.ptr[end]))
			end++;
		struct lexer word = *l;
		word.text.len = end;
		TRY(lex_bracket_word(&word, ret, e));
		l->pos = end;
		l->got_duration = true;
		return OK;
	}
	l->pos++;
	enum token_kind kind = simple_operator(c, &value);
	if (kind != TOKEN_EOF) {
		l->paren_depth += kind == TOKEN_LEFT_PAREN;
		return emit(l, kind, value, ret);
	}
	switch (c) {
	case ')':
		return lex_close_paren(l, ret, e);
	case ']':
		l->bracket_open = false;
		return emit(l, TOKEN_RIGHT_BRACKET, 0, ret);
	case ':':
		if (!l->got_duration)
			return lexer_fail(
				l, e, "unexpected colon before duration in duration expression");
		if (l->got_colon)
			return lexer_fail(l, e, "unexpected repeated colon in duration expression");
		l->got_colon = true;
		return emit(l, TOKEN_COLON, 0, ret);
	default:
		return fail_char(l, l->start, e, "unexpected character in duration expression");
	}
}

static errc lex_comparison(struct lexer *l, int c, struct token *ret, struct err *e)
{
	switch (c) {
	case '=':
		if (lexer_accept(l, "="))
			return emit(l, TOKEN_OPERATOR, PROMQL_EQL, ret);
		if (lexer_peek(l) == '~')
			return fail_char(l, l->pos, e, "unexpected character after '='");
		return emit(l, TOKEN_EQUAL, 0, ret);
	case '!':
		if (lexer_accept(l, "="))
			return emit(l, TOKEN_OPERATOR, PROMQL_NEQ, ret);
		return fail_char(l, l->pos, e, "unexpected character after '!'");
	case '<':
		if (lexer_accept(l, "="))
			return emit(l, TOKEN_OPERATOR, PROMQL_LTE, ret);
		if (lexer_accept(l, "/"))
			return emit(l, TOKEN_OPERATOR, PROMQL_TRIM_UPPER, ret);
		return emit(l, TOKEN_OPERATOR, PROMQL_LSS, ret);
	default:
		if (lexer_accept(l, "="))
			return emit(l, TOKEN_OPERATOR, PROMQL_GTE, ret);
		if (lexer_accept(l, "/"))
			return emit(l, TOKEN_OPERATOR, PROMQL_TRIM_LOWER, ret);
		return emit(l, TOKEN_OPERATOR, PROMQL_GTR, ret);
	}
}

static errc lex_statement(struct lexer *l, struct token *ret, struct err *e)
{
	int c = lexer_peek(l), value = 0;
	if (c == -1) {
		if (l->paren_depth)
			return lexer_fail(l, e, "unclosed left parenthesis");
		return emit(l, TOKEN_EOF, 0, ret);
	}
	if (is_digit(c) || (c == '.' && is_digit(peek_second(l))))
		return lexer_number(l, ret, e);
	if (is_alpha(c) || c == ':')
		return lex_word(l, ret);
	if (c == '"' || c == '\'' || c == '`')
		return lex_string(l, ret, e);
	l->pos++;
	enum token_kind kind = simple_operator(c, &value);
	if (kind != TOKEN_EOF) {
		l->paren_depth += kind == TOKEN_LEFT_PAREN;
		return emit(l, kind, value, ret);
	}
	switch (c) {
	case '=':
	case '!':
	case '<':
	case '>':
		return lex_comparison(l, c, ret, e);
	case ')':
		return lex_close_paren(l, ret, e);
	case '{':
		l->brace_open = true;
		return emit(l, TOKEN_LEFT_BRACE, 0, ret);
	case '}':
		return fail_bracket(l, e, "right brace");
	case '[':
		l->bracket_open = true;
		l->got_colon = l->got_duration = false;
		return emit(l, TOKEN_LEFT_BRACKET, 0, ret);
	case ']':
		return fail_bracket(l, e, "right bracket");
	case '@':
		return emit(l, TOKEN_AT, 0, ret);
	default:
		return fail_char(l, l->start, e, "unexpected character");
	}
}

errc lexer_next(struct lexer *l, struct token *ret_token, struct err *e)
{
	skip_blanks(l);
	l->start = l->pos;
	if (l->brace_open)
		return lex_matchers(l, ret_token, e);
	if (l->bracket_open)
		return lex_duration(l, ret_token, e);
	return lex_statement(l, ret_token, e);
}
