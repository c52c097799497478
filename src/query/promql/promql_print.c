/* The canonical form on one line, which is Prometheus's String(). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "codec/number.h"
#include "codec/text.h"
#include "query/promql/promql_internal.h"

void promql_print_string(struct buf *into, str s)
{
	static const char controls[] = "\a\b\f\n\r\t\v", letters[] = "abfnrtv";
	buf_add_byte(into, '"');
	while (s.len) {
		size_t step = text_utf8_step(s);
		unsigned char c = (unsigned char)s.ptr[0];
		const char *control = c ? strchr(controls, c) : NULL;
		if (step > 1) {
			buf_add(into, (str){ s.ptr, step });
		} else if (!step) {
			buf_printf(into, "\\x%02x", c);
		} else if (c == '"' || c == '\\') {
			buf_add_byte(into, '\\');
			buf_add_byte(into, (char)c);
		} else if (control) {
			buf_add_byte(into, '\\');
			buf_add_byte(into, letters[control - controls]);
		} else if (c < 0x20 || c == 0x7f) {
			buf_printf(into, "\\x%02x", c);
		} else {
			buf_add_byte(into, (char)c);
		}
		s = (str){ s.ptr + (step ? step : 1), s.len - (step ? step : 1) };
	}
	buf_add_byte(into, '"');
}

void promql_print_number(struct buf *into, double v)
{
	char text[NUMBER_TEXT_SIZE], digits[NUMBER_TEXT_SIZE];
	number_format(v, text);
	char *e = strchr(text, 'e');
	if (!e) {
		buf_add_c(into, text);
		return;
	}
	/* digits × 10^exponent, with the point behind the first digit */
	long exponent = strtol(e + 1, NULL, 10);
	size_t count = 0;
	for (const char *c = text; c < e; c++)
		if (*c >= '0' && *c <= '9')
			digits[count++] = *c;
	if (text[0] == '-')
		buf_add_byte(into, '-');
	if (exponent < 0) {
		buf_add_c(into, "0.");
		for (long i = exponent + 1; i < 0; i++)
			buf_add_byte(into, '0');
		buf_add(into, (str){ digits, count });
		return;
	}
	buf_add(into, (str){ digits, count });
	for (long i = (long)count - 1; i < exponent; i++)
		buf_add_byte(into, '0');
}

void promql_print_duration(struct buf *into, int64_t ms)
{
	static const struct {
		const char *unit;
		uint64_t ms;
		bool exact; /* 90d is easier to read than 12w6d */
	} units[] = {
		{ "y", 365ULL * 86400 * 1000, true },
		{ "w", 7ULL * 86400 * 1000, true },
		{ "d", 86400 * 1000, false },
		{ "h", 3600 * 1000, false },
		{ "m", 60 * 1000, false },
		{ "s", 1000, false },
		{ "ms", 1, false },
	};
	uint64_t left = ms < 0 ? 0 - (uint64_t)ms : (uint64_t)ms;
	if (!ms)
		buf_add_c(into, "0s");
	if (ms < 0)
		buf_add_byte(into, '-');
	for (size_t i = 0; i < ARRAY_COUNT(units); i++) {
		uint64_t count = left / units[i].ms;
		if (!count || (units[i].exact && left % units[i].ms))
			continue;
		buf_printf(into, "%llu%s", (unsigned long long)count, units[i].unit);
		left %= units[i].ms;
	}
}

static bool is_label_name(str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (i ? !is_alphanumeric(s.ptr[i]) : !is_alpha(s.ptr[i]))
			return false;
	return s.len > 0;
}

/* Words that the lexer would take for numbers are quoted too. */
static void print_label_name(struct buf *into, str s)
{
	if (is_label_name(s))
		buf_add(into, s);
	else
		promql_print_string(into, s);
}

static bool is_number_word(str s)
{
	static const char *const words[] = { "inf", "nan" };
	for (size_t i = 0; i < ARRAY_COUNT(words); i++)
		if (s.len == 3 && (s.ptr[0] | 0x20) == words[i][0] &&
		    (s.ptr[1] | 0x20) == words[i][1] && (s.ptr[2] | 0x20) == words[i][2])
			return true;
	return false;
}

static void print_labels(struct buf *into, const struct promql_labels *labels)
{
	buf_add_c(into, " (");
	for (size_t i = 0; i < labels->count; i++) {
		if (i)
			buf_add_c(into, ", ");
		if (is_number_word(labels->items[i]))
			promql_print_string(into, labels->items[i]);
		else
			print_label_name(into, labels->items[i]);
	}
	buf_add_byte(into, ')');
}

/* ---- Durations. */

static void print_seconds(struct buf *into, double seconds, bool as_duration)
{
	if (as_duration)
		promql_print_duration(into, (int64_t)round(seconds * 1000));
	else
		promql_print_number(into, seconds);
}

static void print_duration_expr(struct buf *into, const struct promql_duration *d)
{
	if (d->wrapped)
		buf_add_byte(into, '(');
	switch (d->kind) {
	case PROMQL_DURATION_NUMBER:
		print_seconds(into, d->seconds, d->as_written);
		break;
	case PROMQL_DURATION_STEP:
		buf_add_c(into, "step()");
		break;
	case PROMQL_DURATION_RANGE:
		buf_add_c(into, "range()");
		break;
	case PROMQL_DURATION_MIN_OF:
	case PROMQL_DURATION_MAX_OF:
		buf_add_c(into, d->kind == PROMQL_DURATION_MIN_OF ? "min_of(" : "max_of(");
		print_duration_expr(into, d->lhs);
		buf_add_c(into, ", ");
		print_duration_expr(into, d->rhs);
		buf_add_byte(into, ')');
		break;
	case PROMQL_DURATION_NEGATE:
		buf_add_byte(into, '-');
		print_duration_expr(into, d->rhs);
		break;
	case PROMQL_DURATION_BINARY:
		print_duration_expr(into, d->lhs);
		buf_printf(into, " %s ", promql_operator_text(d->op));
		print_duration_expr(into, d->rhs);
		break;
	}
	if (d->wrapped)
		buf_add_byte(into, ')');
}

static void print_duration(struct buf *into, int64_t ms, const struct promql_duration *expr)
{
	if (expr)
		print_duration_expr(into, expr);
	else
		promql_print_duration(into, ms);
}

/* ---- Selectors. */

static int compare_texts(const void *a, const void *b)
{
	const char *const *x = a, *const *y = b;
	return strcmp(*x, *y);
}

static void print_matcher(struct buf *into, const struct matcher *m)
{
	static const char *const types[] = { "=", "!=", "=~", "!~" };
	print_label_name(into, m->name);
	buf_add_c(into, types[m->type]);
	promql_print_string(into, m->value);
}

/* What the name before the braces says already. */
static bool is_implied(const struct promql_vector *v, const struct matcher *m)
{
	return v->name.len && m->type == MATCH_EQUAL && str_eq(m->name, STR(LABEL_METRIC_NAME)) &&
	       str_eq(m->value, v->name);
}

/* Sorted by their printed forms. Those hold no NUL: it is printed as an escape. */
static void print_matchers(struct buf *into, const struct promql_vector *v)
{
	struct buf texts = buf_init(into->cap);
	char **sorted = must_calloc(v->matcher_count + 1, sizeof(*sorted));
	size_t count = 0;
	for (size_t i = 0; i < v->matcher_count; i++) {
		if (is_implied(v, &v->matchers[i]))
			continue;
		/* offsets first: the text moves as it grows */
		sorted[count++] = (char *)(uintptr_t)texts.len;
		print_matcher(&texts, &v->matchers[i]);
		buf_add_byte(&texts, '\0');
	}
	if (texts.overflow)
		into->overflow = true;
	for (size_t i = 0; !texts.overflow && i < count; i++)
		sorted[i] = texts.ptr + (uintptr_t)sorted[i];
	if (count && !texts.overflow) {
		qsort(sorted, count, sizeof(*sorted), compare_texts);
		buf_add_byte(into, '{');
		for (size_t i = 0; i < count; i++) {
			buf_add_c(into, i ? "," : "");
			buf_add_c(into, sorted[i]);
		}
		buf_add_byte(into, '}');
	}
	free(sorted);
	buf_done(&texts);
}

static void print_time(struct buf *into, const struct promql_time *time)
{
	if (time->at == PROMQL_AT_TIME)
		buf_printf(into, " @ %s%llu.%03u", time->at_ms < 0 ? "-" : "",
			   (unsigned long long)llabs(time->at_ms / 1000),
			   (unsigned)llabs(time->at_ms % 1000));
	else if (time->at != PROMQL_AT_NONE)
		buf_add_c(into, time->at == PROMQL_AT_START ? " @ start()" : " @ end()");
	if (time->offset_ms || time->offset_expr) {
		buf_add_c(into, " offset ");
		print_duration(into, time->offset_ms, time->offset_expr);
	}
}

static void print_extended(struct buf *into, const struct promql_vector *v)
{
	buf_add_c(into, v->anchored ? " anchored" : v->smoothed ? " smoothed" : "");
}

static void print_selector(struct buf *into, const struct promql_vector *v)
{
	buf_add(into, v->name);
	print_matchers(into, v);
	/* braces are all there is of info()'s empty one */
	if (!v->name.len && !v->matcher_count)
		buf_add_c(into, "{}");
}

static void print_matrix(struct buf *into, const struct promql_matrix *m)
{
	const struct promql_vector *v = &m->selector->vector;
	print_selector(into, v);
	buf_add_byte(into, '[');
	print_duration(into, m->range_ms, m->range_expr);
	buf_add_byte(into, ']');
	print_extended(into, v);
	print_time(into, &v->time);
}

void print_subquery_suffix(struct buf *into, const struct promql_expr *expr)
{
	const struct promql_subquery *s = &expr->subquery;
	buf_add_byte(into, '[');
	print_duration(into, s->range_ms, s->range_expr);
	buf_add_byte(into, ':');
	if (s->step_ms || s->step_expr)
		print_duration(into, s->step_ms, s->step_expr);
	buf_add_byte(into, ']');
	print_time(into, &s->time);
}

/* ---- The rest. */

void print_aggregation_head(struct buf *into, const struct promql_expr *expr)
{
	buf_add_c(into, promql_aggregation_text(expr->aggregate.op));
	if (!expr->aggregate.without && !expr->aggregate.grouping.count)
		return;
	buf_add_c(into, expr->aggregate.without ? " without" : " by");
	print_labels(into, &expr->aggregate.grouping);
	buf_add_byte(into, ' ');
}

static void print_fill(struct buf *into, const struct promql_matching *m)
{
	bool both = m->has_fill_left && m->has_fill_right &&
		    !memcmp(&m->fill_left, &m->fill_right, sizeof(double));
	if (m->has_fill_left) {
		buf_add_c(into, both ? " fill (" : " fill_left (");
		promql_print_number(into, m->fill_left);
		buf_add_byte(into, ')');
	}
	if (m->has_fill_right && !both) {
		buf_add_c(into, " fill_right (");
		promql_print_number(into, m->fill_right);
		buf_add_byte(into, ')');
	}
}

/* The operator with its modifiers, no blanks around. */
void print_operator(struct buf *into, const struct promql_expr *expr)
{
	const struct promql_matching *m = expr->binary.matching;
	buf_add_c(into, promql_operator_text(expr->binary.op));
	if (expr->binary.is_bool)
		buf_add_c(into, " bool");
	if (!m)
		return;
	bool grouped = m->card == PROMQL_MANY_TO_ONE || m->card == PROMQL_ONE_TO_MANY;
	if (m->on || m->labels.count || grouped) {
		buf_add_c(into, m->on ? " on" : " ignoring");
		print_labels(into, &m->labels);
	}
	if (grouped) {
		buf_add_c(into, m->card == PROMQL_MANY_TO_ONE ? " group_left" : " group_right");
		print_labels(into, &m->include);
	}
	print_fill(into, m);
}

static void print_args(struct buf *into, const struct promql_expr *expr)
{
	buf_add_c(into, expr->call.function->name);
	buf_add_byte(into, '(');
	for (size_t i = 0; i < expr->call.arg_count; i++) {
		buf_add_c(into, i ? ", " : "");
		promql_print(into, expr->call.args[i]);
	}
	buf_add_byte(into, ')');
}

static void print_aggregate(struct buf *into, const struct promql_expr *expr)
{
	print_aggregation_head(into, expr);
	buf_add_byte(into, '(');
	if (expr->aggregate.param) {
		promql_print(into, expr->aggregate.param);
		buf_add_c(into, ", ");
	}
	promql_print(into, expr->aggregate.expr);
	buf_add_byte(into, ')');
}

void promql_print(struct buf *into, const struct promql_expr *expr)
{
	/* promql_format() asks with a small cap whether a part is short: stop early */
	if (into->overflow)
		return;
	switch (expr->kind) {
	case PROMQL_NUMBER:
		print_seconds(into, expr->number.value, expr->number.is_duration);
		return;
	case PROMQL_STRING:
		promql_print_string(into, expr->string.value);
		return;
	case PROMQL_VECTOR:
		print_selector(into, &expr->vector);
		print_extended(into, &expr->vector);
		print_time(into, &expr->vector.time);
		return;
	case PROMQL_MATRIX:
		print_matrix(into, &expr->matrix);
		return;
	case PROMQL_SUBQUERY:
		promql_print(into, expr->subquery.expr);
		print_subquery_suffix(into, expr);
		return;
	case PROMQL_UNARY:
		buf_add_c(into, promql_operator_text(expr->unary.op));
		promql_print(into, expr->unary.expr);
		return;
	case PROMQL_BINARY:
		promql_print(into, expr->binary.lhs);
		buf_add_byte(into, ' ');
		print_operator(into, expr);
		buf_add_byte(into, ' ');
		promql_print(into, expr->binary.rhs);
		return;
	case PROMQL_AGGREGATE:
		print_aggregate(into, expr);
		return;
	case PROMQL_CALL:
		print_args(into, expr);
		return;
	case PROMQL_PAREN:
		buf_add_byte(into, '(');
		promql_print(into, expr->paren.expr);
		buf_add_byte(into, ')');
		return;
	}
}
