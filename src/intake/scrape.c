#include "intake/scrape.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/checks.h"
#include "intake/scrape_internal.h"

enum { NAMES_BYTES_MAX = 4 << 20 };

static bool equals_any_case(str s, const char *text)
{
	return s.len == strlen(text) && strncasecmp(s.ptr, text, s.len) == 0;
}

enum scrape_format scrape_format_of(str content_type, enum scrape_format fallback)
{
	str rest = content_type, type = STR(""), part;
	bool delimited = false, family = false;
	if (rest.len && str_split(&rest, ';', &part))
		type = str_trim(part);
	while (rest.len && str_split(&rest, ';', &part)) {
		part = str_trim(part);
		delimited |= equals_any_case(part, "encoding=delimited");
		family |= equals_any_case(part, "proto=io.prometheus.client.MetricFamily");
	}
	if (equals_any_case(type, "application/vnd.google.protobuf"))
		return delimited && family ? SCRAPE_PROTOBUF : fallback;
	if (equals_any_case(type, "application/openmetrics-text"))
		return SCRAPE_OPENMETRICS;
	if (equals_any_case(type, "text/plain"))
		return SCRAPE_TEXT;
	return fallback;
}

errc scrape_fail(const struct scrape_parser *p, struct err *e, const char *fmt, ...)
{
	char text[400];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	FAIL(e, ERR_INVALID, "%s %zu: %s", p->format == SCRAPE_PROTOBUF ? "byte" : "line", p->line,
	     text);
}

void scrape_parser_init(struct scrape_parser *p, enum scrape_format format, str body)
{
	*p = (struct scrape_parser){ .format = format };
	p->begin = p->at = body.len ? body.ptr : "";
	p->end = p->at + body.len;
	p->names = buf_init(NAMES_BYTES_MAX);
	p->protobuf = format == SCRAPE_PROTOBUF ? scrape_protobuf_new() : NULL;
}

void scrape_parser_done(struct scrape_parser *p)
{
	buf_done(&p->names);
	scrape_protobuf_free(p->protobuf);
	p->protobuf = NULL;
}

errc scrape_parser_next(struct scrape_parser *p, enum scrape_event *ret_event, struct err *e)
{
	p->exemplar_count = 0;
	p->start_time = 0;
	p->has_time = false;
	return p->format == SCRAPE_PROTOBUF ? scrape_protobuf_next(p, ret_event, e)
					    : scrape_text_next(p, ret_event, e);
}

errc scrape_parser_labels(struct scrape_parser *p, struct arena *scratch, struct label *items,
			  size_t *ret_count, struct err *e)
{
	return scrape_text_labels(p, p->series, scratch, items, ret_count, e);
}

errc scrape_parser_exemplar(struct scrape_parser *p, size_t index, time_ms otherwise,
			    struct arena *scratch, struct label *items,
			    struct metrics_exemplar *ret_exemplar, struct err *e)
{
	must(index < p->exemplar_count);
	const struct scrape_exemplar *x = &p->exemplars[index];
	struct labels labels;
	size_t count = 0;
	if (p->format == SCRAPE_PROTOBUF)
		TRY(scrape_protobuf_exemplar(p, x, items, &count, e));
	else
		TRY(scrape_text_exemplar(p, x, scratch, items, &count, e));
	TRY(labels_normalize(items, count, &labels, e));
	*ret_exemplar = (struct metrics_exemplar){ labels,
						   x->time == INT64_MIN ? otherwise : x->time,
						   x->value };
	return OK;
}
