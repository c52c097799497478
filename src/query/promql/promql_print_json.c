/* The tree as Prometheus's parse_query gives it: keys in alphabetical order. The writer of codec
 * stops at 64 levels and a tree may have more, so nesting is written here and only single values
 * are the writer's. */
#include "base/checks.h"
#include "codec/json.h"
#include "query/promql/promql_internal.h"

static void add_string(struct buf *into, str s)
{
	struct json_writer w = json_writer_init(into, false);
	json_add_str(&w, s);
}

/* `"key":` behind a comma unless it comes first */
static void add_key(struct buf *into, const char *key)
{
	if (into->len && into->ptr[into->len - 1] != '{')
		buf_add_byte(into, ',');
	add_string(into, str_c(key));
	buf_add_byte(into, ':');
}

static void put_string(struct buf *into, const char *key, str s)
{
	add_key(into, key);
	add_string(into, s);
}

static void put_bool(struct buf *into, const char *key, bool v)
{
	add_key(into, key);
	buf_add_c(into, v ? "true" : "false");
}

static void put_integer(struct buf *into, const char *key, int64_t v)
{
	add_key(into, key);
	buf_printf(into, "%lld", (long long)v);
}

static void put_expr(struct buf *into, const char *key, const struct promql_expr *expr)
{
	add_key(into, key);
	if (expr)
		promql_print_json(into, expr);
	else
		buf_add_c(into, "null");
}

static void put_labels(struct buf *into, const char *key, const struct promql_labels *labels)
{
	add_key(into, key);
	buf_add_byte(into, '[');
	for (size_t i = 0; i < labels->count; i++) {
		buf_add_c(into, i ? "," : "");
		add_string(into, labels->items[i]);
	}
	buf_add_byte(into, ']');
}

static void put_matchers(struct buf *into, const struct promql_vector *v)
{
	static const char *const types[] = { "=", "!=", "=~", "!~" };
	add_key(into, "matchers");
	buf_add_byte(into, '[');
	for (size_t i = 0; i < v->matcher_count; i++) {
		buf_add_c(into, i ? ",{" : "{");
		put_string(into, "name", v->matchers[i].name);
		put_string(into, "type", str_c(types[v->matchers[i].type]));
		put_string(into, "value", v->matchers[i].value);
		buf_add_byte(into, '}');
	}
	buf_add_byte(into, ']');
}

static void put_start_or_end(struct buf *into, const struct promql_time *time)
{
	add_key(into, "startOrEnd");
	buf_add_c(into, time->at == PROMQL_AT_START ? "\"start\""
			: time->at == PROMQL_AT_END ? "\"end\""
						    : "null");
}

static void put_timestamp(struct buf *into, const struct promql_time *time)
{
	add_key(into, "timestamp");
	if (time->at == PROMQL_AT_TIME)
		buf_printf(into, "%lld", (long long)time->at_ms);
	else
		buf_add_c(into, "null");
}

static void put_selector(struct buf *into, const struct promql_vector *v, const char *type,
			 const int64_t *range_ms)
{
	put_bool(into, "anchored", v->anchored);
	put_matchers(into, v);
	put_string(into, "name", v->name);
	put_integer(into, "offset", v->time.offset_ms);
	if (range_ms)
		put_integer(into, "range", *range_ms);
	put_bool(into, "smoothed", v->smoothed);
	put_start_or_end(into, &v->time);
	put_timestamp(into, &v->time);
	put_string(into, "type", str_c(type));
}

static void put_fill(struct buf *into, const struct promql_matching *m)
{
	const struct {
		const char *key;
		bool has;
		double value;
	} sides[] = {
		{ "lhs", m->has_fill_left, m->fill_left },
		{ "rhs", m->has_fill_right, m->fill_right },
	};
	add_key(into, "fillValues");
	buf_add_byte(into, '{');
	for (size_t i = 0; i < ARRAY_COUNT(sides); i++) {
		add_key(into, sides[i].key);
		struct json_writer w = json_writer_init(into, false);
		if (sides[i].has)
			json_add_f64(&w, sides[i].value);
		else
			json_add_null(&w);
	}
	buf_add_byte(into, '}');
}

static void put_matching(struct buf *into, const struct promql_matching *m)
{
	static const char *const cards[] = { "one-to-one", "many-to-one", "one-to-many",
					     "many-to-many" };
	add_key(into, "matching");
	if (!m) {
		buf_add_c(into, "null");
		return;
	}
	buf_add_byte(into, '{');
	put_string(into, "card", str_c(cards[m->card]));
	put_fill(into, m);
	put_labels(into, "include", &m->include);
	put_labels(into, "labels", &m->labels);
	put_bool(into, "on", m->on);
	buf_add_byte(into, '}');
}

static void put_call(struct buf *into, const struct promql_expr *expr)
{
	const struct promql_function *f = expr->call.function;
	add_key(into, "args");
	buf_add_byte(into, '[');
	for (size_t i = 0; i < expr->call.arg_count; i++) {
		buf_add_c(into, i ? "," : "");
		promql_print_json(into, expr->call.args[i]);
	}
	buf_add_byte(into, ']');
	add_key(into, "func");
	buf_add_byte(into, '{');
	add_key(into, "argTypes");
	buf_add_byte(into, '[');
	for (size_t i = 0; i < f->arg_count; i++) {
		buf_add_c(into, i ? "," : "");
		add_string(into, str_c(promql_type_name(f->arg_types[i])));
	}
	buf_add_byte(into, ']');
	put_string(into, "name", str_c(f->name));
	put_string(into, "returnType", str_c(promql_type_name(f->return_type)));
	put_integer(into, "variadic", f->variadic);
	buf_add_byte(into, '}');
	put_string(into, "type", STR("call"));
}

static void put_subquery(struct buf *into, const struct promql_subquery *s)
{
	put_expr(into, "expr", s->expr);
	put_integer(into, "offset", s->time.offset_ms);
	put_integer(into, "range", s->range_ms);
	put_start_or_end(into, &s->time);
	put_integer(into, "step", s->step_ms);
	put_timestamp(into, &s->time);
	put_string(into, "type", STR("subquery"));
}

static void put_number(struct buf *into, double v)
{
	struct buf text = buf_init(512);
	promql_print_number(&text, v);
	put_string(into, "type", STR("numberLiteral"));
	put_string(into, "val", buf_str(&text));
	buf_done(&text);
}

static void put_node(struct buf *into, const struct promql_expr *expr)
{
	switch (expr->kind) {
	case PROMQL_NUMBER:
		put_number(into, expr->number.value);
		return;
	case PROMQL_STRING:
		put_string(into, "type", STR("stringLiteral"));
		put_string(into, "val", expr->string.value);
		return;
	case PROMQL_VECTOR:
		put_selector(into, &expr->vector, "vectorSelector", NULL);
		return;
	case PROMQL_MATRIX:
		put_selector(into, &expr->matrix.selector->vector, "matrixSelector",
			     &expr->matrix.range_ms);
		return;
	case PROMQL_SUBQUERY:
		put_subquery(into, &expr->subquery);
		return;
	case PROMQL_UNARY:
		put_expr(into, "expr", expr->unary.expr);
		put_string(into, "op", str_c(promql_operator_text(expr->unary.op)));
		put_string(into, "type", STR("unaryExpr"));
		return;
	case PROMQL_BINARY:
		put_bool(into, "bool", expr->binary.is_bool);
		put_expr(into, "lhs", expr->binary.lhs);
		put_matching(into, expr->binary.matching);
		put_string(into, "op", str_c(promql_operator_text(expr->binary.op)));
		put_expr(into, "rhs", expr->binary.rhs);
		put_string(into, "type", STR("binaryExpr"));
		return;
	case PROMQL_AGGREGATE:
		put_expr(into, "expr", expr->aggregate.expr);
		put_labels(into, "grouping", &expr->aggregate.grouping);
		put_string(into, "op", str_c(promql_aggregation_text(expr->aggregate.op)));
		put_expr(into, "param", expr->aggregate.param);
		put_string(into, "type", STR("aggregation"));
		put_bool(into, "without", expr->aggregate.without);
		return;
	case PROMQL_CALL:
		put_call(into, expr);
		return;
	case PROMQL_PAREN:
		put_expr(into, "expr", expr->paren.expr);
		put_string(into, "type", STR("parenExpr"));
		return;
	}
}

void promql_print_json(struct buf *into, const struct promql_expr *expr)
{
	if (into->overflow)
		return;
	buf_add_byte(into, '{');
	put_node(into, expr);
	buf_add_byte(into, '}');
}
