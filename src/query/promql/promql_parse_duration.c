/* Durations between brackets and behind `offset`: literals, or arithmetic over them. */
#include <math.h>

#include "query/promql/promql_internal.h"

#define EXPECTED "number, duration, step(), or range()"
/* What Go's nanoseconds hold. */
#define SECONDS_MAX 9223372036.0

static errc parse_sum(struct parser *p, int precedence_min, const char *context,
		      struct promql_duration **ret);

static errc new_node(struct parser *p, enum promql_duration_kind kind, size_t start,
		     struct promql_duration **ret)
{
	struct promql_duration *node = arena_alloc(p->arena, sizeof(*node));
	if (!node)
		return parser_memory(p);
	node->kind = kind;
	node->depth = 1;
	node->start = (uint32_t)start;
	node->end = (uint32_t)p->previous_end;
	*ret = node;
	return OK;
}

static errc set_children(struct parser *p, struct promql_duration *node,
			 struct promql_duration *lhs, struct promql_duration *rhs)
{
	int depth = lhs && lhs->depth > rhs->depth ? lhs->depth : rhs->depth;
	node->lhs = lhs;
	node->rhs = rhs;
	node->end = (uint32_t)p->previous_end;
	return parser_depth(p, node->start, depth, &node->depth);
}

/* Whatever is more than a literal. */
static errc need_enabled(struct parser *p, size_t pos)
{
	if (p->options->no_duration_expressions)
		return parser_fail(p, pos, "experimental duration expression is not enabled");
	return OK;
}

static errc check_size(struct parser *p, const struct promql_duration *d)
{
	if (d->kind == PROMQL_DURATION_NUMBER && !(fabs(d->seconds) <= SECONDS_MAX))
		return parser_fail(p, d->start, "duration out of range");
	return OK;
}

static errc parse_literal(struct parser *p, struct promql_duration **ret)
{
	struct token token = p->token;
	size_t start = token_pos(p);
	struct promql_duration *node = NULL;
	double seconds = 0;
	TRY(literal_number(p, &token, &seconds));
	TRY(parser_next(p));
	TRY(new_node(p, PROMQL_DURATION_NUMBER, start, &node));
	node->seconds = seconds;
	node->as_written = token.kind == TOKEN_DURATION;
	TRY(check_size(p, node));
	*ret = node;
	return OK;
}

/* `step()`, `range()`, `min_of(a, b)`, `max_of(a, b)` */
static errc parse_word(struct parser *p, const char *context, struct promql_duration **ret)
{
	enum token_kind word = p->token.kind;
	size_t start = token_pos(p);
	struct promql_duration *node = NULL, *lhs = NULL, *rhs = NULL;
	TRY(parser_next(p));
	TRY(parser_expect(p, TOKEN_LEFT_PAREN, context, EXPECTED));
	TRY(need_enabled(p, start));
	if (word == TOKEN_STEP || word == TOKEN_RANGE) {
		TRY(parser_expect(p, TOKEN_RIGHT_PAREN, context, EXPECTED));
		return new_node(p,
				word == TOKEN_STEP ? PROMQL_DURATION_STEP : PROMQL_DURATION_RANGE,
				start, ret);
	}
	TRY(parse_sum(p, 0, context, &lhs));
	TRY(parser_expect(p, TOKEN_COMMA, context, EXPECTED));
	TRY(parse_sum(p, 0, context, &rhs));
	TRY(parser_expect(p, TOKEN_RIGHT_PAREN, context, EXPECTED));
	TRY(new_node(p, word == TOKEN_MIN_OF ? PROMQL_DURATION_MIN_OF : PROMQL_DURATION_MAX_OF,
		     start, &node));
	*ret = node;
	return set_children(p, node, lhs, rhs);
}

static errc parse_operand(struct parser *p, const char *context, struct promql_duration **ret)
{
	size_t start = token_pos(p);
	switch (p->token.kind) {
	case TOKEN_NUMBER:
	case TOKEN_DURATION:
		return parse_literal(p, ret);
	case TOKEN_STEP:
	case TOKEN_RANGE:
	case TOKEN_MIN_OF:
	case TOKEN_MAX_OF:
		return parse_word(p, context, ret);
	case TOKEN_LEFT_PAREN: {
		struct promql_duration *inner = NULL;
		TRY(parser_next(p));
		TRY(parse_sum(p, 0, context, &inner));
		TRY(need_enabled(p, start));
		TRY(parser_expect(p, TOKEN_RIGHT_PAREN, context, EXPECTED));
		inner->wrapped = true;
		inner->start = (uint32_t)start;
		inner->end = (uint32_t)p->previous_end;
		*ret = inner;
		return OK;
	}
	default:
		return parser_unexpected(p, context, EXPECTED);
	}
}

static bool take_sign(struct parser *p, bool *ret_negative)
{
	*ret_negative = token_is_operator(p, PROMQL_SUB);
	return *ret_negative || token_is_operator(p, PROMQL_ADD);
}

/* Put the sign at START before *D; that of a literal becomes part of it. */
static errc apply_sign(struct parser *p, size_t start, bool negative, struct promql_duration **d)
{
	struct promql_duration *node = NULL;
	if (!negative)
		return OK;
	if ((*d)->kind == PROMQL_DURATION_NUMBER && !(*d)->wrapped) {
		(*d)->seconds = -(*d)->seconds;
		(*d)->start = (uint32_t)start;
		return OK;
	}
	TRY(new_node(p, PROMQL_DURATION_NEGATE, start, &node));
	TRY(set_children(p, node, NULL, *d));
	*d = node;
	return OK;
}

static int precedence_of(const struct token *t)
{
	if (t->kind != TOKEN_OPERATOR)
		return -1;
	switch (t->value) {
	case PROMQL_ADD:
	case PROMQL_SUB:
		return 1;
	case PROMQL_MUL:
	case PROMQL_DIV:
	case PROMQL_MOD:
		return 2;
	case PROMQL_POW:
		return 3;
	default:
		return -1;
	}
}

static errc parse_binary(struct parser *p, const char *context, struct promql_duration **lhs)
{
	enum promql_operator op = (enum promql_operator)p->token.value;
	int precedence = precedence_of(&p->token) + (op != PROMQL_POW);
	size_t pos = token_pos(p);
	struct promql_duration *rhs = NULL, *node = NULL;
	TRY(parser_next(p));
	TRY(parse_sum(p, precedence, context, &rhs));
	TRY(need_enabled(p, (*lhs)->start));
	if ((op == PROMQL_DIV || op == PROMQL_MOD) && rhs->kind == PROMQL_DURATION_NUMBER &&
	    rhs->seconds == 0)
		return parser_fail(p, pos,
				   op == PROMQL_DIV ? "division by zero" : "modulo by zero");
	TRY(new_node(p, PROMQL_DURATION_BINARY, (*lhs)->start, &node));
	node->op = op;
	TRY(set_children(p, node, *lhs, rhs));
	*lhs = node;
	return OK;
}

/* A sign binds less than ^, as in other expressions. */
static errc parse_sum(struct parser *p, int precedence_min, const char *context,
		      struct promql_duration **ret)
{
	struct promql_duration *lhs = NULL;
	size_t start = token_pos(p);
	bool negative;
	TRY(parser_depth(p, start, p->nesting, &p->nesting));
	if (take_sign(p, &negative)) {
		TRY(parser_next(p));
		TRY(parse_sum(p, 3, context, &lhs));
		TRY(apply_sign(p, start, negative, &lhs));
	} else {
		TRY(parse_operand(p, context, &lhs));
	}
	while (precedence_of(&p->token) > 0 && precedence_of(&p->token) >= precedence_min)
		TRY(parse_binary(p, context, &lhs));
	p->nesting--;
	*ret = lhs;
	return OK;
}

/* A literal has its value now, anything else waits for promql_resolve_durations(). */
static void give(const struct promql_duration *d, int64_t *ret_ms,
		 const struct promql_duration **ret_expr)
{
	bool literal = d->kind == PROMQL_DURATION_NUMBER && !d->wrapped;
	*ret_ms = literal ? (int64_t)round(d->seconds * 1000) : 0;
	*ret_expr = literal ? NULL : d;
}

errc parse_range_duration(struct parser *p, int64_t *ret_ms,
			  const struct promql_duration **ret_expr)
{
	struct promql_duration *d = NULL;
	TRY(parse_sum(p, 0, "subquery or range selector", &d));
	if (d->kind == PROMQL_DURATION_NUMBER && d->seconds <= 0)
		return parser_fail(p, d->start, "duration must be greater than 0");
	give(d, ret_ms, ret_expr);
	return OK;
}

/* One operand with signs: `offset 1h + 2` is a sum of an offset selector and 2. */
static errc parse_offset_operand(struct parser *p, struct promql_duration **ret)
{
	size_t start = token_pos(p);
	bool negative;
	if (!take_sign(p, &negative))
		return parse_operand(p, "offset", ret);
	TRY(parser_depth(p, start, p->nesting, &p->nesting));
	TRY(parser_next(p));
	TRY(parse_offset_operand(p, ret));
	p->nesting--;
	return apply_sign(p, start, negative, ret);
}

errc parse_offset_duration(struct parser *p, int64_t *ret_ms,
			   const struct promql_duration **ret_expr)
{
	struct promql_duration *d = NULL;
	TRY(parse_offset_operand(p, &d));
	give(d, ret_ms, ret_expr);
	return OK;
}
