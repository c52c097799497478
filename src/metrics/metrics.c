/* The engine from open to close, and what is due in between. */
#include "metrics/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/checks.h"
#include "metrics/engine_state.h"
#include "metrics/metrics_internal.h"
#include "metrics/recovery.h"
#include "metrics/series_key.h"
#include "os/clock.h"
#include "os/io.h"

#define MIB (1024 * 1024)
#define BITS_BYTES ((size_t)1 << 29)

enum {
	SLICE_MS = 100,
	FLUSH_AGE_MS = 5 * 60 * 1000,
	HEAD_BYTES_MAX = 96 << 20, /* a head is flushed past this, or past a share of memory */
	HEAD_SHARE = 6,
	LOG_BYTES_MAX = 1 << 30,
	DISK_LOOK_MS = 1000,
	DROP_MS = 60 * 1000,
	RETENTION_MS = 60 * 1000,
	SERIES_IDLE_S = 3 * 3600,
	SWEEP_POSTINGS = 100000,
	UNRANKED_SHARE = 16,
	CONFIG_BYTES_MAX = 16 << 20,
	FOLDER_PATH_MAX = 3800,
};

/* ---- Options. */

static int64_t or_default(int64_t value, int64_t otherwise)
{
	return value ? value : otherwise;
}

static size_t quarter_of_machine(void)
{
	struct sysinfo machine = { 0 };
	sysinfo(&machine);
	size_t total = (size_t)machine.totalram * machine.mem_unit;
	return total / 4 > 64 * MIB ? total / 4 : 64 * MIB;
}

static errc copy_retentions(struct metrics *m, const struct metrics_options *from, struct err *e)
{
	size_t count = from->retention_count, matchers = 0, n = 0;
	if (count > METRICS_RETENTIONS_MAX)
		FAIL(e, ERR_LIMIT, "more than %d retentions", METRICS_RETENTIONS_MAX);
	for (size_t i = 0; i < count; i++)
		matchers += from->retentions[i].matcher_count;
	struct metrics_retention *copy = arena_array(&m->config, count + 1, sizeof(copy[0]));
	m->retention_matchers = must_calloc(matchers + 1, sizeof(m->retention_matchers[0]));
	TRY(arena_check(&m->config, "the retentions", e));
	for (size_t i = 0; i < count; i++) {
		const struct metrics_retention *r = &from->retentions[i];
		copy[i] = (struct metrics_retention){ &m->retention_matchers[n], r->matcher_count,
						      r->retention_ms };
		for (size_t k = 0; k < r->matcher_count; k++, n++) {
			struct matcher *own = &m->retention_matchers[n];
			*own = (struct matcher){
				.type = r->matchers[k].type,
				.name = arena_str(&m->config, r->matchers[k].name),
				.value = arena_str(&m->config, r->matchers[k].value),
			};
			TRY(matcher_compile(own, e));
		}
	}
	m->options.retentions = copy;
	return arena_check(&m->config, "the retentions", e);
}

static errc take_options(struct metrics *m, const struct metrics_options *options, struct err *e)
{
	const int64_t day = DAY_MS;
	struct metrics_options *o = &m->options;
	*o = *options;
	o->retention_ms = or_default(o->retention_ms, 31 * day);
	o->rollup_5m_retention_ms = or_default(o->rollup_5m_retention_ms, 186 * day);
	o->rollup_1h_retention_ms = or_default(o->rollup_1h_retention_ms, 5 * 365 * day);
	o->future_ms_max = or_default(o->future_ms_max, 10 * 60 * 1000);
	o->memory_bytes_max = o->memory_bytes_max ? o->memory_bytes_max : quarter_of_machine();
	o->query_bytes_max = o->query_bytes_max ? o->query_bytes_max : o->memory_bytes_max / 4;
	o->series_count_max = o->series_count_max ? o->series_count_max : 4000000;
	o->now = o->now ? o->now : clock_now;
	return copy_retentions(m, options, e);
}

/* ---- Opening. */

static char *path_below(const char *folder, const char *name)
{
	size_t size = strlen(folder) + strlen(name) + 2;
	char *path = must_realloc(NULL, size);
	snprintf(path, size, "%s/%s", folder, name);
	return path;
}

static errc lock_folder(struct metrics *m, struct err *e)
{
	char *path = path_below(m->folder, "lock");
	m->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	free(path);
	if (m->lock_fd < 0)
		FAIL_ERRNO(e, "cannot open the lock of %s", m->folder);
	if (flock(m->lock_fd, LOCK_EX | LOCK_NB) < 0)
		FAIL(e, ERR_BUSY, "another process has the metrics in %s open", m->folder);
	return OK;
}

static void init_budgets(struct metrics *m)
{
	int64_t all = (int64_t)m->options.memory_bytes_max;
	budget_init(&m->budget, "the memory of metrics", NULL, all);
	budget_init(&m->budget_head, "the memory of new samples", &m->budget, 0);
	budget_init(&m->budget_index, "the memory of series", &m->budget, all / 2);
	budget_init(&m->budget_queries, "the memory of queries", &m->budget, 0);
}

static struct metrics *engine_new(const char *folder)
{
	struct metrics *m = must_calloc(1, sizeof(*m));
	m->lock_fd = -1;
	m->folder = must_strdup(folder);
	m->parts_folder = path_below(folder, "parts");
	m->log_folder = path_below(folder, "log");
	m->config = arena_init(CONFIG_BYTES_MAX);
	m->next_file = m->next_write = m->next_tombstone = 1;
	pthread_rwlock_init(&m->index, NULL);
	pthread_mutex_init(&m->state, NULL);
	pthread_mutex_init(&m->work, NULL);
	pthread_cond_init(&m->applied, NULL);
	series_table_init(&m->table);
	m->logged = bits_new();
	m->quarantine = quarantine_new();
	m->view = view_new(NULL, 0, NULL, 0, NULL, 0);
	return m;
}

errc metrics_open(const struct metrics_options *options, struct metrics **ret_metrics,
		  struct err *e)
{
	if (strlen(options->folder) > FOLDER_PATH_MAX)
		FAIL(e, ERR_LIMIT, "the path %.60s… is too long", options->folder);
	struct metrics *m = engine_new(options->folder);
	errc rc = take_options(m, options, e);
	if (rc == OK)
		rc = io_make_dirs(m->folder, 0700, e);
	if (rc == OK)
		rc = lock_folder(m, e);
	if (rc == OK)
		rc = disk_watch_init(&m->disk, m->folder, options->disk_reserve_bytes, e);
	if (rc == OK) {
		init_budgets(m);
		rc = recovery_run(m, e);
	}
	/* the folders themselves survive a power cut, too */
	if (rc == OK)
		rc = io_sync_parent(m->parts_folder, e);
	if (rc == OK)
		rc = io_sync_parent(m->folder, e);
	if (rc != OK) {
		metrics_close(m);
		return rc;
	}
	*ret_metrics = m;
	return OK;
}

void metrics_close(struct metrics *m)
{
	if (!m)
		return;
	flush_abort(m);
	merge_abort(m);
	(void)!wal_close(m->wal, NULL);
	store_manifest_close(m->manifest);
	head_unref(m->head);
	head_unref(m->frozen);
	view_unref(m->view);
	part_file_unref(m->side);
	exemplar_store_done(&m->exemplars);
	metadata_store_done(&m->metadata);
	series_table_done(&m->table);
	bits_free(m->logged);
	for (size_t i = 0; i < m->source_count; i++)
		free(m->sources[i].name);
	free(m->sources);
	for (size_t i = 0; i < m->options.retention_count && m->retention_matchers; i++)
		for (size_t k = 0; k < m->options.retentions[i].matcher_count; k++)
			matcher_done((struct matcher *)&m->options.retentions[i].matchers[k]);
	free(m->retention_matchers);
	arena_done(&m->config);
	quarantine_free(m->quarantine);
	io_close(&m->lock_fd);
	free(m->folder);
	free(m->parts_folder);
	free(m->log_folder);
	pthread_rwlock_destroy(&m->index);
	pthread_mutex_destroy(&m->state);
	pthread_mutex_destroy(&m->work);
	pthread_cond_destroy(&m->applied);
	free(m);
}

/* ---- What is due. */

static bool flush_is_due(struct metrics *m)
{
	size_t most = m->options.memory_bytes_max / HEAD_SHARE;
	struct wal_stats log;
	wal_stats(m->wal, &log);
	pthread_mutex_lock(&m->state);
	size_t bytes = m->head->bytes;
	time_ms since = m->head->started_at;
	bool any = m->head->count > 0;
	pthread_mutex_unlock(&m->state);
	time_ms now = engine_now(m);
	return m->flush ||
	       (any && (bytes > (most < HEAD_BYTES_MAX ? most : HEAD_BYTES_MAX) ||
			now - since > FLUSH_AGE_MS || now < since - FLUSH_AGE_MS ||
			log.bytes > LOG_BYTES_MAX / 2 ||
			__atomic_exchange_n(&m->flush_wanted, false, __ATOMIC_RELAXED)));
}

/* Ranks make a query's sort cheap; a few series without are put in between by labels. */
static void rank_series(struct metrics *m)
{
	size_t unranked = __atomic_load_n(&m->unranked_count, __ATOMIC_RELAXED);
	pthread_rwlock_rdlock(&m->index);
	size_t count = m->table.count;
	pthread_rwlock_unlock(&m->index);
	if (!unranked || unranked < count / UNRANKED_SHARE)
		return;
	__atomic_fetch_sub(&m->unranked_count, unranked, __ATOMIC_RELAXED);
	series_table_rank(&m->table, &m->index);
	pthread_rwlock_wrlock(&m->index);
	charge_index(m);
	pthread_rwlock_unlock(&m->index);
}

static errc look_after(struct metrics *m, bool *ret_more, struct err *e)
{
	time_ms now = engine_now(m);
	if (now - m->disk_looked_at >= DISK_LOOK_MS || now < m->disk_looked_at) {
		m->disk_looked_at = now;
		TRY(disk_watch_check(&m->disk, e));
	}
	if (now - m->dropped_at >= DROP_MS || now < m->dropped_at) {
		m->dropped_at = now;
		series_drop_idle(m);
	}
	rank_series(m);
	if (now - m->retention_at >= RETENTION_MS || now < m->retention_at) {
		TRY(retention_slice(m, ret_more, e));
		m->retention_at = *ret_more ? m->retention_at : now;
	}
	return OK;
}

errc metrics_tick(struct metrics *m, bool *ret_more, struct err *e)
{
	int64_t deadline = clock_mono_ms() + SLICE_MS;
	bool more = false, again = false;
	errc rc = OK;
	if (wal_sync_due_ms(m->wal) == 0)
		TRY(wal_sync(m->wal, e));
	pthread_mutex_lock(&m->work);
	if (flush_is_due(m))
		rc = flush_slice(m, false, deadline, &more, e);
	if (rc == OK && !more)
		rc = merge_slice(m, false, deadline, &more, e);
	if (rc == OK)
		rc = look_after(m, &again, e);
	pthread_mutex_unlock(&m->work);
	*ret_more = more || again;
	return rc;
}

static errc flush_all(struct metrics *m, struct err *e)
{
	bool more = true;
	/* one that began earlier may not have everything */
	for (int round = 0; round < 2; round++)
		for (more = true; more;)
			TRY(flush_slice(m, true, INT64_MAX, &more, e));
	return OK;
}

errc metrics_flush(struct metrics *m, bool merge, struct err *e)
{
	pthread_mutex_lock(&m->work);
	errc rc = flush_all(m, e);
	bool more = merge;
	while (rc == OK && more)
		rc = merge_slice(m, true, INT64_MAX, &more, e);
	pthread_mutex_unlock(&m->work);
	return rc;
}

errc metrics_sync(struct metrics *m, struct err *e)
{
	return wal_sync(m->wal, e);
}

/* ---- Series that nobody writes to. */

static bool is_idle(const struct metrics *m, const struct series *s, uint32_t now_s)
{
	return s->used_at + SERIES_IDLE_S < now_s && !head_chain(m->head, s) &&
	       !(m->frozen && head_chain(m->frozen, s));
}

void series_drop_idle(struct metrics *m)
{
	uint32_t now_s = (uint32_t)(engine_now(m) / 1000);
	pthread_rwlock_wrlock(&m->index);
	/* no commit begins now; those under way are done in the time of a write to the log */
	while (__atomic_load_n(&m->pinned_count, __ATOMIC_ACQUIRE))
		sched_yield();
	pthread_mutex_lock(&m->state);
	size_t chunk_count = (size_t)(m->table.next_id >> SERIES_CHUNK_BITS) + 1;
	for (size_t i = 0; i < chunk_count && i < SERIES_DIRECTORY_COUNT; i++) {
		for (size_t k = 0; m->table.chunks[i] && k < SERIES_CHUNK_COUNT; k++) {
			struct series *s = &m->table.chunks[i][k];
			if (!s->live || !is_idle(m, s, now_s))
				continue;
			if (s->source < m->source_count && m->sources[s->source].series_count)
				m->sources[s->source].series_count--;
			__atomic_fetch_and(&m->logged[s->id >> 6], ~(UINT64_C(1) << (s->id & 63)),
					   __ATOMIC_RELAXED);
			series_table_drop(&m->table, s);
		}
	}
	pthread_mutex_unlock(&m->state);
	if (m->table.dead_count && !series_table_sweep(&m->table, SWEEP_POSTINGS))
		m->table.dead_count = 0;
	charge_index(m);
	pthread_rwlock_unlock(&m->index);
}

/* ---- Deletion. */

errc metrics_delete(struct metrics *m, const struct matcher *matchers, size_t matcher_count,
		    time_ms from, time_ms to, uint64_t *ret_series_count, struct err *e)
{
	struct tombstone *t = NULL;
	pthread_mutex_lock(&m->work);
	/* what is in memory is older than the deletion, too */
	errc rc = flush_all(m, e);
	struct view *v = engine_view(m);
	if (rc == OK && v->tombstone_count >= TOMBSTONES_MAX)
		rc = err_fill(e, ERR_BUSY, 0, __FILE__, __LINE__,
			      "%d deletions wait to be carried out already; try again later",
			      TOMBSTONES_MAX);
	view_unref(v);
	if (rc == OK)
		rc = tombstone_new(m->next_tombstone, m->next_write - 1, from, to, matchers,
				   matcher_count, &t, e);
	if (rc == OK) {
		struct view_change change = { .tombstone_added = t };
		m->next_tombstone++;
		rc = engine_commit(m, &change, e);
	}
	tombstone_unref(t);
	pthread_mutex_unlock(&m->work);
	if (rc == OK)
		rc = names_count_series(m, matchers, matcher_count, from, to, ret_series_count, e);
	return rc;
}

/* ---- How it is. */

void metrics_stats(struct metrics *m, struct metrics_stats *ret)
{
	struct wal_stats log;
	const struct metrics_counters *c = &m->counters;
	wal_stats(m->wal, &log);
	*ret = (struct metrics_stats){
		.series_created_count = __atomic_load_n(&c->created, __ATOMIC_RELAXED),
		.series_refused_count = __atomic_load_n(&c->refused, __ATOMIC_RELAXED),
		.samples_taken_count = __atomic_load_n(&c->samples, __ATOMIC_RELAXED),
		.samples_old_count = __atomic_load_n(&c->old, __ATOMIC_RELAXED),
		.samples_future_count = __atomic_load_n(&c->future, __ATOMIC_RELAXED),
		.flush_count = __atomic_load_n(&c->flushes, __ATOMIC_RELAXED),
		.merge_count = __atomic_load_n(&c->merges, __ATOMIC_RELAXED),
		.commit_refused_count = __atomic_load_n(&c->commit_refused, __ATOMIC_RELAXED),
		.block_bad_count = __atomic_load_n(&c->bad_blocks, __ATOMIC_RELAXED),
		.log_sync_count = log.sync_count,
		.bytes_log = log.bytes,
		.quarantined_count = quarantine_count(m->quarantine),
		.memory_bytes = (uint64_t)budget_bytes(&m->budget),
		.memory_bytes_max = (uint64_t)budget_bytes_max(&m->budget),
		.read_only = disk_watch_is_read_only(&m->disk),
		.disk_free_bytes = disk_watch_free(&m->disk),
		.min_time = INT64_MAX,
		.max_time = INT64_MIN,
	};
	pthread_rwlock_rdlock(&m->index);
	ret->series_count = m->table.count;
	pthread_rwlock_unlock(&m->index);
	pthread_mutex_lock(&m->state);
	struct view *v = view_ref(m->view);
	const struct head *heads[] = { m->head, m->frozen };
	for (size_t i = 0; i < ARRAY_COUNT(heads); i++) {
		if (!heads[i])
			continue;
		ret->head_samples += heads[i]->count;
		ret->min_time = heads[i]->min_time < ret->min_time ? heads[i]->min_time
								   : ret->min_time;
		ret->max_time = heads[i]->max_time > ret->max_time ? heads[i]->max_time
								   : ret->max_time;
	}
	pthread_mutex_unlock(&m->state);
	ret->part_count = v->part_count;
	for (size_t i = 0; i < v->part_count; i++) {
		const struct metrics_part_meta *meta = metrics_part_meta(v->parts[i]);
		ret->part_samples += meta->sample_count;
		ret->bytes_on_disk += part_file_bytes(metrics_part_file(v->parts[i]));
		ret->min_time = meta->min_time < ret->min_time ? meta->min_time : ret->min_time;
		ret->max_time = meta->max_time > ret->max_time ? meta->max_time : ret->max_time;
	}
	for (size_t i = 0; i < v->segment_count; i++)
		ret->bytes_on_disk += part_file_bytes(index_segment_file(v->segments[i]));
	view_unref(v);
}
