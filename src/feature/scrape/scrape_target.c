/* One target: a scrape of it, and what it leaves in the engine. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "base/checks.h"
#include "base/log.h"
#include "feature/scrape/scraper_internal.h"
#include "os/clock.h"

enum { ALIGN_MS = 10, COMPLAIN_MS = 60000 };

static const char *const report_names[REPORT_COUNT] = {
	[REPORT_UP] = "up",
	[REPORT_DURATION] = "scrape_duration_seconds",
	[REPORT_SAMPLES] = "scrape_samples_scraped",
	[REPORT_KEPT] = "scrape_samples_post_metric_relabeling",
	[REPORT_ADDED] = "scrape_series_added",
};

void scrape_group_unref(struct scrape_group *g)
{
	if (!g || --g->refs)
		return;
	relabel_free(g->metric_relabel);
	metrics_batch_free(g->batch);
	if (g->authorization)
		sodium_memzero((char *)g->authorization, strlen(g->authorization));
	arena_done(&g->arena);
	free(g);
}

void scrape_target_free(struct scrape_target *t)
{
	if (!t)
		return;
	scrape_cache_free(t->cache);
	scrape_group_unref(t->group);
	arena_done(&t->arena);
	free(t);
}

/* ---- Into the engine. All with the lock of storing held. */

static struct metrics_batch *batch_of(struct scrape_target *t)
{
	struct scrape_group *g = t->group;
	char source[160];
	if (!g->batch) {
		snprintf(source, sizeof(source), "scrape:%s", g->job);
		g->batch = metrics_batch_new(t->owner->context->metrics, str_c(source), 0);
	}
	if (!t->cache)
		t->cache = scrape_cache_new();
	return g->batch;
}

static errc report_series(struct scrape_target *t, enum scrape_report report,
			  struct metrics_batch *batch, struct err *e)
{
	struct label items[LABELS_COUNT_MAX];
	struct labels labels;
	size_t count = t->labels.count;
	if (count == LABELS_COUNT_MAX)
		FAIL(e, ERR_LIMIT, "%s has too many labels", t->url);
	memcpy(items, t->labels.items, count * sizeof(items[0]));
	items[count++] = (struct label){ STR(LABEL_METRIC_NAME), str_c(report_names[report]) };
	TRY(labels_normalize(items, count, &labels, e));
	return metrics_batch_series(batch, &labels, &t->reports[report], e);
}

static errc add_report(struct scrape_target *t, enum scrape_report report,
		       struct metrics_batch *batch, time_ms time, double value, struct err *e)
{
	if (t->reports[report] && metrics_batch_sample(batch, t->reports[report], time, value))
		return OK;
	TRY(report_series(t, report, batch, e));
	if (!metrics_batch_sample(batch, t->reports[report], time, value))
		FAIL(e, ERR_BUSY, "the series %s of %s is gone", report_names[report], t->url);
	return OK;
}

/* VALUES by report; NULL: stale markers for those that there are. */
static errc add_reports(struct scrape_target *t, struct metrics_batch *batch, time_ms time,
			const double *values, struct err *e)
{
	union {
		uint64_t u;
		double d;
	} stale = { METRICS_STALE_BITS };
	for (size_t i = 0; i < REPORT_COUNT; i++)
		if (values || t->reports[i])
			TRY(add_report(t, (enum scrape_report)i, batch, time,
				       values ? values[i] : stale.d, e));
	return OK;
}

static void complain(struct scrape *s, const char *what, const struct err *e)
{
	int64_t now = clock_mono_ms();
	if (s->complained_mono_ms && now - s->complained_mono_ms < COMPLAIN_MS)
		return;
	s->complained_mono_ms = now;
	log_err(LOG_WARN, what, e);
}

static void commit(struct scrape_target *t, struct metrics_batch *batch, errc rc, struct err *e)
{
	struct metrics_batch_result result;
	if (rc == OK)
		rc = metrics_batch_commit(batch, &result, e);
	if (rc == OK)
		return;
	metrics_batch_abort(batch);
	complain(t->owner, "a scrape could not be stored", e);
}

static errc relabel(void *ctx, struct arena *scratch, struct label *items, size_t *count,
		    bool *ret_keep, struct err *e)
{
	return relabel_apply(ctx, scratch, items, count, ret_keep, e);
}

static errc store_body(struct scrape_target *t, struct metrics_batch *batch,
		       const struct http_fetch_response *response, time_ms time,
		       struct scrape_result *ret, struct err *e)
{
	const struct scrape_group *g = t->group;
	if (response->status != 200)
		FAIL(e, ERR_UNAVAILABLE, "the target answered with status %d", response->status);
	struct scrape_rules rules = { .target_labels = t->labels.items,
				      .target_label_count = t->labels.count,
				      .honor_labels = g->honor_labels,
				      .ignore_timestamps = !g->honor_timestamps,
				      .classic_histograms = g->classic_histograms,
				      .sample_max = g->sample_max };
	if (g->metric_relabel) {
		rules.relabel = relabel;
		rules.relabel_ctx = g->metric_relabel;
	}
	enum scrape_format format =
		scrape_format_of(http_fetch_response_header(response, "content-type"), SCRAPE_TEXT);
	return scrape_store(t->cache, batch, format, buf_str(&response->body), &rules, time, ret,
			    e);
}

static void store(struct scrape_target *t, errc result, const struct http_fetch_response *response,
		  time_ms time, int64_t duration_us, struct err *e)
{
	struct metrics_batch *batch = batch_of(t);
	struct scrape_result scraped = { 0 };
	struct err why = { 0 };
	if (result == OK)
		result = store_body(t, batch, response, time, &scraped, e);
	if (result != OK) {
		metrics_batch_abort(batch);
		scrape_cache_stale(t->cache, batch, time);
		scraped = (struct scrape_result){ 0 };
	}
	const double values[REPORT_COUNT] = {
		[REPORT_UP] = result == OK,
		[REPORT_DURATION] = (double)duration_us / 1e6,
		[REPORT_SAMPLES] = (double)scraped.scraped_count,
		[REPORT_KEPT] = (double)scraped.kept_count,
		[REPORT_ADDED] = (double)scraped.added_count,
	};
	commit(t, batch, add_reports(t, batch, time, values, &why), &why);
	if (scraped.refused_count) {
		err_fill(&why, ERR_BUSY, 0, __FILE__, __LINE__, "%s: %s", t->url, scraped.refusal);
		complain(t->owner, "series of a target were refused", &why);
	}
}

void scrape_target_end(struct scrape_target *t)
{
	struct err e = { 0 };
	if (!t->cache)
		return;
	pthread_mutex_lock(&t->owner->store_lock);
	struct metrics_batch *batch = batch_of(t);
	time_ms now = clock_now();
	scrape_cache_stale(t->cache, batch, now);
	commit(t, batch, add_reports(t, batch, now, NULL, &e), &e);
	pthread_mutex_unlock(&t->owner->store_lock);
}

/* ---- One scrape. */

/* In the client's thread. The sample's time is the moment it was due, when that is close: equal
 * distances are what compresses best. */
static void scraped(void *ctx, errc result, const struct http_fetch_response *response,
		    const struct err *error)
{
	struct scrape_target *t = ctx;
	struct scrape *s = t->owner;
	int64_t duration_us = clock_mono_us() - t->begun_mono_us;
	time_ms begun = clock_now() - duration_us / 1000, late = begun - t->asked_at;
	time_ms time = late >= -ALIGN_MS && late <= ALIGN_MS ? t->asked_at : begun;
	struct err e = { 0 };
	if (result == ERR_CANCELLED) { /* the daemon stops; that says nothing of the target */
		__atomic_store_n(&t->in_flight, false, __ATOMIC_RELEASE);
		return;
	}
	if (result != OK && error)
		e = *error;
	pthread_mutex_lock(&s->store_lock);
	store(t, result, response, time, duration_us, &e);
	pthread_mutex_unlock(&s->store_lock);
	pthread_mutex_lock(&s->lock);
	t->health = e.code == OK ? SCRAPE_UP : SCRAPE_DOWN;
	t->scraped_at = time;
	t->duration_us = duration_us;
	str_copy(str_c(e.code == OK ? "" : e.message), t->error, sizeof(t->error));
	__atomic_store_n(&t->in_flight, false, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&s->lock);
}

void scrape_target_ask(struct scrape_target *t, time_ms due)
{
	const struct scrape_group *g = t->group;
	char timeout[32];
	snprintf(timeout, sizeof(timeout), "%.3f", (double)g->timeout_ms / 1000);
	struct http_fetch_header headers[3] = {
		{ "Accept", SCRAPE_ACCEPT },
		{ "X-Prometheus-Scrape-Timeout-Seconds", timeout },
		{ "Authorization", g->authorization },
	};
	struct http_fetch_request request = { .url = t->url,
					      .headers = headers,
					      .header_count = g->authorization ? 3 : 2,
					      .connect_ms_max = g->timeout_ms,
					      .total_ms_max = g->timeout_ms,
					      .response_bytes_max = g->body_bytes_max,
					      .redirect_count_max = 5,
					      .compressed = true,
					      .tls_ca_path = g->tls_ca,
					      .tls_insecure = g->tls_insecure };
	struct err e = { 0 };
	t->asked_at = due;
	t->begun_mono_us = clock_mono_us();
	__atomic_store_n(&t->in_flight, true, __ATOMIC_RELEASE);
	errc rc = http_client_start(t->owner->client, &request, scraped, t, &e);
	if (rc != OK)
		scraped(t, rc, NULL, &e);
}
