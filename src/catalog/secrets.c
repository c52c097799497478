#include "catalog/secrets.h"

#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/checks.h"
#include "catalog/catalog_internal.h"
#include "os/clock.h"
#include "os/io.h"

enum {
	NONCE_BYTES = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
	TAG_BYTES = crypto_aead_xchacha20poly1305_ietf_ABYTES,
	CONTEXT_SIZE = 512,
};

static_assert(crypto_aead_xchacha20poly1305_ietf_KEYBYTES == 32, "the key file holds 32 bytes");

errc secret_key_load(const char *data, unsigned char ret_key[static 32], struct err *e)
{
	char path[IO_PATH_MAX];
	struct buf bytes CLEANUP(buf_done) = buf_init(32);
	struct stat st;
	int n = snprintf(path, sizeof(path), "%s/keys/secret.key", data);
	if (n < 0 || n >= (int)sizeof(path))
		FAIL(e, ERR_LIMIT, "the data folder's path is too long");
	*strrchr(path, '/') = '\0';
	TRY(io_make_dirs(path, 0700, e));
	path[strlen(path)] = '/';
	if (lstat(path, &st) < 0) {
		if (errno != ENOENT)
			FAIL_ERRNO(e, "cannot stat %s", path);
		entropy_fill(ret_key, 32);
		return io_write_file(path, (str){ (const char *)ret_key, 32 }, 0600, e);
	}
	if (st.st_mode & 077)
		FAIL(e, ERR_FORBIDDEN,
		     "the key of the secrets %s can be read by other users; run `chmod 600 %s` "
		     "and, if somebody may have read it and the catalog, change the secrets",
		     path, path);
	if (st.st_size > 32)
		FAIL(e, ERR_CORRUPT,
		     "%s must hold 32 bytes but holds %lld; restore it from a backup", path,
		     (long long)st.st_size);
	TRY(io_read_file(path, &bytes, e));
	if (bytes.len != 32)
		FAIL(e, ERR_CORRUPT,
		     "%s must hold 32 bytes but holds %zu; restore it from a backup", path,
		     bytes.len);
	memcpy(ret_key, bytes.ptr, 32);
	sodium_memzero(bytes.ptr, bytes.len);
	return OK;
}

/* What is authenticated with a value, so that no row can stand for another. */
static size_t write_context(char context[static CONTEXT_SIZE], const char *app,
			    const char *environment, const char *name, int64_t version)
{
	int n = snprintf(context, CONTEXT_SIZE, "holdfast secret 1\n%s\n%s\n%s\n%lld", app,
			 environment, name, (long long)version);
	must(n > 0 && n < CONTEXT_SIZE);
	return (size_t)n;
}

/* nonce, then ciphertext with its tag */
static errc seal(struct catalog *c, str value, const char *app, const char *environment,
		 const char *name, int64_t version, struct buf *sealed, struct err *e)
{
	char context[CONTEXT_SIZE];
	size_t context_len = write_context(context, app, environment, name, version);
	size_t len = NONCE_BYTES + value.len + TAG_BYTES;
	unsigned char *at = (unsigned char *)buf_reserve(sealed, len);
	if (!at)
		return buf_check(sealed, "the secret", e);
	entropy_fill(at, NONCE_BYTES);
	crypto_aead_xchacha20poly1305_ietf_encrypt(
		at + NONCE_BYTES, NULL, (const unsigned char *)value.ptr, value.len,
		(const unsigned char *)context, context_len, NULL, at, catalog_secret_key(c));
	sealed->len += len;
	return OK;
}

static errc unseal(struct catalog *c, str sealed, const char *app, const char *environment,
		   const char *name, int64_t version, struct arena *scratch, str *ret_value,
		   struct err *e)
{
	char context[CONTEXT_SIZE];
	size_t context_len = write_context(context, app, environment, name, version);
	if (sealed.len < NONCE_BYTES + TAG_BYTES)
		FAIL(e, ERR_CORRUPT, "the secret %s of %s/%s is damaged", name, app, environment);
	size_t len = sealed.len - NONCE_BYTES - TAG_BYTES;
	unsigned char *value = arena_alloc(scratch, len + 1);
	TRY(arena_check(scratch, "the secrets", e));
	const unsigned char *nonce = (const unsigned char *)sealed.ptr;
	if (crypto_aead_xchacha20poly1305_ietf_decrypt(
		    value, NULL, NULL, nonce + NONCE_BYTES, sealed.len - NONCE_BYTES,
		    (const unsigned char *)context, context_len, nonce, catalog_secret_key(c)) != 0)
		FAIL(e, ERR_CORRUPT,
		     "the secret %s of %s/%s cannot be opened: the catalog or keys/secret.key was "
		     "changed; "
		     "set it again with `holdfast secret set`",
		     name, app, environment);
	*ret_value = (str){ (const char *)value, len };
	return OK;
}

static errc check_name(const char *name, struct err *e)
{
	size_t len = strlen(name);
	bool good = len > 0 && len <= SECRET_NAME_MAX && !(name[0] >= '0' && name[0] <= '9');
	for (size_t i = 0; good && i < len; i++) {
		char k = name[i];
		good = (k >= 'A' && k <= 'Z') || (k >= 'a' && k <= 'z') || (k >= '0' && k <= '9') ||
		       k == '_';
	}
	if (!good)
		FAIL(e, ERR_INVALID,
		     "a secret is named like an environment variable: letters, digits and _, at "
		     "most %d",
		     SECRET_NAME_MAX);
	return OK;
}

/* Past the cap a list would be cut short, and an application started without some of them. */
static errc check_room(struct catalog *c, const char *app, const char *environment,
		       const char *name, struct err *e)
{
	struct catalog_query q CLEANUP(catalog_query_done) = { 0 };
	bool row = false;
	TRY(catalog_query(c, &q, e,
			  "SELECT count(*) FROM (SELECT max(version), sealed FROM secret"
			  " WHERE app = ? AND environment = ? AND name <> ? GROUP BY name"
			  " HAVING length(sealed) > 0)",
			  "ttt", app, environment, name));
	TRY(catalog_step(&q, &row, e));
	must(row);
	if (catalog_i64(&q, 0) >= SECRET_COUNT_MAX)
		FAIL(e, ERR_LIMIT, "%s/%s has %d secrets, which is the most; remove one first", app,
		     environment, SECRET_COUNT_MAX);
	return OK;
}

static errc set_in_transaction(struct catalog *c, const char *app, const char *environment,
			       const char *name, str value, const char *actor, int64_t *ret_version,
			       struct err *e)
{
	struct buf sealed CLEANUP(buf_done) = buf_init(SECRET_BYTES_MAX + NONCE_BYTES + TAG_BYTES);
	int64_t version = 0;
	TRY(secrets_version(c, app, environment, &version, e));
	version++;
	if (value.ptr) {
		TRY(check_room(c, app, environment, name, e));
		TRY(seal(c, value, app, environment, name, version, &sealed, e));
	}
	TRY(catalog_exec(
		c, NULL, e,
		"INSERT INTO secret (app, environment, name, version, sealed, created, actor)"
		" VALUES (?,?,?,?,?,?,?)",
		"tttibit", app, environment, name, version, buf_str(&sealed), clock_now(), actor));
	*ret_version = version;
	return OK;
}

errc secrets_set(struct catalog *c, const char *app, const char *environment, const char *name,
		 str value, const char *actor, int64_t *ret_version, struct err *e)
{
	TRY(check_name(name, e));
	if (value.len > SECRET_BYTES_MAX)
		FAIL(e, ERR_LIMIT, "a secret is at most %d bytes", SECRET_BYTES_MAX);
	if (value.ptr && value.len && memchr(value.ptr, 0, value.len))
		FAIL(e, ERR_INVALID,
		     "the value of %s holds a NUL byte, which no environment variable can", name);
	TRY(catalog_begin(c, e));
	errc rc = set_in_transaction(c, app, environment, name, value, actor, ret_version, e);
	return catalog_end(c, rc, e);
}

errc secrets_version(struct catalog *c, const char *app, const char *environment,
		     int64_t *ret_version, struct err *e)
{
	struct catalog_query q CLEANUP(catalog_query_done) = { 0 };
	bool row = false;
	TRY(catalog_query(
		c, &q, e,
		"SELECT coalesce(max(version), 0) FROM secret WHERE app = ? AND environment = ?",
		"tt", app, environment));
	TRY(catalog_step(&q, &row, e));
	must(row);
	*ret_version = catalog_i64(&q, 0);
	return OK;
}

static errc list(struct catalog *c, const char *app, const char *environment, int64_t version,
		 bool opened, struct arena *scratch, struct secret **ret_items, size_t *ret_count,
		 struct err *e)
{
	struct catalog_query q CLEANUP(catalog_query_done) = { 0 };
	/* the newest row of each name up to VERSION; an empty one is a removal */
	TRY(catalog_query(c, &q, e,
			  "SELECT name, max(version), sealed, created, actor FROM secret"
			  " WHERE app = ? AND environment = ? AND version <= ? GROUP BY name"
			  " HAVING length(sealed) > 0 ORDER BY name LIMIT ?",
			  "ttii", app, environment, version, (int64_t)SECRET_COUNT_MAX));
	struct secret *items = arena_array(scratch, SECRET_COUNT_MAX, sizeof(items[0]));
	size_t count = 0;
	TRY(arena_check(scratch, "the secrets", e));
	for (bool row = true; count < SECRET_COUNT_MAX; count++) {
		TRY(catalog_step(&q, &row, e));
		if (!row)
			break;
		struct secret *s = &items[count];
		s->name = arena_cstr(scratch, catalog_str(&q, 0));
		s->version = catalog_i64(&q, 1);
		s->created = catalog_i64(&q, 3);
		s->actor = arena_cstr(scratch, catalog_str(&q, 4));
		if (opened)
			TRY(unseal(c, catalog_str(&q, 2), app, environment, s->name, s->version,
				   scratch, &s->value, e));
	}
	*ret_items = items;
	*ret_count = count;
	return arena_check(scratch, "the secrets", e);
}

errc secrets_open(struct catalog *c, const char *app, const char *environment, int64_t version,
		  struct arena *scratch, struct secret **ret_items, size_t *ret_count,
		  struct err *e)
{
	return list(c, app, environment, version, true, scratch, ret_items, ret_count, e);
}

errc secrets_names(struct catalog *c, const char *app, const char *environment,
		   struct arena *scratch, struct secret **ret_items, size_t *ret_count,
		   struct err *e)
{
	return list(c, app, environment, INT64_MAX, false, scratch, ret_items, ret_count, e);
}
