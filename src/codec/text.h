/* Text forms of bytes: hexadecimal, base64, percent-encoding, UTF-8. */
#pragma once

#include "base/buf.h"

/* Lower-case digits appended to INTO. */
void text_add_hex(struct buf *into, str bytes);
/* Either case; false for an odd length or another character. */
bool text_from_hex(str s, struct buf *into);

enum text_base64 { TEXT_BASE64, TEXT_BASE64_URL /* without padding */ };
void text_add_base64(struct buf *into, str bytes, enum text_base64 variant);
/* Strict: padding as the variant has it, no white space. */
bool text_from_base64(str s, enum text_base64 variant, struct buf *into);

/* Everything but unreserved characters as %XX, for one path segment or query value. */
void text_add_percent(struct buf *into, str s);
/* %XX become bytes, `+` stays; false for a % without two digits. */
bool text_from_percent(str s, struct buf *into);

/* The length of the UTF-8 sequence at the front of S; 0 when it is malformed or S is empty. */
size_t text_utf8_step(str s);
bool text_is_utf8(str s);
/* POINT as UTF-8; false for what is no character (surrogates, past U+10FFFF). */
bool text_add_utf8(struct buf *into, uint32_t point);
