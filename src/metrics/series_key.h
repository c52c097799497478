/*
 * series_key: labels as one string of bytes. Equal labels have equal keys, so that a series is
 * found by one hash and one comparison; this is also how labels stand in the log and on disk.
 */
#pragma once

#include "codec/varint.h"
#include "metrics/labels.h"

enum {
	SERIES_KEY_BYTES_MAX = LABELS_BYTES_MAX + (2 * LABELS_COUNT_MAX + 1) * 3,
};

size_t series_key_size(const struct labels *l);
/* DST has room for series_key_size(); gives the same. */
size_t series_key_put(uint8_t *dst, const struct labels *l);
/* Seeded by process, as labels_hash(). */
uint64_t series_key_hash(str key);
/* The labels, pointing into KEY; SIZE_MAX when it is malformed. */
size_t series_key_labels(str key, struct label items[static LABELS_COUNT_MAX]);
/* As labels_get(). */
str series_key_get(str key, str name);
/* As labels_cmp(); both must be well-formed. */
int series_key_cmp(str a, str b);

/* The parts of labels_print(), for matchers. */
void labels_add_quoted(struct buf *into, str s);
void labels_add_name(struct buf *into, str name);
