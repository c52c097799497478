/* One operation at work: its events, its journal, its waits, and what it loads. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/checks.h"
#include "feature/release/release_internal.h"
#include "feature/workspace.h"
#include "os/clock.h"

enum { RENEW_MS = LEASE_MS / 3, JOURNAL_BYTES_MAX = RELEASE_RESULT_MAX };

bool release_is_rollback(const struct release_run *run)
{
	return strcmp(run->operation.kind, "rollback") == 0;
}

void release_say(struct release_run *run, enum operation_event_kind kind, const char *fmt, ...)
{
	char message[4096];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	operations_event(run->context->catalog, run->operation.id, kind, run->step, NULL, "%s",
			 message);
}

uint64_t release_sequence(struct release_run *run)
{
	return bus_sequence(catalog_bus(run->context->catalog));
}

errc release_instances(struct release_run *run, int64_t number, struct arena *scratch,
		       struct instance **ret_items, size_t *ret_count, struct err *e)
{
	struct instance_filter filter = { .app = run->operation.app,
					  .environment = run->operation.environment,
					  .release = number };
	*ret_items = NULL;
	*ret_count = 0;
	if (number == 0)
		return OK;
	return instances_list(run->context->catalog, &filter, scratch, ret_items, ret_count, e);
}

errc release_pause(struct release_run *run, uint64_t sequence, int64_t ms, struct err *e)
{
	if (__atomic_load_n(run->stopping, __ATOMIC_ACQUIRE))
		FAIL(e, ERR_UNAVAILABLE, "the daemon stops");
	if (run->interruptible &&
	    operations_cancel_wanted(run->context->catalog, run->operation.id))
		FAIL(e, ERR_CANCELLED, "it was cancelled");
	if (run->has_lease && clock_mono_ms() - run->renewed_ms >= RENEW_MS) {
		TRY(leases_renew(run->context->catalog, &run->lease, e));
		run->renewed_ms = clock_mono_ms();
	}
	bus_wait(catalog_bus(run->context->catalog), sequence, ms < 500 ? ms : 500);
	return OK;
}

/* ---- The journal as JSON. */

errc release_journal_save(struct release_run *run, struct err *e)
{
	const struct release_journal *j = &run->journal;
	struct buf text CLEANUP(buf_done) = buf_init(RELEASE_RESULT_MAX);
	struct json_writer w = json_writer_init(&text, false);
	json_begin_object(&w);
	json_put_cstr(&w, "build", j->build);
	json_put_cstr(&w, "artifact", j->artifact);
	json_put_i64(&w, "release", j->release);
	json_put_i64(&w, "previous", j->previous);
	json_put_bool(&w, "switched", j->switched);
	json_put_i64(&w, "switched_ms", j->switched_ms);
	json_put_i64(&w, "switch_us", j->switch_us);
	json_put_i64(&w, "ready_ms", j->ready_ms);
	json_put_cstr(&w, "error_code", errc_name(j->error_code));
	json_put_cstr(&w, "error", j->error);
	json_put_cstr(&w, "error_step", j->error_step);
	json_end_object(&w);
	TRY(buf_check(&text, "the journal", e));
	return operations_step(run->context->catalog, run->operation.id, run->step, buf_cstr(&text),
			       e);
}

errc release_journal_load(struct release_run *run, struct err *e)
{
	struct release_journal *j = &run->journal;
	const struct json *json = NULL;
	TRY(json_parse(&run->arena, str_c(run->operation.journal), JOURNAL_BYTES_MAX, &json, e));
	snprintf(j->build, sizeof(j->build), "%s", json_cstr(json_get(json, "build")));
	snprintf(j->artifact, sizeof(j->artifact), "%s", json_cstr(json_get(json, "artifact")));
	j->release = json_i64(json_get(json, "release"), 0);
	j->previous = json_i64(json_get(json, "previous"), 0);
	j->switched = json_bool(json_get(json, "switched"), false);
	j->switched_ms = json_i64(json_get(json, "switched_ms"), 0);
	j->switch_us = json_i64(json_get(json, "switch_us"), 0);
	j->ready_ms = json_i64(json_get(json, "ready_ms"), 0);
	const char *code = json_cstr(json_get(json, "error_code"));
	j->error_code = code[0] ? errc_of_name(code) : OK;
	snprintf(j->error, sizeof(j->error), "%s", json_cstr(json_get(json, "error")));
	snprintf(j->error_step, sizeof(j->error_step), "%s",
		 json_cstr(json_get(json, "error_step")));
	return OK;
}

/* ---- What a run works with. */

errc release_load_specification(struct release_run *run, const char *text, struct err *e)
{
	TRY(spec_parse(&run->arena, str_c(text),
		       run->file && run->file[0] ? run->file : "holdfast.yml", &run->spec, NULL,
		       e));
	return spec_environment_find(run->spec, run->operation.environment, &run->environment, e);
}

errc release_load_one(struct release_run *run, int64_t number, struct release *r, struct err *e)
{
	*r = (struct release){ 0 };
	if (number == 0)
		return OK;
	return releases_get(run->context->catalog, run->operation.app, run->operation.environment,
			    number, &run->arena, r, e);
}

errc release_load(struct release_run *run, struct err *e)
{
	TRY(release_load_one(run, run->journal.release, &run->next, e));
	TRY(release_load_one(run, run->journal.previous, &run->previous, e));
	if (run->next.number)
		return release_load_specification(run, run->next.specification, e);
	return run->specification[0] ? release_load_specification(run, run->specification, e) : OK;
}

void release_add_output(const struct release_run *run, const struct instance *i, struct err *e)
{
	char lines[1200], path[WORKSPACE_PATH_SIZE];
	if (!e)
		return;
	size_t used = strlen(e->message);
	workspace_last_output(run->context, i->id, lines, sizeof(lines));
	workspace_output_path(run->context, i->id, path);
	snprintf(e->message + used, sizeof(e->message) - used, "%s%s\nAll its output: %s",
		 lines[0] ? "\nIts last output:\n" : "\nIt wrote nothing.", lines, path);
}

errc release_check_alive(const struct release_run *run, const struct instance *items, size_t count,
			 struct err *e)
{
	for (size_t k = 0; k < count; k++) {
		const struct instance *i = &items[k];
		bool ended = i->runtime.state == INSTANCE_STATE_BACKOFF || i->runtime.restarts > 0;
		if (i->runtime.state == INSTANCE_STATE_FAILED && !i->runtime.exit[0])
			FAIL(e, ERR_FAILED, "%s cannot be started: %s", i->id, i->runtime.message);
		if (!ended && i->runtime.state != INSTANCE_STATE_FAILED &&
		    i->runtime.state != INSTANCE_STATE_GONE)
			continue;
		err_fill(e, ERR_FAILED, 0, __FILE__, __LINE__, "%s ended with %s.", i->id,
			 i->runtime.exit[0] ? i->runtime.exit
					    : "no status (its supervisor is gone)");
		release_add_output(run, i, e);
		return ERR_FAILED;
	}
	return OK;
}
