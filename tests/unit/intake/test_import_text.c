#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/checks.h"
#include "intake/import_text.h"
#include "intake_fixture.h"

static int open_fixture(void **state)
{
	struct intake_fixture *f = must_calloc(1, sizeof(*f));
	fixture_open(f, 0);
	*state = f;
	return 0;
}

static int close_fixture(void **state)
{
	fixture_close(*state);
	free(*state);
	return 0;
}

static void import(struct intake_fixture *f, const struct import_options *options, const char *body)
{
	f->result = (struct intake_result){ 0 };
	assert_ok(intake_import(f->in, f->batch, str_c(body), options, &f->result, &fixture_error));
	fixture_commit(f);
}

static void influx(struct intake_fixture *f, const struct import_options *options, const char *body)
{
	f->result = (struct intake_result){ 0 };
	assert_ok(intake_influx(f->in, f->batch, str_c(body), options, &f->result, &fixture_error));
	fixture_commit(f);
}

static void text(void **state)
{
	struct intake_fixture *f = *state;
	for (int i = 0; i < 2; i++) {
		import(f, NULL,
		       "# HELP a b\n# TYPE a counter\na{x=\"1\"} 1 1789999999000\n"
		       "a{x=\"1\"} 2 1789999999500\nnow 3\ndotted.name{some-label=\"x\"} 4\n");
		assert_int_equal(f->result.sample_count, 4);
		assert_int_equal(f->result.rejected_count, 0);
	}
	assert_string_equal(fixture_dump(f),
			    "a{x=\"1\"} 1@-1000\na{x=\"1\"} 2@-500\n"
			    "{\"dotted.name\",\"some-label\"=\"x\"} 4@0\nnow 3@0\n");
	assert_string_equal(fixture_metadata(f), "a counter [b] []\n");
}

static void bad_lines_are_rejected_alone(void **state)
{
	struct intake_fixture *f = *state;
	import(f, NULL,
	       "good 1\nbad\n{x=\"no name\"} 2\nalso{a=\"b} 3\ngood2 4\na{b=\"1\",b=\"2\"} 5");
	assert_int_equal(f->result.sample_count, 2);
	assert_int_equal(f->result.rejected_count, 4);
	assert_int_equal(f->result.line, 2);
	assert_non_null(strstr(f->result.refusal, "line 2"));
	assert_string_equal(fixture_dump(f), "good 1@0\ngood2 4@0\n");
	import(f, NULL, "");
	assert_int_equal(f->result.sample_count + f->result.rejected_count, 0);
}

/* The same line means another series under other extra labels, though the line is known. */
static void extra_labels(void **state)
{
	struct intake_fixture *f = *state;
	const struct label one[] = { { STR("job"), STR("1") } };
	const struct label two[] = { { STR("job"), STR("2") }, { STR("x"), STR("wins") } };
	const struct import_options options[] = {
		{ .extra_labels = one, .extra_label_count = 1 },
		{ .extra_labels = two, .extra_label_count = 2 },
	};
	for (int i = 0; i < 2; i++) {
		import(f, NULL, "a{x=\"1\"} 1\n");
		import(f, &options[0], "a{x=\"1\"} 2\n");
		import(f, &options[1], "a{x=\"1\"} 3\n");
		influx(f, &options[0], "m,job=y v=4\n");
		influx(f, &options[1], "m,job=y v=5\n");
	}
	assert_string_equal(fixture_dump(f),
			    "a{job=\"1\",x=\"1\"} 2@0\na{job=\"2\",x=\"wins\"} 3@0\n"
			    "a{x=\"1\"} 1@0\nm_v{job=\"1\"} 4@0\n"
			    "m_v{job=\"2\",x=\"wins\"} 5@0\n");
}

/* A boundary is a number only where the text says that it is one. */
static void boundaries(void **state)
{
	struct intake_fixture *f = *state;
	import(f, NULL, "h_bucket{le=\"1\"} 1\n");
	import(f, NULL, "# TYPE h histogram\nh_bucket{le=\"1\"} 2\n");
	assert_string_equal(fixture_dump(f), "h_bucket{le=\"1\"} 1@0\nh_bucket{le=\"1.0\"} 2@0\n");
}

static void influx_lines(void **state)
{
	struct intake_fixture *f = *state;
	for (int i = 0; i < 2; i++) {
		influx(f, NULL,
		       "# a comment\n"
		       "cpu,host=a,empty= value=1.5,count=3i,big=7u,up=true,down=F,text=\"a, "
		       "b=\\\"c\" "
		       "1789999999000000000\r\n"
		       "\n"
		       "my\\ disk,pa\\=th=/a\\,b\\ c us\\,ed=1e3 1789999999500\n"
		       "plain v=-2\n");
		assert_int_equal(f->result.sample_count, 7);
		assert_int_equal(f->result.skipped_count, 1);
		assert_int_equal(f->result.rejected_count, 0);
	}
	assert_string_equal(fixture_dump(f),
			    "cpu_big{host=\"a\"} 7@-1000\ncpu_count{host=\"a\"} 3@-1000\n"
			    "cpu_down{host=\"a\"} 0@-1000\ncpu_up{host=\"a\"} 1@-1000\n"
			    "cpu_value{host=\"a\"} 1.5@-1000\n"
			    "{\"my disk_us,ed\",\"pa=th\"=\"/a,b c\"} 1000@-500\n"
			    "plain_v -2@0\n");
}

static void influx_times(void **state)
{
	struct intake_fixture *f = *state;
	static const struct {
		const char *precision, *time;
	} times[] = {
		{ NULL, "1790000000" },          { NULL, "1790000000000" },
		{ NULL, "1790000000000000" },    { NULL, "1790000000000000000" },
		{ "s", "1790000000" },           { "ms", "1790000000000" },
		{ "us", "1790000000000000" },    { "u", "1790000000000000" },
		{ "ns", "1790000000000000000" },
	};
	struct import_options options = { 0 };
	struct buf line CLEANUP(buf_done) = buf_init(1000);
	for (size_t i = 0; i < ARRAY_COUNT(times); i++) {
		if (times[i].precision)
			assert_ok(influx_precision(str_c(times[i].precision), &options,
						   &fixture_error));
		buf_clear(&line);
		buf_printf(&line, "t v=%zu %s", i, times[i].time);
		influx(f, times[i].precision ? &options : NULL, buf_cstr(&line));
		assert_int_equal(f->result.rejected_count, 0);
	}
	assert_string_equal(fixture_dump(f), "t_v 8@0\n");
	struct err e;
	assert_int_equal(influx_precision(STR("d"), &options, &e), ERR_INVALID);
	/* far beyond any time there is, in hours */
	assert_ok(influx_precision(STR("h"), &options, &fixture_error));
	influx(f, &options, "t v=1 9223372036854775807\nt v=1 -9223372036854775808\n");
	assert_int_equal(f->committed.too_new_count + f->committed.too_old_count, 2);
}

static void bad_influx_lines(void **state)
{
	struct intake_fixture *f = *state;
	static const char *const lines[] = {
		"m",         "m ",   "m,a v=1", "m,=b v=1",   ",a=b v=1",
		"m v",       "m v=", "m v=1x",  "m v=\"open", "m v=1 then",
		"m v=1, 17", "m =1", "m,a v=1", "m v=tru",    "m v=1,v 170",
	};
	struct buf body CLEANUP(buf_done) = buf_init(10000);
	for (size_t i = 0; i < ARRAY_COUNT(lines); i++)
		buf_printf(&body, "%s\n", lines[i]);
	buf_add_c(&body, "good v=1\n");
	influx(f, NULL, buf_cstr(&body));
	assert_int_equal(f->result.rejected_count, ARRAY_COUNT(lines));
	assert_int_equal(f->result.line, 1);
	assert_int_equal(f->result.sample_count, 1);
	assert_string_equal(fixture_dump(f), "good_v 1@0\n");
}

/* Cut at every byte and with every byte changed: nothing but rejections comes of it. */
static void cut_and_flipped(void **state)
{
	struct intake_fixture *f = *state;
	static const char *const bodies[] = {
		"# TYPE h histogram\nh_bucket{le=\"1\",x=\"\\n\\\"\"} 2 1789999999500\nb 1\n",
		"my\\ disk,pa\\=th=/a\\,b\\ c us\\,ed=1e3,t=\"x\\\"\",b=t 1789999999500\nm v=1i\n",
	};
	srandom(5);
	for (size_t k = 0; k < ARRAY_COUNT(bodies); k++) {
		size_t whole = strlen(bodies[k]);
		for (size_t i = 0; i < whole * 6; i++) {
			size_t len = i < whole ? i : whole;
			char *exact = malloc(len + 1);
			struct intake_result result = { 0 };
			assert_non_null(exact);
			memcpy(exact, bodies[k], len);
			if (i >= whole)
				exact[(size_t)random() % len] = (char)random();
			str body = { exact, len };
			assert_ok(k ? intake_influx(f->in, f->batch, body, NULL, &result,
						    &fixture_error)
				    : intake_import(f->in, f->batch, body, NULL, &result,
						    &fixture_error));
			assert_true(!result.rejected_count || result.refusal[0]);
			metrics_batch_abort(f->batch);
			free(exact);
		}
	}
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, open_fixture, close_fixture)
	const struct CMUnitTest tests[] = {
		TEST(text),
		TEST(bad_lines_are_rejected_alone),
		TEST(extra_labels),
		TEST(boundaries),
		TEST(influx_lines),
		TEST(influx_times),
		TEST(bad_influx_lines),
		TEST(cut_and_flipped),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
