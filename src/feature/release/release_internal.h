/*
 * One operation at work: what the steps share.
 *
 * release_run.c      what all of them use: events, journal, waits
 * release.c          dispatcher: takes operations from the queue, resumes those of a former daemon
 * release_machine.c  runs the steps, journals, reverts, finishes
 * release_steps.c    the steps until the new colour may take traffic
 * release_switch.c   canary, switch, watch, drain, revert
 * release_smoke.c    smoke tests
 * release_hooks.c    hooks and webhooks
 * release_keep.c     warm releases, pruning
 */
#pragma once

#include "catalog/operations.h"
#include "catalog/releases.h"
#include "feature/feature.h"
#include "spec/spec.h"

/* What the steps must remember over a crash; kept as JSON in the operation. */
struct release_journal {
	char build[OPERATION_ID_SIZE]; /* the build it waits for */
	char artifact[RELEASE_ARTIFACT_SIZE];
	int64_t release;     /* being brought to serve; 0: not yet made */
	int64_t previous;    /* that served when it began; 0: none */
	bool switched;       /* the new one has taken traffic */
	int64_t switched_ms; /* from the operation's creation to the switch */
	int64_t switch_us;   /* the proxy's part of it */
	int64_t ready_ms;    /* from the start of the instances until all were ready */
	errc error_code;     /* why it is being reverted; OK: it is not */
	char error[2304];
	char error_step[24];
};

struct release_run {
	const struct feature_context *context;
	struct operation operation;
	struct arena arena; /* lives as long as the run */
	struct release_journal journal;
	struct lease lease;
	bool has_lease;
	int64_t renewed_ms;   /* monotonic */
	const bool *stopping; /* the daemon stops: leave the operation for the next one */
	bool interruptible;   /* a wish to cancel is heard */
	/* of the request */
	const char *specification;
	const char *file;
	const char *source;
	const char *artifact;
	int64_t wait_ms;
	int64_t to;
	bool dry_run;
	/* of the step "validate" on */
	const struct spec *spec;
	const struct spec_environment *environment;
	struct release next;
	struct release previous; /* number 0: none */
	const char *step;        /* at work; for events */
};

/* What the keeper's leases are held by, with a tag behind it. */
#define RELEASE_KEEPER "keep-warm-"

enum { RELEASE_ARENA_BYTES = 256 * 1024 * 1024, RELEASE_RESULT_MAX = 64 * 1024 };

/* ---- release_machine.c */

/* Carry RUN's operation through, from its journaled step. */
void release_run_all(struct release_run *run);

/* ---- release_run.c */

/* Journal that RUN->step begins (or goes on with more to remember). */
WARN_UNUSED errc release_journal_save(struct release_run *run, struct err *e);
WARN_UNUSED errc release_journal_load(struct release_run *run, struct err *e);
/* Wait for the next announcement after SEQUENCE, at most MS; keeps the lease. Errors:
 * ERR_CANCELLED, ERR_UNAVAILABLE when the daemon stops, ERR_LOCKED when the lease was lost. */
WARN_UNUSED errc release_pause(struct release_run *run, uint64_t sequence, int64_t ms,
			       struct err *e);
uint64_t release_sequence(struct release_run *run);
/* An event of the present step. */
void release_say(struct release_run *run, enum operation_event_kind kind, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
bool release_is_rollback(const struct release_run *run);

/* The instances of release NUMBER in SCRATCH. */
WARN_UNUSED errc release_instances(struct release_run *run, int64_t number, struct arena *scratch,
				   struct instance **ret_items, size_t *ret_count, struct err *e);

/* RUN->spec and RUN->environment from the text of a holdfast.yml. */
WARN_UNUSED errc release_load_specification(struct release_run *run, const char *text,
					    struct err *e);
/* Release NUMBER of the operation's environment; 0 gives an empty one. */
WARN_UNUSED errc release_load_one(struct release_run *run, int64_t number, struct release *r,
				  struct err *e);
/* Load spec, next and previous release from the journal, when a run is resumed. */
WARN_UNUSED errc release_load(struct release_run *run, struct err *e);
/* ERR_FAILED with its last output when an instance of the new release ended, whatever the reason.
 */
WARN_UNUSED errc release_check_alive(const struct release_run *run, const struct instance *items,
				     size_t count, struct err *e);
/* Append to E (may be NULL) what instance I wrote last and where all of it is. */
void release_add_output(const struct release_run *run, const struct instance *i, struct err *e);

/* ---- release_steps.c */
WARN_UNUSED errc release_step_lock(struct release_run *run, struct err *e);
WARN_UNUSED errc release_step_build(struct release_run *run, struct err *e);
WARN_UNUSED errc release_step_validate(struct release_run *run, struct err *e);
WARN_UNUSED errc release_step_start(struct release_run *run, struct err *e);
WARN_UNUSED errc release_step_ready(struct release_run *run, struct err *e);
void release_write_plan(struct release_run *run);

/* ---- release_smoke.c */
WARN_UNUSED errc release_step_smoke(struct release_run *run, struct err *e);

/* ---- release_switch.c */
WARN_UNUSED errc release_step_canary(struct release_run *run, struct err *e);
WARN_UNUSED errc release_step_switch(struct release_run *run, struct err *e);
WARN_UNUSED errc release_step_watch(struct release_run *run, struct err *e);
WARN_UNUSED errc release_step_drain(struct release_run *run, struct err *e);
/* Give the traffic back to the previous release and stop the new one. */
WARN_UNUSED errc release_revert(struct release_run *run, struct err *e);
/* Set what the proxy does with all in-proxy instances of two releases (0: none), and wait until it
 * is in force; *ret_switch_us is the proxy's time. */
WARN_UNUSED errc release_steer(struct release_run *run, int64_t a, enum instance_traffic a_traffic,
			       int a_weight, int64_t b, enum instance_traffic b_traffic,
			       int b_weight, int64_t *ret_switch_us, struct err *e);

/* ---- release_keep.c */
WARN_UNUSED errc release_step_finish(struct release_run *run, struct err *e);
/* Stop the instances of release NUMBER and forget them; waits until they are gone. */
WARN_UNUSED errc release_retire_instances(struct release_run *run, int64_t number, struct err *e);
/* Stop warm releases whose time is over; returns ms until the next one's is, at most MS_MAX. */
int64_t release_keep_warm(const struct feature_context *context, const bool *stopping,
			  int64_t ms_max);

/* ---- release_hooks.c */
/* The hooks of PHASE; a failing one fails the step, but AFTER the switch it is only a warning. */
WARN_UNUSED errc release_run_hooks(struct release_run *run, bool after, const char *phase,
				   struct err *e);
/* Put the webhooks for EVENT (enum spec_event) into the outbox. */
void release_notify(struct release_run *run, unsigned event, const char *error);
