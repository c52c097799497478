#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/checks.h"
#include "codec/wire.h"
#include "scrape_events.h"

enum { COUNTER, GAUGE, SUMMARY, UNTYPED, HISTOGRAM, GAUGE_HISTOGRAM };

/* A family without metrics, to be put behind its length by add_family(). */
static struct buf family(const char *name, int type, const char *help, const char *unit)
{
	struct buf b = buf_init(1 << 20);
	wire_add_bytes(&b, 1, str_c(name));
	wire_add_bytes(&b, 2, str_c(help));
	wire_add_varint(&b, 3, (uint64_t)type);
	wire_add_bytes(&b, 5, str_c(unit));
	return b;
}

static void add_family(struct buf *body, struct buf *f)
{
	size_t len = f->len;
	while (len >= 0x80) {
		buf_add_byte(body, (char)(len | 0x80));
		len >>= 7;
	}
	buf_add_byte(body, (char)len);
	buf_add(body, buf_str(f));
	buf_done(f);
}

static void add_pair(struct buf *b, uint32_t number, const char *name, const char *value)
{
	size_t pair = wire_begin(b, number);
	wire_add_bytes(b, 1, str_c(name));
	wire_add_bytes(b, 2, str_c(value));
	wire_end(b, pair);
}

static void add_timestamp(struct buf *b, uint32_t number, int64_t seconds, int32_t nanos)
{
	size_t t = wire_begin(b, number);
	wire_add_int(b, 1, seconds);
	wire_add_int(b, 2, nanos);
	wire_end(b, t);
}

static void add_exemplar(struct buf *b, uint32_t number, double value, int64_t seconds)
{
	size_t x = wire_begin(b, number);
	add_pair(b, 1, "trace", "t");
	wire_add_double(b, 2, value);
	if (seconds)
		add_timestamp(b, 3, seconds, 500000000);
	wire_end(b, x);
}

static void check(str body, bool classic, const char *expected)
{
	struct buf got CLEANUP(buf_done) = buf_init(1 << 20);
	struct err e = { 0 };
	errc rc = print_events(SCRAPE_PROTOBUF, classic, body, &got, &e);
	if (rc != OK)
		print_error("%s\n", e.message);
	assert_int_equal(rc, OK);
	assert_string_equal(buf_cstr(&got), expected);
}

static void add_simple(struct buf *body)
{
	struct buf f = family("requests_total", COUNTER, "How \"many\"", "");
	size_t metric = wire_begin(&f, 4), part;
	add_pair(&f, 1, "path", "a\\b\"\nc");
	add_pair(&f, 1, "dots.in.name", "");
	part = wire_begin(&f, 3);
	wire_add_double(&f, 1, 12.5);
	add_exemplar(&f, 2, 3, 1000);
	add_timestamp(&f, 3, 900, 0);
	wire_end(&f, part);
	wire_add_int(&f, 6, 1234567);
	wire_end(&f, metric);
	metric = wire_begin(&f, 4);
	part = wire_begin(&f, 3);
	wire_add_double(&f, 1, 1);
	wire_end(&f, part);
	wire_end(&f, metric);
	add_family(body, &f);
	f = family("temperature", GAUGE, "", "celsius");
	metric = wire_begin(&f, 4);
	part = wire_begin(&f, 2);
	wire_add_double(&f, 1, -4);
	wire_end(&f, part);
	wire_end(&f, metric);
	add_family(body, &f);
	f = family("what", UNTYPED, "", "");
	metric = wire_begin(&f, 4);
	part = wire_begin(&f, 5);
	wire_add_double(&f, 1, 7);
	wire_end(&f, part);
	wire_end(&f, metric);
	add_family(body, &f);
}

static void add_summary(struct buf *body)
{
	struct buf f = family("s", SUMMARY, "", "");
	size_t metric = wire_begin(&f, 4), part = wire_begin(&f, 4), quantile;
	wire_add_varint(&f, 1, 10);
	wire_add_double(&f, 2, 20.5);
	quantile = wire_begin(&f, 3);
	wire_add_double(&f, 1, 1);
	wire_add_double(&f, 2, 4);
	wire_end(&f, quantile);
	wire_end(&f, part);
	add_pair(&f, 1, "late", "label");
	wire_end(&f, metric);
	add_family(body, &f);
}

static void add_bucket(struct buf *f, double bound, uint64_t count, bool exemplar)
{
	size_t bucket = wire_begin(f, 3);
	wire_add_varint(f, 1, count);
	wire_add_double(f, 2, bound);
	if (exemplar)
		add_exemplar(f, 3, 0.5, 0);
	wire_end(f, bucket);
}

static void add_native_parts(struct buf *f)
{
	wire_add_sint(f, 5, 3);
	wire_add_double(f, 6, 0.001);
	wire_add_varint(f, 7, 2);
	size_t span = wire_begin(f, 12);
	wire_add_sint(f, 1, -2);
	wire_add_varint(f, 2, 2);
	wire_end(f, span);
	wire_add_sint(f, 13, 1); /* 1, then 1 + 2: not packed */
	wire_add_sint(f, 13, 2);
}

static void add_histogram(struct buf *body, bool native, bool classic, bool zeros)
{
	struct buf f = family("h", HISTOGRAM, "", "");
	size_t metric = wire_begin(&f, 4), part;
	add_pair(&f, 1, "a", "b");
	part = wire_begin(&f, 7);
	wire_add_varint(&f, 1, 6);
	wire_add_double(&f, 2, 8.5);
	if (classic) {
		add_bucket(&f, 0.1, 2, false);
		add_bucket(&f, 1, 4, true);
	}
	if (native)
		add_native_parts(&f);
	if (zeros) { /* as some clients write a classic one */
		wire_add_sint(&f, 5, 0);
		wire_add_double(&f, 6, 0);
		wire_add_varint(&f, 7, 0);
	}
	add_timestamp(&f, 15, 800, 1000000);
	wire_end(&f, part);
	wire_end(&f, metric);
	add_family(body, &f);
}

static void simple_kinds(void **state)
{
	(void)state;
	struct buf body CLEANUP(buf_done) = buf_init(1 << 20);
	add_simple(&body);
	add_summary(&body);
	check(buf_str(&body), false,
	      "family requests_total counter [How \"many\"] []\n"
	      "requests_total{path=\"a\\\\b\\\"\\nc\"} 12.5@1234567 since 900000 "
	      "#{trace=\"t\"} 3@1000500\n"
	      "requests_total 1\n"
	      "family temperature gauge [] [celsius]\n"
	      "temperature -4\n"
	      "family what unknown [] []\n"
	      "what 7\n"
	      "family s summary [] []\n"
	      "s{late=\"label\",quantile=\"1.0\"} 4\n"
	      "s_sum{late=\"label\"} 20.5\n"
	      "s_count{late=\"label\"} 10\n");
	check(STR(""), false, "");
}

static void classic_histograms(void **state)
{
	(void)state;
	static const char expected[] = "family h histogram [] []\n"
				       "h_bucket{a=\"b\",le=\"0.1\"} 2 since 800001\n"
				       "h_bucket{a=\"b\",le=\"1.0\"} 4 since 800001 "
				       "#{trace=\"t\"} 0.5@-1\n"
				       "h_bucket{a=\"b\",le=\"+Inf\"} 6 since 800001\n"
				       "h_sum{a=\"b\"} 8.5 since 800001\n"
				       "h_count{a=\"b\"} 6 since 800001\n";
	for (int zeros = 0; zeros < 2; zeros++) {
		struct buf body CLEANUP(buf_done) = buf_init(1 << 20);
		add_histogram(&body, false, true, zeros);
		check(buf_str(&body), false, expected);
		check(buf_str(&body), true, expected);
	}
}

static void native_histograms(void **state)
{
	(void)state;
	struct buf body CLEANUP(buf_done) = buf_init(1 << 20);
	struct scrape_parser p;
	enum scrape_event event = SCRAPE_END;
	struct err e;
	add_histogram(&body, true, true, false);
	check(buf_str(&body), false,
	      "family h histogram [] []\n"
	      "h{a=\"b\"} histogram 6 since 800001 #{trace=\"t\"} 0.5@-1\n");
	check(buf_str(&body), true,
	      "family h histogram [] []\n"
	      "h{a=\"b\"} histogram 6 since 800001 #{trace=\"t\"} 0.5@-1\n"
	      "h_bucket{a=\"b\",le=\"0.1\"} 2 since 800001\n"
	      "h_bucket{a=\"b\",le=\"1.0\"} 4 since 800001 #{trace=\"t\"} 0.5@-1\n"
	      "h_bucket{a=\"b\",le=\"+Inf\"} 6 since 800001\n"
	      "h_sum{a=\"b\"} 8.5 since 800001\n"
	      "h_count{a=\"b\"} 6 since 800001\n");
	scrape_parser_init(&p, SCRAPE_PROTOBUF, buf_str(&body));
	assert_int_equal(scrape_parser_next(&p, &event, &e), OK);
	assert_int_equal(scrape_parser_next(&p, &event, &e), OK);
	assert_int_equal(event, SCRAPE_HISTOGRAM);
	assert_int_equal(p.histogram->schema, 3);
	assert_true(p.histogram->sum == 8.5);
	assert_true(p.histogram->zero_threshold == 0.001);
	assert_true(p.histogram->zero_count == 2);
	assert_int_equal(p.histogram->positive.span_count, 1);
	assert_int_equal(p.histogram->positive.spans[0].offset, -2);
	assert_int_equal(p.histogram->positive.bucket_count, 2);
	assert_true(p.histogram->positive.buckets[0] == 1);
	assert_true(p.histogram->positive.buckets[1] == 3);
	scrape_parser_done(&p);
}

static void refuse(struct buf *body, const char *wanted)
{
	struct buf got CLEANUP(buf_done) = buf_init(1 << 20);
	struct err e = { 0 };
	assert_int_equal(print_events(SCRAPE_PROTOBUF, true, buf_str(body), &got, &e), ERR_INVALID);
	if (!strstr(e.message, wanted))
		print_error("\"%s\"\n", e.message);
	assert_non_null(strstr(e.message, wanted));
	buf_done(body);
}

static void malformed(void **state)
{
	(void)state;
	struct buf body = buf_init(1 << 20);
	struct buf f = family("", GAUGE, "", "");
	add_family(&body, &f);
	refuse(&body, "has no name");
	f = family("a\xff", GAUGE, "", "");
	add_family(&body, &f);
	refuse(&body, "malformed");
	buf_add(&body, STR("\x7f"));
	refuse(&body, "cut short");
	f = family("h", HISTOGRAM, "", ""); /* buckets that its spans do not have */
	size_t metric = wire_begin(&f, 4), part = wire_begin(&f, 7);
	add_native_parts(&f);
	wire_add_sint(&f, 13, 2);
	wire_end(&f, part);
	wire_end(&f, metric);
	add_family(&body, &f);
	refuse(&body, "byte 0: ");
	f = family("g", GAUGE, "", "");
	wire_add_bytes(&f, 4, STR("\x12\x09\x09xx"));
	add_family(&body, &f);
	refuse(&body, "malformed");
}

/* Whatever a body is cut to: its end, or a refusal. */
static void cut_anywhere(void **state)
{
	(void)state;
	struct buf body CLEANUP(buf_done) = buf_init(1 << 20);
	add_simple(&body);
	add_summary(&body);
	add_histogram(&body, true, true, false);
	for (size_t i = 0; i <= body.len; i++) {
		char *exact = malloc(i + 1);
		struct buf got CLEANUP(buf_done) = buf_init(1 << 20);
		struct err e = { 0 };
		assert_non_null(exact);
		memcpy(exact, body.ptr, i);
		errc rc = print_events(SCRAPE_PROTOBUF, true, (str){ exact, i }, &got, &e);
		assert_true(rc == OK || (rc == ERR_INVALID && e.message[0]));
		free(exact);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(simple_kinds),      cmocka_unit_test(classic_histograms),
		cmocka_unit_test(native_histograms), cmocka_unit_test(malformed),
		cmocka_unit_test(cut_anywhere),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
