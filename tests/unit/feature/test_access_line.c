/* The lines of the proxy's log, and whatever else may come instead of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "feature/traffic/traffic_access.h"

static void a_line_is_read(void **state)
{
	(void)state;
	struct traffic_access_line l;
	assert_true(traffic_access_parse(
		STR("shop.live shop.live.read 20001 200 -- 3 0 12 310 5120 +1 GET\n"), &l));
	assert_true(str_eq_c(l.environment, "shop.live"));
	assert_int_equal(l.port, 20001);
	assert_int_equal(l.status, 200);
	assert_int_equal(l.queue_ms, 3);
	assert_int_equal(l.total_ms, 12);
	assert_int_equal(l.bytes_in, 310);
	assert_int_equal(l.bytes_out, 5120);
	assert_int_equal(l.retries, 1);
	assert_true(str_eq_c(l.method, "GET"));
	assert_false(l.websocket);
}

static void relays_and_odd_frontends(void **state)
{
	(void)state;
	struct traffic_access_line l;
	assert_false(traffic_access_parse(STR("shop.live shop.live.relay 0 200 -- 0 0 1 1 1 0 GET"),
					  &l));
	assert_true(traffic_access_parse(
		STR("shop.live.inner shop.live.ws 20001 101 -- 0 0 60000 1 1 0 GET"), &l));
	assert_true(str_eq_c(l.environment, "shop.live"));
	assert_true(l.websocket);
	assert_true(traffic_access_parse(
		STR("shop.live~ shop.live~ - 400 CR -1 -1 0 0 0 0 <BADREQ>"), &l));
	assert_true(str_eq_c(l.environment, "shop.live"));
	assert_int_equal(l.port, 0);
	assert_int_equal(l.queue_ms, 0);
}

static void nothing_else_is(void **state)
{
	(void)state;
	static const char *const lines[] = { "",
					     " ",
					     "\n",
					     "a",
					     "a b c",
					     "a b 1 2 3 4 5 6 7 8 9",
					     "x y 99999 200 -- 0 0 0 0 0 0 GET" };
	struct traffic_access_line l;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		assert_false(traffic_access_parse(str_c(lines[i]), &l));
	/* any bytes */
	srand(7);
	for (int i = 0; i < 20000; i++) {
		char bytes[64];
		size_t len = (size_t)rand() % sizeof(bytes);
		for (size_t k = 0; k < len; k++)
			bytes[k] = (char)(rand() % 3 ? ' ' : rand());
		(void)traffic_access_parse((str){ bytes, len }, &l);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_line_is_read),
		cmocka_unit_test(relays_and_odd_frontends),
		cmocka_unit_test(nothing_else_is),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
