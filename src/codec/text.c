#include "codec/text.h"

#include <sodium.h>
#include <string.h>

#include "base/checks.h"

void text_add_hex(struct buf *into, str bytes)
{
	static const char digits[] = "0123456789abcdef";
	char *dst = buf_reserve(into, bytes.len * 2);
	if (!dst)
		return;
	for (size_t i = 0; i < bytes.len; i++) {
		dst[2 * i] = digits[(unsigned char)bytes.ptr[i] >> 4];
		dst[2 * i + 1] = digits[bytes.ptr[i] & 15];
	}
	into->len += bytes.len * 2;
	into->ptr[into->len] = '\0';
}

bool text_from_hex(str s, struct buf *into)
{
	size_t len = 0;
	char *dst = s.len % 2 ? NULL : buf_reserve(into, s.len / 2);
	if (!dst)
		return false;
	if (sodium_hex2bin((unsigned char *)dst, s.len / 2, s.ptr, s.len, NULL, &len, NULL) != 0 ||
	    len != s.len / 2)
		return false;
	into->len += len;
	into->ptr[into->len] = '\0';
	return true;
}

static int sodium_variant(enum text_base64 variant)
{
	return variant == TEXT_BASE64 ? sodium_base64_VARIANT_ORIGINAL
				      : sodium_base64_VARIANT_URLSAFE_NO_PADDING;
}

void text_add_base64(struct buf *into, str bytes, enum text_base64 variant)
{
	size_t size = sodium_base64_encoded_len(bytes.len, sodium_variant(variant));
	char *dst = buf_reserve(into, size);
	if (!dst)
		return;
	sodium_bin2base64(dst, size, (const unsigned char *)bytes.ptr, bytes.len,
			  sodium_variant(variant));
	into->len += strlen(dst);
}

bool text_from_base64(str s, enum text_base64 variant, struct buf *into)
{
	size_t len = 0, size = s.len / 4 * 3 + 3;
	char *dst = buf_reserve(into, size);
	if (!dst || sodium_base642bin((unsigned char *)dst, size, s.ptr, s.len, NULL, &len, NULL,
				      sodium_variant(variant)) != 0)
		return false;
	/* libsodium 1.0.18 takes some bytes above 127 for others of the alphabet */
	for (size_t i = 0; i < s.len; i++)
		if ((unsigned char)s.ptr[i] > 127)
			return false;
	into->len += len;
	into->ptr[into->len] = '\0';
	return true;
}

void text_add_percent(struct buf *into, str s)
{
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.ptr[i];
		bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			     (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' || c == '~';
		if (plain)
			buf_add_byte(into, (char)c);
		else
			buf_printf(into, "%%%02X", c);
	}
}

bool text_from_percent(str s, struct buf *into)
{
	for (size_t i = 0; i < s.len; i++) {
		if (s.ptr[i] != '%') {
			buf_add_byte(into, s.ptr[i]);
			continue;
		}
		if (s.len - i < 3 || !text_from_hex((str){ s.ptr + i + 1, 2 }, into))
			return false;
		i += 2;
	}
	return !into->overflow;
}

/* RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF. */
size_t text_utf8_step(str s)
{
	const unsigned char *p = (const unsigned char *)s.ptr;
	if (s.len == 0)
		return 0;
	if (p[0] < 0x80)
		return 1;
	size_t len = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
	if (p[0] < 0xc2 || p[0] > 0xf4 || s.len < len)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
	    (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return len;
}

bool text_is_utf8(str s)
{
	while (s.len) {
		size_t step = text_utf8_step(s);
		if (!step)
			return false;
		s = (str){ s.ptr + step, s.len - step };
	}
	return true;
}

bool text_add_utf8(struct buf *into, uint32_t point)
{
	if (point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff))
		return false;
	if (point < 0x80) {
		buf_add_byte(into, (char)point);
		return true;
	}
	int more = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
	static const uint8_t heads[] = { 0, 0xc0, 0xe0, 0xf0 };
	buf_add_byte(into, (char)(heads[more] | point >> (6 * more)));
	while (more-- > 0)
		buf_add_byte(into, (char)(0x80 | (point >> (6 * more) & 0x3f)));
	return true;
}
