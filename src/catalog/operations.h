/*
 * Operations: the journal of what Holdfast carries out: builds, deploys, rollbacks. Each has a
 * state, a journaled step, a stream of events that clients follow, and a lease on what it changes.
 *
 * Durable: operation_step() is on disk before the step begins, so a restart knows where it was.
 */
#pragma once

#include "catalog/catalog.h"
#include "catalog/instances.h"

enum { OPERATION_ID_SIZE = 40, OPERATION_ACTOR_SIZE = 96 };

#define OPERATION_STATE(X)        \
	X(QUEUED, "queued")       \
	X(RUNNING, "running")     \
	X(SUCCEEDED, "succeeded") \
	X(FAILED, "failed")       \
	X(CANCELLED, "cancelled")

enum operation_state {
#define X(name, text) OPERATION_##name,
	OPERATION_STATE(X)
#undef X
};

const char *operation_state_text(enum operation_state s);

struct operation {
	char id[OPERATION_ID_SIZE];
	char kind[16]; /* build, deploy, rollback */
	char app[NAME_MAX_BYTES + 1];
	char environment[NAME_MAX_BYTES + 1];
	enum operation_state state;
	char step[24]; /* the step that is journaled as begun; empty before the first */
	char actor[OPERATION_ACTOR_SIZE];
	time_ms created;
	time_ms ended; /* 0: not yet */
	bool cancel_wanted;
	int64_t fence;       /* of the lease it runs under; 0 none */
	const char *request; /* JSON: what was asked; in the arena it was read with */
	const char *journal; /* JSON: what the steps must remember; `{}` at first */
	const char *result;  /* JSON: outcome for the client; `{}` before the end */
	errc error_code;
	const char *error; /* empty when none */
};

/* Insert as QUEUED with a new id. Announced: BUS_OPERATION. */
WARN_UNUSED errc operations_put(struct catalog *c, struct operation *o, struct err *e);
WARN_UNUSED errc operations_get(struct catalog *c, const char *id, struct arena *scratch,
				struct operation *ret_operation, struct err *e);
struct operation_filter {
	const char *kind; /* NULL any */
	const char *app;
	const char *environment;
	bool unfinished; /* QUEUED and RUNNING only, oldest first; else newest first */
	int limit;       /* 1..1000 */
};
/* With empty requests and journals. */
WARN_UNUSED errc operations_list(struct catalog *c, const struct operation_filter *filter,
				 struct arena *scratch, struct operation **ret_items,
				 size_t *ret_count, struct err *e);
/* Take it from QUEUED to RUNNING; false in *ret_taken when somebody else did. */
WARN_UNUSED errc operations_begin(struct catalog *c, const char *id, bool *ret_taken,
				  struct err *e);
/* Journal that STEP begins, together with what the steps remember. */
WARN_UNUSED errc operations_step(struct catalog *c, const char *id, const char *step,
				 const char *journal, struct err *e);
WARN_UNUSED errc operations_finish(struct catalog *c, const char *id, enum operation_state state,
				   const struct err *error, const char *result, struct err *e);
WARN_UNUSED errc operations_cancel(struct catalog *c, const char *id, struct err *e);
/* Forget what ended before TIME, with its events; the audit keeps who asked for it. */
WARN_UNUSED errc operations_prune(struct catalog *c, time_ms time, struct err *e);
bool operations_cancel_wanted(struct catalog *c, const char *id);

/* What an event tells. OUTPUT is a line of a command that a step runs. */
#define OPERATION_EVENT(X)      \
	X(STARTED, "started")   \
	X(PROGRESS, "progress") \
	X(OUTPUT, "output")     \
	X(WARNING, "warning")   \
	X(DONE, "done")         \
	X(FAILURE, "failure")   \
	X(FINISHED, "finished")

enum operation_event_kind {
#define X(name, text) EVENT_##name,
	OPERATION_EVENT(X)
#undef X
};

const char *operation_event_kind_text(enum operation_event_kind k);

struct operation_event {
	int64_t sequence; /* grows within the installation */
	time_ms time;
	enum operation_event_kind kind;
	const char *step;
	const char *message;
	const char *data; /* JSON object or empty */
};

/* Record an event; not synced to disk by itself. Limits: 10,000 events an operation, then OUTPUT
 * and PROGRESS are dropped. Announced: BUS_OPERATION. */
void operations_event(struct catalog *c, const char *id, enum operation_event_kind kind,
		      const char *step, const char *data, const char *fmt, ...)
	__attribute__((format(printf, 6, 7)));
WARN_UNUSED errc operations_events(struct catalog *c, const char *id, int64_t after_sequence,
				   int limit, struct arena *scratch,
				   struct operation_event **ret_items, size_t *ret_count,
				   struct err *e);

/*
 * Leases: who may change an environment. A lease runs out LEASE_MS after its last renewal unless
 * its operation is still at work here (it is resumed), so a dead holder blocks nobody for long; its
 * fencing token grows with every holder.
 */
enum { LEASE_MS = 15000 };

struct lease {
	char name[2 * NAME_MAX_BYTES + 2]; /* app/environment */
	char operation[OPERATION_ID_SIZE];
	char holder[OPERATION_ACTOR_SIZE];
	int64_t fence;
	time_ms acquired;
	time_ms expires;
};

/* Take NAME for the operation, or renew it when that holds it already. Errors: ERR_LOCKED naming
 * the holder and since when. */
WARN_UNUSED errc leases_acquire(struct catalog *c, const char *name, const char *operation,
				const char *holder, struct lease *ret_lease, struct err *e);
/* Errors: ERR_LOCKED when it was lost to another holder. */
WARN_UNUSED errc leases_renew(struct catalog *c, const struct lease *lease, struct err *e);
WARN_UNUSED errc leases_release(struct catalog *c, const char *name, const char *operation,
				struct err *e);
WARN_UNUSED errc leases_get(struct catalog *c, const char *name, struct lease *ret_lease,
			    struct err *e);
