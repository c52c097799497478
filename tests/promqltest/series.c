/* Series as they are written: labels and points. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "codec/number.h"
#include "promqltest.h"
#include "query/promql/promql_ast.h"

enum { POINTS_MAX = 100000 };

bool test_duration_parse(str s, int64_t *ret_ms)
{
	static const struct {
		const char *unit;
		double ms;
	} units[] = { { "ms", 1 },     { "s", 1e3 },     { "m", 6e4 },      { "h", 3.6e6 },
		      { "d", 8.64e7 }, { "w", 6.048e8 }, { "y", 3.1536e10 } };
	double seconds, total = 0;
	bool negative = s.len && s.ptr[0] == '-';
	if (number_parse(s, &seconds)) {
		*ret_ms = llround(seconds * 1000);
		return true;
	}
	if (negative)
		s = (str){ s.ptr + 1, s.len - 1 };
	if (!s.len)
		return false;
	while (s.len) {
		size_t n = 0, u = 0;
		double value;
		while (n < s.len && ((s.ptr[n] >= '0' && s.ptr[n] <= '9') || s.ptr[n] == '.'))
			n++;
		while (n + u < s.len && s.ptr[n + u] >= 'a' && s.ptr[n + u] <= 'z')
			u++;
		if (!n || !u || !number_parse((str){ s.ptr, n }, &value))
			return false;
		size_t i = 0;
		while (i < ARRAY_COUNT(units) && !str_eq_c((str){ s.ptr + n, u }, units[i].unit))
			i++;
		if (i == ARRAY_COUNT(units))
			return false;
		total += value * units[i].ms;
		s = (str){ s.ptr + n + u, s.len - n - u };
	}
	*ret_ms = llround(negative ? -total : total);
	return true;
}

/* ---- Labels. */

/* The length of the selector at the front of LINE. */
static size_t selector_len(str line)
{
	size_t i = 0;
	while (i < line.len && line.ptr[i] != '{' && line.ptr[i] != ' ' && line.ptr[i] != '\t')
		i++;
	if (i == line.len || line.ptr[i] != '{')
		return i;
	char quote = 0;
	for (; i < line.len; i++) {
		if (quote && line.ptr[i] == '\\' && quote != '`')
			i++;
		else if (quote)
			quote = line.ptr[i] == quote ? 0 : quote;
		else if (line.ptr[i] == '"' || line.ptr[i] == '\'' || line.ptr[i] == '`')
			quote = line.ptr[i];
		else if (line.ptr[i] == '}')
			return i + 1;
	}
	return line.len;
}

static errc parse_labels(str text, struct arena *arena, struct labels *ret, struct err *e)
{
	struct promql_vector v;
	struct label items[LABELS_COUNT_MAX];
	size_t count = 0;
	if (str_eq_c(text, "{}")) {
		*ret = (struct labels){ 0 };
		return OK;
	}
	TRY(promql_parse_selector(text, arena, &v, e));
	for (size_t i = 0; i < v.matcher_count; i++) {
		if (v.matchers[i].type != MATCH_EQUAL || count == LABELS_COUNT_MAX)
			FAIL(e, ERR_INVALID, "a series is written with = only");
		items[count++] = (struct label){ v.matchers[i].name, v.matchers[i].value };
	}
	struct labels labels;
	TRY(labels_normalize(items, count, &labels, e));
	*ret = labels_copy(arena, &labels);
	return OK;
}

/* ---- Histograms: `{{schema:1 count:3 buckets:[1 2]}}` */

static size_t read_list(str text, double *into, size_t room)
{
	size_t n = 0;
	str word;
	while (text.len && str_split(&text, ' ', &word)) {
		word = str_trim(word);
		if (word.len && n < room && number_parse(word, &into[n]))
			n++;
	}
	return n;
}

static void one_span(struct histogram_side *side, struct arena *arena, int32_t offset,
		     const double *buckets, size_t count)
{
	struct histogram_span *span = arena_array(arena, 1, sizeof(*span));
	double *copy = arena_array(arena, count + 1, sizeof(copy[0]));
	must(span && copy);
	memcpy(copy, buckets, count * sizeof(copy[0]));
	*span = (struct histogram_span){ offset, (uint32_t)count };
	*side = (struct histogram_side){ span, copy, count ? 1 : 0, (uint32_t)count };
}

static errc set_field(struct histogram *h, struct arena *arena, str key, str value,
		      int32_t offsets[2], double lists[2][HISTOGRAM_BUCKETS_MAX], size_t counts[2],
		      struct err *e)
{
	static const char *const hints[] = { "unknown", "reset", "not_reset", "gauge" };
	double number = 0;
	bool is_list = value.len && value.ptr[0] == '[';
	str list = is_list ? (str){ value.ptr + 1, value.len - 2 } : value;
	if (!is_list)
		(void)number_parse(value, &number);
	if (str_eq_c(key, "schema"))
		h->schema = (int32_t)number;
	else if (str_eq_c(key, "sum"))
		h->sum = number;
	else if (str_eq_c(key, "count"))
		h->count = number;
	else if (str_eq_c(key, "z_bucket"))
		h->zero_count = number;
	else if (str_eq_c(key, "z_bucket_w"))
		h->zero_threshold = number;
	else if (str_eq_c(key, "offset"))
		offsets[0] = (int32_t)number;
	else if (str_eq_c(key, "n_offset"))
		offsets[1] = (int32_t)number;
	else if (str_eq_c(key, "buckets"))
		counts[0] = read_list(list, lists[0], HISTOGRAM_BUCKETS_MAX);
	else if (str_eq_c(key, "n_buckets"))
		counts[1] = read_list(list, lists[1], HISTOGRAM_BUCKETS_MAX);
	else if (str_eq_c(key, "custom_values")) {
		double bounds[HISTOGRAM_BUCKETS_MAX];
		size_t n = read_list(list, bounds, HISTOGRAM_BUCKETS_MAX);
		double *copy = arena_array(arena, n + 1, sizeof(copy[0]));
		must(copy);
		memcpy(copy, bounds, n * sizeof(copy[0]));
		h->custom_bounds = copy;
		h->custom_bound_count = (uint32_t)n;
	} else if (str_eq_c(key, "counter_reset_hint")) {
		for (size_t i = 0; i < ARRAY_COUNT(hints); i++)
			if (str_eq_c(value, hints[i]))
				h->reset = (enum histogram_reset)i;
	} else {
		FAIL(e, ERR_INVALID, "a histogram has no field \"%.*s\"", STR_ARG(key));
	}
	return OK;
}

static errc parse_histogram(str text, struct arena *arena, const struct histogram **ret,
			    struct err *e)
{
	struct histogram *h = arena_array(arena, 1, sizeof(*h));
	static double lists[2][HISTOGRAM_BUCKETS_MAX];
	int32_t offsets[2] = { 0 };
	size_t counts[2] = { 0 };
	must(h);
	while ((text = str_trim(text)).len) {
		size_t k = 0, v;
		while (k < text.len && text.ptr[k] != ':')
			k++;
		if (k == text.len)
			FAIL(e, ERR_INVALID, "a histogram's field without a value");
		v = k + 1;
		bool list = v < text.len && text.ptr[v] == '[';
		while (v < text.len && (list ? text.ptr[v] != ']' : text.ptr[v] != ' '))
			v++;
		v += list && v < text.len;
		TRY(set_field(h, arena, (str){ text.ptr, k }, (str){ text.ptr + k + 1, v - k - 1 },
			      offsets, lists, counts, e));
		text = (str){ text.ptr + v, text.len - v };
	}
	one_span(&h->positive, arena, offsets[0], lists[0], counts[0]);
	one_span(&h->negative, arena, offsets[1], lists[1], counts[1]);
	*ret = h;
	return OK;
}

/* ---- Points. */

static errc push(struct test_series *s, struct arena *arena, struct test_point p, struct err *e)
{
	if (s->count == POINTS_MAX)
		FAIL(e, ERR_LIMIT, "a series has more than %d points", POINTS_MAX);
	if (!s->points)
		s->points = arena_array(arena, POINTS_MAX, sizeof(s->points[0]));
	must(s->points);
	s->points[s->count++] = p;
	return OK;
}

/* A + B times FACTOR, bucket by bucket: both have one layout. */
static const struct histogram *add_histograms(struct arena *arena, const struct histogram *a,
					      const struct histogram *b, double factor)
{
	struct histogram *h = histogram_copy(arena, a);
	must(h);
	h->count += factor * b->count;
	h->sum += factor * b->sum;
	h->zero_count += factor * b->zero_count;
	struct histogram_side *into[] = { &h->positive, &h->negative };
	const struct histogram_side *from[] = { &b->positive, &b->negative };
	for (int side = 0; side < 2; side++) {
		if (!from[side]->bucket_count)
			continue;
		int32_t at = into[side]->span_count ? into[side]->spans[0].offset
						    : from[side]->spans[0].offset,
			other = from[side]->spans[0].offset;
		int32_t first = at < other ? at : other;
		int32_t end_a = at + (int32_t)into[side]->bucket_count,
			end_b = other + (int32_t)from[side]->bucket_count;
		size_t n = (size_t)((end_a > end_b ? end_a : end_b) - first);
		double *buckets = arena_array(arena, n + 1, sizeof(buckets[0]));
		must(buckets);
		for (uint32_t i = 0; i < into[side]->bucket_count; i++)
			buckets[at - first + (int32_t)i] += into[side]->buckets[i];
		for (uint32_t i = 0; i < from[side]->bucket_count; i++)
			buckets[other - first + (int32_t)i] += factor * from[side]->buckets[i];
		one_span(into[side], arena, first, buckets, n);
	}
	return h;
}

/* One value at the front of REST: a number or a histogram. */
static errc take_value(str *rest, struct arena *arena, struct test_point *ret, struct err *e)
{
	size_t n = 0;
	*ret = (struct test_point){ .present = true };
	if (str_starts(*rest, STR("{{"))) {
		ptrdiff_t end = str_find(*rest, STR("}}"));
		if (end < 0)
			FAIL(e, ERR_INVALID, "a histogram without }}");
		str inside = { rest->ptr + 2, (size_t)end - 2 };
		TRY(parse_histogram(inside, arena, &ret->histogram, e));
		ret->reset_set = str_find(inside, STR("counter_reset_hint")) >= 0;
		*rest = (str){ rest->ptr + end + 2, rest->len - (size_t)end - 2 };
		return OK;
	}
	if (n < rest->len && (rest->ptr[n] == '-' || rest->ptr[n] == '+'))
		n++;
	while (n < rest->len) {
		char c = rest->ptr[n];
		bool exponent_sign = (c == '-' || c == '+') && n &&
				     (rest->ptr[n - 1] == 'e' || rest->ptr[n - 1] == 'E') &&
				     n > 1 && rest->ptr[n - 2] >= '0' && rest->ptr[n - 2] <= '9';
		bool word = (c >= '0' && c <= '9') || c == '.' || c == 'e' || c == 'E' ||
			    strchr("INFAinfa", c) != NULL;
		if (c == 'x' && n == 1 && rest->ptr[0] == '0' && rest->len > 2 &&
		    str_find(*rest, STR("0x1p")) == 0)
			word = true;
		if (!word && !exponent_sign)
			break;
		n++;
	}
	if (!n || !number_parse((str){ rest->ptr, n }, &ret->value))
		FAIL(e, ERR_INVALID, "\"%.*s\" is no value", (int)(rest->len < 30 ? rest->len : 30),
		     rest->ptr);
	*rest = (str){ rest->ptr + n, rest->len - n };
	return OK;
}

static bool take_times(str *rest, uint64_t *ret)
{
	size_t n = 1;
	if (!rest->len || rest->ptr[0] != 'x')
		return false;
	while (n < rest->len && rest->ptr[n] >= '0' && rest->ptr[n] <= '9')
		n++;
	bool good = str_to_u64((str){ rest->ptr + 1, n - 1 }, ret) && *ret <= POINTS_MAX;
	*rest = (str){ rest->ptr + n, rest->len - n };
	return good;
}

/* `a`, `axN`, `a+bxN`, `a-bxN` */
static errc expand(struct test_series *s, str *rest, struct arena *arena, struct err *e)
{
	struct test_point first, step = { 0 };
	uint64_t times = 0;
	double sign = 0;
	TRY(take_value(rest, arena, &first, e));
	if (rest->len && (rest->ptr[0] == '+' || rest->ptr[0] == '-')) {
		sign = rest->ptr[0] == '+' ? 1 : -1;
		*rest = (str){ rest->ptr + 1, rest->len - 1 };
		TRY(take_value(rest, arena, &step, e));
	}
	bool repeated = take_times(rest, &times);
	if (sign != 0 && !repeated)
		FAIL(e, ERR_INVALID, "a step without xN");
	for (uint64_t i = 0; i <= times; i++) {
		struct test_point p = first;
		if (sign != 0 && p.histogram)
			p.histogram = add_histograms(arena, first.histogram, step.histogram,
						     sign * (double)i);
		else if (sign != 0)
			p.value = first.value + sign * step.value * (double)i;
		TRY(push(s, arena, p, e));
	}
	return OK;
}

static errc parse_points(str rest, struct arena *arena, struct test_series *s, struct err *e)
{
	union {
		uint64_t u;
		double d;
	} stale = { METRICS_STALE_BITS };
	while ((rest = str_trim(rest)).len) {
		uint64_t times = 1;
		if (rest.ptr[0] == '_') {
			rest = (str){ rest.ptr + 1, rest.len - 1 };
			(void)take_times(&rest, &times);
			for (uint64_t i = 0; i < times; i++)
				TRY(push(s, arena, (struct test_point){ 0 }, e));
		} else if (str_starts(rest, STR("stale"))) {
			rest = (str){ rest.ptr + 5, rest.len - 5 };
			TRY(push(s, arena, (struct test_point){ true, stale.d, NULL }, e));
		} else {
			TRY(expand(s, &rest, arena, e));
		}
	}
	return OK;
}

errc test_series_parse(str line, struct arena *arena, struct test_series *ret, struct err *e)
{
	size_t n = selector_len(line);
	*ret = (struct test_series){ 0 };
	TRY(parse_labels((str){ line.ptr, n }, arena, &ret->labels, e));
	return parse_points((str){ line.ptr + n, line.len - n }, arena, ret, e);
}
