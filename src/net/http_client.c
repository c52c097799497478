#include "net/http_client.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/checks.h"
#include "net/http_client_internal.h"
#include "os/clock.h"

enum { QUEUED_COUNT_MAX = 1024, IDLE_SECONDS = 10, THREAD_STACK_BYTES = 512 * 1024 };

/* A request of its own: copies of everything the caller gave. */
struct job {
	struct job *next;
	struct arena memory;
	struct http_fetch_request request;
	struct http_transfer transfer;
	void (*done)(void *ctx, errc result, const struct http_fetch_response *response,
		     const struct err *e);
	void *ctx;
};

struct http_client {
	pthread_mutex_t lock;
	pthread_cond_t work;
	pthread_t thread;
	bool thread_made;  /* to be joined */
	bool thread_alive; /* takes what is queued */
	bool stopping;
	CURLM *multi; /* the thread's, as long as it is alive */
	struct job *queue, **queue_end;
	unsigned queued_count;
	unsigned concurrent_count_max;
	/* only the thread's */
	struct job *running;
	unsigned running_count;
};

struct http_client *http_client_new(unsigned concurrent_count_max)
{
	struct http_client *c = must_calloc(1, sizeof(*c));
	pthread_condattr_t monotonic;
	pthread_mutex_init(&c->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&c->work, &monotonic);
	pthread_condattr_destroy(&monotonic);
	c->queue_end = &c->queue;
	c->concurrent_count_max = concurrent_count_max ? concurrent_count_max : 1;
	return c;
}

static char *copy_c(struct arena *a, const char *s)
{
	return s ? arena_cstr(a, str_c(s)) : NULL;
}

static struct job *copy_request(const struct http_fetch_request *q)
{
	size_t size = q->body.len + 8192 + strlen(q->url);
	for (size_t i = 0; i < q->header_count; i++)
		size += strlen(q->headers[i].name) + strlen(q->headers[i].value) + 128;
	struct job *j = must_calloc(1, sizeof(*j));
	j->memory = arena_init(2 * size + 8192);
	j->request = *q;
	j->request.method = copy_c(&j->memory, q->method);
	j->request.url = copy_c(&j->memory, q->url);
	j->request.unix_path = copy_c(&j->memory, q->unix_path);
	j->request.tls_ca_path = copy_c(&j->memory, q->tls_ca_path);
	j->request.body = arena_str(&j->memory, q->body);
	j->request.body_fd_len = 0;
	struct http_fetch_header *headers = arena_array(&j->memory, q->header_count + 1,
							sizeof(headers[0]));
	must(headers);
	for (size_t i = 0; i < q->header_count; i++) {
		headers[i].name = copy_c(&j->memory, q->headers[i].name);
		headers[i].value = copy_c(&j->memory, q->headers[i].value);
	}
	must(!j->memory.overflow);
	j->request.headers = headers;
	return j;
}

static void free_job(struct job *j)
{
	arena_done(&j->memory);
	free(j);
}

static void finish(struct job *j, errc rc, struct err *e)
{
	j->done(j->ctx, rc, rc == OK ? &j->transfer.response : NULL, e);
	http_transfer_done(&j->transfer);
	free_job(j);
}

static void begin(struct http_client *c, struct job *j)
{
	struct err e;
	errc rc = http_transfer_init(&j->transfer, &j->request, &e);
	if (rc != OK) {
		finish(j, rc, &e);
		return;
	}
	curl_easy_setopt(j->transfer.easy, CURLOPT_PRIVATE, j);
	curl_multi_add_handle(c->multi, j->transfer.easy);
	j->next = c->running;
	c->running = j;
	c->running_count++;
}

static void end(struct http_client *c, struct job *j, CURLcode code)
{
	struct err e;
	struct job **at = &c->running;
	while (*at != j)
		at = &(*at)->next;
	*at = j->next;
	c->running_count--;
	errc rc = http_transfer_finish(&j->transfer, code, &e);
	curl_multi_remove_handle(c->multi, j->transfer.easy);
	finish(j, rc, &e);
}

/* Take what may start now; false when the thread should end. */
static bool take(struct http_client *c)
{
	struct timespec until;
	pthread_mutex_lock(&c->lock);
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += IDLE_SECONDS;
	while (!c->queue && !c->running && !c->stopping)
		if (pthread_cond_timedwait(&c->work, &c->lock, &until) == ETIMEDOUT)
			break;
	bool go_on = !c->stopping && (c->queue || c->running);
	if (!go_on && !c->stopping)
		c->thread_alive = false;
	while (go_on && c->queue && c->running_count < c->concurrent_count_max) {
		struct job *j = c->queue;
		c->queue = j->next;
		if (!c->queue)
			c->queue_end = &c->queue;
		c->queued_count--;
		pthread_mutex_unlock(&c->lock);
		begin(c, j);
		pthread_mutex_lock(&c->lock);
	}
	pthread_mutex_unlock(&c->lock);
	return go_on;
}

static void step(struct http_client *c)
{
	int running, left, wait_ms = 1000;
	CURLMsg *m;
	curl_multi_perform(c->multi, &running);
	while ((m = curl_multi_info_read(c->multi, &left))) {
		struct job *j = NULL;
		CURLcode code = m->data.result;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&j);
		end(c, j, code);
	}
	int64_t now = clock_mono_ms();
	for (struct job *j = c->running, *next; j; j = next) {
		next = j->next;
		int wait = http_transfer_wait_ms(&j->transfer);
		wait_ms = wait < wait_ms ? wait : wait_ms;
		if (http_transfer_is_over(&j->transfer, now))
			end(c, j, CURLE_ABORTED_BY_CALLBACK);
	}
	if (c->running)
		curl_multi_poll(c->multi, NULL, 0, wait_ms, NULL);
}

static void *client_main(void *arg)
{
	struct http_client *c = arg;
	pthread_setname_np(pthread_self(), "http-client");
	while (take(c))
		step(c);
	while (c->running) {
		c->running->transfer.cancelled = true;
		end(c, c->running, CURLE_ABORTED_BY_CALLBACK);
	}
	pthread_mutex_lock(&c->lock);
	CURLM *multi = c->multi;
	struct job *dropped = c->stopping ? c->queue : NULL;
	if (c->stopping)
		c->queue = NULL;
	c->multi = NULL; /* a next one is made only after this thread was joined */
	pthread_mutex_unlock(&c->lock);
	curl_multi_cleanup(multi);
	while (dropped) {
		struct err e;
		struct job *j = dropped;
		dropped = j->next;
		errc rc = err_fill(&e, ERR_CANCELLED, 0, __FILE__, __LINE__,
				   "the request was cancelled before it began");
		j->done(j->ctx, rc, NULL, &e);
		free_job(j);
	}
	return NULL;
}

/* A thread that takes the queue. One that just gave up is joined first. */
static errc ensure_thread_locked(struct http_client *c, struct err *e)
{
	pthread_attr_t attr;
	if (c->thread_alive)
		return OK;
	if (c->thread_made) {
		pthread_t old = c->thread;
		c->thread_made = false;
		c->thread_alive = true; /* nobody else makes one meanwhile */
		pthread_mutex_unlock(&c->lock);
		pthread_join(old, NULL);
		pthread_mutex_lock(&c->lock);
		c->thread_alive = false;
	}
	http_transfer_global_init();
	c->multi = curl_multi_init();
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, THREAD_STACK_BYTES);
	bool made = c->multi && pthread_create(&c->thread, &attr, client_main, c) == 0;
	pthread_attr_destroy(&attr);
	if (!made) {
		curl_multi_cleanup(c->multi);
		c->multi = NULL;
		FAIL(e, ERR_IO, "cannot start the HTTP client's thread");
	}
	c->thread_made = c->thread_alive = true;
	return OK;
}

errc http_client_start(struct http_client *c, const struct http_fetch_request *request,
		       void (*done)(void *ctx, errc result,
				    const struct http_fetch_response *response,
				    const struct err *e),
		       void *ctx, struct err *e)
{
	struct job *j = copy_request(request);
	errc rc = OK;
	j->done = done;
	j->ctx = ctx;
	pthread_mutex_lock(&c->lock);
	if (c->stopping)
		rc = err_fill(e, ERR_CANCELLED, 0, __FILE__, __LINE__, "the program is stopping");
	else if (c->queued_count >= QUEUED_COUNT_MAX)
		rc = err_fill(e, ERR_BUSY, 0, __FILE__, __LINE__,
			      "%d outgoing requests wait already", QUEUED_COUNT_MAX);
	if (rc == OK)
		rc = ensure_thread_locked(c, e);
	if (rc == OK) {
		*c->queue_end = j;
		c->queue_end = &j->next;
		c->queued_count++;
		pthread_cond_signal(&c->work);
		if (c->multi)
			curl_multi_wakeup(c->multi);
	}
	pthread_mutex_unlock(&c->lock);
	if (rc != OK)
		free_job(j);
	return rc;
}

void http_client_free(struct http_client *c)
{
	if (!c)
		return;
	pthread_mutex_lock(&c->lock);
	c->stopping = true;
	pthread_cond_signal(&c->work);
	if (c->multi)
		curl_multi_wakeup(c->multi);
	bool join = c->thread_made;
	pthread_mutex_unlock(&c->lock);
	if (join)
		pthread_join(c->thread, NULL);
	pthread_mutex_destroy(&c->lock);
	pthread_cond_destroy(&c->work);
	free(c);
}
