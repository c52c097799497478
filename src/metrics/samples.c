#include "metrics/samples.h"

#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "codec/compress.h"
#include "metrics/histogram_codec.h"

void samples_reserve(struct metrics_samples *s, size_t count)
{
	size_t need = s->count + count, room = s->room * 2;
	if (need <= s->room)
		return;
	room = room < need ? need : room;
	room = room < 128 ? 128 : room;
	s->times = must_realloc(s->times, room * sizeof(*s->times));
	s->values = must_realloc(s->values, room * sizeof(*s->values));
	if (s->histograms) {
		s->histograms = must_realloc(s->histograms, room * sizeof(*s->histograms));
		memset(s->histograms + s->count, 0, (room - s->count) * sizeof(*s->histograms));
	}
	s->room = room;
}

void samples_need_histograms(struct metrics_samples *s)
{
	if (s->histograms)
		return;
	samples_reserve(s, 1);
	s->histograms = must_calloc(s->room, sizeof(*s->histograms));
}

struct arena *samples_arena(struct metrics_samples *s)
{
	if (!s->arena) {
		s->arena = must_calloc(1, sizeof(*s->arena));
		*s->arena = arena_init(SAMPLES_HISTOGRAM_BYTES_MAX);
	}
	return s->arena;
}

struct samples_scratch *samples_scratch(struct metrics_samples *s)
{
	if (!s->scratch) {
		struct samples_scratch *scratch = must_calloc(1, sizeof(*scratch));
		scratch->vectors = vector_scratch_new();
		scratch->bytes = buf_init(SAMPLES_VECTOR_BYTES_MAX);
		s->scratch = scratch;
	}
	return s->scratch;
}

errc samples_push_histogram(struct metrics_samples *s, time_ms time, str blob, struct err *e)
{
	struct histogram *h = NULL;
	samples_need_histograms(s);
	TRY(histogram_decode(blob, samples_arena(s), &h, e));
	samples_push(s, time, 0);
	s->histograms[s->count - 1] = h;
	return OK;
}

void samples_clear(struct metrics_samples *s)
{
	s->count = 0;
	if (s->arena)
		arena_done(s->arena);
	free(s->histograms);
	s->histograms = NULL;
}

static void free_arrays(struct metrics_samples *s)
{
	free(s->times);
	free(s->values);
	free(s->histograms);
	if (s->arena) {
		arena_done(s->arena);
		free(s->arena);
	}
}

void metrics_samples_done(struct metrics_samples *s)
{
	if (!s)
		return;
	struct samples_scratch *scratch = s->scratch;
	if (scratch) {
		vector_scratch_free(scratch->vectors);
		compressor_free(scratch->compressor);
		buf_done(&scratch->bytes);
		free(scratch->plan);
		free_arrays(&scratch->run);
		free_arrays(&scratch->merged);
		free(scratch);
	}
	free_arrays(s);
	*s = (struct metrics_samples){ 0 };
}

static void move_sample(struct metrics_samples *s, size_t to, size_t from)
{
	s->times[to] = s->times[from];
	s->values[to] = s->values[from];
	if (s->histograms)
		s->histograms[to] = s->histograms[from];
}

struct placed {
	time_ms time;
	size_t at;
};

static int by_time(const void *a, const void *b)
{
	const struct placed *x = a, *y = b;
	if (x->time != y->time)
		return x->time < y->time ? -1 : 1;
	return (x->at > y->at) - (x->at < y->at);
}

static void sort(struct metrics_samples *s, size_t first)
{
	size_t count = s->count - first;
	struct placed *order = must_calloc(count, sizeof(*order));
	double *values = must_calloc(count, sizeof(*values));
	const struct histogram **histograms = s->histograms
						      ? must_calloc(count, sizeof(*histograms))
						      : NULL;
	for (size_t i = 0; i < count; i++)
		order[i] = (struct placed){ s->times[first + i], i };
	qsort(order, count, sizeof(*order), by_time);
	memcpy(values, s->values + first, count * sizeof(*values));
	if (histograms)
		memcpy(histograms, s->histograms + first, count * sizeof(*histograms));
	for (size_t i = 0; i < count; i++) {
		s->times[first + i] = order[i].time;
		s->values[first + i] = values[order[i].at];
		if (histograms)
			s->histograms[first + i] = histograms[order[i].at];
	}
	free(order);
	free(values);
	free(histograms);
}

void samples_order(struct metrics_samples *s, size_t first)
{
	bool ascending = true, sorted = true;
	for (size_t i = first + 1; i < s->count; i++) {
		ascending &= s->times[i - 1] < s->times[i];
		sorted &= s->times[i - 1] <= s->times[i];
	}
	if (ascending)
		return;
	if (!sorted)
		sort(s, first);
	size_t kept = first;
	for (size_t i = first; i < s->count; i++)
		if (i + 1 == s->count || s->times[i + 1] != s->times[i])
			move_sample(s, kept++, i);
	s->count = kept;
}

static void take(struct metrics_samples *into, const struct metrics_samples *from, size_t at)
{
	samples_push(into, from->times[at], from->values[at]);
	if (from->histograms && from->histograms[at]) {
		samples_need_histograms(into);
		into->histograms[into->count - 1] = from->histograms[at];
	}
}

void samples_merge(struct metrics_samples *into, const struct metrics_samples *a,
		   const struct metrics_samples *b)
{
	size_t i = 0, k = 0;
	samples_reserve(into, a->count + b->count);
	while (i < a->count && k < b->count) {
		if (a->times[i] < b->times[k])
			take(into, a, i++);
		else {
			i += a->times[i] == b->times[k];
			take(into, b, k++);
		}
	}
	samples_append(into, a, i, a->count - i);
	samples_append(into, b, k, b->count - k);
}

void samples_append(struct metrics_samples *s, const struct metrics_samples *from, size_t first,
		    size_t count)
{
	if (from->histograms) {
		for (size_t i = 0; i < count; i++)
			take(s, from, first + i);
		return;
	}
	samples_reserve(s, count);
	if (count) {
		memcpy(s->times + s->count, from->times + first, count * sizeof(*s->times));
		memcpy(s->values + s->count, from->values + first, count * sizeof(*s->values));
	}
	if (s->histograms)
		memset(s->histograms + s->count, 0, count * sizeof(*s->histograms));
	s->count += count;
}

void samples_drop_front(struct metrics_samples *s, size_t n)
{
	size_t left = s->count - n;
	if (n == 0)
		return;
	memmove(s->times, s->times + n, left * sizeof(*s->times));
	memmove(s->values, s->values + n, left * sizeof(*s->values));
	if (s->histograms)
		memmove(s->histograms, s->histograms + n, left * sizeof(*s->histograms));
	s->count = left;
}
