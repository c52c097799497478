/*
 * package-lock.json, versions 2 and 3: the installed packages and which of them each one uses.
 *
 * Used by sbom.c alone.
 */
#pragma once

#include "base/arena.h"
#include "codec/json.h"

/* From wanted to not wanted when the application runs. */
enum npm_use { NPM_REQUIRED, NPM_OPTIONAL, NPM_DEVELOPMENT };

struct npm_package {
	str path;    /* `node_modules/a/node_modules/b`; empty: the application itself */
	str name;    /* with its scope */
	str version; /* may be empty */
	str purl;
	enum npm_use use;
	str resolved; /* where it came from; of a link the path of what it stands for */
	bool is_link;
	const struct json *entry; /* of the lock file */
};

struct npm_lock {
	struct npm_package *packages; /* by path in byte order */
	size_t package_count;
	const struct npm_package *root;
};

WARN_UNUSED errc npm_lock_parse(str text, struct arena *into, struct npm_lock *ret_lock,
				struct err *e);
/* What NAME means to the package USER, as node resolves it; NULL when it is not installed. */
const struct npm_package *npm_lock_resolve(const struct npm_lock *lock,
					   const struct npm_package *user, str name);
