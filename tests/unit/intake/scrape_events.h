/* What a body exposes, as text: an event a line. */
#pragma once

#include <stdio.h>

#include "codec/number.h"
#include "intake/scrape.h"

static inline void print_exemplars(struct scrape_parser *p, struct arena *arena, struct buf *into)
{
	for (size_t i = 0; i < p->exemplar_count; i++) {
		struct label items[LABELS_COUNT_MAX];
		struct metrics_exemplar x;
		struct err e;
		if (scrape_parser_exemplar(p, i, -1, arena, items, &x, &e) != OK) {
			buf_printf(into, " #bad");
			continue;
		}
		buf_add_c(into, " #");
		labels_print(into, &x.labels);
		buf_printf(into, " %g@%lld", x.value, (long long)x.time);
	}
}

/* One event; an error of its labels goes to E. */
static inline errc print_event(struct scrape_parser *p, enum scrape_event event, struct buf *into,
			       struct err *e)
{
	struct label items[LABELS_COUNT_MAX];
	struct labels labels = { items, 0 };
	struct arena arena = arena_init(1 << 20);
	char number[NUMBER_TEXT_SIZE];
	errc rc = OK;
	if (event == SCRAPE_FAMILY) {
		buf_printf(into, "family %.*s %s [%.*s] [%.*s]\n", STR_ARG(p->family.name),
			   metrics_type_name(p->family.type), STR_ARG(p->family.help),
			   STR_ARG(p->family.unit));
		return OK;
	}
	rc = scrape_parser_labels(p, &arena, items, &labels.count, e);
	if (rc == OK)
		rc = labels_normalize(items, labels.count, &labels, e);
	if (rc == OK) {
		labels_print(into, &labels);
		number_format(event == SCRAPE_SAMPLE ? p->value : p->histogram->count, number);
		buf_printf(into, " %s%s", event == SCRAPE_SAMPLE ? "" : "histogram ", number);
		if (p->has_time)
			buf_printf(into, "@%lld", (long long)p->time);
		if (p->start_time)
			buf_printf(into, " since %lld", (long long)p->start_time);
		print_exemplars(p, &arena, into);
		buf_add_byte(into, '\n');
	}
	arena_done(&arena);
	return rc;
}

static inline errc print_events(enum scrape_format format, bool classic, str body, struct buf *into,
				struct err *e)
{
	struct scrape_parser p;
	enum scrape_event event = SCRAPE_END;
	scrape_parser_init(&p, format, body);
	p.classic_histograms = classic;
	errc rc = scrape_parser_next(&p, &event, e);
	while (rc == OK && event != SCRAPE_END) {
		rc = print_event(&p, event, into, e);
		if (rc == OK)
			rc = scrape_parser_next(&p, &event, e);
	}
	scrape_parser_done(&p);
	return rc;
}
