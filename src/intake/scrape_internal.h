/* The parsers behind scrape.h. */
#pragma once

#include "intake/scrape.h"

/* scrape_text.c: both text formats. */
WARN_UNUSED errc scrape_text_next(struct scrape_parser *p, enum scrape_event *ret_event,
				  struct err *e);
/* Labels of SERIES, `name{a="b"}` or `{"name",a="b"}`; unescaped text is in SCRATCH. */
WARN_UNUSED errc scrape_text_labels(struct scrape_parser *p, str series, struct arena *scratch,
				    struct label *items, size_t *ret_count, struct err *e);
WARN_UNUSED errc scrape_text_exemplar(struct scrape_parser *p, const struct scrape_exemplar *x,
				      struct arena *scratch, struct label *items, size_t *ret_count,
				      struct err *e);

/* scrape_protobuf.c. Its series are written as text, so that one reader of labels serves all. */
struct scrape_protobuf *scrape_protobuf_new(void);
void scrape_protobuf_free(struct scrape_protobuf *b);
WARN_UNUSED errc scrape_protobuf_next(struct scrape_parser *p, enum scrape_event *ret_event,
				      struct err *e);
WARN_UNUSED errc scrape_protobuf_exemplar(struct scrape_parser *p, const struct scrape_exemplar *x,
					  struct label *items, size_t *ret_count, struct err *e);

/* `line 12: FMT…` or `byte 12: FMT…` */
errc scrape_fail(const struct scrape_parser *p, struct err *e, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
