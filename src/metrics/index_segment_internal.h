/* The layout of an index segment, for its writer and its reader. Format: docs/format/metrics.md. */
#pragma once

#include "metrics/index_segment.h"

enum {
	INDEX_VERSION = 1,
	INDEX_BLOCK_BYTES = 16 * 1024, /* a block of keys or postings is ended past this */
	INDEX_IDS_IN_BLOCK = 64 * 1024,
};

#define INDEX_KIND "metrics.index"
