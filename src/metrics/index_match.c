#include "metrics/index_match.h"

#include "base/checks.h"

/*
 * Cheapest first. A matcher that does not match the empty value intersects; one that does (absent
 * labels count as empty) subtracts the series whose value it does not match. Negation is undone
 * for the latter: `x!="a"` subtracts those with a.
 */
enum step {
	STEP_VALUE,        /* intersect with one posting */
	STEP_LITERALS,     /* intersect with some */
	STEP_SUBTRACT_FEW, /* subtract some postings */
	STEP_SCAN,         /* intersect with what a scan over values finds */
	STEP_SUBTRACT_SCAN,
	STEP_NOTHING, /* everything matches */
	STEP_COUNT = STEP_NOTHING,
};

static enum step step_of(const struct matcher *m)
{
	const str *literals;
	size_t count;
	bool few = m->type == MATCH_NOT_EQUAL || matcher_literals(m, &literals, &count);
	if (!matcher_matches_empty(m)) {
		if (m->type == MATCH_EQUAL)
			return STEP_VALUE;
		return m->type == MATCH_REGEXP && few ? STEP_LITERALS : STEP_SCAN;
	}
	if (m->type == MATCH_REGEXP && str_eq(m->value, STR(".*")))
		return STEP_NOTHING;
	if ((m->type == MATCH_NOT_EQUAL || m->type == MATCH_NOT_REGEXP) && few)
		return STEP_SUBTRACT_FEW;
	return STEP_SUBTRACT_SCAN;
}

static errc values_of(const struct index_source *source, const struct matcher *m,
		      struct id_set *into, struct err *e)
{
	const str *literals = &m->value;
	size_t count = 1;
	if (m->program)
		(void)matcher_literals(m, &literals, &count);
	for (size_t i = 0; i < count; i++)
		if (literals[i].len)
			TRY(source->value(source->ctx, m->name, literals[i], into, e));
	id_set_normalize(into);
	return OK;
}

/* The series that have the label and whose value M does not match (UNMATCHED) or matches. */
static errc scanned(const struct index_source *source, const struct matcher *m, bool unmatched,
		    struct id_set *into, struct err *e)
{
	/* `x=""` and `x!=""` ask for the label alone. */
	bool any = (m->type == MATCH_EQUAL || m->type == MATCH_NOT_EQUAL) && m->value.len == 0;
	TRY(source->scan(source->ctx, m->name, any ? NULL : m, !unmatched, into, e));
	id_set_normalize(into);
	return OK;
}

static errc take_step(const struct index_source *source, const struct matcher *m, enum step step,
		      struct id_set *ids, bool *started, struct err *e)
{
	struct id_set found CLEANUP(id_set_done) = { 0 };
	bool done = false;
	if (*started && ids->count == 0)
		return OK;
	if (step >= STEP_SCAN && *started && source->filter)
		TRY(source->filter(source->ctx, m, ids, &done, e));
	if (done)
		return OK;
	if (step == STEP_VALUE || step == STEP_LITERALS || step == STEP_SUBTRACT_FEW)
		TRY(values_of(source, m, &found, e));
	else
		TRY(scanned(source, m, step == STEP_SUBTRACT_SCAN, &found, e));
	bool subtract = step == STEP_SUBTRACT_FEW || step == STEP_SUBTRACT_SCAN;
	if (subtract && !*started)
		TRY(source->all(source->ctx, ids, e));
	if (subtract)
		id_set_subtract(ids, found.ids, found.count);
	else if (*started)
		id_set_intersect(ids, found.ids, found.count);
	else
		id_set_unite(ids, found.ids, found.count);
	*started = true;
	return OK;
}

errc index_match(const struct index_source *source, const struct matcher *matchers, size_t count,
		 struct id_set *ret_ids, struct err *e)
{
	bool started = false;
	/* what subtracts comes after what intersects, where there is any */
	static const enum step order[] = { STEP_VALUE, STEP_LITERALS, STEP_SCAN, STEP_SUBTRACT_FEW,
					   STEP_SUBTRACT_SCAN };
	for (size_t k = 0; k < ARRAY_COUNT(order); k++)
		for (size_t i = 0; i < count; i++)
			if (step_of(&matchers[i]) == order[k])
				TRY(take_step(source, &matchers[i], order[k], ret_ids, &started,
					      e));
	return started ? OK : source->all(source->ctx, ret_ids, e);
}
