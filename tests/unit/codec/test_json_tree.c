/* Random trees: what is written reads back, here and (where it is installed) in node. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/checks.h"
#include "codec/json.h"
#include "test_random.h"

static str random_text(struct test_random *r, struct arena *a)
{
	static const char *const pieces[] = {
		"\"",   "\\", "/",        "\n",           "\x01",
		"\x7f", "a",  "\xc3\xbc", "\xe2\x80\xa8", "\xf0\x9f\x98\x80",
		"key"
	};
	struct buf b = buf_init(1000);
	for (size_t n = test_random_below(r, 6); n; n--)
		buf_add_c(&b, pieces[test_random_below(r, ARRAY_COUNT(pieces))]);
	str text = arena_str(a, buf_str(&b));
	buf_done(&b);
	return text;
}

static struct json random_tree(struct test_random *r, struct arena *a, int depth)
{
	struct json v = { .kind = (enum json_kind)test_random_below(r, depth ? 8 : 6) };
	static const int64_t borders[] = { INT64_MAX, INT64_MIN, 9007199254740991,
					   0,         -1,        9007199254740993 };
	switch (v.kind) {
	case JSON_NULL:
		break;
	case JSON_BOOL:
		v.boolean = test_random_below(r, 2);
		break;
	case JSON_INT:
		v.integer = test_random_below(r, 3)
				    ? (int64_t)test_random_u64(r)
				    : borders[test_random_below(r, ARRAY_COUNT(borders))];
		break;
	case JSON_UINT:
		v.unsigned_integer = test_random_u64(r) | UINT64_C(1) << 63;
		break;
	case JSON_DOUBLE:
		do {
			uint64_t bits = test_random_u64(r);
			memcpy(&v.number, &bits, sizeof(bits));
		} while (v.number != v.number || v.number - v.number != 0);
		break;
	case JSON_STRING:
		v.string = random_text(r, a);
		break;
	case JSON_ARRAY:
	case JSON_OBJECT: {
		v.count = test_random_below(r, 5);
		struct json *items = arena_array(a, v.count, sizeof(items[0]));
		str *keys = arena_array(a, v.count, sizeof(keys[0]));
		for (size_t i = 0; i < v.count; i++) {
			items[i] = random_tree(r, a, depth - 1);
			str text = random_text(r, a);
			/* all different, and none a number, which node would sort */
			keys[i] = str_c(arena_printf(a, "k%zu%.*s", i, STR_ARG(text)));
		}
		v.items = items;
		v.keys = v.kind == JSON_OBJECT ? keys : NULL;
	}
	}
	return v;
}

static void assert_same(const struct json *a, const struct json *b)
{
	if (a->kind == JSON_DOUBLE) {
		/* a whole number is written, and so read back, without a point */
		double number = json_f64(b, 0);
		assert_memory_equal(&a->number, &number, sizeof(number));
		return;
	}
	assert_int_equal(a->kind, b->kind);
	assert_true(a->boolean == b->boolean && a->count == b->count);
	assert_true(a->kind != JSON_INT || a->integer == b->integer);
	assert_true(a->kind != JSON_UINT || a->unsigned_integer == b->unsigned_integer);
	assert_true(a->kind != JSON_STRING || str_eq(a->string, b->string));
	for (size_t i = 0; i < a->count; i++) {
		assert_same(&a->items[i], &b->items[i]);
		assert_true(a->kind != JSON_OBJECT || str_eq(a->keys[i], b->keys[i]));
	}
}

static void what_is_written_reads_back(void **state)
{
	(void)state;
	struct test_random r = { 3 };
	for (int n = 0; n < 3000; n++) {
		struct arena a = arena_init(1 << 24);
		struct buf b = buf_init(1 << 22);
		struct json tree = random_tree(&r, &a, 5);
		const struct json *again = NULL;
		struct err e = { 0 };
		struct json_writer w = json_writer_init(&b, n % 2);
		json_add_value(&w, &tree);
		if (json_parse(&a, buf_str(&b), b.len, &again, &e) != OK)
			fail_msg("%s: %s", e.message, buf_cstr(&b));
		assert_same(&tree, again);
		buf_done(&b);
		arena_done(&a);
	}
}

/* As deep as may be read may be written. */
static void the_deepest_tree_is_written(void **state)
{
	(void)state;
	for (int object = 0; object < 2; object++) {
		struct arena a = arena_init(1 << 20);
		struct buf text = buf_init(10000), b = buf_init(10000);
		const struct json *v = NULL;
		struct err e = { 0 };
		for (int i = 0; i < JSON_DEPTH_MAX; i++)
			buf_add_c(&text, !object ? "[" : i + 1 < JSON_DEPTH_MAX ? "{\"a\":" : "{");
		for (int i = 0; i < JSON_DEPTH_MAX; i++)
			buf_add_byte(&text, object ? '}' : ']');
		assert_int_equal(json_parse(&a, buf_str(&text), text.len, &v, &e), OK);
		struct json_writer w = json_writer_init(&b, false);
		json_add_value(&w, v);
		assert_string_equal(buf_cstr(&b), buf_cstr(&text));
		buf_done(&b);
		buf_done(&text);
		arena_done(&a);
	}
}

/* Each line goes through JSON.parse and JSON.stringify of node; doubles and texts must be the same
 * afterwards. Integers beyond 2^53 are left out: node has none. */
static void node_reads_it_alike(void **state)
{
	(void)state;
	enum { LINES = 300 };
	char path[] = "/tmp/holdfast-json-XXXXXX", command[200];
	int fd = mkstemp(path);
	struct arena a = arena_init(1 << 26);
	struct test_random r = { 5 };
	struct json trees[LINES];
	assert_true(fd >= 0);
	for (int n = 0; n < LINES;) {
		struct buf b = buf_init(1 << 22);
		struct json_writer w = json_writer_init(&b, false);
		trees[n] = random_tree(&r, &a, 0);
		if (trees[n].kind == JSON_INT || trees[n].kind == JSON_UINT)
			continue;
		json_begin_array(&w);
		json_add_value(&w, &trees[n++]);
		json_end_array(&w);
		buf_add_byte(&b, '\n');
		assert_int_equal(write(fd, b.ptr, b.len), b.len);
		buf_done(&b);
	}
	close(fd);
	snprintf(command, sizeof(command),
		 "node -e \"require('fs').readFileSync('%s','utf8').trim().split('\\n')"
		 ".forEach(l=>console.log(JSON.stringify(JSON.parse(l))))\" 2>/dev/null",
		 path);
	FILE *out = popen(command, "r");
	char line[8192];
	int n = 0;
	for (; out && n < LINES && fgets(line, sizeof(line), out); n++) {
		const struct json *v = NULL;
		struct err e = { 0 };
		assert_int_equal(json_parse(&a, str_trim(str_c(line)), sizeof(line), &v, &e), OK);
		const struct json *got = &v->items[0], *put = &trees[n];
		assert_true(put->kind != JSON_STRING || str_eq(got->string, put->string));
		if (put->kind == JSON_DOUBLE)
			assert_true(json_f64(got, -1) == put->number);
		else
			assert_int_equal(got->kind, put->kind);
	}
	int status = out ? pclose(out) : -1;
	unlink(path);
	arena_done(&a);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		skip();
	assert_int_equal(n, LINES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_reads_back),
		cmocka_unit_test(the_deepest_tree_is_written),
		cmocka_unit_test(node_reads_it_alike),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
