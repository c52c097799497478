/*
 * The daemon: catalog, artifact store, features and HTTP server, from start to stop.
 */
#pragma once

#include "api/telemetry.h"

struct daemon_options {
	const char *data;       /* data folder; made when missing */
	const char *listen;     /* `127.0.0.1:7070`; "none": only the unix socket */
	const char *account;    /* ordinary account for instances, builds and hooks; NULL: found */
	const char *executable; /* of this program, for its shims */
	struct telemetry_options telemetry;
};

enum { DAEMON_SOCKET_SIZE = 108 };

/* Run until SIGTERM or SIGINT. Instances and proxy go on after it.
 * Errors: ERR_BUSY when another daemon has the data folder. */
WARN_UNUSED errc daemon_run(const struct daemon_options *options, struct err *e);

/* The unix socket of the daemon with that data folder. Errors: ERR_LIMIT when the path is too long.
 */
WARN_UNUSED errc daemon_socket_path(const char *data, char path[static DAEMON_SOCKET_SIZE],
				    struct err *e);
