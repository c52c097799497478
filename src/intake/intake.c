#include "intake/intake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "codec/compress.h"
#include "codec/text.h"
#include "intake/intake_internal.h"
#include "intake/otlp_internal.h"
#include "os/clock.h"

enum {
	CACHE_BYTES_DEFAULT = 128 << 20,
	DELTA_STREAMS_DEFAULT = 100000,
	NAMED_BYTES_MAX = 600,
	HELP_BYTES_MAX = 16 * 1024,
};
#define DELTA_IDLE_DEFAULT (5 * 60 * 1000)

struct intake *intake_new(const struct intake_options *options)
{
	struct intake *in = must_calloc(1, sizeof(*in));
	in->options = *options;
	if (!in->options.cache_bytes_max)
		in->options.cache_bytes_max = CACHE_BYTES_DEFAULT;
	if (!in->options.delta_stream_max)
		in->options.delta_stream_max = DELTA_STREAMS_DEFAULT;
	if (!in->options.delta_idle_ms)
		in->options.delta_idle_ms = DELTA_IDLE_DEFAULT;
	if (!in->options.now)
		in->options.now = clock_now;
	in->cache = series_cache_new(options->metrics, in->options.cache_bytes_max);
	in->deltas = otlp_deltas_new(in->options.delta_stream_max, in->options.delta_idle_ms);
	return in;
}

void intake_free(struct intake *in)
{
	if (!in)
		return;
	series_cache_free(in->cache);
	otlp_deltas_free(in->deltas);
	free(in);
}

void intake_reject(struct intake_result *r, uint64_t count, const struct err *e)
{
	if (!r->refusal[0])
		snprintf(r->refusal, sizeof(r->refusal), "%s", e->message);
	r->rejected_count += count;
	r->busy |= e->code == ERR_BUSY;
}

errc intake_name_series(struct err *e, const struct label *items, size_t count)
{
	struct labels labels = { items, count };
	struct buf text = buf_init(LABELS_BYTES_MAX * 4);
	char message[sizeof(e->message)];
	if (!e)
		return ERR_INVALID;
	labels_print(&text, &labels);
	str shown = buf_str(&text);
	bool cut = shown.len > NAMED_BYTES_MAX;
	if (cut)
		shown.len = NAMED_BYTES_MAX;
	snprintf(message, sizeof(message), "series %.*s%s: %s", STR_ARG(shown), cut ? "…" : "",
		 e->message);
	memcpy(e->message, message, sizeof(message));
	buf_done(&text);
	return e->code;
}

errc intake_series(struct metrics_batch *batch, struct label *items, size_t count,
		   metrics_ref *ret_ref, struct err *e)
{
	struct labels labels;
	errc rc = labels_normalize(items, count, &labels, e);
	if (rc == OK && labels_get(&labels, STR(LABEL_METRIC_NAME)).len == 0)
		rc = err_fill(e, ERR_INVALID, 0, __FILE__, __LINE__,
			      "it has no metric name: send a label " LABEL_METRIC_NAME);
	if (rc == OK)
		rc = metrics_batch_series(batch, &labels, ret_ref, e);
	return rc == OK ? OK : intake_name_series(e, items, count);
}

bool intake_metadata(struct metrics_batch *batch, const struct metrics_metadata *m)
{
	if (m->name.len == 0 || m->name.len > LABEL_NAME_BYTES_MAX || !text_is_utf8(m->name) ||
	    m->help.len > HELP_BYTES_MAX || !text_is_utf8(m->help) ||
	    m->unit.len > LABEL_NAME_BYTES_MAX || !text_is_utf8(m->unit))
		return false;
	metrics_batch_metadata(batch, m);
	return true;
}

str intake_family_name(str name, enum metrics_type type)
{
	static const char *const suffixes[] = { "_bucket", "_sum", "_count" };
	bool histogram = type == METRICS_TYPE_HISTOGRAM || type == METRICS_TYPE_GAUGE_HISTOGRAM;
	if (!histogram && type != METRICS_TYPE_SUMMARY)
		return name;
	for (size_t i = histogram ? 0 : 1; i < ARRAY_COUNT(suffixes); i++) {
		str suffix = str_c(suffixes[i]);
		if (str_ends(name, suffix) && name.len > suffix.len)
			return (str){ name.ptr, name.len - suffix.len };
	}
	return name;
}

errc intake_decompress(struct compressor *c, str content_encoding, str body, struct buf *into,
		       str *ret_body, struct err *e)
{
	static const struct {
		const char *name;
		enum compress_format format;
	} encodings[] = {
		{ "snappy", COMPRESS_SNAPPY },
		{ "zstd", COMPRESS_ZSTD },
		{ "gzip", COMPRESS_GZIP },
		{ "deflate", COMPRESS_DEFLATE },
	};
	content_encoding = str_trim(content_encoding);
	if (content_encoding.len == 0 || str_eq_c(content_encoding, "identity")) {
		if (body.len > into->cap)
			FAIL(e, ERR_LIMIT,
			     "the body has %zu bytes and the limit is %zu: send less at a time",
			     body.len, into->cap);
		*ret_body = body;
		return OK;
	}
	for (size_t i = 0; i < ARRAY_COUNT(encodings); i++) {
		if (!str_eq_c(content_encoding, encodings[i].name))
			continue;
		errc rc = c ? compressor_decompress(c, encodings[i].format, body, into, e)
			    : decompress_bytes(encodings[i].format, body, into, e);
		if (rc != OK)
			return err_prepend(e, "cannot decompress the body");
		*ret_body = buf_str(into);
		return OK;
	}
	FAIL(e, ERR_INVALID,
	     "the Content-Encoding \"%.*s\" is not known: send snappy, zstd, gzip, deflate or none",
	     (int)(content_encoding.len < 40 ? content_encoding.len : 40), content_encoding.ptr);
}
