#include "intake/scrape_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "intake/intake_internal.h"

enum {
	SLOTS_MIN = 64,
	SCRATCH_BYTES_MAX = 8 << 20,
	FAMILY_BYTES_MAX = 128 << 10,
	ENTRIES_MAX = 10000000,
	FORGET_SCRAPES = 10, /* a series that ended this long ago is looked up anew */
};

#define RENAMED UINT64_MAX /* no reference */

enum { ENTRY_ALIVE = 1, ENTRY_DROPPED = 2, ENTRY_METADATA = 4 };

/* What bytes mean which series. */
struct entry {
	struct series_hash hash;
	metrics_ref ref;
	uint32_t seen; /* number of the scrape that had it last */
	/* ALIVE: it had a sample without a time of its own, and no stale marker yet */
	uint32_t flags;
};

/* Where an entry is, found by its hash. */
struct slot {
	uint32_t number; /* of the entry, from 1; 0: empty */
	uint32_t tag;    /* of the hash, so that others are passed by */
};

/* Entries stand in the order in which they came first. A target says the same in the same order
 * each time, so that the entry behind the last one is nearly always the one that is looked for. */
struct scrape_cache {
	struct entry *entries;
	size_t count, room;
	size_t next; /* the entry behind the last one */
	struct slot *slots;
	size_t slot_count; /* a power of two, at least twice the entries */
	uint32_t scrape;
	struct arena scratch; /* of the labels of one series */
	struct buf family;    /* what was said of one */
};

struct scrape_cache *scrape_cache_new(void)
{
	struct scrape_cache *c = must_calloc(1, sizeof(*c));
	c->slot_count = SLOTS_MIN;
	c->slots = must_calloc(c->slot_count, sizeof(c->slots[0]));
	c->scratch = arena_init(SCRATCH_BYTES_MAX);
	c->family = buf_init(FAMILY_BYTES_MAX);
	return c;
}

void scrape_cache_free(struct scrape_cache *c)
{
	if (!c)
		return;
	arena_done(&c->scratch);
	buf_done(&c->family);
	free(c->entries);
	free(c->slots);
	free(c);
}

size_t scrape_cache_bytes(const struct scrape_cache *c)
{
	return sizeof(*c) + c->room * sizeof(c->entries[0]) + c->slot_count * sizeof(c->slots[0]) +
	       c->family.size;
}

static bool is_of(const struct entry *x, struct series_hash hash)
{
	return x->hash.low == hash.low && x->hash.high == hash.high;
}

/* The slot of HASH, or the empty one where it belongs. */
static struct slot *slot_of(const struct scrape_cache *c, struct series_hash hash)
{
	size_t at = (size_t)hash.low & (c->slot_count - 1);
	const uint32_t tag = (uint32_t)hash.high;
	while (c->slots[at].number &&
	       (c->slots[at].tag != tag || !is_of(&c->entries[c->slots[at].number - 1], hash)))
		at = (at + 1) & (c->slot_count - 1);
	return &c->slots[at];
}

static void put_slot(struct scrape_cache *c, size_t index)
{
	struct series_hash hash = c->entries[index].hash;
	*slot_of(c, hash) = (struct slot){ (uint32_t)index + 1, (uint32_t)hash.high };
}

/* Without what ended long ago, and with room for as many again. */
static void rebuild(struct scrape_cache *c)
{
	size_t kept = 0;
	for (size_t i = 0; i < c->count; i++)
		if (c->scrape - c->entries[i].seen <= FORGET_SCRAPES)
			c->entries[kept++] = c->entries[i];
	c->count = kept;
	c->slot_count = SLOTS_MIN;
	while (c->slot_count < kept * 2 + 2)
		c->slot_count *= 2;
	c->room = c->slot_count / 2;
	c->entries = must_realloc(c->entries, c->room * sizeof(c->entries[0]));
	free(c->slots);
	c->slots = must_calloc(c->slot_count, sizeof(c->slots[0]));
	for (size_t i = 0; i < kept; i++)
		put_slot(c, i);
}

/* Valid until: the next call. */
static struct entry *entry_of(struct scrape_cache *c, struct series_hash hash, bool *ret_fresh)
{
	*ret_fresh = false;
	if (c->next < c->count && is_of(&c->entries[c->next], hash))
		return &c->entries[c->next++];
	const struct slot *slot = slot_of(c, hash);
	if (slot->number) {
		c->next = slot->number;
		return &c->entries[slot->number - 1];
	}
	if (c->count == c->room)
		rebuild(c);
	*ret_fresh = true;
	struct entry *x = &c->entries[c->count];
	*x = (struct entry){ .hash = hash, .seen = c->scrape - FORGET_SCRAPES };
	put_slot(c, c->count++);
	c->next = c->count;
	return x;
}

/* ---- The labels of a new series. */

struct storing {
	struct scrape_cache *cache;
	struct metrics_batch *batch;
	const struct scrape_rules *rules;
	struct scrape_parser parser;
	time_ms now;
	struct scrape_result *result;
};

static bool has_label(const struct label *items, size_t count, str name)
{
	for (size_t i = 0; i < count; i++)
		if (str_eq(items[i].name, name))
			return true;
	return false;
}

/* The target's own labels; what the sample says under the same name is kept under another. An empty
 * label that is honored says that there be none. */
static errc add_target_labels(struct storing *s, struct label *items, size_t *count, struct err *e)
{
	const struct scrape_rules *r = s->rules;
	size_t own = *count;
	for (size_t t = 0; t < r->target_label_count; t++) {
		const struct label *target = &r->target_labels[t];
		size_t at = 0;
		while (at < own && !str_eq(items[at].name, target->name))
			at++;
		if (at < own && r->honor_labels)
			continue;
		if (at < own && items[at].value.len) {
			const char *name = arena_printf(&s->cache->scratch, "exported_%.*s",
							STR_ARG(items[at].name));
			while (has_label(items, *count, str_c(name)))
				name = arena_printf(&s->cache->scratch, "exported_%s", name);
			items[at].name = str_c(name);
		} else if (at < own) {
			items[at].value = target->value;
			continue;
		}
		if (*count == LABELS_COUNT_MAX)
			FAIL(e, ERR_LIMIT, "a series has more than %d labels", LABELS_COUNT_MAX);
		items[(*count)++] = *target;
	}
	return arena_check(&s->cache->scratch, "the labels of a scrape", e);
}

static errc check_labels(const struct scrape_rules *r, const struct label *items, size_t count,
			 struct err *e)
{
	if (r->label_max && count > r->label_max)
		FAIL(e, ERR_LIMIT, "a series has %zu labels, more than the limit of %zu", count,
		     r->label_max);
	for (size_t i = 0; i < count; i++) {
		if (r->label_name_bytes_max && items[i].name.len > r->label_name_bytes_max)
			FAIL(e, ERR_LIMIT, "the name of a label has %zu bytes, more than %zu",
			     items[i].name.len, r->label_name_bytes_max);
		if (r->label_value_bytes_max && items[i].value.len > r->label_value_bytes_max)
			FAIL(e, ERR_LIMIT, "the value of a label has %zu bytes, more than %zu",
			     items[i].value.len, r->label_value_bytes_max);
	}
	return OK;
}

/* Look a series up by its labels. *RET_KEPT false: it is dropped, or refused for a limit of the
 * engine. */
static __attribute__((noinline)) errc find_series(struct storing *s, struct entry *x,
						  bool *ret_kept, struct err *e)
{
	struct label items[LABELS_COUNT_MAX];
	struct err why = { 0 };
	size_t count = 0;
	bool keep = true;
	*ret_kept = false;
	arena_done(&s->cache->scratch);
	s->cache->scratch = arena_init(SCRATCH_BYTES_MAX);
	TRY(scrape_parser_labels(&s->parser, &s->cache->scratch, items, &count, e));
	TRY(add_target_labels(s, items, &count, e));
	if (s->rules->relabel) {
		size_t kept = 0; /* rules see no empty labels */
		for (size_t i = 0; i < count; i++)
			if (items[i].value.len)
				items[kept++] = items[i];
		count = kept;
		TRY(s->rules->relabel(s->rules->relabel_ctx, &s->cache->scratch, items, &count,
				      &keep, e));
	}
	if (!keep) {
		x->flags |= ENTRY_DROPPED;
		return OK;
	}
	TRY(check_labels(s->rules, items, count, e));
	errc rc = intake_series(s->batch, items, count, &x->ref, &why);
	if (rc == ERR_BUSY) {
		if (!s->result->refused_count++)
			snprintf(s->result->refusal, sizeof(s->result->refusal), "%s", why.message);
		return OK;
	}
	if (rc != OK) {
		*e = why;
		return err_prepend(e, "line %zu", s->parser.line);
	}
	*ret_kept = true;
	return OK;
}

/* ---- Samples. */

static __attribute__((noinline)) void store_exemplars(struct storing *s, const struct entry *x,
						      time_ms time)
{
	for (size_t i = 0; i < s->parser.exemplar_count; i++) {
		struct label items[LABELS_COUNT_MAX];
		struct metrics_exemplar exemplar;
		arena_done(&s->cache->scratch);
		s->cache->scratch = arena_init(SCRATCH_BYTES_MAX);
		if (scrape_parser_exemplar(&s->parser, i, time, &s->cache->scratch, items,
					   &exemplar, NULL) != OK)
			continue; /* the sample is worth more than it */
		if (metrics_batch_exemplar(s->batch, x->ref, &exemplar))
			s->result->exemplar_count++;
	}
}

static bool put(struct storing *s, const struct entry *x, bool histogram, time_ms time)
{
	return histogram ? metrics_batch_histogram(s->batch, x->ref, time, s->parser.histogram)
			 : metrics_batch_sample(s->batch, x->ref, time, s->parser.value);
}

static errc store_sample(struct storing *s, bool histogram, struct err *e)
{
	const struct scrape_parser *p = &s->parser;
	struct scrape_cache *c = s->cache;
	bool own_time = p->has_time && !s->rules->ignore_timestamps, fresh, kept = true;
	time_ms time = own_time ? p->time : s->now;
	s->result->scraped_count++;
	struct entry *x = entry_of(c, series_hash_of(p->series.ptr, p->series.len), &fresh);
	bool was_seen = x->seen == c->scrape, before = x->seen + 1 == c->scrape;
	if (c->count > ENTRIES_MAX)
		FAIL(e, ERR_LIMIT, "a target has more than %d series", ENTRIES_MAX);
	if (was_seen && !own_time && !(x->flags & ENTRY_DROPPED)) {
		s->result->duplicate_count++;
		return OK;
	}
	x->seen = c->scrape;
	if (x->flags & ENTRY_DROPPED)
		return OK;
	if (!x->ref || !put(s, x, histogram, time)) {
		TRY(find_series(s, x, &kept, e));
		if (!kept) {
			if (!(x->flags & ENTRY_DROPPED))
				x->ref = 0;
			return OK;
		}
		(void)put(s, x, histogram, time);
	}
	if (p->start_time)
		(void)metrics_batch_start_time(s->batch, x->ref, p->start_time);
	x->flags = own_time ? x->flags & ~(uint32_t)ENTRY_ALIVE : x->flags | ENTRY_ALIVE;
	s->result->kept_count++;
	s->result->added_count += !before && !was_seen;
	if (s->rules->sample_max && s->result->kept_count > s->rules->sample_max)
		FAIL(e, ERR_LIMIT, "sample limit exceeded: more than %zu samples",
		     s->rules->sample_max);
	if (p->exemplar_count)
		store_exemplars(s, x, time);
	return OK;
}

/* Told to the engine once, and again when it changes. */
static void store_family(struct storing *s)
{
	const struct metrics_metadata *m = &s->parser.family;
	struct buf *text = &s->cache->family;
	bool fresh;
	/* no series begins with a line's end */
	const char head[] = { '\n', (char)('0' + m->type) };
	const str parts[] = { { head, sizeof(head) }, m->name, m->help, m->unit };
	buf_clear(text);
	for (size_t i = 0; i < ARRAY_COUNT(parts); i++) {
		buf_add(text, parts[i]);
		buf_add_byte(text, '\0');
	}
	if (text->overflow)
		return; /* longer than anybody keeps */
	struct entry *x = entry_of(s->cache, series_hash_of(text->ptr, text->len), &fresh);
	x->seen = s->cache->scrape;
	x->flags = ENTRY_METADATA;
	if (fresh)
		(void)intake_metadata(s->batch, m);
}

static bool has_ended(const struct scrape_cache *c, const struct entry *x)
{
	return (x->flags & ENTRY_ALIVE) && x->seen != c->scrape;
}

static size_t ref_place(const metrics_ref *refs, size_t size, metrics_ref ref)
{
	size_t at = (size_t)(ref * 0x9e3779b97f4a7c15u >> 32) & (size - 1);
	while (refs[at] && refs[at] != ref)
		at = (at + 1) & (size - 1);
	return at;
}

/* A target may write the labels of a series in another order than before, or come in another
 * format: then it goes on under other bytes. Forget the entries that only seem to have ended. */
static void forget_renamed(struct scrape_cache *c)
{
	size_t ended = 0, size = 16;
	for (size_t i = 0; i < c->count; i++)
		ended += has_ended(c, &c->entries[i]);
	if (!ended)
		return;
	while (size < ended * 2)
		size *= 2;
	metrics_ref *refs = must_calloc(size, sizeof(*refs));
	for (size_t i = 0; i < c->count; i++)
		if (has_ended(c, &c->entries[i]))
			refs[ref_place(refs, size, c->entries[i].ref)] = c->entries[i].ref;
	for (size_t i = 0; i < c->count; i++) {
		const struct entry *x = &c->entries[i];
		size_t at = ref_place(refs, size, x->ref);
		if (x->ref && x->seen == c->scrape && refs[at] == x->ref)
			refs[at] = RENAMED;
	}
	for (size_t i = 0; i < c->count; i++) {
		struct entry *x = &c->entries[i];
		if (has_ended(c, x) && !refs[ref_place(refs, size, x->ref)])
			x->flags &= ~(uint32_t)ENTRY_ALIVE;
	}
	free(refs);
}

static uint64_t mark_stale(struct scrape_cache *c, struct metrics_batch *batch, time_ms now,
			   bool all)
{
	union {
		uint64_t u;
		double d;
	} stale = { METRICS_STALE_BITS };
	uint64_t count = 0;
	for (size_t i = 0; i < c->count; i++) {
		struct entry *x = &c->entries[i];
		if (!has_ended(c, x) && !(all && (x->flags & ENTRY_ALIVE)))
			continue;
		x->flags &= ~(uint32_t)ENTRY_ALIVE;
		count += metrics_batch_sample(batch, x->ref, now, stale.d);
	}
	return count;
}

static errc store_all(struct storing *s, struct err *e)
{
	for (;;) {
		enum scrape_event event;
		TRY(scrape_parser_next(&s->parser, &event, e));
		switch (event) {
		case SCRAPE_END:
			return OK;
		case SCRAPE_FAMILY:
			store_family(s);
			break;
		case SCRAPE_SAMPLE:
		case SCRAPE_HISTOGRAM:
			TRY(store_sample(s, event == SCRAPE_HISTOGRAM, e));
		}
	}
}

errc scrape_store(struct scrape_cache *c, struct metrics_batch *batch, enum scrape_format format,
		  str body, const struct scrape_rules *rules, time_ms now,
		  struct scrape_result *ret, struct err *e)
{
	struct storing s = {
		.cache = c, .batch = batch, .rules = rules, .now = now, .result = ret
	};
	struct err own;
	if (!e)
		e = &own;
	c->scrape++;
	c->next = 0;
	scrape_parser_init(&s.parser, format, body);
	s.parser.classic_histograms = rules->classic_histograms;
	errc rc = store_all(&s, e);
	scrape_parser_done(&s.parser);
	TRY(rc);
	forget_renamed(c);
	ret->stale_count = mark_stale(c, batch, now, false);
	return OK;
}

uint64_t scrape_cache_stale(struct scrape_cache *c, struct metrics_batch *batch, time_ms now)
{
	return mark_stale(c, batch, now, true);
}
