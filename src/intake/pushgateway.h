/*
 * pushgateway: the Pushgateway's groups, for jobs that end before anybody could scrape them. What
 * was pushed is exposed again at each interval until it is replaced or deleted.
 *
 * Shape: a group is named by `job` and further labels of the path; it holds families as they were
 *   pushed, and the times of the last push that worked and of the last that did not.
 * Limits: PUSHGATEWAY_GROUPS_MAX groups, PUSHGATEWAY_BYTES_MAX of families in all.
 * Durable: pushgateway_save() writes one file atomically; who owns the gateway calls it after a
 *   push, before answering or a little later, while pushgateway_is_dirty().
 * Threads: any.
 * Source: github.com/prometheus/pushgateway, README.
 */
#pragma once

#include "intake/intake.h"
#include "intake/scrape.h"

enum { PUSHGATEWAY_GROUPS_MAX = 10000, PUSHGATEWAY_BYTES_MAX = 64 * 1024 * 1024 };

struct pushgateway;

struct pushgateway *pushgateway_new(void);
void pushgateway_free(struct pushgateway *g);

enum pushgateway_method {
	PUSHGATEWAY_PUT,  /* replace the group */
	PUSHGATEWAY_POST, /* replace its families of the same names */
	PUSHGATEWAY_DELETE,
};

/*
 * A request to /metrics/job/… : PATH is what follows `/metrics`, percent-encoding and `@base64` as
 * sent. PUT and POST answer 200, DELETE 202.
 * Errors: ERR_INVALID (400) for a bad path, a body that does not parse, a sample with a timestamp,
 * a series twice, or a family whose type is another in another group; the group's
 * push_failure_time_seconds is set then. ERR_LIMIT.
 */
WARN_UNUSED errc pushgateway_push(struct pushgateway *g, enum pushgateway_method method, str path,
				  enum scrape_format format, str body, time_ms now, struct err *e);
/* DELETE everything. */
void pushgateway_wipe(struct pushgateway *g);
/* All groups as samples at NOW; what went since the last time gets stale markers. */
WARN_UNUSED errc pushgateway_expose(struct pushgateway *g, struct metrics_batch *batch, time_ms now,
				    struct intake_result *ret, struct err *e);
/* The groups as the Pushgateway's /api/v1/metrics lists them, without their samples. */
void pushgateway_print(struct pushgateway *g, struct buf *into);

bool pushgateway_is_dirty(struct pushgateway *g);
WARN_UNUSED errc pushgateway_save(struct pushgateway *g, const char *path, struct err *e);
/* A missing file is none. Errors: ERR_CORRUPT. */
WARN_UNUSED errc pushgateway_load(struct pushgateway *g, const char *path, struct err *e);
