/* Attributes of OTLP as labels. */
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "codec/json.h"
#include "codec/number.h"
#include "codec/text.h"
#include "codec/wire.h"
#include "intake/otlp_internal.h"

enum { VALUE_BYTES_MAX = 64 * 1024 };

static size_t find(const struct otlp_labels *l, str name)
{
	size_t at = 0;
	while (at < l->count && !str_eq(l->items[at].name, name))
		at++;
	return at;
}

static errc append(struct otlp_labels *l, str name, str value, struct err *e)
{
	if (l->count == LABELS_COUNT_MAX - 1)
		FAIL(e, ERR_LIMIT, "it has more than %d attributes", LABELS_COUNT_MAX - 1);
	l->items[l->count++] = (struct label){ name, value };
	return OK;
}

/* Out of the weak ones and of the fixed ones, to the first of the others. */
static size_t free_weak(struct otlp_labels *l, size_t at)
{
	l->items[at] = l->items[--l->weak_count];
	l->items[l->weak_count] = l->items[--l->fixed_count];
	return l->fixed_count;
}

errc otlp_labels_add(struct otlp_labels *l, str name, str value, struct err *e)
{
	size_t at = find(l, name);
	if (at == l->count)
		return append(l, name, value, e);
	if (at < l->weak_count)
		l->items[free_weak(l, at)] = (struct label){ name, value };
	else if (at >= l->fixed_count)
		l->items[at].value = str_c(arena_printf(
			l->scratch, "%.*s;%.*s", STR_ARG(l->items[at].value), STR_ARG(value)));
	return OK;
}

errc otlp_labels_set(struct otlp_labels *l, str name, str value, struct err *e)
{
	size_t at = find(l, name);
	if (at == l->count)
		return append(l, name, value, e);
	l->items[at].value = value;
	return OK;
}

/* ---- Values. */

static errc add_json(struct json_writer *w, str message, int depth, struct err *e);

static errc add_json_list(struct json_writer *w, str message, int depth, struct err *e)
{
	struct reader r = reader_init(message);
	struct wire_field f;
	json_begin_array(w);
	while (wire_next(&r, &f))
		if (f.key == WIRE_KEY(1, WIRE_BYTES))
			TRY(add_json(w, f.bytes, depth, e));
	json_end_array(w);
	if (r.failed)
		FAIL(e, ERR_INVALID, "an array of an attribute is malformed");
	return OK;
}

static errc read_key_value(str message, str *ret_key, str *ret_value, struct err *e)
{
	struct reader r = reader_init(message);
	struct wire_field f;
	*ret_key = *ret_value = STR("");
	while (wire_next(&r, &f)) {
		if (f.key == WIRE_KEY(1, WIRE_BYTES))
			*ret_key = f.bytes;
		else if (f.key == WIRE_KEY(2, WIRE_BYTES))
			*ret_value = f.bytes;
	}
	if (r.failed)
		FAIL(e, ERR_INVALID, "an attribute is malformed");
	return OK;
}

static errc add_json_map(struct json_writer *w, str message, int depth, struct err *e)
{
	struct reader r = reader_init(message);
	struct wire_field f;
	str key, value;
	json_begin_object(w);
	while (wire_next(&r, &f)) {
		if (f.key != WIRE_KEY(1, WIRE_BYTES))
			continue;
		TRY(read_key_value(f.bytes, &key, &value, e));
		json_key_str(w, key);
		TRY(add_json(w, value, depth, e));
	}
	json_end_object(w);
	if (r.failed)
		FAIL(e, ERR_INVALID, "a map of an attribute is malformed");
	return OK;
}

/* An AnyValue inside an array or map. */
static errc add_json(struct json_writer *w, str message, int depth, struct err *e)
{
	struct reader r = reader_init(message);
	struct wire_field f, last = { 0 };
	if (depth >= JSON_DEPTH_MAX - 1)
		FAIL(e, ERR_LIMIT, "an attribute is nested more than %d levels deep",
		     JSON_DEPTH_MAX - 1);
	while (wire_next(&r, &f)) /* of a oneof the last counts */
		last = f;
	if (r.failed)
		FAIL(e, ERR_INVALID, "a value of an attribute is malformed");
	switch (last.key) {
	case WIRE_KEY(1, WIRE_BYTES):
		json_add_str(w, last.bytes);
		break;
	case WIRE_KEY(2, WIRE_VARINT):
		json_add_bool(w, last.value != 0);
		break;
	case WIRE_KEY(3, WIRE_VARINT):
		json_add_i64(w, wire_int(&last));
		break;
	case WIRE_KEY(4, WIRE_FIXED64):
		json_add_f64(w, wire_double(&last));
		break;
	case WIRE_KEY(5, WIRE_BYTES):
		return add_json_list(w, last.bytes, depth + 1, e);
	case WIRE_KEY(6, WIRE_BYTES):
		return add_json_map(w, last.bytes, depth + 1, e);
	default:
		json_add_null(w);
	}
	return OK;
}

static errc value_text(struct arena *scratch, str message, str *ret_value, struct err *e)
{
	struct buf text CLEANUP(buf_done) = buf_init(VALUE_BYTES_MAX);
	struct json_writer w = json_writer_init(&text, false);
	struct reader r = reader_init(message);
	struct wire_field f, last = { 0 };
	while (wire_next(&r, &f))
		last = f;
	if (r.failed)
		FAIL(e, ERR_INVALID, "a value of an attribute is malformed");
	switch (last.key) {
	case WIRE_KEY(1, WIRE_BYTES):
		*ret_value = last.bytes;
		return OK;
	case WIRE_KEY(2, WIRE_VARINT):
		*ret_value = last.value ? STR("true") : STR("false");
		return OK;
	case WIRE_KEY(3, WIRE_VARINT):
		buf_printf(&text, "%lld", (long long)wire_int(&last));
		break;
	case WIRE_KEY(4, WIRE_FIXED64):
		number_add(&text, wire_double(&last));
		break;
	case WIRE_KEY(5, WIRE_BYTES):
		TRY(add_json_list(&w, last.bytes, 1, e));
		break;
	case WIRE_KEY(6, WIRE_BYTES):
		TRY(add_json_map(&w, last.bytes, 1, e));
		break;
	case WIRE_KEY(7, WIRE_BYTES):
		text_add_base64(&text, last.bytes, TEXT_BASE64);
		break;
	default:
		*ret_value = STR("");
		return OK;
	}
	TRY(buf_check(&text, "the value of an attribute", e));
	*ret_value = arena_str(scratch, buf_str(&text));
	return arena_check(scratch, "the request", e);
}

static int by_key(const void *a, const void *b)
{
	return str_cmp(((const struct label *)a)->name, ((const struct label *)b)->name);
}

errc otlp_read_attributes(struct arena *scratch, str message, uint32_t number, struct label *items,
			  size_t *ret_count, struct err *e)
{
	struct reader r = reader_init(message);
	struct wire_field f;
	size_t count = 0;
	bool sorted = true;
	while (wire_next(&r, &f)) {
		str key, value;
		if (f.key != WIRE_KEY(number, WIRE_BYTES))
			continue;
		TRY(read_key_value(f.bytes, &key, &value, e));
		if (!key.len)
			continue;
		if (count == LABELS_COUNT_MAX - 1)
			FAIL(e, ERR_LIMIT, "it has more than %d attributes", LABELS_COUNT_MAX - 1);
		items[count].name = key;
		TRY(value_text(scratch, value, &items[count].value, e));
		sorted &= !count || str_cmp(items[count - 1].name, key) <= 0;
		count++;
	}
	if (r.failed)
		FAIL(e, ERR_INVALID, "its attributes are malformed");
	if (!sorted)
		qsort(items, count, sizeof(*items), by_key);
	*ret_count = count;
	return OK;
}

errc otlp_attributes(struct otlp_labels *l, str message, uint32_t number, struct err *e)
{
	struct label items[LABELS_COUNT_MAX];
	size_t count;
	TRY(otlp_read_attributes(l->scratch, message, number, items, &count, e));
	for (size_t i = 0; i < count; i++)
		TRY(otlp_labels_add(l, otlp_label_name(l->scratch, items[i].name, l->translation),
				    items[i].value, e));
	return OK;
}
