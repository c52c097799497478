#include "artifact/provenance.h"

#include <stdio.h>
#include <string.h>

#include "base/checks.h"
#include "codec/json.h"

#define STATEMENT_TYPE "https://in-toto.io/Statement/v1"
#define PREDICATE_TYPE "https://slsa.dev/provenance/v1"
#define BUILDER_ID "urn:holdfast:builder:v1"

static void put_sha256(struct json_writer *w, const struct digest *digest)
{
	char hex[DIGEST_HEX_SIZE];
	json_key(w, "digest");
	json_begin_object(w);
	json_put_cstr(w, "sha256", digest_hex(digest, hex));
	json_end_object(w);
}

static void put_subject(struct json_writer *w, const struct digest *subject)
{
	char name[DIGEST_HEX_SIZE + 16], hex[DIGEST_HEX_SIZE];
	/* the manifest's file: its SHA-256 is the artifact's digest, so any tool can check it */
	snprintf(name, sizeof(name), "sha256-%s.json", digest_hex(subject, hex));
	json_key(w, "subject");
	json_begin_array(w);
	json_begin_object(w);
	json_put_cstr(w, "name", name);
	put_sha256(w, subject);
	json_end_object(w);
	json_end_array(w);
}

static void put_strings(struct json_writer *w, const char *key, const str *values, size_t count)
{
	json_key(w, key);
	json_begin_array(w);
	for (size_t i = 0; i < count; i++)
		json_add_str(w, values[i]);
	json_end_array(w);
}

static void add_git(struct json_writer *w, const struct provenance *p)
{
	json_begin_object(w);
	json_put_cstr(w, "name", "commit");
	if (p->git_remote.len)
		json_put_str(w, "uri", p->git_remote);
	json_key(w, "digest");
	json_begin_object(w);
	json_put_str(w, "gitCommit", p->git_commit);
	json_end_object(w);
	json_end_object(w);
}

static void put_dependencies(struct json_writer *w, const struct provenance *p)
{
	json_key(w, "resolvedDependencies");
	json_begin_array(w);
	json_begin_object(w);
	json_put_cstr(w, "name", "source");
	put_sha256(w, &p->source);
	json_end_object(w);
	if (p->has_lock_file) {
		json_begin_object(w);
		json_put_str(w, "name", p->lock_file_path);
		put_sha256(w, &p->lock_file);
		json_end_object(w);
	}
	if (p->git_commit.len)
		add_git(w, p);
	for (size_t i = 0; i < p->tool_count; i++) {
		json_begin_object(w);
		json_put_str(w, "name", p->tools[i].name);
		json_key(w, "annotations");
		json_begin_object(w);
		json_put_str(w, "version", p->tools[i].version);
		json_end_object(w);
		json_end_object(w);
	}
	json_end_array(w);
}

static void put_definition(struct json_writer *w, const struct provenance *p)
{
	json_key(w, "buildDefinition");
	json_begin_object(w);
	json_put_cstr(w, "buildType", PROVENANCE_BUILD_TYPE);
	json_key(w, "externalParameters");
	json_begin_object(w);
	json_put_str(w, "application", p->application);
	json_put_str(w, "environment", p->environment);
	put_strings(w, "steps", p->steps, p->step_count);
	json_end_object(w);
	json_key(w, "internalParameters");
	json_begin_object(w);
	put_strings(w, "variables", p->variables, p->variable_count);
	if (p->cache_key.len)
		json_put_str(w, "cacheKey", p->cache_key);
	json_end_object(w);
	put_dependencies(w, p);
	json_end_object(w);
}

static void put_run(struct json_writer *w, const struct provenance *p)
{
	char text[UNIT_TEXT_SIZE];
	json_key(w, "runDetails");
	json_begin_object(w);
	json_key(w, "builder");
	json_begin_object(w);
	json_put_cstr(w, "id", BUILDER_ID);
	json_key(w, "version");
	json_begin_object(w);
	json_put_cstr(w, "holdfast", HOLDFAST_VERSION);
	json_end_object(w);
	json_end_object(w);
	json_key(w, "metadata");
	json_begin_object(w);
	json_put_str(w, "invocationId", p->invocation_id);
	json_put_cstr(w, "startedOn", time_format(p->started_at, text));
	json_put_cstr(w, "finishedOn", time_format(p->finished_at, text));
	json_end_object(w);
	json_end_object(w);
}

errc provenance_write(const struct provenance *p, const struct digest *subject, struct buf *into,
		      struct err *e)
{
	struct json_writer w = json_writer_init(into, true);
	json_begin_object(&w);
	json_put_cstr(&w, "_type", STATEMENT_TYPE);
	put_subject(&w, subject);
	json_put_cstr(&w, "predicateType", PREDICATE_TYPE);
	json_key(&w, "predicate");
	json_begin_object(&w);
	put_definition(&w, p);
	put_run(&w, p);
	json_end_object(&w);
	json_end_object(&w);
	buf_add_byte(into, '\n');
	return buf_check(into, "the provenance", e);
}

errc provenance_check(str text, const struct digest *subject, struct err *e)
{
	struct arena scratch CLEANUP(arena_done) = arena_init(64 << 20);
	const struct json *statement;
	struct digest found;
	if (json_parse(&scratch, text, PROVENANCE_TEXT_MAX, &statement, e) != OK) {
		err_prepend(e, "the provenance is not JSON");
		if (e)
			e->code = ERR_CORRUPT;
		return ERR_CORRUPT;
	}
	const struct json *subjects = json_get(statement, "subject");
	const struct json *sha256 = NULL;
	if (subjects && subjects->kind == JSON_ARRAY && subjects->count == 1)
		sha256 = json_get(json_get(&subjects->items[0], "digest"), "sha256");
	if (!str_eq(json_str(json_get(statement, "_type"), STR("")), STR(STATEMENT_TYPE)) ||
	    !str_eq(json_str(json_get(statement, "predicateType"), STR("")), STR(PREDICATE_TYPE)) ||
	    !digest_parse_hex(json_str(sha256, STR("")), &found) || !digest_eq(&found, subject))
		FAIL(e, ERR_CORRUPT, "the provenance is not about this artifact");
	return OK;
}
