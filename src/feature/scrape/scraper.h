/*
 * scrape: asks targets for their metrics, those of holdfast.yml (`metrics.scrape`) of every current
 * release, and the instances of services with `prometheus: true`.
 *
 * Who may use it: api. Uses: base, os, codec, net, spec, catalog, metrics, intake; no other
 * feature.
 * Threads: one that says who is due, and the HTTP client's, which asks and stores. Each target has
 *   its own moment within the interval, the same after a restart, so that load is even.
 * Limits: SCRAPE_TARGETS_MAX targets; more are left out, which is logged.
 * Labels: of a deployed instance `job` is APP/SERVICE and `instance` its address; `app`,
 *   `environment`, `service` and `release` say the rest. Of other targets `job`, `instance`, `app`,
 *   `environment` and what the configuration adds.
 */
#pragma once

#include "feature/feature.h"

struct labels;
struct scrape;

enum { SCRAPE_TARGETS_MAX = 20000 };

extern const struct feature scrape_feature;

enum scrape_health { SCRAPE_UNKNOWN, SCRAPE_UP, SCRAPE_DOWN };

/* A target as the last scrape left it. */
struct scrape_view {
	const char *job, *url, *error; /* error "": none */
	const struct labels *labels;
	enum scrape_health health;
	time_ms scraped_at; /* 0: not yet */
	int64_t duration_us, interval_ms, timeout_ms;
};

/* Call SEE for every target, by job and address. What it is given is valid during the call. */
void scrape_see(struct scrape *s, void (*see)(void *ctx, const struct scrape_view *view),
		void *ctx);
