#include "artifact/sbom.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "artifact/npm_lock_internal.h"
#include "base/checks.h"
#include "codec/digest.h"

/* What `license.id` may say in the schema is the SPDX list; these are what packages really use. */
static const char *const spdx_ids[] = {
	"0BSD",
	"AFL-2.1",
	"AGPL-3.0-only",
	"AGPL-3.0-or-later",
	"Apache-2.0",
	"Artistic-2.0",
	"BSD-2-Clause",
	"BSD-3-Clause",
	"BlueOak-1.0.0",
	"BSL-1.0",
	"CC-BY-3.0",
	"CC-BY-4.0",
	"CC0-1.0",
	"EPL-2.0",
	"GPL-2.0-only",
	"GPL-3.0-only",
	"GPL-3.0-or-later",
	"ISC",
	"LGPL-2.1-only",
	"LGPL-3.0-only",
	"LGPL-3.0-or-later",
	"MIT",
	"MIT-0",
	"MPL-2.0",
	"OFL-1.1",
	"Python-2.0",
	"Unicode-3.0",
	"Unlicense",
	"WTFPL",
	"X11",
	"Zlib",
};

static const struct {
	const char *name;    /* in a subresource-integrity string */
	const char *cyclone; /* in CycloneDX */
	size_t size;
} hash_names[] = {
	{ "sha1-", "SHA-1", 20 },
	{ "sha256-", "SHA-256", 32 },
	{ "sha384-", "SHA-384", 48 },
	{ "sha512-", "SHA-512", 64 },
};

/* Packages of one purl, which may be installed in several places, are one component. */
struct component {
	const struct npm_package *first;
	const struct npm_package *const *places;
	size_t place_count;
	enum npm_use use; /* the nearest to required */
};

struct bill {
	struct npm_lock lock;
	struct component *components; /* by purl */
	size_t component_count;
	struct arena *scratch;
	struct json_writer w;
};

static int by_purl(const void *a, const void *b)
{
	const struct npm_package *x = *(const struct npm_package *const *)a;
	const struct npm_package *y = *(const struct npm_package *const *)b;
	int order = str_cmp(x->purl, y->purl);
	return order ? order : str_cmp(x->path, y->path);
}

static errc group(struct bill *b, struct err *e)
{
	size_t count = 0;
	const struct npm_package **sorted = arena_array(b->scratch, b->lock.package_count,
							sizeof(*sorted));
	b->components = arena_array(b->scratch, b->lock.package_count, sizeof(*b->components));
	TRY(arena_check(b->scratch, "the bill of materials", e));
	for (size_t i = 0; i < b->lock.package_count; i++)
		if (&b->lock.packages[i] != b->lock.root && !b->lock.packages[i].is_link)
			sorted[count++] = &b->lock.packages[i];
	qsort(sorted, count, sizeof(*sorted), by_purl);
	for (size_t i = 0; i < count; i++) {
		struct component *c = &b->components[b->component_count];
		if (i == 0 || !str_eq(sorted[i - 1]->purl, sorted[i]->purl)) {
			*c = (struct component){ .first = sorted[i],
						 .places = &sorted[i],
						 .use = sorted[i]->use };
			b->component_count++;
		} else {
			c--;
		}
		c->place_count++;
		if (sorted[i]->use < c->use)
			c->use = sorted[i]->use;
	}
	return OK;
}

static bool is_spdx_id(str s)
{
	for (size_t i = 0; i < ARRAY_COUNT(spdx_ids); i++)
		if (str_eq_c(s, spdx_ids[i]))
			return true;
	return false;
}

static void put_license(struct json_writer *w, const struct json *entry)
{
	const struct json *v = json_get(entry, "license");
	str license = json_str(v, json_str(json_get(v, "type"), STR("")));
	if (!license.len)
		return;
	json_key(w, "licenses");
	json_begin_array(w);
	json_begin_object(w);
	if (str_find(license, STR(" OR ")) >= 0 || str_find(license, STR(" AND ")) >= 0 ||
	    str_find(license, STR(" WITH ")) >= 0) {
		json_put_str(w, "expression", license);
	} else {
		json_key(w, "license");
		json_begin_object(w);
		json_put_str(w, is_spdx_id(license) ? "id" : "name", license);
		json_end_object(w);
	}
	json_end_object(w);
	json_end_array(w);
}

/* One `sha512-<base64>`; what it is not is left out rather than written wrongly. */
static void add_hash(struct json_writer *w, str item)
{
	uint8_t bytes[64];
	char hex[129];
	size_t len = 0;
	for (size_t i = 0; i < ARRAY_COUNT(hash_names); i++) {
		str start = str_c(hash_names[i].name);
		if (!str_starts(item, start))
			continue;
		str base64 = { item.ptr + start.len, item.len - start.len };
		const char *option = base64.len ? memchr(base64.ptr, '?', base64.len) : NULL;
		if (option)
			base64.len = (size_t)(option - base64.ptr);
		if (sodium_base642bin(bytes, sizeof(bytes), base64.ptr, base64.len, NULL, &len,
				      NULL, sodium_base64_VARIANT_ORIGINAL) != 0 ||
		    len != hash_names[i].size)
			return;
		sodium_bin2hex(hex, sizeof(hex), bytes, len);
		json_begin_object(w);
		json_put_cstr(w, "alg", hash_names[i].cyclone);
		json_put_cstr(w, "content", hex);
		json_end_object(w);
	}
}

static void put_hashes(struct json_writer *w, const struct json *entry)
{
	str integrity = json_str(json_get(entry, "integrity"), STR("")), item;
	if (!integrity.len)
		return;
	json_key(w, "hashes");
	json_begin_array(w);
	while (str_split(&integrity, ' ', &item))
		add_hash(w, item);
	json_end_array(w);
}

static void put_name(struct json_writer *w, str name, str version)
{
	const char *slash = name.len ? memchr(name.ptr, '/', name.len) : NULL;
	if (slash && name.ptr[0] == '@') {
		size_t len = (size_t)(slash - name.ptr);
		json_put_str(w, "group", (str){ name.ptr, len });
		name = (str){ slash + 1, name.len - len - 1 };
	}
	json_put_str(w, "name", name);
	if (version.len)
		json_put_str(w, "version", version);
}

static void put_distribution(struct json_writer *w, str resolved)
{
	if (!str_starts(resolved, STR("https://")) && !str_starts(resolved, STR("http://")) &&
	    !str_starts(resolved, STR("git+")))
		return;
	json_key(w, "externalReferences");
	json_begin_array(w);
	json_begin_object(w);
	json_put_cstr(w, "type", str_starts(resolved, STR("git+")) ? "vcs" : "distribution");
	json_put_str(w, "url", resolved);
	json_end_object(w);
	json_end_array(w);
}

static void add_component(struct json_writer *w, const struct component *c)
{
	static const char *const scopes[] = { [NPM_REQUIRED] = "required",
					      [NPM_OPTIONAL] = "optional",
					      [NPM_DEVELOPMENT] = "excluded" };
	json_begin_object(w);
	json_put_cstr(w, "type", "library");
	json_put_str(w, "bom-ref", c->first->purl);
	put_name(w, c->first->name, c->first->version);
	json_put_cstr(w, "scope", scopes[c->use]);
	put_hashes(w, c->first->entry);
	put_license(w, c->first->entry);
	json_put_str(w, "purl", c->first->purl);
	put_distribution(w, c->first->resolved);
	if (c->use == NPM_DEVELOPMENT) {
		json_key(w, "properties");
		json_begin_array(w);
		json_begin_object(w);
		json_put_cstr(w, "name", "cdx:npm:package:development");
		json_put_cstr(w, "value", "true");
		json_end_object(w);
		json_end_array(w);
	}
	json_end_object(w);
}

static int by_str(const void *a, const void *b)
{
	return str_cmp(*(const str *)a, *(const str *)b);
}

/* The purls of what is used from one place, appended to REFS (NULL: only counted). */
static size_t add_used(const struct bill *b, const struct npm_package *user, str *refs)
{
	static const char *const kinds[] = { "dependencies", "optionalDependencies",
					     "peerDependencies", "devDependencies" };
	size_t count = 0;
	for (size_t k = 0; k < ARRAY_COUNT(kinds); k++) {
		const struct json *names = json_get(user->entry, kinds[k]);
		for (size_t i = 0; names && names->kind == JSON_OBJECT && i < names->count; i++) {
			const struct npm_package *p = npm_lock_resolve(&b->lock, user,
								       names->keys[i]);
			if (!p || p == b->lock.root)
				continue; /* an optional one that this machine does not need */
			if (refs)
				refs[count] = p->purl;
			count++;
		}
	}
	return count;
}

static errc add_dependency(struct bill *b, str ref, const struct npm_package *const *places,
			   size_t place_count, struct err *e)
{
	size_t count = 0, at = 0;
	for (size_t i = 0; i < place_count; i++)
		count += add_used(b, places[i], NULL);
	str *refs = arena_array(b->scratch, count, sizeof(*refs));
	TRY(arena_check(b->scratch, "the bill of materials", e));
	for (size_t i = 0; i < place_count; i++)
		at += add_used(b, places[i], refs + at);
	must(at == count);
	if (count)
		qsort(refs, count, sizeof(*refs), by_str);
	json_begin_object(&b->w);
	json_put_str(&b->w, "ref", ref);
	json_key(&b->w, "dependsOn");
	json_begin_array(&b->w);
	for (size_t i = 0; i < count; i++)
		if ((i == 0 || !str_eq(refs[i - 1], refs[i])) && !str_eq(refs[i], ref))
			json_add_str(&b->w, refs[i]);
	json_end_array(&b->w);
	json_end_object(&b->w);
	return OK;
}

/* From the contents, so that the same lock file gives the same document (UUID version 8). */
static void put_serial_number(struct json_writer *w, str lock)
{
	char text[64], hex[33];
	struct digest d = digest_of(lock);
	d.bytes[6] = (uint8_t)(0x80 | (d.bytes[6] & 0x0f));
	d.bytes[8] = (uint8_t)(0x80 | (d.bytes[8] & 0x3f));
	sodium_bin2hex(hex, sizeof(hex), d.bytes, 16);
	snprintf(text, sizeof(text), "urn:uuid:%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12,
		 hex + 16, hex + 20);
	json_put_cstr(w, "serialNumber", text);
}

static void put_metadata(struct json_writer *w, const struct npm_package *root)
{
	json_key(w, "metadata");
	json_begin_object(w);
	json_key(w, "tools");
	json_begin_object(w);
	json_key(w, "components");
	json_begin_array(w);
	json_begin_object(w);
	/* without its version: an update of Holdfast alone must not change an artifact's digest */
	json_put_cstr(w, "type", "application");
	json_put_cstr(w, "name", "holdfast");
	json_end_object(w);
	json_end_array(w);
	json_end_object(w);
	json_key(w, "component");
	json_begin_object(w);
	json_put_cstr(w, "type", "application");
	json_put_cstr(w, "bom-ref", "application");
	put_name(w, root->name.len ? root->name : STR("application"), root->version);
	put_license(w, root->entry);
	if (root->name.len)
		json_put_str(w, "purl", root->purl);
	json_end_object(w);
	json_end_object(w);
}

static errc write_bill(struct bill *b, str lock, struct err *e)
{
	struct json_writer *w = &b->w;
	json_begin_object(w);
	json_put_cstr(w, "$schema", "http://cyclonedx.org/schema/bom-1.5.schema.json");
	json_put_cstr(w, "bomFormat", "CycloneDX");
	json_put_cstr(w, "specVersion", "1.5");
	put_serial_number(w, lock);
	json_put_i64(w, "version", 1);
	put_metadata(w, b->lock.root);
	json_key(w, "components");
	json_begin_array(w);
	for (size_t i = 0; i < b->component_count; i++)
		add_component(w, &b->components[i]);
	json_end_array(w);
	json_key(w, "dependencies");
	json_begin_array(w);
	errc rc = add_dependency(b, STR("application"), &b->lock.root, 1, e);
	for (size_t i = 0; i < b->component_count && rc == OK; i++)
		rc = add_dependency(b, b->components[i].first->purl, b->components[i].places,
				    b->components[i].place_count, e);
	if (rc != OK)
		return rc;
	json_end_array(w);
	json_end_object(w);
	buf_add_byte(w->into, '\n');
	return buf_check(w->into, "the bill of materials", e);
}

errc sbom_from_npm_lock(str lock, struct buf *into, struct err *e)
{
	/* a tree of a million values, and what is made of it */
	struct arena scratch CLEANUP(arena_done) = arena_init((size_t)1 << 30);
	struct bill b = { .scratch = &scratch, .w = json_writer_init(into, true) };
	TRY(npm_lock_parse(lock, &scratch, &b.lock, e));
	TRY(group(&b, e));
	return write_bill(&b, lock, e);
}
