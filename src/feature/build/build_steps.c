#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "artifact/digest_file.h"
#include "base/checks.h"
#include "feature/build/build_internal.h"
#include "os/clock.h"
#include "os/io.h"
#include "os/process.h"

enum { NICE = 10, OOM_SCORE_ADJ = 500, STEP_CACHE_MAX = 16 };

/* Of the daemon's own environment: how packages are fetched here, never what. No part of a key. */
static const char *const fetching[] = {
	"HTTP_PROXY",          "HTTPS_PROXY",         "NO_PROXY",
	"http_proxy",          "https_proxy",         "no_proxy",
	"NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE",       "SSL_CERT_DIR",
	"NPM_CONFIG_REGISTRY", "npm_config_registry", "npm_config_cafile",
};

errc build_environment(struct build_run *run, const struct spec_step *step,
		       const char *const **ret_envp, struct err *e)
{
	static const struct spec_list none = { 0 };
	const struct spec_list *names = step ? build_step_variables(run, step) : &none;
	const char *path = getenv("PATH");
	size_t count = 0, room = names->count + ARRAY_COUNT(fetching) + 16;
	const char **envp = arena_array(&run->arena, room, sizeof(envp[0]));
	TRY(arena_check(&run->arena, "the environment of a step", e));
	envp[count++] = arena_printf(&run->arena, "PATH=%s",
				     path ? path : "/usr/local/bin:/usr/bin:/bin");
	envp[count++] = arena_printf(&run->arena, "HOME=%s", run->home);
	envp[count++] = "LANG=C.UTF-8";
	envp[count++] = "TZ=UTC";
	envp[count++] = "CI=1";
	envp[count++] = "NO_COLOR=1";
	/* for tools that stamp what they make: every build happens at the same time */
	envp[count++] = "SOURCE_DATE_EPOCH=315532800";
	envp[count++] = "npm_config_update_notifier=false";
	envp[count++] = "npm_config_fund=false";
	envp[count++] = arena_printf(&run->arena, "HOLDFAST_APP=%s", run->spec->app);
	/* of the environment only the declared variables: they are in the key, its name is not */
	for (size_t i = 0; i < names->count; i++) {
		const char *value = spec_variable_find(&run->environment->variables,
						       names->items[i]);
		if (value)
			envp[count++] = arena_printf(&run->arena, "%s=%s", names->items[i], value);
	}
	for (size_t i = 0; i < ARRAY_COUNT(fetching); i++) {
		const char *value = getenv(fetching[i]);
		if (value)
			envp[count++] = arena_printf(&run->arena, "%s=%s", fetching[i], value);
	}
	must(count < room);
	*ret_envp = envp;
	return arena_check(&run->arena, "the environment of a step", e);
}

/* ---- The working copy. */

static errc copy_inputs(struct build_run *run, struct err *e)
{
	for (size_t i = 0; i < run->input_count; i++) {
		const struct build_input *input = &run->inputs[i];
		char from[BUILD_PATH_SIZE], to[BUILD_PATH_SIZE];
		if (snprintf(from, sizeof(from), "%s/%s", run->source, input->path) >=
			    (int)sizeof(from) ||
		    snprintf(to, sizeof(to), "%s/%s", run->work, input->path) >= (int)sizeof(to))
			FAIL(e, ERR_LIMIT, "the path of %s is too long", input->path);
		if (i % 256 == 0 && build_cancelled(run))
			FAIL(e, ERR_CANCELLED, "it was cancelled");
		if (S_ISDIR(input->mode)) {
			TRY(io_make_dirs(to, 0755, e));
			continue;
		}
		TRY(io_copy_tree(from, to, false, e));
		if (!S_ISREG(input->mode))
			continue;
		/* what is built must be what was hashed */
		struct digest copied;
		uint64_t size = 0;
		TRY(digest_of_file(to, &copied, &size, e));
		if (!digest_eq(&copied, &input->digest))
			FAIL(e, ERR_CONFLICT, "%s changed while it was copied; build again",
			     input->path);
		if (chmod(to, input->mode & 0777) < 0)
			FAIL_ERRNO(e, "cannot set the mode of %s", to);
	}
	return OK;
}

static errc give_to_account(const struct build_run *run, const char *path, struct err *e)
{
	const struct process_user *account = &run->context->account;
	return account->drop ? io_chown_tree(path, account->uid, account->gid, e) : OK;
}

static errc make_folders(struct build_run *run, struct err *e)
{
	const struct process_user *account = &run->context->account;
	char builds[BUILD_PATH_SIZE];
	if (snprintf(builds, sizeof(builds), "%s/builds/work", run->context->data) >=
		    (int)sizeof(builds) ||
	    snprintf(run->work, sizeof(run->work), "%s/%s", builds, run->operation.id) >=
		    (int)sizeof(run->work))
		FAIL(e, ERR_LIMIT, "the path of the data folder is too long");
	TRY(io_make_dirs(builds, 0711, e));
	TRY(io_make_dirs(run->home, 0700, e));
	if (account->drop && chown(run->home, account->uid, account->gid) < 0)
		FAIL_ERRNO(e, "cannot give %s to the account that builds", run->home);
	TRY(io_remove_tree(run->work, e));
	return io_make_dirs(run->work, 0700, e);
}

/* ---- The cache of single steps. */

static void step_cache_path(const struct build_run *run, const struct digest *key,
			    char path[static BUILD_PATH_SIZE])
{
	char hex[DIGEST_HEX_SIZE];
	snprintf(path, BUILD_PATH_SIZE, "%s/builds/steps/%s", run->context->data,
		 digest_hex(key, hex));
}

static errc copy_outputs(const struct spec_step *step, const char *from, const char *to,
			 bool *ret_any, struct err *e)
{
	for (size_t i = 0; i < step->outputs.count; i++) {
		char source[BUILD_PATH_SIZE], target[BUILD_PATH_SIZE];
		struct stat st;
		if (snprintf(source, sizeof(source), "%s/%s", from, step->outputs.items[i]) >=
			    (int)sizeof(source) ||
		    snprintf(target, sizeof(target), "%s/%s", to, step->outputs.items[i]) >=
			    (int)sizeof(target))
			FAIL(e, ERR_LIMIT, "the path of the output %s is too long",
			     step->outputs.items[i]);
		if (lstat(source, &st) < 0)
			continue;
		char *slash = strrchr(target, '/');
		*slash = '\0';
		TRY(io_make_dirs(target, 0755, e));
		*slash = '/';
		TRY(io_remove_tree(target, e));
		TRY(io_copy_tree(source, target, false, e));
		TRY(S_ISDIR(st.st_mode) || S_ISREG(st.st_mode) || S_ISLNK(st.st_mode)
			    ? OK
			    : ERR_INVALID);
		*ret_any = true;
	}
	return OK;
}

/* Take a step's outputs from the cache; false when they are not there. */
static bool restore_step(struct build_run *run, const struct spec_step *step,
			 const struct digest *key)
{
	char cached[BUILD_PATH_SIZE], target[BUILD_PATH_SIZE];
	struct stat st;
	struct err e;
	bool any = false;
	step_cache_path(run, key, cached);
	if (stat(cached, &st) < 0)
		return false;
	if (copy_outputs(step, cached, run->work, &any, &e) != OK || !any) {
		build_say(run, EVENT_WARNING, "the cache of %s cannot be used: %s", step->name,
			  any ? e.message : "it is empty");
		return false;
	}
	for (size_t i = 0; i < step->outputs.count; i++) {
		snprintf(target, sizeof(target), "%s/%s", run->work, step->outputs.items[i]);
		if (lstat(target, &st) == 0 && give_to_account(run, target, &e) != OK)
			return false;
	}
	utimensat(AT_FDCWD, cached, NULL, 0); /* used: the oldest go first */
	return true;
}

/* A cache that cannot be written costs time, not the build. */
static void store_step(struct build_run *run, const struct spec_step *step,
		       const struct digest *key)
{
	char cached[BUILD_PATH_SIZE], partial[BUILD_PATH_SIZE + 16];
	struct err e;
	bool any = false;
	step_cache_path(run, key, cached);
	snprintf(partial, sizeof(partial), "%s.partial", cached);
	errc rc = io_remove_tree(partial, &e);
	if (rc == OK)
		rc = io_make_dirs(partial, 0700, &e);
	if (rc == OK)
		rc = copy_outputs(step, run->work, partial, &any, &e);
	if (rc == OK && any)
		rc = io_remove_tree(cached, &e);
	if (rc == OK && any && rename(partial, cached) < 0)
		rc = err_fill_errno(&e, __FILE__, __LINE__, "cannot keep %s", cached);
	if (rc != OK || !any) {
		if (rc != OK)
			build_say(run, EVENT_WARNING, "the outputs of %s are not cached: %s",
				  step->name, e.message);
		if (io_remove_tree(partial, &e) != OK)
			build_say(run, EVENT_WARNING, "%s", e.message);
	}
}

struct cached_step {
	char path[BUILD_PATH_SIZE];
	int64_t used_s;
};

struct cache_list {
	const char *root;
	struct cached_step *items;
	size_t count;
};

static errc list_cached(void *ctx, const struct io_entry *entry, enum io_walk *ret_walk,
			struct err *e)
{
	struct cache_list *list = ctx;
	(void)e;
	*ret_walk = IO_WALK_SKIP;
	list->items = must_realloc(list->items, (list->count + 1) * sizeof(list->items[0]));
	struct cached_step *item = &list->items[list->count++];
	snprintf(item->path, sizeof(item->path), "%s/%s", list->root, entry->path);
	item->used_s = entry->st.st_mtim.tv_sec;
	return OK;
}

static int latest_first(const void *a, const void *b)
{
	int64_t x = ((const struct cached_step *)a)->used_s,
		y = ((const struct cached_step *)b)->used_s;
	return x < y ? 1 : x > y ? -1 : 0;
}

static void prune_step_cache(struct build_run *run)
{
	char root[BUILD_PATH_SIZE];
	struct cache_list list = { .root = root };
	struct err e;
	snprintf(root, sizeof(root), "%s/builds/steps", run->context->data);
	if (io_walk(root, list_cached, &list, &e) == OK && list.count > STEP_CACHE_MAX) {
		qsort(list.items, list.count, sizeof(list.items[0]), latest_first);
		for (size_t i = STEP_CACHE_MAX; i < list.count; i++)
			if (io_remove_tree(list.items[i].path, &e) != OK)
				build_say(run, EVENT_WARNING, "%s", e.message);
	}
	free(list.items);
}

/* ---- Running. */

struct step_output {
	struct build_run *run;
	char last[8][256]; /* a ring of the last lines */
	size_t line_count;
};

static void take_line(void *ctx, str line)
{
	struct step_output *o = ctx;
	char *last = o->last[o->line_count % ARRAY_COUNT(o->last)];
	snprintf(last, sizeof(o->last[0]), "%.*s", line.len < 250 ? (int)line.len : 250, line.ptr);
	o->line_count++;
	build_say(o->run, EVENT_OUTPUT, "%.*s", line.len < 2000 ? (int)line.len : 2000, line.ptr);
}

static bool step_cancelled(void *ctx)
{
	const struct step_output *o = ctx;
	return build_cancelled(o->run);
}

/* The last lines below the message, so that the failure explains itself. */
static void append_output(const struct step_output *o, struct err *e)
{
	size_t first = o->line_count > ARRAY_COUNT(o->last) ? o->line_count - ARRAY_COUNT(o->last)
							    : 0;
	for (size_t i = first; e && i < o->line_count; i++) {
		size_t used = strlen(e->message);
		snprintf(e->message + used, sizeof(e->message) - used, "\n%s",
			 o->last[i % ARRAY_COUNT(o->last)]);
	}
}

static errc run_step(struct build_run *run, const struct spec_step *step, int64_t deadline,
		     struct err *e)
{
	struct step_output output = { .run = run };
	const char *const argv[] = { "/bin/sh", "-c", step->run, NULL };
	const char *const *envp = NULL;
	int64_t left = deadline - clock_mono_ms();
	if (left <= 0)
		FAIL(e, ERR_TIMEOUT, "the build took longer than build.timeout allows");
	TRY(build_environment(run, step, &envp, e));
	struct process_run command = { .process = { .argv = argv,
						    .envp = envp,
						    .cwd = run->work,
						    .fd_stdin = -1,
						    .nice = NICE,
						    .oom_score_adj = OOM_SCORE_ADJ,
						    .memory_bytes_max =
							    run->spec->build.memory_bytes_max,
						    .user = run->context->account },
				       .time_ms_max = left,
				       .line = take_line,
				       .cancelled = step_cancelled,
				       .ctx = &output };
	errc rc = process_run(&command, e);
	if (rc == OK)
		return OK;
	char limit[UNIT_TEXT_SIZE];
	if (rc == ERR_TIMEOUT) /* it had what earlier steps left of the time */
		err_fill(e, rc, 0, __FILE__, __LINE__,
			 "the step %s (%.120s) was killed: the build took longer than the %s of "
			 "build.timeout",
			 step->name, step->run,
			 duration_format(run->spec->build.timeout_ms, limit));
	else
		err_prepend(e, "the step %s (%.120s) failed", step->name, step->run);
	append_output(&output, e);
	return rc;
}

static errc run_or_restore(struct build_run *run, size_t index, int64_t deadline, struct err *e)
{
	const struct spec_step *step = &run->spec->build.steps[index];
	struct digest key;
	char took[UNIT_TEXT_SIZE];
	int64_t begun = clock_mono_ms();
	bool cacheable = build_step_key(run, index, &key);
	if (cacheable && restore_step(run, step, &key)) {
		build_say(run, EVENT_PROGRESS, "%s: unchanged, taken from the cache (%s)",
			  step->name, duration_format(clock_mono_ms() - begun, took));
		return OK;
	}
	build_say(run, EVENT_PROGRESS, "%s: %s", step->name, step->run);
	TRY(run_step(run, step, deadline, e));
	build_say(run, EVENT_PROGRESS, "%s: done in %s", step->name,
		  duration_format(clock_mono_ms() - begun, took));
	if (cacheable)
		store_step(run, step, &key);
	return OK;
}

errc build_run_steps(struct build_run *run, struct err *e)
{
	const struct spec_build *build = &run->spec->build;
	int64_t deadline = clock_mono_ms() + build->timeout_ms;
	TRY(make_folders(run, e));
	TRY(copy_inputs(run, e));
	TRY(give_to_account(run, run->work, e));
	for (size_t i = 0; i < build->step_count; i++)
		TRY(run_or_restore(run, i, deadline, e));
	prune_step_cache(run);
	return OK;
}
