#include "traffic_support.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/checks.h"
#include "os/clock.h"

enum { CONNECTION_MAX = 256, REQUEST_MAX = 32768 };

struct connection {
	int fd;
	bool websocket;
	bool held;
	size_t len;
	char bytes[REQUEST_MAX];
};

static struct sockaddr_in loopback(int port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET,
				     .sin_port = htons((uint16_t)port),
				     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

int support_free_port(void)
{
	struct sockaddr_in a = loopback(0);
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	must(bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0);
	must(getsockname(fd, (struct sockaddr *)&a, &len) == 0);
	close(fd);
	return ntohs(a.sin_port);
}

static void answer(struct connection *c, int status, const char *body)
{
	char text[256];
	int n = snprintf(
		text, sizeof(text),
		"HTTP/1.1 %d Status\r\nContent-Length: %zu\r\nKeep-Alive: timeout=5\r\n\r\n%s",
		status, strlen(body), body);
	ssize_t sent = send(c->fd, text, (size_t)n, MSG_NOSIGNAL);
	(void)sent;
}

/* Bytes of the first request in C with its body; 0 when it is not whole yet. */
static size_t request_size(const struct connection *c)
{
	const char *end = memmem(c->bytes, c->len, "\r\n\r\n", 4);
	if (!end)
		return 0;
	size_t head = (size_t)(end - c->bytes) + 4;
	const char *length = strcasestr(c->bytes, "\r\ncontent-length:");
	size_t body = length && length < end ? (size_t)strtoul(length + 17, NULL, 10) : 0;
	return c->len >= head + body ? head + body : 0;
}

static void handle(const struct server *s, struct connection *c)
{
	size_t size;
	c->bytes[c->len] = '\0';
	while (!c->held && !c->websocket && (size = request_size(c))) {
		char *path = strchr(c->bytes, ' ') + 1;
		if (!strncmp(path, "/ready", 6)) {
			answer(c, atomic_load(&s->switches->ready) ? 200 : 503, "");
		} else if (!strncmp(path, "/hold", 5)) {
			atomic_fetch_add(&s->switches->held, 1);
			c->held = true;
		} else if (strcasestr(c->bytes, "upgrade: websocket")) {
			const char *hello = "HTTP/1.1 101 Switching Protocols\r\n"
					    "Upgrade: websocket\r\nConnection: Upgrade\r\n"
					    "Sec-WebSocket-Accept: "
					    "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
			ssize_t sent = send(c->fd, hello, strlen(hello), MSG_NOSIGNAL);
			(void)sent;
			c->websocket = true;
		} else {
			answer(c, 200, s->name);
		}
		memmove(c->bytes, c->bytes + size, c->len - size + 1);
		c->len -= size;
	}
}

static void receive(const struct server *s, struct connection *c)
{
	ssize_t n = recv(c->fd, c->bytes + c->len, sizeof(c->bytes) - 1 - c->len, MSG_DONTWAIT);
	if (n <= 0 && !(n < 0 && errno == EAGAIN)) {
		close(c->fd);
		c->fd = -1;
		return;
	}
	c->len = c->websocket ? 0 : c->len + (n > 0 ? (size_t)n : 0);
	handle(s, c);
}

static _Noreturn void serve(const struct server *s, int listener)
{
	static struct connection all[CONNECTION_MAX];
	struct pollfd polls[CONNECTION_MAX + 1];
	for (int i = 0; i < CONNECTION_MAX; i++)
		all[i].fd = -1;
	for (;;) {
		for (int i = 0; i < CONNECTION_MAX; i++)
			polls[i] = (struct pollfd){ .fd = all[i].fd, .events = POLLIN };
		polls[CONNECTION_MAX] = (struct pollfd){ .fd = listener, .events = POLLIN };
		bool held = atomic_load(&s->switches->held) > 0;
		(void)poll(polls, CONNECTION_MAX + 1, held ? 5 : -1);
		for (int i = 0; i < CONNECTION_MAX; i++) {
			if (all[i].fd >= 0 && polls[i].revents)
				receive(s, &all[i]);
			if (all[i].fd >= 0 && all[i].held && atomic_load(&s->switches->release)) {
				all[i].held = false;
				atomic_fetch_sub(&s->switches->held, 1);
				answer(&all[i], 200, s->name);
			}
		}
		int fd = polls[CONNECTION_MAX].revents ? accept4(listener, NULL, NULL, SOCK_CLOEXEC)
						       : -1;
		for (int i = 0; fd >= 0 && i < CONNECTION_MAX; i++)
			if (all[i].fd < 0) {
				all[i] = (struct connection){ .fd = fd };
				fd = -1;
			}
		if (fd >= 0)
			close(fd);
	}
}

struct server *server_start(const char *name, int port, bool ready)
{
	struct server *s = must_calloc(1, sizeof(*s));
	struct sockaddr_in a = loopback(port);
	int one = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	must(bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(fd, 512) == 0);
	s->name = name;
	s->port = port;
	s->switches = mmap(NULL, sizeof(*s->switches), PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(s->switches != MAP_FAILED);
	atomic_store(&s->switches->ready, ready);
	s->pid = fork();
	must(s->pid >= 0);
	if (s->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		serve(s, fd);
	}
	close(fd);
	return s;
}

void server_kill(struct server *s)
{
	if (s->pid <= 0)
		return;
	kill(s->pid, SIGKILL);
	waitpid(s->pid, NULL, 0);
	s->pid = 0;
}

void server_free(struct server *s)
{
	if (!s)
		return;
	server_kill(s);
	munmap(s->switches, sizeof(*s->switches));
	free(s);
}

static int connect_to(int port)
{
	struct sockaddr_in a = loopback(port);
	struct timeval limit = { .tv_sec = 20 };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
		return fd;
	close(fd);
	return -1;
}

static bool send_text(int fd, const char *text)
{
	return send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text);
}

int client_send(int port, const char *request)
{
	int fd = connect_to(port);
	must(fd >= 0 && send_text(fd, request));
	return fd;
}

static int read_answer(int fd, char body[64], bool *ret_last)
{
	char text[8192];
	size_t len = 0;
	for (;;) {
		ssize_t n = recv(fd, text + len, sizeof(text) - 1 - len, 0);
		if (n <= 0)
			return -1;
		len += (size_t)n;
		text[len] = '\0';
		char *end = strstr(text, "\r\n\r\n");
		char *length = end ? strcasestr(text, "\r\ncontent-length:") : NULL;
		size_t size = length ? strtoul(length + 17, NULL, 10) : 0;
		if (!end || len < (size_t)(end + 4 - text) + size)
			continue;
		snprintf(body, 64, "%s", end + 4);
		*ret_last = strcasestr(text, "\r\nconnection: close\r\n") != NULL;
		return (int)strtol(text + 9, NULL, 10);
	}
}

int client_answer(int fd, char body[64])
{
	bool last;
	return read_answer(fd, body, &last);
}

int client_once(int port, const char *method, const char *path, char body[64])
{
	char request[512];
	bool post = !strcmp(method, "POST");
	int fd = connect_to(port);
	snprintf(request, sizeof(request), "%s %s HTTP/1.1\r\nHost: x\r\n%s\r\n%s", method, path,
		 post ? "Content-Length: 3\r\n" : "", post ? "a=b" : "");
	body[0] = '\0';
	int status = fd >= 0 && send_text(fd, request) ? client_answer(fd, body) : -1;
	if (fd >= 0)
		close(fd);
	return status;
}

int client_websocket(int port)
{
	char body[64];
	int fd = client_send(port, "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
				   "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
				   "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
	if (client_answer(fd, body) == 101)
		return fd;
	close(fd);
	return -1;
}

bool client_closed(int fd)
{
	char byte;
	ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT);
	return n == 0 || (n < 0 && errno != EAGAIN);
}

struct load {
	pthread_t threads[32];
	int thread_count;
	int port;
	bool posts;
	atomic_bool stop;
	atomic_long ok;
	atomic_long failed;
	pthread_mutex_t lock;
	char why[256];
};

static void fail(struct load *l, const char *method, const char *path, int status)
{
	atomic_fetch_add(&l->failed, 1);
	pthread_mutex_lock(&l->lock);
	if (!l->why[0])
		snprintf(l->why, sizeof(l->why), "%s %s: %d", method, path, status);
	pthread_mutex_unlock(&l->lock);
}

static void *ask(void *ctx)
{
	struct load *l = ctx;
	int fd = -1;
	char body[64];
	for (long i = 0; !atomic_load(&l->stop); i++) {
		bool post = l->posts && i % 3 == 0;
		bool fresh = i % 5 == 0;
		const char *method = post ? "POST" : "GET";
		char request[128];
		if (fd >= 0 && fresh) {
			close(fd);
			fd = -1;
		}
		if (fd < 0)
			fd = connect_to(l->port);
		snprintf(request, sizeof(request), "%s / HTTP/1.1\r\nHost: x\r\n%s\r\n%s", method,
			 post ? "Content-Length: 3\r\n" : "", post ? "a=b" : "");
		bool last = false;
		int status = fd >= 0 && send_text(fd, request) ? read_answer(fd, body, &last) : -1;
		if (status != 200) {
			fail(l, method, fresh ? "new connection" : "kept connection", status);
			close(fd);
			fd = -1;
			continue;
		}
		atomic_fetch_add(&l->ok, 1);
		if (last) {
			close(fd);
			fd = -1;
		}
	}
	if (fd >= 0)
		close(fd);
	return NULL;
}

struct load *load_start(int port, int clients, bool posts)
{
	struct load *l = must_calloc(1, sizeof(*l));
	l->port = port;
	l->posts = posts;
	pthread_mutex_init(&l->lock, NULL);
	for (; l->thread_count < clients; l->thread_count++)
		must(pthread_create(&l->threads[l->thread_count], NULL, ask, l) == 0);
	return l;
}

void load_await(struct load *l, long n)
{
	long until = atomic_load(&l->ok) + n;
	int64_t deadline = clock_mono_ms() + 30000;
	while (atomic_load(&l->ok) < until && clock_mono_ms() < deadline)
		clock_sleep_ms(5);
}

void load_stop(struct load *l, long *ret_ok, long *ret_failed, char why[256])
{
	atomic_store(&l->stop, true);
	for (int i = 0; i < l->thread_count; i++)
		pthread_join(l->threads[i], NULL);
	*ret_ok = atomic_load(&l->ok);
	*ret_failed = atomic_load(&l->failed);
	memcpy(why, l->why, sizeof(l->why));
	free(l);
}
