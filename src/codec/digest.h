/*
 * SHA-256 digests: of bytes, of files, and their text forms.
 *
 * Shape: `sha256:<64 lower-case hexadecimal digits>`; `sha256-<hex>` in file names.
 */
#pragma once

#include <stdint.h>

#include "base/str.h"

enum { DIGEST_BYTES = 32, DIGEST_HEX_SIZE = 65, DIGEST_TEXT_SIZE = 72 };

struct digest {
	uint8_t bytes[DIGEST_BYTES];
};

/* A digest in the making. Owns: digest_state_done(). */
struct digest_state {
	void *ctx;
};

struct digest_state digest_state_init(void);
/* Forget what was added and start again. */
void digest_state_reset(struct digest_state *s);
void digest_state_add(struct digest_state *s, str bytes);
/* The digest of everything added; the state may then be reset or done. */
struct digest digest_state_finish(struct digest_state *s);
void digest_state_done(struct digest_state *s);

struct digest digest_of(str bytes);
bool digest_eq(const struct digest *a, const struct digest *b);
/* The bare digits. */
const char *digest_hex(const struct digest *d, char text[static DIGEST_HEX_SIZE]);
/* With `sha256:` before them. */
const char *digest_text(const struct digest *d, char text[static DIGEST_TEXT_SIZE]);
/* The bare digits, lower case, exactly 64. */
bool digest_parse_hex(str s, struct digest *ret_digest);
/* `sha256:` and the digits. */
bool digest_parse(str s, struct digest *ret_digest);
