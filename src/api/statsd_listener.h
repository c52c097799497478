/*
 * statsd_listener: StatsD's datagrams over UDP into the engine.
 *
 * Threads: one of its own.
 */
#pragma once

#include "metrics/metrics.h"

struct statsd_listener;

/* Receive at ADDRESS (`127.0.0.1:8125`; port 0 takes a free one, which RET_PORT says). Owns: end
 * with statsd_listener_stop(), before the engine closes. */
WARN_UNUSED errc statsd_listener_start(struct metrics *m, const char *address, int *ret_port,
				       struct statsd_listener **ret, struct err *e);
/* What was received is stored first. Accepts NULL. */
void statsd_listener_stop(struct statsd_listener *l);
