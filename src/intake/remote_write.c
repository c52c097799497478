/*
 * The hot path: a body of thousands of series that were all seen before, with one sample each.
 * Their labels are hashed as they lie in the message, never looked at; the cache lines of the next
 * REMOTE_AHEAD series are fetched while those before are stored.
 */
#include "intake/remote_write.h"

#include <stdlib.h>

#include "base/checks.h"
#include "intake/remote_write_internal.h"

enum {
	/* what the fields are numbered */
	SAMPLE = 2,
	EXEMPLAR_V1 = 3,
	HISTOGRAM_V1 = 4,
	HISTOGRAM_V2 = 3,
	EXEMPLAR_V2 = 4,
	EXEMPLAR_CHARACTERS_MAX = 128,
};

errc remote_write_version_of(str content_type, enum remote_write_version *ret_version,
			     struct err *e)
{
	str rest = content_type, part, proto = { 0 };
	bool first = true, known = false;
	while (str_split(&rest, ';', &part)) {
		part = str_trim(part);
		if (first)
			known = str_eq_c(part, "application/x-protobuf");
		else if (str_starts(part, STR("proto=")))
			proto = (str){ part.ptr + 6, part.len - 6 };
		first = false;
	}
	if (known && (proto.len == 0 || str_eq_c(proto, "prometheus.WriteRequest")))
		*ret_version = REMOTE_WRITE_1;
	else if (known && str_eq_c(proto, "io.prometheus.write.v2.Request"))
		*ret_version = REMOTE_WRITE_2;
	else
		FAIL(e, ERR_INVALID,
		     "the Content-Type \"%.*s\" is not remote write: send application/x-protobuf, "
		     "with proto=prometheus.WriteRequest or proto=io.prometheus.write.v2.Request",
		     (int)(content_type.len < 120 ? content_type.len : 120), content_type.ptr);
	return OK;
}

/* A varint at P, which has 8 readable bytes, when it is at most 8 long: its length, else 0. */
static inline size_t short_varint(const uint8_t *p, uint64_t *ret_value)
{
	uint64_t x;
	memcpy(&x, p, sizeof(x));
	uint64_t ends = ~x & 0x8080808080808080u;
	if (!ends)
		return 0;
	unsigned bits = (unsigned)__builtin_ctzll(ends) + 1;
	/* drop what is behind it, then close up: 7-bit groups to 14, 28, 56 bits */
	x &= ~0ull >> (64 - bits);
	x = (x & 0x007f007f007f007f) | (x & 0x7f007f007f007f00) >> 1;
	x = (x & 0x00003fff00003fff) | (x & 0x3fff00003fff0000) >> 2;
	x = (x & 0x000000000fffffff) | (x & 0x0fffffff00000000) >> 4;
	*ret_value = x;
	return bits / 8;
}

struct remote_sample {
	double value;
	time_ms time, start_time;
};

/* As every sender writes it: the value, then the time in six bytes. */
static inline bool quick_sample(str message, struct remote_sample *s)
{
	const uint8_t *p = (const uint8_t *)message.ptr;
	uint64_t time;
	if (message.len < 16 || message.len > 18 || p[0] != WIRE_KEY(1, WIRE_FIXED64) ||
	    p[9] != WIRE_KEY(2, WIRE_VARINT))
		return false;
	/* the eight bytes end with the message, and the time among them is shifted to their front
	 */
	uint64_t tail;
	memcpy(&tail, p + message.len - 8, sizeof(tail));
	tail >>= 8 * (8 - (message.len - 10));
	/* bytes behind a shorter one are zeros, which end it */
	if (short_varint((const uint8_t *)&tail, &time) != message.len - 10)
		return false;
	memcpy(&s->value, p + 1, sizeof(s->value));
	s->time = (time_ms)time;
	s->start_time = 0;
	return true;
}

static bool slow_sample(str message, struct remote_sample *s)
{
	struct reader r = reader_init(message);
	struct wire_field f;
	*s = (struct remote_sample){ 0 };
	while (wire_next(&r, &f)) {
		if (f.key == WIRE_KEY(1, WIRE_FIXED64))
			s->value = wire_double(&f);
		else if (f.key == WIRE_KEY(2, WIRE_VARINT))
			s->time = wire_int(&f);
		else if (f.key == WIRE_KEY(3, WIRE_VARINT))
			s->start_time = wire_int(&f);
	}
	return !r.failed;
}

static errc malformed(struct err *e, const char *what)
{
	FAIL(e, ERR_INVALID,
	     "the body is not a write request: a %s is malformed; check the sender's protocol "
	     "version and compression",
	     what);
}

static errc labels_of(const struct remote_write *w, str message, struct label *items,
		      size_t *ret_count, struct err *e)
{
	return w->version == REMOTE_WRITE_1 ? remote_labels_v1(message, items, ret_count, e)
					    : remote_labels_v2(w, message, items, ret_count, e);
}

/* Find S by its labels, and remember it. */
static __attribute__((noinline)) errc resolve(struct remote_write *w, struct remote_series *s,
					      struct err *e)
{
	struct label items[LABELS_COUNT_MAX];
	size_t count = 0;
	TRY(labels_of(w, s->message, items, &count, e));
	TRY(intake_series(w->batch, items, count, &s->ref, e));
	if (s->has_hash)
		series_cache_put(w->in->cache, s->hash, s->ref);
	if (w->version == REMOTE_WRITE_2) {
		struct labels labels = { items, count };
		remote_metadata_v2(w, s->message, labels_get(&labels, STR(LABEL_METRIC_NAME)));
	}
	return OK;
}

/* The engine has dropped the series of S since it was cached, or even just now. */
static errc lost(struct remote_write *w, struct err *e)
{
	err_fill(e, ERR_BUSY, 0, __FILE__, __LINE__,
		 "a series was dropped while its samples came in; send them again");
	intake_reject(w->result, 1, e);
	return OK;
}

static __attribute__((noinline)) errc again(struct remote_write *w, struct remote_series *s,
					    struct err *e)
{
	errc rc = resolve(w, s, e);
	if (rc == OK || intake_is_fatal(rc))
		return rc;
	intake_reject(w->result, 1, e);
	s->ref = 0;
	return OK;
}

static void put_start(struct remote_write *w, struct remote_series *s, time_ms start)
{
	/* false: the series was dropped just now, and its next sample will find that out */
	if (start && s->ref)
		(void)metrics_batch_start_time(w->batch, s->ref, start);
}

static errc put_sample(struct remote_write *w, struct remote_series *s, str message, struct err *e)
{
	struct remote_sample sample;
	if (!quick_sample(message, &sample) && !slow_sample(message, &sample))
		return malformed(e, "sample");
	if (!metrics_batch_sample(w->batch, s->ref, sample.time, sample.value)) {
		TRY(again(w, s, e));
		if (!s->ref)
			return OK;
		if (!metrics_batch_sample(w->batch, s->ref, sample.time, sample.value))
			return lost(w, e);
	}
	if (sample.start_time)
		put_start(w, s, sample.start_time);
	w->result->sample_count++;
	return OK;
}

static __attribute__((noinline)) errc put_histogram(struct remote_write *w, struct remote_series *s,
						    str message, struct err *e)
{
	time_ms time = 0, start = 0;
	if (!w->histogram)
		w->histogram = intake_histogram_new();
	errc rc = remote_histogram(message, w->histogram, &time, &start, e);
	if (rc != OK) {
		struct label items[LABELS_COUNT_MAX];
		size_t count = 0;
		struct err other;
		if (labels_of(w, s->message, items, &count, &other) == OK)
			intake_name_series(e, items, count);
		intake_reject(w->result, 1, e);
		return OK;
	}
	if (!metrics_batch_histogram(w->batch, s->ref, time, &w->histogram->h)) {
		TRY(again(w, s, e));
		if (!s->ref)
			return OK;
		if (!metrics_batch_histogram(w->batch, s->ref, time, &w->histogram->h))
			return lost(w, e);
	}
	put_start(w, s, start);
	w->result->histogram_count++;
	return OK;
}

static size_t characters_of(const struct labels *labels)
{
	size_t count = 0;
	for (size_t i = 0; i < labels->count; i++) {
		str parts[] = { labels->items[i].name, labels->items[i].value };
		for (size_t p = 0; p < ARRAY_COUNT(parts); p++)
			for (size_t k = 0; k < parts[p].len; k++)
				count += (parts[p].ptr[k] & 0xc0) != 0x80;
	}
	return count;
}

/* One that cannot be taken is left out: exemplars are a sample of what happened anyway. */
static __attribute__((noinline)) errc put_exemplar(struct remote_write *w, struct remote_series *s,
						   str message, struct err *e)
{
	struct label items[LABELS_COUNT_MAX];
	struct metrics_exemplar exemplar = { 0 };
	size_t count = 0;
	struct reader r = reader_init(message);
	struct wire_field f;
	while (wire_next(&r, &f)) {
		if (f.key == WIRE_KEY(2, WIRE_FIXED64))
			exemplar.value = wire_double(&f);
		else if (f.key == WIRE_KEY(3, WIRE_VARINT))
			exemplar.time = wire_int(&f);
	}
	if (r.failed)
		return malformed(e, "exemplar");
	if (labels_of(w, message, items, &count, e) == OK &&
	    labels_normalize(items, count, &exemplar.labels, e) == OK &&
	    characters_of(&exemplar.labels) <= EXEMPLAR_CHARACTERS_MAX &&
	    metrics_batch_exemplar(w->batch, s->ref, &exemplar))
		w->result->exemplar_count++;
	else
		w->result->exemplar_rejected_count++;
	return OK;
}

static errc put_series(struct remote_write *w, struct remote_series *s, struct err *e)
{
	bool v2 = w->version == REMOTE_WRITE_2;
	s->ref = s->has_hash ? series_cache_get(w->in->cache, s->hash) : 0;
	if (!s->ref) {
		errc rc = resolve(w, s, e);
		if (rc != OK && intake_is_fatal(rc))
			return rc;
		if (rc != OK) {
			intake_reject(w->result, s->sample_count, e);
			return OK;
		}
	}
	w->result->series_count++;
	struct reader r = reader_init(s->message);
	struct wire_field f;
	while (wire_next(&r, &f)) {
		if (f.key == WIRE_KEY(SAMPLE, WIRE_BYTES))
			TRY(put_sample(w, s, f.bytes, e));
		else if (f.key == WIRE_KEY(v2 ? HISTOGRAM_V2 : HISTOGRAM_V1, WIRE_BYTES))
			TRY(put_histogram(w, s, f.bytes, e));
		else if (f.key == WIRE_KEY(v2 ? EXEMPLAR_V2 : EXEMPLAR_V1, WIRE_BYTES) && s->ref)
			TRY(put_exemplar(w, s, f.bytes, e));
		else if (v2 && f.key == WIRE_KEY(6, WIRE_VARINT))
			put_start(w, s, wire_int(&f));
	}
	return r.failed ? malformed(e, "time series") : OK;
}

errc remote_flush(struct remote_write *w, struct err *e)
{
	for (size_t i = 0; i < w->ahead_count; i++)
		TRY(put_series(w, &w->ahead[i], e));
	w->ahead_count = 0;
	return OK;
}

errc remote_add(struct remote_write *w, const struct remote_series *s, struct err *e)
{
	if (s->has_hash)
		series_cache_prefetch(w->in->cache, s->hash);
	w->ahead[w->ahead_count++] = *s;
	return w->ahead_count == REMOTE_AHEAD ? remote_flush(w, e) : OK;
}

static void put_metadata_v1(struct remote_write *w, str message)
{
	struct reader r = reader_init(message);
	struct wire_field f;
	struct metrics_metadata m = { 0 };
	while (wire_next(&r, &f)) {
		switch (f.key) {
		case WIRE_KEY(1, WIRE_VARINT):
			m.type = f.value <= METRICS_TYPE_STATESET ? (enum metrics_type)f.value
								  : METRICS_TYPE_UNKNOWN;
			break;
		case WIRE_KEY(2, WIRE_BYTES):
			m.name = f.bytes;
			break;
		case WIRE_KEY(4, WIRE_BYTES):
			m.help = f.bytes;
			break;
		case WIRE_KEY(5, WIRE_BYTES):
			m.unit = f.bytes;
			break;
		}
	}
	if (r.failed || !intake_metadata(w->batch, &m))
		return;
	w->result->metadata_count++;
}

static errc read_body(struct remote_write *w, str body, struct err *e)
{
	struct reader r = reader_init(body);
	struct wire_field f;
	const bool v2 = w->version == REMOTE_WRITE_2;
	const uint32_t series = WIRE_KEY(v2 ? 5 : 1, WIRE_BYTES);
	if (v2)
		TRY(remote_symbols_v2(w, body, e));
	while (wire_next(&r, &f)) {
		if (f.key == series) {
			struct remote_series s;
			TRY(v2 ? remote_scan_v2(w, f.bytes, &s, e)
			       : remote_scan_v1(f.bytes, &s, e));
			if (v2 && s.sample_count == 0) {
				err_fill(e, ERR_INVALID, 0, __FILE__, __LINE__,
					 "a time series has neither samples nor histograms");
				intake_reject(w->result, 0, e);
				continue;
			}
			TRY(remote_add(w, &s, e));
		} else if (!v2 && f.key == WIRE_KEY(3, WIRE_BYTES)) {
			put_metadata_v1(w, f.bytes);
		}
	}
	if (r.failed)
		return malformed(e, "field");
	return remote_flush(w, e);
}

errc intake_remote_write(struct intake *in, struct metrics_batch *batch, str body,
			 enum remote_write_version version, struct intake_result *ret,
			 struct err *e)
{
	struct remote_write w = { .version = version, .in = in, .batch = batch, .result = ret };
	struct err own;
	if (!e)
		e = &own;
	series_cache_enter(in->cache);
	errc rc = read_body(&w, body, e);
	series_cache_leave(in->cache);
	intake_histogram_free(w.histogram);
	free(w.symbols);
	free(w.symbol_hashes);
	return rc;
}
