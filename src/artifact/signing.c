#include "artifact/signing.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "artifact/minisign_internal.h"
#include "base/checks.h"
#include "os/clock.h"
#include "os/io.h"

enum { TRUSTED_COUNT_MAX = 64, KEY_FILE_MAX = 4096 };

struct signing {
	char folder[IO_PATH_MAX];
	struct minisign_secret secret;
	struct minisign_public own;
	struct minisign_public trusted[TRUSTED_COUNT_MAX];
	size_t trusted_count;
	pthread_rwlock_t lock; /* over the keys: rotation against signing */
};

WARN_UNUSED static errc path_of(const struct signing *s, const char *name, char path[IO_PATH_MAX],
				struct err *e)
{
	if (snprintf(path, IO_PATH_MAX, "%s/%s", s->folder, name) >= IO_PATH_MAX)
		FAIL(e, ERR_LIMIT, "the path %.60s… is too long", s->folder);
	return OK;
}

/* The buffer may have held the key. */
static void wipe_buf(struct buf *b)
{
	if (b->ptr)
		sodium_memzero(b->ptr, b->size);
	buf_done(b);
}

static void derive_public(const struct minisign_secret *secret, struct minisign_public *ret_public)
{
	memcpy(ret_public->algorithm, secret->algorithm, sizeof(ret_public->algorithm));
	memcpy(ret_public->key_id, secret->key_id, sizeof(ret_public->key_id));
	crypto_sign_ed25519_sk_to_pk(ret_public->key, secret->key);
}

static errc write_public(const struct signing *s, struct err *e)
{
	char path[IO_PATH_MAX];
	struct buf text CLEANUP(buf_done) = buf_init(KEY_FILE_MAX);
	minisign_public_write(&s->own, &text);
	TRY(buf_check(&text, "a public key", e));
	TRY(path_of(s, "artifact.pub", path, e));
	return io_write_file(path, buf_str(&text), 0644, e);
}

/* A new pair in S; the secret reaches the disk before the public half can be handed out. */
static errc create_key(struct signing *s, struct err *e)
{
	char path[IO_PATH_MAX];
	struct minisign_secret secret = { .algorithm = { 'E', 'd' },
					  .check_algorithm = { 'B', '2' } };
	uint8_t public_key[crypto_sign_PUBLICKEYBYTES];
	struct buf text CLEANUP(wipe_buf) = buf_init(KEY_FILE_MAX);
	buf_reserve(&text, 1024); /* it must not move: the old place could not be wiped */
	crypto_sign_keypair(public_key, secret.key);
	entropy_fill(secret.key_id, sizeof(secret.key_id));
	minisign_secret_seal(&secret);
	minisign_secret_write(&secret, &text);
	errc rc = path_of(s, "artifact.key", path, e);
	if (rc == OK)
		rc = io_write_file(path, buf_str(&text), 0600, e);
	if (rc == OK) {
		s->secret = secret;
		derive_public(&s->secret, &s->own);
		rc = write_public(s, e);
	}
	sodium_memzero(&secret, sizeof(secret));
	return rc;
}

static errc load_key(struct signing *s, const char *path, struct err *e)
{
	struct buf text CLEANUP(wipe_buf) = buf_init(KEY_FILE_MAX);
	buf_reserve(&text, KEY_FILE_MAX);
	TRY(io_read_file(path, &text, e));
	if (!minisign_secret_parse(buf_str(&text), &s->secret))
		FAIL(e, ERR_CORRUPT,
		     "%s is not an unencrypted minisign key or is damaged; restore it from a "
		     "backup, or move it away for a new one (earlier artifacts then need their "
		     "public key in %s/trusted)",
		     path, s->folder);
	derive_public(&s->secret, &s->own);
	return OK;
}

/* After a crash between the two writes of a rotation the public half on disk is the old one. */
static errc repair_public(const struct signing *s, struct err *e)
{
	char path[IO_PATH_MAX];
	struct minisign_public on_disk = { { 0 } };
	struct buf text CLEANUP(buf_done) = buf_init(KEY_FILE_MAX);
	TRY(path_of(s, "artifact.pub", path, e));
	errc rc = io_read_file(path, &text, e);
	if (rc != OK && rc != ERR_NOT_FOUND && rc != ERR_LIMIT)
		return rc;
	if (rc == OK && minisign_public_parse(buf_str(&text), &on_disk) &&
	    memcmp(&on_disk, &s->own, sizeof(on_disk)) == 0)
		return OK;
	return write_public(s, e);
}

static bool is_trusted(const struct signing *s, const struct minisign_public *key)
{
	for (size_t i = 0; i < s->trusted_count; i++)
		if (memcmp(&s->trusted[i], key, sizeof(*key)) == 0)
			return true;
	return false;
}

static errc add_trusted(struct signing *s, const struct minisign_public *key, struct err *e)
{
	if (is_trusted(s, key))
		return OK;
	if (s->trusted_count == TRUSTED_COUNT_MAX)
		FAIL(e, ERR_LIMIT,
		     "%s/trusted holds more than %d keys; remove those no artifact needs any more",
		     s->folder, TRUSTED_COUNT_MAX);
	s->trusted[s->trusted_count++] = *key;
	return OK;
}

static errc load_trusted_file(struct signing *s, const char *folder, const char *name,
			      struct err *e)
{
	char path[IO_PATH_MAX];
	struct minisign_public key;
	struct buf text CLEANUP(buf_done) = buf_init(KEY_FILE_MAX);
	if (snprintf(path, sizeof(path), "%s/%s", folder, name) >= (int)sizeof(path))
		FAIL(e, ERR_LIMIT, "the path %.60s… is too long", folder);
	TRY(io_read_file(path, &text, e));
	if (!minisign_public_parse(buf_str(&text), &key))
		FAIL(e, ERR_CORRUPT, "%s is not a minisign public key; mend or remove it", path);
	return add_trusted(s, &key, e);
}

static errc load_trusted(struct signing *s, struct err *e)
{
	char folder[IO_PATH_MAX];
	struct dirent **names = NULL;
	TRY(path_of(s, "trusted", folder, e));
	int count = scandir(folder, &names, NULL, alphasort);
	if (count < 0 && errno == ENOENT)
		return OK;
	if (count < 0)
		FAIL_ERRNO(e, "cannot list %s", folder);
	errc rc = OK;
	for (int i = 0; i < count; i++) {
		if (rc == OK && str_ends(str_c(names[i]->d_name), STR(".pub")))
			rc = load_trusted_file(s, folder, names[i]->d_name, e);
		free(names[i]);
	}
	free(names);
	return rc;
}

static errc open_keys(struct signing *s, struct err *e)
{
	char path[IO_PATH_MAX];
	struct stat st;
	TRY(io_make_dirs(s->folder, 0700, e));
	TRY(path_of(s, "artifact.key", path, e));
	if (lstat(path, &st) < 0) {
		if (errno != ENOENT)
			FAIL_ERRNO(e, "cannot stat %s", path);
		TRY(create_key(s, e));
		return load_trusted(s, e);
	}
	if (st.st_mode & 077)
		FAIL(e, ERR_FORBIDDEN,
		     "the signing key %s can be read by other users; run `chmod 600 %s` and, if "
		     "somebody may have read it, rotate it",
		     path, path);
	TRY(load_key(s, path, e));
	TRY(repair_public(s, e));
	return load_trusted(s, e);
}

errc signing_open(const char *folder, struct signing **ret_signing, struct err *e)
{
	if (sodium_init() < 0)
		FAIL(e, ERR_INTERNAL, "libsodium cannot start on this machine");
	struct signing *s = must_calloc(1, sizeof(*s));
	pthread_rwlock_init(&s->lock, NULL);
	errc rc = str_copy(str_c(folder), s->folder, sizeof(s->folder))
			  ? open_keys(s, e)
			  : err_fill(e, ERR_LIMIT, 0, __FILE__, __LINE__,
				     "the path %.60s… is too long", folder);
	if (rc != OK) {
		signing_close(s);
		return rc;
	}
	*ret_signing = s;
	return OK;
}

void signing_close(struct signing *s)
{
	if (!s)
		return;
	pthread_rwlock_destroy(&s->lock);
	sodium_memzero(s, sizeof(*s));
	free(s);
}

/* Put KEY among the trusted ones, on disk and here. */
static errc trust_key(struct signing *s, const struct minisign_public *key, struct err *e)
{
	char name[64], path[IO_PATH_MAX], id[SIGNING_KEY_ID_SIZE];
	struct buf text CLEANUP(buf_done) = buf_init(KEY_FILE_MAX);
	if (is_trusted(s, key))
		return OK;
	if (s->trusted_count == TRUSTED_COUNT_MAX)
		return add_trusted(s, key, e);
	TRY(path_of(s, "trusted", path, e));
	TRY(io_make_dirs(path, 0700, e));
	minisign_key_id_text(key->key_id, id);
	snprintf(name, sizeof(name), "trusted/%s.pub", id);
	minisign_public_write(key, &text);
	TRY(path_of(s, name, path, e));
	TRY(io_write_file(path, buf_str(&text), 0644, e));
	return add_trusted(s, key, e);
}

errc signing_rotate(struct signing *s, struct err *e)
{
	pthread_rwlock_wrlock(&s->lock);
	struct minisign_public old = s->own;
	errc rc = trust_key(s, &old, e);
	if (rc == OK)
		rc = create_key(s, e);
	pthread_rwlock_unlock(&s->lock);
	return rc;
}

errc signing_trust(struct signing *s, str text, struct err *e)
{
	struct minisign_public key;
	if (text.len > KEY_FILE_MAX || !minisign_public_parse(text, &key))
		FAIL(e, ERR_INVALID,
		     "that is not a minisign public key: two lines, the second of base64");
	pthread_rwlock_wrlock(&s->lock);
	errc rc = trust_key(s, &key, e);
	pthread_rwlock_unlock(&s->lock);
	return rc;
}

static void lock_shared(const struct signing *s)
{
	pthread_rwlock_rdlock((pthread_rwlock_t *)&s->lock);
}

static void unlock_shared(const struct signing *s)
{
	pthread_rwlock_unlock((pthread_rwlock_t *)&s->lock);
}

const char *signing_key_id(const struct signing *s, char text[static SIGNING_KEY_ID_SIZE])
{
	lock_shared(s);
	minisign_key_id_text(s->own.key_id, text);
	unlock_shared(s);
	return text;
}

void signing_public_key(const struct signing *s, struct buf *into)
{
	lock_shared(s);
	minisign_public_write(&s->own, into);
	unlock_shared(s);
}

static bool comment_ok(str comment)
{
	for (size_t i = 0; i < comment.len; i++)
		if ((unsigned char)comment.ptr[i] < 0x20 && comment.ptr[i] != '\t')
			return false;
	return comment.len <= SIGNING_COMMENT_MAX;
}

/* The second signature covers the first and the comment: its bytes in one piece. */
static void comment_message(const struct minisign_signature *signature, str comment,
			    struct buf *ret_message)
{
	buf_add(ret_message, (str){ (const char *)signature->signature, crypto_sign_BYTES });
	buf_add(ret_message, comment);
}

errc signing_sign(const struct signing *s, str bytes, str comment, struct buf *into, struct err *e)
{
	uint8_t hash[crypto_generichash_BYTES_MAX], second[crypto_sign_BYTES];
	struct minisign_signature signature = { .algorithm = { 'E', 'D' } };
	struct buf message CLEANUP(buf_done) = buf_init(crypto_sign_BYTES + SIGNING_COMMENT_MAX);
	if (!comment_ok(comment))
		FAIL(e, ERR_INVALID, "a trusted comment is one line of at most %d bytes",
		     SIGNING_COMMENT_MAX);
	crypto_generichash(hash, sizeof(hash), (const uint8_t *)bytes.ptr, bytes.len, NULL, 0);
	lock_shared(s);
	memcpy(signature.key_id, s->own.key_id, sizeof(signature.key_id));
	crypto_sign_detached(signature.signature, NULL, hash, sizeof(hash), s->secret.key);
	comment_message(&signature, comment, &message);
	crypto_sign_detached(second, NULL, (const uint8_t *)message.ptr, message.len,
			     s->secret.key);
	unlock_shared(s);
	buf_add_c(into, "untrusted comment: signature from holdfast\n");
	minisign_add_base64(into, &signature, sizeof(signature));
	buf_add_c(into, "trusted comment: ");
	buf_add(into, comment);
	buf_add_byte(into, '\n');
	minisign_add_base64(into, second, sizeof(second));
	return buf_check(into, "a signature", e);
}

static bool find_key(const struct signing *s, const uint8_t id[static KEY_ID_BYTES],
		     struct minisign_public *ret_key)
{
	lock_shared(s);
	bool found = memcmp(s->own.key_id, id, KEY_ID_BYTES) == 0;
	if (found)
		*ret_key = s->own;
	for (size_t i = 0; i < s->trusted_count && !found; i++) {
		found = memcmp(s->trusted[i].key_id, id, KEY_ID_BYTES) == 0;
		if (found)
			*ret_key = s->trusted[i];
	}
	unlock_shared(s);
	return found;
}

errc signing_verify(const struct signing *s, str bytes, str file, str *ret_comment, struct err *e)
{
	struct minisign_signature signature;
	struct minisign_public key;
	uint8_t hash[crypto_generichash_BYTES_MAX], second[crypto_sign_BYTES];
	struct buf message CLEANUP(buf_done) = buf_init(crypto_sign_BYTES + SIGNING_COMMENT_MAX);
	str rest = file, line, comment;
	if (file.len > SIGNATURE_FILE_MAX ||
	    !minisign_line(&rest, STR("untrusted comment: "), &line) ||
	    !minisign_line(&rest, STR(""), &line) ||
	    !minisign_base64(line, &signature, sizeof(signature)) ||
	    memcmp(signature.algorithm, "ED", 2) != 0 ||
	    !minisign_line(&rest, STR("trusted comment: "), &comment) || !comment_ok(comment) ||
	    !minisign_line(&rest, STR(""), &line) ||
	    !minisign_base64(line, second, sizeof(second)) || str_trim(rest).len)
		FAIL(e, ERR_CORRUPT, "the signature is not a minisign signature file");
	if (!find_key(s, signature.key_id, &key)) {
		char id[SIGNING_KEY_ID_SIZE];
		minisign_key_id_text(signature.key_id, id);
		FAIL(e, ERR_FORBIDDEN,
		     "it is signed by the key %s, which is not trusted here; put that public key "
		     "into %s/trusted if it should be",
		     id, s->folder);
	}
	crypto_generichash(hash, sizeof(hash), (const uint8_t *)bytes.ptr, bytes.len, NULL, 0);
	comment_message(&signature, comment, &message);
	if (crypto_sign_verify_detached(signature.signature, hash, sizeof(hash), key.key) != 0)
		FAIL(e, ERR_CORRUPT, "the bytes are not those that were signed");
	if (crypto_sign_verify_detached(second, (const uint8_t *)message.ptr, message.len,
					key.key) != 0)
		FAIL(e, ERR_CORRUPT, "the comment of the signature was changed");
	*ret_comment = comment;
	return OK;
}
