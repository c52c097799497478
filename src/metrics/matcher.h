/*
 * matcher: a condition on one label. A missing label has the empty value, so `{x=""}` selects
 * series without x. Regular expressions are anchored at both ends, `.` matches newlines, and
 * matching is bounded in steps.
 */
#pragma once

#include "metrics/labels.h"

enum matcher_type { MATCH_EQUAL, MATCH_NOT_EQUAL, MATCH_REGEXP, MATCH_NOT_REGEXP };

struct matcher_program; /* a compiled expression, with what can be told of it without running it */

struct matcher {
	enum matcher_type type;
	str name, value;
	struct matcher_program *program; /* of a regular expression that was compiled, else NULL */
};

/* Compile the expression of M when it has one. Owns: end with matcher_done(). Errors: ERR_INVALID
 * with the place in the expression; ERR_LIMIT past 64 KiB. RE2's syntax, as far as PCRE2 takes it;
 * back references and look-around are refused. */
WARN_UNUSED errc matcher_compile(struct matcher *m, struct err *e);
void matcher_done(struct matcher *m);
/* Threads: any number at once on one compiled matcher. A match that passes its step limit is
 * ERR_LIMIT. */
WARN_UNUSED errc matcher_matches(const struct matcher *m, str value, bool *ret_matches,
				 struct err *e);
/* When the compiled expression of M matches VALUE, append TEMPLATE with its groups put in: `$1`,
 * `$name` (as long as letters, digits and _ go on), `${name}`; `$$` is a dollar, a group that is
 * not there is empty. Errors: as matcher_matches(). INTO's overflow is the caller's to check. */
WARN_UNUSED errc matcher_expand(const struct matcher *m, str value, str template, struct buf *into,
				bool *ret_matches, struct err *e);
/* Whether it selects series that lack the label. */
bool matcher_matches_empty(const struct matcher *m);
/* When the expression is only alternatives of plain text (`a|b|c`, `x(1|2)`), those, so that an
 * index looks them up instead of scanning; false otherwise. Valid until: matcher_done(). */
bool matcher_literals(const struct matcher *m, const str **ret_values, size_t *ret_count);
/* The plain text that every match begins with; may be empty. */
str matcher_prefix(const struct matcher *m);
/* `name=~"value"` */
void matcher_print(struct buf *into, const struct matcher *m);
