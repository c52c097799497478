/*
 * labels: what names a series. Sorted by name in byte order, names unique, no empty name or value;
 * the metric's own name is the label `__name__`.
 *
 * Limits: LABELS_COUNT_MAX labels, LABEL_NAME_BYTES_MAX and LABEL_VALUE_BYTES_MAX bytes each, all
 *   UTF-8. Nothing longer enters the engine.
 */
#pragma once

#include "base/arena.h"
#include "base/buf.h"

enum {
	LABELS_COUNT_MAX = 64,
	LABEL_NAME_BYTES_MAX = 1024,
	LABEL_VALUE_BYTES_MAX = 16 * 1024,
	LABELS_BYTES_MAX = 64 * 1024, /* names and values of one series together */
};

#define LABEL_METRIC_NAME "__name__"

struct label {
	str name, value;
};

struct labels {
	const struct label *items;
	size_t count;
};

/* Sort COUNT labels in place and leave out those with an empty value, which are as good as absent.
 * Errors: ERR_INVALID naming the label for a duplicate, an empty name, bytes that are not UTF-8, or
 * past a limit. */
WARN_UNUSED errc labels_normalize(struct label *items, size_t count, struct labels *ret_labels,
				  struct err *e);
/* The value of NAME; the empty str when there is none. */
str labels_get(const struct labels *l, str name);
/* By label after label, names before values; a prefix sorts first. The order of every result. */
int labels_cmp(const struct labels *a, const struct labels *b);
bool labels_eq(const struct labels *a, const struct labels *b);
/* Equal labels have equal hashes within one process only: it is seeded at start. */
uint64_t labels_hash(const struct labels *l);
/* A deep copy. */
struct labels labels_copy(struct arena *a, const struct labels *l);
/* `http_requests_total{job="api",method="GET"}` as Prometheus prints a series; `{}` when empty;
 * names that are no identifiers are quoted. */
void labels_print(struct buf *into, const struct labels *l);
