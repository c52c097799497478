#include "artifact/npm_lock_internal.h"

#include <stdlib.h>
#include <string.h>

#include "artifact/sbom.h"
#include "artifact/url_internal.h"
#include "base/checks.h"
#include "codec/text.h"

static int by_path(const void *a, const void *b)
{
	return str_cmp(((const struct npm_package *)a)->path,
		       ((const struct npm_package *)b)->path);
}

static const struct npm_package *find(const struct npm_lock *lock, str path)
{
	struct npm_package key = { .path = path };
	return bsearch(&key, lock->packages, lock->package_count, sizeof(key), by_path);
}

static str make_purl(const struct npm_package *p, struct arena *into)
{
	struct buf text CLEANUP(buf_done) = buf_init(16384);
	str rest = p->name, part;
	buf_add_c(&text, "pkg:npm");
	while (str_split(&rest, '/', &part)) {
		buf_add_byte(&text, '/');
		text_add_percent(&text, part);
	}
	if (p->version.len) {
		buf_add_byte(&text, '@');
		text_add_percent(&text, p->version);
	}
	if (str_starts(p->resolved, STR("git+"))) {
		buf_add_c(&text, "?vcs_url=");
		text_add_percent(&text, p->resolved);
	}
	return arena_str(into, buf_str(&text));
}

/* The name is the path behind the last `node_modules/`, unless the entry gives another (aliases).
 */
static str name_of(str path, const struct json *entry)
{
	str name = json_str(json_get(entry, "name"), STR(""));
	static const str marker = { "node_modules/", 13 };
	if (name.len)
		return name;
	for (size_t i = path.len; i >= marker.len; i--)
		if (memcmp(path.ptr + i - marker.len, marker.ptr, marker.len) == 0)
			return (str){ path.ptr + i, path.len - i };
	const char *slash = path.len ? memrchr(path.ptr, '/', path.len) : NULL;
	return slash ? (str){ slash + 1, (size_t)(path.ptr + path.len - slash - 1) } : path;
}

static enum npm_use use_of(const struct json *entry)
{
	if (json_bool(json_get(entry, "dev"), false))
		return NPM_DEVELOPMENT;
	if (json_bool(json_get(entry, "optional"), false) ||
	    json_bool(json_get(entry, "devOptional"), false))
		return NPM_OPTIONAL;
	return NPM_REQUIRED;
}

static errc fill_package(struct npm_package *p, str path, const struct json *entry,
			 struct arena *into, struct err *e)
{
	if (entry->kind != JSON_OBJECT)
		FAIL(e, ERR_INVALID, "the package %.*s of the lock file is not an object",
		     STR_ARG(path));
	p->path = path;
	p->entry = entry;
	p->name = name_of(path, entry);
	p->version = json_str(json_get(entry, "version"), STR(""));
	p->use = use_of(entry);
	p->is_link = json_bool(json_get(entry, "link"), false);
	p->resolved = url_without_credentials(json_str(json_get(entry, "resolved"), STR("")), into);
	if (path.len && !p->name.len)
		FAIL(e, ERR_INVALID, "the package %.*s of the lock file has no name",
		     STR_ARG(path));
	p->purl = make_purl(p, into);
	return OK;
}

errc npm_lock_parse(str text, struct arena *into, struct npm_lock *ret_lock, struct err *e)
{
	const struct json *document;
	struct npm_lock lock = { 0 };
	if (json_parse(into, text, SBOM_LOCK_FILE_MAX, &document, e) != OK)
		return err_prepend(e, "the lock file");
	int64_t version = json_i64(json_get(document, "lockfileVersion"), 0);
	const struct json *packages = json_get(document, "packages");
	if ((version != 2 && version != 3) || !packages || packages->kind != JSON_OBJECT)
		FAIL(e, ERR_INVALID,
		     "the lock file is not of lockfileVersion 2 or 3; run `npm install "
		     "--package-lock-only` with npm 7 or later");
	if (packages->count > SBOM_PACKAGE_COUNT_MAX)
		FAIL(e, ERR_LIMIT, "the lock file lists more than %d packages",
		     SBOM_PACKAGE_COUNT_MAX);
	lock.packages = arena_array(into, packages->count, sizeof(*lock.packages));
	TRY(arena_check(into, "the lock file", e));
	for (size_t i = 0; i < packages->count; i++)
		TRY(fill_package(&lock.packages[i], packages->keys[i], &packages->items[i], into,
				 e));
	lock.package_count = packages->count;
	qsort(lock.packages, lock.package_count, sizeof(*lock.packages), by_path);
	lock.root = find(&lock, STR(""));
	if (!lock.root)
		FAIL(e, ERR_INVALID, "the lock file has no entry for the application itself");
	TRY(arena_check(into, "the lock file", e));
	*ret_lock = lock;
	return OK;
}

static const struct npm_package *find_below(const struct npm_lock *lock, str folder, str name)
{
	char path[4096];
	if (folder.len + name.len + 16 > sizeof(path))
		return NULL;
	size_t len = folder.len;
	if (len) {
		memcpy(path, folder.ptr, len);
		path[len++] = '/';
	}
	memcpy(path + len, "node_modules/", 13);
	memcpy(path + len + 13, name.ptr, name.len);
	const struct npm_package *p = find(lock, (str){ path, len + 13 + name.len });
	/* a link may name a link only in a broken lock file */
	if (p && p->is_link)
		p = find(lock, p->resolved);
	return p && !p->is_link ? p : NULL;
}

const struct npm_package *npm_lock_resolve(const struct npm_lock *lock,
					   const struct npm_package *user, str name)
{
	str folder = user->path;
	for (;;) {
		const struct npm_package *p = find_below(lock, folder, name);
		if (p || folder.len == 0)
			return p;
		const char *slash = memrchr(folder.ptr, '/', folder.len);
		folder.len = slash ? (size_t)(slash - folder.ptr) : 0;
	}
}
