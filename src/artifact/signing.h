/*
 * The installation's Ed25519 key, and detached signatures in minisign's format.
 *
 * Shape: FOLDER/artifact.key (0600, minisign secret key without password), FOLDER/artifact.pub,
 *   FOLDER/trusted/<key id>.pub for every further key whose signatures are accepted: keys rotated
 *   out and keys of other installations. `minisign -V -p artifact.pub` verifies what is signed
 * here. Source: https://jedisct1.github.io/minisign/ (prehashed signatures, algorithm `ED`).
 * Limits: 64 trusted keys; files of 4 KiB; a trusted comment of 1 KiB.
 * Threads: signing and verifying from any; opening and rotating from one.
 */
#pragma once

#include "base/arena.h"
#include "base/buf.h"

struct signing;

enum { SIGNING_KEY_ID_SIZE = 17, SIGNING_COMMENT_MAX = 1024, SIGNATURE_FILE_MAX = 4096 };

/*
 * Open the keys in FOLDER; the first time, create the folder (0700) and the key.
 * Owns: signing_close(). Errors: ERR_FORBIDDEN when others may read the key, ERR_CORRUPT when a key
 * file is damaged.
 */
WARN_UNUSED errc signing_open(const char *folder, struct signing **ret_signing, struct err *e);
void signing_close(struct signing *s);

/* Replace the key by a new one; the old one stays trusted. Durable: when OK. */
WARN_UNUSED errc signing_rotate(struct signing *s, struct err *e);
/* Accept signatures of the minisign public key file TEXT from now on. Durable: when OK. */
WARN_UNUSED errc signing_trust(struct signing *s, str text, struct err *e);

/* The present key's id as minisign shows it: 16 hexadecimal digits. */
const char *signing_key_id(const struct signing *s, char text[static SIGNING_KEY_ID_SIZE]);
/* The present public key as a minisign file. */
void signing_public_key(const struct signing *s, struct buf *into);

/* The signature file for BYTES appended to INTO; COMMENT (printable, one line) is signed too. */
WARN_UNUSED errc signing_sign(const struct signing *s, str bytes, str comment, struct buf *into,
			      struct err *e);

/*
 * Check the signature file FILE against BYTES and the trusted keys; *RET_COMMENT is the trusted
 * comment, a view into FILE.
 * Errors: ERR_CORRUPT when bytes, comment or signature were changed; ERR_FORBIDDEN when the key is
 * not trusted.
 */
WARN_UNUSED errc signing_verify(const struct signing *s, str bytes, str file, str *ret_comment,
				struct err *e);
