/*
 * intake: outside bytes to samples in a metrics batch. Mechanism only: no sockets, no routes, no
 * logging; who calls it owns the batch and commits it or, on an error, aborts it.
 *
 * Uses base, os, codec, metrics. Used by features and the API.
 * Shape: every protocol is one function
 *     errc intake_X(struct intake *, struct metrics_batch *, str body, …, struct intake_result *,
 *                   struct err *)
 *   over an uncompressed body (intake_decompress() makes it one). An error means that the body as a
 *   whole is refused: abort the batch. OK with a rejected_count means that the rest is in the
 *   batch: commit it, then answer as the protocol has it, with the refusal as text.
 * Limits: bodies, caches and everything kept between calls is bounded and charged to the engine.
 * Threads: any number of calls at once on one struct intake, each with a batch of its own.
 */
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "metrics/metrics.h"

struct intake;
struct compressor;

struct intake_options {
	struct metrics *metrics; /* what its memory is charged to */
	/* 0 takes the default in brackets */
	size_t cache_bytes_max;  /* [128 MiB] known series of remote write; about 50 bytes each */
	size_t delta_stream_max; /* [100,000] OTLP streams of deltas that are added up */
	int64_t delta_idle_ms;   /* [5 min] after which such a stream is forgotten */
	time_ms (*now)(void);    /* [clock_now] */
};

/* Owns: end with intake_free(), after the batches and before the engine it was given. */
struct intake *intake_new(const struct intake_options *options);
void intake_free(struct intake *in);

enum { INTAKE_REFUSAL_SIZE = 1024 };

/* What became of one body. Zero it once; a second call adds to it. */
struct intake_result {
	/* given to the batch */
	uint64_t sample_count, histogram_count, exemplar_count, metadata_count;
	uint64_t series_count;   /* time series or lines that were understood */
	uint64_t rejected_count; /* samples and histograms that were not, and why the first was: */
	uint64_t skipped_count;  /* what the protocol lets pass: strings in Influx lines, events */
	uint64_t exemplar_rejected_count;
	bool busy;   /* some were rejected for a series limit: 429 rather than 400 */
	size_t line; /* of the first rejected one in a text; 0: none, or no text */
	char refusal[INTAKE_REFUSAL_SIZE]; /* for a person; "": nothing was rejected */
};

/* The rejection of COUNT samples for the reason in E; the first one's text is kept. */
void intake_reject(struct intake_result *r, uint64_t count, const struct err *e);

/*
 * The body as sent, by its Content-Encoding (`snappy`, `zstd`, `gzip`, `deflate`, `identity` or
 * empty): *RET_BODY is a view into INTO, or BODY itself. C may be NULL; a kept one is faster.
 * Errors: ERR_INVALID for an unknown encoding (415) or damaged bytes, ERR_LIMIT past INTO's cap.
 */
WARN_UNUSED errc intake_decompress(struct compressor *c, str content_encoding, str body,
				   struct buf *into, str *ret_body, struct err *e);
