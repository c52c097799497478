/*
 * The thread that accepts connections and ends slow ones.
 *
 * Every deadline ends in shutdown() of the socket: libmicrohttpd then sees the end of the
 * connection in its own thread. A descriptor in `conns` is open as long as the lock is held,
 * because libmicrohttpd announces the close before it closes.
 *
 * A slow body and a slow reader are measured alike: what they fall behind the least rate is a debt,
 * paid back by going faster, and the connection ends when it passes what the grace time allows. So
 * one byte every few seconds does not hold a connection, and a pause does not end one.
 */
#include "net/http_server_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/checks.h"
#include "os/clock.h"
#include "os/socket.h"

enum {
	TICK_MS_MAX = 1000,
	ACCEPT_PAUSE_MS = 100,
	RETRY_MS = 20,
	ACCEPT_BATCH = 64,
	HALF_CLOSED_MS = 1000
};

void http_watch_wake(struct http_server *s)
{
	uint64_t one = 1;
	ssize_t ignored = write(s->wake_fd, &one, sizeof(one));
	(void)ignored;
}

bool http_watch_tcp_bytes(int fd, uint64_t *ret_received, uint64_t *ret_acknowledged)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);
	memset(&info, 0, sizeof(info));
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0)
		return false;
	*ret_received = info.tcpi_bytes_received;
	*ret_acknowledged = info.tcpi_bytes_acked;
	return true;
}

static void peer_of(int fd, const struct sockaddr *address, struct http_peer *ret_peer)
{
	struct ucred who;
	*ret_peer = (struct http_peer){ .kind = HTTP_PEER_TCP, .uid = (uid_t)-1, .gid = (gid_t)-1 };
	if (address->sa_family == AF_INET) {
		const struct sockaddr_in *in4 = (const struct sockaddr_in *)address;
		inet_ntop(AF_INET, &in4->sin_addr, ret_peer->address, sizeof(ret_peer->address));
		ret_peer->port = ntohs(in4->sin_port);
	} else if (address->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;
		inet_ntop(AF_INET6, &in6->sin6_addr, ret_peer->address, sizeof(ret_peer->address));
		ret_peer->port = ntohs(in6->sin6_port);
	} else if (socket_peer_credentials(fd, &who, NULL) == OK) {
		ret_peer->kind = HTTP_PEER_UNIX;
		ret_peer->uid = who.uid;
		ret_peer->gid = who.gid;
		ret_peer->pid = who.pid;
	}
}

/* Is there room for one more, in all and from that address? */
static bool has_room_locked(struct http_server *s, const struct http_peer *peer)
{
	if (s->conn_count >= s->options.connection_count_max)
		return false;
	if (peer->kind == HTTP_PEER_UNIX)
		return true;
	unsigned same = 0;
	for (size_t i = 0; i < s->conn_size; i++)
		same += s->conns[i] && s->conns[i]->peer.kind == HTTP_PEER_TCP &&
			strcmp(s->conns[i]->peer.address, peer->address) == 0;
	return same < s->options.connection_count_per_ip_max;
}

static void remember_locked(struct http_server *s, int fd, const struct http_peer *peer)
{
	size_t index = (size_t)fd;
	if (index >= s->conn_size) {
		size_t size = s->conn_size ? s->conn_size : 64;
		while (size <= index)
			size *= 2;
		s->conns = must_realloc(s->conns, size * sizeof(s->conns[0]));
		memset(s->conns + s->conn_size, 0, (size - s->conn_size) * sizeof(s->conns[0]));
		s->conn_size = size;
	}
	if (s->conns[index]) {
		/* libmicrohttpd had no memory for it and closed it without a word */
		free(s->conns[index]);
		s->conn_count--;
	}
	struct http_conn *c = must_calloc(1, sizeof(*c));
	c->fd = fd;
	c->peer = *peer;
	c->phase = HTTP_PHASE_NEW;
	c->phase_ms = clock_mono_ms();
	s->conns[index] = c;
	s->conn_count++;
	s->accepted_count++;
}

/* Accept one; false when there is none. */
static bool accept_one(struct http_server *s, int listener, int64_t *pause_until_ms)
{
	struct sockaddr_storage address;
	struct http_peer peer;
	socklen_t len = sizeof(address);
	memset(&address, 0, sizeof(address));
	int fd = accept4(listener, (struct sockaddr *)&address, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
			*pause_until_ms = clock_mono_ms() + ACCEPT_PAUSE_MS;
		return errno == EINTR || errno == ECONNABORTED;
	}
	peer_of(fd, (struct sockaddr *)&address, &peer);
	pthread_mutex_lock(&s->lock);
	bool stopping = s->stopping;
	bool room = !stopping && has_room_locked(s, &peer);
	if (room)
		remember_locked(s, fd, &peer);
	else if (!stopping)
		s->refused_count++;
	pthread_mutex_unlock(&s->lock);
	if (stopping) {
		close(fd); /* libmicrohttpd may not take it any more */
	} else if (!room) {
		struct err e;
		(void)err_fill(&e, ERR_UNAVAILABLE, 0, __FILE__, __LINE__,
			       "too many connections; try again shortly");
		http_raw_reply(fd, 503, &e);
		close(fd);
	} else if (MHD_add_connection(s->mhd, fd, (struct sockaddr *)&address, len) != MHD_YES) {
		/* it closed the descriptor, which accept() alone in this thread could reuse */
		pthread_mutex_lock(&s->lock);
		free(s->conns[fd]);
		s->conns[fd] = NULL;
		s->conn_count--;
		pthread_mutex_unlock(&s->lock);
	}
	return true;
}

static void cut_locked(struct http_server *s, struct http_conn *c)
{
	c->cut = true;
	s->deadline_count++;
	shutdown(c->fd, SHUT_RDWR);
}

static void answer_timeout_locked(struct http_server *s, struct http_conn *c, const char *what)
{
	struct err e;
	(void)err_fill(&e, ERR_TIMEOUT, 0, __FILE__, __LINE__, "%s took too long", what);
	http_raw_reply(c->fd, 408, &e);
	c->linger = true;
	c->cut = true;
	s->deadline_count++;
	/* only our half at first: closing both would reset a client that is still sending, and it
	 * would never see the answer */
	c->half_closed_ms = clock_mono_ms();
	shutdown(c->fd, SHUT_WR);
}

/* Count what moved since the last tick; true when the debt is too large. */
static bool in_debt_locked(struct http_server *s, struct http_conn *c, int64_t now)
{
	int64_t rate = s->options.progress_bytes_per_second;
	int64_t due = rate * (now - c->tick_ms) / 1000;
	uint64_t moved = c->moved_bytes - c->counted_bytes;
	if (due == 0 && moved == 0)
		return false; /* too short a time to count */
	c->tick_ms = now;
	c->counted_bytes = c->moved_bytes;
	c->debt_bytes += due;
	c->debt_bytes = moved >= (uint64_t)c->debt_bytes ? 0 : c->debt_bytes - (int64_t)moved;
	return c->debt_bytes > rate * s->options.progress_grace_ms / 1000;
}

static void watch_reply_locked(struct http_server *s, struct http_conn *c, int64_t now)
{
	uint64_t received;
	int queued = 0;
	if (ioctl(c->fd, SIOCOUTQ, &queued) != 0)
		queued = 0;
	bool tcp = http_watch_tcp_bytes(c->fd, &received, &c->moved_bytes);
	bool moved = tcp ? c->moved_bytes != c->counted_bytes : queued != c->queued_bytes;
	c->queued_bytes = queued;
	struct http_stream *st = c->request ? c->request->response.stream : NULL;
	if (queued == 0) {
		/* nothing waits for the client */
		c->debt_bytes = 0;
		c->stalled_ms = 0;
		c->tick_ms = now;
		c->counted_bytes = c->moved_bytes;
	} else if (st || !tcp) {
		int64_t limit = st ? s->options.stream_stall_ms_max
				   : 3 * s->options.progress_grace_ms;
		if (moved || c->stalled_ms == 0)
			c->stalled_ms = now;
		else if (now - c->stalled_ms > limit)
			cut_locked(s, c);
		c->counted_bytes = c->moved_bytes;
	} else if (in_debt_locked(s, c, now)) {
		cut_locked(s, c);
	}
}

static void watch_conn_locked(struct http_server *s, struct http_conn *c, int64_t now)
{
	const struct http_server_options *o = &s->options;
	uint64_t received, acknowledged;
	if (c->half_closed_ms && now - c->half_closed_ms > HALF_CLOSED_MS)
		shutdown(c->fd, SHUT_RDWR);
	if (c->cut || !c->started)
		return;
	switch (c->phase) {
	case HTTP_PHASE_IDLE:
		if (http_watch_tcp_bytes(c->fd, &received, &acknowledged) &&
		    received != c->received_bytes) {
			c->phase = HTTP_PHASE_HEADERS;
			c->phase_ms = now;
		} else if (now - c->phase_ms > o->idle_ms_max || s->stopping) {
			c->cut = true;
			shutdown(c->fd, SHUT_RDWR);
		}
		break;
	case HTTP_PHASE_NEW:
		if (s->stopping && http_watch_tcp_bytes(c->fd, &received, &acknowledged) &&
		    received == 0) {
			c->cut = true;
			shutdown(c->fd, SHUT_RDWR);
			break;
		}
		/* fall through */
	case HTTP_PHASE_HEADERS:
		if (now - c->phase_ms > o->header_ms_max)
			answer_timeout_locked(s, c, "the header section");
		break;
	case HTTP_PHASE_BODY:
		if (in_debt_locked(s, c, now))
			answer_timeout_locked(s, c, "the body");
		break;
	case HTTP_PHASE_HANDLER:
		break;
	case HTTP_PHASE_REPLY:
		watch_reply_locked(s, c, now);
		break;
	}
}

/* Nobody reads a suspended connection: ask the kernel whether its client is still there. */
static void find_gone_locked(struct http_server *s)
{
	for (size_t i = 0; i < s->conn_size; i++) {
		struct http_conn *c = s->conns[i];
		struct http_stream *st = c && c->request ? c->request->response.stream : NULL;
		if (!c || c->gone || !c->request ||
		    (c->phase != HTTP_PHASE_HANDLER && !(st && st->parked)))
			continue;
		struct pollfd p = { .fd = c->fd, .events = POLLRDHUP };
		if (poll(&p, 1, 0) <= 0 || !(p.revents & (POLLRDHUP | POLLHUP | POLLERR)))
			continue;
		c->gone = true;
		if (c->phase == HTTP_PHASE_REPLY && st) {
			st->failed = true;
			http_stream_resume_locked(st);
		}
	}
}

static void tick(struct http_server *s)
{
	int64_t now = clock_mono_ms();
	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < s->conn_size; i++)
		if (s->conns[i])
			watch_conn_locked(s, s->conns[i], now);
	find_gone_locked(s);
	for (struct http_stream *st = s->streams; st; st = st->next) {
		if (s->stopping && !st->ended) {
			st->ended = true;
			http_stream_resume_locked(st);
		}
		http_stream_keepalive_locked(st, now);
		http_stream_kick_locked(st);
	}
	for (size_t i = 0; s->cutting && i < s->conn_size; i++)
		if (s->conns[i] && s->conns[i]->started) {
			s->conns[i]->cut = true;
			shutdown(s->conns[i]->fd, SHUT_RDWR);
		}
	pthread_mutex_unlock(&s->lock);
}

/* Read away what a refused client still sends, so that the kernel does not reset the connection
 * before it read the answer. */
static void drain_locked(struct http_server *s, int64_t now)
{
	char waste[4096];
	for (size_t i = 0; i < s->linger_count;) {
		ssize_t n = 1;
		for (int round = 0; n > 0 && round < 16; round++)
			n = recv(s->lingers[i].fd, waste, sizeof(waste), MSG_DONTWAIT);
		bool over = n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR) ||
			    now > s->lingers[i].until_ms || s->stopping;
		if (over) {
			close(s->lingers[i].fd);
			s->lingers[i] = s->lingers[--s->linger_count];
		} else {
			i++;
		}
	}
}

static int tick_ms(const struct http_server_options *o)
{
	int64_t least = TICK_MS_MAX * 4;
	const int64_t all[] = { o->header_ms_max, o->idle_ms_max, o->progress_grace_ms,
				o->stream_stall_ms_max, o->stream_keepalive_ms };
	for (size_t i = 0; i < ARRAY_COUNT(all); i++)
		least = all[i] < least ? all[i] : least;
	return least / 4 < 10 ? 10 : (int)(least / 4);
}

/* What to wait for; returns how many. */
static nfds_t collect(struct http_server *s, struct pollfd *fds, bool paused, int *ret_timeout)
{
	nfds_t n = 0;
	bool retry = false;
	pthread_mutex_lock(&s->lock);
	fds[n++] = (struct pollfd){ .fd = s->wake_fd, .events = POLLIN };
	for (size_t i = 0; i < s->listener_count && !paused; i++)
		fds[n++] = (struct pollfd){ .fd = s->listeners[i].fd, .events = POLLIN };
	for (size_t i = 0; i < s->linger_count; i++)
		fds[n++] = (struct pollfd){ .fd = s->lingers[i].fd, .events = POLLIN };
	for (struct http_stream *st = s->streams; st; st = st->next)
		retry = retry || (!st->pulling && (st->gone || (st->woken && st->out.len == 0 &&
								!st->ended && !st->failed)));
	bool busy = s->conn_count || s->linger_count || s->streams;
	*ret_timeout = retry || s->stopping ? RETRY_MS : busy ? tick_ms(&s->options) : -1;
	if (paused)
		*ret_timeout = ACCEPT_PAUSE_MS;
	pthread_mutex_unlock(&s->lock);
	return n;
}

void *http_watch_main(void *server)
{
	struct http_server *s = server;
	int64_t pause_until_ms = 0;
	int64_t ticked_ms = 0;
	pthread_setname_np(pthread_self(), "http-watch");
	for (;;) {
		struct pollfd fds[1 + HTTP_LISTENER_COUNT_MAX + HTTP_LINGER_COUNT_MAX];
		int timeout;
		nfds_t n = collect(s, fds, clock_mono_ms() < pause_until_ms, &timeout);
		if (poll(fds, n, timeout) < 0 && errno != EINTR)
			break;
		uint64_t count;
		ssize_t ignored = read(s->wake_fd, &count, sizeof(count));
		(void)ignored;
		pthread_mutex_lock(&s->lock);
		bool end = s->watch_end;
		int listeners[HTTP_LISTENER_COUNT_MAX];
		size_t listener_count = s->stopping ? 0 : s->listener_count;
		for (size_t i = 0; i < listener_count; i++)
			listeners[i] = s->listeners[i].fd;
		drain_locked(s, clock_mono_ms());
		pthread_mutex_unlock(&s->lock);
		if (end)
			break;
		for (size_t i = 0; i < listener_count; i++)
			for (int j = 0; j < ACCEPT_BATCH; j++)
				if (clock_mono_ms() < pause_until_ms ||
				    !accept_one(s, listeners[i], &pause_until_ms))
					break;
		int64_t now = clock_mono_ms();
		if (now - ticked_ms >= (timeout > 0 ? timeout : 0)) {
			ticked_ms = now;
			tick(s);
		}
	}
	return NULL;
}
