/* Aggregations, calls, and what stands between a binary operator and its right side. */
#include "query/promql/promql_internal.h"

/* One label of a grouping: any word, keywords too, or a string. */
static errc parse_label(struct parser *p, str *ret)
{
	bool quoted = p->token.kind == TOKEN_STRING;
	if (quoted) {
		TRY(literal_unquote(p, p->token.text, ret));
		if (!ret->len)
			return parser_fail(p, token_pos(p),
					   "invalid label name for grouping: \"\"");
		return parser_next(p);
	}
	if (!is_alpha(p->token.text.len ? p->token.text.ptr[0] : 0) ||
	    p->token.kind == TOKEN_NUMBER)
		return parser_unexpected(p, "grouping opts", "label");
	*ret = arena_str(p->arena, p->token.text);
	if (p->arena->overflow)
		return parser_memory(p);
	return parser_next(p);
}

errc parse_labels(struct parser *p, struct promql_labels *ret)
{
	str *items = NULL;
	size_t count = 0, room = 0;
	TRY(parser_expect(p, TOKEN_LEFT_PAREN, "grouping opts", "\"(\""));
	while (p->token.kind != TOKEN_RIGHT_PAREN) {
		TRY(parser_grow(p, (void **)&items, count, &room, sizeof(*items)));
		TRY(parse_label(p, &items[count++]));
		if (p->token.kind == TOKEN_RIGHT_PAREN)
			break;
		TRY(parser_expect(p, TOKEN_COMMA, "grouping opts", "\",\" or \")\""));
	}
	TRY(parser_next(p));
	*ret = (struct promql_labels){ items, count };
	return OK;
}

/* `(`, expressions, `)` */
static errc parse_args(struct parser *p, struct promql_expr ***ret_args, size_t *ret_count,
		       int *ret_depth)
{
	struct promql_expr **args = NULL;
	size_t count = 0, room = 0;
	int depth = 0;
	TRY(parser_expect(p, TOKEN_LEFT_PAREN, NULL, NULL));
	while (p->token.kind != TOKEN_RIGHT_PAREN) {
		size_t comma = token_pos(p);
		if (count) {
			TRY(parser_expect(p, TOKEN_COMMA, NULL, NULL));
			if (p->token.kind == TOKEN_RIGHT_PAREN)
				return parser_fail(
					p, comma,
					"trailing commas not allowed in function call args");
		}
		TRY(parser_grow(p, (void **)&args, count, &room, sizeof(struct promql_expr *)));
		TRY(parse_expr(p, 0, &args[count]));
		if (args[count]->depth > depth)
			depth = args[count]->depth;
		count++;
	}
	TRY(parser_next(p));
	*ret_args = args;
	*ret_count = count;
	*ret_depth = depth;
	return OK;
}

errc parse_call(struct parser *p, struct promql_expr **ret)
{
	str name = p->token.text;
	size_t start = token_pos(p), count = 0;
	struct promql_expr *node, **args = NULL;
	int depth = 0;
	TRY(parser_next(p));
	TRY(parse_args(p, &args, &count, &depth));
	const struct promql_function *function = promql_function_find(name);
	if (!function)
		return parser_fail(p, start, "unknown function with name \"%.*s\"",
				   (int)(name.len > 200 ? 200 : name.len), name.ptr);
	if (function->experimental && !p->options->experimental_functions)
		return parser_fail(p, start, "function \"%s\" is not enabled", function->name);
	TRY(parser_node(p, PROMQL_CALL, function->return_type, start, &node));
	TRY(parser_depth(p, start, depth, &node->depth));
	node->call.function = function;
	node->call.args = args;
	node->call.arg_count = count;
	*ret = node;
	return OK;
}

/* `by (…)` or `without (…)`, if there is one */
static errc parse_grouping(struct parser *p, bool *ret_without, struct promql_labels *ret)
{
	if (p->token.kind != TOKEN_BY && p->token.kind != TOKEN_WITHOUT)
		return OK;
	*ret_without = p->token.kind == TOKEN_WITHOUT;
	TRY(parser_next(p));
	return parse_labels(p, ret);
}

errc parse_aggregate(struct parser *p, struct promql_expr **ret)
{
	struct token op = p->token;
	enum promql_aggregation aggregation = (enum promql_aggregation)op.value;
	size_t start = token_pos(p), count = 0, wanted;
	struct promql_expr *node, **args = NULL;
	struct promql_labels grouping = { 0 };
	bool without = false, grouped;
	int depth = 0;
	struct lexer ahead = p->lexer;
	struct token next;
	/* `sum` alone is a metric's name */
	if (lexer_next(&ahead, &next, NULL) != OK ||
	    (next.kind != TOKEN_LEFT_PAREN && next.kind != TOKEN_BY && next.kind != TOKEN_WITHOUT))
		return parse_vector(p, ret);
	TRY(parser_next(p));
	grouped = p->token.kind != TOKEN_LEFT_PAREN;
	TRY(parse_grouping(p, &without, &grouping));
	if (p->token.kind != TOKEN_LEFT_PAREN)
		return parser_unexpected(p, "aggregation", NULL);
	TRY(parse_args(p, &args, &count, &depth));
	if (!grouped)
		TRY(parse_grouping(p, &without, &grouping));

	if (!count)
		return parser_fail(p, start, "no arguments for aggregate expression provided");
	if (promql_aggregation_is_experimental(aggregation) && !p->options->experimental_functions)
		return parser_fail(p, start,
				   "%.*s() is experimental and must be enabled with "
				   "--enable-feature=promql-experimental-functions",
				   STR_ARG(op.text));
	wanted = promql_aggregation_has_parameter(aggregation) ? 2 : 1;
	if (count != wanted)
		return parser_fail(p, start,
				   "wrong number of arguments for aggregate expression provided, "
				   "expected %zu, got %zu",
				   wanted, count);
	TRY(parser_node(p, PROMQL_AGGREGATE, PROMQL_TYPE_VECTOR, start, &node));
	TRY(parser_depth(p, start, depth, &node->depth));
	node->aggregate.op = aggregation;
	node->aggregate.without = without;
	node->aggregate.grouping = grouping;
	node->aggregate.expr = args[wanted - 1];
	node->aggregate.param = wanted == 2 ? args[0] : NULL;
	*ret = node;
	return OK;
}

/* `(0)`, `(-1.5)` behind fill, fill_left or fill_right. */
static errc parse_fill_value(struct parser *p, double *ret)
{
	size_t pos = token_pos(p);
	bool negative = false;
	TRY(parser_next(p));
	if (!p->options->fill_modifiers)
		return parser_fail(p, pos, "binop fill modifiers are experimental and not enabled");
	TRY(parser_expect(p, TOKEN_LEFT_PAREN, NULL, NULL));
	if (token_is_operator(p, PROMQL_ADD) || token_is_operator(p, PROMQL_SUB)) {
		negative = token_is_operator(p, PROMQL_SUB);
		TRY(parser_next(p));
	}
	if (p->token.kind != TOKEN_NUMBER && p->token.kind != TOKEN_DURATION)
		return parser_unexpected(p, NULL, NULL);
	TRY(literal_number(p, &p->token, ret));
	if (negative)
		*ret = -*ret;
	TRY(parser_next(p));
	return parser_expect(p, TOKEN_RIGHT_PAREN, NULL, NULL);
}

/* `fill (0)`, or fill_left and fill_right in either order. Without a parenthesis it is a metric. */
static errc parse_fill(struct parser *p, struct promql_matching *m)
{
	while (p->token.kind >= TOKEN_FILL && p->token.kind <= TOKEN_FILL_RIGHT &&
	       parser_paren_follows(p)) {
		enum token_kind kind = p->token.kind;
		bool left = kind != TOKEN_FILL_RIGHT, right = kind != TOKEN_FILL_LEFT;
		double value = 0;
		if ((left && m->has_fill_left) || (right && m->has_fill_right))
			return parser_unexpected(p, NULL, NULL);
		TRY(parse_fill_value(p, &value));
		if (left) {
			m->has_fill_left = true;
			m->fill_left = value;
		}
		if (right) {
			m->has_fill_right = true;
			m->fill_right = value;
		}
	}
	return OK;
}

errc parse_matching(struct parser *p, struct promql_matching *m, bool *ret_is_bool)
{
	*ret_is_bool = p->token.kind == TOKEN_BOOL;
	if (*ret_is_bool)
		TRY(parser_next(p));
	if (p->token.kind == TOKEN_ON || p->token.kind == TOKEN_IGNORING) {
		m->on = p->token.kind == TOKEN_ON;
		TRY(parser_next(p));
		TRY(parse_labels(p, &m->labels));
		if (p->token.kind == TOKEN_GROUP_LEFT || p->token.kind == TOKEN_GROUP_RIGHT) {
			m->card = p->token.kind == TOKEN_GROUP_LEFT ? PROMQL_MANY_TO_ONE
								    : PROMQL_ONE_TO_MANY;
			TRY(parser_next(p));
			if (p->token.kind == TOKEN_LEFT_PAREN)
				TRY(parse_labels(p, &m->include));
		}
	}
	return parse_fill(p, m);
}
