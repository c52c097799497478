#include "codec/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "codec/json_locate.h"
#include "codec/json_simdjson.h"

enum { VALUE_COUNT_MAX = 1000000, DUPLICATE_SCAN_MAX = 32 };

/* The tree being built: one frame a level, filled in the order of the document. */
struct frame {
	struct json *container;
	struct json *items;
	str *keys;
	size_t filled;
};

struct builder {
	struct arena *into;
	struct json *root;
	struct frame frames[JSON_DEPTH_MAX + 1];
	int depth;
	size_t value_count;
	const char *problem; /* why a callback ended the walk */
	str problem_key;
};

static bool stop(struct builder *b, const char *why)
{
	b->problem = why;
	return false;
}

/* Where the next value goes; NULL past a limit. */
static struct json *next_slot(struct builder *b)
{
	if (++b->value_count > VALUE_COUNT_MAX) {
		b->problem = "it holds more than 1,000,000 values";
		return NULL;
	}
	if (b->depth == 0)
		return b->root;
	struct frame *f = &b->frames[b->depth - 1];
	must(f->filled < f->container->count);
	return &f->items[f->filled++];
}

static bool on_open(void *ctx, bool object, size_t count)
{
	struct builder *b = ctx;
	struct json *v = next_slot(b);
	if (!v)
		return false;
	if (b->depth >= JSON_DEPTH_MAX)
		return stop(b, "it is nested deeper than 64 levels");
	struct frame *f = &b->frames[b->depth++];
	*f = (struct frame){ .container = v };
	f->items = arena_array(b->into, count, sizeof(f->items[0]));
	f->keys = object ? arena_array(b->into, count, sizeof(f->keys[0])) : NULL;
	if (b->into->overflow)
		return stop(b, "it needs too much memory");
	v->kind = object ? JSON_OBJECT : JSON_ARRAY;
	v->count = count;
	v->items = f->items;
	v->keys = f->keys;
	return true;
}

static int by_key(const void *a, const void *b)
{
	return str_cmp(*(const str *)a, *(const str *)b);
}

static bool keys_differ(struct builder *b, const struct json *object)
{
	str few[DUPLICATE_SCAN_MAX];
	str *sorted = object->count <= DUPLICATE_SCAN_MAX ? few
							  : must_calloc(object->count, sizeof(str));
	bool differ = true;
	if (object->count)
		memcpy(sorted, object->keys, object->count * sizeof(str));
	qsort(sorted, object->count, sizeof(str), by_key);
	for (size_t i = 1; differ && i < object->count; i++) {
		if (!str_eq(sorted[i - 1], sorted[i]))
			continue;
		b->problem_key = sorted[i];
		differ = stop(b, "a key comes twice");
	}
	if (sorted != few)
		free(sorted);
	return differ;
}

static bool on_close(void *ctx)
{
	struct builder *b = ctx;
	const struct json *v = b->frames[--b->depth].container;
	return v->kind != JSON_OBJECT || keys_differ(b, v);
}

static bool on_key(void *ctx, const char *bytes, size_t len)
{
	struct builder *b = ctx;
	struct frame *f = &b->frames[b->depth - 1];
	f->keys[f->filled] = arena_str(b->into, (str){ bytes, len });
	return b->into->overflow ? stop(b, "it needs too much memory") : true;
}

static bool on_string(void *ctx, const char *bytes, size_t len)
{
	struct builder *b = ctx;
	struct json *v = next_slot(b);
	if (!v)
		return false;
	v->kind = JSON_STRING;
	v->string = arena_str(b->into, (str){ bytes, len });
	return b->into->overflow ? stop(b, "it needs too much memory") : true;
}

static bool on_integer(void *ctx, int64_t value)
{
	struct json *v = next_slot(ctx);
	if (v)
		*v = (struct json){ .kind = JSON_INT, .integer = value, .number = (double)value };
	return v != NULL;
}

static bool on_unsigned(void *ctx, uint64_t value)
{
	struct json *v = next_slot(ctx);
	if (v)
		*v = (struct json){ .kind = JSON_UINT,
				    .unsigned_integer = value,
				    .number = (double)value };
	return v != NULL;
}

static bool on_number(void *ctx, double value)
{
	struct json *v = next_slot(ctx);
	if (v)
		*v = (struct json){ .kind = JSON_DOUBLE, .number = value };
	return v != NULL;
}

static bool on_bool(void *ctx, bool value)
{
	struct json *v = next_slot(ctx);
	if (v)
		*v = (struct json){ .kind = JSON_BOOL, .boolean = value };
	return v != NULL;
}

static bool on_null(void *ctx)
{
	return next_slot(ctx) != NULL;
}

static const struct json_events build_events = {
	.open = on_open,
	.close = on_close,
	.key = on_key,
	.string = on_string,
	.integer = on_integer,
	.unsigned_integer = on_unsigned,
	.number = on_number,
	.boolean = on_bool,
	.null = on_null,
};

errc json_parse(struct arena *into, str text, size_t bytes_max, const struct json **ret_json,
		struct err *e)
{
	struct builder b = { .into = into };
	const char *message = "";
	if (text.len > bytes_max)
		FAIL(e, ERR_LIMIT, "the JSON is larger than the limit of %zu bytes", bytes_max);
	b.root = arena_alloc(into, sizeof(*b.root));
	TRY(arena_check(into, "the JSON", e));
	int rc = json_simdjson_walk(text.ptr ? text.ptr : "", text.len, JSON_DEPTH_MAX + 1,
				    &build_events, &b, &message);
	TRY(arena_check(into, "the JSON", e));
	if (rc < 0)
		FAIL(e, ERR_INVALID, "the JSON is wrong: %s%s%.*s", b.problem,
		     b.problem_key.len ? ": " : "", STR_ARG(b.problem_key));
	struct json_mistake mistake;
	if (rc > 0 && json_locate(text, JSON_DEPTH_MAX, &mistake))
		FAIL(e, ERR_INVALID, "the JSON is wrong at %zu:%zu: %s", mistake.line,
		     mistake.column, mistake.message);
	if (rc > 0)
		FAIL(e, ERR_INVALID, "the JSON is wrong: %s", message);
	*ret_json = b.root;
	return OK;
}

const struct json *json_get(const struct json *object, const char *key)
{
	if (!object || object->kind != JSON_OBJECT)
		return NULL;
	for (size_t i = 0; i < object->count; i++)
		if (str_eq_c(object->keys[i], key))
			return &object->items[i];
	return NULL;
}

str json_str(const struct json *v, str otherwise)
{
	return v && v->kind == JSON_STRING ? v->string : otherwise;
}

const char *json_cstr(const struct json *v)
{
	return v && v->kind == JSON_STRING ? v->string.ptr : "";
}

int64_t json_i64(const struct json *v, int64_t otherwise)
{
	return v && v->kind == JSON_INT ? v->integer : otherwise;
}

double json_f64(const struct json *v, double otherwise)
{
	bool number = v && (v->kind == JSON_INT || v->kind == JSON_UINT || v->kind == JSON_DOUBLE);
	return number ? v->number : otherwise;
}

bool json_bool(const struct json *v, bool otherwise)
{
	return v && v->kind == JSON_BOOL ? v->boolean : otherwise;
}

errc json_need_str(const struct json *object, const char *key, str *ret, struct err *e)
{
	const struct json *v = json_get(object, key);
	if (!v || v->kind != JSON_STRING)
		FAIL(e, ERR_INVALID, "\"%s\" must be a string%s", key, v ? "" : " and is missing");
	if (memchr(v->string.ptr, 0, v->string.len + 1) != v->string.ptr + v->string.len)
		FAIL(e, ERR_INVALID, "\"%s\" holds a NUL character", key);
	*ret = v->string;
	return OK;
}

errc json_need_i64(const struct json *object, const char *key, int64_t *ret, struct err *e)
{
	const struct json *v = json_get(object, key);
	if (!v || v->kind != JSON_INT)
		FAIL(e, ERR_INVALID, "\"%s\" must be a whole number%s", key,
		     v ? "" : " and is missing");
	*ret = v->integer;
	return OK;
}
