/* For the HTTP tests: a server with routes to drive, and raw sockets. */
#pragma once

#include "base/buf.h"
#include "net/http_server.h"

struct harness {
	struct executor *executor;
	struct http_server *server;
	int port;
	char address[32];
	char dir[64];
	char unix_path[96];
};

/* Options of the server besides its routes; NULL for the defaults. */
void harness_start(struct harness *h, const struct http_server_options *options,
		   const struct http_route *routes, size_t route_count);
void harness_stop(struct harness *h);

int raw_connect(const struct harness *h);
void raw_send(int fd, const char *text);
/* Read until TEXT was seen or the peer closed; at most 20 s. */
void raw_read_until(int fd, struct buf *into, const char *text);
/* Send, and read until the server closes. */
char *raw_exchange(const struct harness *h, const char *text);
