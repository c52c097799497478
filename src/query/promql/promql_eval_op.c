#include "query/promql/promql_eval_op.h"

#include <math.h>
#include <string.h>

#include "base/checks.h"
#include "query/promql/histogram_math.h"

bool promql_op_drops_name(const struct promql_op *op)
{
	return op->is_bool || !promql_operator_is_comparison(op->op);
}

static bool compare(enum promql_operator op, double left, double right)
{
	switch (op) {
	case PROMQL_EQL:
		return left == right;
	case PROMQL_NEQ:
		return left != right;
	case PROMQL_LTE:
		return left <= right;
	case PROMQL_LSS:
		return left < right;
	case PROMQL_GTE:
		return left >= right;
	case PROMQL_GTR:
		return left > right;
	default:
		return false;
	}
}

double promql_op_scalar(enum promql_operator op, double left, double right)
{
	switch (op) {
	case PROMQL_ADD:
		return left + right;
	case PROMQL_SUB:
		return left - right;
	case PROMQL_MUL:
		return left * right;
	case PROMQL_DIV:
		return left / right;
	case PROMQL_MOD:
		return fmod(left, right);
	case PROMQL_POW:
		return pow(left, right);
	case PROMQL_ATAN2:
		return atan2(left, right);
	default:
		return compare(op, left, right) ? 1 : 0;
	}
}

/* ---- Floats, all steps at once; what stands at absent steps does no harm. */

static void arithmetic(enum promql_operator op, const double *restrict left,
		       const double *restrict right, double *restrict into, size_t count)
{
	switch (op) {
	case PROMQL_ADD:
		for (size_t i = 0; i < count; i++)
			into[i] = left[i] + right[i];
		return;
	case PROMQL_SUB:
		for (size_t i = 0; i < count; i++)
			into[i] = left[i] - right[i];
		return;
	case PROMQL_MUL:
		for (size_t i = 0; i < count; i++)
			into[i] = left[i] * right[i];
		return;
	case PROMQL_DIV:
		for (size_t i = 0; i < count; i++)
			into[i] = left[i] / right[i];
		return;
	default:
		for (size_t i = 0; i < count; i++)
			into[i] = promql_op_scalar(op, left[i], right[i]);
	}
}

#define COMPARE_BITS(operator)                                              \
	do {                                                                \
		for (size_t i = 0; i < count; i++)                          \
			bits |= (uint64_t)(left[i] operator right[i]) << i; \
	} while (0)

/* Of at most 64 steps. */
static uint64_t compare_bits(enum promql_operator op, const double *left, const double *right,
			     size_t count)
{
	uint64_t bits = 0;
	switch (op) {
	case PROMQL_EQL:
		COMPARE_BITS(==);
		break;
	case PROMQL_NEQ:
		COMPARE_BITS(!=);
		break;
	case PROMQL_LTE:
		COMPARE_BITS(<=);
		break;
	case PROMQL_LSS:
		COMPARE_BITS(<);
		break;
	case PROMQL_GTE:
		COMPARE_BITS(>=);
		break;
	default:
		COMPARE_BITS(>);
	}
	return bits;
}

static void comparison(const struct promql_op *op, const struct promql_side *left,
		       const struct promql_side *right, struct promql_column *ret)
{
	const double *passed = op->keep_right ? right->values : left->values;
	for (size_t begin = 0; begin < op->steps; begin += 64) {
		size_t n = op->steps - begin < 64 ? op->steps - begin : 64;
		uint64_t bits = compare_bits(op->op, left->values + begin, right->values + begin,
					     n);
		if (!op->is_bool) {
			ret->present[begin / 64] &= bits;
			continue;
		}
		for (size_t i = 0; i < n; i++)
			ret->values[begin + i] = (double)(bits >> i & 1);
	}
	if (!op->is_bool)
		memcpy(ret->values, passed, op->steps * sizeof(*passed));
}

/* ---- Histograms, step by step. */

static void note_types(const struct promql_op *op, bool left_is_histogram, bool right_is_histogram)
{
	const char *text = promql_operator_text(op->op);
	promql_annotate(
		op->run, PROMQL_INFO, op->position,
		"incompatible sample types encountered for binary operator \"%s\": %s %s %s", text,
		left_is_histogram ? "histogram" : "float", text,
		right_is_histogram ? "histogram" : "float");
}

static errc two_histograms(const struct promql_op *op, struct arena *scratch,
			   const struct histogram *left, const struct histogram *right,
			   struct promql_sample *ret, struct err *e)
{
	struct histogram_notes notes = { 0 };
	struct histogram *result;
	bool adding = op->op == PROMQL_ADD;
	if (op->op == PROMQL_EQL || op->op == PROMQL_NEQ) {
		ret->present = histogram_equals(left, right) == (op->op == PROMQL_EQL);
		ret->histogram = left;
		return OK;
	}
	if (!adding && op->op != PROMQL_SUB) {
		note_types(op, true, true);
		return OK;
	}
	if (!histogram_compatible(left, right)) {
		promql_annotate(op->run, PROMQL_WARNING, op->position,
				"incompatible bucket layout encountered for binary operator %s",
				promql_operator_text(op->op));
		return OK;
	}
	TRY(adding ? histogram_add(scratch, left, right, &notes, &result, e)
		   : histogram_sub(scratch, left, right, &notes, &result, e));
	if (notes.reset_collision)
		promql_annotate(op->run, PROMQL_WARNING, op->position,
				"conflicting counter resets during histogram %s",
				adding ? "addition" : "subtraction");
	if (notes.bounds_reconciled)
		promql_annotate(op->run, PROMQL_INFO, op->position,
				"mismatched custom buckets were reconciled during %s",
				adding ? "addition" : "subtraction");
	*ret = (struct promql_sample){ true, 0, result };
	return OK;
}

static errc histogram_and_float(const struct promql_op *op, struct arena *scratch,
				const struct histogram *left, double right,
				struct promql_sample *ret, struct err *e)
{
	struct histogram *result;
	switch (op->op) {
	case PROMQL_MUL:
		TRY(histogram_mul(scratch, left, right, &result, e));
		break;
	case PROMQL_DIV:
		TRY(histogram_div(scratch, left, right, &result, e));
		break;
	case PROMQL_TRIM_UPPER:
	case PROMQL_TRIM_LOWER:
		TRY(histogram_trim(scratch, left, right, op->op == PROMQL_TRIM_UPPER, &result, e));
		break;
	default:
		note_types(op, true, false);
		return OK;
	}
	*ret = (struct promql_sample){ true, 0, result };
	return OK;
}

static errc one_step(const struct promql_op *op, struct arena *scratch,
		     const struct promql_sample *left, const struct promql_sample *right,
		     struct promql_sample *ret, struct err *e)
{
	struct histogram *result;
	if (left->histogram && right->histogram)
		return two_histograms(op, scratch, left->histogram, right->histogram, ret, e);
	if (left->histogram)
		return histogram_and_float(op, scratch, left->histogram, right->value, ret, e);
	if (right->histogram) {
		if (op->op != PROMQL_MUL) {
			note_types(op, false, true);
			return OK;
		}
		TRY(histogram_mul(scratch, right->histogram, left->value, &result, e));
		*ret = (struct promql_sample){ true, 0, result };
		return OK;
	}
	if (op->op == PROMQL_TRIM_UPPER || op->op == PROMQL_TRIM_LOWER) {
		note_types(op, false, false);
		return OK;
	}
	if (!promql_operator_is_comparison(op->op)) {
		*ret = (struct promql_sample){ true,
					       promql_op_scalar(op->op, left->value, right->value),
					       NULL };
		return OK;
	}
	bool holds = compare(op->op, left->value, right->value);
	double passed = op->keep_right ? right->value : left->value;
	*ret = (struct promql_sample){ holds || op->is_bool, op->is_bool ? holds : passed, NULL };
	return OK;
}

static bool has_side(const struct promql_side *s, size_t step)
{
	return !s->present || (s->present[step / 64] >> (step % 64) & 1);
}

static errc step_by_step(const struct promql_op *op, unsigned worker,
			 struct promql_buffers *buffers, const struct promql_side *left,
			 const struct promql_side *right, struct promql_column *ret, struct err *e)
{
	bool equality = op->op == PROMQL_EQL || op->op == PROMQL_NEQ;
	for (size_t step = 0; step < op->steps; step++) {
		if (!has_side(left, step) || !has_side(right, step))
			continue;
		struct promql_sample out = { 0 };
		const struct promql_sample l = { true, left->values[step],
						 left->histograms ? left->histograms[step] : NULL };
		const struct promql_sample r = { true, right->values[step],
						 right->histograms ? right->histograms[step]
								   : NULL };
		TRY(one_step(op, &op->run->scratch[worker], &l, &r, &out, e));
		if (op->is_bool && equality && l.histogram && r.histogram)
			out = (struct promql_sample){ true, out.present, NULL };
		if (!out.present)
			continue;
		promql_set(ret, step, out.value);
		if (out.histogram)
			TRY(promql_buffers_histograms(op->run, &buffers[worker], ret, e));
		if (ret->histograms)
			ret->histograms[step] = out.histogram;
	}
	return OK;
}

errc promql_op_columns(const struct promql_op *op, unsigned worker, struct promql_buffers *buffers,
		       const struct promql_side *left, const struct promql_side *right,
		       struct promql_column *ret, struct err *e)
{
	bool trim = op->op == PROMQL_TRIM_UPPER || op->op == PROMQL_TRIM_LOWER;
	*ret = promql_buffers_clear(&buffers[worker]);
	if (left->histograms || right->histograms || trim)
		return step_by_step(op, worker, buffers, left, right, ret, e);
	for (size_t w = 0; w < PROMQL_WORDS(op->steps); w++) {
		uint64_t both = left->present ? left->present[w] : ~0ULL;
		ret->present[w] = both & (right->present ? right->present[w] : ~0ULL);
	}
	if (promql_operator_is_comparison(op->op))
		comparison(op, left, right, ret);
	else
		arithmetic(op->op, left->values, right->values, ret->values, op->steps);
	return OK;
}
