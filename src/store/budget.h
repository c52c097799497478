/*
 * Memory accounting: what an engine holds, in all and by purpose (head, index, cache, queries).
 *
 * Shape: a tree of two levels: a total, and purposes with limits of their own below it. A charge
 *   counts for both and succeeds for both, or is refused.
 * Units: bytes.
 * Threads: any; atomic, without a lock. Two charges that race for the last bytes may both be
 *   refused, never both succeed.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

struct budget {
	const char *name;       /* `memory of metrics`: for messages; static */
	struct budget *parent;  /* NULL for the total */
	int64_t bytes_max;      /* 0: no limit of its own; atomic */
	int64_t bytes;          /* atomic */
	int64_t bytes_peak;     /* atomic; as far as a racing charge lets it know */
	uint64_t refused_count; /* atomic */
};

/* PARENT may be NULL, and has no parent itself. NAME and PARENT outlive B. */
void budget_init(struct budget *b, const char *name, struct budget *parent, int64_t bytes_max);
/* Take BYTES ≥ 0. Errors: ERR_BUSY saying which limit, how much is held and what to do. */
WARN_UNUSED errc budget_charge(struct budget *b, int64_t bytes, struct err *e);
/* The same without a message, for who has another way. */
WARN_UNUSED bool budget_try(struct budget *b, int64_t bytes);
/* Take BYTES whatever the limits say: for memory that is held already. */
void budget_force(struct budget *b, int64_t bytes);
/* Give back BYTES ≥ 0 that were taken. */
void budget_return(struct budget *b, int64_t bytes);
int64_t budget_bytes(const struct budget *b);
int64_t budget_peak(const struct budget *b);
uint64_t budget_refused(const struct budget *b);
int64_t budget_bytes_max(const struct budget *b);
/* Held, as a share of the nearest limit in percent; 0 without a limit. For early flushing. */
int budget_percent(const struct budget *b);
void budget_set_max(struct budget *b, int64_t bytes_max);
