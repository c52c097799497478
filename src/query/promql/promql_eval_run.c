#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checks.h"
#include "query/promql/promql_eval_core.h"

enum { WORKERS_MAX = 64 };

/* Before every piece of memory that promql_alloc() gives. */
struct promql_block {
	struct promql_block *prev, *next;
	size_t size;
	size_t align_to_16;
};

errc promql_charge(struct promql_run *run, int64_t bytes, struct err *e)
{
	TRY(metrics_charge(run->metrics, run->budget, bytes, e));
	int64_t now = __atomic_add_fetch(&run->bytes, bytes, __ATOMIC_RELAXED);
	int64_t peak = __atomic_load_n(&run->bytes_peak, __ATOMIC_RELAXED);
	while (now > peak && !__atomic_compare_exchange_n(&run->bytes_peak, &peak, now, true,
							  __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
	}
	return OK;
}

void promql_uncharge(struct promql_run *run, int64_t bytes)
{
	/* giving back does not fail */
	errc rc = metrics_charge(run->metrics, run->budget, -bytes, NULL);
	(void)rc;
	__atomic_sub_fetch(&run->bytes, bytes, __ATOMIC_RELAXED);
}

errc promql_charge_labels(struct promql_run *run, struct err *e)
{
	TRY(arena_check(&run->labels, "the labels of the query", e));
	if (run->labels.used > run->labels_charged) {
		size_t more = run->labels.used - run->labels_charged;
		TRY(promql_charge(run, (int64_t)more, e));
		run->labels_charged += more;
	}
	return OK;
}

errc promql_alloc(struct promql_run *run, size_t count, size_t size, void **ret, struct err *e)
{
	size_t bytes;
	if (__builtin_mul_overflow(count, size, &bytes) ||
	    __builtin_add_overflow(bytes, sizeof(struct promql_block), &bytes) ||
	    bytes > INT64_MAX / 2)
		FAIL(e, ERR_FAILED,
		     "the query needs %zu times %zu bytes, more than there can be; ask for fewer "
		     "series or steps",
		     count, size);
	TRY(promql_charge(run, (int64_t)bytes, e));
	struct promql_block *b = calloc(1, bytes);
	if (!b) {
		promql_uncharge(run, (int64_t)bytes);
		FAIL(e, ERR_FAILED,
		     "there is no memory for %zu bytes; ask for fewer series or steps", bytes);
	}
	b->size = bytes;
	pthread_mutex_lock(run->lock);
	b->next = run->blocks;
	if (b->next)
		b->next->prev = b;
	run->blocks = b;
	pthread_mutex_unlock(run->lock);
	*ret = b + 1;
	return OK;
}

void promql_free(struct promql_run *run, void *p)
{
	if (!p)
		return;
	struct promql_block *b = (struct promql_block *)p - 1;
	pthread_mutex_lock(run->lock);
	if (b->prev)
		b->prev->next = b->next;
	else
		run->blocks = b->next;
	if (b->next)
		b->next->prev = b->prev;
	pthread_mutex_unlock(run->lock);
	promql_uncharge(run, (int64_t)b->size);
	free(b);
}

static unsigned worker_count_of(const struct promql_query *query)
{
	if (!query->executor)
		return 1;
	unsigned count = query->worker_count_max;
	if (!count) {
		long online = sysconf(_SC_NPROCESSORS_ONLN);
		count = online > 0 ? (unsigned)online : 1;
	}
	return count < WORKERS_MAX ? count : WORKERS_MAX;
}

struct promql_run *promql_run_new(struct metrics *m, const struct promql_query *query)
{
	struct promql_run *run = must_calloc(1, sizeof(*run));
	run->metrics = m;
	run->query = *query;
	if (!run->query.lookback_ms)
		run->query.lookback_ms = PROMQL_LOOKBACK_MS;
	if (!run->query.subquery_step_ms)
		run->query.subquery_step_ms = PROMQL_SUBQUERY_STEP_MS;
	if (!run->query.annotation_count_max)
		run->query.annotation_count_max = 10;
	run->budget = query->budget ? query->budget : &run->no_budget;
	run->worker_count = worker_count_of(query);
	run->labels = arena_init(SIZE_MAX / 2);
	run->scratch = must_calloc(run->worker_count, sizeof(run->scratch[0]));
	for (unsigned i = 0; i < run->worker_count; i++)
		run->scratch[i] = arena_init(SIZE_MAX / 2);
	run->lock = must_calloc(1, sizeof(pthread_mutex_t));
	pthread_mutex_init(run->lock, NULL);
	run->annotations = promql_annotations_new();
	return run;
}

void promql_run_free(struct promql_run *run)
{
	if (!run)
		return;
	/* a source lets go of its inputs, which come earlier */
	while (run->sources)
		promql_source_free(run->sources);
	while (run->tables)
		promql_table_free(run->tables);
	while (run->blocks)
		promql_free(run, run->blocks + 1);
	for (size_t i = 0; i < run->selection_count; i++)
		metrics_selection_free(run->selections[i]);
	free(run->selections);
	for (unsigned i = 0; i < run->worker_count; i++)
		arena_done(&run->scratch[i]);
	free(run->scratch);
	arena_done(&run->labels);
	promql_uncharge(run, (int64_t)run->labels_charged);
	promql_annotations_free(run->annotations);
	pthread_mutex_destroy(run->lock);
	free(run->lock);
	free(run);
}

void promql_run_keep_selection(struct promql_run *run, struct metrics_selection *s)
{
	run->selections = must_realloc(run->selections,
				       (run->selection_count + 1) * sizeof(run->selections[0]));
	run->selections[run->selection_count++] = s;
}

struct arena *promql_labels_arena(struct promql_run *run)
{
	return &run->labels;
}

errc promql_check(struct promql_run *run, struct err *e)
{
	return metrics_charge_samples(run->budget, 0, e);
}

bool promql_delayed_names(const struct promql_run *run)
{
	return run->query.delayed_name_removal;
}

const struct promql_query *promql_run_query(const struct promql_run *run)
{
	return &run->query;
}

void promql_scratch_clear(struct promql_run *run, unsigned worker)
{
	struct arena *a = &run->scratch[worker];
	if (!a->used)
		return;
	arena_done(a);
	*a = arena_init(SIZE_MAX / 2);
}

/* ---- Work in parallel. */

/* Shared by the caller and the jobs it submitted; the last of them frees it, for a job may start
 * after the work was done by others. */
struct team {
	struct promql_run *run;
	promql_work work;
	void *ctx;
	size_t count, grain;
	atomic_size_t next;
	atomic_bool failed;
	pthread_mutex_t lock;
	pthread_cond_t left;
	unsigned holders;     /* who may still look at the team */
	unsigned working;     /* jobs that are in the work now */
	unsigned next_worker; /* number of the next job that starts */
	bool closed;          /* too late to start */
	size_t error_at;
	struct err error;
};

static void team_work(struct team *t, unsigned worker)
{
	struct err e = { 0 };
	while (!atomic_load_explicit(&t->failed, memory_order_relaxed)) {
		size_t begin = atomic_fetch_add_explicit(&t->next, t->grain, memory_order_relaxed);
		if (begin >= t->count)
			return;
		size_t end = t->count - begin < t->grain ? t->count : begin + t->grain;
		errc rc = promql_check(t->run, &e);
		if (rc == OK)
			rc = t->work(t->ctx, worker, begin, end, &e);
		if (rc == OK)
			continue;
		atomic_store_explicit(&t->failed, true, memory_order_relaxed);
		pthread_mutex_lock(&t->lock);
		if (begin < t->error_at) {
			t->error_at = begin;
			t->error = e;
			t->error.code = rc;
		}
		pthread_mutex_unlock(&t->lock);
	}
}

/* With the lock held; gives it up. */
static void team_leave(struct team *t)
{
	bool last = --t->holders == 0;
	pthread_mutex_unlock(&t->lock);
	if (!last)
		return;
	pthread_cond_destroy(&t->left);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

static void team_job(void *ctx)
{
	struct team *t = ctx;
	pthread_mutex_lock(&t->lock);
	if (!t->closed) {
		unsigned worker = t->next_worker++;
		t->working++;
		pthread_mutex_unlock(&t->lock);
		team_work(t, worker);
		pthread_mutex_lock(&t->lock);
		if (--t->working == 0)
			pthread_cond_signal(&t->left);
	}
	team_leave(t);
}

static errc run_alone(struct promql_run *run, size_t count, size_t grain, promql_work work,
		      void *ctx, struct err *e)
{
	for (size_t begin = 0; begin < count; begin += grain) {
		TRY(promql_check(run, e));
		TRY(work(ctx, 0, begin, count - begin < grain ? count : begin + grain, e));
	}
	return OK;
}

errc promql_parallel(struct promql_run *run, size_t count, size_t grain, promql_work work,
		     void *ctx, struct err *e)
{
	must(grain > 0);
	size_t pieces = count / grain + (count % grain != 0);
	unsigned helpers = run->worker_count - 1;
	if (pieces < 2 || !helpers)
		return run_alone(run, count, grain, work, ctx, e);
	if (helpers > pieces - 1)
		helpers = (unsigned)(pieces - 1);
	struct team *t = must_calloc(1, sizeof(*t));
	*t = (struct team){ .run = run,
			    .work = work,
			    .ctx = ctx,
			    .count = count,
			    .grain = grain,
			    .holders = 1 + helpers,
			    .next_worker = 1,
			    .error_at = SIZE_MAX };
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->left, NULL);
	unsigned submitted = 0;
	while (submitted < helpers && executor_submit(run->query.executor, team_job, t, NULL) == OK)
		submitted++;
	/* a busy executor is no failure: this thread does it all */
	pthread_mutex_lock(&t->lock);
	t->holders -= helpers - submitted;
	pthread_mutex_unlock(&t->lock);
	team_work(t, 0);
	pthread_mutex_lock(&t->lock);
	t->closed = true;
	while (t->working)
		pthread_cond_wait(&t->left, &t->lock);
	errc rc = t->error_at == SIZE_MAX ? OK : t->error.code;
	if (rc != OK && e)
		*e = t->error;
	team_leave(t);
	return rc;
}

/* ---- Annotations. */

struct annotation {
	enum promql_annotation kind;
	uint64_t hash;
	char *text;
};

struct promql_annotations {
	pthread_mutex_t lock;
	struct annotation *items;
	size_t count;
};

struct promql_annotations *promql_annotations_new(void)
{
	struct promql_annotations *a = must_calloc(1, sizeof(*a));
	pthread_mutex_init(&a->lock, NULL);
	return a;
}

void promql_annotations_free(struct promql_annotations *a)
{
	if (!a)
		return;
	for (size_t i = 0; i < a->count; i++)
		free(a->items[i].text);
	free(a->items);
	pthread_mutex_destroy(&a->lock);
	free(a);
}

static uint64_t text_hash(const char *text, enum promql_annotation kind)
{
	uint64_t h = 1469598103934665603ULL + (uint64_t)kind;
	for (; *text; text++)
		h = (h ^ (unsigned char)*text) * 1099511628211ULL;
	return h;
}

static void annotations_add(struct promql_annotations *a, enum promql_annotation kind,
			    const char *text)
{
	uint64_t hash = text_hash(text, kind);
	pthread_mutex_lock(&a->lock);
	bool known = a->count == PROMQL_ANNOTATIONS_MAX;
	for (size_t i = 0; i < a->count && !known; i++)
		known = a->items[i].hash == hash && a->items[i].kind == kind &&
			strcmp(a->items[i].text, text) == 0;
	if (!known) {
		if (!a->items)
			a->items = must_calloc(PROMQL_ANNOTATIONS_MAX, sizeof(a->items[0]));
		a->items[a->count++] = (struct annotation){ .kind = kind,
							    .hash = hash,
							    .text = must_strdup(text) };
	}
	pthread_mutex_unlock(&a->lock);
}

void promql_annotate(struct promql_run *run, enum promql_annotation kind, size_t position,
		     const char *fmt, ...)
{
	struct buf b = buf_init(32 * 1024);
	buf_add_c(&b, kind == PROMQL_WARNING ? "PromQL warning: " : "PromQL info: ");
	char text[1024];
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n < 0)
		text[0] = 0;
	buf_add_c(&b, text);
	unsigned line, column;
	promql_line_column(run->query.text, position, &line, &column);
	buf_printf(&b, " (%u:%u)", line, column);
	annotations_add(run->annotations, kind, buf_cstr(&b));
	buf_done(&b);
}

static int by_text(const void *a, const void *b)
{
	return str_cmp(*(const str *)a, *(const str *)b);
}

size_t promql_annotations_list(struct promql_annotations *a, enum promql_annotation kind,
			       size_t max, struct arena *arena, const str **ret_texts)
{
	size_t count = 0;
	str *texts = arena_array(arena, a->count + 1, sizeof(*texts));
	if (!texts)
		return 0;
	for (size_t i = 0; i < a->count; i++)
		if (a->items[i].kind == kind)
			texts[count++] = arena_str(arena, str_c(a->items[i].text));
	if (count)
		qsort(texts, count, sizeof(texts[0]), by_text);
	if (count > max) {
		size_t more = count - max;
		texts[max] = str_c(arena_printf(arena, "%zu more %s annotations omitted", more,
						kind == PROMQL_WARNING ? "warning" : "info"));
		count = max + 1;
	}
	*ret_texts = texts;
	return count;
}
