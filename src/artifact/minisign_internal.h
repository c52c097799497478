/* The byte layouts of minisign's files. Used by signing.c alone. */
#pragma once

#include <assert.h>
#include <sodium.h>

#include "base/buf.h"

enum { KEY_ID_BYTES = 8, KEY_CHECK_BYTES = crypto_generichash_BYTES };

struct minisign_public {
	uint8_t algorithm[2]; /* "Ed" */
	uint8_t key_id[KEY_ID_BYTES];
	uint8_t key[crypto_sign_PUBLICKEYBYTES];
};
static_assert(sizeof(struct minisign_public) == 42, "minisign's public key");

struct minisign_secret {
	uint8_t algorithm[2];       /* "Ed" */
	uint8_t kdf_algorithm[2];   /* zero: not encrypted */
	uint8_t check_algorithm[2]; /* "B2" */
	uint8_t kdf_parameters[48];
	uint8_t key_id[KEY_ID_BYTES];
	uint8_t key[crypto_sign_SECRETKEYBYTES];
	uint8_t check[KEY_CHECK_BYTES]; /* BLAKE2b of algorithm, key_id, key */
};
static_assert(sizeof(struct minisign_secret) == 158, "minisign's secret key");

struct minisign_signature {
	uint8_t algorithm[2]; /* "ED": over the BLAKE2b-512 of the file */
	uint8_t key_id[KEY_ID_BYTES];
	uint8_t signature[crypto_sign_BYTES];
};
static_assert(sizeof(struct minisign_signature) == 74, "minisign's signature");

/* Cut the next line off *REST; it must begin with START, which is dropped. */
bool minisign_line(str *rest, str start, str *ret_line);
/* The whole of LINE as base64 of exactly SIZE bytes. */
bool minisign_base64(str line, void *bytes, size_t size);
void minisign_add_base64(struct buf *into, const void *bytes, size_t size);
/* minisign shows the id as a little-endian number. */
void minisign_key_id_text(const uint8_t id[static KEY_ID_BYTES], char text[static 17]);

/* The key file forms; false when the bytes are not one. */
bool minisign_public_parse(str text, struct minisign_public *ret_key);
void minisign_public_write(const struct minisign_public *key, struct buf *into);
bool minisign_secret_parse(str text, struct minisign_secret *ret_key);
void minisign_secret_write(const struct minisign_secret *key, struct buf *into);
void minisign_secret_seal(struct minisign_secret *key);
