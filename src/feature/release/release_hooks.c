/* Hooks: commands around the phases. Webhooks: what the outbox is given. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/checks.h"
#include "base/log.h"
#include "catalog/outbox.h"
#include "feature/release/release_internal.h"
#include "feature/workspace.h"
#include "os/clock.h"

struct hook_context {
	struct release_run *run;
	char last[512]; /* the last line of output */
};

static void take_line(void *ctx, str line)
{
	struct hook_context *h = ctx;
	if (line.len)
		snprintf(h->last, sizeof(h->last), "%.*s", line.len < 500 ? (int)line.len : 500,
			 line.ptr);
	release_say(h->run, EVENT_OUTPUT, "%.*s", line.len < 2000 ? (int)line.len : 2000, line.ptr);
}

static bool hook_cancelled(void *ctx)
{
	struct hook_context *h = ctx;
	struct release_run *run = h->run;
	return __atomic_load_n(run->stopping, __ATOMIC_ACQUIRE) ||
	       (run->interruptible &&
		operations_cancel_wanted(run->context->catalog, run->operation.id));
}

/* In the release's working copy where there is one, else in the source folder. */
static errc hook_folder(struct release_run *run, char path[static WORKSPACE_PATH_SIZE],
			struct err *e)
{
	struct stat st;
	if (run->next.number) {
		TRY(workspace_path(run->context, &run->next, path, e));
		if (stat(path, &st) == 0)
			return OK;
	}
	snprintf(path, WORKSPACE_PATH_SIZE, "%s",
		 run->source && run->source[0] ? run->source : "/");
	return OK;
}

static errc hook_environment(struct release_run *run, const char *phase, struct arena *scratch,
			     const char *const **ret_envp, struct err *e)
{
	const char *const extra[] = {
		arena_printf(scratch, "HOLDFAST_PHASE=%s", phase),
		arena_printf(scratch, "HOLDFAST_OPERATION=%s", run->operation.id),
		arena_printf(scratch, "HOLDFAST_ACTOR=%s", run->operation.actor),
	};
	struct release r = run->next;
	if (!r.number) {
		/* before there is a release: the configuration of the one that serves */
		r = run->previous;
		memcpy(r.app, run->operation.app, sizeof(r.app));
		memcpy(r.environment, run->operation.environment, sizeof(r.environment));
	}
	if (r.number)
		return workspace_environment(run->context, &r, run->environment, NULL, scratch,
					     extra, ARRAY_COUNT(extra), ret_envp, e);
	const char **envp = arena_array(scratch, ARRAY_COUNT(extra) + 4, sizeof(envp[0]));
	TRY(arena_check(scratch, "the environment of a hook", e));
	envp[0] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	envp[1] = arena_printf(scratch, "HOLDFAST_APP=%s", run->operation.app);
	envp[2] = arena_printf(scratch, "HOLDFAST_ENVIRONMENT=%s", run->operation.environment);
	for (size_t i = 0; i < ARRAY_COUNT(extra); i++)
		envp[3 + i] = extra[i];
	*ret_envp = envp;
	return OK;
}

static errc run_hook(struct release_run *run, const struct spec_hook *hook, const char *phase,
		     struct err *e)
{
	struct arena scratch CLEANUP(arena_done) = arena_init(WORKSPACE_ARENA_BYTES);
	struct hook_context h = { .run = run };
	char folder[WORKSPACE_PATH_SIZE];
	const char *const *envp = NULL;
	TRY(hook_folder(run, folder, e));
	TRY(hook_environment(run, phase, &scratch, &envp, e));
	release_say(run, EVENT_PROGRESS, "hook %s %s: %s", hook->after ? "after" : "before", phase,
		    hook->run);
	const char *const argv[] = { "/bin/sh", "-c", hook->run, NULL };
	struct process_run command = { .process = { .argv = argv,
						    .envp = envp,
						    .cwd = folder,
						    .fd_stdin = -1,
						    .user = run->context->account },
				       .time_ms_max = hook->timeout_ms,
				       .line = take_line,
				       .cancelled = hook_cancelled,
				       .ctx = &h };
	if (process_run(&command, e) == OK)
		return OK;
	if (__atomic_load_n(run->stopping, __ATOMIC_ACQUIRE))
		FAIL(e, ERR_UNAVAILABLE, "the daemon stops"); /* the next one runs it again */
	err_prepend(e, "the hook %s %s (%.80s) failed", hook->after ? "after" : "before", phase,
		    hook->run);
	if (e && h.last[0])
		snprintf(e->message + strlen(e->message), sizeof(e->message) - strlen(e->message),
			 "; its last line: %.300s", h.last);
	return e ? e->code : ERR_FAILED;
}

/* The environment is known from the step "validate" on; before that from the request. */
static errc find_deploy(struct release_run *run, struct err *e)
{
	if (run->environment || !run->specification[0])
		return OK;
	TRY(spec_parse(&run->arena, str_c(run->specification), run->file, &run->spec, NULL, e));
	return spec_environment_find(run->spec, run->operation.environment, &run->environment, e);
}

errc release_run_hooks(struct release_run *run, bool after, const char *phase, struct err *e)
{
	TRY(find_deploy(run, e));
	if (!run->environment)
		return OK;
	const struct spec_deploy *deploy = &run->environment->deploy;
	for (size_t i = 0; i < deploy->hook_count; i++) {
		const struct spec_hook *hook = &deploy->hooks[i];
		if (hook->after != after || strcmp(spec_phase_name(hook->phase), phase) != 0)
			continue;
		errc rc = run_hook(run, hook, phase, e);
		if (rc == OK)
			continue;
		/* once the new release serves, a failing hook is no reason to take it back */
		if (!(run->journal.switched && after))
			return rc;
		release_say(run, EVENT_WARNING, "%s", e ? e->message : "a hook failed");
	}
	return OK;
}

static const char *event_name(const struct release_run *run, unsigned event)
{
	bool rollback = release_is_rollback(run);
	if (event == SPEC_EVENT_START)
		return rollback ? "rollback.started" : "deploy.started";
	if (event == SPEC_EVENT_SUCCESS)
		return rollback ? "rollback.succeeded" : "deploy.succeeded";
	return rollback ? "rollback.failed" : "deploy.failed";
}

static void write_body(struct release_run *run, unsigned event, const char *error, struct buf *body)
{
	char at[UNIT_TEXT_SIZE];
	struct json_writer w = json_writer_init(body, false);
	json_begin_object(&w);
	json_put_cstr(&w, "type", event_name(run, event));
	json_put_cstr(&w, "timestamp", time_format(clock_now(), at));
	json_key(&w, "data");
	json_begin_object(&w);
	json_put_cstr(&w, "app", run->operation.app);
	json_put_cstr(&w, "environment", run->operation.environment);
	json_put_cstr(&w, "operation", run->operation.id);
	json_put_cstr(&w, "actor", run->operation.actor);
	json_put_i64(&w, "release", run->journal.release);
	json_put_i64(&w, "previous", run->journal.previous);
	json_put_cstr(&w, "artifact",
		      run->next.number ? run->next.artifact : run->journal.artifact);
	json_put_i64(&w, "duration_ms", clock_now() - run->operation.created);
	if (error) {
		json_put_cstr(&w, "step", run->journal.error_step);
		json_put_cstr(&w, "error", error);
	}
	json_end_object(&w);
	json_end_object(&w);
}

void release_notify(struct release_run *run, unsigned event, const char *error)
{
	struct buf body CLEANUP(buf_done) = buf_init(OUTBOX_BODY_MAX);
	struct err e;
	if (find_deploy(run, &e) != OK || !run->environment)
		return;
	const struct spec_deploy *deploy = &run->environment->deploy;
	write_body(run, event, error, &body);
	for (size_t i = 0; i < deploy->webhook_count; i++) {
		const struct spec_webhook *hook = &deploy->webhooks[i];
		char id[OPERATION_ID_SIZE + 32];
		if (!(hook->events & event))
			continue;
		/* the same for a repeated step, so that nobody is told twice */
		snprintf(id, sizeof(id), "msg_%s_%u_%zu", run->operation.id, event, i);
		struct outbox_message message = { .message_id = id,
						  .app = run->operation.app,
						  .environment = run->operation.environment,
						  .url = hook->url,
						  .secret_name = hook->secret ? hook->secret : "",
						  .body = buf_cstr(&body) };
		errc rc = outbox_put(run->context->catalog, &message, &e);
		if (rc != OK && rc != ERR_CONFLICT)
			log_err(LOG_ERROR, "a webhook cannot be put into the outbox", &e);
	}
}
