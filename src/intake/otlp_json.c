/* OTLP in JSON: the fields by name instead of number, 64-bit integers as strings, ids in hex. */
#include <math.h>
#include <string.h>

#include "base/checks.h"
#include "codec/json.h"
#include "codec/number.h"
#include "codec/text.h"
#include "codec/wire.h"
#include "intake/otlp_internal.h"

enum field_kind { TEXT, BOOLEAN, INT, SINT, FIXED, DOUBLE, ENUM, HEX, BASE64, MESSAGE };

struct message;

struct field {
	const char *name;
	uint32_t number;
	enum field_kind kind;
	const struct message *message;
};

struct message {
	const struct field *fields;
	size_t count;
};

#define FIELDS(name, ...)                                            \
	static const struct field name##_fields[] = { __VA_ARGS__ }; \
	static const struct message name = { name##_fields, ARRAY_COUNT(name##_fields) }

static const struct message key_value, any_value;
FIELDS(array_value, { "values", 1, MESSAGE, &any_value });
FIELDS(key_value_list, { "values", 1, MESSAGE, &key_value });
FIELDS(any_value, { "stringValue", 1, TEXT, NULL }, { "boolValue", 2, BOOLEAN, NULL },
       { "intValue", 3, INT, NULL }, { "doubleValue", 4, DOUBLE, NULL },
       { "arrayValue", 5, MESSAGE, &array_value }, { "kvlistValue", 6, MESSAGE, &key_value_list },
       { "bytesValue", 7, BASE64, NULL });
FIELDS(key_value, { "key", 1, TEXT, NULL }, { "value", 2, MESSAGE, &any_value });
FIELDS(exemplar, { "filteredAttributes", 7, MESSAGE, &key_value },
       { "timeUnixNano", 2, FIXED, NULL }, { "asDouble", 3, DOUBLE, NULL },
       { "asInt", 6, FIXED, NULL }, { "spanId", 4, HEX, NULL }, { "traceId", 5, HEX, NULL });
FIELDS(number_point, { "attributes", 7, MESSAGE, &key_value },
       { "startTimeUnixNano", 2, FIXED, NULL }, { "timeUnixNano", 3, FIXED, NULL },
       { "asDouble", 4, DOUBLE, NULL }, { "asInt", 6, FIXED, NULL },
       { "exemplars", 5, MESSAGE, &exemplar }, { "flags", 8, ENUM, NULL });
FIELDS(histogram_point, { "attributes", 9, MESSAGE, &key_value },
       { "startTimeUnixNano", 2, FIXED, NULL }, { "timeUnixNano", 3, FIXED, NULL },
       { "count", 4, FIXED, NULL }, { "sum", 5, DOUBLE, NULL }, { "bucketCounts", 6, FIXED, NULL },
       { "explicitBounds", 7, DOUBLE, NULL }, { "exemplars", 8, MESSAGE, &exemplar },
       { "flags", 10, ENUM, NULL });
FIELDS(buckets, { "offset", 1, SINT, NULL }, { "bucketCounts", 2, INT, NULL });
FIELDS(exponential_point, { "attributes", 1, MESSAGE, &key_value },
       { "startTimeUnixNano", 2, FIXED, NULL }, { "timeUnixNano", 3, FIXED, NULL },
       { "count", 4, FIXED, NULL }, { "sum", 5, DOUBLE, NULL }, { "scale", 6, SINT, NULL },
       { "zeroCount", 7, FIXED, NULL }, { "positive", 8, MESSAGE, &buckets },
       { "negative", 9, MESSAGE, &buckets }, { "flags", 10, ENUM, NULL },
       { "exemplars", 11, MESSAGE, &exemplar }, { "zeroThreshold", 14, DOUBLE, NULL });
FIELDS(quantile, { "quantile", 1, DOUBLE, NULL }, { "value", 2, DOUBLE, NULL });
FIELDS(summary_point, { "attributes", 7, MESSAGE, &key_value },
       { "startTimeUnixNano", 2, FIXED, NULL }, { "timeUnixNano", 3, FIXED, NULL },
       { "count", 4, FIXED, NULL }, { "sum", 5, DOUBLE, NULL },
       { "quantileValues", 6, MESSAGE, &quantile }, { "flags", 8, ENUM, NULL });
FIELDS(gauge, { "dataPoints", 1, MESSAGE, &number_point });
FIELDS(sum, { "dataPoints", 1, MESSAGE, &number_point },
       { "aggregationTemporality", 2, ENUM, NULL }, { "isMonotonic", 3, BOOLEAN, NULL });
FIELDS(histogram, { "dataPoints", 1, MESSAGE, &histogram_point },
       { "aggregationTemporality", 2, ENUM, NULL });
FIELDS(exponential, { "dataPoints", 1, MESSAGE, &exponential_point },
       { "aggregationTemporality", 2, ENUM, NULL });
FIELDS(summary, { "dataPoints", 1, MESSAGE, &summary_point });
FIELDS(metric, { "name", 1, TEXT, NULL }, { "description", 2, TEXT, NULL },
       { "unit", 3, TEXT, NULL }, { "gauge", 5, MESSAGE, &gauge }, { "sum", 7, MESSAGE, &sum },
       { "histogram", 9, MESSAGE, &histogram },
       { "exponentialHistogram", 10, MESSAGE, &exponential }, { "summary", 11, MESSAGE, &summary });
FIELDS(scope, { "name", 1, TEXT, NULL }, { "version", 2, TEXT, NULL },
       { "attributes", 3, MESSAGE, &key_value });
FIELDS(scope_metrics, { "scope", 1, MESSAGE, &scope }, { "metrics", 2, MESSAGE, &metric },
       { "schemaUrl", 3, TEXT, NULL });
FIELDS(resource, { "attributes", 1, MESSAGE, &key_value });
FIELDS(resource_metrics, { "resource", 1, MESSAGE, &resource },
       { "scopeMetrics", 2, MESSAGE, &scope_metrics }, { "schemaUrl", 3, TEXT, NULL });
FIELDS(request, { "resourceMetrics", 1, MESSAGE, &resource_metrics });

/* Integers come as numbers or as strings of digits; those of unsigned 64 bits keep their bits. */
static bool integer_of(const struct json *v, int64_t *ret)
{
	uint64_t bits;
	switch (v->kind) {
	case JSON_INT:
		*ret = v->integer;
		return true;
	case JSON_UINT:
		*ret = (int64_t)v->unsigned_integer;
		return true;
	case JSON_DOUBLE:
		*ret = (int64_t)v->number;
		return v->number >= -0x1p63 && v->number < 0x1p63 && trunc(v->number) == v->number;
	case JSON_STRING:
		if (str_to_i64(v->string, ret))
			return true;
		if (!str_to_u64(v->string, &bits))
			return false;
		*ret = (int64_t)bits;
		return true;
	default:
		return false;
	}
}

static bool double_of(const struct json *v, double *ret)
{
	switch (v->kind) {
	case JSON_INT:
		*ret = (double)v->integer;
		return true;
	case JSON_UINT:
		*ret = (double)v->unsigned_integer;
		return true;
	case JSON_DOUBLE:
		*ret = v->number;
		return true;
	case JSON_STRING: /* NaN, Infinity, -Infinity, or a number */
		return number_parse(v->string, ret);
	default:
		return false;
	}
}

static bool enum_of(const struct json *v, int64_t *ret)
{
	if (v->kind == JSON_STRING && str_ends(v->string, STR("_DELTA")))
		*ret = OTLP_DELTA;
	else if (v->kind == JSON_STRING && str_ends(v->string, STR("_CUMULATIVE")))
		*ret = OTLP_CUMULATIVE;
	else if (v->kind == JSON_STRING && str_ends(v->string, STR("_UNSPECIFIED")))
		*ret = OTLP_UNSPECIFIED;
	else
		return integer_of(v, ret);
	return true;
}

static bool add_bytes(const struct field *f, const struct json *v, struct buf *into)
{
	struct buf bytes CLEANUP(buf_done) = buf_init(into->cap);
	if (v->kind != JSON_STRING)
		return false;
	bool ok = f->kind == HEX ? text_from_hex(v->string, &bytes)
				 : text_from_base64(v->string, TEXT_BASE64, &bytes);
	if (ok)
		wire_add_bytes(into, f->number, buf_str(&bytes));
	return ok;
}

static bool add_scalar(const struct field *f, const struct json *v, struct buf *into)
{
	int64_t integer = 0;
	double number = 0;
	bool ok = true;
	switch (f->kind) {
	case TEXT:
		ok = v->kind == JSON_STRING;
		if (ok)
			wire_add_bytes(into, f->number, v->string);
		break;
	case BOOLEAN:
		ok = v->kind == JSON_BOOL;
		wire_add_int(into, f->number, v->boolean);
		break;
	case ENUM:
		ok = enum_of(v, &integer);
		wire_add_int(into, f->number, integer);
		break;
	case INT:
		ok = integer_of(v, &integer);
		wire_add_int(into, f->number, integer);
		break;
	case SINT:
		ok = integer_of(v, &integer) && integer >= INT32_MIN && integer <= INT32_MAX;
		wire_add_sint(into, f->number, integer);
		break;
	case FIXED:
		ok = integer_of(v, &integer);
		wire_add_fixed64(into, f->number, (uint64_t)integer);
		break;
	case DOUBLE:
		ok = double_of(v, &number);
		wire_add_double(into, f->number, number);
		break;
	case HEX:
	case BASE64:
		return add_bytes(f, v, into);
	case MESSAGE:
		break;
	}
	return ok;
}

static errc add_message(const struct message *m, const struct json *object, struct buf *into,
			struct err *e);

static errc add_value(const struct field *f, const struct json *v, struct buf *into, struct err *e)
{
	if (v->kind == JSON_NULL)
		return OK;
	if (f->kind == MESSAGE) {
		size_t mark = wire_begin(into, f->number);
		TRY(add_message(f->message, v, into, e));
		wire_end(into, mark);
		return OK;
	}
	if (!add_scalar(f, v, into))
		FAIL(e, ERR_INVALID, "\"%s\" has a value of the wrong kind", f->name);
	return OK;
}

/* The depth is that of the parsed text, which json_parse() bounds. */
static errc add_message(const struct message *m, const struct json *object, struct buf *into,
			struct err *e)
{
	if (object->kind != JSON_OBJECT)
		FAIL(e, ERR_INVALID, "there is a value where an object is wanted");
	for (size_t i = 0; i < object->count; i++) {
		const struct json *v = &object->items[i];
		size_t at = 0;
		while (at < m->count && !str_eq_c(object->keys[i], m->fields[at].name))
			at++;
		if (at == m->count)
			continue; /* as protobuf's decoders do with fields they do not know */
		if (v->kind != JSON_ARRAY) {
			TRY(add_value(&m->fields[at], v, into, e));
			continue;
		}
		for (size_t k = 0; k < v->count; k++)
			TRY(add_value(&m->fields[at], &v->items[k], into, e));
	}
	return OK;
}

errc otlp_json_to_wire(str body, struct buf *into, struct err *e)
{
	struct arena tree CLEANUP(arena_done) = arena_init(OTLP_BYTES_MAX);
	const struct json *root = NULL;
	TRY(json_parse(&tree, body, OTLP_BYTES_MAX, &root, e));
	TRY(add_message(&request, root, into, e));
	return buf_check(into, "the request", e);
}
