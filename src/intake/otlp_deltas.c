/* Running totals: a table of series references, open addressing. */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "intake/otlp_internal.h"

enum { SLOTS_FIRST = 256, SWEEP_MS = 1000 };

struct stream {
	metrics_ref ref; /* 0: empty */
	double total;
	time_ms last;    /* of what was added */
	time_ms used_at; /* by our clock */
};

struct otlp_deltas {
	pthread_mutex_t lock;
	size_t stream_max, count, slot_count;
	int64_t idle_ms;
	time_ms swept_at; /* a full table is looked through once a second, not for each refusal */
	struct stream *slots; /* NULL until the first */
};

struct otlp_deltas *otlp_deltas_new(size_t stream_max, int64_t idle_ms)
{
	struct otlp_deltas *d = must_calloc(1, sizeof(*d));
	pthread_mutex_init(&d->lock, NULL);
	d->stream_max = stream_max;
	d->idle_ms = idle_ms;
	return d;
}

void otlp_deltas_free(struct otlp_deltas *d)
{
	if (!d)
		return;
	pthread_mutex_destroy(&d->lock);
	free(d->slots);
	free(d);
}

static struct stream *slot_of(struct stream *slots, size_t slot_count, metrics_ref ref)
{
	size_t at = (size_t)(ref * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (slot_count - 1);
	while (slots[at].ref && slots[at].ref != ref)
		at = (at + 1) & (slot_count - 1);
	return &slots[at];
}

/* Into a table of SLOT_COUNT slots, without those that nobody wrote to for long. */
static void rebuild(struct otlp_deltas *d, size_t slot_count, time_ms now)
{
	struct stream *slots = must_calloc(slot_count, sizeof(*slots));
	d->count = 0;
	for (size_t i = 0; i < d->slot_count; i++) {
		const struct stream *s = &d->slots[i];
		if (!s->ref || now - s->used_at > d->idle_ms)
			continue;
		*slot_of(slots, slot_count, s->ref) = *s;
		d->count++;
	}
	free(d->slots);
	d->slots = slots;
	d->slot_count = slot_count;
}

static errc make_room(struct otlp_deltas *d, time_ms now, struct err *e)
{
	if (d->count >= d->stream_max && (now < d->swept_at || now - d->swept_at >= SWEEP_MS)) {
		d->swept_at = now;
		rebuild(d, d->slot_count, now);
	}
	if (d->count >= d->stream_max)
		FAIL(e, ERR_BUSY,
		     "there are %zu series sent as differences, as many as are added up; send them "
		     "cumulative",
		     d->count);
	if (!d->slots)
		rebuild(d, SLOTS_FIRST, now);
	else if (d->count * 2 >= d->slot_count)
		rebuild(d, d->slot_count * 2, now);
	return OK;
}

static errc add(struct otlp_deltas *d, metrics_ref ref, double delta, time_ms time, time_ms now,
		double *ret_total, struct err *e)
{
	struct stream *s = d->slots ? slot_of(d->slots, d->slot_count, ref) : NULL;
	if (!isfinite(delta))
		FAIL(e, ERR_INVALID, "a difference is no number that can be added up");
	if (!s || !s->ref) {
		TRY(make_room(d, now, e));
		s = slot_of(d->slots, d->slot_count, ref);
		*s = (struct stream){ .ref = ref, .last = INT64_MIN };
		d->count++;
	}
	if (time <= s->last)
		FAIL(e, ERR_INVALID,
		     "a difference is not newer than the one before: it would be "
		     "counted twice");
	s->total += delta;
	s->last = time;
	s->used_at = now;
	*ret_total = s->total;
	return OK;
}

errc otlp_deltas_add(struct otlp_deltas *d, metrics_ref ref, double delta, time_ms time,
		     time_ms now, double *ret_total, struct err *e)
{
	pthread_mutex_lock(&d->lock);
	errc rc = add(d, ref, delta, time, now, ret_total, e);
	pthread_mutex_unlock(&d->lock);
	return rc;
}
