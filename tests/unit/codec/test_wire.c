#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codec/wire.h"

static void add_sample(struct buf *b, size_t padding)
{
	char text[300];
	memset(text, 'x', sizeof(text));
	size_t outer = wire_begin(b, 1);
	wire_add_sint(b, 2, -3);
	size_t inner = wire_begin(b, 3);
	wire_add_bytes(b, 4, (str){ text, padding });
	wire_end(b, inner);
	wire_end(b, outer);
	wire_add_double(b, 5, 0.5);
	wire_add_fixed32(b, 6, 7);
	wire_add_int(b, 536870911, -1);
}

static void a_message_comes_back(void **state)
{
	(void)state;
	for (size_t padding = 0; padding < 300; padding++) {
		struct buf b = buf_init(1000);
		struct wire_field f, g;
		add_sample(&b, padding);
		struct reader r = reader_init(buf_str(&b));
		assert_true(wire_next(&r, &f) && f.key == WIRE_KEY(1, WIRE_BYTES));
		struct reader outer = wire_message(&f);
		assert_true(wire_next(&outer, &g) && wire_sint(&g) == -3);
		assert_true(wire_next(&outer, &g) && g.key == WIRE_KEY(3, WIRE_BYTES));
		struct reader inner = wire_message(&g);
		assert_true(wire_next(&inner, &g) && g.bytes.len == padding);
		assert_false(wire_next(&inner, &g) || inner.failed);
		assert_false(wire_next(&outer, &g) || outer.failed);
		assert_true(wire_next(&r, &f) && wire_double(&f) == 0.5);
		assert_true(wire_next(&r, &f) && f.value == 7);
		assert_true(wire_next(&r, &f) && wire_int(&f) == -1);
		assert_int_equal(wire_number(&f), 536870911);
		assert_false(wire_next(&r, &f) || r.failed);
		buf_done(&b);
	}
}

static void packed_and_single_read_alike(void **state)
{
	(void)state;
	struct buf b = buf_init(100);
	struct wire_field f;
	uint64_t v, sum = 0;
	wire_add_varint(&b, 3, 1000);
	size_t mark = wire_begin(&b, 3);
	for (uint64_t i = 0; i < 5; i++)
		buf_add_varint(&b, i * 100);
	wire_end(&b, mark);
	struct reader r = reader_init(buf_str(&b));
	while (wire_next(&r, &f))
		while (wire_next_varint(&r, &f, &v))
			sum += v;
	assert_false(r.failed);
	assert_int_equal(sum, 2000);
	buf_done(&b);
	/* a packed double cut in the middle */
	r = reader_init((str){ "\x1a\x03"
			       "abc",
			       5 });
	assert_true(wire_next(&r, &f));
	assert_false(wire_next_fixed64(&r, &f, &v));
	assert_true(r.failed);
}

static void malformed_fails(void **state)
{
	(void)state;
	static const str bad[] = {
		{ "\x0b", 1 },     /* a group */
		{ "\x00\x01", 2 }, /* field 0 */
		{ "\x0a\x05"
		  "abc",
		  5 }, /* longer than the message */
		{ "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11 },
		{ "\x80\x80\x80\x80\x10\x01", 6 }, /* field 2^29 */
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct wire_field f;
		struct reader r = reader_init(bad[i]);
		assert_false(wire_next(&r, &f));
		assert_true(r.failed);
	}
}

static void any_bytes_end(void **state)
{
	(void)state;
	struct buf b = buf_init(1000);
	struct wire_field f;
	add_sample(&b, 200);
	for (size_t cut = 0; cut < b.len; cut++) {
		char *copy = malloc(cut + 1);
		memcpy(copy, b.ptr, cut);
		for (unsigned bit = 0; bit < 8; bit++) {
			if (cut)
				copy[cut / 2] = (char)(copy[cut / 2] ^ 1 << bit);
			struct reader r = reader_init((str){ copy, cut });
			size_t fields = 0;
			while (wire_next(&r, &f))
				fields++;
			assert_true(fields <= cut && reader_left(&r) == 0);
		}
		free(copy);
	}
	buf_done(&b);
}

static void a_full_buf_is_told(void **state)
{
	(void)state;
	for (size_t cap = 0; cap < 230; cap++) {
		struct buf b = buf_init(cap);
		add_sample(&b, 200);
		assert_true(b.overflow);
		buf_done(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_message_comes_back),
		cmocka_unit_test(packed_and_single_read_alike),
		cmocka_unit_test(malformed_fails),
		cmocka_unit_test(any_bytes_end),
		cmocka_unit_test(a_full_buf_is_told),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
