/*
 * Client of HAProxy's Runtime API over its unix socket (level admin).
 *
 * Threads: any; each call connects, asks and closes.
 * Limits: a reply is at most 4 MiB; a command at most 15,000 bytes (HAProxy's own buffer is 16
 * KiB). Errors: HAProxy answers mistakes as plain text without a status; what is recognised as such
 *   becomes ERR_NOT_FOUND, ERR_CONFLICT or ERR_INVALID with HAProxy's words. ERR_UNAVAILABLE when
 *   the socket does not answer, ERR_TIMEOUT past the deadline.
 * Source: HAProxy 2.6 management guide, chapter 9.
 */
#pragma once

#include <sys/types.h>

#include "base/arena.h"
#include "base/buf.h"

struct haproxy {
	const char *socket_path;
	int64_t time_ms_max; /* of one call; 0: 5 s */
};

/* One command or several joined by `;`, sent in one write. The whole reply is appended to REPLY
 * (its own cap counts, 4 MiB at most), replies of several commands one after another, each ended
 * by an empty line. Success or error is not judged. */
WARN_UNUSED errc haproxy_command(const struct haproxy *h, str command, struct buf *reply,
				 struct err *e);
/* As above for commands that change something: any text in the reply that is not known to be a
 * confirmation is a failure, with the first such line in the message. */
WARN_UNUSED errc haproxy_change(const struct haproxy *h, str command, struct err *e);

enum haproxy_stat_type {
	HAPROXY_FRONTEND = 0,
	HAPROXY_BACKEND = 1,
	HAPROXY_SERVER = 2,
	HAPROXY_LISTENER = 3,
};

/* A line of `show stat`. A column that is empty or absent is 0 or the empty str; code_agent etc.
 * are not kept. Units: times in ms as HAProxy gives them; `lastchg` in seconds. */
struct haproxy_stat {
	str proxy;  /* pxname */
	str server; /* svname: FRONTEND, BACKEND or the server's name */
	enum haproxy_stat_type type;
	str status;       /* UP, DOWN, MAINT, DRAIN, `UP 1/3`, no check, OPEN … */
	str check_status; /* L7OK, L4CON …, `* ` in front while one runs */
	str check_desc;
	str last_chk;
	str addr; /* 127.0.0.1:9001 */
	str cookie;
	uint64_t check_code, check_rise, check_fall, check_health, check_duration;
	uint64_t scur, smax, slim, stot, qcur, qmax, rate, req_tot;
	uint64_t bin, bout, dreq, dresp, ereq, econ, eresp, wretr, wredis, cli_abrt, srv_abrt;
	uint64_t hrsp_1xx, hrsp_2xx, hrsp_3xx, hrsp_4xx, hrsp_5xx, hrsp_other;
	uint64_t weight, act, bck, chkfail, chkdown, lastchg, downtime;
	uint64_t qtime, ctime, rtime, ttime; /* averages over the last 1024 requests */
	uint64_t qtime_max, ctime_max, rtime_max, ttime_max;
	uint64_t used_conn_cur, idle_conn_cur, need_conn_est;
};

/* All lines, or those of PROXY and SERVER when not NULL. Owns: in QUERY. */
WARN_UNUSED errc haproxy_show_stat(const struct haproxy *h, const char *proxy, const char *server,
				   struct arena *query, struct haproxy_stat **ret_stats,
				   size_t *ret_count, struct err *e);
/* The parser of it, for any CSV that `show stat` printed. */
WARN_UNUSED errc haproxy_stat_parse(str csv, struct arena *query, struct haproxy_stat **ret_stats,
				    size_t *ret_count, struct err *e);
/* The line of SERVER in PROXY; NULL when there is none. */
const struct haproxy_stat *haproxy_stat_find(const struct haproxy_stat *stats, size_t count,
					     const char *proxy, const char *server);

/* A line of `show servers conn`: what keeps a server from being deleted. */
struct haproxy_server_conn {
	str proxy;
	str server;
	str addr;
	int port;
	uint64_t used_cur, idle_cur;
};
WARN_UNUSED errc haproxy_show_servers_conn(const struct haproxy *h, const char *proxy,
					   struct arena *query,
					   struct haproxy_server_conn **ret_servers,
					   size_t *ret_count, struct err *e);
WARN_UNUSED errc haproxy_servers_conn_parse(str reply, struct arena *query,
					    struct haproxy_server_conn **ret_servers,
					    size_t *ret_count, struct err *e);

/* From `show info`. */
struct haproxy_info {
	char version[48]; /* 2.6.12-1+deb12u1 */
	pid_t pid;
	uint64_t uptime_s, curr_conns, cum_req, stopping, max_conn;
};
WARN_UNUSED errc haproxy_show_info(const struct haproxy *h, struct haproxy_info *ret_info,
				   struct err *e);
WARN_UNUSED errc haproxy_info_parse(str reply, struct haproxy_info *ret_info, struct err *e);
