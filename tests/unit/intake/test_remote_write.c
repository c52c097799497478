#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/checks.h"
#include "codec/compress.h"
#include "codec/wire.h"
#include "intake/remote_write.h"
#include "intake_fixture.h"

struct fixture {
	struct intake_fixture f;
	struct buf body;
	size_t series; /* the mark of the one that is open */
	/* of 2.0 */
	const char *words[64];
	size_t word_count;
};

static int open_fixture(void **state)
{
	struct fixture *x = must_calloc(1, sizeof(*x));
	fixture_open(&x->f, 3);
	x->body = buf_init(4 << 20);
	x->words[x->word_count++] = "";
	*state = x;
	return 0;
}

static int close_fixture(void **state)
{
	struct fixture *x = *state;
	fixture_close(&x->f);
	buf_done(&x->body);
	free(x);
	return 0;
}

static errc write_body(struct fixture *x, enum remote_write_version version, str body)
{
	x->f.result = (struct intake_result){ 0 };
	errc rc = intake_remote_write(x->f.in, x->f.batch, body, version, &x->f.result,
				      &fixture_error);
	if (rc == OK)
		fixture_commit(&x->f);
	else
		metrics_batch_abort(x->f.batch);
	return rc;
}

/* ---- 1.0 */

static void add_label(struct buf *b, const char *name, const char *value)
{
	size_t label = wire_begin(b, 1);
	wire_add_bytes(b, 1, str_c(name));
	wire_add_bytes(b, 2, str_c(value));
	wire_end(b, label);
}

/* Labels in pairs, ended by NULL. */
static void begin_v1(struct fixture *x, const char *const *labels)
{
	x->series = wire_begin(&x->body, 1);
	for (; labels[0]; labels += 2)
		add_label(&x->body, labels[0], labels[1]);
}

static void end_series(struct fixture *x)
{
	wire_end(&x->body, x->series);
}

static void add_sample(struct fixture *x, double value, time_ms time)
{
	size_t sample = wire_begin(&x->body, 2);
	wire_add_double(&x->body, 1, value);
	wire_add_int(&x->body, 2, FIXTURE_NOW + time);
	wire_end(&x->body, sample);
}

static void add_histogram(struct fixture *x, uint32_t number, time_ms time, bool bad)
{
	size_t h = wire_begin(&x->body, number), part;
	wire_add_varint(&x->body, 1, 9);
	wire_add_double(&x->body, 3, 1.5);
	wire_add_sint(&x->body, 4, 2);
	wire_add_double(&x->body, 5, 0.5);
	wire_add_varint(&x->body, 6, 1);
	part = wire_begin(&x->body, 11);
	wire_add_sint(&x->body, 1, 3);
	wire_add_varint(&x->body, 2, bad ? 3 : 2);
	wire_end(&x->body, part);
	wire_add_bytes(&x->body, 12, STR("\x04\x04")); /* packed: 2, then 2 + 2 */
	part = wire_begin(&x->body, 8);
	wire_add_sint(&x->body, 1, -1);
	wire_add_varint(&x->body, 2, 1);
	wire_end(&x->body, part);
	wire_add_sint(&x->body, 9, 2);
	wire_add_varint(&x->body, 14, 2);
	wire_add_int(&x->body, 15, FIXTURE_NOW + time);
	wire_end(&x->body, h);
}

static void add_custom_histogram(struct fixture *x, uint32_t number, time_ms time)
{
	size_t h = wire_begin(&x->body, number), part;
	wire_add_double(&x->body, 2, 5);
	wire_add_double(&x->body, 3, 4.5);
	wire_add_sint(&x->body, 4, -53);
	part = wire_begin(&x->body, 11);
	wire_add_varint(&x->body, 2, 2);
	wire_end(&x->body, part);
	wire_add_double(&x->body, 13, 2);
	wire_add_double(&x->body, 13, 3);
	wire_add_double(&x->body, 16, 0.5);
	wire_add_int(&x->body, 15, FIXTURE_NOW + time);
	wire_end(&x->body, h);
}

static void samples_of_v1(void **state)
{
	struct fixture *x = *state;
	begin_v1(x, (const char *[]){ "__name__", "a", "x", "1", NULL });
	add_sample(x, 1.5, -30);
	add_sample(x, 2.5, -20);
	end_series(x);
	begin_v1(x, (const char *[]){ "z", "", "__name__", "b", NULL }); /* not sorted, one empty */
	add_sample(x, -1, -10);
	end_series(x);
	/* known and unknown, one after another, alike */
	for (int i = 0; i < 2; i++) {
		assert_ok(write_body(x, REMOTE_WRITE_1, buf_str(&x->body)));
		assert_int_equal(x->f.result.sample_count, 3);
		assert_int_equal(x->f.result.series_count, 2);
		assert_int_equal(x->f.result.rejected_count, 0);
		assert_string_equal(fixture_dump(&x->f),
				    "a{x=\"1\"} 1.5@-30\na{x=\"1\"} 2.5@-20\nb -1@-10\n");
	}
}

static void stale_and_odd_values(void **state)
{
	struct fixture *x = *state;
	uint64_t bits = METRICS_STALE_BITS;
	double stale;
	memcpy(&stale, &bits, sizeof(stale));
	begin_v1(x, (const char *[]){ "__name__", "a", NULL });
	add_sample(x, stale, -3);
	add_sample(x, __builtin_inf(), -2);
	size_t sample = wire_begin(&x->body, 2); /* the time first, and no value: 0 */
	wire_add_int(&x->body, 2, FIXTURE_NOW - 1);
	wire_add_varint(&x->body, 900, 5); /* what nobody knows yet */
	wire_end(&x->body, sample);
	end_series(x);
	assert_ok(write_body(x, REMOTE_WRITE_1, buf_str(&x->body)));
	assert_string_equal(fixture_dump(&x->f), "a stale@-3\na +Inf@-2\na 0@-1\n");
}

static void histograms_exemplars_metadata_of_v1(void **state)
{
	struct fixture *x = *state;
	size_t part;
	begin_v1(x, (const char *[]){ "__name__", "h", NULL });
	add_histogram(x, 4, -2, false);
	add_custom_histogram(x, 4, -1);
	part = wire_begin(&x->body, 3);
	add_label(&x->body, "trace", "t");
	wire_add_double(&x->body, 2, 7);
	wire_add_int(&x->body, 3, FIXTURE_NOW - 5);
	wire_end(&x->body, part);
	end_series(x);
	part = wire_begin(&x->body, 3);
	wire_add_varint(&x->body, 1, METRICS_TYPE_HISTOGRAM);
	wire_add_bytes(&x->body, 2, STR("h"));
	wire_add_bytes(&x->body, 4, STR("help"));
	wire_add_bytes(&x->body, 5, STR("seconds"));
	wire_end(&x->body, part);
	assert_ok(write_body(x, REMOTE_WRITE_1, buf_str(&x->body)));
	assert_int_equal(x->f.result.histogram_count, 2);
	assert_int_equal(x->f.result.exemplar_count, 1);
	assert_int_equal(x->f.result.metadata_count, 1);
	assert_string_equal(
		fixture_dump(&x->f),
		"h h[schema 2 count 9 sum 1.5 zero 1/0.5 reset 2 +(3,2) 2 4 -(-1,1) 2]@-2\n"
		"h h[schema -53 count 5 sum 4.5 zero 0/0 reset 0 +(0,2) 2 3 - le0.5]@-1\n");
	assert_string_equal(fixture_exemplars(&x->f), "h {trace=\"t\"} 7@-5\n");
	assert_string_equal(fixture_metadata(&x->f), "h histogram [help] [seconds]\n");
}

/* What is wrong with one series is no reason to lose the others. */
static void bad_series(void **state)
{
	struct fixture *x = *state;
	begin_v1(x, (const char *[]){ "__name__", "a", "x", "1", "x", "2", NULL });
	add_sample(x, 1, -30);
	add_sample(x, 1, -20);
	end_series(x);
	begin_v1(x, (const char *[]){ "no", "name", NULL });
	add_sample(x, 1, -30);
	end_series(x);
	begin_v1(x, (const char *[]){ "__name__", "h", NULL });
	add_histogram(x, 4, -2, true);
	end_series(x);
	begin_v1(x, (const char *[]){ "__name__", "good", NULL });
	add_sample(x, 1, -30);
	end_series(x);
	assert_ok(write_body(x, REMOTE_WRITE_1, buf_str(&x->body)));
	assert_int_equal(x->f.result.sample_count, 1);
	assert_int_equal(x->f.result.rejected_count, 4);
	assert_false(x->f.result.busy);
	assert_non_null(strstr(x->f.result.refusal, "the label x is there twice"));
	assert_string_equal(fixture_dump(&x->f), "good 1@-30\n");
	/* without an error to fill, too */
	struct intake_result result = { 0 };
	assert_int_equal(intake_remote_write(x->f.in, x->f.batch, buf_str(&x->body), REMOTE_WRITE_1,
					     &result, NULL),
			 OK);
	assert_int_equal(result.rejected_count, 4);
	metrics_batch_abort(x->f.batch);
}

static void past_the_series_limit(void **state)
{
	struct fixture *x = *state;
	static const char *const names[] = { "a", "b", "c", "d", "e" };
	for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
		begin_v1(x, (const char *[]){ "__name__", names[i], NULL });
		add_sample(x, 1, -1);
		end_series(x);
	}
	assert_ok(write_body(x, REMOTE_WRITE_1, buf_str(&x->body)));
	assert_true(x->f.result.busy);
	assert_int_equal(x->f.result.sample_count, 3);
	assert_int_equal(x->f.result.rejected_count, 2);
	assert_string_equal(fixture_dump(&x->f), "a 1@-1\nb 1@-1\nc 1@-1\n");
}

static void too_old_and_too_new(void **state)
{
	struct fixture *x = *state;
	begin_v1(x, (const char *[]){ "__name__", "a", NULL });
	add_sample(x, 1, -400ll * 86400000);
	add_sample(x, 2, 86400000);
	add_sample(x, 3, 0);
	end_series(x);
	assert_ok(write_body(x, REMOTE_WRITE_1, buf_str(&x->body)));
	assert_int_equal(x->f.committed.too_old_count, 1);
	assert_int_equal(x->f.committed.too_new_count, 1);
	assert_non_null(strstr(x->f.committed.refusal, "a"));
	assert_string_equal(fixture_dump(&x->f), "a 3@0\n");
}

/* ---- 2.0 */

static uint64_t symbol(struct fixture *x, const char *word)
{
	for (size_t i = 0; i < x->word_count; i++)
		if (!strcmp(x->words[i], word))
			return i;
	assert_true(x->word_count < ARRAY_COUNT(x->words));
	x->words[x->word_count] = word;
	return x->word_count++;
}

static void add_refs(struct fixture *x, const char *const *labels)
{
	size_t refs = wire_begin(&x->body, 1);
	for (; *labels; labels++)
		buf_add_byte(&x->body, (char)symbol(x, *labels));
	wire_end(&x->body, refs);
}

static void begin_v2(struct fixture *x, const char *const *labels)
{
	x->series = wire_begin(&x->body, 5);
	add_refs(x, labels);
}

static void add_v2_metadata(struct fixture *x, int type, const char *help, const char *unit)
{
	size_t m = wire_begin(&x->body, 5);
	wire_add_varint(&x->body, 1, (uint64_t)type);
	wire_add_varint(&x->body, 3, symbol(x, help));
	wire_add_varint(&x->body, 4, symbol(x, unit));
	wire_end(&x->body, m);
}

static void end_v2(struct fixture *x)
{
	for (size_t i = 0; i < x->word_count; i++)
		wire_add_bytes(&x->body, 4, str_c(x->words[i]));
}

static void all_of_v2(void **state)
{
	struct fixture *x = *state;
	begin_v2(x, (const char *[]){ "__name__", "a_total", "x", "1", NULL });
	add_sample(x, 1.5, -30);
	size_t sample = wire_begin(&x->body, 2);
	wire_add_double(&x->body, 1, 2.5);
	wire_add_int(&x->body, 2, FIXTURE_NOW - 20);
	wire_add_int(&x->body, 3, FIXTURE_NOW - 2000);
	wire_end(&x->body, sample);
	size_t exemplar = wire_begin(&x->body, 4);
	add_refs(x, (const char *[]){ "trace", "t", NULL });
	wire_add_double(&x->body, 2, 7);
	wire_add_int(&x->body, 3, FIXTURE_NOW - 5);
	wire_end(&x->body, exemplar);
	add_v2_metadata(x, METRICS_TYPE_COUNTER, "help", "");
	end_series(x);
	begin_v2(x, (const char *[]){ "__name__", "h", "x", "1", NULL });
	add_histogram(x, 3, -2, false);
	add_v2_metadata(x, METRICS_TYPE_HISTOGRAM, "", "seconds");
	end_series(x);
	end_v2(x);
	for (int i = 0; i < 2; i++) {
		assert_ok(write_body(x, REMOTE_WRITE_2, buf_str(&x->body)));
		assert_int_equal(x->f.result.sample_count, 2);
		assert_int_equal(x->f.result.histogram_count, 1);
		assert_int_equal(x->f.result.exemplar_count, 1);
		assert_int_equal(x->f.result.rejected_count, 0);
	}
	assert_string_equal(fixture_dump(&x->f),
			    "a_total{x=\"1\"} 1.5@-30\na_total{x=\"1\"} 2.5@-20\n"
			    "h{x=\"1\"} h[schema 2 count 9 sum 1.5 zero 1/0.5 reset 2 +(3,2) 2 4 "
			    "-(-1,1) 2]@-2\n");
	assert_string_equal(fixture_exemplars(&x->f), "a_total{x=\"1\"} {trace=\"t\"} 7@-5\n");
	assert_string_equal(fixture_metadata(&x->f), "a_total counter [help] []\n"
						     "h histogram [] [seconds]\n");
}

/* The same numbers mean other words in another body. */
static void symbols_are_of_one_body(void **state)
{
	struct fixture *x = *state;
	for (int i = 0; i < 2; i++) {
		buf_clear(&x->body);
		x->word_count = 1;
		begin_v2(x, (const char *[]){ "__name__", i ? "b" : "a", NULL });
		add_sample(x, i, -1);
		end_series(x);
		end_v2(x);
		assert_ok(write_body(x, REMOTE_WRITE_2, buf_str(&x->body)));
	}
	assert_string_equal(fixture_dump(&x->f), "a 0@-1\nb 1@-1\n");
}

static void wrong_v2(void **state)
{
	struct fixture *x = *state;
	begin_v2(x, (const char *[]){ "__name__", "empty", NULL });
	end_series(x);
	x->series = wire_begin(&x->body, 5);
	wire_add_bytes(&x->body, 1, STR("\x01\x63")); /* symbol 99 */
	add_sample(x, 1, -1);
	end_series(x);
	begin_v2(x, (const char *[]){ "__name__", "odd", "x", NULL });
	add_sample(x, 1, -1);
	end_series(x);
	begin_v2(x, (const char *[]){ "__name__", "good", NULL });
	add_sample(x, 1, -1);
	end_series(x);
	end_v2(x);
	assert_ok(write_body(x, REMOTE_WRITE_2, buf_str(&x->body)));
	assert_int_equal(x->f.result.rejected_count, 2);
	assert_non_null(strstr(x->f.result.refusal, "neither samples nor histograms"));
	assert_string_equal(fixture_dump(&x->f), "good 1@-1\n");
	buf_clear(&x->body);
	wire_add_bytes(&x->body, 4, STR("not empty"));
	assert_int_equal(write_body(x, REMOTE_WRITE_2, buf_str(&x->body)), ERR_INVALID);
	assert_non_null(strstr(fixture_error.message, "first symbol"));
}

/* ---- Bodies that are none. */

static void no_write_request(void **state)
{
	struct fixture *x = *state;
	assert_ok(write_body(x, REMOTE_WRITE_1, STR("")));
	assert_ok(write_body(x, REMOTE_WRITE_2, STR("")));
	assert_int_equal(write_body(x, REMOTE_WRITE_1, STR("hello, world")), ERR_INVALID);
	assert_int_equal(write_body(x, REMOTE_WRITE_1, STR("\x0a\x7f")), ERR_INVALID);
	assert_int_equal(write_body(x, REMOTE_WRITE_2, STR("\x2a\x02\x0a\x00")), ERR_INVALID);
	assert_non_null(strstr(fixture_error.message, "sent as 2.0"));
	begin_v1(x, (const char *[]){ "__name__", "a", NULL });
	for (int i = 0; i < 100; i++)
		add_label(&x->body, "b", "c");
	add_sample(x, 1, -1);
	end_series(x);
	assert_ok(write_body(x, REMOTE_WRITE_1, buf_str(&x->body)));
	assert_int_equal(x->f.result.rejected_count, 1);
	assert_non_null(strstr(x->f.result.refusal, "more than 64 labels"));
}

static void cut_and_flipped(void **state)
{
	struct fixture *x = *state;
	begin_v1(x, (const char *[]){ "__name__", "a", "x", "1", NULL });
	add_sample(x, 1, -1);
	add_histogram(x, 4, -2, false);
	end_series(x);
	size_t v1 = x->body.len;
	begin_v2(x, (const char *[]){ "__name__", "a", NULL });
	add_sample(x, 1, -1);
	add_histogram(x, 3, -2, false);
	add_v2_metadata(x, 1, "h", "u");
	end_series(x);
	end_v2(x);
	srandom(3);
	for (int version = REMOTE_WRITE_1; version <= REMOTE_WRITE_2; version++) {
		str whole = version ? (str){ x->body.ptr + v1, x->body.len - v1 }
				    : (str){ x->body.ptr, v1 };
		for (size_t i = 0; i < whole.len * 4; i++) {
			size_t len = i < whole.len ? i : whole.len;
			char *exact = malloc(len + 1);
			struct intake_result result = { 0 };
			assert_non_null(exact);
			memcpy(exact, whole.ptr, len);
			if (i >= whole.len)
				exact[(size_t)random() % len] ^= (char)(1 << random() % 8);
			errc rc = intake_remote_write(x->f.in, x->f.batch, (str){ exact, len },
						      (enum remote_write_version)version, &result,
						      &fixture_error);
			assert_true(rc == OK || rc == ERR_INVALID);
			assert_true(!result.rejected_count || result.refusal[0]);
			metrics_batch_abort(x->f.batch);
			free(exact);
		}
	}
}

static void versions(void **state)
{
	(void)state;
	enum remote_write_version version = REMOTE_WRITE_2;
	struct err e;
	assert_ok(remote_write_version_of(STR("application/x-protobuf"), &version, &fixture_error));
	assert_int_equal(version, REMOTE_WRITE_1);
	assert_ok(remote_write_version_of(
		STR("application/x-protobuf; proto=io.prometheus.write.v2.Request"), &version,
		&fixture_error));
	assert_int_equal(version, REMOTE_WRITE_2);
	assert_ok(
		remote_write_version_of(STR("application/x-protobuf;proto=prometheus.WriteRequest"),
					&version, &fixture_error));
	assert_int_equal(version, REMOTE_WRITE_1);
	assert_int_equal(remote_write_version_of(STR("application/json"), &version, &e),
			 ERR_INVALID);
	assert_int_equal(remote_write_version_of(STR(""), &version, &e), ERR_INVALID);
	assert_int_equal(
		remote_write_version_of(STR("application/x-protobuf;proto=x"), &version, &e),
		ERR_INVALID);
}

static void encodings(void **state)
{
	struct fixture *x = *state;
	struct buf packed CLEANUP(buf_done) = buf_init(1 << 20);
	struct buf into CLEANUP(buf_done) = buf_init(1000);
	str body = STR("");
	struct err e;
	(void)x;
	buf_add(&packed, STR("\x05\x10hello")); /* snappy: a length, a literal of 5 */
	assert_ok(intake_decompress(NULL, STR("snappy"), buf_str(&packed), &into, &body,
				    &fixture_error));
	assert_int_equal(body.len, 5);
	assert_memory_equal(body.ptr, "hello", 5);
	assert_ok(
		intake_decompress(NULL, STR(" identity "), STR("x"), &into, &body, &fixture_error));
	assert_int_equal(body.len, 1);
	assert_int_equal(intake_decompress(NULL, STR("br"), STR("x"), &into, &body, &e),
			 ERR_INVALID);
	assert_int_equal(intake_decompress(NULL, STR("snappy"), STR("\x05"), &into, &body, &e),
			 ERR_INVALID);
	/* a length that is too large is refused before anything is allocated */
	buf_clear(&into);
	assert_int_equal(intake_decompress(NULL, STR("snappy"), STR("\xff\xff\xff\xff\x0f"), &into,
					   &body, &e),
			 ERR_LIMIT);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, open_fixture, close_fixture)
	const struct CMUnitTest tests[] = {
		TEST(samples_of_v1),
		TEST(stale_and_odd_values),
		TEST(histograms_exemplars_metadata_of_v1),
		TEST(bad_series),
		TEST(past_the_series_limit),
		TEST(too_old_and_too_new),
		TEST(all_of_v2),
		TEST(symbols_are_of_one_body),
		TEST(wrong_v2),
		TEST(no_write_request),
		TEST(cut_and_flipped),
		cmocka_unit_test(versions),
		TEST(encodings),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
