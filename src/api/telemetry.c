#include "api/telemetry.h"
#include "api/statsd_listener.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/checks.h"
#include "base/log.h"
#include "base/suggest.h"
#include "intake/intake.h"
#include "intake/pushgateway.h"
#include "metrics/metrics.h"
#include "os/clock.h"
#include "os/io.h"
#include "query/promql/promql_ast.h"

enum {
	TICK_MS = 200,
	EXPOSE_MS = 15000,
	SAVE_MS = 1000,
	/* the same failure is said again after this long */
	COMPLAIN_MS = 60000,
};

struct telemetry {
	struct metrics *metrics;
	struct intake *intake;
	struct pushgateway *pushgateway;
	struct statsd_listener *statsd;
	struct promql_options promql;
	struct metrics_batch *batch; /* of what is exposed by ourselves */
	char pushgateway_path[IO_PATH_MAX + 32];
	pthread_t thread;
	bool has_thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stopping;
	int64_t complained_mono_ms;
};

static const struct {
	const char *word;
	size_t member;
} feature_words[] = {
	{ "promql-experimental-functions",
	  offsetof(struct promql_options, experimental_functions) },
	{ "promql-extended-range-selectors",
	  offsetof(struct promql_options, extended_range_selectors) },
	{ "promql-binop-fill-modifiers", offsetof(struct promql_options, fill_modifiers) },
};

static errc read_features(const char *list, struct promql_options *options, struct err *e)
{
	str rest = str_c(list), word;
	const char *words[ARRAY_COUNT(feature_words)];
	for (size_t i = 0; i < ARRAY_COUNT(feature_words); i++)
		words[i] = feature_words[i].word;
	while (rest.len && str_split(&rest, ',', &word)) {
		size_t i = 0;
		while (i < ARRAY_COUNT(feature_words) && !str_eq_c(word, feature_words[i].word))
			i++;
		if (i == ARRAY_COUNT(feature_words)) {
			const char *meant = suggest(word, words, ARRAY_COUNT(words));
			FAIL(e, ERR_USAGE, "there is no feature \"%.*s\"%s%s%s", STR_ARG(word),
			     meant ? "; did you mean \"" : "", meant ? meant : "",
			     meant ? "\"?" : "");
		}
		*(bool *)((char *)options + feature_words[i].member) = true;
	}
	return OK;
}

static void complain(struct telemetry *t, const char *what, const struct err *e)
{
	int64_t now = clock_mono_ms();
	if (t->complained_mono_ms && now - t->complained_mono_ms < COMPLAIN_MS)
		return;
	t->complained_mono_ms = now;
	log_err(LOG_ERROR, what, e);
}

static void expose(struct telemetry *t)
{
	struct err e = { 0 };
	struct intake_result pushed = { 0 };
	struct metrics_batch_result taken;
	errc rc = pushgateway_expose(t->pushgateway, t->batch, clock_now(), &pushed, &e);
	if (rc == OK)
		rc = metrics_batch_commit(t->batch, &taken, &e);
	else
		metrics_batch_abort(t->batch);
	if (rc != OK)
		complain(t, "what was pushed could not be stored", &e);
}

static void tick(struct telemetry *t)
{
	struct err e = { 0 };
	bool more = true;
	while (more && !__atomic_load_n(&t->stopping, __ATOMIC_RELAXED)) {
		more = false;
		if (metrics_tick(t->metrics, &more, &e) != OK) {
			complain(t, "the metrics engine cannot do its due work", &e);
			return;
		}
	}
}

static void *run(void *ctx)
{
	struct telemetry *t = ctx;
	int64_t exposed = clock_mono_ms(), saved = exposed;
	pthread_mutex_lock(&t->lock);
	while (!t->stopping) {
		struct timespec until;
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += TICK_MS * 1000000L;
		until.tv_sec += until.tv_nsec / 1000000000L;
		until.tv_nsec %= 1000000000L;
		while (!t->stopping &&
		       pthread_cond_timedwait(&t->wake, &t->lock, &until) != ETIMEDOUT)
			;
		pthread_mutex_unlock(&t->lock);
		int64_t now = clock_mono_ms();
		struct err e = { 0 };
		tick(t);
		if (now - exposed >= EXPOSE_MS) {
			expose(t);
			exposed = now;
		}
		if (now - saved >= SAVE_MS && pushgateway_is_dirty(t->pushgateway)) {
			if (pushgateway_save(t->pushgateway, t->pushgateway_path, &e) != OK)
				complain(t, "what was pushed could not be saved", &e);
			saved = now;
		}
		pthread_mutex_lock(&t->lock);
	}
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

static errc start_thread(struct telemetry *t, struct err *e)
{
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->wake, &attr);
	pthread_condattr_destroy(&attr);
	int failed = pthread_create(&t->thread, NULL, run, t);
	if (failed) {
		errno = failed;
		FAIL_ERRNO(e, "cannot start the thread of the engines");
	}
	pthread_setname_np(t->thread, "engines");
	t->has_thread = true;
	return OK;
}

static errc open_parts(const struct telemetry_options *options, struct feature_context *context,
		       struct telemetry *t, struct err *e)
{
	char folder[IO_PATH_MAX + 32];
	snprintf(folder, sizeof(folder), "%s/metrics", context->data);
	snprintf(t->pushgateway_path, sizeof(t->pushgateway_path), "%s/pushed", context->data);
	struct metrics_options engine = { .folder = folder,
					  .retention_ms = options->retention_ms,
					  .memory_bytes_max = (size_t)options->memory_bytes_max,
					  .series_count_max = options->series_count_max,
					  .sync_always = options->sync_always };
	TRY(read_features(options->features ? options->features : "", &t->promql, e));
	if (metrics_open(&engine, &t->metrics, e) != OK)
		return err_prepend(e, "the metrics engine cannot start");
	struct intake_options intake = { .metrics = t->metrics };
	t->intake = intake_new(&intake);
	t->pushgateway = pushgateway_new();
	TRY(pushgateway_load(t->pushgateway, t->pushgateway_path, e));
	t->batch = metrics_batch_new(t->metrics, STR("pushgateway"), 0);
	context->metrics = t->metrics;
	context->promql = &t->promql;
	context->intake = t->intake;
	context->pushgateway = t->pushgateway;
	if (options->statsd_listen) {
		int port = 0;
		TRY(statsd_listener_start(t->metrics, options->statsd_listen, &port, &t->statsd,
					  e));
		log_info("receiving StatsD", "address=%s port=%d", options->statsd_listen, port);
	}
	return start_thread(t, e);
}

errc telemetry_open(const struct telemetry_options *options, struct feature_context *context,
		    struct telemetry **ret_telemetry, struct err *e)
{
	struct telemetry *t = must_calloc(1, sizeof(*t));
	errc rc = open_parts(options, context, t, e);
	if (rc != OK) {
		telemetry_close(t);
		return rc;
	}
	*ret_telemetry = t;
	return OK;
}

void telemetry_close(struct telemetry *t)
{
	struct err e = { 0 };
	if (!t)
		return;
	if (t->has_thread) {
		pthread_mutex_lock(&t->lock);
		__atomic_store_n(&t->stopping, true, __ATOMIC_RELAXED);
		pthread_cond_signal(&t->wake);
		pthread_mutex_unlock(&t->lock);
		pthread_join(t->thread, NULL);
		pthread_cond_destroy(&t->wake);
		pthread_mutex_destroy(&t->lock);
	}
	statsd_listener_stop(t->statsd);
	if (t->pushgateway && pushgateway_is_dirty(t->pushgateway) &&
	    pushgateway_save(t->pushgateway, t->pushgateway_path, &e) != OK)
		log_err(LOG_ERROR, "what was pushed could not be saved", &e);
	pushgateway_free(t->pushgateway);
	metrics_batch_free(t->batch);
	intake_free(t->intake);
	if (t->metrics && metrics_sync(t->metrics, &e) != OK)
		log_err(LOG_ERROR, "the last samples could not be synced", &e);
	metrics_close(t->metrics);
	free(t);
}
