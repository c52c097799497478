/* What the tests of the proxy share: small application servers as processes of their own, and
 * clients that count every request that fails. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* How a server behaves; shared with its process. */
struct server_switches {
	atomic_bool ready;   /* /ready gives 200, else 503 */
	atomic_bool release; /* lets `/hold` answer */
	atomic_int held;     /* requests at `/hold` */
};

struct server {
	pid_t pid;
	int port;
	const char *name; /* the body of its answers */
	struct server_switches *switches;
};

int support_free_port(void);
/* Fails the test when it cannot listen. */
struct server *server_start(const char *name, int port, bool ready);
void server_kill(struct server *s); /* SIGKILL */
void server_free(struct server *s);

/* One request on a connection of its own; the status, or -1 for anything unusual. BODY gets at most
 * 63 bytes. */
int client_once(int port, const char *method, const char *path, char body[64]);
/* Connect and send; the answer is read by client_answer(). */
int client_send(int port, const char *request);
/* Read one answer of a kept connection; as client_once(). */
int client_answer(int fd, char body[64]);
/* A connection that became a WebSocket, else -1. */
int client_websocket(int port);
bool client_closed(int fd);

struct load;
/* CLIENTS threads ask until load_stop(): keep-alive and new connections in turn; with POSTS every
 * third request is one. */
struct load *load_start(int port, int clients, bool posts);
void load_stop(struct load *l, long *ret_ok, long *ret_failed, char why[256]);
/* Wait until N more requests were answered. */
void load_await(struct load *l, long n);
