#include "intake/import_text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/checks.h"
#include "intake/intake_internal.h"
#include "intake/intake_number.h"
#include "intake/scrape.h"

enum { SCRATCH_BYTES_MAX = 8 << 20 };

/* LABEL in place of one of that name, or behind the others. */
errc import_set_label(struct label *items, size_t *count, const struct label *label, struct err *e)
{
	for (size_t i = 0; i < *count; i++)
		if (str_eq(items[i].name, label->name)) {
			items[i].value = label->value;
			return OK;
		}
	if (*count == LABELS_COUNT_MAX)
		FAIL(e, ERR_LIMIT, "a series has more than %d labels", LABELS_COUNT_MAX);
	items[(*count)++] = *label;
	return OK;
}

struct importing {
	struct intake *in;
	struct metrics_batch *batch;
	const struct import_options *options;
	struct intake_result *result;
	struct scrape_parser parser;
	struct arena scratch;
	struct series_hash
		extra; /* of the extra labels: with them the same bytes are another series */
	time_ms now;
};

static void reject(struct importing *s, const struct err *e)
{
	if (!s->result->rejected_count)
		s->result->line = s->parser.line;
	intake_reject(s->result, 1, e);
}

struct series_hash import_extra_hash(const struct import_options *o)
{
	struct series_hash sum = { 0, 0 };
	for (size_t i = 0; o && i < o->extra_label_count; i++) {
		const struct label *l = &o->extra_labels[i];
		struct series_hash name = series_hash_of(l->name.ptr, l->name.len);
		struct series_hash value = series_hash_of(l->value.ptr, l->value.len);
		struct series_hash parts[] = { sum, name, value };
		sum = series_hash_of(parts, sizeof(parts));
	}
	return sum;
}

/* What the labels of the present line are read from: its bytes, the extra labels, and whether `le`
 * and `quantile` are numbers. */
static struct series_hash hash_of_line(const struct importing *s)
{
	const struct scrape_parser *p = &s->parser;
	struct series_hash hash = series_hash_of(p->series.ptr, p->series.len);
	hash.low ^= s->extra.low ^ (uint64_t)p->type << 32;
	hash.high ^= s->extra.high;
	return hash;
}

static errc find_series(struct importing *s, metrics_ref *ret_ref, struct err *e)
{
	struct label items[LABELS_COUNT_MAX];
	size_t count = 0;
	arena_done(&s->scratch);
	s->scratch = arena_init(SCRATCH_BYTES_MAX);
	TRY(scrape_parser_labels(&s->parser, &s->scratch, items, &count, e));
	for (size_t i = 0; s->options && i < s->options->extra_label_count; i++)
		TRY(import_set_label(items, &count, &s->options->extra_labels[i], e));
	return intake_series(s->batch, items, count, ret_ref, e);
}

static void count_sample(struct importing *s)
{
	s->result->sample_count++;
	s->result->series_count++;
}

/* A line of a series not known by these bytes. */
static __attribute__((noinline)) errc take_new(struct importing *s, struct series_hash hash,
					       time_ms time, struct err *e)
{
	metrics_ref ref = 0;
	errc rc = find_series(s, &ref, e);
	if (rc != OK && intake_is_fatal(rc))
		return rc;
	if (rc != OK) {
		reject(s, e);
		return OK;
	}
	series_cache_put(s->in->cache, hash, ref);
	if (metrics_batch_sample(s->batch, ref, time, s->parser.value))
		count_sample(s);
	return OK;
}

static errc take_sample(struct importing *s, struct err *e)
{
	const struct scrape_parser *p = &s->parser;
	time_ms time = p->has_time ? p->time : s->now;
	struct series_hash hash = hash_of_line(s);
	metrics_ref ref = series_cache_get(s->in->cache, hash);
	if (!ref || !metrics_batch_sample(s->batch, ref, time, p->value))
		return take_new(s, hash, time, e);
	count_sample(s);
	return OK;
}

static errc import_all(struct importing *s, struct err *e)
{
	for (;;) {
		enum scrape_event event = SCRAPE_END;
		if (scrape_parser_next(&s->parser, &event, e) != OK) {
			reject(s, e);
			continue;
		}
		switch (event) {
		case SCRAPE_END:
			return OK;
		case SCRAPE_FAMILY:
			s->result->metadata_count += intake_metadata(s->batch, &s->parser.family);
			break;
		case SCRAPE_SAMPLE:
		case SCRAPE_HISTOGRAM:
			TRY(take_sample(s, e));
		}
	}
}

errc intake_import(struct intake *in, struct metrics_batch *batch, str body,
		   const struct import_options *options, struct intake_result *ret, struct err *e)
{
	struct importing s = { .in = in,
			       .batch = batch,
			       .options = options,
			       .result = ret,
			       .scratch = arena_init(SCRATCH_BYTES_MAX),
			       .now = in->options.now() };
	struct err own;
	if (!e)
		e = &own;
	s.extra = import_extra_hash(options);
	scrape_parser_init(&s.parser, SCRAPE_TEXT, body);
	s.parser.any_names = true;
	series_cache_enter(in->cache);
	errc rc = import_all(&s, e);
	series_cache_leave(in->cache);
	scrape_parser_done(&s.parser);
	arena_done(&s.scratch);
	return rc;
}
