#include "catalog/access.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "base/checks.h"
#include "os/clock.h"

enum { LIST_MAX = 1000, DAY_MS = 86400000, MINUTE_MS = 60000, TOKEN_RANDOM_DIGITS = 40 };

static const char *const role_texts[] = {
#define X(name, text) text,
	ACCESS_ROLE(X)
#undef X
};

const char *access_role_text(enum access_role r)
{
	return role_texts[r];
}

bool access_role_may(enum access_role role, enum access_role needed)
{
	if (needed == ROLE_SENDER)
		return role == ROLE_SENDER || role == ROLE_OPERATOR || role == ROLE_ADMIN;
	return needed == ROLE_NONE || (role != ROLE_SENDER && role >= needed);
}

bool access_role_parse(str s, enum access_role *ret_role)
{
	for (size_t r = ROLE_VIEWER; r < ARRAY_COUNT(role_texts); r++) {
		if (!str_eq_c(s, role_texts[r]))
			continue;
		*ret_role = (enum access_role)r;
		return true;
	}
	return false;
}

/* The text is 160 random bits, so a plain hash is as good as a slow one. */
static void hash_text(str text, char hex[static 65])
{
	unsigned char hash[crypto_hash_sha256_BYTES];
	crypto_hash_sha256(hash, (const unsigned char *)text.ptr, text.len);
	sodium_bin2hex(hex, 65, hash, sizeof(hash));
}

errc tokens_create(struct catalog *c, const char *name, enum access_role role, int64_t days,
		   char ret_text[static TOKEN_TEXT_SIZE], struct token *ret_token, struct err *e)
{
	struct token t = { .role = role, .created = clock_now() };
	char secret[TOKEN_RANDOM_DIGITS + 1], hash[65];
	if (!str_is_name(str_c(name), sizeof(t.name) - 1))
		FAIL(e, ERR_INVALID, "a token's name is made of a-z, 0-9 and -, at most %zu",
		     sizeof(t.name) - 1);
	if (days < 1 || days > TOKEN_DAYS_MAX)
		FAIL(e, ERR_INVALID, "a token lives 1 to %d days", TOKEN_DAYS_MAX);
	must(role > ROLE_NONE && role <= ROLE_SENDER);
	str_copy(str_c(name), t.name, sizeof(t.name));
	t.expires = t.created + days * DAY_MS;
	entropy_hex(t.id, 12);
	entropy_hex(secret, TOKEN_RANDOM_DIGITS);
	char text[TOKEN_TEXT_SIZE];
	snprintf(text, sizeof(text), "hf_%s_%s", t.id, secret);
	hash_text(str_c(text), hash);
	TRY(catalog_exec(
		c, NULL, e,
		"INSERT INTO token (id, name, role, hash, created, expires) VALUES (?,?,?,?,?,?)",
		"ttitii", t.id, t.name, (int64_t)t.role, hash, t.created, t.expires));
	memcpy(ret_text, text, sizeof(text));
	*ret_token = t;
	sodium_memzero(secret, sizeof(secret));
	sodium_memzero(text, sizeof(text));
	return OK;
}

static errc read_token(struct catalog_query *q, struct token *t, struct err *e)
{
	bool whole = str_copy(catalog_str(q, 0), t->id, sizeof(t->id)) &&
		     str_copy(catalog_str(q, 1), t->name, sizeof(t->name));
	t->role = (enum access_role)catalog_i64(q, 2);
	if (!whole || t->role <= ROLE_NONE || t->role > ROLE_SENDER)
		FAIL(e, ERR_CORRUPT, "the catalog's row of a token is damaged");
	t->created = catalog_i64(q, 3);
	t->expires = catalog_i64(q, 4);
	t->revoked = catalog_i64(q, 5);
	t->used = catalog_i64(q, 6);
	return OK;
}

static errc find_by_hash(struct catalog *c, const char *hash, struct token *t, bool *ret_found,
			 struct err *e)
{
	struct catalog_query q CLEANUP(catalog_query_done) = { 0 };
	TRY(catalog_query(
		c, &q, e,
		"SELECT id, name, role, created, expires, revoked, used FROM token WHERE hash = ?",
		"t", hash));
	TRY(catalog_step(&q, ret_found, e));
	return *ret_found ? read_token(&q, t, e) : OK;
}

errc tokens_check(struct catalog *c, str text, struct token *ret_token, struct err *e)
{
	struct token t = { 0 };
	char hash[65];
	bool found = false;
	time_ms now = clock_now();
	if (text.len == 0 || text.len >= TOKEN_TEXT_SIZE)
		FAIL(e, ERR_UNAUTHENTICATED, "the token is not known here");
	hash_text(text, hash);
	TRY(find_by_hash(c, hash, &t, &found, e));
	if (!found)
		FAIL(e, ERR_UNAUTHENTICATED, "the token is not known here");
	if (t.revoked)
		FAIL(e, ERR_UNAUTHENTICATED, "the token %s was revoked", t.name);
	if (t.expires <= now)
		FAIL(e, ERR_UNAUTHENTICATED,
		     "the token %s has expired; an admin makes a new one with `holdfast token "
		     "create`",
		     t.name);
	/* to the minute, so that a busy client does not write at every request; a full disk locks
	 * nobody out */
	if (now - t.used > MINUTE_MS &&
	    catalog_exec_relaxed(c, NULL, "UPDATE token SET used = ? WHERE id = ?", "it", now,
				 t.id) == OK)
		t.used = now;
	*ret_token = t;
	return OK;
}

errc tokens_revoke(struct catalog *c, const char *id, struct err *e)
{
	int64_t changes = 0;
	TRY(catalog_exec(c, &changes, e,
			 "UPDATE token SET revoked = ? WHERE id = ? AND revoked = 0", "it",
			 clock_now(), id));
	if (changes == 0)
		FAIL(e, ERR_NOT_FOUND, "there is no valid token with the id %s", id);
	return OK;
}

errc tokens_list(struct catalog *c, struct arena *scratch, struct token **ret_items,
		 size_t *ret_count, struct err *e)
{
	struct catalog_query q CLEANUP(catalog_query_done) = { 0 };
	TRY(catalog_query(c, &q, e,
			  "SELECT id, name, role, created, expires, revoked, used FROM token"
			  " ORDER BY created DESC LIMIT ?",
			  "i", (int64_t)LIST_MAX));
	struct token *items = arena_array(scratch, LIST_MAX, sizeof(items[0]));
	size_t count = 0;
	TRY(arena_check(scratch, "the list of tokens", e));
	for (bool row = true; count < LIST_MAX; count++) {
		TRY(catalog_step(&q, &row, e));
		if (!row)
			break;
		TRY(read_token(&q, &items[count], e));
	}
	*ret_items = items;
	*ret_count = count;
	return OK;
}

errc audit_add(struct catalog *c, const struct audit_entry *entry, struct err *e)
{
	return catalog_exec(
		c, NULL, e,
		"INSERT INTO audit (time, actor, role, peer, action, target, outcome, detail)"
		" VALUES (?,?,?,?,?,?,?,?)",
		"ittttttt", clock_now(), entry->actor, entry->role, entry->peer, entry->action,
		entry->target, entry->outcome, entry->detail ? entry->detail : "");
}

errc audit_list(struct catalog *c, int64_t before_sequence, int limit, struct arena *scratch,
		struct audit_entry **ret_items, size_t *ret_count, struct err *e)
{
	struct catalog_query q CLEANUP(catalog_query_done) = { 0 };
	must(limit > 0 && limit <= 10000);
	TRY(catalog_query(
		c, &q, e,
		"SELECT sequence, time, actor, role, peer, action, target, outcome, detail"
		" FROM audit WHERE sequence < ? ORDER BY sequence DESC LIMIT ?",
		"ii", before_sequence > 0 ? before_sequence : INT64_MAX, (int64_t)limit));
	struct audit_entry *items = arena_array(scratch, (size_t)limit, sizeof(items[0]));
	size_t count = 0;
	TRY(arena_check(scratch, "the audit", e));
	for (bool row = true; count < (size_t)limit; count++) {
		TRY(catalog_step(&q, &row, e));
		if (!row)
			break;
		struct audit_entry *entry = &items[count];
		entry->sequence = catalog_i64(&q, 0);
		entry->time = catalog_i64(&q, 1);
		entry->actor = arena_cstr(scratch, catalog_str(&q, 2));
		entry->role = arena_cstr(scratch, catalog_str(&q, 3));
		entry->peer = arena_cstr(scratch, catalog_str(&q, 4));
		entry->action = arena_cstr(scratch, catalog_str(&q, 5));
		entry->target = arena_cstr(scratch, catalog_str(&q, 6));
		entry->outcome = arena_cstr(scratch, catalog_str(&q, 7));
		entry->detail = arena_cstr(scratch, catalog_str(&q, 8));
	}
	*ret_items = items;
	*ret_count = count;
	return arena_check(scratch, "the audit", e);
}
