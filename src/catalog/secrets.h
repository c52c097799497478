/*
 * Secrets: values sealed with the installation's key (XChaCha20-Poly1305; application, environment,
 * name and version are authenticated with them). Every change makes the next version of the
 * environment's set, and a release pins one, so rolling back brings the old values back.
 */
#pragma once

#include "catalog/catalog.h"

enum { SECRET_NAME_MAX = 128, SECRET_BYTES_MAX = 64 * 1024, SECRET_COUNT_MAX = 1000 };

struct secret {
	const char *name;
	str value; /* NUL-terminated */
	int64_t version;
	time_ms created;
	const char *actor;
};

/* Set (or with value.ptr NULL remove) a secret. Errors: ERR_INVALID for a bad name or a NUL in the
 * value, ERR_LIMIT for one too long or too many of them in the environment. */
WARN_UNUSED errc secrets_set(struct catalog *c, const char *app, const char *environment,
			     const char *name, str value, const char *actor, int64_t *ret_version,
			     struct err *e);
/* The newest version of the environment's set; 0 when there is none. */
WARN_UNUSED errc secrets_version(struct catalog *c, const char *app, const char *environment,
				 int64_t *ret_version, struct err *e);
/* All secrets as of VERSION, opened, sorted by name. Errors: ERR_CORRUPT when one was tampered
 * with. */
WARN_UNUSED errc secrets_open(struct catalog *c, const char *app, const char *environment,
			      int64_t version, struct arena *scratch, struct secret **ret_items,
			      size_t *ret_count, struct err *e);
/* As secrets_open() for the newest version, without the values. */
WARN_UNUSED errc secrets_names(struct catalog *c, const char *app, const char *environment,
			       struct arena *scratch, struct secret **ret_items, size_t *ret_count,
			       struct err *e);
