#include "feature/traffic/traffic_access.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/checks.h"
#include "catalog/instances.h"
#include "codec/number.h"
#include "os/clock.h"
#include "os/io.h"
#include "os/socket.h"

enum {
	DATAGRAM_MAX = 1024,
	DATAGRAM_COUNT = 64, /* at a time */
	RECEIVE_BYTES = 4 << 20,
	LIST_BYTES_MAX = 64 << 20,
	GONE_MS = 5 * 60 * 1000, /* what is gone is still told for this long */
	BUCKET_COUNT = 14,
};

static const double bounds[BUCKET_COUNT] = { 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
					     0.25,  0.5,    1,     2.5,  5,     10,   30 };

struct kind {
	char method[10];
	int status;
	uint64_t count;
};

/* An instance, or with port 0 what reached none in an environment. */
struct host {
	char app[NAME_MAX_BYTES + 1], environment[NAME_MAX_BYTES + 1], service[NAME_MAX_BYTES + 1];
	int64_t release;
	int port;
	int64_t gone_ms; /* since when; 0: it is there */
	struct kind *kinds;
	size_t kind_count;
	uint64_t buckets[BUCKET_COUNT + 1], duration_count;
	uint64_t duration_ms, queue_ms, bytes_in, bytes_out, retries;
};

struct traffic_access {
	struct catalog *catalog;
	int fd, wake_fd;
	pthread_t thread;
	bool stopping; /* atomic */
	bool stale;    /* atomic: instances changed */
	pthread_mutex_t lock;
	struct host *hosts;
	size_t host_count;
	uint64_t unknown_count; /* lines that are none of ours, or past a limit */
};

/* ---- One line: `%ft %b %sp %ST %ts %Tw %Tc %Ta %U %B %rc %HM` */

static str next(str *rest)
{
	str field = STR("");
	return str_split(rest, ' ', &field) ? field : STR("");
}

static int64_t number(str field)
{
	int64_t value = 0;
	if (field.len && field.ptr[0] == '+') /* redispatched, or still growing */
		field = (str){ field.ptr + 1, field.len - 1 };
	return str_to_i64(field, &value) && value > 0 ? value : 0;
}

bool traffic_access_parse(str line, struct traffic_access_line *ret)
{
	str rest = str_trim(line), frontend = next(&rest), backend = next(&rest);
	*ret = (struct traffic_access_line){ .port = (int)number(next(&rest)) };
	ret->status = (int)number(next(&rest));
	next(&rest); /* termination */
	ret->queue_ms = number(next(&rest));
	next(&rest); /* connecting */
	ret->total_ms = number(next(&rest));
	ret->bytes_in = (uint64_t)number(next(&rest));
	ret->bytes_out = (uint64_t)number(next(&rest));
	ret->retries = (uint64_t)number(next(&rest));
	ret->method = next(&rest);
	if (!frontend.len || !ret->method.len || str_ends(backend, STR(".relay")))
		return false;
	/* a frontend with TLS has a `~` */
	if (frontend.ptr[frontend.len - 1] == '~')
		frontend.len--;
	if (str_ends(frontend, STR(".inner")))
		frontend.len -= strlen(".inner");
	ret->environment = frontend;
	ret->websocket = str_ends(backend, STR(".ws"));
	return ret->port <= 65535 && ret->status <= 999;
}

/* ---- Hosts. */

static struct host *add_host(struct traffic_access *a)
{
	if (a->host_count == ACCESS_HOSTS_MAX)
		return NULL;
	a->hosts = must_realloc(a->hosts, (a->host_count + 1) * sizeof(a->hosts[0]));
	struct host *h = &a->hosts[a->host_count++];
	*h = (struct host){ 0 };
	return h;
}

static bool is_host_of(const struct host *h, const struct instance *i)
{
	return h->port == i->port && h->release == i->release && strcmp(h->app, i->app) == 0 &&
	       strcmp(h->environment, i->environment) == 0;
}

static void drop_gone(struct traffic_access *a, int64_t now)
{
	for (size_t i = 0; i < a->host_count;) {
		struct host *h = &a->hosts[i];
		if (!h->gone_ms || now - h->gone_ms < GONE_MS) {
			i++;
			continue;
		}
		free(h->kinds);
		*h = a->hosts[--a->host_count];
	}
}

/* Make the hosts what the catalog's instances are. Holds: lock. */
static void refresh(struct traffic_access *a)
{
	struct arena scratch CLEANUP(arena_done) = arena_init(LIST_BYTES_MAX);
	struct instance_filter all = { 0 };
	struct instance *items = NULL;
	size_t count = 0;
	int64_t now = clock_mono_ms();
	if (instances_list(a->catalog, &all, &scratch, &items, &count, NULL) != OK)
		return;
	for (size_t h = 0; h < a->host_count; h++)
		if (a->hosts[h].port && !a->hosts[h].gone_ms)
			a->hosts[h].gone_ms = now;
	for (size_t i = 0; i < count; i++) {
		struct host *found = NULL;
		if (!items[i].in_proxy)
			continue;
		for (size_t h = 0; h < a->host_count && !found; h++)
			if (is_host_of(&a->hosts[h], &items[i]))
				found = &a->hosts[h];
		if (!found) {
			found = add_host(a);
			if (!found)
				break;
			str_copy(str_c(items[i].app), found->app, sizeof(found->app));
			str_copy(str_c(items[i].environment), found->environment,
				 sizeof(found->environment));
			str_copy(str_c(items[i].service), found->service, sizeof(found->service));
			found->release = items[i].release;
			found->port = items[i].port;
		}
		found->gone_ms = 0;
	}
	drop_gone(a, now);
}

static struct host *host_of(struct traffic_access *a, const struct traffic_access_line *l)
{
	struct host *best = NULL;
	const char *dot = memchr(l->environment.ptr, '.', l->environment.len);
	if (!dot)
		return NULL;
	str app = { l->environment.ptr, (size_t)(dot - l->environment.ptr) };
	str environment = { dot + 1, l->environment.len - app.len - 1 };
	for (size_t i = 0; i < a->host_count; i++) {
		struct host *h = &a->hosts[i];
		if (h->port != l->port || !str_eq_c(app, h->app) ||
		    !str_eq_c(environment, h->environment))
			continue;
		/* a port is used again only when who had it is gone */
		if (!best || !h->gone_ms)
			best = h;
	}
	if (best || l->port)
		return best;
	best = add_host(a);
	if (best && (!str_copy(app, best->app, sizeof(best->app)) ||
		     !str_copy(environment, best->environment, sizeof(best->environment)))) {
		a->host_count--;
		return NULL;
	}
	return best;
}

static const char *known_method(str method)
{
	static const char *const methods[] = { "GET",    "HEAD",    "POST",    "PUT",  "PATCH",
					       "DELETE", "OPTIONS", "CONNECT", "TRACE" };
	for (size_t i = 0; i < ARRAY_COUNT(methods); i++)
		if (str_eq_c(method, methods[i]))
			return methods[i];
	return "other";
}

static struct kind *kind_of(struct host *h, const char *method, int status)
{
	for (size_t i = 0; i < h->kind_count; i++)
		if (h->kinds[i].status == status && strcmp(h->kinds[i].method, method) == 0)
			return &h->kinds[i];
	if (h->kind_count == ACCESS_KINDS_MAX)
		return NULL;
	h->kinds = must_realloc(h->kinds, (h->kind_count + 1) * sizeof(h->kinds[0]));
	struct kind *k = &h->kinds[h->kind_count++];
	*k = (struct kind){ .status = status };
	str_copy(str_c(method), k->method, sizeof(k->method));
	return k;
}

static void count_line(struct traffic_access *a, str line)
{
	struct traffic_access_line l;
	if (!traffic_access_parse(line, &l)) {
		a->unknown_count += str_find(line, STR(".relay ")) < 0;
		return;
	}
	if (__atomic_exchange_n(&a->stale, false, __ATOMIC_ACQ_REL))
		refresh(a);
	struct host *h = host_of(a, &l);
	struct kind *k = h ? kind_of(h, known_method(l.method), l.status) : NULL;
	if (!k) {
		a->unknown_count++;
		return;
	}
	k->count++;
	h->retries += l.retries;
	h->bytes_in += l.bytes_in;
	h->bytes_out += l.bytes_out;
	h->queue_ms += (uint64_t)l.queue_ms;
	if (l.websocket) /* how long it was open says nothing of how fast it was */
		return;
	size_t bucket = 0;
	while (bucket < BUCKET_COUNT && (double)l.total_ms / 1000 > bounds[bucket])
		bucket++;
	h->buckets[bucket]++;
	h->duration_count++;
	h->duration_ms += (uint64_t)l.total_ms;
}

/* ---- The thread. */

static void receive(struct traffic_access *a)
{
	static _Thread_local char bytes[DATAGRAM_COUNT][DATAGRAM_MAX];
	struct mmsghdr messages[DATAGRAM_COUNT];
	struct iovec pieces[DATAGRAM_COUNT];
	for (size_t i = 0; i < DATAGRAM_COUNT; i++) {
		pieces[i] = (struct iovec){ bytes[i], DATAGRAM_MAX };
		messages[i] =
			(struct mmsghdr){ .msg_hdr = { .msg_iov = &pieces[i], .msg_iovlen = 1 } };
	}
	int n = recvmmsg(a->fd, messages, DATAGRAM_COUNT, MSG_DONTWAIT, NULL);
	if (n <= 0)
		return;
	pthread_mutex_lock(&a->lock);
	for (int i = 0; i < n; i++)
		count_line(a, (str){ bytes[i], messages[i].msg_len });
	pthread_mutex_unlock(&a->lock);
}

static void *run(void *ctx)
{
	struct traffic_access *a = ctx;
	pthread_setname_np(pthread_self(), "proxy-access");
	while (!__atomic_load_n(&a->stopping, __ATOMIC_ACQUIRE)) {
		struct pollfd fds[] = { { .fd = a->fd, .events = POLLIN },
					{ .fd = a->wake_fd, .events = POLLIN } };
		if (poll(fds, ARRAY_COUNT(fds), -1) > 0 && fds[0].revents)
			receive(a);
	}
	return NULL;
}

static void note(void *ctx, enum bus_topic topic, str subject)
{
	struct traffic_access *a = ctx;
	(void)topic, (void)subject;
	__atomic_store_n(&a->stale, true, __ATOMIC_RELEASE);
}

static void free_all(struct traffic_access *a)
{
	for (size_t i = 0; i < a->host_count; i++)
		free(a->hosts[i].kinds);
	free(a->hosts);
	io_close(&a->fd);
	io_close(&a->wake_fd);
	pthread_mutex_destroy(&a->lock);
	free(a);
}

errc traffic_access_start(struct catalog *c, const char *path, uid_t uid,
			  struct traffic_access **ret_access, struct err *e)
{
	struct traffic_access *a = must_calloc(1, sizeof(*a));
	int size = RECEIVE_BYTES;
	a->catalog = c;
	a->fd = -1;
	a->stale = true;
	pthread_mutex_init(&a->lock, NULL);
	a->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	must(a->wake_fd >= 0);
	errc rc = socket_bind_unix_datagram(path, uid, &a->fd, e);
	if (rc == OK) {
		setsockopt(a->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
		must(bus_subscribe(catalog_bus(c), BUS_TRAFFIC_DESIRED, note, a) &&
		     bus_subscribe(catalog_bus(c), BUS_INSTANCE_DESIRED, note, a));
		int failed = pthread_create(&a->thread, NULL, run, a);
		errno = failed;
		if (failed)
			rc = err_fill_errno(e, __FILE__, __LINE__,
					    "cannot start the thread of the proxy's log");
	}
	if (rc != OK) {
		bus_unsubscribe(catalog_bus(c), note, a);
		free_all(a);
		return rc;
	}
	*ret_access = a;
	return OK;
}

void traffic_access_stop(struct traffic_access *a)
{
	uint64_t one = 1;
	if (!a)
		return;
	bus_unsubscribe(catalog_bus(a->catalog), note, a);
	__atomic_store_n(&a->stopping, true, __ATOMIC_RELEASE);
	ssize_t n = write(a->wake_fd, &one, sizeof(one));
	(void)n;
	pthread_join(a->thread, NULL);
	free_all(a);
}

/* ---- As text. Names have letters, digits and dashes only: nothing needs escaping. */

static void family(struct buf *into, const char *name, const char *kind, const char *help)
{
	buf_printf(into, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind);
}

static void add_labels(struct buf *into, const struct host *h)
{
	buf_printf(into, "app=\"%s\",environment=\"%s\"", h->app, h->environment);
	if (h->port)
		buf_printf(into, ",service=\"%s\",release=\"%lld\",instance=\"127.0.0.1:%d\"",
			   h->service, (long long)h->release, h->port);
	else /* not that of who exposes it */
		buf_add_c(into, ",instance=\"none\"");
}

static void add_number(struct buf *into, const char *name, const struct host *h, double value)
{
	buf_printf(into, "%s{", name);
	add_labels(into, h);
	buf_add_c(into, "} ");
	number_add(into, value);
	buf_add_byte(into, '\n');
}

static void add_requests(struct traffic_access *a, struct buf *into)
{
	family(into, "holdfast_proxy_requests_total", "counter", "Requests answered.");
	for (size_t i = 0; i < a->host_count; i++) {
		const struct host *h = &a->hosts[i];
		for (size_t k = 0; k < h->kind_count; k++) {
			buf_add_c(into, "holdfast_proxy_requests_total{");
			add_labels(into, h);
			buf_printf(into, ",method=\"%s\",code=\"%d\"} %llu\n", h->kinds[k].method,
				   h->kinds[k].status, (unsigned long long)h->kinds[k].count);
		}
	}
}

static void add_durations(struct traffic_access *a, struct buf *into)
{
	const char *name = "holdfast_proxy_request_duration_seconds";
	family(into, name, "histogram",
	       "From a request's first byte to the last of its answer; no WebSockets.");
	for (size_t i = 0; i < a->host_count; i++) {
		const struct host *h = &a->hosts[i];
		uint64_t sum = 0;
		for (size_t b = 0; b <= BUCKET_COUNT; b++) {
			sum += h->buckets[b];
			buf_printf(into, "%s_bucket{", name);
			add_labels(into, h);
			if (b < BUCKET_COUNT)
				buf_printf(into, ",le=\"%g\"} %llu\n", bounds[b],
					   (unsigned long long)sum);
			else
				buf_printf(into, ",le=\"+Inf\"} %llu\n", (unsigned long long)sum);
		}
		buf_printf(into, "%s_sum{", name);
		add_labels(into, h);
		buf_printf(into, "} %.3f\n%s_count{", (double)h->duration_ms / 1000, name);
		add_labels(into, h);
		buf_printf(into, "} %llu\n", (unsigned long long)h->duration_count);
	}
}

static void add_sums(struct traffic_access *a, struct buf *into)
{
	static const struct {
		const char *name, *help;
		size_t offset;
		double scale;
	} columns[] = {
		{ "holdfast_proxy_request_bytes_total", "Bytes that clients sent.",
		  offsetof(struct host, bytes_in), 1 },
		{ "holdfast_proxy_response_bytes_total", "Bytes that were answered.",
		  offsetof(struct host, bytes_out), 1 },
		{ "holdfast_proxy_retries_total", "Attempts beyond the first.",
		  offsetof(struct host, retries), 1 },
		{ "holdfast_proxy_queue_seconds_total", "Time that requests waited for a place.",
		  offsetof(struct host, queue_ms), 0.001 },
	};
	for (size_t c = 0; c < ARRAY_COUNT(columns); c++) {
		family(into, columns[c].name, "counter", columns[c].help);
		for (size_t i = 0; i < a->host_count; i++) {
			uint64_t value;
			memcpy(&value, (const char *)&a->hosts[i] + columns[c].offset,
			       sizeof(value));
			add_number(into, columns[c].name, &a->hosts[i],
				   (double)value * columns[c].scale);
		}
	}
}

/* What HAProxy has in hand now, as traffic_tick.c saw it last. */
static void add_present(struct traffic_access *a, struct buf *into)
{
	static const struct {
		const char *name, *help;
	} columns[] = {
		{ "holdfast_proxy_in_flight", "Requests being answered." },
		{ "holdfast_proxy_queued", "Requests that wait for a place." },
		{ "holdfast_proxy_websockets", "Open WebSockets." },
		{ "holdfast_proxy_up", "Whether the proxy finds it healthy." },
	};
	struct arena scratch CLEANUP(arena_done) = arena_init(LIST_BYTES_MAX);
	struct instance_filter all = { 0 };
	struct instance *items = NULL;
	size_t count = 0;
	if (instances_list(a->catalog, &all, &scratch, &items, &count, NULL) != OK)
		return;
	for (size_t c = 0; c < ARRAY_COUNT(columns); c++) {
		family(into, columns[c].name, "gauge", columns[c].help);
		for (size_t i = 0; i < count; i++) {
			const struct instance *at = &items[i];
			const int values[] = { at->proxy.in_flight, at->proxy.queued,
					       at->proxy.websockets, at->proxy.up };
			if (!at->in_proxy || at->traffic == TRAFFIC_NONE)
				continue;
			struct host h = { .release = at->release, .port = at->port };
			str_copy(str_c(at->app), h.app, sizeof(h.app));
			str_copy(str_c(at->environment), h.environment, sizeof(h.environment));
			str_copy(str_c(at->service), h.service, sizeof(h.service));
			add_number(into, columns[c].name, &h, values[c]);
		}
	}
}

void traffic_access_expose(struct traffic_access *a, struct buf *into)
{
	add_present(a, into);
	pthread_mutex_lock(&a->lock);
	if (__atomic_exchange_n(&a->stale, false, __ATOMIC_ACQ_REL))
		refresh(a);
	add_requests(a, into);
	add_durations(a, into);
	add_sums(a, into);
	family(into, "holdfast_proxy_lines_unknown_total", "counter",
	       "Lines of the proxy's log that could not be counted.");
	buf_printf(into, "holdfast_proxy_lines_unknown_total %llu\n",
		   (unsigned long long)a->unknown_count);
	pthread_mutex_unlock(&a->lock);
}
