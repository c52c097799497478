/* From what the steps left to a signed artifact. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "artifact/artifact.h"
#include "artifact/precompress.h"
#include "artifact/provenance.h"
#include "artifact/sbom.h"
#include "artifact/validate.h"
#include "base/checks.h"
#include "catalog/secrets.h"
#include "feature/build/build_internal.h"
#include "os/clock.h"
#include "os/io.h"

enum {
	FINDINGS_SHOWN_MAX = 20,
	SCRATCH_BYTES = 256 * 1024 * 1024,
	LOCK_FILE_MAX = SBOM_LOCK_FILE_MAX
};

#define LOCK_FILE "package-lock.json"

static str *to_strs(struct arena *scratch, const struct spec_list *list)
{
	str *strs = arena_array(scratch, list->count, sizeof(strs[0]));
	for (size_t i = 0; strs && i < list->count; i++)
		strs[i] = str_c(list->items[i]);
	return strs;
}

/* ---- Validation. */

/* A secret of any environment of the application must not be served to browsers. */
static errc list_secrets(struct build_run *run, struct arena *scratch,
			 struct validate_options *options, struct err *e)
{
	struct secret *secrets = NULL;
	size_t count = 0, n = 0;
	TRY(secrets_open(run->context->catalog, run->spec->app, run->environment->name, INT64_MAX,
			 scratch, &secrets, &count, e));
	struct validate_secret *items = arena_array(scratch, count, sizeof(items[0]));
	TRY(arena_check(scratch, "the secrets", e));
	for (size_t i = 0; i < count; i++)
		items[n++] = (struct validate_secret){ str_c(secrets[i].name), secrets[i].value };
	options->secrets = items;
	options->secret_count = n;
	return OK;
}

static errc list_budgets(struct build_run *run, struct arena *scratch,
			 struct validate_options *options, struct err *e)
{
	const struct spec_build *build = &run->spec->build;
	struct validate_budget *items = arena_array(scratch, build->budget_count, sizeof(items[0]));
	TRY(arena_check(scratch, "the budgets", e));
	for (size_t i = 0; i < build->budget_count; i++)
		items[i] = (struct validate_budget){
			.name = str_c(build->budgets[i].files),
			.glob = str_c(build->budgets[i].files),
			.raw_bytes_max = build->budgets[i].size_bytes_max,
			.gzip_bytes_max = build->budgets[i].gzip_bytes_max,
			.brotli_bytes_max = build->budgets[i].brotli_bytes_max
		};
	options->budgets = items;
	options->budget_count = build->budget_count;
	return OK;
}

static void say_sizes(struct build_run *run, const struct validate_result *result, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct validate_size *size = &result->sizes[i];
		char raw[UNIT_TEXT_SIZE], gzip[UNIT_TEXT_SIZE];
		build_say(run, EVENT_PROGRESS, "%.*s: %llu files, %s%s%s", STR_ARG(size->name),
			  (unsigned long long)size->file_count, size_format(size->raw_bytes, raw),
			  size->gzip_bytes >= 0 ? ", gzip " : "",
			  size->gzip_bytes >= 0 ? size_format(size->gzip_bytes, gzip) : "");
	}
}

static errc report_findings(struct build_run *run, const struct validate_result *result,
			    struct err *e)
{
	if (result->finding_count_total == 0)
		return OK;
	for (size_t i = 0; i < result->finding_count && i < FINDINGS_SHOWN_MAX; i++) {
		const struct validate_finding *f = &result->findings[i];
		build_say(run, EVENT_WARNING, "%.*s:%zu: %s: %.*s", STR_ARG(f->file), f->line,
			  validate_rule_name(f->rule), STR_ARG(f->message));
	}
	const struct validate_finding *first = &result->findings[0];
	FAIL(e, ERR_FAILED,
	     "the result of the build is not fit to be served: %zu finding%s, the first: %.*s: "
	     "%.*s",
	     result->finding_count_total, result->finding_count_total == 1 ? "" : "s",
	     STR_ARG(first->file), STR_ARG(first->message));
}

static errc validate(struct build_run *run, struct arena *scratch, struct err *e)
{
	const struct spec_build *build = &run->spec->build;
	struct validate_options options = { .folder = run->work,
					    .public_folder = build->public_folder,
					    .allow = to_strs(scratch, &build->allow),
					    .allow_count = build->allow.count,
					    .external = to_strs(scratch, &build->external),
					    .external_count = build->external.count };
	struct validate_result result;
	struct stat st;
	char path[BUILD_PATH_SIZE];
	if (options.public_folder) {
		snprintf(path, sizeof(path), "%s/%s", run->work, options.public_folder);
		if (lstat(path, &st) < 0 || !S_ISDIR(st.st_mode))
			FAIL(e, ERR_FAILED, "the steps left no folder %s, which build.public names",
			     options.public_folder);
	}
	TRY(list_secrets(run, scratch, &options, e));
	TRY(list_budgets(run, scratch, &options, e));
	TRY(validate_build(&options, scratch, &result, e));
	say_sizes(run, &result, options.budget_count);
	return report_findings(run, &result, e);
}

static errc precompress(struct build_run *run, struct err *e)
{
	char folder[BUILD_PATH_SIZE], cache[BUILD_PATH_SIZE];
	char gzip[UNIT_TEXT_SIZE], brotli[UNIT_TEXT_SIZE], raw[UNIT_TEXT_SIZE];
	struct precompress_result result;
	if (!run->spec->build.precompress || !run->spec->build.public_folder)
		return OK;
	snprintf(folder, sizeof(folder), "%s/%s", run->work, run->spec->build.public_folder);
	snprintf(cache, sizeof(cache), "%s/builds/compressed", run->context->data);
	struct precompress_options options = { .folder = folder,
					       .cache_folder = cache,
					       .cancelled = build_cancelled,
					       .cancelled_ctx = run };
	TRY(precompress_folder(&options, &result, e));
	build_say(run, EVENT_PROGRESS, "compressed %s to %s (gzip) and %s (brotli)",
		  size_format(result.raw_bytes, raw), size_format(result.gzip_bytes, gzip),
		  size_format(result.brotli_bytes, brotli));
	return OK;
}

/* ---- What goes with the artifact. */

static errc write_sbom(struct build_run *run, struct buf *sbom, struct err *e)
{
	struct buf lock CLEANUP(buf_done) = buf_init(LOCK_FILE_MAX);
	char path[BUILD_PATH_SIZE];
	if (snprintf(path, sizeof(path), "%s/%s", run->work, LOCK_FILE) >= (int)sizeof(path))
		return OK;
	errc rc = io_read_file(path, &lock, e);
	if (rc == ERR_NOT_FOUND)
		return OK; /* no npm application */
	TRY(rc);
	return sbom_from_npm_lock(buf_str(&lock), sbom, e);
}

static errc fill_provenance(struct build_run *run, struct arena *scratch, struct provenance *p,
			    struct err *e)
{
	const struct spec_build *build = &run->spec->build;
	char hex[DIGEST_HEX_SIZE];
	struct provenance_tool *tools = arena_array(scratch, build->tools.count, sizeof(tools[0]));
	str *steps = arena_array(scratch, build->step_count, sizeof(steps[0]));
	TRY(arena_check(scratch, "the provenance", e));
	for (size_t i = 0; i < build->tools.count; i++)
		tools[i] = (struct provenance_tool){ str_c(run->tools[i].name),
						     str_c(run->tools[i].version) };
	for (size_t i = 0; i < build->step_count; i++)
		steps[i] = str_c(build->steps[i].run);
	*p = (struct provenance){ .application = str_c(run->spec->app),
				  .environment = str_c(run->environment->name),
				  .steps = steps,
				  .step_count = build->step_count,
				  .variables = to_strs(scratch, &build->variables),
				  .variable_count = build->variables.count,
				  .cache_key = arena_str(scratch,
							 str_c(digest_hex(&run->key, hex))),
				  .source = run->tree,
				  .tools = tools,
				  .tool_count = build->tools.count,
				  .invocation_id = str_c(run->operation.id),
				  .started_at = run->started_at,
				  .finished_at = clock_now() };
	for (size_t i = 0; i < run->input_count; i++) {
		if (strcmp(run->inputs[i].path, LOCK_FILE) != 0)
			continue;
		p->has_lock_file = true;
		p->lock_file_path = STR(LOCK_FILE);
		p->lock_file = run->inputs[i].digest;
	}
	return provenance_git(run->source, scratch, &p->git_commit, &p->git_remote, e);
}

static errc pack(struct build_run *run, struct arena *scratch, struct err *e)
{
	struct buf sbom CLEANUP(buf_done) = buf_init(SCRATCH_BYTES);
	struct provenance provenance;
	struct artifact_packed packed;
	char size[UNIT_TEXT_SIZE];
	TRY(write_sbom(run, &sbom, e));
	TRY(fill_provenance(run, scratch, &provenance, e));
	struct artifact_pack what = { .folder = run->work,
				      .include = to_strs(scratch, &run->spec->build.include),
				      .include_count = run->spec->build.include.count,
				      .application = str_c(run->spec->app),
				      .sbom = buf_str(&sbom),
				      .provenance = &provenance,
				      .cancelled = build_cancelled,
				      .cancelled_ctx = run };
	TRY(arena_check(scratch, "the list of what is packed", e));
	TRY(artifact_pack(run->context->artifacts, &what, &packed, e));
	run->artifact = packed.digest;
	run->packed_bytes = packed.packed_byte_count;
	build_say(run, EVENT_PROGRESS, "packed %llu files into %s%s",
		  (unsigned long long)packed.file_count,
		  size_format((int64_t)packed.packed_byte_count, size),
		  packed.existed ? " (the same as an earlier artifact)" : "");
	return OK;
}

errc build_make_artifact(struct build_run *run, struct err *e)
{
	struct arena scratch CLEANUP(arena_done) = arena_init(SCRATCH_BYTES);
	TRY(validate(run, &scratch, e));
	TRY(precompress(run, e));
	return pack(run, &scratch, e);
}
