/*
 * Validation of what was built: size budgets, and what must not or must be in the public folder.
 *
 * A finding is a fact about the build for a person to mend; only what could not be examined is an
 * error.
 * Limits: 200,000 files; 64 MiB of a text file is read; 1,000 findings, then they are counted only.
 */
#pragma once

#include "base/arena.h"
#include "base/str.h"

struct validate_budget {
	str name;
	str glob;               /* relative to the folder */
	int64_t raw_bytes_max;  /* of the sum of the files that match; 0: no limit */
	int64_t gzip_bytes_max; /* each compressed alone, as they are served */
	int64_t brotli_bytes_max;
};

struct validate_secret {
	str name;  /* shown */
	str value; /* never shown; shorter than 8 bytes is not searched */
};

struct validate_options {
	const char *folder;        /* what was built */
	const char *public_folder; /* relative to it; what browsers may load; NULL: none */
	const struct validate_budget *budgets;
	size_t budget_count;
	const struct validate_secret *secrets;
	size_t secret_count;
	const str *allow; /* globs of files in the public folder that are not examined */
	size_t allow_count;
	str base_path; /* URL path at which the public folder is served: `/` when empty */
	/* Files that exist only at run time: references to these URL paths are right (globs). */
	const str *external;
	size_t external_count;
};

enum validate_rule {
	VALIDATE_BUDGET,
	VALIDATE_SOURCE_MAP,
	VALIDATE_SECRET,
	VALIDATE_MISSING_ASSET,
};

struct validate_finding {
	enum validate_rule rule;
	str file;    /* relative to the folder; the glob for a budget */
	size_t line; /* from 1; 0: the file as a whole */
	str message; /* what is wrong and what to do; holds no secret */
};

struct validate_size {
	str name;
	uint64_t file_count;
	int64_t raw_bytes;
	int64_t gzip_bytes;   /* -1: not asked for */
	int64_t brotli_bytes; /* -1: not asked for */
};

struct validate_result {
	const struct validate_finding *findings; /* by file and line */
	size_t finding_count;
	size_t finding_count_total;        /* with those past the limit */
	const struct validate_size *sizes; /* one a budget, in order */
};

/* `budget`, `source_map`, `secret`, `missing_asset`. */
const char *validate_rule_name(enum validate_rule rule);

/* Examine a build. Valid until: INTO is done. */
WARN_UNUSED errc validate_build(const struct validate_options *options, struct arena *into,
				struct validate_result *ret_result, struct err *e);
