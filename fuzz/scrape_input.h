/* A body that a target may have sent, read to its end. In the text formats a bad line is passed
 * over, so that what is behind it is read too. */
#pragma once

#include <stdint.h>

#include "base/checks.h"
#include "intake/scrape.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static inline void scrape_input_event(struct scrape_parser *p)
{
	struct arena scratch = arena_init(1 << 20);
	struct label items[LABELS_COUNT_MAX];
	struct metrics_exemplar exemplar;
	struct err e = { 0 };
	size_t count = 0;
	if (scrape_parser_labels(p, &scratch, items, &count, &e) == OK)
		must(count <= LABELS_COUNT_MAX);
	else
		must(e.message[0]);
	for (size_t i = 0; i < p->exemplar_count; i++)
		if (scrape_parser_exemplar(p, i, 0, &scratch, items, &exemplar, &e) == OK)
			must(exemplar.labels.count <= LABELS_COUNT_MAX);
	arena_done(&scratch);
}

static inline int scrape_input_run(enum scrape_format format, str body, bool every)
{
	struct scrape_parser p;
	enum scrape_event event = SCRAPE_FAMILY;
	struct err e;
	/* at most a family and a sample, or a refusal, come of a line */
	size_t left = format == SCRAPE_PROTOBUF ? SIZE_MAX : body.len * 3 + 10;
	scrape_parser_init(&p, format, body);
	p.classic_histograms = p.any_names = every;
	while (event != SCRAPE_END) {
		must(left-- > 0);
		if (scrape_parser_next(&p, &event, &e) != OK) {
			must(e.message[0]);
			if (format == SCRAPE_PROTOBUF)
				break;
			event = SCRAPE_FAMILY;
			continue;
		}
		if (event == SCRAPE_HISTOGRAM)
			must(histogram_check(p.histogram, &e) == OK);
		if (event == SCRAPE_SAMPLE || event == SCRAPE_HISTOGRAM)
			scrape_input_event(&p);
	}
	scrape_parser_done(&p);
	return 0;
}
