/* Samples on their way in: gathered, written to the log as one group, then put into the head. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "metrics/histogram_codec.h"
#include "metrics/metrics_internal.h"
#include "metrics/series_key.h"

enum {
	BATCH_SAMPLES_MIN = 1024,
	RECORD_BYTES_MAX = 48 << 20,
	SAMPLES_IN_RECORD = 1 << 20,
	BATCH_SAMPLES_MAX = 2 << 20, /* of one commit: what a group of the log can hold */
	RECORDS_MAX = 8,
};

/* Whose histograms or exemplars are in a batch. */
struct id_list {
	uint32_t *items;
	size_t count, room;
};

static void push_id(struct id_list *l, metrics_ref ref)
{
	if (l->count == l->room) {
		l->room = l->room ? l->room * 2 : 64;
		l->items = must_realloc(l->items, l->room * sizeof(l->items[0]));
	}
	l->items[l->count++] = (uint32_t)ref;
}

struct metrics_batch {
	struct metrics *m;
	char source[SOURCE_NAME_MAX + 1];
	uint32_t source_index; /* UINT32_MAX: not known yet */
	uint64_t series_count_max;
	uint32_t *ids;
	time_ms *times;
	double *values;
	size_t count, room;
	time_ms floor, ceiling; /* of times; good for one commit */
	bool has_range;
	struct buf histograms, exemplars, metadata, definitions, samples;
	struct id_list histogram_ids, exemplar_ids;
	struct metrics_batch_result result; /* so far */
	struct err failed;                  /* of something that could not be gathered */
};

struct metrics_batch *metrics_batch_new(struct metrics *m, str source, uint64_t series_count_max)
{
	struct metrics_batch *b = must_calloc(1, sizeof(*b));
	b->m = m;
	if (source.len > SOURCE_NAME_MAX)
		source.len = SOURCE_NAME_MAX;
	must(str_copy(source, b->source, sizeof(b->source)));
	b->source_index = UINT32_MAX;
	b->series_count_max = series_count_max;
	b->histograms = buf_init(RECORD_BYTES_MAX);
	b->exemplars = buf_init(RECORD_BYTES_MAX / 4);
	b->metadata = buf_init(RECORD_BYTES_MAX / 4);
	b->definitions = buf_init(RECORD_BYTES_MAX);
	b->samples = buf_init(RECORD_BYTES_MAX);
	return b;
}

void metrics_batch_free(struct metrics_batch *b)
{
	if (!b)
		return;
	free(b->ids);
	free(b->times);
	free(b->values);
	free(b->histogram_ids.items);
	free(b->exemplar_ids.items);
	struct buf *const bufs[] = { &b->histograms, &b->exemplars, &b->metadata, &b->definitions,
				     &b->samples };
	for (size_t i = 0; i < ARRAY_COUNT(bufs); i++)
		buf_done(bufs[i]);
	free(b);
}

void metrics_batch_abort(struct metrics_batch *b)
{
	b->count = b->histogram_ids.count = b->exemplar_ids.count = 0;
	b->has_range = false;
	buf_clear(&b->histograms);
	buf_clear(&b->exemplars);
	buf_clear(&b->metadata);
	b->result = (struct metrics_batch_result){ 0 };
	b->failed.code = OK;
}

/* ---- Series. */

/* Holds: index alone. */
static uint32_t source_index(struct metrics *m, const char *name)
{
	uint64_t hash = series_key_hash(str_c(name));
	for (size_t i = 0; i < m->source_count; i++)
		if (m->sources[i].hash == hash && strcmp(m->sources[i].name, name) == 0)
			return (uint32_t)i;
	if (m->source_count == m->source_room) {
		m->source_room = m->source_room ? m->source_room * 2 : 16;
		m->sources = must_realloc(m->sources, m->source_room * sizeof(m->sources[0]));
	}
	m->sources[m->source_count] = (struct source){ must_strdup(name), hash, 0 };
	return (uint32_t)m->source_count++;
}

/* The id that the series had before it was dropped from memory, so that it goes on with it. */
static uint32_t earlier_id(struct metrics *m, str key)
{
	struct view *v = engine_view(m);
	uint32_t today = day_of(engine_now(m)), id = 0;
	for (size_t i = v->segment_count; i-- > 0 && !id;) {
		/* older days are not worth the look */
		if (index_segment_day(v->segments[i]) + 1 < today)
			break;
		id = index_segment_find(v->segments[i], key);
	}
	view_unref(v);
	return id;
}

/* Holds: index alone. */
static errc check_limits(struct metrics_batch *b, struct err *e)
{
	struct metrics *m = b->m;
	const struct source *source = &m->sources[b->source_index];
	uint64_t most = b->series_count_max;
	errc rc = OK;
	if (most && source->series_count >= most)
		rc = err_fill(e, ERR_BUSY, 0, __FILE__, __LINE__,
			      "%s has %llu series already, as many as it may; send fewer labels "
			      "or raise its limit",
			      b->source, (unsigned long long)most);
	else if (m->table.count >= m->options.series_count_max)
		rc = err_fill(e, ERR_BUSY, 0, __FILE__, __LINE__,
			      "there are %llu active series, as many as there may be; `holdfast "
			      "cardinality` shows where they come from",
			      (unsigned long long)m->options.series_count_max);
	else if (budget_percent(&m->budget_index) >= 100)
		rc = err_fill(e, ERR_BUSY, 0, __FILE__, __LINE__,
			      "the memory for series is full; `holdfast cardinality` shows where "
			      "they come from");
	else if (m->table.next_id > SERIES_ID_MAX)
		rc = err_fill(e, ERR_BUSY, 0, __FILE__, __LINE__,
			      "this data folder has had as many series as it can");
	if (rc != OK)
		count_up(&m->counters.refused, 1);
	return rc;
}

static errc make_series(struct metrics_batch *b, str key, uint64_t hash, metrics_ref *ret_ref,
			struct err *e)
{
	struct metrics *m = b->m;
	uint32_t id = earlier_id(m, key);
	errc rc = OK;
	pthread_rwlock_wrlock(&m->index);
	if (b->source_index == UINT32_MAX)
		b->source_index = source_index(m, b->source);
	struct series *s = series_table_find(&m->table, key, hash);
	if (!s)
		rc = check_limits(b, e);
	if (!s && rc == OK) {
		pthread_mutex_lock(&m->state);
		bool known = id && !series_table_get(&m->table, id);
		s = series_table_add(&m->table, known ? id : (uint32_t)m->table.next_id, key, hash);
		s->source = b->source_index;
		s->used_at = (uint32_t)(engine_now(m) / 1000);
		s->retention = (uint8_t)retention_class_of(m, key);
		if (known)
			__atomic_fetch_or(&m->logged[id >> 6], UINT64_C(1) << (id & 63),
					  __ATOMIC_RELAXED);
		else
			count_up(&m->counters.created, 1);
		pthread_mutex_unlock(&m->state);
		m->sources[b->source_index].series_count++;
		__atomic_fetch_add(&m->unranked_count, 1, __ATOMIC_RELAXED);
		charge_index(m);
	}
	if (s && s->source == UINT32_MAX) { /* of the log: now it is known who sends it */
		s->source = b->source_index;
		m->sources[b->source_index].series_count++;
	}
	if (s)
		*ret_ref = s->id;
	pthread_rwlock_unlock(&m->index);
	return rc;
}

errc metrics_batch_series(struct metrics_batch *b, const struct labels *labels,
			  metrics_ref *ret_ref, struct err *e)
{
	uint8_t room[4096], *bytes = room;
	struct metrics *m = b->m;
	size_t size = series_key_size(labels);
	if (size > SERIES_KEY_BYTES_MAX || labels->count > LABELS_COUNT_MAX)
		FAIL(e, ERR_INVALID, "the labels of a series have %zu bytes; at most %d", size,
		     (int)SERIES_KEY_BYTES_MAX);
	if (size > sizeof(room))
		bytes = must_realloc(NULL, size);
	series_key_put(bytes, labels);
	str key = { (const char *)bytes, size };
	uint64_t hash = series_key_hash(key);
	pthread_rwlock_rdlock(&m->index);
	struct series *s = series_table_find(&m->table, key, hash);
	metrics_ref ref = s && s->source != UINT32_MAX ? s->id : 0;
	pthread_rwlock_unlock(&m->index);
	errc rc = ref ? OK : make_series(b, key, hash, &ref, e);
	if (bytes != room)
		free(bytes);
	TRY(rc);
	*ret_ref = ref;
	return OK;
}

/* ---- Samples. */

static void set_range(struct metrics_batch *b)
{
	const struct metrics *m = b->m;
	time_ms now = engine_now(m);
	int64_t longest = m->options.retention_ms;
	for (size_t i = 0; i < m->options.retention_count; i++)
		if (m->options.retentions[i].retention_ms > longest)
			longest = m->options.retentions[i].retention_ms;
	b->floor = now > INT64_MIN + longest ? now - longest : INT64_MIN;
	b->ceiling = now + m->options.future_ms_max;
	b->has_range = true;
}

static void refuse(struct metrics_batch *b, metrics_ref ref, time_ms time, bool old)
{
	struct metrics *m = b->m;
	char text[UNIT_TEXT_SIZE], age[UNIT_TEXT_SIZE];
	*(old ? &b->result.too_old_count : &b->result.too_new_count) += 1;
	count_up(old ? &m->counters.old : &m->counters.future, 1);
	if (b->result.refusal[0])
		return;
	struct buf name CLEANUP(buf_done) = buf_init(400);
	pthread_rwlock_rdlock(&m->index);
	const struct series *s = series_table_get(&m->table, (uint32_t)ref);
	struct label items[LABELS_COUNT_MAX];
	struct labels labels = { items, s && s->key ? series_key_labels(series_key(s), items) : 0 };
	labels_print(&name, &labels);
	pthread_rwlock_unlock(&m->index);
	time_format(time, text);
	duration_format(old ? m->options.retention_ms : m->options.future_ms_max, age);
	snprintf(b->result.refusal, sizeof(b->result.refusal),
		 old ? "the sample of %.300s at %s is too old: samples are kept for %s"
		     : "the sample of %.300s at %s is too far in the future: more than %s",
		 name.ptr ? name.ptr : "a series", text, age);
}

/* Whether TIME may be stored; the range is looked up once for each commit. */
static inline bool in_range(struct metrics_batch *b, metrics_ref ref, time_ms time)
{
	if (__builtin_expect(!b->has_range, 0))
		set_range(b);
	if (__builtin_expect(time >= b->floor && time <= b->ceiling, 1))
		return true;
	refuse(b, ref, time, time < b->floor);
	return false;
}

static void grow(struct metrics_batch *b)
{
	b->room = b->room ? b->room * 2 : BATCH_SAMPLES_MIN;
	b->ids = must_realloc(b->ids, b->room * sizeof(b->ids[0]));
	b->times = must_realloc(b->times, b->room * sizeof(b->times[0]));
	b->values = must_realloc(b->values, b->room * sizeof(b->values[0]));
}

bool metrics_batch_sample(struct metrics_batch *b, metrics_ref ref, time_ms time, double value)
{
	if (__builtin_expect(!ref || !series_table_is_live(&b->m->table, ref), 0))
		return false;
	if (!in_range(b, ref, time))
		return true;
	if (__builtin_expect(b->count == b->room, 0)) {
		if (b->count >= BATCH_SAMPLES_MAX) {
			err_fill(&b->failed, ERR_LIMIT, 0, __FILE__, __LINE__,
				 "more than %d samples in one request", BATCH_SAMPLES_MAX);
			return true;
		}
		grow(b);
	}
	b->ids[b->count] = (uint32_t)ref;
	b->times[b->count] = time;
	b->values[b->count++] = value;
	return true;
}

bool metrics_batch_histogram(struct metrics_batch *b, metrics_ref ref, time_ms time,
			     const struct histogram *histogram)
{
	if (!ref || !series_table_is_live(&b->m->table, ref))
		return false;
	if (!in_range(b, ref, time))
		return true;
	push_id(&b->histogram_ids, ref);
	log_add_histogram(&b->histograms, (uint32_t)ref, time, histogram);
	return true;
}

bool metrics_batch_start_time(struct metrics_batch *b, metrics_ref ref, time_ms time)
{
	(void)time;
	return ref && series_table_is_live(&b->m->table, ref);
}

bool metrics_batch_exemplar(struct metrics_batch *b, metrics_ref ref,
			    const struct metrics_exemplar *x)
{
	uint8_t key[EXEMPLAR_LABEL_BYTES_MAX];
	if (!ref || !series_table_is_live(&b->m->table, ref))
		return false;
	size_t size = series_key_size(&x->labels);
	if (size > sizeof(key) || x->labels.count > LABELS_COUNT_MAX)
		return true;
	series_key_put(key, &x->labels);
	exemplar_add_bytes(&b->exemplars, (uint32_t)ref, x->time, x->value,
			   (str){ (const char *)key, size });
	push_id(&b->exemplar_ids, ref);
	return true;
}

void metrics_batch_metadata(struct metrics_batch *b, const struct metrics_metadata *metadata)
{
	metadata_add_bytes(&b->metadata, metadata);
}

/* ---- The commit. */

/* The labels of every series in IDS that neither log nor index has yet. False when one was dropped
 * since its samples were gathered. Holds: index. */
static bool define(struct metrics_batch *b, const uint32_t *ids, size_t count,
		   struct id_set *defined)
{
	struct metrics *m = b->m;
	for (size_t i = 0; i < count; i++) {
		uint32_t id = ids[i];
		if (__builtin_expect(!series_table_is_live(&m->table, id), 0))
			return false;
		if (__builtin_expect(id_bit(m->logged, id), 1))
			continue;
		if (defined->count && defined->ids[defined->count - 1] == id)
			continue;
		if (id_set_has(defined, id))
			continue;
		id_set_insert(defined, id);
		log_add_series(&b->definitions, id, series_key(series_table_get(&m->table, id)));
	}
	return true;
}

/* Define what is new; until unpin() no series is dropped. */
static errc pin(struct metrics_batch *b, struct id_set *defined, struct err *e)
{
	struct metrics *m = b->m;
	buf_clear(&b->definitions);
	pthread_rwlock_rdlock(&m->index);
	bool live = define(b, b->ids, b->count, defined) &&
		    define(b, b->histogram_ids.items, b->histogram_ids.count, defined) &&
		    define(b, b->exemplar_ids.items, b->exemplar_ids.count, defined);
	if (live)
		__atomic_fetch_add(&m->pinned_count, 1, __ATOMIC_ACQUIRE);
	pthread_rwlock_unlock(&m->index);
	if (!live)
		FAIL(e, ERR_BUSY,
		     "a series of this request was dropped meanwhile because nobody had written to "
		     "it for hours; send the request again");
	return OK;
}

static void unpin(struct metrics *m)
{
	__atomic_fetch_sub(&m->pinned_count, 1, __ATOMIC_RELEASE);
}

static errc make_records(struct metrics_batch *b, struct wal_record records[static RECORDS_MAX],
			 size_t *ret_count, struct err *e)
{
	size_t n = 0;
	buf_clear(&b->samples);
	if (b->count)
		log_add_samples(&b->samples, b->ids, b->times, b->values, b->count);
	const struct {
		enum log_record_type type;
		struct buf *bytes;
	} parts[] = { { LOG_SERIES, &b->definitions },
		      { LOG_SAMPLES, &b->samples },
		      { LOG_HISTOGRAMS, &b->histograms },
		      { LOG_EXEMPLARS, &b->exemplars },
		      { LOG_METADATA, &b->metadata } };
	for (size_t i = 0; i < ARRAY_COUNT(parts); i++) {
		TRY(buf_check(parts[i].bytes, "the samples of one request", e));
		if (parts[i].bytes->len)
			records[n++] = (struct wal_record){ (uint8_t)parts[i].type,
							    buf_str(parts[i].bytes) };
	}
	*ret_count = n;
	return OK;
}

/* Holds: state. */
static errc apply(struct metrics_batch *b, const struct id_set *defined, struct err *e)
{
	struct metrics *m = b->m;
	log_apply_samples(m, b->ids, b->times, b->values, b->count);
	TRY(log_apply_histograms(m, buf_str(&b->histograms), e));
	struct reader exemplars = reader_init(buf_str(&b->exemplars)),
		      metadata = reader_init(buf_str(&b->metadata));
	while (exemplar_read_bytes(&exemplars, &m->exemplars))
		;
	while (metadata_read_bytes(&metadata, &m->metadata))
		;
	for (size_t i = 0; i < defined->count; i++) {
		uint32_t id = defined->ids[i];
		if (series_table_get(&m->table, id))
			__atomic_fetch_or(&m->logged[id >> 6], UINT64_C(1) << (id & 63),
					  __ATOMIC_RELAXED);
	}
	charge_head(m);
	return OK;
}

/* In the order of the log, so that memory and log agree on what was last written. */
static errc apply_in_turn(struct metrics_batch *b, uint64_t sequence, const struct id_set *defined,
			  struct err *e)
{
	struct metrics *m = b->m;
	pthread_mutex_lock(&m->state);
	m->applying_count++;
	while (m->applied_next != sequence)
		pthread_cond_wait(&m->applied, &m->state);
	errc rc = apply(b, defined, e);
	m->applied_next = sequence + 1;
	if (--m->applying_count)
		pthread_cond_broadcast(&m->applied);
	pthread_mutex_unlock(&m->state);
	return rc;
}

static errc may_commit(struct metrics_batch *b, struct err *e)
{
	struct metrics *m = b->m;
	if (b->failed.code != OK) {
		if (e)
			*e = b->failed;
		return b->failed.code;
	}
	TRY(disk_watch_writable(&m->disk, e));
	size_t count = b->count + b->histogram_ids.count;
	pthread_mutex_lock(&m->state);
	size_t growth = head_growth(m->head, count) + b->histograms.len;
	bool room = head_has_room(m->head, count);
	pthread_mutex_unlock(&m->state);
	int64_t free_bytes = budget_bytes_max(&m->budget) - budget_bytes(&m->budget);
	if (room && (int64_t)growth <= free_bytes)
		return OK;
	__atomic_store_n(&m->flush_wanted, true, __ATOMIC_RELAXED);
	FAIL(e, ERR_BUSY,
	     "the memory for metrics is full (%lld MiB); what is there is being written to disk, "
	     "try again in a few seconds",
	     (long long)(budget_bytes(&m->budget) >> 20));
}

static errc write_and_apply(struct metrics_batch *b, const struct id_set *defined, struct err *e)
{
	struct metrics *m = b->m;
	struct wal_record records[RECORDS_MAX];
	size_t count = 0;
	uint64_t sequence = 0;
	TRY(make_records(b, records, &count, e));
	if (!count)
		return OK;
	errc rc = wal_append(m->wal, records, count, &sequence, e);
	if (rc == ERR_BUSY)
		__atomic_store_n(&m->flush_wanted, true, __ATOMIC_RELAXED);
	if (!sequence)
		return rc;
	/* what is in the log is in memory, whatever became of the sync */
	errc applied = apply_in_turn(b, sequence, defined, rc == OK ? e : NULL);
	return rc == OK ? applied : rc;
}

static errc commit(struct metrics_batch *b, struct id_set *defined, struct err *e)
{
	TRY(may_commit(b, e));
	TRY(pin(b, defined, e));
	errc rc = write_and_apply(b, defined, e);
	unpin(b->m);
	return rc;
}

errc metrics_batch_commit(struct metrics_batch *b, struct metrics_batch_result *ret, struct err *e)
{
	struct id_set defined CLEANUP(id_set_done) = { 0 };
	errc rc = commit(b, &defined, e);
	if (rc != OK) {
		count_up(&b->m->counters.commit_refused, 1);
		return rc;
	}
	b->result.sample_count = b->count;
	b->result.histogram_count = b->histogram_ids.count;
	b->result.exemplar_count = b->exemplar_ids.count;
	count_up(&b->m->counters.samples, b->count + b->histogram_ids.count);
	*ret = b->result;
	metrics_batch_abort(b);
	return OK;
}
