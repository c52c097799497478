/* The steps until the new colour may take traffic: lock, build, validate, start, ready. */
#include <stdio.h>
#include <string.h>

#include "base/checks.h"
#include "catalog/secrets.h"
#include "feature/release/release_internal.h"
#include "feature/workspace.h"
#include "os/clock.h"

enum {
	SCRATCH_BYTES = 32 * 1024 * 1024,
	LOCK_POLL_MS = 200,
	HOUSEKEEPING_MS = 60000,
	PROXY_FAILURE_MS = 10000
};

/* ---- lock */

/* Whether an older operation for the same place still waits for the lock: first come, first served.
 */
static errc is_first(struct release_run *run, const char *name, bool *ret_first, struct err *e)
{
	struct lease lease;
	bool held = leases_get(run->context->catalog, name, &lease, NULL) == OK;
	struct arena scratch CLEANUP(arena_done) = arena_init(RELEASE_ARENA_BYTES);
	struct operation_filter filter = { .app = run->operation.app,
					   .environment = run->operation.environment,
					   .unfinished = true };
	struct operation *items = NULL;
	size_t count = 0;
	TRY(operations_list(run->context->catalog, &filter, &scratch, &items, &count, e));
	*ret_first = true;
	for (size_t i = 0; i < count && strcmp(items[i].id, run->operation.id) != 0; i++)
		/* who holds the lock does not wait for it */
		if (strcmp(items[i].kind, "build") != 0 &&
		    !(held && strcmp(items[i].id, lease.operation) == 0))
			*ret_first = false;
	return OK;
}

/* The keeper stops a warm release: nobody should have to ask again for that. */
static bool is_housekeeping(struct release_run *run, const char *name)
{
	struct lease lease;
	return leases_get(run->context->catalog, name, &lease, NULL) == OK &&
	       strncmp(lease.operation, RELEASE_KEEPER, strlen(RELEASE_KEEPER)) == 0;
}

errc release_step_lock(struct release_run *run, struct err *e)
{
	char name[2 * NAME_MAX_BYTES + 2];
	int64_t begun = clock_mono_ms(), deadline = begun + run->wait_ms;
	bool said = false;
	snprintf(name, sizeof(name), "%s/%s", run->operation.app, run->operation.environment);
	for (;;) {
		bool first = true;
		uint64_t sequence = release_sequence(run);
		if (run->wait_ms)
			TRY(is_first(run, name, &first, e));
		errc rc = first ? leases_acquire(run->context->catalog, name, run->operation.id,
						 run->operation.actor, &run->lease, e)
				: ERR_LOCKED;
		if (rc == OK)
			break;
		if (rc != ERR_LOCKED)
			return rc;
		if (first && clock_mono_ms() < begun + HOUSEKEEPING_MS &&
		    is_housekeeping(run, name)) {
			TRY(release_pause(run, sequence, LOCK_POLL_MS, e));
			continue;
		}
		if (clock_mono_ms() >= deadline && first) {
			if (run->wait_ms == 0 && e)
				snprintf(e->message + strlen(e->message),
					 sizeof(e->message) - strlen(e->message),
					 ". Try again when it is done, or wait for it with --wait "
					 "10m.");
			return rc;
		}
		if (clock_mono_ms() >= deadline)
			FAIL(e, ERR_LOCKED, "%s is being changed, and others wait before this",
			     name);
		if (!said && first)
			release_say(run, EVENT_PROGRESS, "waiting: %s", e ? e->message : "");
		said = true;
		TRY(release_pause(run, sequence, LOCK_POLL_MS, e));
	}
	run->has_lease = true;
	run->renewed_ms = clock_mono_ms();
	return OK;
}

/* ---- build */

static errc submit_build(struct release_run *run, struct err *e)
{
	struct operation build = { .request = run->operation.request };
	snprintf(build.kind, sizeof(build.kind), "build");
	memcpy(build.app, run->operation.app, sizeof(build.app));
	memcpy(build.environment, run->operation.environment, sizeof(build.environment));
	memcpy(build.actor, run->operation.actor, sizeof(build.actor));
	TRY(operations_put(run->context->catalog, &build, e));
	memcpy(run->journal.build, build.id, sizeof(run->journal.build));
	return release_journal_save(run, e);
}

/* Pass the build's own events on, so that one stream tells everything. */
static errc pass_events_on(struct release_run *run, int64_t *after, struct err *e)
{
	struct arena scratch CLEANUP(arena_done) = arena_init(SCRATCH_BYTES);
	struct operation_event *items = NULL;
	size_t count = 0;
	TRY(operations_events(run->context->catalog, run->journal.build, *after, 256, &scratch,
			      &items, &count, e));
	for (size_t i = 0; i < count; i++) {
		*after = items[i].sequence;
		if (items[i].kind != EVENT_PROGRESS && items[i].kind != EVENT_OUTPUT &&
		    items[i].kind != EVENT_WARNING)
			continue;
		operations_event(run->context->catalog, run->operation.id, items[i].kind, run->step,
				 items[i].data, "%s", items[i].message);
	}
	return OK;
}

static errc take_build_result(struct release_run *run, const struct operation *build, struct err *e)
{
	struct arena scratch CLEANUP(arena_done) = arena_init(SCRATCH_BYTES);
	const struct json *result = NULL;
	if (build->state != OPERATION_SUCCEEDED)
		return err_fill(e, build->error_code ? build->error_code : ERR_FAILED, 0, __FILE__,
				__LINE__, "%s", build->error);
	TRY(json_parse(&scratch, str_c(build->result), RELEASE_RESULT_MAX, &result, e));
	snprintf(run->journal.artifact, sizeof(run->journal.artifact), "%s",
		 json_cstr(json_get(result, "artifact")));
	return OK;
}

errc release_step_build(struct release_run *run, struct err *e)
{
	int64_t after = 0;
	if (run->artifact[0]) {
		struct digest digest;
		char text[DIGEST_TEXT_SIZE];
		TRY(artifact_find(run->context->artifacts, str_c(run->artifact), &digest, e));
		snprintf(run->journal.artifact, sizeof(run->journal.artifact), "%s",
			 digest_text(&digest, text));
		return OK;
	}
	if (!run->journal.build[0])
		TRY(submit_build(run, e));
	for (;;) {
		struct arena scratch CLEANUP(arena_done) = arena_init(SCRATCH_BYTES);
		struct operation build;
		uint64_t sequence = release_sequence(run);
		TRY(operations_get(run->context->catalog, run->journal.build, &scratch, &build, e));
		TRY(pass_events_on(run, &after, e));
		if (build.state >= OPERATION_SUCCEEDED)
			return take_build_result(run, &build, e);
		errc rc = release_pause(run, sequence, 500, e);
		if (rc == ERR_CANCELLED &&
		    operations_cancel(run->context->catalog, build.id, NULL) != OK)
			return rc;
		if (rc != OK)
			return rc;
	}
}

/* ---- validate */

static errc load_previous(struct release_run *run, struct err *e)
{
	errc rc = releases_current(run->context->catalog, run->operation.app,
				   run->operation.environment, &run->arena, &run->previous, e);
	if (rc == ERR_NOT_FOUND)
		run->previous = (struct release){ 0 };
	else if (rc != OK)
		return rc;
	run->journal.previous = run->previous.number;
	return OK;
}

/* Every secret that the environment names must have a value. */
static errc check_secrets(struct release_run *run, int64_t *ret_version, struct err *e)
{
	struct arena scratch CLEANUP(arena_done) = arena_init(SCRATCH_BYTES);
	const struct spec_list *wanted = &run->environment->secrets;
	struct buf missing CLEANUP(buf_done) = buf_init(512);
	struct secret *items = NULL;
	size_t count = 0;
	TRY(secrets_version(run->context->catalog, run->operation.app, run->operation.environment,
			    ret_version, e));
	TRY(secrets_open(run->context->catalog, run->operation.app, run->operation.environment,
			 *ret_version, &scratch, &items, &count, e));
	for (size_t i = 0; i < wanted->count; i++) {
		bool found = false;
		for (size_t k = 0; k < count && !found; k++)
			found = strcmp(items[k].name, wanted->items[i]) == 0;
		if (!found)
			buf_printf(&missing, "%s%s", missing.len ? ", " : "", wanted->items[i]);
	}
	if (missing.len || missing.overflow)
		FAIL(e, ERR_INVALID,
		     "%s needs secrets that have no value: %s. Set each with "
		     "`holdfast secret set %s NAME < file`",
		     run->operation.environment, buf_cstr(&missing), run->operation.environment);
	return OK;
}

static errc put_configuration(struct release_run *run, int64_t *ret_version, struct err *e)
{
	struct buf text CLEANUP(buf_done) = buf_init(SPEC_BYTES_MAX * 2);
	struct json_writer w = json_writer_init(&text, false);
	const struct spec_variables *variables = &run->environment->variables;
	json_begin_object(&w);
	for (size_t i = 0; i < variables->count; i++)
		json_put_cstr(&w, variables->items[i].name, variables->items[i].value);
	json_end_object(&w);
	TRY(buf_check(&text, "the configuration", e));
	return configuration_put(run->context->catalog, run->operation.app,
				 run->operation.environment, buf_str(&text), run->operation.actor,
				 ret_version, e);
}

/* A release that a former daemon made for this operation right before it died. */
static errc find_made(struct release_run *run, struct err *e)
{
	struct release *items = NULL;
	size_t count = 0;
	TRY(releases_list(run->context->catalog, run->operation.app, run->operation.environment, 10,
			  &run->arena, &items, &count, e));
	for (size_t i = 0; i < count; i++)
		if (strcmp(items[i].operation, run->operation.id) == 0)
			return release_load_one(run, items[i].number, &run->next, e);
	return OK;
}

static errc make_release(struct release_run *run, struct err *e)
{
	struct release *r = &run->next;
	int64_t configuration = 0, secrets = 0;
	TRY(check_secrets(run, &secrets, e));
	if (run->dry_run)
		return OK;
	TRY(find_made(run, e));
	if (r->number)
		return OK;
	TRY(put_configuration(run, &configuration, e));
	memcpy(r->app, run->operation.app, sizeof(r->app));
	memcpy(r->environment, run->operation.environment, sizeof(r->environment));
	memcpy(r->artifact, run->journal.artifact, sizeof(r->artifact));
	memcpy(r->actor, run->operation.actor, sizeof(r->actor));
	memcpy(r->operation, run->operation.id, sizeof(r->operation));
	r->configuration_version = configuration;
	r->secret_version = secrets;
	r->specification = run->specification;
	bool after_blue = strcmp(run->previous.colour, "blue") == 0;
	snprintf(r->colour, sizeof(r->colour), "%s", after_blue ? "green" : "blue");
	r->state = RELEASE_NEW;
	return releases_put(run->context->catalog, r, e);
}

/* The later one that served before the current one: the warm one, or else of those that nobody went
 * back from, or else any. Numbers alone would lead back to what a rollback has just left. */
static int64_t last_served(const struct release *items, size_t count, int64_t current)
{
	int64_t left_before = 0, retired = 0;
	for (size_t i = 0; i < count; i++) {
		if (items[i].number >= current)
			continue;
		if (items[i].state == RELEASE_WARM)
			return items[i].number;
		if (items[i].state != RELEASE_RETIRED)
			continue;
		int64_t *first = items[i].note[0] ? &left_before : &retired;
		if (!*first)
			*first = items[i].number;
	}
	return retired ? retired : left_before;
}

/* The release to go back to: the one asked for, or the one that served before the current one. */
static errc choose_target(struct release_run *run, struct err *e)
{
	struct release *items = NULL;
	size_t count = 0;
	if (!run->previous.number)
		FAIL(e, ERR_CONFLICT, "no release serves %s yet: there is nothing to roll back",
		     run->operation.environment);
	if (run->to) {
		TRY(release_load_one(run, run->to, &run->next, e));
		if (run->next.number == run->previous.number)
			FAIL(e, ERR_CONFLICT, "release %lld serves %s already", (long long)run->to,
			     run->operation.environment);
		if (run->next.state == RELEASE_FAILED)
			FAIL(e, ERR_CONFLICT, "release %lld never served %s: %s",
			     (long long)run->to, run->operation.environment, run->next.note);
		return OK;
	}
	TRY(releases_list(run->context->catalog, run->operation.app, run->operation.environment,
			  1000, &run->arena, &items, &count, e));
	int64_t number = last_served(items, count, run->previous.number);
	if (number)
		return release_load_one(run, number, &run->next, e);
	FAIL(e, ERR_CONFLICT, "no earlier release of %s served; `holdfast releases` lists them",
	     run->operation.environment);
}

errc release_step_validate(struct release_run *run, struct err *e)
{
	struct digest digest;
	TRY(load_previous(run, e));
	if (release_is_rollback(run)) {
		TRY(choose_target(run, e));
		TRY(release_load_specification(run, run->next.specification, e));
	} else {
		TRY(release_load_specification(run, run->specification, e));
	}
	if (!run->dry_run)
		release_notify(run, SPEC_EVENT_START, NULL);
	if (!release_is_rollback(run))
		TRY(make_release(run, e));
	if (run->dry_run)
		return OK;
	run->journal.release = run->next.number;
	TRY(release_journal_save(run, e));
	bool warm = release_is_rollback(run) && run->next.state == RELEASE_WARM;
	if (!warm) {
		if (!digest_parse(str_c(run->next.artifact), &digest))
			FAIL(e, ERR_CORRUPT, "release %lld names no artifact",
			     (long long)run->next.number);
		const struct release *previous = run->previous.number ? &run->previous : NULL;
		/* unpacking verifies the signature and every file */
		if (workspace_make(run->context, &run->next, run->spec, previous, e) != OK)
			return err_prepend(e, "the artifact of release %lld cannot be used",
					   (long long)run->next.number);
	}
	release_say(
		run, EVENT_PROGRESS, "release %lld (%s): %.19s, configuration %lld, secrets %lld",
		(long long)run->next.number, run->next.colour, run->next.artifact,
		(long long)run->next.configuration_version, (long long)run->next.secret_version);
	return OK;
}

void release_write_plan(struct release_run *run)
{
	const struct spec_environment *env = run->environment;
	const struct spec_deploy *d = &env->deploy;
	char text[UNIT_TEXT_SIZE];
	if (!release_is_rollback(run))
		release_say(run, EVENT_PROGRESS,
			    run->artifact[0] ? "would use the artifact %s"
					     : "would build %s (reused when unchanged)",
			    run->artifact[0] ? run->artifact : run->source);
	else
		release_say(run, EVENT_PROGRESS, "would go back to release %lld (%s)",
			    (long long)run->next.number, release_state_text(run->next.state));
	for (size_t i = 0; i < env->service_count; i++)
		release_say(run, EVENT_PROGRESS, "would start %lld of %s: %s …",
			    (long long)env->services[i].instances, env->services[i].name,
			    env->services[i].command.items[0]);
	if (d->smoke_count && !release_is_rollback(run))
		release_say(run, EVENT_PROGRESS, "would run %zu smoke tests", d->smoke_count);
	if (d->canary.enabled && run->previous.number && !release_is_rollback(run))
		release_say(run, EVENT_PROGRESS, "would give it %lld %% of the requests for %s",
			    (long long)d->canary.weight_percent,
			    duration_format(d->canary.time_ms, text));
	release_say(run, EVENT_PROGRESS, "would switch %s:%d from %s%lld to it", env->listen_host,
		    env->listen_port, run->previous.number ? "release " : "nothing, ",
		    (long long)run->previous.number);
	if (run->previous.number)
		release_say(run, EVENT_PROGRESS, "would drain release %lld and keep it warm for %s",
			    (long long)run->previous.number,
			    duration_format(d->keep_warm_ms, text));
	release_say(run, EVENT_PROGRESS, "dry run: nothing was changed");
}

/* ---- start */

/* Another deploy may have taken the port meanwhile. */
static errc put_instance(struct catalog *c, struct instance *i, struct err *e)
{
	errc rc = ERR_CONFLICT;
	for (int attempt = 0; rc == ERR_CONFLICT && attempt < 3; attempt++) {
		TRY(instances_pick_port(c, &i->port, e));
		rc = instances_put(c, i, e);
	}
	return rc;
}

static errc put_instances(struct release_run *run, const struct spec_service *service,
			  const struct instance *have, size_t have_count, struct err *e)
{
	for (int n = 0; n < (int)service->instances; n++) {
		struct instance i = { .release = run->next.number,
				      .ordinal = n,
				      .in_proxy = service->traffic,
				      .desired = INSTANCE_RUNNING,
				      .traffic = TRAFFIC_NONE,
				      .weight = 1 };
		bool known = false;
		memcpy(i.app, run->next.app, sizeof(i.app));
		memcpy(i.environment, run->next.environment, sizeof(i.environment));
		memcpy(i.colour, run->next.colour, sizeof(i.colour));
		snprintf(i.service, sizeof(i.service), "%s", service->name);
		instance_set_id(&i);
		for (size_t k = 0; k < have_count && !known; k++)
			known = strcmp(have[k].id, i.id) == 0;
		if (known)
			continue;
		TRY(put_instance(run->context->catalog, &i, e));
	}
	return OK;
}

static bool all_run(const struct instance *items, size_t count)
{
	for (size_t k = 0; k < count; k++)
		if (items[k].runtime.state != INSTANCE_STATE_RUNNING)
			return false;
	return true;
}

errc release_step_start(struct release_run *run, struct err *e)
{
	int64_t deadline = clock_mono_ms() + 60000;
	struct arena first CLEANUP(arena_done) = arena_init(SCRATCH_BYTES);
	struct instance *have = NULL;
	size_t have_count = 0;
	TRY(release_instances(run, run->next.number, &first, &have, &have_count, e));
	for (size_t i = 0; i < run->environment->service_count; i++)
		TRY(put_instances(run, &run->environment->services[i], have, have_count, e));
	for (size_t i = 0; i < have_count; i++) /* of a warm release whose time ran out just now */
		if (have[i].desired != INSTANCE_RUNNING)
			TRY(instances_set_desired(run->context->catalog, have[i].id,
						  INSTANCE_RUNNING, e));
	for (;;) {
		struct arena scratch CLEANUP(arena_done) = arena_init(SCRATCH_BYTES);
		struct instance *items = NULL;
		size_t count = 0;
		uint64_t sequence = release_sequence(run);
		TRY(release_instances(run, run->next.number, &scratch, &items, &count, e));
		if (!release_is_rollback(run) || run->next.state != RELEASE_WARM)
			TRY(release_check_alive(run, items, count, e));
		if (all_run(items, count))
			return OK;
		if (clock_mono_ms() > deadline)
			FAIL(e, ERR_TIMEOUT, "the instances did not start within 60 s");
		TRY(release_pause(run, sequence, 500, e));
	}
}

/* ---- ready */

static errc want_checked(struct release_run *run, const struct instance *items, size_t count,
			 struct arena *scratch, struct err *e)
{
	struct instance_traffic_change *changes = arena_array(scratch, count, sizeof(changes[0]));
	size_t n = 0;
	TRY(arena_check(scratch, "the change of traffic", e));
	for (size_t k = 0; k < count; k++)
		if (items[k].in_proxy && items[k].traffic == TRAFFIC_NONE)
			changes[n++] = (struct instance_traffic_change){ items[k].id,
									 TRAFFIC_CHECKED, 1 };
	return n ? instances_set_traffic(run->context->catalog, changes, n, e) : OK;
}

/* Up counts once the proxy has carried out what is desired: before that it may speak of an earlier
 * instance of the same name. */
static const struct instance *first_not_ready(const struct instance *items, size_t count)
{
	for (size_t k = 0; k < count; k++)
		if (items[k].in_proxy && (items[k].traffic == TRAFFIC_NONE || !items[k].proxy.up ||
					  items[k].proxy.generation != items[k].traffic_generation))
			return &items[k];
	return NULL;
}

/* An instance that answers no check yet is given its time; a proxy that cannot listen is not. */
static errc check_proxy(const struct instance *waiting, int64_t waited_ms, struct err *e)
{
	if (strncmp(waiting->proxy.check, "proxy: ", 7) == 0 && waited_ms > PROXY_FAILURE_MS / 10)
		FAIL(e, ERR_FAILED, "%s", waiting->proxy.check + 7);
	return OK;
}

errc release_step_ready(struct release_run *run, struct err *e)
{
	const struct spec_service *service = spec_traffic_service(run->environment);
	int64_t begun = clock_mono_ms();
	for (;;) {
		struct arena scratch CLEANUP(arena_done) = arena_init(SCRATCH_BYTES);
		struct instance *items = NULL;
		size_t count = 0;
		uint64_t sequence = release_sequence(run);
		int64_t waited = clock_mono_ms() - begun;
		TRY(release_instances(run, run->next.number, &scratch, &items, &count, e));
		TRY(want_checked(run, items, count, &scratch, e));
		if (run->next.state != RELEASE_WARM)
			TRY(release_check_alive(run, items, count, e));
		const struct instance *waiting = first_not_ready(items, count);
		if (!waiting) {
			run->journal.ready_ms = waited;
			return OK;
		}
		TRY(check_proxy(waiting, waited, e));
		if (waited > service->ready_timeout_ms) {
			char limit[UNIT_TEXT_SIZE];
			err_fill(e, ERR_TIMEOUT, 0, __FILE__, __LINE__,
				 "%s was not ready within %s: GET %s as the proxy sees it: %s.",
				 waiting->id, duration_format(service->ready_timeout_ms, limit),
				 service->ready,
				 waiting->proxy.check[0] ? waiting->proxy.check : "no answer yet");
			release_add_output(run, waiting, e);
			return ERR_TIMEOUT;
		}
		TRY(release_pause(run, sequence, 250, e));
	}
}
