#include "api/statsd_listener.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/checks.h"
#include "base/log.h"
#include "intake/statsd.h"
#include "os/clock.h"
#include "os/io.h"
#include "os/socket.h"

enum {
	DATAGRAM_MAX = 9216, /* a jumbo frame's */
	DATAGRAM_COUNT = 32,
	RECEIVE_BYTES = 4 << 20,
	FLUSH_MS = 15000,
	COMPLAIN_MS = 60000,
};

struct statsd_listener {
	struct statsd *statsd;
	struct metrics_batch *batch;
	int fd, wake_fd;
	pthread_t thread;
	bool stopping; /* atomic */
	struct intake_result received;
	uint64_t rejected_count; /* already told */
	int64_t complained_mono_ms;
	char bytes[DATAGRAM_COUNT][DATAGRAM_MAX];
};

static bool may_complain(struct statsd_listener *l)
{
	int64_t now = clock_mono_ms();
	if (l->complained_mono_ms && now - l->complained_mono_ms < COMPLAIN_MS)
		return false;
	l->complained_mono_ms = now;
	return true;
}

static void receive(struct statsd_listener *l)
{
	struct mmsghdr messages[DATAGRAM_COUNT];
	struct iovec pieces[DATAGRAM_COUNT];
	for (size_t i = 0; i < DATAGRAM_COUNT; i++) {
		pieces[i] = (struct iovec){ l->bytes[i], DATAGRAM_MAX };
		messages[i] =
			(struct mmsghdr){ .msg_hdr = { .msg_iov = &pieces[i], .msg_iovlen = 1 } };
	}
	int n = recvmmsg(l->fd, messages, DATAGRAM_COUNT, MSG_DONTWAIT, NULL);
	time_ms now = clock_now();
	for (int i = 0; i < n; i++)
		statsd_add(l->statsd, (str){ l->bytes[i], messages[i].msg_len }, now, &l->received);
	if (l->received.rejected_count > l->rejected_count && may_complain(l)) {
		log_warn("StatsD lines were rejected", "count=%llu first=\"%s\"",
			 (unsigned long long)(l->received.rejected_count - l->rejected_count),
			 l->received.refusal);
		l->rejected_count = l->received.rejected_count;
		l->received.refusal[0] = '\0';
	}
}

static void flush(struct statsd_listener *l)
{
	struct intake_result flushed = { 0 };
	struct metrics_batch_result result;
	struct err e = { 0 };
	statsd_flush(l->statsd, l->batch, clock_now(), &flushed);
	if (metrics_batch_commit(l->batch, &result, &e) == OK)
		return;
	metrics_batch_abort(l->batch);
	if (may_complain(l))
		log_err(LOG_WARN, "what StatsD sent could not be stored", &e);
}

static void *run(void *ctx)
{
	struct statsd_listener *l = ctx;
	int64_t due = clock_mono_ms() + FLUSH_MS;
	pthread_setname_np(pthread_self(), "statsd");
	while (!__atomic_load_n(&l->stopping, __ATOMIC_ACQUIRE)) {
		struct pollfd fds[] = { { .fd = l->fd, .events = POLLIN },
					{ .fd = l->wake_fd, .events = POLLIN } };
		int64_t left = due - clock_mono_ms();
		if (left > 0 && poll(fds, ARRAY_COUNT(fds), (int)left) > 0 && fds[0].revents)
			receive(l);
		if (clock_mono_ms() < due)
			continue;
		flush(l);
		due += FLUSH_MS;
	}
	receive(l);
	flush(l);
	return NULL;
}

static void free_all(struct statsd_listener *l)
{
	metrics_batch_free(l->batch);
	statsd_free(l->statsd);
	io_close(&l->fd);
	io_close(&l->wake_fd);
	free(l);
}

errc statsd_listener_start(struct metrics *m, const char *address, int *ret_port,
			   struct statsd_listener **ret, struct err *e)
{
	struct statsd_options options = { 0 };
	struct statsd_listener *l = must_calloc(1, sizeof(*l));
	int size = RECEIVE_BYTES;
	l->fd = -1;
	l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	must(l->wake_fd >= 0);
	l->statsd = statsd_new(&options);
	l->batch = metrics_batch_new(m, STR("statsd"), 0);
	errc rc = socket_bind_udp(address, &l->fd, ret_port, e);
	if (rc == OK) {
		setsockopt(l->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
		int failed = pthread_create(&l->thread, NULL, run, l);
		errno = failed;
		if (failed)
			rc = err_fill_errno(e, __FILE__, __LINE__,
					    "cannot start the thread of StatsD");
	}
	if (rc != OK) {
		free_all(l);
		return rc;
	}
	*ret = l;
	return OK;
}

void statsd_listener_stop(struct statsd_listener *l)
{
	uint64_t one = 1;
	if (!l)
		return;
	__atomic_store_n(&l->stopping, true, __ATOMIC_RELEASE);
	ssize_t n = write(l->wake_fd, &one, sizeof(one));
	(void)n;
	pthread_join(l->thread, NULL);
	free_all(l);
}
