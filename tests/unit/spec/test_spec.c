#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "os/io.h"
#include "spec/spec.h"

/* One file with a mistake on nearly every line, and what is said of it, in mistakes.txt. */

struct parsed {
	struct arena config;
	const struct spec *spec;
	struct spec_problems problems;
	struct err e;
	errc rc;
};

static struct parsed *parse(str text)
{
	struct parsed *p = test_calloc(1, sizeof(*p));
	p->config = arena_init(SPEC_ARENA_BYTES);
	p->rc = spec_parse(&p->config, text, "mistakes.yml", &p->spec, &p->problems, &p->e);
	return p;
}

static void done(struct parsed *p)
{
	arena_done(&p->config);
	test_free(p);
}

static struct buf read_file(const char *path)
{
	struct buf b = buf_init(SPEC_BYTES_MAX);
	struct err e = { 0 };
	if (io_read_file(path, &b, &e) != OK)
		fail_msg("%s", e.message);
	return b;
}

static struct buf problems_text(const struct spec_problems *problems)
{
	struct buf b = buf_init(1 << 20);
	for (size_t i = 0; i < problems->count; i++) {
		spec_problem_write(problems, &problems->items[i], &b);
		buf_add_byte(&b, '\n');
	}
	return b;
}

static void says_every_mistake_with_its_place(void **state)
{
	(void)state;
	struct buf text = read_file(SPEC_TESTS "/mistakes.yml");
	struct buf wanted = read_file(SPEC_TESTS "/mistakes.txt");
	struct parsed *p = parse(buf_str(&text));
	struct buf said = problems_text(&p->problems);
	assert_int_equal(p->rc, ERR_INVALID);
	assert_string_equal(buf_cstr(&said), buf_cstr(&wanted));
	/* the error holds the first of them, whole lines, and how many follow */
	const char *end = strstr(p->e.message, "\nand ");
	assert_non_null(end);
	assert_memory_equal(p->e.message, buf_cstr(&wanted), (size_t)(end - p->e.message));
	done(p);
	buf_done(&said);
	buf_done(&wanted);
	buf_done(&text);
}

static const char small[] = "app: a\nservices: {web: {command: x, ready: /r}}\n"
			    "environments: {p: {listen: ':80'";

static void says_what_stands_between_options(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		const char *wanted;
	} cases[] = {
		{ "", "mistakes.yml:1:1: the file is empty; begin with `app: NAME`\n" },
		{ "- a", "mistakes.yml:1:1: must be a mapping\n" },
		{ "app: a\napp: b", "mistakes.yml:2:1: the key \"app\" comes twice; the first is "
				    "at 1:1\n" },
		{ "app: a\nservices: {w: {command: x}}\nenvironments: {p: {listen: ':80'}}",
		  "mistakes.yml:2:15: services.w.ready: is required, because the service takes the "
		  "traffic; give a path such as /readyz\n" },
		{ "app: a\nservices: {w: {command: x}, v: {command: y}}\n"
		  "environments: {p: {listen: ':80'}}",
		  "mistakes.yml:2:11: services: no service takes the traffic; set traffic: true "
		  "for "
		  "the one that serves users\n" },
		{ "app: a\nservices: {v: {command: x, traffic: true, ready: /},\n"
		  "  w: {command: y, traffic: true, ready: /}}\nenvironments: {p: {listen: ':80'}}",
		  "mistakes.yml:3:28: services.w.traffic: another service takes the traffic too; "
		  "exactly one service can\n" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct parsed *p = parse(str_c(cases[i].text));
		struct buf said = problems_text(&p->problems);
		assert_int_equal(p->rc, ERR_INVALID);
		assert_string_equal(buf_cstr(&said), cases[i].wanted);
		buf_done(&said);
		done(p);
	}
}

static void fills_defaults(void **state)
{
	(void)state;
	char text[256];
	snprintf(text, sizeof(text), "%s}}", small);
	struct parsed *p = parse(str_c(text));
	assert_int_equal(p->rc, OK);
	assert_int_equal(p->problems.count, 0);
	const struct spec_environment *environment = &p->spec->environments[0];
	const struct spec_service *web = spec_traffic_service(environment);
	assert_string_equal(web->command.items[0], "/bin/sh");
	assert_string_equal(web->command.items[2], "x");
	assert_null(web->command.items[3]);
	assert_int_equal(web->instances, 1);
	assert_int_equal(web->ready_timeout_ms, 30000);
	assert_int_equal(web->drain_signal, 0);
	assert_int_equal(environment->listen_port, 80);
	assert_string_equal(environment->listen_host, "");
	assert_int_equal(environment->deploy.keep_warm_ms, 600000);
	assert_false(environment->deploy.canary.enabled);
	assert_int_equal(p->spec->build.memory_bytes_max, INT64_C(2) << 30);
	done(p);
}

static void merges_overrides(void **state)
{
	(void)state;
	char text[512];
	snprintf(text, sizeof(text),
		 "%s, services: {web: {instances: 3, variables: {B: 2}}},\n"
		 "  deploy: {canary: {weight: 5%%}}}, q: {listen: ':81'}}",
		 small);
	struct parsed *p = parse(str_c(text));
	assert_int_equal(p->rc, OK);
	const struct spec_environment *changed = NULL, *same = NULL;
	assert_int_equal(spec_environment_find(p->spec, "p", &changed, &p->e), OK);
	assert_int_equal(spec_environment_find(p->spec, "q", &same, &p->e), OK);
	assert_int_equal(spec_service_find(changed, "web")->instances, 3);
	assert_string_equal(spec_variable_find(&changed->services[0].variables, "B"), "2");
	assert_string_equal(spec_service_find(changed, "web")->ready, "/r");
	assert_int_equal(changed->deploy.canary.weight_percent, 5);
	assert_int_equal(changed->deploy.canary.time_ms, 2000);
	assert_int_equal(spec_service_find(same, "web")->instances, 1);
	assert_false(same->deploy.canary.enabled);
	assert_int_equal(spec_environment_find(p->spec, "qq", &same, &p->e), ERR_NOT_FOUND);
	assert_null(spec_service_find(same, "wbe"));
	done(p);
}

static void reads_its_canonical_form(void **state)
{
	(void)state;
	struct buf text = read_file(SPEC_EXAMPLE);
	struct parsed *p = parse(buf_str(&text));
	assert_string_equal(p->e.message, "");
	assert_int_equal(p->rc, OK);
	assert_int_equal(p->problems.error_count, 0);
	struct buf first = buf_init(1 << 20), second = buf_init(1 << 20);
	struct json_writer w = json_writer_init(&first, false);
	spec_write_json(p->spec, &w);
	struct parsed *again = parse(buf_str(&first));
	assert_int_equal(again->rc, OK);
	w = json_writer_init(&second, false);
	spec_write_json(again->spec, &w);
	assert_string_equal(buf_cstr(&first), buf_cstr(&second));
	done(again);
	done(p);
	buf_done(&first);
	buf_done(&second);
	buf_done(&text);
}

static void writes_a_schema_that_is_json(void **state)
{
	(void)state;
	struct buf text = buf_init(1 << 20);
	struct arena scratch = arena_init(8 << 20);
	const struct json *schema = NULL;
	struct err e = { 0 };
	spec_write_schema(&text);
	errc rc = json_parse(&scratch, buf_str(&text), 1 << 20, &schema, &e);
	assert_string_equal(rc == OK ? "" : e.message, "");
	const struct json *service = json_get(json_get(schema, "$defs"), "service");
	const struct json *instances = json_get(json_get(service, "properties"), "instances");
	assert_int_equal(json_i64(json_get(instances, "maximum"), 0), 64);
	assert_int_equal(json_i64(json_get(instances, "default"), 0), 1);
	arena_done(&scratch);
	buf_done(&text);
}

/* With HOLDFAST_UPDATE set the page is written instead. */
static void the_reference_is_the_table(void **state)
{
	(void)state;
	struct buf text = buf_init(1 << 20);
	spec_write_reference(&text);
	if (getenv("HOLDFAST_UPDATE")) {
		FILE *f = fopen(SPEC_REFERENCE, "w");
		assert_non_null(f);
		assert_int_equal(fwrite(text.ptr, 1, text.len, f), text.len);
		assert_int_equal(fclose(f), 0);
	}
	struct buf page = read_file(SPEC_REFERENCE);
	assert_string_equal(buf_cstr(&text), buf_cstr(&page));
	buf_done(&page);
	buf_done(&text);
}

static void survives_mutations(void **state)
{
	(void)state;
	struct buf text = read_file(SPEC_EXAMPLE);
	char *copy = test_malloc(text.len);
	uint64_t seed = 20261124;
	for (int round = 0; round < 500; round++) {
		memcpy(copy, text.ptr, text.len);
		size_t len = text.len;
		for (int i = 0; i < 4; i++) {
			seed = seed * 6364136223846793005u + 1442695040888963407u;
			size_t at = (size_t)(seed >> 33) % len;
			static const char bytes[] = "\n :[]{}\"'-#a0%&*!|>\t,";
			if (seed >> 20 & 1)
				copy[at] = bytes[(seed >> 24) % (sizeof(bytes) - 1)];
			else if (len > 1)
				memmove(copy + at, copy + at + 1, --len - at);
		}
		struct parsed *p = parse((str){ copy, len });
		assert_true(p->rc == OK ? p->problems.error_count == 0
					: p->problems.error_count > 0);
		done(p);
	}
	test_free(copy);
	buf_done(&text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(says_every_mistake_with_its_place),
		cmocka_unit_test(says_what_stands_between_options),
		cmocka_unit_test(fills_defaults),
		cmocka_unit_test(merges_overrides),
		cmocka_unit_test(reads_its_canonical_form),
		cmocka_unit_test(writes_a_schema_that_is_json),
		cmocka_unit_test(the_reference_is_the_table),
		cmocka_unit_test(survives_mutations),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
