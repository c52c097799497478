/*
 * exposition: the daemon's own numbers and those of its features as Prometheus text: served at
 * /metrics, and stored every 15 s as if each job had been scraped.
 *
 * Threads: one, between start and stop; it stops before the features do.
 */
#pragma once

#include "api/api.h"

struct exposition;

/* Every feature has started. Owns: end with exposition_stop(). */
WARN_UNUSED errc exposition_start(struct api *api, struct exposition **ret, struct err *e);
/* Accepts NULL. */
void exposition_stop(struct exposition *x);
/* What is known under JOB; JOB NULL: everything but the host's. */
void exposition_write(const struct api *api, const char *job, struct buf *into);

extern const struct api_route exposition_routes[];
extern const size_t exposition_route_count;
