#include "api/exposition.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "api/feature_list.h"
#include "base/checks.h"
#include "base/log.h"
#include "codec/number.h"
#include "intake/scrape_store.h"
#include "metrics/metrics.h"
#include "os/clock.h"

#define OWN_JOB "holdfast"

enum {
	INTERVAL_MS = 15000,
	TEXT_MAX = 16 << 20,
	JOBS_MAX = 16,
	COMPLAIN_MS = 60000,
};

struct job {
	const char *name;
	struct scrape_cache *cache;
	struct metrics_batch *batch;
};

struct exposition {
	struct api *api;
	char instance[256];
	struct job jobs[JOBS_MAX];
	size_t job_count;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stopping;
	int64_t complained_mono_ms;
};

/* ---- Our own numbers. */

static void family(struct buf *into, const char *name, const char *kind, const char *help)
{
	buf_printf(into, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind);
}

static void number(struct buf *into, const char *name, const char *kind, double value,
		   const char *help)
{
	family(into, name, kind, help);
	buf_printf(into, "%s ", name);
	number_add(into, value);
	buf_add_byte(into, '\n');
}

static void write_process(const struct api *api, struct buf *into)
{
	struct rusage usage;
	long pages = 0, resident = 0;
	FILE *statm = fopen("/proc/self/statm", "re");
	if (statm && fscanf(statm, "%ld %ld", &pages, &resident) == 2)
		number(into, "process_resident_memory_bytes", "gauge",
		       (double)resident * (double)sysconf(_SC_PAGESIZE), "Memory in use.");
	if (statm)
		fclose(statm);
	if (getrusage(RUSAGE_SELF, &usage) == 0)
		number(into, "process_cpu_seconds_total", "counter",
		       (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
			       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6,
		       "Processor time taken.");
	number(into, "process_start_time_seconds", "gauge", (double)api->started / 1000,
	       "When it was started.");
	family(into, "holdfast_build_info", "gauge", "The version.");
	buf_add_c(into, "holdfast_build_info{version=\"" HOLDFAST_VERSION "\"} 1\n");
}

static void write_engine(const struct api *api, struct buf *into)
{
	struct metrics_stats s;
	metrics_stats(api->context->metrics, &s);
	const struct {
		const char *name, *kind;
		double value;
		const char *help;
	} rows[] = {
		{ "holdfast_metrics_series", "gauge", (double)s.series_count, "Active series." },
		{ "holdfast_metrics_series_created_total", "counter",
		  (double)s.series_created_count, "Series made." },
		{ "holdfast_metrics_series_refused_total", "counter",
		  (double)s.series_refused_count, "Series refused for a limit." },
		{ "holdfast_metrics_samples_total", "counter", (double)s.samples_taken_count,
		  "Samples taken." },
		{ "holdfast_metrics_samples_too_old_total", "counter", (double)s.samples_old_count,
		  "Samples left out: before the retention." },
		{ "holdfast_metrics_samples_too_new_total", "counter",
		  (double)s.samples_future_count, "Samples left out: too far ahead." },
		{ "holdfast_metrics_commits_refused_total", "counter",
		  (double)s.commit_refused_count, "Batches refused for memory or disk." },
		{ "holdfast_metrics_head_samples", "gauge", (double)s.head_samples,
		  "Samples in memory, not in parts yet." },
		{ "holdfast_metrics_parts", "gauge", (double)s.part_count, "Parts." },
		{ "holdfast_metrics_part_samples", "gauge", (double)s.part_samples,
		  "Samples in parts." },
		{ "holdfast_metrics_disk_bytes", "gauge", (double)s.bytes_on_disk,
		  "Parts and indexes on disk." },
		{ "holdfast_metrics_log_bytes", "gauge", (double)s.bytes_log, "The log on disk." },
		{ "holdfast_metrics_memory_bytes", "gauge", (double)s.memory_bytes,
		  "Memory accounted for." },
		{ "holdfast_metrics_memory_max_bytes", "gauge", (double)s.memory_bytes_max,
		  "The most it may be." },
		{ "holdfast_metrics_flushes_total", "counter", (double)s.flush_count, "Flushes." },
		{ "holdfast_metrics_merges_total", "counter", (double)s.merge_count, "Merges." },
		{ "holdfast_metrics_log_syncs_total", "counter", (double)s.log_sync_count,
		  "Syncs of the log." },
		{ "holdfast_metrics_bad_blocks_total", "counter", (double)s.block_bad_count,
		  "Blocks whose bytes were bad." },
		{ "holdfast_metrics_quarantined", "gauge", (double)s.quarantined_count,
		  "Spans and files set aside; see holdfast doctor." },
		{ "holdfast_metrics_read_only", "gauge", s.read_only,
		  "Whether nothing is taken because the disk is nearly full." },
		{ "holdfast_disk_free_bytes", "gauge", (double)s.disk_free_bytes,
		  "Free on the disk of the data folder." },
	};
	for (size_t i = 0; i < ARRAY_COUNT(rows); i++)
		number(into, rows[i].name, rows[i].kind, rows[i].value, rows[i].help);
}

static void write_job(const struct api *api, const char *job, struct buf *into)
{
	for (size_t i = 0; i < feature_count; i++) {
		const struct feature *f = feature_list[i];
		void *state = api_feature_state(api, f);
		for (size_t k = 0; state && k < f->exposition_count; k++)
			if (strcmp(f->expositions[k].job, job) == 0)
				f->expositions[k].expose(state, into);
	}
}

void exposition_write(const struct api *api, const char *job, struct buf *into)
{
	if (!job || strcmp(job, OWN_JOB) == 0) {
		write_process(api, into);
		write_engine(api, into);
	}
	if (job) {
		write_job(api, job, into);
		return;
	}
	/* of several processes, or of the machine: other exporters have these names */
	write_job(api, "proxy", into);
}

/* ---- Storing them. */

static void complain(struct exposition *x, const struct err *e)
{
	int64_t now = clock_mono_ms();
	if (x->complained_mono_ms && now - x->complained_mono_ms < COMPLAIN_MS)
		return;
	x->complained_mono_ms = now;
	log_err(LOG_WARN, "our own metrics could not be stored", e);
}

static errc add_up(struct exposition *x, struct job *job, time_ms time, struct err *e)
{
	const struct label items[] = { { STR(LABEL_METRIC_NAME), STR("up") },
				       { STR("instance"), str_c(x->instance) },
				       { STR("job"), str_c(job->name) } };
	const struct labels labels = { items, ARRAY_COUNT(items) };
	metrics_ref ref;
	TRY(metrics_batch_series(job->batch, &labels, &ref, e));
	metrics_batch_sample(job->batch, ref, time, 1);
	return OK;
}

static errc store_job(struct exposition *x, struct job *job, time_ms time, struct err *e)
{
	struct buf text CLEANUP(buf_done) = buf_init(TEXT_MAX);
	const struct label labels[] = { { STR("instance"), str_c(x->instance) },
					{ STR("job"), str_c(job->name) } };
	/* instances of deployed services bring an address of their own */
	struct scrape_rules rules = { .target_labels = labels,
				      .target_label_count = ARRAY_COUNT(labels),
				      .honor_labels = true };
	struct scrape_result scraped = { 0 };
	struct metrics_batch_result result;
	exposition_write(x->api, job->name, &text);
	TRY(buf_check(&text, "our own metrics", e));
	TRY(scrape_store(job->cache, job->batch, SCRAPE_TEXT, buf_str(&text), &rules, time,
			 &scraped, e));
	TRY(add_up(x, job, time, e));
	return metrics_batch_commit(job->batch, &result, e);
}

static void store(struct exposition *x, time_ms time)
{
	for (size_t i = 0; i < x->job_count; i++) {
		struct err e = { 0 };
		if (store_job(x, &x->jobs[i], time, &e) == OK)
			continue;
		metrics_batch_abort(x->jobs[i].batch);
		complain(x, &e);
	}
}

static void add_job(struct exposition *x, const char *name)
{
	char source[64];
	for (size_t i = 0; i < x->job_count; i++)
		if (strcmp(x->jobs[i].name, name) == 0)
			return;
	must(x->job_count < JOBS_MAX);
	snprintf(source, sizeof(source), "scrape:%s", name);
	x->jobs[x->job_count++] = (struct job){
		.name = name,
		.cache = scrape_cache_new(),
		.batch = metrics_batch_new(x->api->context->metrics, str_c(source), 0),
	};
}

static void *run(void *ctx)
{
	struct exposition *x = ctx;
	pthread_setname_np(pthread_self(), "exposition");
	pthread_mutex_lock(&x->lock);
	while (!x->stopping) {
		pthread_mutex_unlock(&x->lock);
		store(x, clock_now());
		pthread_mutex_lock(&x->lock);
		/* on the grid, so that the times of all our series are the same */
		time_ms now = clock_now(), pause = INTERVAL_MS - now % INTERVAL_MS;
		struct timespec until;
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += pause / 1000;
		until.tv_nsec += pause % 1000 * 1000000L;
		until.tv_sec += until.tv_nsec / 1000000000L;
		until.tv_nsec %= 1000000000L;
		while (!x->stopping &&
		       pthread_cond_timedwait(&x->wake, &x->lock, &until) != ETIMEDOUT)
			;
	}
	pthread_mutex_unlock(&x->lock);
	return NULL;
}

errc exposition_start(struct api *api, struct exposition **ret, struct err *e)
{
	struct exposition *x = must_calloc(1, sizeof(*x));
	pthread_condattr_t attr;
	x->api = api;
	if (gethostname(x->instance, sizeof(x->instance) - 1) < 0)
		str_copy(STR("localhost"), x->instance, sizeof(x->instance));
	add_job(x, OWN_JOB);
	for (size_t i = 0; i < feature_count; i++)
		for (size_t k = 0; k < feature_list[i]->exposition_count; k++)
			add_job(x, feature_list[i]->expositions[k].job);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&x->lock, NULL);
	pthread_cond_init(&x->wake, &attr);
	pthread_condattr_destroy(&attr);
	int failed = pthread_create(&x->thread, NULL, run, x);
	if (failed) {
		errno = failed;
		FAIL_ERRNO(e, "cannot start the thread of our own metrics");
	}
	*ret = x;
	return OK;
}

void exposition_stop(struct exposition *x)
{
	if (!x)
		return;
	pthread_mutex_lock(&x->lock);
	x->stopping = true;
	pthread_cond_signal(&x->wake);
	pthread_mutex_unlock(&x->lock);
	pthread_join(x->thread, NULL);
	for (size_t i = 0; i < x->job_count; i++) {
		scrape_cache_free(x->jobs[i].cache);
		metrics_batch_free(x->jobs[i].batch);
	}
	pthread_mutex_destroy(&x->lock);
	pthread_cond_destroy(&x->wake);
	free(x);
}

static errc get_metrics(struct api *api, struct http_request *request,
			struct http_response *response, struct err *e)
{
	struct buf text CLEANUP(buf_done) = buf_init(TEXT_MAX);
	(void)request;
	exposition_write(api, NULL, &text);
	TRY(buf_check(&text, "our own metrics", e));
	http_response_set_body(response, "text/plain; version=0.0.4; charset=utf-8", &text);
	return OK;
}

const struct api_route exposition_routes[] = {
	{ "GET", "/metrics", 0, ROLE_VIEWER, NULL, get_metrics },
};
const size_t exposition_route_count = ARRAY_COUNT(exposition_routes);
