/* Whatever is in a record, what the API writes is JSON that reads back as it was. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/api_json.h"
#include "base/checks.h"
#include "codec/text.h"
#include "test_random.h"

/* Any bytes but NUL, often with quotes, escapes and pieces of UTF-8 among them. */
static void hostile(struct test_random *r, char *text, size_t size)
{
	static const char *const pieces[] = { "\"",        "\\",       "\n",   "\x01",
					      "</script>", "\xc3\xbc", "\xff", "\xed\xa0\x80",
					      "\xe2\x82",  "\\u0000",  "{",    "\",\"x\":1",
					      "\x7f",      "\xf4\x90", "a" };
	size_t used = 0, count = test_random_below(r, 40);
	text[0] = '\0';
	for (size_t i = 0; i < count; i++) {
		char one[2] = { (char)(1 + test_random_below(r, 255)), '\0' };
		const char *piece = test_random_below(r, 3)
					    ? pieces[test_random_below(r, ARRAY_COUNT(pieces))]
					    : one;
		if (used + strlen(piece) >= size)
			return;
		memcpy(text + used, piece, strlen(piece) + 1);
		used += strlen(piece);
	}
}

static const struct json *read_back(struct arena *a, struct buf *b)
{
	const struct json *v = NULL;
	struct err e = { 0 };
	assert_false(b->overflow);
	if (json_parse(a, buf_str(b), b->len, &v, &e) != OK)
		fail_msg("%s: %s", e.message, buf_cstr(b));
	return v;
}

/* The member KEY is TEXT where that is UTF-8, and UTF-8 in any case. */
static void assert_text(const struct json *v, const char *key, const char *text)
{
	const struct json *member = json_get(v, key);
	assert_non_null(member);
	assert_int_equal(member->kind, JSON_STRING);
	assert_true(text_is_utf8(member->string));
	if (text_is_utf8(str_c(text)))
		assert_true(str_eq_c(member->string, text));
}

static void records_of_hostile_strings_are_json(void **state)
{
	(void)state;
	struct test_random r = { 11 };
	for (int n = 0; n < 3000; n++) {
		struct arena a = arena_init(1 << 22);
		struct buf b = buf_init(1 << 20);
		struct json_writer w = json_writer_init(&b, n % 2);
		char x[300];
		hostile(&r, x, sizeof(x));
		struct operation o = { .state = OPERATION_FAILED,
				       .result = "{\"release\":1}",
				       .error = x,
				       .error_code = ERR_TIMEOUT };
		struct operation_event event = { .step = x, .message = x, .data = "{}" };
		struct audit_entry entry = { .actor = x,
					     .role = x,
					     .peer = x,
					     .action = x,
					     .target = x,
					     .outcome = x,
					     .detail = "" };
		struct instance i = { .in_proxy = true };
		struct release rel = { .state = RELEASE_WARM };
		struct token t = { .role = ROLE_ADMIN };
		snprintf(o.actor, sizeof(o.actor), "%s", x);
		snprintf(i.runtime.exit, sizeof(i.runtime.exit), "%s", x);
		snprintf(i.proxy.check, sizeof(i.proxy.check), "%s", x);
		snprintf(rel.note, sizeof(rel.note), "%s", x);
		snprintf(rel.actor, sizeof(rel.actor), "%s", x);
		snprintf(t.name, sizeof(t.name), "%s", x);
		json_begin_array(&w);
		api_write_operation(&w, &o);
		api_write_event(&w, &event);
		api_write_audit(&w, &entry);
		api_write_instance(&w, &i);
		api_write_release(&w, &rel);
		api_write_token(&w, &t);
		json_end_array(&w);
		const struct json *v = read_back(&a, &b);
		assert_int_equal(v->count, 6);
		assert_text(&v->items[0], "actor", o.actor);
		if (x[0])
			assert_text(json_get(&v->items[0], "error"), "message", x);
		assert_text(&v->items[1], "message", x);
		assert_text(&v->items[1], "step", x);
		assert_text(&v->items[2], "target", x);
		assert_null(json_get(&v->items[2], "detail"));
		assert_text(&v->items[3], "exit", i.runtime.exit);
		assert_text(&v->items[3], "check", i.proxy.check);
		assert_text(&v->items[4], "note", rel.note);
		assert_text(&v->items[5], "name", t.name);
		buf_done(&b);
		arena_done(&a);
	}
}

/* Neither the request (with the specification) nor a token's text is ever shown. */
static void nothing_else_is_told(void **state)
{
	(void)state;
	struct buf b = buf_init(1 << 16);
	struct json_writer w = json_writer_init(&b, false);
	struct operation o = { .state = OPERATION_RUNNING,
			       .request = "{\"specification\":\"hidden\"}",
			       .journal = "{\"error\":\"hidden\"}",
			       .result = "hidden, and no JSON before the end" };
	api_write_operation(&w, &o);
	assert_null(strstr(buf_cstr(&b), "hidden"));
	buf_done(&b);
}

static void extreme_times_are_text(void **state)
{
	(void)state;
	static const time_ms times[] = { 0, 1, -1, INT64_MAX, INT64_MIN, 253402300800000 };
	for (size_t i = 0; i < ARRAY_COUNT(times); i++) {
		struct arena a = arena_init(1 << 20);
		struct buf b = buf_init(1000);
		struct json_writer w = json_writer_init(&b, false);
		json_begin_object(&w);
		api_put_time(&w, "t", times[i]);
		json_end_object(&w);
		const struct json *t = json_get(read_back(&a, &b), "t");
		assert_int_equal(t->kind, times[i] ? JSON_STRING : JSON_NULL);
		buf_done(&b);
		arena_done(&a);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(records_of_hostile_strings_are_json),
		cmocka_unit_test(nothing_else_is_told),
		cmocka_unit_test(extreme_times_are_text),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
