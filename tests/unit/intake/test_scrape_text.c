#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/checks.h"
#include "scrape_events.h"

static void check(enum scrape_format format, const char *body, const char *expected)
{
	struct buf got CLEANUP(buf_done) = buf_init(1 << 20);
	struct err e = { 0 };
	errc rc = print_events(format, false, str_c(body), &got, &e);
	if (rc != OK)
		print_error("%s\n", e.message);
	assert_int_equal(rc, OK);
	assert_string_equal(buf_cstr(&got), expected);
}

/* The message of the refusal of BODY holds WANTED. */
static void refuse(enum scrape_format format, const char *body, const char *wanted)
{
	struct buf got CLEANUP(buf_done) = buf_init(1 << 20);
	struct err e = { 0 };
	errc rc = print_events(format, false, str_c(body), &got, &e);
	if (rc != ERR_INVALID || !strstr(e.message, wanted))
		print_error("body <%s>: %s, \"%s\"\n", body, errc_name(rc), e.message);
	assert_int_equal(rc, ERR_INVALID);
	assert_non_null(strstr(e.message, wanted));
}

static void samples_of_the_text_format(void **state)
{
	(void)state;
	check(SCRAPE_TEXT,
	      "# HELP requests_total How many\\nlines \\\\ there are.\n"
	      "# TYPE requests_total counter\n"
	      "requests_total{method=\"post\",code=\"200\"} 1027 1395066363000\n"
	      "requests_total{method=\"post\",code=\"400\"}    3 1395066363000\n"
	      "\n"
	      "# a comment is nothing, and #HELP neither\n"
	      "#HELP x y\n"
	      "escapes{path=\"C:\\\\DIR\\\\FILE.TXT\",error=\"Cannot \\\"find\\\" it:\\n\"} 1.5e9\n"
	      "plain 12.47\n"
	      "weird{problem=\"division by zero\"} +Inf -3982045\n"
	      "negative -Inf\n"
	      "not_a_number NaN\n"
	      "\tspaced \t { a = \"b\" , c = \"d\" , } \t 7 \t 8\n"
	      "braces{a=\"} 1\",b=\"{#\"} 2\n"
	      "empty{} 3\n"
	      "no_newline 1",
	      "family requests_total counter [How many\nlines \\ there are.] []\n"
	      "requests_total{code=\"200\",method=\"post\"} 1027@1395066363000\n"
	      "requests_total{code=\"400\",method=\"post\"} 3@1395066363000\n"
	      "escapes{error=\"Cannot \\\"find\\\" it:\\n\",path=\"C:\\\\DIR\\\\FILE.TXT\"} "
	      "1500000000\n"
	      "plain 12.47\n"
	      "weird{problem=\"division by zero\"} +Inf@-3982045\n"
	      "negative -Inf\n"
	      "not_a_number NaN\n"
	      "spaced{a=\"b\",c=\"d\"} 7@8\n"
	      "braces{a=\"} 1\",b=\"{#\"} 2\n"
	      "empty 3\n"
	      "no_newline 1\n");
}

static void quoted_names(void **state)
{
	(void)state;
	check(SCRAPE_TEXT,
	      "# TYPE \"my.noncompliant\\\"metric\" counter\n"
	      "# HELP \"my.noncompliant\\\"metric\" help text\n"
	      "{\"my.noncompliant\\\"metric\",\"label.name\"=\"val}ue\",x=\"\"} 1\n"
	      "{a=\"b\",\"later\"} 2\n",
	      "family my.noncompliant\"metric counter [help text] []\n"
	      "{\"my.noncompliant\\\"metric\",\"label.name\"=\"val}ue\"} 1\n"
	      "later{a=\"b\"} 2\n");
}

/* `le="1"` and `le="1.0"` are one boundary, in histograms only. */
static void boundaries(void **state)
{
	(void)state;
	check(SCRAPE_TEXT,
	      "# TYPE h histogram\n"
	      "h_bucket{le=\"0.05\"} 1\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"1e6\"} 3\n"
	      "h_bucket{le=\"1000000\"} 3\nh_bucket{le=\"100000\"} 3\nh_bucket{le=\"+Inf\"} 4\n"
	      "h_bucket{le=\"what\"} 5\nh_bucket{le=\"-0\"} 6\nh_bucket{quantile=\"1\"} 7\n"
	      "# TYPE s summary\n"
	      "s{quantile=\"1\"} 1\ns{le=\"1\"} 2\n"
	      "# TYPE g gauge\n"
	      "g{le=\"1\",quantile=\"2\"} 3\n",
	      "family h histogram [] []\n"
	      "h_bucket{le=\"0.05\"} 1\nh_bucket{le=\"1.0\"} 2\nh_bucket{le=\"1e+06\"} 3\n"
	      "h_bucket{le=\"1e+06\"} 3\nh_bucket{le=\"100000.0\"} 3\nh_bucket{le=\"+Inf\"} 4\n"
	      "h_bucket{le=\"what\"} 5\nh_bucket{le=\"0.0\"} 6\nh_bucket{quantile=\"1\"} 7\n"
	      "family s summary [] []\n"
	      "s{quantile=\"1.0\"} 1\ns{le=\"1\"} 2\n"
	      "family g gauge [] []\n"
	      "g{le=\"1\",quantile=\"2\"} 3\n");
}

static void openmetrics(void **state)
{
	(void)state;
	check(SCRAPE_OPENMETRICS,
	      "# TYPE acme_http_router_request_seconds summary\n"
	      "# UNIT acme_http_router_request_seconds seconds\n"
	      "# HELP acme_http_router_request_seconds Latency of \\\"requests\\\".\n"
	      "acme_http_router_request_seconds_sum{path=\"/api/v1\",method=\"GET\"} 9036.32\n"
	      "acme_http_router_request_seconds_created{path=\"/api/v1\"} 1605281325.0\n"
	      "# TYPE go_goroutines gauge\n"
	      "go_goroutines 69 1520879607.789\n"
	      "# TYPE foo counter\n"
	      "foo_total{a=\"#\"} 17.0 1520879607.789 # {trace_id=\"KOO5S4vxi0o\"} 0.67\n"
	      "foo_total 5 # {} 1.5 1520879607.25\n"
	      "# TYPE st stateset\n"
	      "st{st=\"a\"} 1\n"
	      "# TYPE bar info\n"
	      "bar_info{v=\"} # {\"} 1 # {x=\"} 2\"} 3\n"
	      "# EOF\n",
	      "family acme_http_router_request_seconds summary [Latency of \"requests\".] "
	      "[seconds]\n"
	      "acme_http_router_request_seconds_sum{method=\"GET\",path=\"/api/v1\"} 9036.32\n"
	      "acme_http_router_request_seconds_created{path=\"/api/v1\"} 1605281325\n"
	      "family go_goroutines gauge [] []\n"
	      "go_goroutines 69@1520879607789\n"
	      "family foo counter [] []\n"
	      "foo_total{a=\"#\"} 17@1520879607789 #{trace_id=\"KOO5S4vxi0o\"} 0.67@-1\n"
	      "foo_total 5 #{} 1.5@1520879607250\n"
	      "family st stateset [] []\n"
	      "st{st=\"a\"} 1\n"
	      "family bar info [] []\n"
	      "bar_info{v=\"} # {\"} 1 #{x=\"} 2\"} 3@-1\n");
	check(SCRAPE_OPENMETRICS, "# EOF", "");
	check(SCRAPE_OPENMETRICS, "# TYPE only gauge\n# EOF\n", "family only gauge [] []\n");
}

static void bad_lines(void **state)
{
	(void)state;
	static const struct {
		const char *body, *wanted;
	} text[] = {
		{ "a 1\nb", "line 2: \"\" is no number" },
		{ "a 1\n\nb one\n", "line 3: \"one\" is no number" },
		{ "a 0x10\n", "is no number" },
		{ "a 1_000\n", "is no number" },
		{ "a 1 2 3\n", "behind a sample" },
		{ "a 1 now\n", "is no time in milliseconds" },
		{ "a 1 1.5\n", "is no time in milliseconds" },
		{ "a 1 # {x=\"y\"} 1\n", "is no name of a metric" },
		{ "a{b=\"c\" 1\n", "do not end" },
		{ "a{b=\"c} 1\n", "does not end" },
		{ "a{b=c} 1\n", "is not quoted" },
		{ "a{b} 1\n", "is no label with a value" },
		{ "a{=\"c\"} 1\n", "is no label with a value" },
		{ "a{9=\"c\"} 1\n", "is no label with a value" },
		{ "a{b:c=\"c\"} 1\n", "is no label with a value" },
		{ "a{b=\"c\"d=\"e\"} 1\n", "behind a label" },
		{ "a{b=\"c\"}{d=\"e\"} 1\n", "behind a label" },
		{ "a{,} 1\n", "is no label with a value" },
		{ "foo-bar 1\n", "is no name of a metric" },
		{ "foo.bar{a=\"b\"} 1\n", "is no name of a metric" },
		{ "1a 1\n", "is no name of a metric" },
		{ "} 1\n", "do not end" },
		{ "a{b=\"1\",b=\"2\"} 1\n", "there twice" },
		{ "a{b=\"\xff\"} 1\n", "not UTF-8" },
		{ "# TYPE a countr\n", "no metric type \"countr\"" },
		{ "# TYPE\n", "without the name of a metric" },
		{ "# HELP \"a\n", "without the name of a metric" },
	};
	for (size_t i = 0; i < ARRAY_COUNT(text); i++)
		refuse(SCRAPE_TEXT, text[i].body, text[i].wanted);
	static const struct {
		const char *body, *wanted;
	} open[] = {
		{ "a 1\n", "does not end with # EOF" },
		{ "", "does not end with # EOF" },
		{ "# EOF\na 1\n", "text behind # EOF" },
		{ "\n# EOF\n", "an empty line" },
		{ "# a comment\n# EOF\n", "a comment that is not" },
		{ "# TYPE a untyped\n# EOF\n", "no metric type" },
		{ "a 1 x\n# EOF\n", "is no time in seconds" },
		{ "a 1 NaN\n# EOF\n", "is no time in seconds" },
		{ "a 1 # x\n# EOF\n", "an exemplar without labels" },
		{ "a 1 # {x=\"y\"}\n# EOF\n", "an exemplar without a value" },
		{ "a 1 # {x=\"y\"} 1 2 3\n# EOF\n", "behind an exemplar" },
		{ " a 1\n# EOF\n", "do not end" },
	};
	for (size_t i = 0; i < ARRAY_COUNT(open); i++)
		refuse(SCRAPE_OPENMETRICS, open[i].body, open[i].wanted);
}

/* Who can do without a bad line goes on behind it. */
static void goes_on(void **state)
{
	(void)state;
	struct scrape_parser p;
	enum scrape_event event = SCRAPE_END;
	struct err e;
	size_t taken = 0, refused = 0;
	scrape_parser_init(&p, SCRAPE_OPENMETRICS, STR("a 1\nbad\nb 2\n\nc 3\n"));
	for (size_t i = 0; i < 100; i++) {
		if (scrape_parser_next(&p, &event, &e) != OK) {
			refused++;
			continue;
		}
		if (event == SCRAPE_END)
			break;
		taken++;
	}
	scrape_parser_done(&p);
	assert_int_equal(event, SCRAPE_END);
	assert_int_equal(taken, 3);
	assert_int_equal(refused, 3); /* `bad`, the empty line, no # EOF */
}

/* Whatever a body is cut to, it is read to its end or refused with a line. */
static void cut_anywhere(void **state)
{
	(void)state;
	static const char *const bodies[] = {
		"# HELP \"a\\\"b\" x\\\\y\n# TYPE \"a\\\"b\" histogram\n"
		"{\"a\\\"b\",le=\"1\",\"q\"=\"\\n\"} 1.5 17\nc{d=\"e\"} NaN\n",
		"# TYPE a counter\n# UNIT a s\n# HELP a b\na{x=\"\\\\\"} 1 2.5 # {y=\"z\"} 3 4\n"
		"# EOF\n",
	};
	for (size_t k = 0; k < ARRAY_COUNT(bodies); k++) {
		size_t len = strlen(bodies[k]);
		for (size_t i = 0; i <= len; i++) {
			char *exact = malloc(i + 1);
			struct buf got CLEANUP(buf_done) = buf_init(1 << 20);
			struct err e = { 0 };
			assert_non_null(exact);
			memcpy(exact, bodies[k], i);
			errc rc = print_events(k ? SCRAPE_OPENMETRICS : SCRAPE_TEXT, false,
					       (str){ exact, i }, &got, &e);
			assert_true(rc == OK || (rc == ERR_INVALID && e.message[0]));
			free(exact);
		}
	}
}

static void formats_by_content_type(void **state)
{
	(void)state;
	static const struct {
		const char *type;
		enum scrape_format format;
	} types[] = {
		{ "text/plain; version=0.0.4; charset=utf-8", SCRAPE_TEXT },
		{ "text/plain", SCRAPE_TEXT },
		{ "Application/OpenMetrics-Text; version=1.0.0", SCRAPE_OPENMETRICS },
		{ "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; "
		  "encoding=delimited",
		  SCRAPE_PROTOBUF },
	};
	for (size_t i = 0; i < ARRAY_COUNT(types); i++)
		for (int other = SCRAPE_TEXT; other <= SCRAPE_PROTOBUF; other++)
			assert_int_equal(
				scrape_format_of(str_c(types[i].type), (enum scrape_format)other),
				types[i].format);
	assert_int_equal(scrape_format_of(STR(""), SCRAPE_OPENMETRICS), SCRAPE_OPENMETRICS);
	assert_int_equal(scrape_format_of(STR("text/html"), SCRAPE_TEXT), SCRAPE_TEXT);
	assert_int_equal(scrape_format_of(STR("application/vnd.google.protobuf"), SCRAPE_TEXT),
			 SCRAPE_TEXT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(samples_of_the_text_format),
		cmocka_unit_test(quoted_names),
		cmocka_unit_test(boundaries),
		cmocka_unit_test(openmetrics),
		cmocka_unit_test(bad_lines),
		cmocka_unit_test(goes_on),
		cmocka_unit_test(cut_anywhere),
		cmocka_unit_test(formats_by_content_type),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
