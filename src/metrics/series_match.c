/* The live series as an index. */
#include "base/checks.h"
#include "metrics/series_key.h"
#include "metrics/series_table.h"

static void append(struct id_set *into, const struct posting *p)
{
	id_set_reserve(into, p->count);
	for (uint32_t i = 0; i < p->count; i++)
		into->ids[into->count++] = posting_ids(p)[i];
}

static errc source_value(const void *ctx, str name, str value, struct id_set *into, struct err *e)
{
	const struct posting *p = series_table_posting(ctx, name, value);
	(void)e;
	if (p)
		append(into, p);
	return OK;
}

static errc source_scan(const void *ctx, str name, const struct matcher *m, bool wanted,
			struct id_set *into, struct err *e)
{
	const struct label_postings *n = series_table_name(ctx, name);
	for (size_t i = 0; n && i < n->count; i++) {
		bool matches = wanted;
		if (m)
			TRY(matcher_matches(m, posting_value(n->items[i]), &matches, e));
		if (matches == wanted)
			append(into, n->items[i]);
	}
	return OK;
}

static errc source_all(const void *ctx, struct id_set *into, struct err *e)
{
	const struct series_table *t = ctx;
	size_t chunk_count = (size_t)(t->next_id >> SERIES_CHUNK_BITS) + 1;
	(void)e;
	id_set_reserve(into, t->count);
	for (size_t i = 0; i < chunk_count && i < SERIES_DIRECTORY_COUNT; i++)
		for (size_t k = 0; t->chunks[i] && k < SERIES_CHUNK_COUNT; k++)
			if (t->chunks[i][k].live)
				id_set_push(into, t->chunks[i][k].id);
	return OK;
}

static errc source_filter(const void *ctx, const struct matcher *m, struct id_set *ids,
			  bool *ret_done, struct err *e)
{
	const struct label_postings *n = series_table_name(ctx, m->name);
	size_t kept = 0;
	if (!n || n->count < ids->count)
		return OK;
	for (size_t i = 0; i < ids->count; i++) {
		const struct series *s = series_table_get(ctx, ids->ids[i]);
		bool matches = false;
		if (s && s->key)
			TRY(matcher_matches(m, series_key_get(series_key(s), m->name), &matches,
					    e));
		if (matches)
			ids->ids[kept++] = ids->ids[i];
	}
	ids->count = kept;
	*ret_done = true;
	return OK;
}

struct index_source series_table_source(const struct series_table *t)
{
	return (struct index_source){ .ctx = t,
				      .value = source_value,
				      .scan = source_scan,
				      .all = source_all,
				      .filter = source_filter };
}
