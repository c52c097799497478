/*
 * scrape_store: one scrape of one target into a batch, with what is remembered from the scrapes
 * before: which bytes name which series, and which series are alive.
 *
 * Threads: a cache belongs to one target, and one thread at a time.
 */
#pragma once

#include "intake/scrape.h"

struct scrape_cache;

struct scrape_cache *scrape_cache_new(void);
void scrape_cache_free(struct scrape_cache *c);
size_t scrape_cache_bytes(const struct scrape_cache *c);

struct scrape_rules {
	const struct label *target_labels; /* job, instance, … */
	size_t target_label_count;
	/* on a conflict keep the sample's label; else it becomes exported_NAME */
	bool honor_labels;
	bool ignore_timestamps;
	bool classic_histograms; /* of protobuf bodies, beside native ones */
	size_t sample_max;       /* 0: none; ERR_LIMIT past it */
	size_t label_max, label_name_bytes_max, label_value_bytes_max; /* 0: none */
	/* Change the labels of a new series (*COUNT of them, room for LABELS_COUNT_MAX) before it
	 * is looked up; new text goes to SCRATCH. May be NULL. */
	errc (*relabel)(void *ctx, struct arena *scratch, struct label *items, size_t *count,
			bool *ret_keep, struct err *e);
	void *relabel_ctx;
};

struct scrape_result {
	uint64_t scraped_count;   /* samples in the body */
	uint64_t kept_count;      /* after relabelling */
	uint64_t added_count;     /* series not seen in the scrape before */
	uint64_t stale_count;     /* series that ended: a stale marker was written */
	uint64_t duplicate_count; /* samples of a series that the body had already: left out */
	uint64_t refused_count;   /* series past a limit of the engine, the first in refusal */
	uint64_t exemplar_count;
	char refusal[512];
};

/*
 * Samples without a time get NOW. Series that the scrape before had and this has not get a stale
 * marker at NOW.
 * Errors: ERR_INVALID with the line, ERR_LIMIT: a failed scrape. Abort the batch, call
 * scrape_cache_stale() with it and commit that.
 */
WARN_UNUSED errc scrape_store(struct scrape_cache *c, struct metrics_batch *batch,
			      enum scrape_format format, str body, const struct scrape_rules *rules,
			      time_ms now, struct scrape_result *ret, struct err *e);
/* Stale markers at NOW for everything alive: the scrape failed, or the target is gone. Returns how
 * many. */
uint64_t scrape_cache_stale(struct scrape_cache *c, struct metrics_batch *batch, time_ms now);
