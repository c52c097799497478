#include "codec/digest.h"

#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"

static const char prefix[] = "sha256:";

/* OpenSSL's older interface on purpose: the same assembly, without loading a provider, which would
 * cost an idle daemon 2 MB. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

struct digest_state digest_state_init(void)
{
	struct digest_state s = { must_calloc(1, sizeof(SHA256_CTX)) };
	digest_state_reset(&s);
	return s;
}

void digest_state_reset(struct digest_state *s)
{
	int started = SHA256_Init(s->ctx);
	must(started == 1);
}

void digest_state_add(struct digest_state *s, str bytes)
{
	int added = SHA256_Update(s->ctx, bytes.ptr, bytes.len);
	must(added == 1);
}

struct digest digest_state_finish(struct digest_state *s)
{
	struct digest d;
	int finished = SHA256_Final(d.bytes, s->ctx);
	must(finished == 1);
	return d;
}

void digest_state_done(struct digest_state *s)
{
	if (!s)
		return;
	free(s->ctx);
	s->ctx = NULL;
}

struct digest digest_of(str bytes)
{
	struct digest_state s CLEANUP(digest_state_done) = digest_state_init();
	digest_state_add(&s, bytes);
	return digest_state_finish(&s);
}

bool digest_eq(const struct digest *a, const struct digest *b)
{
	return memcmp(a->bytes, b->bytes, DIGEST_BYTES) == 0;
}

const char *digest_hex(const struct digest *d, char text[static DIGEST_HEX_SIZE])
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < DIGEST_BYTES; i++) {
		text[2 * i] = digits[d->bytes[i] >> 4];
		text[2 * i + 1] = digits[d->bytes[i] & 15];
	}
	text[DIGEST_HEX_SIZE - 1] = '\0';
	return text;
}

const char *digest_text(const struct digest *d, char text[static DIGEST_TEXT_SIZE])
{
	memcpy(text, prefix, sizeof(prefix) - 1);
	digest_hex(d, text + sizeof(prefix) - 1);
	return text;
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool digest_parse_hex(str s, struct digest *ret_digest)
{
	struct digest d;
	if (s.len != DIGEST_HEX_SIZE - 1)
		return false;
	for (size_t i = 0; i < DIGEST_BYTES; i++) {
		int high = hex_value(s.ptr[2 * i]), low = hex_value(s.ptr[2 * i + 1]);
		if (high < 0 || low < 0)
			return false;
		d.bytes[i] = (uint8_t)(high << 4 | low);
	}
	*ret_digest = d;
	return true;
}

bool digest_parse(str s, struct digest *ret_digest)
{
	if (!str_starts(s, str_c(prefix)))
		return false;
	return digest_parse_hex((str){ s.ptr + sizeof(prefix) - 1, s.len - sizeof(prefix) + 1 },
				ret_digest);
}
