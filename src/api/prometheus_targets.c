/* Who is scraped, in Prometheus's shapes. */
#include <string.h>

#include "api/api_json.h"
#include "api/prometheus.h"
#include "base/checks.h"
#include "feature/scrape/scraper.h"

struct listing {
	struct prometheus_call *call;
	str pool; /* "": every one */
	const char *last_pool;
};

static const char *health_text(enum scrape_health health)
{
	static const char *const texts[] = { "unknown", "up", "down" };
	return texts[health];
}

static void put_duration(struct json_writer *w, const char *key, int64_t ms)
{
	char text[UNIT_TEXT_SIZE];
	json_put_cstr(w, key, duration_format(ms, text));
}

static void put_target(void *ctx, const struct scrape_view *view)
{
	struct listing *l = ctx;
	struct json_writer *w = l->call->data;
	if (l->pool.len && !str_eq_c(l->pool, view->job))
		return;
	json_begin_object(w);
	json_key(w, "discoveredLabels");
	prometheus_write_labels(w, view->labels);
	json_key(w, "labels");
	prometheus_write_labels(w, view->labels);
	json_put_cstr(w, "scrapePool", view->job);
	json_put_cstr(w, "scrapeUrl", view->url);
	json_put_cstr(w, "globalUrl", view->url);
	json_put_cstr(w, "lastError", view->error);
	api_put_time(w, "lastScrape", view->scraped_at);
	json_key(w, "lastScrapeDuration");
	json_add_f64(w, (double)view->duration_us / 1e6);
	json_put_cstr(w, "health", health_text(view->health));
	put_duration(w, "scrapeInterval", view->interval_ms);
	put_duration(w, "scrapeTimeout", view->timeout_ms);
	json_end_object(w);
}

static errc write_targets(struct prometheus_call *call, struct err *e)
{
	struct scrape *scrape = api_feature_state(call->api, &scrape_feature);
	struct listing l = { .call = call, .pool = prometheus_param(call, "scrapePool") };
	str state = prometheus_param(call, "state");
	bool active = !str_eq_c(state, "dropped");
	struct json_writer *w = call->data;
	(void)e;
	json_begin_object(w);
	json_key(w, "activeTargets");
	json_begin_array(w);
	if (scrape && active)
		scrape_see(scrape, put_target, &l);
	json_end_array(w);
	json_key(w, "droppedTargets");
	json_begin_array(w);
	json_end_array(w);
	json_key(w, "droppedTargetCounts");
	json_begin_object(w);
	json_end_object(w);
	json_end_object(w);
	return OK;
}

static void put_pool(void *ctx, const struct scrape_view *view)
{
	struct listing *l = ctx;
	if (l->last_pool && strcmp(l->last_pool, view->job) == 0)
		return;
	l->last_pool = view->job;
	json_add_cstr(l->call->data, view->job);
}

static errc write_pools(struct prometheus_call *call, struct err *e)
{
	struct scrape *scrape = api_feature_state(call->api, &scrape_feature);
	struct listing l = { .call = call };
	(void)e;
	json_begin_object(call->data);
	json_key(call->data, "scrapePools");
	json_begin_array(call->data);
	if (scrape)
		scrape_see(scrape, put_pool, &l);
	json_end_array(call->data);
	json_end_object(call->data);
	return OK;
}

PROMETHEUS_HANDLER(targets)
PROMETHEUS_HANDLER(pools)

const struct api_route prometheus_target_routes[] = {
	{ "GET", "/api/v1/targets", 0, ROLE_VIEWER, NULL, targets },
	{ "GET", "/api/v1/scrape_pools", 0, ROLE_VIEWER, NULL, pools },
};
const size_t prometheus_target_route_count = ARRAY_COUNT(prometheus_target_routes);
