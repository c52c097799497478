#include "feature/notify/notify.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "base/log.h"
#include "catalog/outbox.h"
#include "catalog/secrets.h"
#include "net/http_client.h"
#include "net/webhook.h"
#include "os/clock.h"

enum {
	BATCH = 16,
	ATTEMPT_MS_MAX = 10000,
	IDLE_MS = 3600000,
	BROKEN_MS = 60000, /* until a catalog that cannot be read or written is tried again */
	ARENA_MAX = 16 * 1024 * 1024,
	SECRETS_ARENA_MAX = 96 * 1024 * 1024
};

struct notify {
	const struct feature_context *context;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t woken;
	bool wake;
	bool stopping;
};

static void note_outbox(void *ctx, enum bus_topic topic, str subject)
{
	struct notify *n = ctx;
	(void)topic, (void)subject;
	pthread_mutex_lock(&n->lock);
	n->wake = true;
	pthread_cond_signal(&n->woken);
	pthread_mutex_unlock(&n->lock);
}

/* The newest value of the environment's secret NAME, so that a changed secret mends a failing hook.
 */
static errc find_secret(struct notify *n, const struct outbox_message *m, struct arena *scratch,
			str *ret_value, struct err *e)
{
	struct secret *secrets = NULL;
	size_t count = 0;
	TRY(secrets_open(n->context->catalog, m->app, m->environment, INT64_MAX, scratch, &secrets,
			 &count, e));
	for (size_t i = 0; i < count; i++) {
		if (strcmp(secrets[i].name, m->secret_name) != 0)
			continue;
		*ret_value = secrets[i].value;
		return OK;
	}
	FAIL(e, ERR_NOT_FOUND, "the secret %s of %s/%s is not set", m->secret_name, m->app,
	     m->environment);
}

static errc post(struct notify *n, const struct outbox_message *m, struct arena *scratch,
		 struct err *e)
{
	char timestamp[24], signature[WEBHOOK_SIGNATURE_SIZE];
	int64_t now_s = clock_now() / 1000;
	snprintf(timestamp, sizeof(timestamp), "%lld", (long long)now_s);
	struct http_fetch_header headers[4] = { { "content-type", "application/json" },
						{ "webhook-id", m->message_id },
						{ "webhook-timestamp", timestamp } };
	size_t header_count = 3;
	if (m->secret_name[0]) {
		str secret;
		TRY(find_secret(n, m, scratch, &secret, e));
		TRY(webhook_sign(secret, str_c(m->message_id), now_s, str_c(m->body), signature,
				 e));
		headers[header_count++] = (struct http_fetch_header){ "webhook-signature",
								      signature };
	}
	struct http_fetch_request request = { .url = m->url,
					      .headers = headers,
					      .header_count = header_count,
					      .body = str_c(m->body),
					      .total_ms_max = ATTEMPT_MS_MAX,
					      .response_bytes_max = 65536 };
	struct http_fetch_response response;
	TRY(http_fetch(&request, &response, e));
	int status = response.status;
	http_fetch_response_done(&response);
	if (status < 200 || status > 299)
		FAIL(e, ERR_FAILED, "the receiver answered %d", status);
	return OK;
}

/* 5 s doubled for each attempt, and up to a fifth more so that failed ones do not return at once.
 */
static time_ms next_attempt(int attempts)
{
	int64_t pause = 5000LL << (attempts < 7 ? attempts : 7);
	return clock_now() + pause + (int64_t)entropy_below((uint32_t)(pause / 5));
}

/* False when the outcome could not be written. */
static bool send_one(struct notify *n, const struct outbox_message *m, struct arena *scratch)
{
	struct err e, write_error;
	errc rc = post(n, m, scratch, &e);
	errc written = rc == OK ? outbox_sent(n->context->catalog, m->id, &write_error)
				: outbox_failed(n->context->catalog, m->id,
						next_attempt(m->attempts), e.message, &write_error);
	if (rc != OK)
		log_warn("a webhook was not delivered",
			 "app=%s environment=%s id=%s attempt=%d of=%d error=\"%s\"", m->app,
			 m->environment, m->message_id, m->attempts + 1, OUTBOX_ATTEMPTS_MAX,
			 e.message);
	if (written != OK)
		log_err(LOG_ERROR, "the outbox cannot be written", &write_error);
	return written == OK;
}

/* Send what is due; the pause until the next one is due. */
static int64_t send_due(struct notify *n)
{
	struct arena scratch CLEANUP(arena_done) = arena_init(ARENA_MAX);
	struct outbox_message *items = NULL;
	size_t count = 0;
	time_ms next = 0;
	struct err e;
	if (outbox_due(n->context->catalog, clock_now(), BATCH, &scratch, &items, &count, &next,
		       &e) != OK) {
		log_err(LOG_ERROR, "the outbox cannot be read", &e);
		return BROKEN_MS;
	}
	for (size_t i = 0; i < count && !__atomic_load_n(&n->stopping, __ATOMIC_RELAXED); i++) {
		struct arena secrets CLEANUP(arena_done) = arena_init(SECRETS_ARENA_MAX);
		/* a message whose sending cannot be recorded would be sent again at once */
		if (!send_one(n, &items[i], &secrets))
			return BROKEN_MS;
	}
	if (count == BATCH)
		return 0;
	int64_t pause = next ? next - clock_now() : IDLE_MS;
	return pause < 0 ? 0 : pause;
}

static void sleep_until_woken(struct notify *n, int64_t pause_ms)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += pause_ms / 1000;
	until.tv_nsec += pause_ms % 1000 * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	pthread_mutex_lock(&n->lock);
	while (!n->wake && !n->stopping)
		if (pthread_cond_timedwait(&n->woken, &n->lock, &until) != 0)
			break;
	n->wake = false;
	pthread_mutex_unlock(&n->lock);
}

static void *run(void *arg)
{
	struct notify *n = arg;
	pthread_setname_np(pthread_self(), "notify");
	while (!__atomic_load_n(&n->stopping, __ATOMIC_RELAXED))
		sleep_until_woken(n, send_due(n));
	return NULL;
}

static errc start(const struct feature_context *context, void **ret_state, struct err *e)
{
	struct notify *n = must_calloc(1, sizeof(*n));
	pthread_condattr_t monotonic;
	n->context = context;
	pthread_mutex_init(&n->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&n->woken, &monotonic);
	pthread_condattr_destroy(&monotonic);
	bool subscribed = bus_subscribe(catalog_bus(context->catalog), BUS_OUTBOX, note_outbox, n);
	must(subscribed);
	if (pthread_create(&n->thread, NULL, run, n) != 0) {
		bus_unsubscribe(catalog_bus(context->catalog), note_outbox, n);
		free(n);
		FAIL(e, ERR_IO, "cannot start a thread");
	}
	*ret_state = n;
	return OK;
}

static void stop(void *state)
{
	struct notify *n = state;
	if (!n)
		return;
	bus_unsubscribe(catalog_bus(n->context->catalog), note_outbox, n);
	pthread_mutex_lock(&n->lock);
	__atomic_store_n(&n->stopping, true, __ATOMIC_RELAXED);
	pthread_cond_signal(&n->woken);
	pthread_mutex_unlock(&n->lock);
	pthread_join(n->thread, NULL);
	pthread_mutex_destroy(&n->lock);
	pthread_cond_destroy(&n->woken);
	free(n);
}

const struct feature notify_feature = { .name = "notify", .start = start, .stop = stop };
