/*
 * JSON in and out.
 *
 * In: simdjson parses strictly (RFC 8259, valid UTF-8 only); its result is copied into a tree of
 * `struct json` in an arena. Out: a small writer over a buf.
 *
 * Limits: the text's size is the caller's cap; 64 levels; 1,000,000 values.
 * Threads: any; nothing is kept between calls.
 */
#pragma once

#include "base/arena.h"
#include "base/buf.h"

enum json_kind {
	JSON_NULL,
	JSON_BOOL,
	JSON_INT,
	JSON_UINT,
	JSON_DOUBLE,
	JSON_STRING,
	JSON_ARRAY,
	JSON_OBJECT
};

struct json {
	enum json_kind kind;
	bool boolean;
	int64_t integer;           /* JSON_INT */
	uint64_t unsigned_integer; /* JSON_UINT: above INT64_MAX */
	double number;             /* JSON_DOUBLE */
	str string;                /* JSON_STRING, decoded, with a NUL behind it; may hold NULs */
	size_t count;              /* of an array or object */
	const struct json *items;  /* COUNT values */
	const str *keys;           /* COUNT keys of an object, in the order written */
};

/* Parse TEXT (at most BYTES_MAX). Errors: ERR_INVALID with `line:column` and what is wrong,
 * ERR_LIMIT. A key that comes twice in an object is ERR_INVALID and named. */
WARN_UNUSED errc json_parse(struct arena *into, str text, size_t bytes_max,
			    const struct json **ret_json, struct err *e);

/* The value of KEY, or NULL; NULL too when OBJECT is NULL or no object. */
const struct json *json_get(const struct json *object, const char *key);
/* The value, or the default when V is NULL or of another kind. */
str json_str(const struct json *v, str otherwise);
/* With a NUL behind it; "" when V is NULL or no string. */
const char *json_cstr(const struct json *v);
int64_t json_i64(const struct json *v, int64_t otherwise);
double json_f64(const struct json *v, double otherwise);
bool json_bool(const struct json *v, bool otherwise);

/* A member that must be there. Errors: ERR_INVALID such as `"environment" must be a string`. */
WARN_UNUSED errc json_need_str(const struct json *object, const char *key, str *ret, struct err *e);
WARN_UNUSED errc json_need_i64(const struct json *object, const char *key, int64_t *ret,
			       struct err *e);

/* ---- Out. */

enum { JSON_DEPTH_MAX = 64 };

struct json_writer {
	struct buf *into;
	bool pretty;
	int depth;
	uint64_t has_items; /* a bit a level, in both */
	uint64_t is_object;
	bool complete; /* the text has begun its one value */
	bool after_key;
};

/* Append to INTO; with PRETTY indented by two spaces. Misuse (unbalanced, a value without a key, a
 * key in an array) stops the process. */
struct json_writer json_writer_init(struct buf *into, bool pretty);
void json_begin_object(struct json_writer *w);
void json_end_object(struct json_writer *w);
void json_begin_array(struct json_writer *w);
void json_end_array(struct json_writer *w);
void json_key(struct json_writer *w, const char *key);
void json_key_str(struct json_writer *w, str key);
/* Bytes that are not UTF-8 become U+FFFD. */
void json_add_str(struct json_writer *w, str s);
void json_add_cstr(struct json_writer *w, const char *s);
void json_add_i64(struct json_writer *w, int64_t v);
void json_add_u64(struct json_writer *w, uint64_t v);
/* The shortest text that reads back as V, with an exponent from 1e18 on; null for NaN and
 * infinities, which JSON has not. */
void json_add_f64(struct json_writer *w, double v);
void json_add_bool(struct json_writer *w, bool v);
void json_add_null(struct json_writer *w);
/* TEXT is JSON already. */
void json_add_raw(struct json_writer *w, str text);
/* A whole tree. */
void json_add_value(struct json_writer *w, const struct json *v);

/* key and value in one */
void json_put_str(struct json_writer *w, const char *key, str v);
void json_put_cstr(struct json_writer *w, const char *key, const char *v);
void json_put_i64(struct json_writer *w, const char *key, int64_t v);
void json_put_bool(struct json_writer *w, const char *key, bool v);
void json_put_raw(struct json_writer *w, const char *key, str text);
