#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "codec/json.h"
#include "codec/json_simdjson.h"
#include "codec/text.h"

/* A longer whole number would read back as an integer out of range. */
enum { PLAIN_DIGITS_MAX = 18 };

struct json_writer json_writer_init(struct buf *into, bool pretty)
{
	return (struct json_writer){ .into = into, .pretty = pretty };
}

static void new_line(struct json_writer *w)
{
	if (!w->pretty)
		return;
	buf_add_byte(w->into, '\n');
	for (int i = 0; i < w->depth; i++)
		buf_add_c(w->into, "  ");
}

/* The bit of the present level in `has_items` and `is_object`; the text itself has none. */
static uint64_t level_bit(const struct json_writer *w)
{
	return w->depth ? UINT64_C(1) << (w->depth - 1) : 0;
}

/* A comma and a line where the next item of the present level needs them. */
static void separate(struct json_writer *w)
{
	if (w->has_items & level_bit(w))
		buf_add_byte(w->into, ',');
	if (w->depth)
		new_line(w);
	w->has_items |= level_bit(w);
}

/* Before a value. */
static void next_item(struct json_writer *w)
{
	if (w->after_key) {
		w->after_key = false;
		return;
	}
	must(!(w->is_object & level_bit(w))); /* a value in an object needs a key */
	must(w->depth || !w->complete);       /* one value a text */
	w->complete = true;
	separate(w);
}

static void begin(struct json_writer *w, char bracket)
{
	next_item(w);
	must(w->depth < JSON_DEPTH_MAX);
	buf_add_byte(w->into, bracket);
	w->depth++;
	uint64_t bit = level_bit(w);
	w->has_items &= ~bit;
	w->is_object = bracket == '{' ? w->is_object | bit : w->is_object & ~bit;
}

static void end(struct json_writer *w, char bracket)
{
	must(w->depth > 0 && !w->after_key);
	must(!!(w->is_object & level_bit(w)) == (bracket == '}'));
	bool had_items = w->has_items & level_bit(w);
	w->depth--;
	if (had_items)
		new_line(w);
	buf_add_byte(w->into, bracket);
}

void json_begin_object(struct json_writer *w)
{
	begin(w, '{');
}

void json_end_object(struct json_writer *w)
{
	end(w, '}');
}

void json_begin_array(struct json_writer *w)
{
	begin(w, '[');
}

void json_end_array(struct json_writer *w)
{
	end(w, ']');
}

static void add_escape(struct buf *into, unsigned char c)
{
	static const char *const names[32] = {
		['\b'] = "\\b", ['\t'] = "\\t", ['\n'] = "\\n", ['\f'] = "\\f", ['\r'] = "\\r"
	};
	if (c == '"' || c == '\\')
		buf_printf(into, "\\%c", c);
	else if (names[c])
		buf_add_c(into, names[c]);
	else
		buf_printf(into, "\\u%04x", c);
}

static void add_quoted(struct buf *into, str s)
{
	size_t plain = 0; /* start of what is not written yet */
	buf_add_byte(into, '"');
	for (size_t i = 0; i < s.len;) {
		unsigned char c = (unsigned char)s.ptr[i];
		size_t step = c < 0x80 ? 1 : text_utf8_step((str){ s.ptr + i, s.len - i });
		if (step && c >= ' ' && c != '"' && c != '\\') {
			i += step;
			continue;
		}
		buf_add(into, (str){ s.ptr + plain, i - plain });
		if (step == 0)
			buf_add_c(into, "\xef\xbf\xbd");
		else
			add_escape(into, c);
		plain = ++i;
	}
	buf_add(into, (str){ s.ptr + plain, s.len - plain });
	buf_add_byte(into, '"');
}

void json_key_str(struct json_writer *w, str key)
{
	must(!w->after_key && (w->is_object & level_bit(w)));
	separate(w);
	add_quoted(w->into, key);
	buf_add_c(w->into, w->pretty ? ": " : ":");
	w->after_key = true;
}

void json_key(struct json_writer *w, const char *key)
{
	json_key_str(w, str_c(key));
}

void json_add_str(struct json_writer *w, str s)
{
	next_item(w);
	add_quoted(w->into, s);
}

void json_add_cstr(struct json_writer *w, const char *s)
{
	json_add_str(w, str_c(s));
}

void json_add_i64(struct json_writer *w, int64_t v)
{
	next_item(w);
	buf_printf(w->into, "%lld", (long long)v);
}

void json_add_u64(struct json_writer *w, uint64_t v)
{
	next_item(w);
	buf_printf(w->into, "%llu", (unsigned long long)v);
}

/* DIGITS with the decimal point behind the first POINT of them. */
static void add_plain(struct buf *into, str digits, int point)
{
	for (int i = point; i <= 0; i++)
		buf_add_c(into, i == point ? "0." : "0");
	for (int i = 0; i < (int)digits.len || i < point; i++) {
		if (i == point && i > 0)
			buf_add_byte(into, '.');
		buf_add_byte(into, i < (int)digits.len ? digits.ptr[i] : '0');
	}
}

void json_add_f64(struct json_writer *w, double v)
{
	char text[JSON_SHORTEST_SIZE], digits[JSON_SHORTEST_SIZE];
	next_item(w);
	if (!isfinite(v)) {
		buf_add_c(w->into, "null");
		return;
	}
	json_simdjson_shortest(fabs(v), text);
	size_t digit_count = 0;
	const char *p = text;
	for (; *p && *p != 'e'; p++)
		if (*p != '.')
			digits[digit_count++] = *p;
	must(*p == 'e' && digit_count > 0);
	int point = (int)strtol(p + 1, NULL, 10) + 1;
	if (signbit(v))
		buf_add_byte(w->into, '-');
	if (v == 0 && signbit(v)) {
		buf_add_c(w->into, "0.0");
		return;
	}
	if (point > -6 && point <= PLAIN_DIGITS_MAX) {
		add_plain(w->into, (str){ digits, digit_count }, point);
		return;
	}
	add_plain(w->into, (str){ digits, digit_count }, 1);
	buf_printf(w->into, "e%+d", point - 1);
}

void json_add_bool(struct json_writer *w, bool v)
{
	next_item(w);
	buf_add_c(w->into, v ? "true" : "false");
}

void json_add_null(struct json_writer *w)
{
	next_item(w);
	buf_add_c(w->into, "null");
}

void json_add_raw(struct json_writer *w, str text)
{
	next_item(w);
	buf_add(w->into, text);
}

void json_add_value(struct json_writer *w, const struct json *v)
{
	switch (v->kind) {
	case JSON_NULL:
		json_add_null(w);
		return;
	case JSON_BOOL:
		json_add_bool(w, v->boolean);
		return;
	case JSON_INT:
		json_add_i64(w, v->integer);
		return;
	case JSON_UINT:
		json_add_u64(w, v->unsigned_integer);
		return;
	case JSON_DOUBLE:
		json_add_f64(w, v->number);
		return;
	case JSON_STRING:
		json_add_str(w, v->string);
		return;
	case JSON_ARRAY:
		json_begin_array(w);
		for (size_t i = 0; i < v->count; i++)
			json_add_value(w, &v->items[i]);
		json_end_array(w);
		return;
	case JSON_OBJECT:
		json_begin_object(w);
		for (size_t i = 0; i < v->count; i++) {
			json_key_str(w, v->keys[i]);
			json_add_value(w, &v->items[i]);
		}
		json_end_object(w);
		return;
	}
}

void json_put_str(struct json_writer *w, const char *key, str v)
{
	json_key(w, key);
	json_add_str(w, v);
}

void json_put_cstr(struct json_writer *w, const char *key, const char *v)
{
	json_key(w, key);
	json_add_cstr(w, v);
}

void json_put_i64(struct json_writer *w, const char *key, int64_t v)
{
	json_key(w, key);
	json_add_i64(w, v);
}

void json_put_bool(struct json_writer *w, const char *key, bool v)
{
	json_key(w, key);
	json_add_bool(w, v);
}

void json_put_raw(struct json_writer *w, const char *key, str text)
{
	json_key(w, key);
	json_add_raw(w, text);
}
