#include "net/webhook.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "base/checks.h"
#include "os/clock.h"

enum { KEY_BYTES_MIN = 24, KEY_BYTES_MAX = 64, ID_BYTES_MAX = 256, NEW_KEY_BYTES = 32 };

static const char prefix[] = "whsec_";

void webhook_secret_new(char secret[static WEBHOOK_SECRET_SIZE])
{
	unsigned char key[NEW_KEY_BYTES];
	entropy_fill(key, sizeof(key));
	memcpy(secret, prefix, sizeof(prefix) - 1);
	must(sodium_bin2base64(secret + sizeof(prefix) - 1,
			       WEBHOOK_SECRET_SIZE - sizeof(prefix) + 1, key, sizeof(key),
			       sodium_base64_VARIANT_ORIGINAL));
	sodium_memzero(key, sizeof(key));
}

static errc decode_secret(str secret, unsigned char key[static KEY_BYTES_MAX], size_t *ret_len,
			  struct err *e)
{
	size_t len = 0;
	if (str_starts(secret, STR("whsec_")))
		secret = (str){ secret.ptr + 6, secret.len - 6 };
	if (secret.len == 0 ||
	    sodium_base642bin(key, KEY_BYTES_MAX, secret.ptr, secret.len, NULL, &len, NULL,
			      sodium_base64_VARIANT_ORIGINAL) != 0 ||
	    len < KEY_BYTES_MIN)
		FAIL(e, ERR_INVALID,
		     "a webhook secret is `whsec_` and %d to %d bytes in base64; make a new one",
		     KEY_BYTES_MIN, KEY_BYTES_MAX);
	*ret_len = len;
	return OK;
}

errc webhook_sign(str secret, str id, int64_t timestamp_s, str body,
		  char ret_signature[static WEBHOOK_SIGNATURE_SIZE], struct err *e)
{
	unsigned char key[KEY_BYTES_MAX];
	unsigned char mac[crypto_auth_hmacsha256_BYTES];
	crypto_auth_hmacsha256_state state;
	char middle[32];
	size_t key_len = 0;
	/* a full stop in the id would let two messages have the same signed text */
	if (id.len == 0 || id.len > ID_BYTES_MAX || memchr(id.ptr, '.', id.len))
		FAIL(e, ERR_INVALID, "a webhook id has 1 to %d bytes and no full stop",
		     ID_BYTES_MAX);
	TRY(decode_secret(secret, key, &key_len, e));
	int middle_len = snprintf(middle, sizeof(middle), ".%lld.", (long long)timestamp_s);
	crypto_auth_hmacsha256_init(&state, key, key_len);
	crypto_auth_hmacsha256_update(&state, (const unsigned char *)id.ptr, id.len);
	crypto_auth_hmacsha256_update(&state, (const unsigned char *)middle,
				      (unsigned long long)middle_len);
	crypto_auth_hmacsha256_update(&state, (const unsigned char *)body.ptr, body.len);
	crypto_auth_hmacsha256_final(&state, mac);
	memcpy(ret_signature, "v1,", 3);
	must(sodium_bin2base64(ret_signature + 3, WEBHOOK_SIGNATURE_SIZE - 3, mac, sizeof(mac),
			       sodium_base64_VARIANT_ORIGINAL));
	sodium_memzero(key, sizeof(key));
	sodium_memzero(&state, sizeof(state));
	return OK;
}

errc webhook_verify(str secret, str id, int64_t timestamp_s, str body, str signatures,
		    int64_t now_s, int64_t tolerance_s, struct err *e)
{
	enum { SIGNATURE_COUNT_MAX = 16 };
	char mine[WEBHOOK_SIGNATURE_SIZE];
	str theirs;
	bool good = false;
	if (timestamp_s < 0 || now_s < 0 || tolerance_s < 0 ||
	    (timestamp_s > now_s ? timestamp_s - now_s : now_s - timestamp_s) > tolerance_s)
		FAIL(e, ERR_UNAUTHENTICATED,
		     "the webhook's timestamp is more than %lld s away; check both clocks",
		     (long long)tolerance_s);
	TRY(webhook_sign(secret, id, timestamp_s, body, mine, e));
	for (int i = 0; i < SIGNATURE_COUNT_MAX && str_split(&signatures, ' ', &theirs); i++)
		good |= theirs.len == sizeof(mine) - 1 &&
			sodium_memcmp(theirs.ptr, mine, sizeof(mine) - 1) == 0;
	if (!good)
		FAIL(e, ERR_UNAUTHENTICATED, "no signature of the webhook fits its secret");
	return OK;
}
