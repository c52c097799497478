/* Shared by scrape.c (thread, schedule), scrape_target.c (one scrape) and scrape_wanted.c. */
#pragma once

#include <pthread.h>

#include "feature/scrape/scraper.h"
#include "intake/relabel.h"
#include "intake/scrape_store.h"
#include "net/http_client.h"
#include "spec/spec.h"

/* What the targets of one job have in common. Counted: by its targets and who builds the list. */
struct scrape_group {
	size_t refs;
	struct arena arena;
	const char *job;
	int64_t interval_ms, timeout_ms;
	bool honor_labels, honor_timestamps, classic_histograms, tls_insecure;
	const char *tls_ca, *authorization; /* NULL: none */
	size_t sample_max, body_bytes_max;
	struct relabel *metric_relabel; /* NULL: none */
	uint64_t fingerprint;           /* of all this: two equal ones are one group */
	struct metrics_batch *batch;    /* under the lock of storing */
};

enum scrape_report {
	REPORT_UP,
	REPORT_DURATION,
	REPORT_SAMPLES,
	REPORT_KEPT,
	REPORT_ADDED,
	REPORT_COUNT
};

struct scrape_target {
	struct scrape *owner;
	struct scrape_group *group;
	struct arena arena;
	const char *url;
	struct labels labels; /* sorted */
	uint64_t key;         /* of group, URL and labels */
	int64_t offset_ms;    /* its moment within the interval */
	time_ms due;
	bool in_flight; /* under the scraper's lock */
	bool wanted;    /* false: to be forgotten */
	/* of the storing thread */
	struct scrape_cache *cache;
	metrics_ref reports[REPORT_COUNT];
	time_ms asked_at; /* when the scrape in flight was due */
	int64_t begun_mono_us;
	/* what the last one left; under the scraper's lock */
	enum scrape_health health;
	time_ms scraped_at;
	int64_t duration_us;
	char error[256];
};

struct scrape {
	const struct feature_context *context;
	struct http_client *client;
	pthread_t thread;
	int wake_fd;   /* eventfd */
	bool stopping; /* atomic */
	bool changed;  /* atomic: releases or instances */
	pthread_mutex_t lock;
	struct scrape_target **targets; /* sorted by key; only the thread changes the list */
	size_t target_count;
	struct scrape_target **heap; /* by due; only the thread's */
	size_t heap_count;
	pthread_mutex_t store_lock; /* groups' batches and targets' caches */
	bool complained;            /* that there are too many targets */
	int64_t complained_mono_ms;
};

/* ---- scrape_wanted.c */

struct scrape_wanted {
	struct scrape_target **items;
	size_t count, room;
	bool truncated;
};

/* Everybody who is to be asked now, as new targets; a release whose specification cannot be read
 * is logged and passed over. Owns: the caller frees the targets. */
WARN_UNUSED errc scrape_wanted_list(struct scrape *s, struct scrape_wanted *ret, struct err *e);

/* ---- scrape_target.c */

void scrape_group_unref(struct scrape_group *g);
void scrape_target_free(struct scrape_target *t);
/* Ask; what comes is stored by the client's thread. Holds: nothing. */
void scrape_target_ask(struct scrape_target *t, time_ms due);
/* Stale markers for all its series. Not in flight. */
void scrape_target_end(struct scrape_target *t);
