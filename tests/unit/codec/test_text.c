#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/checks.h"
#include "codec/text.h"

/* RFC 4648, section 10. */
static const char *const vectors[][2] = {
	{ "", "" },
	{ "f", "Zg==" },
	{ "fo", "Zm8=" },
	{ "foo", "Zm9v" },
	{ "foob", "Zm9vYg==" },
	{ "fooba", "Zm9vYmE=" },
	{ "foobar", "Zm9vYmFy" },
};

static void base64_is_strict(void **state)
{
	(void)state;
	static const char *const wrong[] = {
		"Zg", "Zg=", "Zg===", "Zh==", "Z g=", "Zm9v\n", "Zm9-"
	};
	struct buf b = buf_init(100);
	for (size_t i = 0; i < ARRAY_COUNT(vectors); i++) {
		buf_clear(&b);
		text_add_base64(&b, str_c(vectors[i][0]), TEXT_BASE64);
		assert_string_equal(buf_cstr(&b), vectors[i][1]);
		buf_clear(&b);
		assert_true(text_from_base64(str_c(vectors[i][1]), TEXT_BASE64, &b));
		assert_string_equal(buf_cstr(&b), vectors[i][0]);
	}
	for (size_t i = 0; i < ARRAY_COUNT(wrong); i++)
		assert_false(text_from_base64(str_c(wrong[i]), TEXT_BASE64, &b));
	buf_clear(&b);
	text_add_base64(&b, STR("\xff\xfe"), TEXT_BASE64_URL);
	assert_string_equal(buf_cstr(&b), "__4");
	assert_false(text_from_base64(STR("__4="), TEXT_BASE64_URL, &b));
	buf_done(&b);
}

static void hex_takes_whole_bytes(void **state)
{
	(void)state;
	struct buf b = buf_init(4);
	text_add_hex(&b, STR("\x00\xaf"));
	assert_string_equal(buf_cstr(&b), "00af");
	buf_clear(&b);
	assert_true(text_from_hex(STR("00aFff"), &b));
	assert_memory_equal(b.ptr, "\x00\xaf\xff", 3);
	assert_false(text_from_hex(STR("abc"), &b));
	assert_false(text_from_hex(STR("0g"), &b));
	buf_clear(&b);
	assert_false(text_from_hex(STR("0011223344"), &b));
	buf_done(&b);
}

static void percent_comes_back(void **state)
{
	(void)state;
	struct buf b = buf_init(1000), back = buf_init(1000);
	char all[256];
	for (size_t i = 0; i < sizeof(all); i++)
		all[i] = (char)i;
	text_add_percent(&b, STR("a b/\xc3\xbc~"));
	assert_string_equal(buf_cstr(&b), "a%20b%2F%C3%BC~");
	buf_clear(&b);
	text_add_percent(&b, (str){ all, sizeof(all) });
	assert_true(text_from_percent(buf_str(&b), &back));
	assert_int_equal(back.len, sizeof(all));
	assert_memory_equal(back.ptr, all, sizeof(all));
	buf_clear(&back);
	assert_true(text_from_percent(STR("%c3+"), &back));
	assert_string_equal(buf_cstr(&back), "\xc3+");
	assert_false(text_from_percent(STR("%"), &back));
	assert_false(text_from_percent(STR("%4"), &back));
	assert_false(text_from_percent(STR("%zz"), &back));
	buf_done(&back);
	buf_done(&b);
}

/* Every code point by its definition, and what RFC 3629 forbids. */
static void utf8_is_judged(void **state)
{
	(void)state;
	static const char *const wrong[] = { "\x80",
					     "\xc0\x80",
					     "\xc1\xbf",
					     "\xe0\x9f\xbf",
					     "\xed\xa0\x80",
					     "\xf0\x8f\xbf\xbf",
					     "\xf4\x90\x80\x80",
					     "\xf5\x80\x80\x80",
					     "\xc3",
					     "\xe2\x82",
					     "\xff" };
	for (size_t i = 0; i < ARRAY_COUNT(wrong); i++)
		assert_false(text_is_utf8(str_c(wrong[i])));
	for (uint32_t c = 1; c <= 0x10ffff; c++) {
		char s[4];
		size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
		static const unsigned char lead[] = { 0, 0, 0xc0, 0xe0, 0xf0 };
		for (size_t i = n; i-- > 1;)
			s[i] = (char)(0x80 | ((c >> (6 * (n - 1 - i))) & 0x3f));
		s[0] = (char)(lead[n] | (c >> (6 * (n - 1))));
		bool surrogate = c >= 0xd800 && c <= 0xdfff;
		if (text_utf8_step((str){ s, n }) != (surrogate ? 0 : n))
			fail_msg("U+%04X", c);
	}
	assert_true(text_is_utf8(STR("")));
}

/* Every code point and what is none; the bytes are compared with the definition of RFC 3629. */
static void utf8_is_written(void **state)
{
	(void)state;
	static const struct {
		uint32_t point;
		const char *bytes;
	} known[] = { { 0x24, "$" },
		      { 0x7f, "\x7f" },
		      { 0x80, "\xc2\x80" },
		      { 0x7ff, "\xdf\xbf" },
		      { 0x800, "\xe0\xa0\x80" },
		      { 0x20ac, "\xe2\x82\xac" },
		      { 0xffff, "\xef\xbf\xbf" },
		      { 0x10000, "\xf0\x90\x80\x80" },
		      { 0x10ffff, "\xf4\x8f\xbf\xbf" } };
	struct buf b = buf_init(16);
	for (size_t i = 0; i < ARRAY_COUNT(known); i++) {
		buf_clear(&b);
		assert_true(text_add_utf8(&b, known[i].point));
		assert_string_equal(buf_cstr(&b), known[i].bytes);
	}
	for (uint32_t c = 0; c <= 0x110010; c++) {
		bool is_character = c <= 0x10ffff && (c < 0xd800 || c > 0xdfff);
		buf_clear(&b);
		if (text_add_utf8(&b, c) != is_character)
			fail_msg("U+%04X", c);
		if (is_character ? text_utf8_step(buf_str(&b)) != b.len : b.len != 0)
			fail_msg("U+%04X", c);
	}
	assert_false(text_add_utf8(&b, UINT32_MAX));
	buf_clear(&b);
	assert_true(text_add_utf8(&b, 0));
	assert_true(b.len == 1 && b.ptr[0] == '\0');
	buf_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(base64_is_strict),   cmocka_unit_test(hex_takes_whole_bytes),
		cmocka_unit_test(percent_comes_back), cmocka_unit_test(utf8_is_judged),
		cmocka_unit_test(utf8_is_written),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
