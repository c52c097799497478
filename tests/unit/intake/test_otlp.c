#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/checks.h"
#include "codec/wire.h"
#include "intake/otlp.h"
#include "intake/otlp_internal.h"
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

static errc take_with(struct intake_fixture *f, const char *json,
		      const struct otlp_options *options)
{
	f->result = (struct intake_result){ 0 };
	errc rc = intake_otlp(f->in, f->batch, str_c(json), OTLP_JSON, options, &f->result,
			      &fixture_error);
	if (rc == OK)
		fixture_commit(f);
	else
		metrics_batch_abort(f->batch);
	return rc;
}

static errc take(struct intake_fixture *f, const char *json)
{
	return take_with(f, json, NULL);
}

#define RESOURCE                                                                         \
	"{\"resourceMetrics\":[{\"resource\":{\"attributes\":["                          \
	"{\"key\":\"service.name\",\"value\":{\"stringValue\":\"api\"}},"                \
	"{\"key\":\"service.namespace\",\"value\":{\"stringValue\":\"shop\"}},"          \
	"{\"key\":\"service.instance.id\",\"value\":{\"stringValue\":\"a-1\"}},"         \
	"{\"key\":\"host.cores\",\"value\":{\"intValue\":\"8\"}},"                       \
	"{\"key\":\"tags\",\"value\":{\"arrayValue\":{\"values\":[{\"boolValue\":true}," \
	"{\"doubleValue\":0.5}]}}}]},\"scopeMetrics\":[{\"metrics\":["
#define END "]}]}]}"
#define TIME "\"timeUnixNano\":\"1789999999000000000\""

static void kinds_of_metrics(void **state)
{
	struct intake_fixture *f = *state;
	assert_ok(take(
		f, RESOURCE
		"{\"name\":\"http.requests\",\"unit\":\"{requests}\",\"description\":\"h\",\"sum\":"
		"{"
		"\"aggregationTemporality\":2,\"isMonotonic\":true,\"dataPoints\":[{\"asInt\":"
		"\"7\"," TIME
		",\"attributes\":[{\"key\":\"http.method\",\"value\":{\"stringValue\":\"GET\"}}],"
		"\"exemplars\":[{\"asDouble\":1,\"timeUnixNano\":\"1789999998000000000\","
		"\"traceId\":\"0af7651916cd43dd8448eb211c80319c\",\"spanId\":\"b7ad6b7169203331\"}]"
		"}]}},"
		"{\"name\":\"memory.used\",\"unit\":\"By\",\"gauge\":{\"dataPoints\":[{"
		"\"asDouble\":1.5," TIME "}]}},"
		"{\"name\":\"hit\",\"unit\":\"1\",\"gauge\":{\"dataPoints\":[{\"asDouble\":0."
		"25," TIME "}]}},"
		"{\"name\":\"rate\",\"unit\":\"By/s\",\"gauge\":{\"dataPoints\":[{\"flags\":1," TIME
		"}]}},"
		"{\"name\":\"lag\",\"unit\":\"ms\",\"histogram\":{\"aggregationTemporality\":2,"
		"\"dataPoints\":[{\"count\":\"6\",\"sum\":12.5,\"bucketCounts\":[\"1\",\"2\",\"3\"]"
		","
		"\"explicitBounds\":[1,2.5]," TIME "}]}},"
		"{\"name\":\"q\",\"summary\":{\"dataPoints\":[{\"count\":\"2\",\"sum\":3,"
		"\"quantileValues\":[{\"quantile\":0.5,\"value\":1}]," TIME "}]}}" END));
	assert_string_equal(f->result.refusal, "");
	assert_string_equal(
		fixture_dump(f),
		"hit_ratio{instance=\"a-1\",job=\"shop/api\"} 0.25@-1000\n"
		"http_requests_total{http_method=\"GET\",instance=\"a-1\",job=\"shop/api\"} "
		"7@-1000\n"
		"lag_milliseconds_bucket{instance=\"a-1\",job=\"shop/api\",le=\"+Inf\"} 6@-1000\n"
		"lag_milliseconds_bucket{instance=\"a-1\",job=\"shop/api\",le=\"1.0\"} 1@-1000\n"
		"lag_milliseconds_bucket{instance=\"a-1\",job=\"shop/api\",le=\"2.5\"} 3@-1000\n"
		"lag_milliseconds_count{instance=\"a-1\",job=\"shop/api\"} 6@-1000\n"
		"lag_milliseconds_sum{instance=\"a-1\",job=\"shop/api\"} 12.5@-1000\n"
		"memory_used_bytes{instance=\"a-1\",job=\"shop/api\"} 1.5@-1000\n"
		"q{instance=\"a-1\",job=\"shop/api\",quantile=\"0.5\"} 1@-1000\n"
		"q_count{instance=\"a-1\",job=\"shop/api\"} 2@-1000\n"
		"q_sum{instance=\"a-1\",job=\"shop/api\"} 3@-1000\n"
		"rate_bytes_per_second{instance=\"a-1\",job=\"shop/api\"} stale@-1000\n"
		"target_info{host_cores=\"8\",instance=\"a-1\",job=\"shop/api\","
		"tags=\"[true,0.5]\"} 1@-1000\n");
	assert_int_equal(f->result.exemplar_count, 1);
}

static void deltas_are_added_up(void **state)
{
	struct intake_fixture *f = *state;
	for (int i = 0; i < 3; i++) {
		char body[1024];
		snprintf(body, sizeof(body),
			 "{\"resourceMetrics\":[{\"scopeMetrics\":[{\"metrics\":[{\"name\":\"d\","
			 "\"sum\":{\"aggregationTemporality\":\"AGGREGATION_TEMPORALITY_DELTA\","
			 "\"isMonotonic\":true,\"dataPoints\":[{\"asDouble\":2.5,"
			 "\"timeUnixNano\":%d000000000}]}}" END,
			 1789999990 + i);
		assert_ok(take(f, body));
		assert_int_equal(f->result.rejected_count, 0);
		if (i == 1) { /* sent again: not counted again */
			assert_ok(take(f, body));
			assert_int_equal(f->result.rejected_count, 1);
			assert_non_null(strstr(f->result.refusal, "counted twice"));
		}
	}
	assert_string_equal(fixture_dump(f),
			    "d_total 2.5@-10000\nd_total 5@-9000\nd_total 7.5@-8000\n");
}

static void exponential_histograms_become_native(void **state)
{
	struct intake_fixture *f = *state;
	assert_ok(take(f, "{\"resourceMetrics\":[{\"scopeMetrics\":[{\"metrics\":[{\"name\":\"e\","
			  "\"exponentialHistogram\":{\"aggregationTemporality\":2,\"dataPoints\":[{"
			  "\"count\":6,\"sum\":9,\"scale\":0,\"zeroCount\":1,\"positive\":{"
			  "\"offset\":-1,\"bucketCounts\":[2,0,3]}," TIME "}]}}" END));
	assert_int_equal(f->result.histogram_count, 1);
	assert_string_equal(f->result.refusal, "");
	/* one from -1 ends at 2^0, which is bucket 0 of a native histogram */
	assert_string_equal(fixture_dump(f), "e h[schema 0 count 6 sum 9 zero 1/1e-128 reset 0 "
					     "+(0,3) 2 0 3 -]@-1000\n");
}

#define PLAIN "{\"resourceMetrics\":[{\"scopeMetrics\":[{\"metrics\":["
#define OF(attributes)                                                     \
	"{\"resourceMetrics\":[{\"resource\":{\"attributes\":[" attributes \
	"]},\"scopeMetrics\":[{\"metrics\":["
#define TEXT(key, value) "{\"key\":\"" key "\",\"value\":{\"stringValue\":\"" value "\"}}"
#define GAUGE(attributes)                                                                     \
	"{\"name\":\"g\",\"gauge\":{\"dataPoints\":[{\"asInt\":1,\"attributes\":[" attributes \
	"]," TIME "}]}}"

/* More than the resolution that there is: pairs of buckets become one. */
static void finer_histograms_are_coarsened(void **state)
{
	struct intake_fixture *f = *state;
	assert_ok(take(f,
		       PLAIN "{\"name\":\"e\",\"exponentialHistogram\":{\"dataPoints\":[{"
			     "\"count\":10,\"sum\":9,\"scale\":9,\"zeroCount\":1,\"positive\":{"
			     "\"offset\":-1,\"bucketCounts\":[2,0,3]},\"negative\":{\"offset\":5,"
			     "\"bucketCounts\":[4]}," TIME "}]}}" END));
	assert_string_equal(fixture_dump(f), "e h[schema 8 count 10 sum 9 zero 1/1e-128 reset 0 "
					     "+(0,2) 2 3 -(3,1) 4]@-1000\n");
	assert_ok(take(f, PLAIN "{\"name\":\"e\",\"exponentialHistogram\":{\"dataPoints\":[{"
				"\"scale\":-5," TIME "}]}}" END));
	assert_int_equal(f->result.rejected_count, 1);
}

static void own_le_and_quantile_yield(void **state)
{
	struct intake_fixture *f = *state;
	assert_ok(take(
		f, PLAIN
		"{\"name\":\"h\",\"histogram\":{\"aggregationTemporality\":2,"
		"\"dataPoints\":[{\"attributes\":[" TEXT(
			"le",
			"x") "],\"count\":3,\"sum\":1,\"bucketCounts\":[1,1,1],"
			     "\"explicitBounds\":[1,2]," TIME "}]}},"
			     "{\"name\":\"q\",\"summary\":{\"dataPoints\":[{\"attributes\":[" TEXT(
				     "quantile",
				     "x") "],\"count\":3,\"sum\":1,"
					  "\"quantileValues\":[{\"quantile\":0.5,\"value\":1},"
					  "{\"quantile\":0.9,\"value\":2}]," TIME "}]}}" END));
	assert_string_equal(fixture_dump(f), "h_bucket{le=\"+Inf\"} 3@-1000\n"
					     "h_bucket{le=\"1.0\"} 1@-1000\n"
					     "h_bucket{le=\"2.0\"} 2@-1000\n"
					     "h_count{le=\"x\"} 3@-1000\n"
					     "h_sum{le=\"x\"} 1@-1000\n"
					     "q{quantile=\"0.5\"} 1@-1000\n"
					     "q{quantile=\"0.9\"} 2@-1000\n"
					     "q_count{quantile=\"x\"} 3@-1000\n"
					     "q_sum{quantile=\"x\"} 1@-1000\n");
}

/* In protobuf a sum of 0 is not sent. */
static void summaries_have_a_sum(void **state)
{
	struct intake_fixture *f = *state;
	assert_ok(take(f, PLAIN "{\"name\":\"q\",\"summary\":{\"dataPoints\":[{\"count\":3," TIME
				"}]}}" END));
	assert_string_equal(fixture_dump(f), "q_count 3@-1000\nq_sum 0@-1000\n");
}

static void identity_wins_over_attributes(void **state)
{
	struct intake_fixture *f = *state;
	const str promoted[] = { STR("job"), STR("zone"), STR("a.rack") };
	const struct otlp_options options = { .promoted = promoted, .promoted_count = 3 };
	assert_ok(take_with(
		f,
		OF(TEXT("job", "mine") "," TEXT("zone", "z") "," TEXT("a.rack", "r") "," TEXT(
			"service.name", "api"))
			GAUGE(TEXT("zone", "of the point") "," TEXT("job", "of the point")) END,
		&options));
	assert_string_equal(fixture_dump(f),
			    "g{a_rack=\"r\",job=\"api\",zone=\"of the point\"} 1@-1000\n"
			    "target_info{a_rack=\"r\",job=\"api\",zone=\"z\"} 1@-1000\n");
}

static void without_identity_no_target_info(void **state)
{
	struct intake_fixture *f = *state;
	const str promoted[] = { STR("zone") };
	const struct otlp_options options = { .promoted = promoted, .promoted_count = 1 };
	assert_ok(take_with(f, OF(TEXT("zone", "z") "," TEXT("x", "y")) GAUGE("") END, &options));
	assert_string_equal(fixture_dump(f), "g{zone=\"z\"} 1@-1000\n");
}

/* However an exporter orders its attributes, the series is the same. */
static void names_that_become_one(void **state)
{
	struct intake_fixture *f = *state;
	assert_ok(take(f, PLAIN GAUGE(TEXT("a_b", "2") "," TEXT("a.b", "1")) END));
	assert_ok(take(f, PLAIN GAUGE(TEXT("a.b", "1") "," TEXT("a_b", "2")) END));
	assert_string_equal(fixture_dump(f), "g{a_b=\"1;2\"} 1@-1000\n");
}

static void what_cannot_be_added_up(void **state)
{
	struct intake_fixture *f = *state;
	assert_ok(take(f, PLAIN "{\"name\":\"d\",\"sum\":{\"aggregationTemporality\":1,"
				"\"dataPoints\":[{\"asDouble\":\"NaN\","
				"\"timeUnixNano\":\"1789999998000000000\"},{\"asDouble\":2," TIME
				"}]}}" END));
	assert_int_equal(f->result.rejected_count, 1);
	assert_string_equal(fixture_dump(f), "d 2@-1000\n");
}

static void too_many_boundaries_are_refused(void **state)
{
	struct intake_fixture *f = *state;
	struct buf body = buf_init(1 << 20);
	buf_add_c(&body, PLAIN "{\"name\":\"h\",\"histogram\":{\"aggregationTemporality\":2,"
			       "\"dataPoints\":[{\"bucketCounts\":[0");
	for (int i = 0; i < 5000; i++)
		buf_add_c(&body, ",0");
	buf_add_c(&body, "],\"explicitBounds\":[0");
	for (int i = 1; i < 5000; i++)
		buf_printf(&body, ",%d", i);
	buf_add_c(&body, "]," TIME "}]}}" END);
	assert_ok(take(f, buf_cstr(&body)));
	assert_int_equal(f->result.rejected_count, 1);
	assert_non_null(strstr(f->result.refusal, "5000 boundaries"));
	assert_string_equal(fixture_dump(f), "");
	buf_done(&body);
}

static void bad_bodies_are_refused(void **state)
{
	struct intake_fixture *f = *state;
	static const char *const bad[] = {
		"",
		"[]",
		"{",
		"{\"resourceMetrics\":[3]}",
		"{\"resourceMetrics\":[{\"scopeMetrics\":[{\"metrics\":[{\"name\":5}]}]}]}",
		"{\"resourceMetrics\":[{\"resource\":{\"attributes\":[{\"key\":\"a\",\"value\":{"
		"\"intValue\":\"x\"}}]}}]}",
	};
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
		assert_int_equal(take(f, bad[i]), ERR_INVALID);
}

/* Every prefix and many flipped bits of a good message: refused or taken, never a crash. */
static void damaged_messages(void **state)
{
	struct intake_fixture *f = *state;
	struct buf good = buf_init(1 << 20);
	assert_ok(otlp_json_to_wire(
		STR(RESOURCE
		    "{\"name\":\"lag\",\"histogram\":{\"aggregationTemporality\":2,"
		    "\"dataPoints\":[{\"count\":\"6\",\"sum\":12.5,\"bucketCounts\":[1,2,3],"
		    "\"explicitBounds\":[1,2.5]," TIME "}]}},{\"name\":\"e\","
		    "\"exponentialHistogram\":{\"dataPoints\":[{\"count\":5,\"scale\":3,"
		    "\"positive\":{\"offset\":2,\"bucketCounts\":[2,3]}," TIME "}]}}" END),
		&good, &fixture_error));
	for (size_t i = 0; i < good.len; i++) {
		struct intake_result r = { 0 };
		struct err e = { 0 };
		char saved = good.ptr[i];
		for (int round = 0; round < 9; round++) {
			size_t len = round == 8 ? i : good.len;
			good.ptr[i] = round == 8 ? saved : (char)(saved ^ (1 << round));
			errc rc = intake_otlp(f->in, f->batch, (str){ good.ptr, len },
					      OTLP_PROTOBUF, NULL, &r, &e);
			assert_true(rc == OK || e.message[0]);
			metrics_batch_abort(f->batch);
		}
		good.ptr[i] = saved;
	}
	buf_done(&good);
}

static void names(void **state)
{
	(void)state;
	static const struct {
		const char *name, *unit;
		enum metrics_type type;
		enum otlp_translation translation;
		const char *wanted;
	} rows[] = {
		{ "system.cpu.time", "s", METRICS_TYPE_COUNTER, 0,
		  "system_cpu_time_seconds_total" },
		{ "a.total", "", METRICS_TYPE_COUNTER, 0, "a_total" },
		{ "a.total.b", "", METRICS_TYPE_COUNTER, 0, "a_b_total" },
		{ "2xx", "", METRICS_TYPE_GAUGE, 0, "_2xx" },
		{ "a__b", "%", METRICS_TYPE_GAUGE, 0, "a_b_percent" },
		{ "net.bytes", "By", METRICS_TYPE_GAUGE, 0, "net_bytes" },
		{ "x", "m/s", METRICS_TYPE_GAUGE, 0, "x_meters_per_second" },
		{ "x:y", "widgets", METRICS_TYPE_GAUGE, 0, "x:y_widgets" },
		{ "second.reads", "By/s", METRICS_TYPE_GAUGE, 0, "second_reads_bytes" },
		{ "http.d", "s", METRICS_TYPE_GAUGE, OTLP_UNDERSCORES, "http_d" },
		{ ".a..b_.", "s", METRICS_TYPE_GAUGE, OTLP_UNDERSCORES, "a_b_" },
		{ "2x", "s", METRICS_TYPE_COUNTER, OTLP_UNDERSCORES, "_2x" },
		{ "http.d", "s", METRICS_TYPE_COUNTER, OTLP_UTF8_SUFFIXES, "http.d_seconds_total" },
		{ "http.d", "s", METRICS_TYPE_COUNTER, OTLP_UTF8, "http.d" },
	};
	for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
		struct arena scratch = arena_init(1 << 20);
		struct otlp_metric m = { .name = str_c(rows[i].name),
					 .unit = str_c(rows[i].unit),
					 .type = rows[i].type };
		str name = otlp_metric_name(&scratch, &m, rows[i].translation);
		assert_string_equal(arena_cstr(&scratch, name), rows[i].wanted);
		arena_done(&scratch);
	}
}

static void label_names(void **state)
{
	(void)state;
	static const struct {
		const char *name;
		enum otlp_translation translation;
		const char *wanted;
	} rows[] = {
		{ "http.method", 0, "http_method" },
		{ "a..b", 0, "a__b" },
		{ "2xx", 0, "key_2xx" },
		{ "_own", 0, "key_own" },
		{ ".own", 0, "key_own" },
		{ "__own", 0, "__own" },
		{ "a:\xc3\xa9", 0, "a__" },
		{ "a.\xc3\xa9", OTLP_UTF8, "a.\xc3\xa9" },
	};
	for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
		struct arena scratch = arena_init(1 << 20);
		str name = otlp_label_name(&scratch, str_c(rows[i].name), rows[i].translation);
		assert_string_equal(arena_cstr(&scratch, name), rows[i].wanted);
		arena_done(&scratch);
	}
}

static void answers(void **state)
{
	(void)state;
	struct intake_result r = { .rejected_count = 2, .refusal = "why" };
	struct buf text = buf_init(1000);
	otlp_response(&r, OTLP_JSON, &text);
	assert_string_equal(buf_cstr(&text), "{\"partialSuccess\":{\"rejectedDataPoints\":\"2\","
					     "\"errorMessage\":\"why\"}}");
	buf_clear(&text);
	otlp_response(&r, OTLP_PROTOBUF, &text);
	assert_memory_equal(text.ptr, "\x0a\x07\x08\x02\x12\x03why", 9);
	buf_done(&text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(kinds_of_metrics, open_fixture, close_fixture),
		cmocka_unit_test_setup_teardown(deltas_are_added_up, open_fixture, close_fixture),
		cmocka_unit_test_setup_teardown(exponential_histograms_become_native, open_fixture,
						close_fixture),
		cmocka_unit_test_setup_teardown(finer_histograms_are_coarsened, open_fixture,
						close_fixture),
		cmocka_unit_test_setup_teardown(own_le_and_quantile_yield, open_fixture,
						close_fixture),
		cmocka_unit_test_setup_teardown(summaries_have_a_sum, open_fixture, close_fixture),
		cmocka_unit_test_setup_teardown(identity_wins_over_attributes, open_fixture,
						close_fixture),
		cmocka_unit_test_setup_teardown(without_identity_no_target_info, open_fixture,
						close_fixture),
		cmocka_unit_test_setup_teardown(names_that_become_one, open_fixture, close_fixture),
		cmocka_unit_test_setup_teardown(what_cannot_be_added_up, open_fixture,
						close_fixture),
		cmocka_unit_test_setup_teardown(too_many_boundaries_are_refused, open_fixture,
						close_fixture),
		cmocka_unit_test_setup_teardown(bad_bodies_are_refused, open_fixture,
						close_fixture),
		cmocka_unit_test_setup_teardown(damaged_messages, open_fixture, close_fixture),
		cmocka_unit_test(names),
		cmocka_unit_test(label_names),
		cmocka_unit_test(answers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
