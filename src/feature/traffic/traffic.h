/*
 * traffic: HAProxy carries the applications' traffic. This feature renders its configuration, has
 * it run under a shim, and keeps it equal to what the catalog desires (instances.h: `traffic` and
 * `weight`), steering it through its Runtime API; a reload, which loses no request either, is left
 * to new environments, addresses and timings. It reports what it sees by instances_observe_proxy().
 *
 * Who may use it: api, cli. Uses: base, os, codec, net, spec, catalog, shim; no other feature.
 * Threads: one of its own, asleep until the desired traffic changes; it looks at HAProxy every
 *   50 ms while something is on its way (an instance checked but not up, draining, or on stand-by),
 *   else every 2 s.
 * Durable: HAProxy outlives the daemon; the configuration on disk always equals what runs.
 *
 * What the release machine relies on:
 * - proxy.generation == traffic_generation: the change is in force. Otherwise proxy.check says why
 *   after `proxy: ` (an address in use, a configuration that HAProxy rejects).
 * - proxy.up is of the present occupant: it was checked and good since it came to the proxy.
 * - proxy.in_flight counts requests in every HAProxy worker, old ones included; for an instance
 *   that drains it is the larger of the last two looks, so 0 means 0 twice. It is to be read only
 *   when the generation is in force.
 * - `none` shuts the WebSockets that are left one by one over close_spread and then frees the slot;
 *   requests are never cut.
 * - new and old colour are put into one instances_set_traffic(): HAProxy gets them in one write,
 *   the new colour's weight first.
 */
#pragma once

#include "base/buf.h"
#include "catalog/catalog.h"

struct traffic;

struct traffic_options {
	const char *executable; /* holdfast, to run `holdfast shim` */
	const char *haproxy;    /* NULL: search PATH and /usr/sbin */
	const char *account;    /* that HAProxy's workers run as when we are root; NULL: `haproxy`,
				   else `nobody` */
};

/* Start the thread; HAProxy is found again if it runs, and started with the first environment.
 * Owns: end with traffic_stop(). Errors: ERR_NOT_FOUND without haproxy or account, ERR_LIMIT. */
WARN_UNUSED errc traffic_start(struct catalog *c, const struct traffic_options *options,
			       struct traffic **ret_traffic, struct err *e);
/* End the thread; HAProxy goes on. Accepts NULL. */
void traffic_stop(struct traffic *t);
/* Stop HAProxy of the data folder DATA, cutting what it carries; OK when none runs. The thread must
 * have ended. */
WARN_UNUSED errc traffic_shutdown_proxy(const char *data, const char *executable, struct err *e);

/* As Prometheus text: requests, durations, retries and what is in flight, by instance. */
void traffic_expose(struct traffic *t, struct buf *into);
/* A JSON object: environments with addresses, problems and slots. */
void traffic_status(struct traffic *t, struct buf *into);
