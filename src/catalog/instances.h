/*
 * Instances: one process of one service of one release. The release machine writes what is desired;
 * runtime makes the processes so, traffic makes the proxy so, and both report what they observe.
 *
 * The desired part is durable; the observed part is kept in memory and observed anew after a start.
 *
 * Threads: any, with no transaction and no query of the catalog open.
 */
#pragma once

#include "catalog/catalog.h"

enum { NAME_MAX_BYTES = 40, INSTANCE_ID_SIZE = 144, INSTANCE_COUNT_MAX = 4096 };

/* What the process should be. */
#define INSTANCE_DESIRED(X) X(RUNNING, "running") X(STOPPED, "stopped")

/* What runtime sees of the process. BACKOFF: it exited and will be started again. FAILED: it could
 * not be started at all (see `message`). GONE: nothing of it is left. */
#define INSTANCE_STATE(X)       \
	X(PENDING, "pending")   \
	X(STARTING, "starting") \
	X(RUNNING, "running")   \
	X(BACKOFF, "back-off")  \
	X(STOPPING, "stopping") \
	X(FAILED, "failed")     \
	X(GONE, "gone")

/*
 * What the proxy should do with it.
 * NONE    not in the proxy at all
 * CHECKED health-checked, no request
 * ACTIVE  takes requests by `weight`
 * BACKUP  takes requests only when no ACTIVE one can (the old colour during the watch)
 * DRAIN   finishes what it has, no new request; WebSockets stay
 */
#define INSTANCE_TRAFFIC(X)   \
	X(NONE, "none")       \
	X(CHECKED, "checked") \
	X(ACTIVE, "active")   \
	X(BACKUP, "backup")   \
	X(DRAIN, "drain")

enum instance_desired {
#define X(name, text) INSTANCE_##name,
	INSTANCE_DESIRED(X)
#undef X
};
enum instance_state {
#define X(name, text) INSTANCE_STATE_##name,
	INSTANCE_STATE(X)
#undef X
};
enum instance_traffic {
#define X(name, text) TRAFFIC_##name,
	INSTANCE_TRAFFIC(X)
#undef X
};

const char *instance_desired_text(enum instance_desired d);
const char *instance_state_text(enum instance_state s);
const char *instance_traffic_text(enum instance_traffic t);

struct instance {
	/* identity, fixed: `<app>.<environment>.r<release>.<service>.<ordinal>` */
	char id[INSTANCE_ID_SIZE];
	char app[NAME_MAX_BYTES + 1];
	char environment[NAME_MAX_BYTES + 1];
	char service[NAME_MAX_BYTES + 1];
	int64_t release; /* its number in the environment */
	int ordinal;     /* 0, 1, … within the service */
	char colour[8];  /* blue or green */
	bool in_proxy;   /* of the service that takes the environment's traffic */
	int port;        /* loopback port given to it as PORT */

	/* tells an instance from an earlier one of the same id; set by the catalog, in memory */
	uint64_t incarnation;

	/* desired, durable */
	enum instance_desired desired;
	enum instance_traffic traffic;
	int weight;                 /* 1..256, for ACTIVE */
	int64_t traffic_generation; /* grows with each change of `traffic` or `weight` */
	int64_t restart_generation; /* grows when a restart is asked for */
	bool drain_signalled; /* the drain signal of its service is due (and sent by runtime) */

	/* observed by runtime */
	struct {
		enum instance_state state;
		int64_t pid;
		int64_t shim_pid;
		int restarts;
		time_ms started;
		char exit[64];      /* of the last run: `exit status 3` */
		char message[1536]; /* why FAILED; else the last lines of output joined by newlines
				     */
		bool drain_signal_sent;
	} runtime;

	/* observed by traffic */
	struct {
		int64_t generation; /* the traffic_generation that is in force in the proxy */
		bool up;            /* healthy as the proxy sees it */
		char check[256];    /* the proxy's words on its last health check */
		int in_flight;      /* requests at it now, WebSockets not counted */
		int queued;
		int websockets;      /* WebSockets at it now */
		int64_t observed_ms; /* monotonic: when these were read; 0 never */
		int64_t switch_us;   /* how long the proxy took to carry out the last change of
					traffic */
	} proxy;
};

/* The id from its parts. */
void instance_set_id(struct instance *i);

/* Insert. Errors: ERR_CONFLICT when the id or port is taken. Announced: BUS_INSTANCE_DESIRED. */
WARN_UNUSED errc instances_put(struct catalog *c, const struct instance *i, struct err *e);
/* Announced: BUS_INSTANCE_DESIRED. */
WARN_UNUSED errc instances_set_desired(struct catalog *c, const char *id, enum instance_desired d,
				       struct err *e);
WARN_UNUSED errc instances_restart(struct catalog *c, const char *id, struct err *e);
WARN_UNUSED errc instances_signal_drain(struct catalog *c, const char *id, struct err *e);

struct instance_traffic_change {
	const char *id;
	enum instance_traffic traffic;
	int weight;
};

/* Change what the proxy should do with several instances of one environment, each named once, in
 * one transaction. Unchanged ones keep their generation. Announced: BUS_TRAFFIC_DESIRED. */
WARN_UNUSED errc instances_set_traffic(struct catalog *c,
				       const struct instance_traffic_change *changes,
				       size_t change_count, struct err *e);
/* Forget an instance that is gone. Announced: BUS_TRAFFIC_DESIRED and BUS_INSTANCE_OBSERVED. */
WARN_UNUSED errc instances_remove(struct catalog *c, const char *id, struct err *e);

/* Report; in memory. Announced as BUS_INSTANCE_OBSERVED when something other than counters changed.
 * Unknown ids, and ids that mean a later incarnation by now, are ignored. */
void instances_observe_runtime(struct catalog *c, const struct instance *seen);
void instances_observe_proxy(struct catalog *c, const struct instance *seen);

/* Which ones; NULL and 0 mean any. */
struct instance_filter {
	const char *app;
	const char *environment;
	int64_t release;
};

/* Copies, sorted by id. Owns: the arena. Errors: ERR_LIMIT when the arena is full. */
WARN_UNUSED errc instances_list(struct catalog *c, const struct instance_filter *filter,
				struct arena *scratch, struct instance **ret_items,
				size_t *ret_count, struct err *e);
WARN_UNUSED errc instances_get(struct catalog *c, const char *id, struct instance *ret_instance,
			       struct err *e);
/* A port of 127.0.0.1 in [20000, 30000) that no instance has and nothing listens on. */
WARN_UNUSED errc instances_pick_port(struct catalog *c, int *ret_port, struct err *e);
