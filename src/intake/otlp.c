#include "intake/otlp.h"

#include <stdio.h>
#include <string.h>

#include "base/checks.h"
#include "codec/json.h"
#include "codec/wire.h"
#include "intake/intake_histogram.h"
#include "intake/intake_internal.h"
#include "intake/otlp_internal.h"

enum { SCRATCH_MAX = 16 << 20 };

errc otlp_encoding_of(str content_type, enum otlp_encoding *ret_encoding, struct err *e)
{
	str type = content_type;
	ptrdiff_t semicolon = str_find(content_type, STR(";"));
	if (semicolon >= 0)
		type.len = (size_t)semicolon;
	type = str_trim(type);
	if (str_eq_c(type, "application/x-protobuf"))
		*ret_encoding = OTLP_PROTOBUF;
	else if (str_eq_c(type, "application/json"))
		*ret_encoding = OTLP_JSON;
	else
		FAIL(e, ERR_INVALID,
		     "the Content-Type is \"%.*s\": send application/x-protobuf or "
		     "application/json",
		     (int)(type.len < 60 ? type.len : 60), type.ptr ? type.ptr : "");
	return OK;
}

/* ---- Resources. */

struct identity {
	str service, space, instance;
};

static bool is_promoted(const struct otlp_options *o, str key)
{
	for (size_t i = 0; i < o->promoted_count; i++)
		if (str_eq(o->promoted[i], key))
			return true;
	return false;
}

static void drop_label(struct otlp_labels *l, str name)
{
	size_t kept = 0;
	for (size_t i = 0; i < l->count; i++)
		if (!str_eq(l->items[i].name, name))
			l->items[kept++] = l->items[i];
	l->count = kept;
}

/* Into Q->common what every series gets, into TARGET what target_info shows. */
static errc read_resource(struct otlp_request *q, str message, struct otlp_labels *target,
			  struct err *e)
{
	struct identity id = { 0 };
	struct label items[LABELS_COUNT_MAX];
	size_t count;
	TRY(otlp_read_attributes(target->scratch, message, 1, items, &count, e));
	for (size_t i = 0; i < count; i++) {
		str key = items[i].name, value = items[i].value;
		str *known = str_eq_c(key, "service.name")          ? &id.service
			     : str_eq_c(key, "service.namespace")   ? &id.space
			     : str_eq_c(key, "service.instance.id") ? &id.instance
								    : NULL;
		str name = otlp_label_name(target->scratch, key, q->options->translation);
		if (known)
			*known = value;
		else
			TRY(otlp_labels_add(target, name, value, e));
		if (is_promoted(q->options, key))
			TRY(otlp_labels_add(&q->common, name, value, e));
	}
	drop_label(&q->common, id.service.len ? STR("job") : STR(""));
	drop_label(&q->common, id.instance.len ? STR("instance") : STR(""));
	q->common.weak_count = q->common.fixed_count = q->common.count;
	if (id.service.len && id.space.len)
		id.service = str_c(arena_printf(target->scratch, "%.*s/%.*s", STR_ARG(id.space),
						STR_ARG(id.service)));
	if (id.service.len)
		TRY(otlp_labels_set(&q->common, STR("job"), id.service, e));
	if (id.instance.len)
		TRY(otlp_labels_set(&q->common, STR("instance"), id.instance, e));
	/* an attribute that is called the same yields on target_info, too, which joins by them */
	if (target->count && id.service.len)
		TRY(otlp_labels_set(target, STR("job"), id.service, e));
	if (target->count && id.instance.len)
		TRY(otlp_labels_set(target, STR("instance"), id.instance, e));
	q->has_identity |= id.service.len || id.instance.len;
	return arena_check(target->scratch, "a resource", e);
}

static errc put_target_info(struct otlp_request *q, const struct otlp_labels *target, struct err *e)
{
	metrics_ref ref;
	/* without attributes there is nothing to tell, without an identity nothing to join on */
	if (q->options->no_target_info || !target->count || !q->has_identity ||
	    q->latest == INT64_MIN)
		return OK;
	return otlp_sample(q, target, STR("target_info"), q->latest, 1, &ref, e);
}

/* ---- Scopes. */

static errc read_scope(struct otlp_request *q, str message, struct err *e)
{
	struct otlp_labels attributes = { .scratch = q->common.scratch,
					  .translation = q->options->translation };
	struct reader r = reader_init(message);
	struct wire_field f;
	while (wire_next(&r, &f)) {
		if (f.key == WIRE_KEY(1, WIRE_BYTES) && f.bytes.len)
			TRY(otlp_labels_add(&q->common, STR("otel_scope_name"), f.bytes, e));
		else if (f.key == WIRE_KEY(2, WIRE_BYTES) && f.bytes.len)
			TRY(otlp_labels_add(&q->common, STR("otel_scope_version"), f.bytes, e));
	}
	if (r.failed)
		FAIL(e, ERR_INVALID, "a scope is malformed");
	TRY(otlp_attributes(&attributes, message, 3, e));
	for (size_t i = 0; i < attributes.count; i++) {
		const struct label *a = &attributes.items[i];
		char *name = arena_printf(q->common.scratch, "otel_scope_%.*s", STR_ARG(a->name));
		TRY(otlp_labels_add(&q->common, str_c(name), a->value, e));
	}
	return OK;
}

/* ScopeMetrics {1 scope, 2 metrics}, in whatever order. */
static errc read_scope_metrics(struct otlp_request *q, str message, struct err *e)
{
	const struct otlp_labels own = q->common;
	struct reader r = reader_init(message);
	struct wire_field f;
	while (q->options->scope_labels && wire_next(&r, &f))
		if (f.key == WIRE_KEY(1, WIRE_BYTES))
			TRY(read_scope(q, f.bytes, e));
	r = reader_init(message);
	while (wire_next(&r, &f))
		if (f.key == WIRE_KEY(2, WIRE_BYTES))
			TRY(otlp_metric(q, f.bytes, e));
	if (r.failed)
		FAIL(e, ERR_INVALID, "the metrics of a scope are malformed");
	q->common = own;
	return OK;
}

static errc read_resource_metrics(struct otlp_request *q, str message, struct err *e)
{
	struct arena scratch CLEANUP(arena_done) = arena_init(SCRATCH_MAX);
	struct otlp_labels target = { .scratch = &scratch, .translation = q->options->translation };
	struct reader r = reader_init(message);
	struct wire_field f;
	q->common = (struct otlp_labels){ .scratch = &scratch,
					  .translation = q->options->translation };
	q->latest = INT64_MIN;
	q->has_identity = false;
	while (wire_next(&r, &f))
		if (f.key == WIRE_KEY(1, WIRE_BYTES))
			TRY(read_resource(q, f.bytes, &target, e));
	r = reader_init(message);
	while (wire_next(&r, &f))
		if (f.key == WIRE_KEY(2, WIRE_BYTES))
			TRY(read_scope_metrics(q, f.bytes, e));
	if (r.failed)
		FAIL(e, ERR_INVALID, "the metrics of a resource are malformed");
	return put_target_info(q, &target, e);
}

static errc read_request(struct otlp_request *q, str message, struct err *e)
{
	struct reader r = reader_init(message);
	struct wire_field f;
	while (wire_next(&r, &f))
		if (f.key == WIRE_KEY(1, WIRE_BYTES))
			TRY(read_resource_metrics(q, f.bytes, e));
	if (r.failed)
		FAIL(e, ERR_INVALID, "the body is no ExportMetricsServiceRequest: it is malformed");
	return OK;
}

errc intake_otlp(struct intake *in, struct metrics_batch *batch, str body,
		 enum otlp_encoding encoding, const struct otlp_options *options,
		 struct intake_result *ret, struct err *e)
{
	static const struct otlp_options defaults;
	struct buf message CLEANUP(buf_done) = buf_init(OTLP_BYTES_MAX);
	struct otlp_request q = { .in = in,
				  .batch = batch,
				  .options = options ? options : &defaults,
				  .result = ret,
				  .now = in->options.now() };
	if (encoding == OTLP_JSON) {
		TRY(otlp_json_to_wire(body, &message, e));
		body = buf_str(&message);
	}
	errc rc = read_request(&q, body, e);
	intake_histogram_free(q.histogram);
	return rc;
}

/* ---- Answers. */

void otlp_response(const struct intake_result *result, enum otlp_encoding encoding,
		   struct buf *into)
{
	if (encoding == OTLP_JSON) {
		struct json_writer w = json_writer_init(into, false);
		json_begin_object(&w);
		if (result->rejected_count) {
			char text[24];
			snprintf(text, sizeof(text), "%llu",
				 (unsigned long long)result->rejected_count);
			json_key(&w, "partialSuccess");
			json_begin_object(&w);
			json_put_cstr(&w, "rejectedDataPoints", text);
			json_put_cstr(&w, "errorMessage", result->refusal);
			json_end_object(&w);
		}
		json_end_object(&w);
		return;
	}
	if (!result->rejected_count)
		return;
	size_t mark = wire_begin(into, 1);
	wire_add_int(into, 1, (int64_t)result->rejected_count);
	wire_add_bytes(into, 2, str_c(result->refusal));
	wire_end(into, mark);
}

/* google.rpc.Code */
static int rpc_code(errc code)
{
	enum { INVALID_ARGUMENT = 3, RESOURCE_EXHAUSTED = 8, INTERNAL = 13, UNAVAILABLE = 14 };
	switch (code) {
	case ERR_INVALID:
		return INVALID_ARGUMENT;
	case ERR_LIMIT:
	case ERR_BUSY:
		return RESOURCE_EXHAUSTED;
	case ERR_UNAVAILABLE:
	case ERR_TIMEOUT:
		return UNAVAILABLE;
	default:
		return INTERNAL;
	}
}

void otlp_error(const struct err *e, enum otlp_encoding encoding, struct buf *into)
{
	if (encoding == OTLP_JSON) {
		struct json_writer w = json_writer_init(into, false);
		json_begin_object(&w);
		json_put_i64(&w, "code", rpc_code(e->code));
		json_put_cstr(&w, "message", e->message);
		json_end_object(&w);
		return;
	}
	wire_add_int(into, 1, rpc_code(e->code));
	wire_add_bytes(into, 2, str_c(e->message));
}
