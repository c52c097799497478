/*
 * The HAProxy process: started under a shim, found again, reloaded, its workers asked and steered.
 *
 * Shape: everything lies in `<data>/run/haproxy/`: haproxy.cfg, ready-*.map, stats.sock
 *   (the Runtime API of the present worker), master.sock (of the master process, and through it of
 *   workers that a reload replaced and that finish what they have), shim.sock, inner-*.sock (of
 *   the workers themselves), shim/output.ndjson.
 * Threads: one.
 */
#pragma once

#include "feature/traffic/traffic_view.h"
#include "os/io.h"

enum { TRAFFIC_WORKER_MAX = 32 };

struct traffic_proxy {
	char folder[IO_PATH_MAX];
	char stats_socket[IO_PATH_MAX];
	char executable[IO_PATH_MAX]; /* holdfast, for the shim */
	char haproxy[IO_PATH_MAX];
	/* as `show proc` last said; the first is the present worker */
	pid_t workers[TRAFFIC_WORKER_MAX];
	size_t worker_count;
	pid_t master;
	int reload_failures;
};

/* Make the folder. HAPROXY NULL: search PATH and /usr/sbin. Errors: ERR_NOT_FOUND, ERR_LIMIT when
 * DATA is too long for socket addresses. */
WARN_UNUSED errc traffic_proxy_init(struct traffic_proxy *x, const char *data,
				    const char *executable, const char *haproxy, struct err *e);

/* Whether the present worker answers, and the signature of what it runs (traffic_render.h). */
WARN_UNUSED errc traffic_proxy_signature(struct traffic_proxy *x, char ret_signature[static 17],
					 struct err *e);
/* Read workers, worker_count and master anew. */
WARN_UNUSED errc traffic_proxy_read_workers(struct traffic_proxy *x, struct err *e);

/* Ask worker number WORKER (0: the present one). */
WARN_UNUSED errc traffic_proxy_ask(struct traffic_proxy *x, size_t worker, str command,
				   struct buf *reply, struct err *e);
WARN_UNUSED errc traffic_proxy_stats(struct traffic_proxy *x, size_t worker, struct arena *query,
				     struct haproxy_stat **ret_stats, size_t *ret_count,
				     struct err *e);
/* Have the present worker carry out COMMANDS (each ended by `;`) in as few writes as HAProxy's
 * buffer allows. Its replies are not judged: the caller compares the state afterwards. */
WARN_UNUSED errc traffic_proxy_change(struct traffic_proxy *x, str commands, struct err *e);

/* Tell the workers that were replaced to relay further requests to the present one. */
void traffic_proxy_relay(struct traffic_proxy *x);

/* Write the configuration and the maps, each atomically; files that are equal already are left. */
WARN_UNUSED errc traffic_proxy_write(struct traffic_proxy *x, const struct traffic_plan *p,
				     struct err *e);
/* The configuration file; empty when there is none. */
WARN_UNUSED errc traffic_proxy_read_config(struct traffic_proxy *x, struct buf *into,
					   struct err *e);
/*
 * Put a plan in force whose structure differs from what runs: validate, write, then start HAProxy
 * or reload it without losing a request, and wait until the new worker answers.
 * Errors: ERR_INVALID with HAProxy's complaint; what ran goes on then, with its files.
 */
WARN_UNUSED errc traffic_proxy_apply(struct traffic_proxy *x, const struct traffic_plan *p,
				     struct err *e);
/* Start HAProxy with the files that are there when no shim watches it (any more). */
WARN_UNUSED errc traffic_proxy_ensure(struct traffic_proxy *x, struct err *e);
/* Stop HAProxy and its shim; OK when there is none. */
WARN_UNUSED errc traffic_proxy_stop(struct traffic_proxy *x, struct err *e);

/* ERR_BUSY with who has it when the address WISH is taken by a process other than ours. */
WARN_UNUSED errc traffic_port_check(const struct traffic_proxy *x, const char *wish, struct err *e);
