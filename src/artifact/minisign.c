#include <stdio.h>
#include <string.h>

#include "artifact/minisign_internal.h"
#include "base/checks.h"

#define UNTRUSTED "untrusted comment: "

bool minisign_line(str *rest, str start, str *ret_line)
{
	str line;
	if (!str_split(rest, '\n', &line) || !str_starts(line, start))
		return false;
	if (line.len && line.ptr[line.len - 1] == '\r')
		line.len--;
	*ret_line = (str){ line.ptr + start.len, line.len - start.len };
	return true;
}

bool minisign_base64(str line, void *bytes, size_t size)
{
	char again[256];
	size_t len = 0;
	if (sodium_base642bin(bytes, size, line.ptr, line.len, NULL, &len, NULL,
			      sodium_base64_VARIANT_ORIGINAL) != 0 ||
	    len != size)
		return false;
	/* libsodium 1.0.18 takes some bytes above 127 for `/` and `+` */
	must(sodium_base64_ENCODED_LEN(size, sodium_base64_VARIANT_ORIGINAL) <= sizeof(again));
	sodium_bin2base64(again, sizeof(again), bytes, size, sodium_base64_VARIANT_ORIGINAL);
	bool same = str_eq_c(line, again);
	sodium_memzero(again, sizeof(again)); /* it may be the secret key */
	return same;
}

void minisign_add_base64(struct buf *into, const void *bytes, size_t size)
{
	char text[256];
	must(sodium_base64_ENCODED_LEN(size, sodium_base64_VARIANT_ORIGINAL) <= sizeof(text));
	sodium_bin2base64(text, sizeof(text), bytes, size, sodium_base64_VARIANT_ORIGINAL);
	buf_add_c(into, text);
	buf_add_byte(into, '\n');
	sodium_memzero(text, sizeof(text)); /* it may have been the secret key */
}

void minisign_key_id_text(const uint8_t id[static KEY_ID_BYTES], char text[static 17])
{
	for (size_t i = 0; i < KEY_ID_BYTES; i++)
		snprintf(text + 2 * i, 3, "%02X", id[KEY_ID_BYTES - 1 - i]);
}

bool minisign_public_parse(str text, struct minisign_public *ret_key)
{
	struct minisign_public key;
	str rest = text, line;
	if (!minisign_line(&rest, STR(UNTRUSTED), &line) || !minisign_line(&rest, STR(""), &line) ||
	    !minisign_base64(line, &key, sizeof(key)) || memcmp(key.algorithm, "Ed", 2) != 0)
		return false;
	*ret_key = key;
	return true;
}

void minisign_public_write(const struct minisign_public *key, struct buf *into)
{
	char id[17];
	minisign_key_id_text(key->key_id, id);
	buf_printf(into, UNTRUSTED "minisign public key %s\n", id);
	minisign_add_base64(into, key, sizeof(*key));
}

static void secret_check(const struct minisign_secret *key, uint8_t check[static KEY_CHECK_BYTES])
{
	crypto_generichash_state state;
	crypto_generichash_init(&state, NULL, 0, KEY_CHECK_BYTES);
	crypto_generichash_update(&state, key->algorithm, sizeof(key->algorithm));
	crypto_generichash_update(&state, key->key_id, sizeof(key->key_id));
	crypto_generichash_update(&state, key->key, sizeof(key->key));
	crypto_generichash_final(&state, check, KEY_CHECK_BYTES);
}

void minisign_secret_seal(struct minisign_secret *key)
{
	secret_check(key, key->check);
}

bool minisign_secret_parse(str text, struct minisign_secret *ret_key)
{
	static const uint8_t not_encrypted[2] = { 0, 0 };
	struct minisign_secret key;
	uint8_t check[KEY_CHECK_BYTES];
	str rest = text, line;
	bool ok = minisign_line(&rest, STR(UNTRUSTED), &line) &&
		  minisign_line(&rest, STR(""), &line) &&
		  minisign_base64(line, &key, sizeof(key)) && memcmp(key.algorithm, "Ed", 2) == 0 &&
		  memcmp(key.kdf_algorithm, not_encrypted, 2) == 0 &&
		  memcmp(key.check_algorithm, "B2", 2) == 0;
	if (ok) {
		secret_check(&key, check);
		ok = sodium_memcmp(check, key.check, sizeof(check)) == 0;
	}
	if (ok)
		*ret_key = key;
	sodium_memzero(&key, sizeof(key));
	return ok;
}

void minisign_secret_write(const struct minisign_secret *key, struct buf *into)
{
	buf_add_c(into, UNTRUSTED "minisign unencrypted secret key\n");
	minisign_add_base64(into, key, sizeof(*key));
}
