/*
 * relabel: rules that change a series' or a target's labels, or drop what has them.
 *
 * Threads: a compiled set never changes; any number at once.
 * Source: Prometheus 3, relabel_config.
 */
#pragma once

#include "metrics/metrics.h"

enum { RELABEL_RULES_MAX = 64, RELABEL_SOURCES_MAX = 32 };

/* One rule as it is written. Strings are copied. */
struct relabel_rule {
	const str *sources;
	size_t source_count;
	str separator, regex, target, replacement;
	str action; /* `replace`, `keep`, `drop`, `keepequal`, `dropequal`, `hashmod`, `labelmap`,
		     * `labeldrop`, `labelkeep`, `lowercase`, `uppercase` */
	uint64_t modulus;
};

struct relabel;

/* Owns: end with relabel_free(). Errors: ERR_INVALID naming the rule. */
WARN_UNUSED errc relabel_new(const struct relabel_rule *rules, size_t count,
			     struct relabel **ret_relabel, struct err *e);
/* Accepts NULL. */
void relabel_free(struct relabel *r);
/* Change ITEMS (*COUNT of them, room for LABELS_COUNT_MAX, in any order, without empty values);
 * new text goes to SCRATCH. *RET_KEEP false: drop it. Errors: ERR_LIMIT past that room or a
 * label's size, or when an expression takes too many steps. */
WARN_UNUSED errc relabel_apply(const struct relabel *r, struct arena *scratch, struct label *items,
			       size_t *count, bool *ret_keep, struct err *e);
