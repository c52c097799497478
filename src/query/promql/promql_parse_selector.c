/* Vector selectors, and what may follow an expression: ranges, offset, @, anchored, smoothed. */
#include <math.h>

#include "query/promql/promql_internal.h"

struct matcher_list {
	struct matcher *items;
	size_t count, room;
	bool all_empty;
};

/* Keep the condition; a regular expression is compiled once to know that it can be, and whether it
 * matches a missing label. */
static errc add_matcher(struct parser *p, struct matcher_list *list, size_t pos, struct matcher m)
{
	bool empty = m.value.len == 0;
	if (m.type == MATCH_NOT_EQUAL)
		empty = !empty;
	if (m.type == MATCH_REGEXP || m.type == MATCH_NOT_REGEXP) {
		struct matcher compiled = m;
		struct err e;
		errc rc = matcher_compile(&compiled, &e);
		if (rc != OK)
			return parser_fail(p, pos, "%s", e.message);
		empty = matcher_matches_empty(&compiled);
		matcher_done(&compiled);
	}
	list->all_empty &= empty;
	TRY(parser_grow(p, (void **)&list->items, list->count, &list->room, sizeof(m)));
	list->items[list->count++] = m;
	return OK;
}

static bool match_type(const struct token *t, enum matcher_type *ret)
{
	switch (t->kind) {
	case TOKEN_EQUAL:
		*ret = MATCH_EQUAL;
		return true;
	case TOKEN_EQL_REGEX:
		*ret = MATCH_REGEXP;
		return true;
	case TOKEN_NEQ_REGEX:
		*ret = MATCH_NOT_REGEXP;
		return true;
	default:
		*ret = MATCH_NOT_EQUAL;
		return t->kind == TOKEN_OPERATOR;
	}
}

/* `a="b"`, `"a b"=~"c"`, or the name of a metric in quotes. */
static errc parse_matcher(struct parser *p, struct matcher_list *list, str *quoted_name)
{
	bool quoted = p->token.kind == TOKEN_STRING;
	size_t pos = token_pos(p);
	struct matcher m = { 0 };
	if (quoted) {
		TRY(literal_unquote(p, p->token.text, &m.name));
	} else if (p->token.kind == TOKEN_IDENTIFIER) {
		m.name = arena_str(p->arena, p->token.text);
	} else {
		return parser_unexpected(p, "label matching", "identifier or \"}\"");
	}
	if (p->arena->overflow)
		return parser_memory(p);
	TRY(parser_next(p));
	if (!match_type(&p->token, &m.type)) {
		if (!quoted)
			return parser_unexpected(p, "label matching", "label matching operator");
		if (p->token.kind != TOKEN_COMMA && p->token.kind != TOKEN_RIGHT_BRACE)
			return parser_unexpected(p, "label matching", "\",\" or \"}\"");
		struct matcher name = { .type = MATCH_EQUAL,
					.name = STR(LABEL_METRIC_NAME),
					.value = m.name };
		*quoted_name = m.name;
		return add_matcher(p, list, pos, name);
	}
	TRY(parser_next(p));
	if (p->token.kind != TOKEN_STRING)
		return parser_unexpected(p, "label matching", "string");
	TRY(literal_unquote(p, p->token.text, &m.value));
	TRY(parser_next(p));
	return add_matcher(p, list, pos, m);
}

/* A metric named in quotes within the braces has no other name beside it. */
static errc check_quoted_name(struct parser *p, size_t pos, const struct matcher_list *list,
			      str quoted)
{
	size_t names = 0;
	for (size_t i = 0; quoted.ptr && i < list->count; i++)
		if (str_eq(list->items[i].name, STR(LABEL_METRIC_NAME)) && names++ == 1)
			return parser_fail(
				p, pos, "metric name must not be set twice: \"%.*s\" or \"%.*s\"",
				(int)(quoted.len > 200 ? 200 : quoted.len), quoted.ptr,
				(int)(list->items[i].value.len > 200 ? 200
								     : list->items[i].value.len),
				list->items[i].value.ptr);
	return OK;
}

static errc parse_matchers(struct parser *p, struct matcher_list *list)
{
	size_t pos = token_pos(p);
	str quoted = { 0 };
	TRY(parser_next(p));
	while (p->token.kind != TOKEN_RIGHT_BRACE) {
		TRY(parse_matcher(p, list, &quoted));
		if (p->token.kind == TOKEN_RIGHT_BRACE)
			break;
		TRY(parser_expect(p, TOKEN_COMMA, "label matching", "\",\" or \"}\""));
	}
	TRY(parser_next(p));
	return check_quoted_name(p, pos, list, quoted);
}

/* Words that may name a metric where an operand is expected. */
static bool is_metric_name(const struct token *t)
{
	switch (t->kind) {
	case TOKEN_IDENTIFIER:
	case TOKEN_METRIC_IDENTIFIER:
	case TOKEN_AGGREGATION:
		return true;
	case TOKEN_OPERATOR:
		return promql_operator_is_set((enum promql_operator)t->value);
	case TOKEN_ON:
	case TOKEN_IGNORING:
	case TOKEN_GROUP_LEFT:
	case TOKEN_GROUP_RIGHT:
	case TOKEN_BOOL:
		return false;
	default:
		return t->kind >= TOKEN_BY;
	}
}

errc parse_vector(struct parser *p, struct promql_expr **ret)
{
	struct matcher_list list = { .all_empty = true };
	size_t start = token_pos(p);
	struct promql_expr *node;
	str name = { 0 };
	if (is_metric_name(&p->token)) {
		name = arena_str(p->arena, p->token.text);
		if (p->arena->overflow)
			return parser_memory(p);
		TRY(parser_next(p));
	} else if (p->token.kind != TOKEN_LEFT_BRACE) {
		return parser_unexpected(p, NULL, NULL);
	}
	if (p->token.kind == TOKEN_LEFT_BRACE)
		TRY(parse_matchers(p, &list));
	if (name.len)
		TRY(add_matcher(p, &list, start,
				(struct matcher){ .type = MATCH_EQUAL,
						  .name = STR(LABEL_METRIC_NAME),
						  .value = name }));
	TRY(parser_node(p, PROMQL_VECTOR, PROMQL_TYPE_VECTOR, start, &node));
	node->vector.name = name;
	node->vector.matchers = list.items;
	node->vector.matcher_count = list.count;
	node->vector.all_empty = list.all_empty;
	*ret = node;
	return OK;
}

/* ---- Modifiers. */

static struct promql_time *time_of(struct promql_expr *expr)
{
	switch (expr->kind) {
	case PROMQL_VECTOR:
		return &expr->vector.time;
	case PROMQL_MATRIX:
		return &expr->matrix.selector->vector.time;
	case PROMQL_SUBQUERY:
		return &expr->subquery.time;
	default:
		return NULL;
	}
}

static errc fail_place(struct parser *p, const struct promql_expr *expr, const char *modifier)
{
	return parser_fail(p, expr->start,
			   "%s modifier must be preceded by an instant vector selector or range "
			   "vector selector or a subquery",
			   modifier);
}

static errc parse_offset(struct parser *p, struct promql_expr *expr)
{
	struct promql_time *time = time_of(expr), written = { 0 };
	TRY(parser_next(p));
	TRY(parse_offset_duration(p, &written.offset_ms, &written.offset_expr));
	if (!time)
		return fail_place(p, expr, "offset");
	if (time->offset_ms || time->offset_expr)
		return parser_fail(p, expr->start, "offset may not be set multiple times");
	time->offset_ms = written.offset_ms;
	time->offset_expr = written.offset_expr;
	expr->end = (uint32_t)p->previous_end;
	return OK;
}

static errc parse_at_time(struct parser *p, struct promql_expr *expr, int64_t *ret_ms)
{
	double sign = 1, seconds = 0;
	if (token_is_operator(p, PROMQL_ADD) || token_is_operator(p, PROMQL_SUB)) {
		sign = token_is_operator(p, PROMQL_SUB) ? -1 : 1;
		TRY(parser_next(p));
	}
	if (p->token.kind != TOKEN_NUMBER && p->token.kind != TOKEN_DURATION)
		return parser_unexpected(p, "@", "timestamp");
	TRY(literal_number(p, &p->token, &seconds));
	seconds *= sign;
	/* milliseconds must fit too, which excludes infinities and NaN */
	if (!(fabs(seconds) < (double)INT64_MAX / 1000))
		return parser_fail(p, expr->start, "timestamp out of bounds for @ modifier: %f",
				   seconds);
	*ret_ms = (int64_t)round(seconds * 1000);
	return parser_next(p);
}

static errc parse_at(struct parser *p, struct promql_expr *expr)
{
	struct promql_time *time = time_of(expr);
	enum promql_at at = PROMQL_AT_TIME;
	int64_t ms = 0;
	TRY(parser_next(p));
	if (p->token.kind == TOKEN_START || p->token.kind == TOKEN_END) {
		at = p->token.kind == TOKEN_START ? PROMQL_AT_START : PROMQL_AT_END;
		TRY(parser_next(p));
		TRY(parser_expect(p, TOKEN_LEFT_PAREN, "@", "timestamp"));
		TRY(parser_expect(p, TOKEN_RIGHT_PAREN, "@", "timestamp"));
	} else {
		TRY(parse_at_time(p, expr, &ms));
	}
	if (!time)
		return fail_place(p, expr, "@");
	if (time->at != PROMQL_AT_NONE)
		return parser_fail(p, expr->start, "@ <timestamp> may not be set multiple times");
	time->at = at;
	time->at_ms = ms;
	expr->end = (uint32_t)p->previous_end;
	return OK;
}

static errc parse_extended(struct parser *p, struct promql_expr *expr)
{
	bool anchored = p->token.kind == TOKEN_ANCHORED;
	const char *name = anchored ? "anchored" : "smoothed";
	struct promql_expr *selector = expr->kind == PROMQL_MATRIX ? expr->matrix.selector : expr;
	TRY(parser_next(p));
	if (!p->options->extended_range_selectors)
		return parser_fail(p, expr->start, "%s modifier is experimental and not enabled",
				   name);
	if (selector->kind != PROMQL_VECTOR)
		return parser_fail(p, expr->start, "%s modifier not implemented", name);
	selector->vector.anchored |= anchored;
	selector->vector.smoothed |= !anchored;
	if (selector->vector.anchored && selector->vector.smoothed)
		return parser_fail(p, expr->start,
				   "anchored and smoothed modifiers cannot be used together");
	expr->end = (uint32_t)p->previous_end;
	return OK;
}

/* `[5m]` around *EXPR; the bracket at OPEN is read, its end is the present token. */
static errc make_matrix(struct parser *p, size_t open, int64_t range_ms,
			const struct promql_duration *range_expr, struct promql_expr **expr)
{
	struct promql_expr *selector = *expr, *node;
	const struct promql_time *time = &selector->vector.time;
	TRY(parser_next(p));
	if (selector->kind != PROMQL_VECTOR)
		return parser_fail(p, open, "ranges only allowed for vector selectors");
	if (time->offset_ms || time->offset_expr)
		return parser_fail(p, open, "no offset modifiers allowed before range");
	if (time->at != PROMQL_AT_NONE)
		return parser_fail(p, open, "no @ modifiers allowed before range");
	TRY(parser_node(p, PROMQL_MATRIX, PROMQL_TYPE_MATRIX, selector->start, &node));
	TRY(parser_depth(p, open, selector->depth, &node->depth));
	node->matrix.selector = selector;
	node->matrix.range_ms = range_ms;
	node->matrix.range_expr = range_expr;
	*expr = node;
	return OK;
}

/* `[5m]`, `[5m:]`, `[5m:1m]` */
static errc parse_range(struct parser *p, struct promql_expr **expr)
{
	size_t open = token_pos(p);
	struct promql_subquery written = { .expr = *expr };
	struct promql_expr *node;
	TRY(parser_next(p));
	TRY(parse_range_duration(p, &written.range_ms, &written.range_expr));
	if (p->token.kind == TOKEN_RIGHT_BRACKET)
		return make_matrix(p, open, written.range_ms, written.range_expr, expr);
	TRY(parser_expect(p, TOKEN_COLON, "subquery or range", "\":\" or \"]\""));
	if (p->token.kind != TOKEN_RIGHT_BRACKET) {
		TRY(parse_range_duration(p, &written.step_ms, &written.step_expr));
		if (p->token.kind != TOKEN_RIGHT_BRACKET)
			return parser_unexpected(p, "subquery selector", "\"]\"");
	}
	TRY(parser_next(p));
	TRY(parser_node(p, PROMQL_SUBQUERY, PROMQL_TYPE_MATRIX, (*expr)->start, &node));
	TRY(parser_depth(p, open, (*expr)->depth, &node->depth));
	node->subquery = written;
	*expr = node;
	return OK;
}

errc parse_modifiers(struct parser *p, struct promql_expr **expr)
{
	for (;;) {
		switch (p->token.kind) {
		case TOKEN_LEFT_BRACKET:
			TRY(parse_range(p, expr));
			break;
		case TOKEN_OFFSET:
			TRY(parse_offset(p, *expr));
			break;
		case TOKEN_AT:
			TRY(parse_at(p, *expr));
			break;
		case TOKEN_ANCHORED:
		case TOKEN_SMOOTHED:
			TRY(parse_extended(p, *expr));
			break;
		default:
			return OK;
		}
	}
}
