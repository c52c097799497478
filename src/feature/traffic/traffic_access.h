/*
 * traffic_access: HAProxy tells of every request by a datagram; they are counted by instance.
 *
 * Shape: one line a datagram, as traffic_render.c's log-format has it. While the daemon is away
 *   they are lost, as those of a counter that was not there.
 * Limits: ACCESS_HOSTS_MAX instances at a time, ACCESS_KINDS_MAX kinds of answers of each; methods
 *   that HTTP does not have count as `other`.
 * Threads: one of its own; the rest from any.
 */
#pragma once

#include <sys/types.h>

#include "base/buf.h"
#include "catalog/catalog.h"

enum { ACCESS_HOSTS_MAX = 2000, ACCESS_KINDS_MAX = 200 };

struct traffic_access;

/* Receive at PATH from the user UID. Owns: end with traffic_access_stop(). */
WARN_UNUSED errc traffic_access_start(struct catalog *c, const char *path, uid_t uid,
				      struct traffic_access **ret_access, struct err *e);
/* Accepts NULL. */
void traffic_access_stop(struct traffic_access *a);
/* As Prometheus text. */
void traffic_access_expose(struct traffic_access *a, struct buf *into);

/* One line; false when it is none of ours. */
struct traffic_access_line {
	str environment; /* `<app>.<environment>` */
	bool websocket;
	int port; /* of the instance; 0: it reached none */
	int status;
	str method;
	int64_t queue_ms, total_ms;
	uint64_t bytes_in, bytes_out, retries;
};
bool traffic_access_parse(str line, struct traffic_access_line *ret);
