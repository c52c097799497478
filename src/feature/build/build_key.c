/*
 * Keys. Everything that can change the result takes part: the meaning of the build's definition
 * (not its spelling), the versions of the tools, the values of the declared variables, and every
 * input.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checks.h"
#include "base/glob.h"
#include "feature/build/build_internal.h"
#include "os/io.h"
#include "os/process.h"

/* Changes when the same inputs would give another artifact: the builder is an input too. */
#define BUILDER_VERSION "holdfast builder 1"

enum { TOOL_COUNT_MAX = 64, TOOL_MS_MAX = 10000, TOOL_LINE_MAX = 200 };

/* A length before each field keeps two lists of fields from giving the same bytes. */
static void add(struct digest_state *s, const char *field)
{
	uint64_t len = strlen(field);
	digest_state_add(s, (str){ (const char *)&len, sizeof(len) });
	digest_state_add(s, (str){ field, len });
}

static void add_i64(struct digest_state *s, int64_t v)
{
	char text[24];
	snprintf(text, sizeof(text), "%lld", (long long)v);
	add(s, text);
}

static void add_list(struct digest_state *s, const struct spec_list *list)
{
	add_i64(s, (int64_t)list->count);
	for (size_t i = 0; i < list->count; i++)
		add(s, list->items[i]);
}

static void add_variables(struct digest_state *s, const struct build_run *run,
			  const struct spec_list *names)
{
	add_i64(s, (int64_t)names->count);
	for (size_t i = 0; i < names->count; i++) {
		const char *value = spec_variable_find(&run->environment->variables,
						       names->items[i]);
		add(s, names->items[i]);
		add(s, value ? "=" : "unset");
		add(s, value ? value : "");
	}
}

const struct spec_list *build_step_variables(const struct build_run *run,
					     const struct spec_step *step)
{
	bool cached = step->inputs.count && step->outputs.count;
	return cached ? &step->variables : &run->spec->build.variables;
}

static void add_tools(struct digest_state *s, const struct build_run *run)
{
	add_i64(s, (int64_t)run->spec->build.tools.count);
	for (size_t i = 0; i < run->spec->build.tools.count; i++) {
		add(s, run->tools[i].name);
		add(s, run->tools[i].version);
	}
}

static void add_input(struct digest_state *s, const struct build_input *input)
{
	add(s, input->path);
	add_i64(s, input->mode);
	digest_state_add(s, (str){ (const char *)input->digest.bytes, DIGEST_BYTES });
}

static void add_definition(struct digest_state *s, const struct spec_build *build)
{
	add_i64(s, (int64_t)build->step_count);
	for (size_t i = 0; i < build->step_count; i++) {
		add(s, build->steps[i].name);
		add(s, build->steps[i].run);
		add_list(s, &build->steps[i].inputs);
		add_list(s, &build->steps[i].outputs);
		add_list(s, &build->steps[i].variables);
	}
	add_list(s, &build->include);
	add(s, build->public_folder ? build->public_folder : "");
	add_i64(s, build->precompress);
	add_list(s, &build->allow);
	add_list(s, &build->external);
	add_i64(s, (int64_t)build->budget_count);
	for (size_t i = 0; i < build->budget_count; i++) {
		add(s, build->budgets[i].files);
		add_i64(s, build->budgets[i].size_bytes_max);
		add_i64(s, build->budgets[i].gzip_bytes_max);
		add_i64(s, build->budgets[i].brotli_bytes_max);
	}
}

errc build_make_key(struct build_run *run, struct err *e)
{
	struct digest_state tree CLEANUP(digest_state_done) = digest_state_init();
	struct digest_state s CLEANUP(digest_state_done) = digest_state_init();
	(void)e;
	for (size_t i = 0; i < run->input_count; i++)
		add_input(&tree, &run->inputs[i]);
	run->tree = digest_state_finish(&tree);
	add(&s, BUILDER_VERSION);
	add(&s, run->spec->app);
	add_definition(&s, &run->spec->build);
	add_tools(&s, run);
	add_variables(&s, run, &run->spec->build.variables);
	digest_state_add(&s, (str){ (const char *)run->tree.bytes, DIGEST_BYTES });
	run->key = digest_state_finish(&s);
	return OK;
}

static bool takes_input(const struct spec_step *step, const char *path)
{
	for (size_t i = 0; i < step->inputs.count; i++)
		if (glob_match(str_c(step->inputs.items[i]), str_c(path)))
			return true;
	return false;
}

/* A step sees what those before it made, so their commands are part of its key. */
bool build_step_key(const struct build_run *run, size_t step, struct digest *ret_key)
{
	const struct spec_step *steps = run->spec->build.steps;
	if (!steps[step].inputs.count || !steps[step].outputs.count)
		return false;
	struct digest_state s CLEANUP(digest_state_done) = digest_state_init();
	add(&s, BUILDER_VERSION " step");
	add(&s, run->spec->app);
	add_tools(&s, run);
	for (size_t i = 0; i <= step; i++) {
		add(&s, steps[i].run);
		add_list(&s, &steps[i].outputs);
		add_variables(&s, run, build_step_variables(run, &steps[i]));
		/* an earlier step without inputs of its own may have read anything */
		struct digest_state seen CLEANUP(digest_state_done) = digest_state_init();
		for (size_t k = 0; k < run->input_count; k++)
			if (!steps[i].inputs.count || takes_input(&steps[i], run->inputs[k].path))
				add_input(&seen, &run->inputs[k]);
		struct digest inputs = digest_state_finish(&seen);
		digest_state_add(&s, (str){ (const char *)inputs.bytes, DIGEST_BYTES });
	}
	*ret_key = digest_state_finish(&s);
	return true;
}

/* ---- Tools. */

struct cached_tool {
	char path[BUILD_PATH_SIZE]; /* of the real file */
	struct stat st;
	char version[TOOL_LINE_MAX];
};

struct build_tool_cache {
	struct cached_tool *tools;
	size_t count;
};

struct build_tool_cache *build_tool_cache_new(void)
{
	return must_calloc(1, sizeof(struct build_tool_cache));
}

void build_tool_cache_free(struct build_tool_cache *c)
{
	if (!c)
		return;
	free(c->tools);
	free(c);
}

/* Any replacement of a file changes one of these. */
static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
	       a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* The real file that NAME in PATH leads to. */
static bool resolve_tool(const char *name, char real[static BUILD_PATH_SIZE], struct stat *st)
{
	const char *path = getenv("PATH");
	str rest = str_c(path ? path : "/usr/local/bin:/usr/bin:/bin"), folder;
	while (str_split(&rest, ':', &folder)) {
		char candidate[BUILD_PATH_SIZE];
		int n = snprintf(candidate, sizeof(candidate), "%.*s/%s", STR_ARG(folder), name);
		if (n > 0 && n < (int)sizeof(candidate) && access(candidate, X_OK) == 0 &&
		    realpath(candidate, real) && stat(real, st) == 0 && S_ISREG(st->st_mode))
			return true;
	}
	return false;
}

struct version_line {
	char text[TOOL_LINE_MAX];
};

static void take_first_line(void *ctx, str line)
{
	struct version_line *v = ctx;
	if (!v->text[0] && line.len)
		snprintf(v->text, sizeof(v->text), "%.*s", line.len < 150 ? (int)line.len : 150,
			 line.ptr);
}

static errc ask_version(struct build_run *run, const char *name, struct version_line *v,
			struct err *e)
{
	const char *const argv[] = { name, "--version", NULL };
	const char *const *envp = NULL;
	TRY(build_environment(run, NULL, &envp, e));
	struct process_run command = { .process = { .argv = argv,
						    .envp = envp,
						    .cwd = "/",
						    .fd_stdin = -1,
						    .user = run->context->account },
				       .time_ms_max = TOOL_MS_MAX,
				       .line = take_first_line,
				       .ctx = v };
	if (process_run(&command, e) != OK)
		return err_prepend(e, "`%s --version` failed", name);
	return OK;
}

static errc find_tool(struct build_run *run, const char *name, struct build_tool *tool,
		      struct err *e)
{
	struct build_tool_cache *c = run->tool_cache;
	struct version_line v = { "" };
	struct cached_tool found = { 0 };
	if (!resolve_tool(name, found.path, &found.st))
		FAIL(e, ERR_NOT_FOUND, "build.tools names %s, which is not in the daemon's PATH",
		     name);
	tool->name = name;
	for (size_t i = 0; i < c->count; i++) {
		if (strcmp(c->tools[i].path, found.path) != 0 ||
		    !same_file(&c->tools[i].st, &found.st))
			continue;
		tool->version = arena_cstr(&run->arena, str_c(c->tools[i].version));
		return OK;
	}
	TRY(ask_version(run, name, &v, e));
	memcpy(found.version, v.text, sizeof(found.version));
	if (c->count == TOOL_COUNT_MAX)
		c->count = 0;
	c->tools = must_realloc(c->tools, (c->count + 1) * sizeof(c->tools[0]));
	c->tools[c->count++] = found;
	tool->version = arena_cstr(&run->arena, str_c(v.text));
	return OK;
}

errc build_find_tools(struct build_run *run, struct err *e)
{
	const struct spec_list *names = &run->spec->build.tools;
	run->tools = arena_array(&run->arena, names->count, sizeof(run->tools[0]));
	TRY(arena_check(&run->arena, "the tools", e));
	for (size_t i = 0; i < names->count; i++)
		TRY(find_tool(run, names->items[i], &run->tools[i], e));
	return OK;
}
