/*
 * Signatures of notifications, as pure functions.
 *
 * Source: Standard Webhooks 1.0.0: headers webhook-id, webhook-timestamp (seconds), and
 *   webhook-signature `v1,<base64 of HMAC-SHA256(secret, "id.timestamp.body")>`, several separated
 *   by spaces. A secret is `whsec_` and 24 to 64 bytes in base64.
 */
#pragma once

#include "base/str.h"

enum { WEBHOOK_SIGNATURE_SIZE = 3 + 44 + 1, WEBHOOK_SECRET_SIZE = 6 + 88 + 1 };

/* A new secret of 32 random bytes. */
void webhook_secret_new(char secret[static WEBHOOK_SECRET_SIZE]);
/* The value of webhook-signature. Errors: ERR_INVALID for a secret or id that cannot be; the secret
 * is not in the message. */
WARN_UNUSED errc webhook_sign(str secret, str id, int64_t timestamp_s, str body,
			      char ret_signature[static WEBHOOK_SIGNATURE_SIZE], struct err *e);
/* OK when one of SIGNATURES fits, compared in constant time, and TIMESTAMP_S is within TOLERANCE_S
 * of NOW_S. Errors: ERR_UNAUTHENTICATED. */
WARN_UNUSED errc webhook_verify(str secret, str id, int64_t timestamp_s, str body, str signatures,
				int64_t now_s, int64_t tolerance_s, struct err *e);
