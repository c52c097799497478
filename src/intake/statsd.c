#include "intake/statsd.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "codec/text.h"
#include "intake/intake_histogram.h"
#include "intake/intake_internal.h"
#include "intake/intake_number.h"

enum {
	SERIES_DEFAULT = 20000,
	SET_VALUES_DEFAULT = 10000,
	IDLE_DEFAULT = 3600 * 1000,
	BOUNDS_MAX = 100,
	NATIVE_SCHEMA = 3,
	NATIVE_BUCKETS_MAX = 160,
	KEY_BYTES_MAX = 32 * 1024,
	SHOWN_MAX = 80,
	SETS_BYTES_MAX = 64 << 20, /* of all sets together */
};

static const double default_bounds[] = { 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10 };

enum kind { KIND_COUNTER, KIND_GAUGE, KIND_HISTOGRAM, KIND_SET };

struct native_bucket {
	int32_t index;
	double count;
};

struct metric {
	uint64_t hash; /* 0: empty */
	str key;       /* name, then labels by name: NUL-separated */
	enum kind kind;
	time_ms used_at;
	double value; /* counter, gauge; sum of a histogram */
	double count;
	double *buckets; /* classic, by bound and +Inf */
	struct native_bucket *native[2];
	size_t native_count[2];
	double zero_count;
	uint64_t *set; /* open addressing of hashes; 0 empty */
	size_t set_slots, set_count;
};

struct statsd {
	struct statsd_options options;
	pthread_mutex_t lock;
	struct metric *slots;
	size_t slot_count, count;
	double bounds[BOUNDS_MAX];
	size_t bound_count;
	size_t set_bytes;
};

struct statsd *statsd_new(const struct statsd_options *options)
{
	struct statsd *s = must_calloc(1, sizeof(*s));
	const double *bounds = options->bound_count ? options->bounds : default_bounds;
	s->options = *options;
	if (!s->options.series_max)
		s->options.series_max = SERIES_DEFAULT;
	if (!s->options.set_values_max)
		s->options.set_values_max = SET_VALUES_DEFAULT;
	if (!s->options.idle_ms)
		s->options.idle_ms = IDLE_DEFAULT;
	s->bound_count = options->bound_count ? options->bound_count : ARRAY_COUNT(default_bounds);
	s->bound_count = s->bound_count < BOUNDS_MAX ? s->bound_count : BOUNDS_MAX;
	memcpy(s->bounds, bounds, s->bound_count * sizeof(bounds[0]));
	s->slot_count = 1024;
	while (s->slot_count < s->options.series_max * 2)
		s->slot_count *= 2;
	s->slots = must_calloc(s->slot_count, sizeof(s->slots[0]));
	pthread_mutex_init(&s->lock, NULL);
	return s;
}

static void metric_done(struct metric *m)
{
	free((char *)m->key.ptr);
	free(m->buckets);
	free(m->native[0]);
	free(m->native[1]);
	free(m->set);
	*m = (struct metric){ 0 };
}

void statsd_free(struct statsd *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->slot_count; i++)
		metric_done(&s->slots[i]);
	free(s->slots);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

size_t statsd_series_count(struct statsd *s)
{
	pthread_mutex_lock(&s->lock);
	size_t count = s->count;
	pthread_mutex_unlock(&s->lock);
	return count;
}

/* ---- One line: `name:value[:value…]|type[|@rate][|#tag:value,…]` */

struct line {
	str name, values, type, tags;
	double rate;
};

static errc parse_line(str text, struct line *ret, struct err *e)
{
	const char *colon = memchr(text.ptr, ':', text.len);
	*ret = (struct line){ .rate = 1 };
	if (!colon || colon == text.ptr)
		FAIL(e, ERR_INVALID, "\"%.*s\" is not NAME:VALUE|TYPE",
		     (int)(text.len < SHOWN_MAX ? text.len : SHOWN_MAX), text.ptr);
	ret->name = (str){ text.ptr, (size_t)(colon - text.ptr) };
	str rest = { colon + 1, text.len - ret->name.len - 1 }, part;
	for (size_t i = 0; rest.len && str_split(&rest, '|', &part); i++) {
		if (i == 0)
			ret->values = part;
		else if (i == 1)
			ret->type = part;
		else if (part.len && part.ptr[0] == '#')
			ret->tags = (str){ part.ptr + 1, part.len - 1 };
		else if (part.len && part.ptr[0] == '@' &&
			 (!intake_number((str){ part.ptr + 1, part.len - 1 }, &ret->rate) ||
			  !(ret->rate > 0 && ret->rate <= 1 && isfinite(1 / ret->rate))))
			FAIL(e, ERR_INVALID, "\"%.*s\" is no sample rate of 0 to 1",
			     (int)(part.len < SHOWN_MAX ? part.len : SHOWN_MAX), part.ptr);
		/* others (`c:` container, `T` time) are let pass */
	}
	if (!ret->values.len || !ret->type.len)
		FAIL(e, ERR_INVALID, "\"%.*s\" has no value or no type",
		     (int)(text.len < SHOWN_MAX ? text.len : SHOWN_MAX), text.ptr);
	return OK;
}

static bool kind_of(str type, enum kind *ret, bool *ret_milliseconds)
{
	*ret_milliseconds = str_eq_c(type, "ms");
	if (str_eq_c(type, "c"))
		*ret = KIND_COUNTER;
	else if (str_eq_c(type, "g"))
		*ret = KIND_GAUGE;
	else if (str_eq_c(type, "ms") || str_eq_c(type, "h") || str_eq_c(type, "d"))
		*ret = KIND_HISTOGRAM;
	else if (str_eq_c(type, "s"))
		*ret = KIND_SET;
	else
		return false;
	return true;
}

/* As statsd_exporter: what a name may not have becomes `_`. */
static void add_name(struct buf *into, str s)
{
	if (s.len && s.ptr[0] >= '0' && s.ptr[0] <= '9')
		buf_add_byte(into, '_');
	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];
		bool fits = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			    (c >= '0' && c <= '9') || c == '_' || c == ':';
		buf_add_byte(into, fits ? c : '_');
	}
}

static int by_name(const void *a, const void *b)
{
	return str_cmp(((const struct label *)a)->name, ((const struct label *)b)->name);
}

/* Name and labels as one key; equal series have equal keys. */
static errc make_key(const struct line *l, enum kind kind, struct buf *key, struct err *e)
{
	struct label tags[LABELS_COUNT_MAX];
	struct buf names CLEANUP(buf_done) = buf_init(KEY_BYTES_MAX);
	size_t offsets[LABELS_COUNT_MAX], count = 0;
	str rest = l->tags, tag;
	add_name(key, l->name);
	buf_add_byte(key, '\0');
	TRY(buf_check(key, "the name", e));
	while (rest.len && str_split(&rest, ',', &tag)) {
		const char *colon = tag.len ? memchr(tag.ptr, ':', tag.len) : NULL;
		if (!colon || colon == tag.ptr)
			continue; /* a tag without a value says nothing here */
		if (count == LABELS_COUNT_MAX - 4)
			FAIL(e, ERR_LIMIT, "more than %d tags", LABELS_COUNT_MAX - 4);
		offsets[count] = names.len;
		add_name(&names, (str){ tag.ptr, (size_t)(colon - tag.ptr) });
		TRY(buf_check(&names, "the tags", e));
		tags[count].name.len = names.len - offsets[count];
		str tag_name = { names.ptr + offsets[count], tags[count].name.len };
		if (str_starts(tag_name, STR("__")) ||
		    (kind == KIND_HISTOGRAM && str_eq_c(tag_name, "le")))
			FAIL(e, ERR_INVALID, "no tag can be called \"%.*s\" here",
			     (int)(tag_name.len < SHOWN_MAX ? tag_name.len : SHOWN_MAX),
			     tag_name.ptr);
		tags[count++].value = (str){ colon + 1, tag.len - (size_t)(colon - tag.ptr) - 1 };
	}
	for (size_t i = 0; i < count; i++)
		tags[i].name.ptr = names.ptr + offsets[i];
	if (count)
		qsort(tags, count, sizeof(tags[0]), by_name);
	for (size_t i = 0; i < count; i++) {
		if (!tags[i].value.len || !text_is_utf8(tags[i].value) ||
		    (i && str_eq(tags[i].name, tags[i - 1].name)))
			continue;
		buf_add(key, tags[i].name);
		buf_add_byte(key, '\0');
		buf_add(key, tags[i].value);
		buf_add_byte(key, '\0');
	}
	return buf_check(key, "the tags", e);
}

/* Holds: lock. */
static errc metric_of(struct statsd *s, str key, enum kind kind, struct metric **ret, struct err *e)
{
	uint64_t hash = series_hash_of(key.ptr, key.len).low | 1;
	size_t at = (size_t)hash & (s->slot_count - 1);
	for (; s->slots[at].hash; at = (at + 1) & (s->slot_count - 1))
		if (s->slots[at].hash == hash && str_eq(s->slots[at].key, key))
			break;
	struct metric *m = &s->slots[at];
	if (m->hash && m->kind != kind)
		FAIL(e, ERR_INVALID, "%s was of another type before", m->key.ptr);
	if (!m->hash) {
		if (s->count >= s->options.series_max)
			FAIL(e, ERR_BUSY, "there are %zu StatsD series, as many as there may be",
			     s->count);
		*m = (struct metric){ .hash = hash, .kind = kind };
		char *copy = must_realloc(NULL, key.len + 1);
		memcpy(copy, key.ptr, key.len);
		m->key = (str){ copy, key.len };
		s->count++;
	}
	*ret = m;
	return OK;
}

/* ---- Values. */

static void observe_native(struct metric *m, double v, double weight)
{
	int side = v < 0;
	double size = fabs(v);
	if (size < 1e-128) {
		m->zero_count += weight;
		return;
	}
	int32_t index = (int32_t)ceil(log2(size) * (1 << NATIVE_SCHEMA));
	size_t n = m->native_count[side], low = 0, high = n;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (m->native[side][middle].index < index)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < n && m->native[side][low].index == index) {
		m->native[side][low].count += weight;
		return;
	}
	if (n == NATIVE_BUCKETS_MAX) { /* into its neighbour */
		m->native[side][low < n ? low : n - 1].count += weight;
		return;
	}
	m->native[side] = must_realloc(m->native[side], (n + 1) * sizeof(m->native[side][0]));
	memmove(m->native[side] + low + 1, m->native[side] + low,
		(n - low) * sizeof(m->native[side][0]));
	m->native[side][low] = (struct native_bucket){ index, weight };
	m->native_count[side]++;
}

static void observe(struct statsd *s, struct metric *m, double v, double weight)
{
	m->value += v * weight;
	m->count += weight;
	if (s->options.native_histograms) {
		observe_native(m, v, weight);
		return;
	}
	if (!m->buckets)
		m->buckets = must_calloc(s->bound_count + 1, sizeof(m->buckets[0]));
	size_t i = 0;
	while (i < s->bound_count && v > s->bounds[i])
		i++;
	m->buckets[i] += weight;
}

static void add_to_set(struct statsd *s, struct metric *m, str value)
{
	uint64_t hash = series_hash_of(value.ptr, value.len).low | 1;
	size_t slots = m->set_slots ? m->set_slots * 2 : 64;
	size_t more = (slots - m->set_slots) * sizeof(m->set[0]);
	bool full = m->set_count * 2 >= m->set_slots;
	if (m->set_count >= s->options.set_values_max ||
	    (full && s->set_bytes + more > SETS_BYTES_MAX)) {
		m->set_count++; /* counted, no more told apart */
		return;
	}
	if (full) {
		uint64_t *grown = must_calloc(slots, sizeof(grown[0]));
		for (size_t i = 0; i < m->set_slots; i++) {
			size_t at = (size_t)m->set[i] & (slots - 1);
			while (m->set[i] && grown[at])
				at = (at + 1) & (slots - 1);
			if (m->set[i])
				grown[at] = m->set[i];
		}
		free(m->set);
		m->set = grown;
		m->set_slots = slots;
		s->set_bytes += more;
	}
	size_t at = (size_t)hash & (m->set_slots - 1);
	while (m->set[at] && m->set[at] != hash)
		at = (at + 1) & (m->set_slots - 1);
	m->set_count += m->set[at] == 0;
	m->set[at] = hash;
}

static bool is_relative(str text)
{
	return text.ptr[0] == '+' || text.ptr[0] == '-';
}

static errc read_value(enum kind kind, const struct line *l, str text, double *ret, struct err *e)
{
	str number = text.len && text.ptr[0] == '+' ? (str){ text.ptr + 1, text.len - 1 } : text;
	if (!number.len || !intake_number(number, ret) || !isfinite(*ret) ||
	    !isfinite(*ret / l->rate))
		FAIL(e, ERR_INVALID, "\"%.*s\" is no number",
		     (int)(text.len < SHOWN_MAX ? text.len : SHOWN_MAX), text.ptr);
	if (kind == KIND_COUNTER && *ret < 0)
		FAIL(e, ERR_INVALID, "a counter cannot go back by %g", -*ret);
	return OK;
}

/* All values of a line, before the first counts: a bad line changes nothing. A set's value is one,
 * colons and all. */
static errc check_values(enum kind kind, const struct line *l, struct err *e)
{
	str rest = l->values, text;
	double v;
	while (kind != KIND_SET && rest.len && str_split(&rest, ':', &text))
		TRY(read_value(kind, l, text, &v, e));
	return OK;
}

static void take_value(struct statsd *s, struct metric *m, const struct line *l, bool milliseconds,
		       str text, double v)
{
	switch (m->kind) {
	case KIND_COUNTER:
		m->value += v / l->rate;
		break;
	case KIND_GAUGE:
		m->value = is_relative(text) ? m->value + v : v;
		break;
	default:
		observe(s, m, milliseconds ? v / 1000 : v, 1 / l->rate);
	}
}

static errc take_line(struct statsd *s, str text, time_ms now, struct intake_result *ret,
		      struct err *e)
{
	struct buf key CLEANUP(buf_done) = buf_init(KEY_BYTES_MAX);
	struct line l;
	struct metric *m = NULL;
	enum kind kind;
	bool milliseconds;
	str value;
	TRY(parse_line(text, &l, e));
	if (!kind_of(l.type, &kind, &milliseconds))
		FAIL(e, ERR_INVALID, "there is no type \"%.*s\": use c, g, ms, h, d or s",
		     (int)(l.type.len < 20 ? l.type.len : 20), l.type.ptr);
	TRY(check_values(kind, &l, e));
	TRY(make_key(&l, kind, &key, e));
	TRY(metric_of(s, buf_str(&key), kind, &m, e));
	m->used_at = now;
	ret->series_count++;
	if (kind == KIND_SET) {
		add_to_set(s, m, l.values);
		return OK;
	}
	while (l.values.len && str_split(&l.values, ':', &value)) {
		double v;
		TRY(read_value(kind, &l, value, &v, e));
		take_value(s, m, &l, milliseconds, value, v);
	}
	return OK;
}

void statsd_add(struct statsd *s, str datagram, time_ms now, struct intake_result *ret)
{
	str line;
	pthread_mutex_lock(&s->lock);
	while (datagram.len && str_split(&datagram, '\n', &line)) {
		struct err e = { 0 };
		line = str_trim(line);
		if (!line.len)
			continue;
		if (str_starts(line, STR("_e{")) || str_starts(line, STR("_sc|"))) {
			ret->skipped_count++; /* events and service checks */
			continue;
		}
		if (take_line(s, line, now, ret, &e) != OK)
			intake_reject(ret, 1, &e);
	}
	pthread_mutex_unlock(&s->lock);
}

/* ---- Flushing. */

static double stale_marker(void)
{
	union {
		uint64_t u;
		double d;
	} stale = { METRICS_STALE_BITS };
	return stale.d;
}

struct flushing {
	struct statsd *s;
	struct metrics_batch *batch;
	time_ms now;
	struct intake_result *result;
};

/* The labels of M with SUFFIX behind its name, and perhaps `le`. */
static size_t labels_of(const struct flushing *f, const struct metric *m, const char *suffix,
			const char *le, char *name, size_t name_size, struct label *items)
{
	const struct statsd_options *o = &f->s->options;
	str rest = m->key, part, value;
	size_t count = 1;
	must(str_split(&rest, '\0', &part));
	int n = snprintf(name, name_size, "%.*s%s", STR_ARG(part), suffix);
	items[0] = (struct label){ STR(LABEL_METRIC_NAME), { name, (size_t)n } };
	while (rest.len && str_split(&rest, '\0', &part) && str_split(&rest, '\0', &value))
		items[count++] = (struct label){ part, value };
	for (size_t i = 0; i < o->extra_label_count && count < LABELS_COUNT_MAX - 1; i++)
		items[count++] = o->extra_labels[i];
	if (le)
		items[count++] = (struct label){ STR("le"), str_c(le) };
	return count;
}

static void put(struct flushing *f, const struct metric *m, const char *suffix, const char *le,
		double value)
{
	struct label items[LABELS_COUNT_MAX];
	char name[KEY_BYTES_MAX + 16];
	struct err e = { 0 };
	metrics_ref ref;
	size_t count = labels_of(f, m, suffix, le, name, sizeof(name), items);
	if (intake_series(f->batch, items, count, &ref, &e) != OK) {
		intake_reject(f->result, 1, &e);
		return;
	}
	(void)metrics_batch_sample(f->batch, ref, f->now, value);
	f->result->sample_count++;
}

static void put_classic(struct flushing *f, const struct metric *m, bool stale)
{
	double sum = 0, gone = stale_marker();
	for (size_t i = 0; i <= f->s->bound_count; i++) {
		char le[NUMBER_TEXT_SIZE] = "+Inf";
		if (i < f->s->bound_count)
			intake_number_print(f->s->bounds[i], le);
		sum += m->buckets[i];
		put(f, m, "_bucket", le, stale ? gone : sum);
	}
	put(f, m, "_sum", NULL, stale ? gone : m->value);
	put(f, m, "_count", NULL, stale ? gone : m->count);
}

static void put_native(struct flushing *f, const struct metric *m)
{
	struct intake_histogram *h = intake_histogram_new();
	struct label items[LABELS_COUNT_MAX];
	char name[KEY_BYTES_MAX + 16];
	struct err e = { 0 };
	metrics_ref ref;
	intake_histogram_reset(h);
	h->h.schema = NATIVE_SCHEMA;
	h->h.zero_threshold = 1e-128;
	h->h.zero_count = m->zero_count;
	h->h.count = m->count;
	h->h.sum = m->value;
	for (int side = 0; side < 2; side++)
		for (size_t i = 0; i < m->native_count[side]; i++)
			intake_histogram_bucket(h, side, m->native[side][i].index,
						m->native[side][i].count);
	size_t count = labels_of(f, m, "", NULL, name, sizeof(name), items);
	errc rc = intake_histogram_finish(h, &e);
	if (rc == OK)
		rc = intake_series(f->batch, items, count, &ref, &e);
	if (rc == OK) {
		(void)metrics_batch_histogram(f->batch, ref, f->now, &h->h);
		f->result->histogram_count++;
	} else {
		intake_reject(f->result, 1, &e);
	}
	intake_histogram_free(h);
}

static void flush_metric(struct flushing *f, struct metric *m, bool stale)
{
	switch (m->kind) {
	case KIND_COUNTER:
	case KIND_GAUGE:
		put(f, m, "", NULL, stale ? stale_marker() : m->value);
		break;
	case KIND_SET:
		put(f, m, "", NULL, stale ? stale_marker() : (double)m->set_count);
		f->s->set_bytes -= m->set_slots * sizeof(m->set[0]);
		free(m->set);
		m->set = NULL;
		m->set_count = m->set_slots = 0;
		break;
	case KIND_HISTOGRAM:
		if (m->buckets)
			put_classic(f, m, stale);
		else if (stale)
			put(f, m, "", NULL, stale_marker());
		else
			put_native(f, m);
	}
}

/* What is left, in their places again. */
static void rebuild(struct statsd *s)
{
	struct metric *before = s->slots;
	s->slots = must_calloc(s->slot_count, sizeof(s->slots[0]));
	for (size_t i = 0; i < s->slot_count; i++) {
		size_t at = (size_t)before[i].hash & (s->slot_count - 1);
		if (!before[i].hash)
			continue;
		while (s->slots[at].hash)
			at = (at + 1) & (s->slot_count - 1);
		s->slots[at] = before[i];
	}
	free(before);
}

void statsd_flush(struct statsd *s, struct metrics_batch *batch, time_ms now,
		  struct intake_result *ret)
{
	struct flushing f = { s, batch, now, ret };
	bool forgotten = false;
	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < s->slot_count; i++) {
		struct metric *m = &s->slots[i];
		if (!m->hash)
			continue;
		bool stale = now - m->used_at > s->options.idle_ms;
		flush_metric(&f, m, stale);
		if (!stale)
			continue;
		metric_done(m);
		s->count--;
		forgotten = true;
	}
	if (forgotten)
		rebuild(s);
	pthread_mutex_unlock(&s->lock);
}
