/*
 * Runs the steps of one operation. The step is journaled before it begins; each step can be
 * repeated, so a daemon that finds an unfinished operation goes on at its journaled step. A failure
 * before the old colour is given up journals "revert" and gives everything back.
 */
#include <stdio.h>
#include <string.h>

#include "base/checks.h"
#include "base/log.h"
#include "feature/release/release_internal.h"
#include "os/clock.h"

enum { REQUEST_BYTES_MAX = 4 * 1024 * 1024 };

#define STEP_REVERT "revert"

struct release_step {
	const char *name;
	errc (*run)(struct release_run *run, struct err *e);
	bool in_rollback;
	bool interruptible; /* by a wish to cancel */
	bool revertible;    /* a failure gives the traffic back to the old colour */
	bool hooks;
};

/* The watch is no part of a rollback: what it would return to is what is being left. */
static const struct release_step steps[] = {
	{ "lock", release_step_lock, true, true, true, false },
	{ "build", release_step_build, false, true, true, true },
	{ "validate", release_step_validate, true, true, true, false },
	{ "start", release_step_start, true, true, true, true },
	{ "ready", release_step_ready, true, true, true, true },
	{ "smoke", release_step_smoke, false, true, true, true },
	{ "canary", release_step_canary, false, true, true, true },
	{ "switch", release_step_switch, true, false, true, true },
	{ "watch", release_step_watch, false, true, true, false },
	{ "drain", release_step_drain, true, false, false, true },
	{ "finish", release_step_finish, true, false, false, true },
};

static errc load_request(struct release_run *run, struct err *e)
{
	const struct json *json = NULL;
	TRY(json_parse(&run->arena, str_c(run->operation.request), REQUEST_BYTES_MAX, &json, e));
	run->specification = json_cstr(json_get(json, "specification"));
	run->file = json_cstr(json_get(json, "file"));
	run->source = json_cstr(json_get(json, "source"));
	run->artifact = json_cstr(json_get(json, "artifact"));
	run->wait_ms = json_i64(json_get(json, "wait_ms"), 0);
	run->to = json_i64(json_get(json, "to"), 0);
	run->dry_run = json_bool(json_get(json, "dry_run"), false);
	return OK;
}

/* ---- The end of an operation. */

static const char *write_result(struct release_run *run, struct buf *text)
{
	struct json_writer w = json_writer_init(text, false);
	json_begin_object(&w);
	json_put_i64(&w, "release", run->journal.release);
	json_put_i64(&w, "previous", run->journal.previous);
	json_put_cstr(&w, "artifact",
		      run->next.number ? run->next.artifact : run->journal.artifact);
	if (run->environment) {
		char url[512];
		bool six = strchr(run->environment->listen_host, ':') != NULL;
		snprintf(url, sizeof(url), "%s://%s%s%s:%d/",
			 run->environment->tls_certificate ? "https" : "http", six ? "[" : "",
			 run->environment->listen_host, six ? "]" : "",
			 run->environment->listen_port);
		json_put_cstr(&w, "url", url);
	}
	json_put_bool(&w, "dry_run", run->dry_run);
	json_put_i64(&w, "ready_ms", run->journal.ready_ms);
	json_put_i64(&w, "switched_ms", run->journal.switched_ms);
	json_put_i64(&w, "switch_us", run->journal.switch_us);
	json_put_i64(&w, "duration_ms", clock_now() - run->operation.created);
	json_end_object(&w);
	return buf_cstr(text);
}

static void finish(struct release_run *run, enum operation_state state, const struct err *error)
{
	struct buf text CLEANUP(buf_done) = buf_init(RELEASE_RESULT_MAX);
	struct err e;
	struct catalog *c = run->context->catalog;
	const char *result = write_result(run, &text);
	/* at once: an operation that is still at work must not have lost its lease to a later one
	 */
	errc rc = catalog_begin(c, &e);
	if (rc == OK) {
		if (run->has_lease)
			rc = leases_release(c, run->lease.name, run->operation.id, &e);
		if (rc == OK)
			rc = operations_finish(c, run->operation.id, state, error, result, &e);
		rc = catalog_end(c, rc, &e);
	}
	if (rc != OK)
		log_err(LOG_ERROR, "an operation cannot be finished", &e);
	log_info("operation ended",
		 "operation=%s kind=%s app=%s environment=%s state=%s release=%lld",
		 run->operation.id, run->operation.kind, run->operation.app,
		 run->operation.environment, operation_state_text(state),
		 (long long)run->journal.release);
}

static void succeed(struct release_run *run)
{
	run->step = "finish";
	if (!run->dry_run)
		release_notify(run, SPEC_EVENT_SUCCESS, NULL);
	finish(run, OPERATION_SUCCEEDED, NULL);
}

/* Give everything back, say what happened, end. Repeated from the journal when it is interrupted.
 */
static void fail(struct release_run *run)
{
	const struct release_journal *j = &run->journal;
	struct err e, error = { .code = j->error_code };
	snprintf(error.message, sizeof(error.message), "%s", j->error);
	run->step = STEP_REVERT;
	run->interruptible = false;
	errc rc = OK;
	if (j->release && !run->has_lease)
		rc = err_fill(&e, ERR_LOCKED, 0, __FILE__, __LINE__,
			      "it has no lease on the environment, which another operation may "
			      "change; see `holdfast status`");
	else if (j->release)
		rc = release_revert(run, &e);
	if (rc != OK) {
		if (__atomic_load_n(run->stopping, __ATOMIC_ACQUIRE))
			return;
		log_err(LOG_ERROR, "a failed deploy cannot be reverted", &e);
		release_say(run, EVENT_WARNING, "could not be reverted: %s", e.message);
	}
	run->step = j->error_step;
	release_say(run, EVENT_FAILURE, "%s", j->error);
	if (!run->dry_run)
		release_notify(run, SPEC_EVENT_FAILURE, j->error);
	finish(run, j->error_code == ERR_CANCELLED ? OPERATION_CANCELLED : OPERATION_FAILED,
	       &error);
}

static void journal_failure(struct release_run *run, const struct err *error)
{
	struct release_journal *j = &run->journal;
	struct err e;
	j->error_code = error->code ? error->code : ERR_INTERNAL;
	snprintf(j->error_step, sizeof(j->error_step), "%s", run->step);
	char serving[64] = "";
	if (j->previous)
		snprintf(serving, sizeof(serving), "\nRelease %lld goes on serving %s.",
			 (long long)j->previous, run->operation.environment);
	snprintf(j->error, sizeof(j->error), "%.2047s%s", error->message, serving);
	run->step = STEP_REVERT;
	if (release_journal_save(run, &e) != OK)
		log_err(LOG_ERROR, "the journal cannot be written", &e);
}

/* ---- Running. */

static errc run_step(struct release_run *run, const struct release_step *step, struct err *e)
{
	run->step = step->name;
	/* a hook before the switch can still be called off */
	run->interruptible = step->interruptible || (step->revertible && !run->journal.switched);
	TRY(release_journal_save(run, e));
	release_say(run, EVENT_STARTED, "%s", step->name);
	int64_t begun = clock_mono_ms();
	if (step->hooks)
		TRY(release_run_hooks(run, false, step->name, e));
	run->interruptible = step->interruptible;
	TRY(step->run(run, e));
	if (step->hooks)
		TRY(release_run_hooks(run, true, step->name, e));
	char data[64], took[UNIT_TEXT_SIZE];
	int64_t ms = clock_mono_ms() - begun;
	snprintf(data, sizeof(data), "{\"duration_ms\":%lld}", (long long)ms);
	operations_event(run->context->catalog, run->operation.id, EVENT_DONE, step->name, data,
			 "%s (%s)", step->name, duration_format(ms, took));
	return OK;
}

static size_t step_index(const char *name)
{
	for (size_t i = 0; i < ARRAY_COUNT(steps); i++)
		if (strcmp(steps[i].name, name) == 0)
			return i;
	return 0;
}

/* The daemon is going: the operation stays as it is for the next one. */
static bool left_for_later(const struct release_run *run, errc rc)
{
	return rc == ERR_UNAVAILABLE && __atomic_load_n(run->stopping, __ATOMIC_ACQUIRE);
}

/* Deploys that only ask what would be done end before anything changes. */
static bool ends_here(const struct release_run *run, const struct release_step *step)
{
	return run->dry_run && strcmp(step->name, "validate") == 0;
}

static void run_from(struct release_run *run, size_t first)
{
	struct err e = { 0 };
	for (size_t i = first; i < ARRAY_COUNT(steps); i++) {
		const struct release_step *step = &steps[i];
		if (release_is_rollback(run) && !step->in_rollback)
			continue;
		if (run->dry_run && strcmp(step->name, "lock") != 0 &&
		    strcmp(step->name, "validate") != 0)
			continue;
		errc rc = run_step(run, step, &e);
		if (left_for_later(run, rc))
			return;
		if (rc != OK && step->revertible) {
			journal_failure(run, &e);
			fail(run);
			return;
		}
		if (rc != OK) {
			/* the new release serves: what is left to do is tidying up */
			log_err(LOG_WARN, "a step after the switch failed", &e);
			release_say(run, EVENT_WARNING, "%s", e.message);
		}
		if (ends_here(run, step)) {
			release_write_plan(run);
			break;
		}
	}
	succeed(run);
}

void release_run_all(struct release_run *run)
{
	struct err e = { 0 };
	run->step = run->operation.step;
	errc rc = load_request(run, &e);
	if (rc == OK)
		rc = release_journal_load(run, &e);
	bool resumed = run->operation.step[0] != '\0';
	if (rc == OK && resumed) {
		release_say(run, EVENT_PROGRESS, "resumed at %s by a new daemon",
			    run->operation.step);
		rc = release_step_lock(run, &e);
		if (rc == OK)
			rc = release_load(run, &e);
	}
	if (left_for_later(run, rc))
		return;
	if (rc != OK) {
		run->step = "lock";
		journal_failure(run, &e);
		fail(run);
	} else if (strcmp(run->operation.step, STEP_REVERT) == 0) {
		fail(run);
	} else {
		run_from(run, step_index(run->operation.step));
	}
}
