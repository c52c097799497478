/*
 * Who may do what: bearer tokens (stored as SHA-256 hashes, with role and expiry, revocable) and
 * the audit of every action.
 */
#pragma once

#include "catalog/catalog.h"

/* Viewer, operator and admin: each may do all that those before it may. A sender only hands in
 * telemetry, which operators and admins may too: its token lies in applications' settings. Stored
 * by number: a new one goes to the end. */
#define ACCESS_ROLE(X)          \
	X(NONE, "none")         \
	X(VIEWER, "viewer")     \
	X(OPERATOR, "operator") \
	X(ADMIN, "admin")       \
	X(SENDER, "sender")

enum access_role {
#define X(name, text) ROLE_##name,
	ACCESS_ROLE(X)
#undef X
};

const char *access_role_text(enum access_role r);
bool access_role_parse(str s, enum access_role *ret_role);
/* Whether who has ROLE may do what NEEDED may. */
bool access_role_may(enum access_role role, enum access_role needed);

enum { TOKEN_TEXT_SIZE = 64, TOKEN_ID_SIZE = 16, TOKEN_DAYS_DEFAULT = 90, TOKEN_DAYS_MAX = 366 };

struct token {
	char id[TOKEN_ID_SIZE];
	char name[64];
	enum access_role role;
	time_ms created;
	time_ms expires;
	time_ms revoked; /* 0: not */
	time_ms used;    /* to the minute; 0: never */
};

/* Make a token; its text is given once and cannot be had again. */
WARN_UNUSED errc tokens_create(struct catalog *c, const char *name, enum access_role role,
			       int64_t days, char ret_text[static TOKEN_TEXT_SIZE],
			       struct token *ret_token, struct err *e);
/* Errors: ERR_UNAUTHENTICATED for unknown, expired and revoked ones alike but for the message. */
WARN_UNUSED errc tokens_check(struct catalog *c, str text, struct token *ret_token, struct err *e);
WARN_UNUSED errc tokens_revoke(struct catalog *c, const char *id, struct err *e);
WARN_UNUSED errc tokens_list(struct catalog *c, struct arena *scratch, struct token **ret_items,
			     size_t *ret_count, struct err *e);

/* One action of the audit. Strings are copied; none may hold a secret. */
struct audit_entry {
	int64_t sequence;
	time_ms time;
	const char *actor; /* `token:deploy-bot`, `local:root`, `holdfast` */
	const char *role;
	const char *peer;    /* `unix:pid 123` or an address */
	const char *action;  /* `deploy`, `token.create`, … */
	const char *target;  /* app/environment, token id, … */
	const char *outcome; /* ok, or an error's code */
	const char *detail;  /* JSON object or empty */
};

WARN_UNUSED errc audit_add(struct catalog *c, const struct audit_entry *entry, struct err *e);
/* Newest first. */
WARN_UNUSED errc audit_list(struct catalog *c, int64_t before_sequence, int limit,
			    struct arena *scratch, struct audit_entry **ret_items,
			    size_t *ret_count, struct err *e);
