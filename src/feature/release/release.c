/* The dispatcher: one thread that hands operations to threads of their own and stops warm releases.
 */
#include "feature/release/release.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "base/log.h"
#include "feature/release/release_internal.h"
#include "os/clock.h"

enum {
	RUNS_MAX = 8,
	KEEP_MS_MAX = 60000,
	STACK_BYTES = 1024 * 1024,
	LIST_ARENA_BYTES = 256 * 1024 * 1024
};

struct releases {
	const struct feature_context *context;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed; /* signalled: news, a run ended, or stopping */
	bool news;
	bool stopping;
	int running_count;
	bool keeping;    /* a worker stops warm releases */
	int64_t keep_at; /* monotonic ms: when to look at them again */
};

struct run_job {
	struct releases *releases;
	struct release_run run;
};

static void note(void *ctx, enum bus_topic topic, str subject)
{
	struct releases *rs = ctx;
	(void)topic, (void)subject;
	pthread_mutex_lock(&rs->lock);
	rs->news = true;
	pthread_cond_signal(&rs->changed);
	pthread_mutex_unlock(&rs->lock);
}

static void *run_thread(void *arg)
{
	struct run_job *job = arg;
	struct releases *rs = job->releases;
	pthread_setname_np(pthread_self(), "release");
	release_run_all(&job->run);
	arena_done(&job->run.arena);
	free(job);
	pthread_mutex_lock(&rs->lock);
	rs->running_count--;
	rs->news = true;
	rs->keep_at = 0;
	pthread_cond_broadcast(&rs->changed);
	pthread_mutex_unlock(&rs->lock);
	return NULL;
}

static void start_run(struct releases *rs, const char *id)
{
	struct run_job *job = must_calloc(1, sizeof(*job));
	struct err e;
	pthread_t thread;
	pthread_attr_t attr;
	job->releases = rs;
	job->run.context = rs->context;
	job->run.stopping = &rs->stopping;
	job->run.arena = arena_init(RELEASE_ARENA_BYTES);
	errc rc = operations_get(rs->context->catalog, id, &job->run.arena, &job->run.operation,
				 &e);
	if (rc == OK) {
		pthread_attr_init(&attr);
		pthread_attr_setstacksize(&attr, STACK_BYTES);
		pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
		pthread_mutex_lock(&rs->lock);
		rs->running_count++;
		pthread_mutex_unlock(&rs->lock);
		if (pthread_create(&thread, &attr, run_thread, job) != 0) {
			rc = err_fill(&e, ERR_IO, 0, __FILE__, __LINE__, "cannot start a thread");
			pthread_mutex_lock(&rs->lock);
			rs->running_count--;
			pthread_mutex_unlock(&rs->lock);
		}
		pthread_attr_destroy(&attr);
	}
	if (rc == OK)
		return;
	log_err(LOG_ERROR, "an operation cannot be carried out", &e);
	/* nobody is at work on it: it must not seem so */
	struct err write_error;
	if (operations_finish(rs->context->catalog, id, OPERATION_FAILED, &e, "{}", &write_error) !=
	    OK)
		log_err(LOG_ERROR, "an operation cannot be finished", &write_error);
	arena_done(&job->run.arena);
	free(job);
}

/* Take what waits; RESUME also takes what a former daemon left at work. */
static void take_operations(struct releases *rs, bool resume)
{
	struct arena scratch CLEANUP(arena_done) = arena_init(LIST_ARENA_BYTES);
	struct operation_filter filter = { .unfinished = true, .limit = 100 };
	struct operation *items = NULL;
	size_t count = 0;
	struct err e;
	if (operations_list(rs->context->catalog, &filter, &scratch, &items, &count, &e) != OK) {
		log_err(LOG_ERROR, "the operations cannot be listed", &e);
		return;
	}
	for (size_t i = 0; i < count; i++) {
		bool taken = items[i].state == OPERATION_RUNNING && resume;
		bool ours = strcmp(items[i].kind, "deploy") == 0 ||
			    strcmp(items[i].kind, "rollback") == 0;
		pthread_mutex_lock(&rs->lock);
		bool room = rs->running_count < RUNS_MAX;
		pthread_mutex_unlock(&rs->lock);
		if (!ours || !room)
			continue;
		if (items[i].state == OPERATION_QUEUED &&
		    operations_begin(rs->context->catalog, items[i].id, &taken, &e) != OK)
			log_err(LOG_ERROR, "an operation cannot be begun", &e);
		if (taken)
			start_run(rs, items[i].id);
	}
}

/* Stopping a release may take as long as its application wants: not on the dispatcher. */
static void keep_warm_job(void *ctx)
{
	struct releases *rs = ctx;
	int64_t next = release_keep_warm(rs->context, &rs->stopping, KEEP_MS_MAX);
	pthread_mutex_lock(&rs->lock);
	rs->keeping = false;
	rs->keep_at = clock_mono_ms() + next;
	rs->news = true; /* the dispatcher sleeps until another time */
	pthread_cond_broadcast(&rs->changed);
	pthread_mutex_unlock(&rs->lock);
}

static void keep_if_due(struct releases *rs)
{
	struct err e;
	pthread_mutex_lock(&rs->lock);
	bool due = !rs->keeping && clock_mono_ms() >= rs->keep_at;
	rs->keeping |= due;
	pthread_mutex_unlock(&rs->lock);
	if (!due || executor_submit(rs->context->executor, keep_warm_job, rs, &e) == OK)
		return;
	pthread_mutex_lock(&rs->lock);
	rs->keeping = false;
	rs->keep_at = clock_mono_ms() + 1000;
	pthread_mutex_unlock(&rs->lock);
}

static void sleep_until_news(struct releases *rs)
{
	struct timespec until;
	pthread_mutex_lock(&rs->lock);
	int64_t pause = rs->keeping ? KEEP_MS_MAX : rs->keep_at - clock_mono_ms();
	clock_gettime(CLOCK_MONOTONIC, &until);
	if (pause > 0)
		until.tv_sec += pause / 1000 + 1;
	while (!rs->news && !rs->stopping)
		if (pthread_cond_timedwait(&rs->changed, &rs->lock, &until) != 0)
			break;
	rs->news = false;
	pthread_mutex_unlock(&rs->lock);
}

static void *dispatch(void *arg)
{
	struct releases *rs = arg;
	pthread_setname_np(pthread_self(), "releases");
	take_operations(rs, true);
	while (!__atomic_load_n(&rs->stopping, __ATOMIC_ACQUIRE)) {
		take_operations(rs, false);
		keep_if_due(rs);
		sleep_until_news(rs);
	}
	return NULL;
}

static errc start(const struct feature_context *context, void **ret_state, struct err *e)
{
	struct releases *rs = must_calloc(1, sizeof(*rs));
	pthread_condattr_t monotonic;
	rs->context = context;
	pthread_mutex_init(&rs->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&rs->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	bool subscribed = bus_subscribe(catalog_bus(context->catalog), BUS_OPERATION, note, rs);
	must(subscribed);
	if (pthread_create(&rs->thread, NULL, dispatch, rs) != 0)
		FAIL(e, ERR_IO, "cannot start a thread");
	*ret_state = rs;
	return OK;
}

/* Operations at work see `stopping` at their next wait and stay journaled for the next daemon. */
static void stop(void *state)
{
	struct releases *rs = state;
	if (!rs)
		return;
	bus_unsubscribe(catalog_bus(rs->context->catalog), note, rs);
	pthread_mutex_lock(&rs->lock);
	__atomic_store_n(&rs->stopping, true, __ATOMIC_RELEASE);
	pthread_cond_broadcast(&rs->changed);
	pthread_mutex_unlock(&rs->lock);
	pthread_join(rs->thread, NULL);
	pthread_mutex_lock(&rs->lock);
	while (rs->running_count || rs->keeping)
		pthread_cond_wait(&rs->changed, &rs->lock);
	pthread_mutex_unlock(&rs->lock);
	pthread_mutex_destroy(&rs->lock);
	pthread_cond_destroy(&rs->changed);
	free(rs);
}

const struct feature release_feature = { .name = "release", .start = start, .stop = stop };
