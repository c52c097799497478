#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/checks.h"
#include "query/promql/promql_internal.h"

static const struct {
	const char *text;
	int precedence;
	bool right;
} operators[] = {
#define X(token, text, precedence, right) [token] = { text, precedence, right },
	PROMQL_OPERATORS(X)
#undef X
};

static const struct {
	const char *text;
	bool parameter, experimental;
} aggregations[] = {
#define X(token, text, parameter, experimental) [token] = { text, parameter, experimental },
	PROMQL_AGGREGATIONS(X)
#undef X
};

const char *promql_operator_text(enum promql_operator op)
{
	must(op > PROMQL_NO_OPERATOR && (size_t)op < ARRAY_COUNT(operators));
	return operators[op].text;
}

bool promql_operator_is_comparison(enum promql_operator op)
{
	return op >= PROMQL_EQL && op <= PROMQL_GTR;
}

bool promql_operator_is_set(enum promql_operator op)
{
	return op >= PROMQL_OR && op <= PROMQL_UNLESS;
}

const char *promql_aggregation_text(enum promql_aggregation op)
{
	must((size_t)op < ARRAY_COUNT(aggregations));
	return aggregations[op].text;
}

bool promql_aggregation_has_parameter(enum promql_aggregation op)
{
	must((size_t)op < ARRAY_COUNT(aggregations));
	return aggregations[op].parameter;
}

bool promql_aggregation_is_experimental(enum promql_aggregation op)
{
	must((size_t)op < ARRAY_COUNT(aggregations));
	return aggregations[op].experimental;
}

const struct promql_expr *promql_unwrap(const struct promql_expr *expr)
{
	while (expr->kind == PROMQL_PAREN)
		expr = expr->paren.expr;
	return expr;
}

void promql_line_column(str text, size_t pos, unsigned *ret_line, unsigned *ret_column)
{
	unsigned line = 1, column = 1;
	for (size_t i = 0; i < pos && i < text.len; i++) {
		column++;
		if (text.ptr[i] == '\n') {
			line++;
			column = 1;
		}
	}
	*ret_line = line;
	*ret_column = column;
}

/* ---- Failing. */

errc parser_fail(struct parser *p, size_t pos, const char *fmt, ...)
{
	unsigned line, column;
	char message[1024];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	if (!p->lexer.text.len)
		FAIL(p->e, ERR_INVALID, "unknown position: parse error: %s", message);
	promql_line_column(p->lexer.text, pos, &line, &column);
	FAIL(p->e, ERR_INVALID, "%u:%u: parse error: %s", line, column, message);
}

errc parser_memory(struct parser *p)
{
	FAIL(p->e, ERR_LIMIT,
	     "the expression does not fit into %zu bytes of memory; make it shorter or raise the "
	     "query's memory limit",
	     p->arena->cap);
}

/* The present token as messages name it. */
static void describe_token(const struct parser *p, struct buf *into)
{
	const struct token *t = &p->token;
	static const char *const kinds[] = {
		[TOKEN_IDENTIFIER] = "identifier ",
		[TOKEN_METRIC_IDENTIFIER] = "metric identifier ",
		[TOKEN_STRING] = "string ",
		[TOKEN_NUMBER] = "number ",
		[TOKEN_DURATION] = "duration ",
	};
	str text = t->text;
	if (t->kind == TOKEN_EOF) {
		buf_add_c(into, "end of input");
	} else if (t->kind == TOKEN_AGGREGATION) {
		buf_printf(into, "<aggr:%.*s>", STR_ARG(text));
	} else if (t->kind == TOKEN_OPERATOR || t->kind == TOKEN_AT || t->kind == TOKEN_EQL_REGEX ||
		   t->kind == TOKEN_NEQ_REGEX) {
		buf_printf(into, "<op:%.*s>", STR_ARG(text));
	} else if (t->kind >= TOKEN_BY && t->kind < TOKEN_START) {
		buf_printf(into, "<%.*s>", STR_ARG(text));
	} else {
		bool cut = t->kind != TOKEN_IDENTIFIER && t->kind != TOKEN_METRIC_IDENTIFIER;
		size_t runes = 0, len = 0;
		for (; len < text.len; len++) /* the first ten characters */
			if (((unsigned char)text.ptr[len] & 0xc0) != 0x80 && cut && runes++ == 10)
				break;
		if (t->kind < ARRAY_COUNT(kinds) && kinds[t->kind])
			buf_add_c(into, kinds[t->kind]);
		if (len > 200)
			len = 200;
		promql_print_string(into,
				    (str){ text.ptr, cut && text.len <= 10 ? text.len : len });
		buf_add_c(into, cut && text.len > 10 ? "..." : "");
	}
}

errc parser_unexpected(struct parser *p, const char *context, const char *expected)
{
	struct buf text = buf_init(4096);
	describe_token(p, &text);
	if (context)
		buf_printf(&text, " in %s", context);
	if (expected)
		buf_printf(&text, ", expected %s", expected);
	errc rc = parser_fail(p, token_pos(p), "unexpected %s", buf_cstr(&text));
	buf_done(&text);
	return rc;
}

/* ---- Tokens. */

size_t token_pos(const struct parser *p)
{
	return (size_t)(p->token.text.ptr - p->lexer.text.ptr);
}

bool token_is_operator(const struct parser *p, enum promql_operator op)
{
	return p->token.kind == TOKEN_OPERATOR && p->token.value == (int)op;
}

errc parser_next(struct parser *p)
{
	p->previous_end = p->lexer.pos;
	return lexer_next(&p->lexer, &p->token, p->e);
}

errc parser_expect(struct parser *p, enum token_kind kind, const char *context,
		   const char *expected)
{
	if (p->token.kind != kind)
		return parser_unexpected(p, context, expected);
	return parser_next(p);
}

bool parser_paren_follows(const struct parser *p)
{
	struct lexer ahead = p->lexer;
	struct token token;
	return lexer_next(&ahead, &token, NULL) == OK && token.kind == TOKEN_LEFT_PAREN;
}

/* ---- Nodes. */

errc parser_depth(struct parser *p, size_t pos, int below, int *ret_depth)
{
	unsigned line, column;
	if (below < PROMQL_DEPTH_MAX) {
		*ret_depth = below + 1;
		return OK;
	}
	promql_line_column(p->lexer.text, pos, &line, &column);
	FAIL(p->e, ERR_LIMIT,
	     "%u:%u: parse error: the expression is nested more than %d levels deep; split it into "
	     "several queries or use regular expressions instead of chains of operators",
	     line, column, PROMQL_DEPTH_MAX);
}

errc parser_node(struct parser *p, enum promql_kind kind, enum promql_type type, size_t start,
		 struct promql_expr **ret)
{
	struct promql_expr *node = arena_alloc(p->arena, sizeof(*node));
	if (!node)
		return parser_memory(p);
	node->kind = kind;
	node->type = type;
	node->depth = 1;
	node->start = (uint32_t)start;
	node->end = (uint32_t)p->previous_end;
	*ret = node;
	return OK;
}

errc parser_grow(struct parser *p, void **items, size_t count, size_t *room, size_t size)
{
	if (count < *room)
		return OK;
	size_t more = *room ? *room * 2 : 4;
	void *moved = arena_array(p->arena, more, size);
	if (!moved)
		return parser_memory(p);
	if (count)
		memcpy(moved, *items, count * size);
	*items = moved;
	*room = more;
	return OK;
}

/* ---- Expressions. */

static errc parse_number(struct parser *p, struct promql_expr **ret)
{
	struct token token = p->token;
	size_t start = token_pos(p);
	struct promql_expr *node;
	double value = 0;
	TRY(literal_number(p, &token, &value));
	TRY(parser_next(p));
	TRY(parser_node(p, PROMQL_NUMBER, PROMQL_TYPE_SCALAR, start, &node));
	node->number.value = value;
	node->number.is_duration = token.kind == TOKEN_DURATION;
	*ret = node;
	return OK;
}

static errc parse_string(struct parser *p, struct promql_expr **ret)
{
	size_t start = token_pos(p);
	struct promql_expr *node;
	str value = { 0 };
	TRY(literal_unquote(p, p->token.text, &value));
	TRY(parser_next(p));
	TRY(parser_node(p, PROMQL_STRING, PROMQL_TYPE_STRING, start, &node));
	node->string.value = value;
	*ret = node;
	return OK;
}

static errc parse_paren(struct parser *p, struct promql_expr **ret)
{
	size_t start = token_pos(p);
	struct promql_expr *inner = NULL, *node;
	TRY(parser_next(p));
	TRY(parse_expr(p, 0, &inner));
	TRY(parser_expect(p, TOKEN_RIGHT_PAREN, NULL, NULL));
	TRY(parser_node(p, PROMQL_PAREN, inner->type, start, &node));
	TRY(parser_depth(p, start, inner->depth, &node->depth));
	node->paren.expr = inner;
	*ret = node;
	return OK;
}

static bool is_function_word(const struct parser *p)
{
	return p->token.kind == TOKEN_IDENTIFIER || p->token.kind >= TOKEN_START;
}

static errc parse_primary(struct parser *p, struct promql_expr **ret)
{
	switch (p->token.kind) {
	case TOKEN_NUMBER:
	case TOKEN_DURATION:
		return parse_number(p, ret);
	case TOKEN_STRING:
		return parse_string(p, ret);
	case TOKEN_LEFT_PAREN:
		return parse_paren(p, ret);
	case TOKEN_AGGREGATION:
		return parse_aggregate(p, ret);
	default:
		if (is_function_word(p) && parser_paren_follows(p))
			return parse_call(p, ret);
		return parse_vector(p, ret);
	}
}

/* A sign binds less than ^ and everything that follows an operand: -1^2 is -(1^2). The sign of a
 * number literal becomes part of it. */
static errc parse_signed(struct parser *p, struct promql_expr **ret)
{
	if (!token_is_operator(p, PROMQL_ADD) && !token_is_operator(p, PROMQL_SUB)) {
		TRY(parse_primary(p, ret));
		return parse_modifiers(p, ret);
	}
	enum promql_operator op = (enum promql_operator)p->token.value;
	size_t start = token_pos(p);
	struct promql_expr *inner = NULL, *node;
	TRY(parser_next(p));
	TRY(parse_expr(p, operators[PROMQL_POW].precedence, &inner));
	if (inner->kind == PROMQL_NUMBER) {
		if (op == PROMQL_SUB)
			inner->number.value = -inner->number.value;
		inner->start = (uint32_t)start;
		*ret = inner;
		return OK;
	}
	TRY(parser_node(p, PROMQL_UNARY, inner->type, start, &node));
	TRY(parser_depth(p, start, inner->depth, &node->depth));
	node->unary.op = op;
	node->unary.expr = inner;
	*ret = node;
	return OK;
}

/* The operator at the present token and its right side behind *LHS. */
static errc parse_binary(struct parser *p, struct promql_expr **lhs)
{
	enum promql_operator op = (enum promql_operator)p->token.value;
	size_t pos = token_pos(p);
	struct promql_expr *rhs = NULL, *node;
	struct promql_matching *matching = arena_alloc(p->arena, sizeof(*matching));
	bool is_bool = false;
	if (!matching)
		return parser_memory(p);
	TRY(parser_next(p));
	TRY(parse_matching(p, matching, &is_bool));
	TRY(parse_expr(p, operators[op].precedence + !operators[op].right, &rhs));
	bool scalars = (*lhs)->type == PROMQL_TYPE_SCALAR && rhs->type == PROMQL_TYPE_SCALAR;
	TRY(parser_node(p, PROMQL_BINARY, scalars ? PROMQL_TYPE_SCALAR : PROMQL_TYPE_VECTOR,
			(*lhs)->start, &node));
	TRY(parser_depth(p, pos, (*lhs)->depth > rhs->depth ? (*lhs)->depth : rhs->depth,
			 &node->depth));
	node->binary.op = op;
	node->binary.is_bool = is_bool;
	node->binary.lhs = *lhs;
	node->binary.rhs = rhs;
	node->binary.matching = matching;
	*lhs = node;
	return OK;
}

errc parse_expr(struct parser *p, int precedence_min, struct promql_expr **ret)
{
	struct promql_expr *lhs = NULL;
	TRY(parser_depth(p, token_pos(p), p->nesting, &p->nesting));
	TRY(parse_signed(p, &lhs));
	while (p->token.kind == TOKEN_OPERATOR &&
	       operators[p->token.value].precedence >= precedence_min)
		TRY(parse_binary(p, &lhs));
	p->nesting--;
	*ret = lhs;
	return OK;
}

/* ---- Entry. */

static const struct promql_options nothing_experimental;

static errc parser_begin(struct parser *p, str text, const struct promql_options *options,
			 struct arena *arena, struct err *e)
{
	if (text.len > PROMQL_TEXT_MAX)
		FAIL(e, ERR_LIMIT,
		     "the expression has %zu bytes, more than the %d allowed; split it", text.len,
		     PROMQL_TEXT_MAX);
	*p = (struct parser){
		.lexer = { .text = text.len ? text : STR("") },
		.options = options ? options : &nothing_experimental,
		.arena = arena,
		.e = e,
	};
	return parser_next(p);
}

errc promql_parse(str text, const struct promql_options *options, struct arena *arena,
		  struct promql_expr **ret, struct err *e)
{
	struct parser p;
	struct promql_expr *expr = NULL;
	TRY(parser_begin(&p, text, options, arena, e));
	if (p.token.kind == TOKEN_EOF)
		return parser_fail(&p, 0, "no expression found in input");
	TRY(parse_expr(&p, 0, &expr));
	if (p.token.kind != TOKEN_EOF)
		return parser_unexpected(&p, NULL, NULL);
	TRY(check_expr(&p, expr));
	*ret = expr;
	return OK;
}

errc promql_parse_selector(str text, struct arena *arena, struct promql_vector *ret, struct err *e)
{
	struct parser p;
	struct promql_expr *expr = NULL;
	TRY(parser_begin(&p, text, NULL, arena, e));
	TRY(parse_vector(&p, &expr));
	if (p.token.kind != TOKEN_EOF)
		return parser_unexpected(&p, NULL, NULL);
	if (expr->vector.all_empty)
		FAIL(e, ERR_INVALID,
		     "match[] must contain at least one non-empty matcher: the selector %.*s "
		     "selects "
		     "every series; name a metric or a label value",
		     (int)(text.len > 200 ? 200 : text.len), text.ptr);
	*ret = expr->vector;
	return OK;
}
