/* What the parts of the parser share. */
#pragma once

#include "query/promql/promql_ast.h"

enum token_kind {
	TOKEN_EOF,
	TOKEN_IDENTIFIER,
	TOKEN_METRIC_IDENTIFIER, /* with a colon in it */
	TOKEN_STRING,            /* quotes included */
	TOKEN_NUMBER,
	TOKEN_DURATION,
	TOKEN_LEFT_PAREN,
	TOKEN_RIGHT_PAREN,
	TOKEN_LEFT_BRACE,
	TOKEN_RIGHT_BRACE,
	TOKEN_LEFT_BRACKET,
	TOKEN_RIGHT_BRACKET,
	TOKEN_COMMA,
	TOKEN_COLON,
	TOKEN_EQUAL, /* a single one */
	TOKEN_EQL_REGEX,
	TOKEN_NEQ_REGEX,
	TOKEN_AT,
	TOKEN_OPERATOR,    /* value: enum promql_operator */
	TOKEN_AGGREGATION, /* value: enum promql_aggregation */
	/* keywords: these and operators and aggregations made of letters are names too where no
	 * keyword can stand */
	TOKEN_BY,
	TOKEN_WITHOUT,
	TOKEN_ON,
	TOKEN_IGNORING,
	TOKEN_GROUP_LEFT,
	TOKEN_GROUP_RIGHT,
	TOKEN_BOOL,
	TOKEN_OFFSET,
	TOKEN_ANCHORED,
	TOKEN_SMOOTHED,
	TOKEN_FILL,
	TOKEN_FILL_LEFT,
	TOKEN_FILL_RIGHT,
	TOKEN_START,
	TOKEN_END,
	TOKEN_STEP,
	TOKEN_RANGE,
	TOKEN_MIN_OF,
	TOKEN_MAX_OF,
};

struct token {
	enum token_kind kind;
	int value;
	str text; /* a part of the input */
};

/* Reads one token a call, so what is wrong behind a mistake is never reported. */
struct lexer {
	str text;
	size_t pos, start; /* of the token being read */
	int paren_depth;
	bool brace_open, bracket_open, got_colon, got_duration;
};

struct parser {
	struct lexer lexer;
	struct token token;  /* the one to be looked at next */
	size_t previous_end; /* of the token before it */
	const struct promql_options *options;
	struct arena *arena;
	int nesting;
	struct err *e;
};

/* ---- promql_lexer.c, promql_lexer_number.c */

WARN_UNUSED errc lexer_next(struct lexer *l, struct token *ret_token, struct err *e);
/* Fail at the token being read. */
errc lexer_fail(const struct lexer *l, struct err *e, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* The next byte, or -1. */
int lexer_peek(const struct lexer *l);
bool lexer_accept(struct lexer *l, const char *set);
WARN_UNUSED errc lexer_number(struct lexer *l, struct token *ret_token, struct err *e);
bool is_alpha(int c);
bool is_alphanumeric(int c);

/* ---- promql_literal.c */

/* C (after a backslash) is in order and how long the whole escape is. */
WARN_UNUSED errc lexer_escape(struct lexer *l, char quote, struct err *e);
WARN_UNUSED errc literal_unquote(struct parser *p, str quoted, str *ret);
/* Seconds of a TOKEN_NUMBER or TOKEN_DURATION. */
WARN_UNUSED errc literal_number(struct parser *p, const struct token *token, double *ret);

/* ---- promql_parse.c */

/* Fail at the byte POS of the text. */
errc parser_fail(struct parser *p, size_t pos, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Fail because of the present token; CONTEXT and EXPECTED may be NULL. */
errc parser_unexpected(struct parser *p, const char *context, const char *expected);
WARN_UNUSED errc parser_next(struct parser *p);
/* Take a token of KIND, or fail as parser_unexpected(). */
WARN_UNUSED errc parser_expect(struct parser *p, enum token_kind kind, const char *context,
			       const char *expected);
size_t token_pos(const struct parser *p);
bool token_is_operator(const struct parser *p, enum promql_operator op);
/* Whether the byte behind the present token, blanks and comments aside, is `(`. */
bool parser_paren_follows(const struct parser *p);
/* A node ending at the token before the present one. */
WARN_UNUSED errc parser_node(struct parser *p, enum promql_kind kind, enum promql_type type,
			     size_t start, struct promql_expr **ret);
/* DEPTH for a node above one of that depth. */
WARN_UNUSED errc parser_depth(struct parser *p, size_t pos, int below, int *ret_depth);
WARN_UNUSED errc parser_memory(struct parser *p);
/* Room in *ITEMS for one more of SIZE bytes. */
WARN_UNUSED errc parser_grow(struct parser *p, void **items, size_t count, size_t *room,
			     size_t size);
WARN_UNUSED errc parse_expr(struct parser *p, int precedence_min, struct promql_expr **ret);

/* ---- promql_parse_call.c */

WARN_UNUSED errc parse_aggregate(struct parser *p, struct promql_expr **ret);
WARN_UNUSED errc parse_call(struct parser *p, struct promql_expr **ret);
WARN_UNUSED errc parse_labels(struct parser *p, struct promql_labels *ret);
/* What may follow a binary operator. */
WARN_UNUSED errc parse_matching(struct parser *p, struct promql_matching *m, bool *ret_is_bool);

/* ---- promql_parse_selector.c */

WARN_UNUSED errc parse_vector(struct parser *p, struct promql_expr **ret);
/* Every `[…]`, offset, @, anchored and smoothed that follows *EXPR. */
WARN_UNUSED errc parse_modifiers(struct parser *p, struct promql_expr **expr);

/* ---- promql_parse_duration.c */

/* Within brackets; must be positive where that can be told. RET_EXPR is NULL when RET_MS holds. */
WARN_UNUSED errc parse_range_duration(struct parser *p, int64_t *ret_ms,
				      const struct promql_duration **ret_expr);
WARN_UNUSED errc parse_offset_duration(struct parser *p, int64_t *ret_ms,
				       const struct promql_duration **ret_expr);

/* ---- promql_check.c */

WARN_UNUSED errc check_expr(struct parser *p, struct promql_expr *expr);

/* ---- promql_print.c, for promql_format.c */

void print_aggregation_head(struct buf *into, const struct promql_expr *expr);
void print_operator(struct buf *into, const struct promql_expr *expr);
void print_subquery_suffix(struct buf *into, const struct promql_expr *expr);
