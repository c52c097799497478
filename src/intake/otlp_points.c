/*
 * Points of OTLP as samples.
 *
 * Shape: a point that cannot be kept is counted and told in the answer; the rest goes on. What is
 *   malformed refuses the body.
 * Source: opentelemetry-proto metrics.proto; Prometheus's conversion.
 */
#include <math.h>
#include <string.h>

#include "base/checks.h"
#include "codec/text.h"
#include "codec/wire.h"
#include "intake/intake_histogram.h"
#include "intake/intake_internal.h"
#include "intake/intake_number.h"
#include "intake/otlp_internal.h"

enum { EXEMPLARS_MAX = 64, BOUNDS_MAX = 4096, NO_RECORDED_VALUE = 1 };
#define ZERO_THRESHOLD_DEFAULT 1e-128

enum shape { SHAPE_NUMBER, SHAPE_HISTOGRAM, SHAPE_EXPONENTIAL, SHAPE_SUMMARY };

/* One Metric as it is read. */
struct reading {
	struct otlp_request *q;
	struct otlp_metric metric;
	enum otlp_temporality temporality;
	enum shape shape;
	str name; /* as Prometheus has it */
};

struct exemplar {
	double value;
	time_ms time;
	str message, trace, span;
};

/* What points have in common, and where the rest of one is. */
struct point {
	time_ms time;
	bool stale;
	double sum, value;
	bool has_sum, has_value;
	uint64_t count;
	str message;
	struct exemplar *exemplars;
	size_t exemplar_count;
	struct otlp_labels labels;
};

/* ---- Samples. */

static double stale_marker(void)
{
	uint64_t bits = METRICS_STALE_BITS;
	double v;
	memcpy(&v, &bits, sizeof(v));
	return v;
}

static str joined(struct arena *scratch, str name, const char *suffix)
{
	return *suffix ? str_c(arena_printf(scratch, "%.*s%s", STR_ARG(name), suffix)) : name;
}

errc otlp_sample(struct otlp_request *q, const struct otlp_labels *labels, str name, time_ms time,
		 double value, metrics_ref *ret_ref, struct err *e)
{
	struct label items[LABELS_COUNT_MAX];
	size_t count = 0;
	*ret_ref = 0;
	items[count++] = (struct label){ STR(LABEL_METRIC_NAME), name };
	for (size_t i = 0; i < labels->count && count < LABELS_COUNT_MAX; i++)
		items[count++] = labels->items[i];
	errc rc = intake_series(q->batch, items, count, ret_ref, e);
	if (rc != OK && intake_is_fatal(rc))
		return rc;
	if (rc != OK) {
		intake_reject(q->result, 1, e);
		return OK;
	}
	(void)metrics_batch_sample(q->batch, *ret_ref, time, value);
	q->result->sample_count++;
	return OK;
}

/* A cumulative value, or one that has to be added up first. */
static errc put(struct reading *m, struct point *p, const char *suffix, double value,
		metrics_ref *ret_ref, struct err *e)
{
	struct otlp_request *q = m->q;
	str name = joined(p->labels.scratch, m->name, suffix);
	struct label items[LABELS_COUNT_MAX];
	size_t count = 0;
	metrics_ref ref;
	if (p->stale)
		return otlp_sample(q, &p->labels, name, p->time, stale_marker(), ret_ref, e);
	if (m->temporality != OTLP_DELTA)
		return otlp_sample(q, &p->labels, name, p->time, value, ret_ref, e);
	items[count++] = (struct label){ STR(LABEL_METRIC_NAME), name };
	for (size_t i = 0; i < p->labels.count && count < LABELS_COUNT_MAX; i++)
		items[count++] = p->labels.items[i];
	*ret_ref = 0;
	errc rc = intake_series(q->batch, items, count, &ref, e);
	if (rc == OK) {
		rc = otlp_deltas_add(q->in->deltas, ref, value, p->time, q->now, &value, e);
		if (rc != OK)
			rc = intake_name_series(e, items, count);
	}
	if (rc != OK && intake_is_fatal(rc))
		return rc;
	if (rc != OK) {
		intake_reject(q->result, 1, e);
		return OK;
	}
	(void)metrics_batch_sample(q->batch, ref, p->time, value);
	q->result->sample_count++;
	*ret_ref = ref;
	return OK;
}

/* ---- Exemplars. */

static time_ms milliseconds(uint64_t nanoseconds)
{
	return (time_ms)(nanoseconds / 1000000);
}

static bool read_exemplar(str message, struct exemplar *x)
{
	struct reader r = reader_init(message);
	struct wire_field f;
	*x = (struct exemplar){ .message = message };
	while (wire_next(&r, &f)) {
		switch (f.key) {
		case WIRE_KEY(2, WIRE_FIXED64):
			x->time = milliseconds(f.value);
			break;
		case WIRE_KEY(3, WIRE_FIXED64):
			x->value = wire_double(&f);
			break;
		case WIRE_KEY(6, WIRE_FIXED64):
			x->value = (double)wire_int(&f);
			break;
		case WIRE_KEY(4, WIRE_BYTES):
			x->span = f.bytes;
			break;
		case WIRE_KEY(5, WIRE_BYTES):
			x->trace = f.bytes;
			break;
		}
	}
	return !r.failed;
}

static str hex(struct arena *scratch, str bytes)
{
	struct buf text CLEANUP(buf_done) = buf_init(256);
	text_add_hex(&text, bytes);
	return arena_str(scratch, buf_str(&text));
}

static void keep_exemplar(struct otlp_request *q, metrics_ref ref, const struct exemplar *x,
			  struct arena *scratch)
{
	struct otlp_labels l = { .scratch = scratch, .translation = q->options->translation };
	struct metrics_exemplar kept = { .time = x->time, .value = x->value };
	struct err e = { 0 };
	errc rc = OK;
	if (x->trace.len && x->trace.len <= 64)
		rc = otlp_labels_add(&l, STR("trace_id"), hex(scratch, x->trace), &e);
	if (rc == OK && x->span.len && x->span.len <= 64)
		rc = otlp_labels_add(&l, STR("span_id"), hex(scratch, x->span), &e);
	if (rc == OK)
		rc = otlp_attributes(&l, x->message, 7, &e);
	if (rc == OK)
		rc = labels_normalize(l.items, l.count, &kept.labels, &e);
	if (rc == OK && ref && metrics_batch_exemplar(q->batch, ref, &kept))
		q->result->exemplar_count++;
	else
		q->result->exemplar_rejected_count++;
}

/* The first of field NUMBER, read once however many buckets there are. */
static errc read_exemplars(struct point *p, uint32_t number, struct err *e)
{
	struct reader r = reader_init(p->message);
	struct wire_field f;
	while (number && p->exemplar_count < EXEMPLARS_MAX && wire_next(&r, &f)) {
		if (f.key != WIRE_KEY(number, WIRE_BYTES))
			continue;
		if (!p->exemplars)
			p->exemplars = arena_array(p->labels.scratch, EXEMPLARS_MAX,
						   sizeof(*p->exemplars));
		if (!p->exemplars || !read_exemplar(f.bytes, &p->exemplars[p->exemplar_count]))
			FAIL(e, ERR_INVALID, "an exemplar is malformed");
		if (!p->exemplars[p->exemplar_count].time)
			p->exemplars[p->exemplar_count].time = p->time;
		p->exemplar_count++;
	}
	return OK;
}

/* Those with FROM < value <= TO. */
static void keep_exemplars(struct reading *m, struct point *p, metrics_ref ref, double from,
			   double to)
{
	for (size_t i = 0; i < p->exemplar_count; i++) {
		const struct exemplar *x = &p->exemplars[i];
		if (x->value <= to && (x->value > from || from == -INFINITY))
			keep_exemplar(m->q, ref, x, p->labels.scratch);
	}
}

/* ---- Kinds of points. */

static errc put_number(struct reading *m, struct point *p, struct err *e)
{
	metrics_ref ref;
	if (!p->has_value && !p->stale) {
		(void)err_fill(e, ERR_INVALID, 0, __FILE__, __LINE__,
			       "a point of %.*s has no value", STR_ARG(m->metric.name));
		intake_reject(m->q->result, 1, e);
		return OK;
	}
	TRY(put(m, p, "", p->value, &ref, e));
	if (ref)
		keep_exemplars(m, p, ref, -INFINITY, INFINITY);
	return OK;
}

/* A series that has one label more, over an attribute of that name. */
static errc put_labelled(struct reading *m, struct point *p, const char *suffix, str name,
			 double label, double value, metrics_ref *ret_ref, struct err *e)
{
	struct otlp_labels *l = &p->labels;
	char text[NUMBER_TEXT_SIZE];
	str shown = { text, intake_number_print(label, text) };
	size_t count = l->count, at = 0;
	while (at < count && !str_eq(l->items[at].name, name))
		at++;
	struct label before = at < count ? l->items[at] : (struct label){ 0 };
	TRY(otlp_labels_set(l, name, arena_str(l->scratch, shown), e));
	errc rc = put(m, p, suffix, value, ret_ref, e);
	l->items[at] = before;
	l->count = count;
	return rc;
}

static errc put_bucket(struct reading *m, struct point *p, double bound, double before,
		       uint64_t sum, struct err *e)
{
	metrics_ref ref;
	TRY(put_labelled(m, p, "_bucket", STR("le"), bound, (double)sum, &ref, e));
	if (ref)
		keep_exemplars(m, p, ref, before, bound);
	return OK;
}

static errc put_sum_and_count(struct reading *m, struct point *p, struct err *e)
{
	metrics_ref ref;
	if (p->has_sum || p->stale)
		TRY(put(m, p, "_sum", p->sum, &ref, e));
	return put(m, p, "_count", (double)p->count, &ref, e);
}

static errc put_histogram(struct reading *m, struct point *p, struct err *e)
{
	double *bounds = arena_array(p->labels.scratch, BOUNDS_MAX, sizeof(*bounds));
	uint64_t *counts = arena_array(p->labels.scratch, BOUNDS_MAX + 1, sizeof(*counts));
	size_t bound_count = 0, bucket_count = 0;
	struct reader r = reader_init(p->message);
	struct wire_field f;
	double bound;
	uint64_t value, sum = 0;
	if (!bounds || !counts)
		FAIL(e, ERR_LIMIT, "the request takes too much memory: send less at a time");
	while (wire_next(&r, &f)) {
		if (wire_number(&f) == 7)
			while (wire_next_double(&r, &f, &bound)) {
				if (bound_count < BOUNDS_MAX)
					bounds[bound_count] = bound;
				bound_count++;
			}
		if (wire_number(&f) == 6)
			while (wire_next_fixed64(&r, &f, &value)) {
				if (bucket_count < BOUNDS_MAX + 1)
					counts[bucket_count] = value;
				bucket_count++;
			}
	}
	if (r.failed)
		FAIL(e, ERR_INVALID, "a histogram of %.*s is malformed", STR_ARG(m->metric.name));
	if (bound_count > BOUNDS_MAX || (bucket_count && bucket_count != bound_count + 1)) {
		(void)err_fill(e, ERR_INVALID, 0, __FILE__, __LINE__,
			       "a histogram of %.*s has %zu boundaries and %zu buckets; it may "
			       "have %d boundaries, and one bucket more than those",
			       STR_ARG(m->metric.name), bound_count, bucket_count, BOUNDS_MAX);
		intake_reject(m->q->result, 1, e);
		return OK;
	}
	for (size_t i = 0; i < bound_count && bucket_count; i++) {
		sum += counts[i];
		TRY(put_bucket(m, p, bounds[i], i ? bounds[i - 1] : -INFINITY, sum, e));
	}
	TRY(put_bucket(m, p, INFINITY, bound_count ? bounds[bound_count - 1] : -INFINITY, p->count,
		       e));
	return put_sum_and_count(m, p, e);
}

/* Buckets {1 offset, 2 counts}: ours count from one index higher, for they name upper bounds. */
static bool read_buckets(struct intake_histogram *h, int side, str message)
{
	struct reader r = reader_init(message);
	struct wire_field f;
	int64_t offset = 0, at = 0;
	uint64_t count;
	while (wire_next(&r, &f))
		if (f.key == WIRE_KEY(1, WIRE_VARINT))
			offset = wire_sint(&f);
	if (r.failed || offset < INT32_MIN || offset > INT32_MAX)
		return false;
	r = reader_init(message);
	while (wire_next(&r, &f)) {
		if (wire_number(&f) != 2)
			continue;
		while (wire_next_varint(&r, &f, &count)) {
			if (count)
				intake_histogram_bucket(h, side, offset + at + 1, (double)count);
			at++;
		}
	}
	return !r.failed;
}

static bool read_exponential(struct intake_histogram *h, const struct point *p)
{
	struct reader r = reader_init(p->message);
	struct wire_field f;
	bool ok = true;
	intake_histogram_reset(h);
	h->h.zero_threshold = ZERO_THRESHOLD_DEFAULT;
	h->h.count = (double)p->count;
	h->h.sum = p->has_sum ? p->sum : intake_nan();
	while (ok && wire_next(&r, &f)) {
		switch (f.key) {
		case WIRE_KEY(6, WIRE_VARINT):
			ok = wire_sint(&f) >= -64 && wire_sint(&f) <= 64;
			h->h.schema = ok ? (int32_t)wire_sint(&f) : 0;
			break;
		case WIRE_KEY(7, WIRE_FIXED64):
			h->h.zero_count = (double)f.value;
			break;
		case WIRE_KEY(8, WIRE_BYTES):
			ok = read_buckets(h, INTAKE_POSITIVE, f.bytes);
			break;
		case WIRE_KEY(9, WIRE_BYTES):
			ok = read_buckets(h, INTAKE_NEGATIVE, f.bytes);
			break;
		case WIRE_KEY(14, WIRE_FIXED64):
			if (wire_double(&f) > 0)
				h->h.zero_threshold = wire_double(&f);
			break;
		}
	}
	return ok && !r.failed;
}

static errc put_exponential(struct reading *m, struct point *p, struct err *e)
{
	struct otlp_request *q = m->q;
	struct label items[LABELS_COUNT_MAX];
	size_t count = 0;
	metrics_ref ref;
	if (p->stale)
		return put(m, p, "", 0, &ref, e);
	if (!q->histogram)
		q->histogram = intake_histogram_new();
	if (!read_exponential(q->histogram, p))
		FAIL(e, ERR_INVALID, "an exponential histogram of %.*s is malformed",
		     STR_ARG(m->metric.name));
	items[count++] = (struct label){ STR(LABEL_METRIC_NAME), m->name };
	for (size_t i = 0; i < p->labels.count && count < LABELS_COUNT_MAX; i++)
		items[count++] = p->labels.items[i];
	errc rc = OK;
	if (m->temporality == OTLP_DELTA)
		rc = err_fill(e, ERR_INVALID, 0, __FILE__, __LINE__,
			      "%.*s is an exponential histogram sent as differences; set the "
			      "exporter's temporality to cumulative",
			      STR_ARG(m->metric.name));
	if (rc == OK)
		rc = intake_histogram_finish(q->histogram, e);
	if (rc == OK)
		rc = intake_series(q->batch, items, count, &ref, e);
	if (rc != OK && intake_is_fatal(rc))
		return rc;
	if (rc != OK) {
		intake_reject(q->result, 1, e);
		return OK;
	}
	(void)metrics_batch_histogram(q->batch, ref, p->time, &q->histogram->h);
	q->result->histogram_count++;
	keep_exemplars(m, p, ref, -INFINITY, INFINITY);
	return OK;
}

static errc put_quantile(struct reading *m, struct point *p, str message, struct err *e)
{
	struct reader r = reader_init(message);
	struct wire_field f;
	double quantile = 0, value = 0;
	metrics_ref ref;
	while (wire_next(&r, &f)) {
		if (f.key == WIRE_KEY(1, WIRE_FIXED64))
			quantile = wire_double(&f);
		else if (f.key == WIRE_KEY(2, WIRE_FIXED64))
			value = wire_double(&f);
	}
	if (r.failed)
		FAIL(e, ERR_INVALID, "a summary of %.*s is malformed", STR_ARG(m->metric.name));
	return put_labelled(m, p, "", STR("quantile"), quantile, value, &ref, e);
}

static errc put_summary(struct reading *m, struct point *p, struct err *e)
{
	struct reader r = reader_init(p->message);
	struct wire_field f;
	while (wire_next(&r, &f))
		if (f.key == WIRE_KEY(6, WIRE_BYTES))
			TRY(put_quantile(m, p, f.bytes, e));
	return put_sum_and_count(m, p, e);
}

/* ---- Reading. The four messages of points differ in few numbers. */

struct layout {
	uint32_t attributes, flags, exemplars;
	errc (*put)(struct reading *m, struct point *p, struct err *e);
};

static const struct layout layouts[] = {
	[SHAPE_NUMBER] = { 7, 8, 5, put_number },
	[SHAPE_HISTOGRAM] = { 9, 10, 8, put_histogram },
	[SHAPE_EXPONENTIAL] = { 1, 10, 11, put_exponential },
	[SHAPE_SUMMARY] = { 7, 8, 0, put_summary },
};

static bool read_common(const struct reading *m, struct point *p)
{
	struct reader r = reader_init(p->message);
	struct wire_field f;
	while (wire_next(&r, &f)) {
		uint32_t number = wire_number(&f);
		enum wire_type type = wire_type(&f);
		if (number == 3 && type == WIRE_FIXED64)
			p->time = milliseconds(f.value);
		else if (number == layouts[m->shape].flags && type == WIRE_VARINT)
			p->stale = f.value & NO_RECORDED_VALUE;
		else if (m->shape == SHAPE_NUMBER && type == WIRE_FIXED64 &&
			 (number == 4 || number == 6)) {
			p->value = number == 4 ? wire_double(&f) : (double)wire_int(&f);
			p->has_value = true;
		} else if (m->shape != SHAPE_NUMBER && type == WIRE_FIXED64 && number == 4)
			p->count = f.value;
		else if (m->shape != SHAPE_NUMBER && type == WIRE_FIXED64 && number == 5) {
			p->sum = wire_double(&f);
			p->has_sum = true;
		}
	}
	return !r.failed;
}

static errc read_point(struct reading *m, str message, struct err *e)
{
	struct arena scratch CLEANUP(arena_done) = arena_init(8 << 20);
	/* a summary's sum is no optional field: without one it is 0 */
	struct point p = { .message = message,
			   .labels = m->q->common,
			   .has_sum = m->shape == SHAPE_SUMMARY };
	p.labels.scratch = &scratch;
	if (!read_common(m, &p))
		FAIL(e, ERR_INVALID, "a point of %.*s is malformed", STR_ARG(m->metric.name));
	if (!p.time)
		p.time = m->q->now;
	if (p.time > m->q->latest)
		m->q->latest = p.time;
	m->q->result->series_count++;
	p.labels.fixed_count = p.labels.count;
	errc rc = otlp_attributes(&p.labels, message, layouts[m->shape].attributes, e);
	if (rc == ERR_LIMIT) { /* too much for a series, which harms no other */
		intake_reject(m->q->result, 1, e);
		return OK;
	}
	if (rc == OK)
		rc = read_exemplars(&p, layouts[m->shape].exemplars, e);
	if (rc == OK)
		rc = layouts[m->shape].put(m, &p, e);
	if (rc == OK)
		rc = arena_check(&scratch, "a point", e);
	return rc;
}

static errc read_points(struct reading *m, str message, struct err *e)
{
	struct reader r = reader_init(message);
	struct wire_field f;
	while (wire_next(&r, &f))
		if (f.key == WIRE_KEY(1, WIRE_BYTES))
			TRY(read_point(m, f.bytes, e));
	if (r.failed)
		FAIL(e, ERR_INVALID, "the metric %.*s is malformed", STR_ARG(m->metric.name));
	return OK;
}

/* Gauge, Sum, Histogram, …: {2 temporality, 3 monotonic} first, for the points need them. */
static bool read_kind(struct reading *m, uint32_t number, str message)
{
	struct reader r = reader_init(message);
	struct wire_field f;
	bool monotonic = false;
	while (wire_next(&r, &f)) {
		if (f.key == WIRE_KEY(2, WIRE_VARINT))
			m->temporality = f.value == OTLP_DELTA ? OTLP_DELTA : OTLP_CUMULATIVE;
		else if (f.key == WIRE_KEY(3, WIRE_VARINT))
			monotonic = f.value != 0;
	}
	switch (number) {
	case 7:
		m->metric.is_sum = true;
		m->metric.type = monotonic ? METRICS_TYPE_COUNTER : METRICS_TYPE_GAUGE;
		break;
	case 9:
		m->shape = SHAPE_HISTOGRAM;
		m->metric.type = METRICS_TYPE_HISTOGRAM;
		break;
	case 10:
		m->shape = SHAPE_EXPONENTIAL;
		m->metric.type = METRICS_TYPE_HISTOGRAM;
		break;
	case 11:
		m->shape = SHAPE_SUMMARY;
		m->metric.type = METRICS_TYPE_SUMMARY;
		break;
	default:
		m->metric.type = METRICS_TYPE_GAUGE;
	}
	return !r.failed;
}

errc otlp_metric(struct otlp_request *q, str message, struct err *e)
{
	struct arena names CLEANUP(arena_done) = arena_init(1 << 20);
	struct reading m = { .q = q, .temporality = OTLP_CUMULATIVE };
	struct reader r = reader_init(message);
	struct wire_field f;
	uint32_t number = 0;
	str data = STR("");
	while (wire_next(&r, &f)) {
		switch (f.key) {
		case WIRE_KEY(1, WIRE_BYTES):
			m.metric.name = f.bytes;
			break;
		case WIRE_KEY(2, WIRE_BYTES):
			m.metric.description = f.bytes;
			break;
		case WIRE_KEY(3, WIRE_BYTES):
			m.metric.unit = f.bytes;
			break;
		case WIRE_KEY(5, WIRE_BYTES):
		case WIRE_KEY(7, WIRE_BYTES):
		case WIRE_KEY(9, WIRE_BYTES):
		case WIRE_KEY(10, WIRE_BYTES):
		case WIRE_KEY(11, WIRE_BYTES):
			number = wire_number(&f);
			data = f.bytes;
			break;
		}
	}
	if (r.failed || (number && !read_kind(&m, number, data)))
		FAIL(e, ERR_INVALID, "a metric is malformed");
	if (!m.metric.name.len || m.metric.name.len > LABEL_NAME_BYTES_MAX ||
	    m.metric.unit.len > LABEL_NAME_BYTES_MAX) {
		(void)err_fill(e, ERR_INVALID, 0, __FILE__, __LINE__,
			       "a metric has no name, or a name or unit of more than %d bytes",
			       LABEL_NAME_BYTES_MAX);
		intake_reject(q->result, 1, e);
		return OK;
	}
	m.name = otlp_metric_name(&names, &m.metric, q->options->translation);
	struct metrics_metadata metadata = { .name = m.name,
					     .type = m.metric.type,
					     .help = m.metric.description,
					     .unit = m.metric.unit };
	if (intake_metadata(q->batch, &metadata))
		q->result->metadata_count++;
	return read_points(&m, data, e);
}
