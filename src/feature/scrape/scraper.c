/* The schedule: who is due, and who has come or gone. */
#include "feature/scrape/scraper.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/checks.h"
#include "base/log.h"
#include "catalog/bus.h"
#include "feature/scrape/scraper_internal.h"
#include "os/clock.h"

enum {
	CONCURRENT_MAX = 256,
	PAUSE_MS_MAX = 1000,
	/* releases and instances change in bursts */
	SETTLE_MS = 50,
};

/* ---- The heap of targets by due time. */

static void sift_down(struct scrape *s, size_t at)
{
	for (;;) {
		size_t least = at, left = 2 * at + 1;
		for (size_t child = left; child < left + 2 && child < s->heap_count; child++)
			if (s->heap[child]->due < s->heap[least]->due)
				least = child;
		if (least == at)
			return;
		struct scrape_target *t = s->heap[at];
		s->heap[at] = s->heap[least];
		s->heap[least] = t;
		at = least;
	}
}

static void make_heap(struct scrape *s)
{
	s->heap = must_realloc(s->heap, (s->target_count + 1) * sizeof(s->heap[0]));
	s->heap_count = 0;
	for (size_t i = 0; i < s->target_count; i++)
		if (s->targets[i]->wanted)
			s->heap[s->heap_count++] = s->targets[i];
	for (size_t i = s->heap_count / 2; i-- > 0;)
		sift_down(s, i);
}

/* The first moment of T after NOW. */
static time_ms next_due(const struct scrape_target *t, time_ms now)
{
	int64_t interval = t->group->interval_ms;
	time_ms base = now - now % interval + t->offset_ms;
	return base > now ? base : base + interval;
}

/* ---- The list. */

static int by_key(const void *a, const void *b)
{
	const struct scrape_target *x = *(struct scrape_target *const *)a,
				   *y = *(struct scrape_target *const *)b;
	return (x->key > y->key) - (x->key < y->key);
}

/* Merge what is wanted into the list: what is there already stays as it is. */
static void merge(struct scrape *s, struct scrape_wanted *w)
{
	size_t count = 0, old = 0;
	time_ms now = clock_now();
	struct scrape_target **merged = must_calloc(s->target_count + w->count + 1,
						    sizeof(merged[0]));
	qsort(w->items, w->count, sizeof(w->items[0]), by_key);
	for (size_t i = 0; i < w->count; i++) {
		struct scrape_target *t = w->items[i];
		while (old < s->target_count && s->targets[old]->key < t->key) {
			s->targets[old]->wanted = false;
			merged[count++] = s->targets[old++];
		}
		if (old < s->target_count && s->targets[old]->key == t->key) {
			scrape_target_free(t);
			t = s->targets[old++];
		} else if (count && merged[count - 1]->key == t->key) {
			scrape_target_free(t); /* twice in the configuration */
			continue;
		} else {
			t->due = next_due(t, now);
		}
		t->wanted = true;
		merged[count++] = t;
	}
	while (old < s->target_count) {
		s->targets[old]->wanted = false;
		merged[count++] = s->targets[old++];
	}
	free(w->items);
	pthread_mutex_lock(&s->lock);
	free(s->targets);
	s->targets = merged;
	s->target_count = count;
	pthread_mutex_unlock(&s->lock);
}

/* End and forget what is not wanted any more, unless it is being asked just now. True when some
 * are left. */
static bool forget(struct scrape *s)
{
	size_t kept = 0, gone_count = 0;
	bool left = false;
	struct scrape_target **gone = must_calloc(s->target_count + 1, sizeof(gone[0]));
	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < s->target_count; i++) {
		struct scrape_target *t = s->targets[i];
		bool busy = __atomic_load_n(&t->in_flight, __ATOMIC_ACQUIRE);
		left |= !t->wanted && busy;
		if (t->wanted || busy)
			s->targets[kept++] = t;
		else
			gone[gone_count++] = t;
	}
	s->target_count = kept;
	pthread_mutex_unlock(&s->lock);
	for (size_t i = 0; i < gone_count; i++) {
		scrape_target_end(gone[i]);
		scrape_target_free(gone[i]);
	}
	free(gone);
	return left;
}

static void look(struct scrape *s)
{
	struct scrape_wanted wanted = { 0 };
	struct err e = { 0 };
	if (scrape_wanted_list(s, &wanted, &e) != OK) {
		log_err(LOG_ERROR, "the targets to be scraped cannot be listed", &e);
		for (size_t i = 0; i < wanted.count; i++)
			scrape_target_free(wanted.items[i]);
		free(wanted.items);
		return;
	}
	if (wanted.truncated && !s->complained)
		log_warn("there are more targets than can be scraped", "max=%d",
			 SCRAPE_TARGETS_MAX);
	s->complained = wanted.truncated;
	merge(s, &wanted);
	make_heap(s);
}

/* ---- The thread. */

/* Ask everybody who is due; how long until the next. */
static int64_t ask_due(struct scrape *s)
{
	time_ms now = clock_now();
	while (s->heap_count) {
		struct scrape_target *t = s->heap[0];
		int64_t interval = t->group->interval_ms;
		if (t->due > now && t->due - now <= interval)
			return t->due - now;
		/* the clock went back, or far ahead: begin anew */
		bool due = t->due <= now && now - t->due < interval;
		if (due && !__atomic_load_n(&t->in_flight, __ATOMIC_ACQUIRE))
			scrape_target_ask(t, t->due);
		t->due = next_due(t, now);
		sift_down(s, 0);
	}
	return PAUSE_MS_MAX;
}

static void wait_for_news(struct scrape *s, int64_t pause_ms)
{
	struct pollfd wake = { .fd = s->wake_fd, .events = POLLIN };
	poll(&wake, 1, (int)(pause_ms < PAUSE_MS_MAX ? pause_ms : PAUSE_MS_MAX));
	if (wake.revents) {
		uint64_t count;
		ssize_t n = read(s->wake_fd, &count, sizeof(count));
		(void)n;
		clock_sleep_ms(SETTLE_MS);
	}
}

static void *run(void *ctx)
{
	struct scrape *s = ctx;
	bool left = false;
	pthread_setname_np(pthread_self(), "scrape");
	while (!__atomic_load_n(&s->stopping, __ATOMIC_ACQUIRE)) {
		if (__atomic_exchange_n(&s->changed, false, __ATOMIC_ACQ_REL)) {
			look(s);
			left = true;
		}
		left = left && forget(s);
		wait_for_news(s, ask_due(s));
	}
	return NULL;
}

static void wake(struct scrape *s)
{
	uint64_t one = 1;
	ssize_t n = write(s->wake_fd, &one, sizeof(one));
	(void)n;
}

static void note_change(void *ctx, enum bus_topic topic, str subject)
{
	struct scrape *s = ctx;
	(void)topic, (void)subject;
	if (!__atomic_exchange_n(&s->changed, true, __ATOMIC_ACQ_REL))
		wake(s);
}

static errc start(const struct feature_context *context, void **ret_state, struct err *e)
{
	struct scrape *s = must_calloc(1, sizeof(*s));
	struct bus *bus = catalog_bus(context->catalog);
	s->context = context;
	s->changed = true;
	s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	must(s->wake_fd >= 0);
	pthread_mutex_init(&s->lock, NULL);
	pthread_mutex_init(&s->store_lock, NULL);
	s->client = http_client_new(CONCURRENT_MAX);
	must(bus_subscribe(bus, BUS_RELEASE, note_change, s) &&
	     bus_subscribe(bus, BUS_INSTANCE_DESIRED, note_change, s) &&
	     bus_subscribe(bus, BUS_TRAFFIC_DESIRED, note_change, s));
	int failed = pthread_create(&s->thread, NULL, run, s);
	if (failed) {
		errno = failed;
		FAIL_ERRNO(e, "cannot start the thread that scrapes");
	}
	*ret_state = s;
	return OK;
}

static void stop(void *state)
{
	struct scrape *s = state;
	if (!s)
		return;
	bus_unsubscribe(catalog_bus(s->context->catalog), note_change, s);
	__atomic_store_n(&s->stopping, true, __ATOMIC_RELEASE);
	wake(s);
	pthread_join(s->thread, NULL);
	http_client_free(s->client); /* every scrape has ended */
	/* no stale markers: the daemon is back before anybody looks */
	for (size_t i = 0; i < s->target_count; i++)
		scrape_target_free(s->targets[i]);
	free(s->targets);
	free(s->heap);
	close(s->wake_fd);
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->store_lock);
	free(s);
}

const struct feature scrape_feature = { .name = "scrape", .start = start, .stop = stop };

/* ---- For those who look. */

static int by_job(const void *a, const void *b)
{
	const struct scrape_target *x = *(struct scrape_target *const *)a,
				   *y = *(struct scrape_target *const *)b;
	int order = strcmp(x->group->job, y->group->job);
	return order ? order : strcmp(x->url, y->url);
}

void scrape_see(struct scrape *s, void (*see)(void *ctx, const struct scrape_view *view), void *ctx)
{
	pthread_mutex_lock(&s->lock);
	size_t count = s->target_count;
	struct scrape_target **sorted = must_calloc(count + 1, sizeof(sorted[0]));
	memcpy(sorted, s->targets, count * sizeof(sorted[0]));
	qsort(sorted, count, sizeof(sorted[0]), by_job);
	for (size_t i = 0; i < count; i++) {
		const struct scrape_target *t = sorted[i];
		struct scrape_view view = { .job = t->group->job,
					    .url = t->url,
					    .error = t->error,
					    .labels = &t->labels,
					    .health = t->health,
					    .scraped_at = t->scraped_at,
					    .duration_us = t->duration_us,
					    .interval_ms = t->group->interval_ms,
					    .timeout_ms = t->group->timeout_ms };
		if (t->wanted)
			see(ctx, &view);
	}
	pthread_mutex_unlock(&s->lock);
	free(sorted);
}
