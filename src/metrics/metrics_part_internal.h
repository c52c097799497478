/* The bytes of a part, for its writer and its reader. Format: docs/format/metrics.md. */
#pragma once

#include "metrics/metrics_part.h"

enum {
	METRICS_PART_VERSION = 1,
	DATA_BLOCK_BYTES = 64 * 1024, /* a block is ended past this */
	DATA_BLOCK_BYTES_MAX = 8 << 20,
	TIME_BLOCK_BYTES = 32 * 1024,
	DATA_SERIES_MAX = 4096,    /* in a block */
	SERIES_VECTORS_MAX = 8192, /* of one series in a block */
	HISTOGRAM_VECTOR_MAX = 64, /* histograms in a vector: they are larger */
	COMPRESS_MIN = 256,        /* histograms' bytes below this are not worth compressing */
};

#define METRICS_PART_KIND "metrics.samples"

/* A vector's times, once for all who share them. */
struct time_chunk {
	time_ms first, last;
	uint32_t block, offset, len;
	uint32_t count;
};

static inline size_t part_column_count(enum metrics_resolution resolution)
{
	return resolution == METRICS_RAW ? 1 : PART_COLUMNS_MAX;
}
