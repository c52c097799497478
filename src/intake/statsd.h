/*
 * statsd: StatsD datagrams, with DogStatsD's tags and values, added up and flushed into a batch.
 *
 * A counter becomes a cumulative counter, a gauge a gauge, a timer (`ms`: in seconds), `h` and `d`
 * a histogram, a set a gauge of the distinct values since the flush before.
 * Limits: the number of series, of a set's values, and the memory of all sets; a series not sent
 * for idle_ms is forgotten. Threads: any. Source: github.com/statsd/statsd metric types; DogStatsD
 * datagram format 1.3; names as statsd_exporter makes them.
 */
#pragma once

#include "intake/intake.h"

struct statsd;

struct statsd_options {
	/* 0 takes the default in brackets */
	size_t series_max;      /* [20,000] */
	size_t set_values_max;  /* [10,000] of one set; counted on, no more told apart */
	int64_t idle_ms;        /* [1 h] */
	bool native_histograms; /* instead of classic buckets */
	const double *bounds;   /* [5 ms … 10 s] of classic buckets, ascending */
	size_t bound_count;
	const struct label *extra_labels;
	size_t extra_label_count;
};

struct statsd *statsd_new(const struct statsd_options *options);
void statsd_free(struct statsd *s);
/* One datagram (or a run of lines) received at NOW. Bad lines are rejected, the others count. */
void statsd_add(struct statsd *s, str datagram, time_ms now, struct intake_result *ret);
/* Everything known as samples at NOW; what was idle too long gets a stale marker and is forgotten.
 */
void statsd_flush(struct statsd *s, struct metrics_batch *batch, time_ms now,
		  struct intake_result *ret);
size_t statsd_series_count(struct statsd *s);
