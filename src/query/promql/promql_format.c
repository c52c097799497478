/* What is longer than a line is split and indented, part by part. */
#include "query/promql/promql_internal.h"

enum { LINE_MAX_BYTES = 100 };

static void format(struct buf *into, const struct promql_expr *expr, int level);

static void indent(struct buf *into, int level)
{
	for (int i = 0; i < level; i++)
		buf_add_c(into, "  ");
}

static bool needs_split(const struct promql_expr *expr)
{
	struct buf line = buf_init(LINE_MAX_BYTES);
	promql_print(&line, expr);
	bool longer = line.overflow;
	buf_done(&line);
	return longer;
}

static void format_aggregate(struct buf *into, const struct promql_expr *expr, int level)
{
	print_aggregation_head(into, expr);
	buf_add_c(into, "(\n");
	if (expr->aggregate.param) {
		format(into, expr->aggregate.param, level + 1);
		buf_add_c(into, ",\n");
	}
	format(into, expr->aggregate.expr, level + 1);
	buf_add_byte(into, '\n');
	indent(into, level);
	buf_add_byte(into, ')');
}

static void format_call(struct buf *into, const struct promql_expr *expr, int level)
{
	buf_add_c(into, expr->call.function->name);
	buf_add_c(into, "(\n");
	for (size_t i = 0; i < expr->call.arg_count; i++) {
		buf_add_c(into, i ? ",\n" : "");
		format(into, expr->call.args[i], level + 1);
	}
	buf_add_byte(into, '\n');
	indent(into, level);
	buf_add_byte(into, ')');
}

/* EXPR, which starts at the present place of a line that is indented already. */
static void format_split(struct buf *into, const struct promql_expr *expr, int level)
{
	switch (expr->kind) {
	case PROMQL_AGGREGATE:
		format_aggregate(into, expr, level);
		return;
	case PROMQL_CALL:
		format_call(into, expr, level);
		return;
	case PROMQL_PAREN:
		buf_add_c(into, "(\n");
		format(into, expr->paren.expr, level + 1);
		buf_add_byte(into, '\n');
		indent(into, level);
		buf_add_byte(into, ')');
		return;
	default:
		promql_print(into, expr);
		return;
	}
}

/* EXPR on lines of its own. */
static void format(struct buf *into, const struct promql_expr *expr, int level)
{
	if (into->overflow)
		return;
	if (expr->kind == PROMQL_UNARY) {
		/* the operand's own indent would come between it and the sign */
		struct buf operand = buf_init(into->cap);
		format(&operand, expr->unary.expr, level);
		indent(into, level);
		buf_add_c(into, promql_operator_text(expr->unary.op));
		buf_add(into, str_trim(buf_str(&operand)));
		into->overflow |= operand.overflow;
		buf_done(&operand);
		return;
	}
	if (expr->kind == PROMQL_SUBQUERY && needs_split(expr)) {
		format(into, expr->subquery.expr, level);
		print_subquery_suffix(into, expr);
		return;
	}
	if (expr->kind == PROMQL_BINARY && needs_split(expr)) {
		format(into, expr->binary.lhs, level + 1);
		buf_add_byte(into, '\n');
		indent(into, level);
		print_operator(into, expr);
		buf_add_byte(into, '\n');
		format(into, expr->binary.rhs, level + 1);
		return;
	}
	indent(into, level);
	if (needs_split(expr))
		format_split(into, expr, level);
	else
		promql_print(into, expr);
}

void promql_format(struct buf *into, const struct promql_expr *expr)
{
	format(into, expr, 0);
}
