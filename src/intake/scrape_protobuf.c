/*
 * Prometheus's protobuf: MetricFamily messages, each behind its length. What one Metric holds
 * becomes several samples, as the text formats have them; they are gathered, then given one by one.
 */
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "codec/text.h"
#include "codec/wire.h"
#include "intake/intake_histogram.h"
#include "intake/intake_number.h"
#include "intake/scrape_internal.h"

enum { SERIES_BYTES_MAX = 64 << 20, PENDING_MAX = 100000, BOUNDS_KNOWN = 128 };

/* enum MetricType of the protocol */
enum { COUNTER, GAUGE, SUMMARY, UNTYPED, HISTOGRAM, GAUGE_HISTOGRAM };

struct pending {
	size_t offset, len; /* of its series in the text */
	double value;
	str exemplar; /* an Exemplar message; empty: none */
};

/* A boundary or quantile as it is written; a family repeats its own. */
struct bound_text {
	uint64_t bits;
	uint8_t len; /* 0: none yet */
	char text[NUMBER_TEXT_SIZE];
};

struct scrape_protobuf {
	struct reader family; /* what is left of the metrics of the present family */
	bool in_family;
	str name, help, unit;
	uint64_t type;
	struct buf text;   /* the series of the samples that wait */
	struct buf head;   /* `{"name` of the family */
	struct buf labels; /* `,"a"="b"` of the present metric */
	struct bound_text bounds[BOUNDS_KNOWN];
	struct pending *waiting;
	size_t waiting_count, waiting_room, at;
	bool malformed; /* something within the present metric */
	bool has_time;
	time_ms time, start_time;
	struct intake_histogram *histogram;
	bool has_histogram;
	size_t histogram_offset, histogram_len;
	str histogram_exemplars[SCRAPE_EXEMPLARS_MAX];
	size_t histogram_exemplar_count;
};

struct scrape_protobuf *scrape_protobuf_new(void)
{
	struct scrape_protobuf *b = must_calloc(1, sizeof(*b));
	b->text = buf_init(SERIES_BYTES_MAX);
	b->head = buf_init(LABEL_NAME_BYTES_MAX * 2 + 16);
	b->labels = buf_init(SERIES_BYTES_MAX);
	b->histogram = intake_histogram_new();
	return b;
}

void scrape_protobuf_free(struct scrape_protobuf *b)
{
	if (!b)
		return;
	buf_done(&b->text);
	buf_done(&b->head);
	buf_done(&b->labels);
	free(b->waiting);
	intake_histogram_free(b->histogram);
	free(b);
}

/* ---- Series as text. */

/* S with what is special escaped, at AT, where there is room for twice as much. */
static char *put_escaped(char *at, str s)
{
	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];
		if (c == '"' || c == '\\' || c == '\n')
			*at++ = '\\';
		*at++ = c == '\n' ? 'n' : c;
	}
	return at;
}

static char *put(char *at, str s)
{
	memcpy(at, s.ptr, s.len);
	return at + s.len;
}

/* The labels of METRIC, for all of its series. */
static void read_labels(struct scrape_protobuf *b, str metric)
{
	struct reader r = reader_init(metric);
	struct wire_field f;
	buf_clear(&b->labels);
	while (wire_next(&r, &f)) {
		if (f.key != WIRE_KEY(1, WIRE_BYTES))
			continue;
		struct reader pair = wire_message(&f);
		struct wire_field part;
		str label = STR(""), value = STR("");
		while (wire_next(&pair, &part)) {
			if (part.key == WIRE_KEY(1, WIRE_BYTES))
				label = part.bytes;
			else if (part.key == WIRE_KEY(2, WIRE_BYTES))
				value = part.bytes;
		}
		b->malformed |= pair.failed;
		char *begin = buf_reserve(&b->labels, (label.len + value.len) * 2 + 6), *at = begin;
		if (!begin)
			return;
		at = put_escaped(put(at, STR(",\"")), label);
		at = put_escaped(put(at, STR("\"=\"")), value);
		at = put(at, STR("\""));
		b->labels.len += (size_t)(at - begin);
	}
}

static str bound_text(struct scrape_protobuf *b, double bound)
{
	uint64_t bits;
	memcpy(&bits, &bound, sizeof(bits));
	struct bound_text *t = &b->bounds[(bits * 0x9e3779b97f4a7c15u >> 32) % BOUNDS_KNOWN];
	if (!t->len || t->bits != bits) {
		t->bits = bits;
		t->len = (uint8_t)intake_number_print(bound, t->text);
	}
	return (str){ t->text, t->len };
}

/* `{"name_suffix","a"="b","le"="1.0"}` */
static void add_series(struct scrape_protobuf *b, str suffix, str extra, double bound)
{
	str text = extra.len ? bound_text(b, bound) : STR("");
	size_t most = b->head.len + suffix.len + b->labels.len + extra.len + text.len + 3;
	char *begin = buf_reserve(&b->text, most), *at = begin;
	if (!begin)
		return;
	at = put(put(put(at, buf_str(&b->head)), suffix), STR("\""));
	at = put(at, buf_str(&b->labels));
	if (extra.len)
		at = put(put(put(at, extra), text), STR("\""));
	at = put(at, STR("}"));
	b->text.len += (size_t)(at - begin);
}

#define NO_BOUND STR(""), 0
#define LE STR(",\"le\"=\"")
#define QUANTILE STR(",\"quantile\"=\"")

static void wait(struct scrape_protobuf *b, str suffix, str extra, double bound, double value,
		 str exemplar)
{
	size_t offset = b->text.len;
	if (b->waiting_count == PENDING_MAX) {
		b->text.overflow = true;
		return;
	}
	if (b->waiting_count == b->waiting_room) {
		b->waiting_room = b->waiting_room ? b->waiting_room * 2 : 32;
		b->waiting = must_realloc(b->waiting, b->waiting_room * sizeof(b->waiting[0]));
	}
	add_series(b, suffix, extra, bound);
	b->waiting[b->waiting_count++] = (struct pending){ offset, b->text.len - offset, value,
							   exemplar };
}

/* ---- Kinds of metrics. */

/* google.protobuf.Timestamp */
static time_ms timestamp(str message)
{
	struct reader r = reader_init(message);
	struct wire_field f;
	int64_t seconds = 0, nanos = 0;
	while (wire_next(&r, &f)) {
		if (f.key == WIRE_KEY(1, WIRE_VARINT))
			seconds = wire_int(&f);
		else if (f.key == WIRE_KEY(2, WIRE_VARINT))
			nanos = wire_int(&f);
	}
	if (seconds < 0 || seconds >= INT64_MAX / 1000 || nanos < 0 || nanos > 999999999)
		return 0;
	return seconds * 1000 + nanos / 1000000;
}

static void simple(struct scrape_protobuf *b, str message)
{
	struct reader r = reader_init(message);
	struct wire_field f;
	double value = 0;
	str exemplar = STR("");
	while (wire_next(&r, &f)) {
		if (f.key == WIRE_KEY(1, WIRE_FIXED64))
			value = wire_double(&f);
		else if (f.key == WIRE_KEY(2, WIRE_BYTES))
			exemplar = f.bytes;
		else if (f.key == WIRE_KEY(3, WIRE_BYTES))
			b->start_time = timestamp(f.bytes);
	}
	b->malformed |= r.failed;
	wait(b, STR(""), NO_BOUND, value, exemplar);
}

static void summary(struct scrape_protobuf *b, str message)
{
	struct reader r = reader_init(message);
	struct wire_field f;
	double count = 0, sum = 0;
	while (wire_next(&r, &f)) {
		if (f.key == WIRE_KEY(1, WIRE_VARINT)) {
			count = (double)f.value;
		} else if (f.key == WIRE_KEY(2, WIRE_FIXED64)) {
			sum = wire_double(&f);
		} else if (f.key == WIRE_KEY(3, WIRE_BYTES)) {
			struct reader q = wire_message(&f);
			struct wire_field part;
			double quantile = 0, value = 0;
			while (wire_next(&q, &part)) {
				if (part.key == WIRE_KEY(1, WIRE_FIXED64))
					quantile = wire_double(&part);
				else if (part.key == WIRE_KEY(2, WIRE_FIXED64))
					value = wire_double(&part);
			}
			b->malformed |= q.failed;
			wait(b, STR(""), QUANTILE, quantile, value, STR(""));
		}
	}
	b->malformed |= r.failed;
	wait(b, STR("_sum"), NO_BOUND, sum, STR(""));
	wait(b, STR("_count"), NO_BOUND, count, STR(""));
}

struct native {
	bool is; /* it has spans, a zero threshold or a zero count: no classic one has */
	uint64_t count;
	double count_float, sum;
};

/* A field of a native histogram's buckets. */
static void native_field(struct intake_histogram *h, struct reader *r, struct wire_field *f,
			 struct native *n)
{
	switch (wire_number(f)) {
	case 5:
		h->h.schema = (int32_t)wire_sint(f);
		break;
	case 6:
		h->h.zero_threshold = wire_double(f);
		n->is |= h->h.zero_threshold > 0;
		break;
	case 7:
		h->h.zero_count = (double)f->value;
		n->is |= f->value != 0;
		break;
	case 8:
		h->h.zero_count = wire_double(f);
		n->is |= h->h.zero_count > 0;
		break;
	case 9:
	case 12:
		n->is = true;
		if (wire_type(f) == WIRE_BYTES)
			intake_histogram_span(
				h, wire_number(f) == 9 ? INTAKE_NEGATIVE : INTAKE_POSITIVE,
				f->bytes);
		break;
	case 10:
		intake_histogram_deltas(h, INTAKE_NEGATIVE, r, f);
		break;
	case 11:
		intake_histogram_counts(h, INTAKE_NEGATIVE, r, f);
		break;
	case 13:
		intake_histogram_deltas(h, INTAKE_POSITIVE, r, f);
		break;
	case 14:
		intake_histogram_counts(h, INTAKE_POSITIVE, r, f);
		break;
	default:
		break;
	}
}

static void classic_bucket(struct scrape_protobuf *b, str message, bool *ret_infinite)
{
	struct reader r = reader_init(message);
	struct wire_field f;
	double count = 0, count_float = 0, bound = 0;
	str exemplar = STR("");
	while (wire_next(&r, &f)) {
		if (f.key == WIRE_KEY(1, WIRE_VARINT))
			count = (double)f.value;
		else if (f.key == WIRE_KEY(2, WIRE_FIXED64))
			bound = wire_double(&f);
		else if (f.key == WIRE_KEY(3, WIRE_BYTES))
			exemplar = f.bytes;
		else if (f.key == WIRE_KEY(4, WIRE_FIXED64))
			count_float = wire_double(&f);
	}
	b->malformed |= r.failed;
	*ret_infinite |= bound > 1.7e308;
	wait(b, STR("_bucket"), LE, bound, count_float > 0 ? count_float : count, exemplar);
}

/* A native histogram without exemplars of its own has those of its classic buckets. */
static void take_bucket_exemplars(struct scrape_protobuf *b, str message)
{
	struct reader r = reader_init(message);
	struct wire_field f;
	while (wire_next(&r, &f)) {
		if (f.key != WIRE_KEY(3, WIRE_BYTES))
			continue;
		struct reader bucket = wire_message(&f);
		struct wire_field part;
		while (wire_next(&bucket, &part))
			if (part.key == WIRE_KEY(3, WIRE_BYTES) &&
			    b->histogram_exemplar_count < SCRAPE_EXEMPLARS_MAX)
				b->histogram_exemplars[b->histogram_exemplar_count++] = part.bytes;
	}
}

/* First what there is, for a native histogram may have classic buckets beside it. */
static errc histogram(struct scrape_parser *p, struct scrape_protobuf *b, str message,
		      struct err *e)
{
	struct reader r = reader_init(message);
	struct wire_field f;
	struct native n = { 0 };
	bool infinite = false;
	intake_histogram_reset(b->histogram);
	b->histogram_exemplar_count = 0;
	while (wire_next(&r, &f)) {
		uint32_t number = wire_number(&f);
		if (number == 1)
			n.count = f.value;
		else if (number == 2)
			n.sum = wire_double(&f);
		else if (number == 4)
			n.count_float = wire_double(&f);
		else if (number == 15 && wire_type(&f) == WIRE_BYTES)
			b->start_time = timestamp(f.bytes);
		else if (number == 16 && wire_type(&f) == WIRE_BYTES &&
			 b->histogram_exemplar_count < SCRAPE_EXEMPLARS_MAX)
			b->histogram_exemplars[b->histogram_exemplar_count++] = f.bytes;
		else
			native_field(b->histogram, &r, &f, &n);
	}
	if (r.failed)
		return scrape_fail(p, e, "a histogram is malformed");
	double count = n.count_float > 0 ? n.count_float : (double)n.count;
	if (n.is) {
		b->histogram->h.count = count;
		b->histogram->h.sum = n.sum;
		b->histogram->h.reset = b->type == GAUGE_HISTOGRAM ? HISTOGRAM_RESET_GAUGE
								   : HISTOGRAM_RESET_UNKNOWN;
		if (intake_histogram_finish(b->histogram, e) != OK)
			return err_prepend(e, "byte %zu", p->line);
		b->has_histogram = true;
		b->histogram_offset = b->text.len;
		add_series(b, STR(""), NO_BOUND);
		b->histogram_len = b->text.len - b->histogram_offset;
		if (!b->histogram_exemplar_count)
			take_bucket_exemplars(b, message);
		if (!p->classic_histograms)
			return OK;
	}
	r = reader_init(message);
	while (wire_next(&r, &f))
		if (f.key == WIRE_KEY(3, WIRE_BYTES))
			classic_bucket(b, f.bytes, &infinite);
	if (!infinite)
		wait(b, STR("_bucket"), LE, __builtin_inf(), count, STR(""));
	wait(b, STR("_sum"), NO_BOUND, n.sum, STR(""));
	wait(b, STR("_count"), NO_BOUND, count, STR(""));
	return OK;
}

static errc take_metric(struct scrape_parser *p, str metric, struct err *e)
{
	struct scrape_protobuf *b = p->protobuf;
	struct reader r = reader_init(metric);
	struct wire_field f;
	buf_clear(&b->text);
	b->waiting_count = b->at = 0;
	b->has_time = b->has_histogram = b->malformed = false;
	read_labels(b, metric);
	b->start_time = 0;
	while (wire_next(&r, &f)) {
		switch (f.key) {
		case WIRE_KEY(2, WIRE_BYTES):
		case WIRE_KEY(3, WIRE_BYTES):
		case WIRE_KEY(5, WIRE_BYTES):
			simple(b, f.bytes);
			break;
		case WIRE_KEY(4, WIRE_BYTES):
			summary(b, f.bytes);
			break;
		case WIRE_KEY(6, WIRE_VARINT):
			b->time = wire_int(&f);
			b->has_time = f.value != 0;
			break;
		case WIRE_KEY(7, WIRE_BYTES):
			TRY(histogram(p, b, f.bytes, e));
			break;
		default:
			break;
		}
	}
	if (r.failed || b->malformed)
		return scrape_fail(p, e, "a metric of %.*s is malformed",
				   (int)(b->name.len < 80 ? b->name.len : 80), b->name.ptr);
	if (b->text.overflow || b->labels.overflow)
		return scrape_fail(p, e, "a metric is too large");
	return OK;
}

/* ---- Families. */

static enum metrics_type type_of(uint64_t type)
{
	static const enum metrics_type types[] = {
		[COUNTER] = METRICS_TYPE_COUNTER,
		[GAUGE] = METRICS_TYPE_GAUGE,
		[SUMMARY] = METRICS_TYPE_SUMMARY,
		[UNTYPED] = METRICS_TYPE_UNKNOWN,
		[HISTOGRAM] = METRICS_TYPE_HISTOGRAM,
		[GAUGE_HISTOGRAM] = METRICS_TYPE_GAUGE_HISTOGRAM,
	};
	return type < ARRAY_COUNT(types) ? types[type] : METRICS_TYPE_UNKNOWN;
}

static errc begin_family(struct scrape_parser *p, struct err *e)
{
	struct scrape_protobuf *b = p->protobuf;
	struct reader body = reader_init((str){ p->at, (size_t)(p->end - p->at) });
	p->line = (size_t)(p->at - p->begin);
	str message = reader_bytes(&body, (size_t)reader_varint(&body));
	if (body.failed)
		return scrape_fail(p, e, "a metric family is cut short");
	p->at = (const char *)body.at;
	struct reader r = reader_init(message);
	struct wire_field f;
	b->name = b->help = b->unit = STR("");
	b->type = COUNTER;
	while (wire_next(&r, &f)) {
		if (f.key == WIRE_KEY(1, WIRE_BYTES))
			b->name = f.bytes;
		else if (f.key == WIRE_KEY(2, WIRE_BYTES))
			b->help = f.bytes;
		else if (f.key == WIRE_KEY(3, WIRE_VARINT))
			b->type = f.value;
		else if (f.key == WIRE_KEY(5, WIRE_BYTES))
			b->unit = f.bytes;
	}
	if (r.failed || !b->name.len || b->name.len > LABEL_NAME_BYTES_MAX ||
	    !text_is_utf8(b->name))
		return scrape_fail(p, e, "a metric family is malformed or has no name");
	p->type = type_of(b->type);
	p->family = (struct metrics_metadata){ b->name, p->type, b->help, b->unit };
	buf_clear(&b->head);
	char *head = buf_reserve(&b->head, b->name.len * 2 + 2);
	b->head.len = (size_t)(put_escaped(put(head, STR("{\"")), b->name) - head);
	b->family = reader_init(message);
	b->in_family = true;
	return OK;
}

/* The next Metric of the family; false at its end. */
static errc next_metric(struct scrape_parser *p, bool *ret_any, struct err *e)
{
	struct scrape_protobuf *b = p->protobuf;
	struct wire_field f;
	*ret_any = false;
	while (wire_next(&b->family, &f)) {
		if (f.key != WIRE_KEY(4, WIRE_BYTES))
			continue;
		*ret_any = true;
		return take_metric(p, f.bytes, e);
	}
	b->in_family = false;
	return OK;
}

static void give_common(struct scrape_parser *p)
{
	const struct scrape_protobuf *b = p->protobuf;
	p->has_time = b->has_time;
	p->time = b->time;
	p->start_time = b->start_time;
}

static void put_exemplar(struct scrape_parser *p, str message)
{
	struct reader r = reader_init(message);
	struct wire_field f;
	struct scrape_exemplar *x = &p->exemplars[p->exemplar_count];
	if (!message.len || p->exemplar_count == SCRAPE_EXEMPLARS_MAX)
		return;
	*x = (struct scrape_exemplar){ .labels = message, .time = INT64_MIN };
	while (wire_next(&r, &f)) {
		if (f.key == WIRE_KEY(2, WIRE_FIXED64))
			x->value = wire_double(&f);
		else if (f.key == WIRE_KEY(3, WIRE_BYTES))
			x->time = timestamp(f.bytes);
	}
	p->exemplar_count += !r.failed;
}

errc scrape_protobuf_next(struct scrape_parser *p, enum scrape_event *ret_event, struct err *e)
{
	struct scrape_protobuf *b = p->protobuf;
	for (;;) {
		if (b->has_histogram) {
			b->has_histogram = false;
			give_common(p);
			p->series = (str){ b->text.ptr + b->histogram_offset, b->histogram_len };
			p->histogram = &b->histogram->h;
			for (size_t i = 0; i < b->histogram_exemplar_count; i++)
				put_exemplar(p, b->histogram_exemplars[i]);
			*ret_event = SCRAPE_HISTOGRAM;
			return OK;
		}
		if (b->at < b->waiting_count) {
			const struct pending *w = &b->waiting[b->at++];
			give_common(p);
			p->series = (str){ b->text.ptr + w->offset, w->len };
			p->value = w->value;
			put_exemplar(p, w->exemplar);
			*ret_event = SCRAPE_SAMPLE;
			return OK;
		}
		bool any = false;
		if (b->in_family)
			TRY(next_metric(p, &any, e));
		if (any)
			continue;
		if (p->at == p->end) {
			*ret_event = SCRAPE_END;
			return OK;
		}
		TRY(begin_family(p, e));
		*ret_event = SCRAPE_FAMILY;
		return OK;
	}
}

errc scrape_protobuf_exemplar(struct scrape_parser *p, const struct scrape_exemplar *x,
			      struct label *items, size_t *ret_count, struct err *e)
{
	struct reader r = reader_init(x->labels);
	struct wire_field f;
	size_t count = 0;
	while (wire_next(&r, &f)) {
		if (f.key != WIRE_KEY(1, WIRE_BYTES))
			continue;
		if (count == LABELS_COUNT_MAX)
			return scrape_fail(p, e, "an exemplar has more than %d labels",
					   LABELS_COUNT_MAX);
		struct reader pair = wire_message(&f);
		struct wire_field part;
		items[count] = (struct label){ STR(""), STR("") };
		while (wire_next(&pair, &part)) {
			if (part.key == WIRE_KEY(1, WIRE_BYTES))
				items[count].name = part.bytes;
			else if (part.key == WIRE_KEY(2, WIRE_BYTES))
				items[count].value = part.bytes;
		}
		count++;
	}
	*ret_count = count;
	return OK;
}
