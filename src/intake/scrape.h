/*
 * scrape: what a target exposes, event by event: Prometheus text 0.0.4 and 1.0.0, OpenMetrics 1.0,
 * and Prometheus's delimited protobuf.
 *
 *     struct scrape_parser p;
 *     scrape_parser_init(&p, format, body);
 *     while ((rc = scrape_parser_next(&p, &event, e)) == OK && event != SCRAPE_END) …
 *     scrape_parser_done(&p);
 *
 * A sample comes with `series`, the bytes that name it in this body: who has seen them before need
 * not parse the labels. They are equal in two bodies of one target when the series is.
 * Threads: a parser belongs to one. Valid until: what an event gives, until the next one.
 * Source: prometheus.io/docs/instrumenting/exposition_formats, the OpenMetrics specification,
 *   Prometheus 3's parsers where the two leave something open.
 */
#pragma once

#include "base/arena.h"
#include "metrics/metrics.h"

enum scrape_format { SCRAPE_TEXT, SCRAPE_OPENMETRICS, SCRAPE_PROTOBUF };

/* What to ask a target for. */
#define SCRAPE_ACCEPT                                                                      \
	"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;"         \
	"encoding=delimited;q=0.6,application/"                                            \
	"openmetrics-text;version=1.0.0;escaping=allow-utf-8;"                             \
	"q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;" \
	"escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"

/* The format of a Content-Type; FALLBACK when it is empty or no exposition format. */
enum scrape_format scrape_format_of(str content_type, enum scrape_format fallback);

enum scrape_event {
	SCRAPE_END,
	SCRAPE_FAMILY, /* `family`: type, help and unit of the samples that follow */
	SCRAPE_SAMPLE,
	SCRAPE_HISTOGRAM, /* `histogram` instead of `value` */
};

enum { SCRAPE_EXEMPLARS_MAX = 64 };

/* One `# {…} value time`, unparsed. */
struct scrape_exemplar {
	str labels; /* between the braces, or the encoded messages */
	double value;
	time_ms time; /* INT64_MIN: it has none */
};

struct scrape_parser {
	enum scrape_format format;
	/* of the event */
	struct metrics_metadata family;
	str series;
	double value;
	bool has_time;
	time_ms time;
	time_ms start_time; /* since when it counts; 0: not said */
	const struct histogram *histogram;
	struct scrape_exemplar exemplars[SCRAPE_EXEMPLARS_MAX];
	size_t exemplar_count;
	size_t line; /* of the event, from 1; the byte offset in protobuf */
	/* set before the first event */
	bool classic_histograms; /* protobuf: a native histogram's classic series too */
	bool any_names;          /* text: names without quotes need be no identifiers */

	/* private */
	const char *at, *end, *begin;
	enum metrics_type type; /* of the last TYPE, whatever its name */
	struct buf names;       /* unescaped HELP and names of the family */
	str family_as_written;
	bool has_family, saw_end;
	struct scrape_protobuf *protobuf;
};

void scrape_parser_init(struct scrape_parser *p, enum scrape_format format, str body);
void scrape_parser_done(struct scrape_parser *p);
/* The next event. Errors: ERR_INVALID with the line and what is wrong. In the text formats the
 * parser then stands behind that line, and who can do without it goes on. */
WARN_UNUSED errc scrape_parser_next(struct scrape_parser *p, enum scrape_event *ret_event,
				    struct err *e);
/* The labels of the sample, `__name__` among them, neither sorted nor checked for duplicates; what
 * needs unescaping is in SCRATCH. The values of `le` and `quantile` are written as numbers are
 * (`1` -> `1.0`). ITEMS has room for LABELS_COUNT_MAX. Errors: ERR_INVALID with the line. */
WARN_UNUSED errc scrape_parser_labels(struct scrape_parser *p, struct arena *scratch,
				      struct label *items, size_t *ret_count, struct err *e);
/* Exemplar INDEX of the sample; a missing time is OTHERWISE. ITEMS as above. */
WARN_UNUSED errc scrape_parser_exemplar(struct scrape_parser *p, size_t index, time_ms otherwise,
					struct arena *scratch, struct label *items,
					struct metrics_exemplar *ret_exemplar, struct err *e);
