/*
 * What HAProxy should be: the environments, their listening addresses and their slots. Pure data,
 * made from the catalog by traffic_desired.c, rendered by traffic_render.c, compared with the
 * running HAProxy by traffic_reconcile.c.
 *
 * A slot is a preallocated group of server entries that one instance occupies while it is in the
 * proxy. Within an environment there are three backends, so that each has one retry policy and
 * requests and WebSockets are counted apart:
 *   read   GET, HEAD, OPTIONS: pooled connections, retried on a lost connection
 *   write  everything else: a connection of its own per request, because a pooled one that the
 *          application closes just then loses a request that may not be sent twice
 *   ws     WebSockets
 * A reload leaves the former worker with the connections it has. It cannot be steered any more
 * (HAProxy refuses), except for its maps; so it is told by relay.map to relay requests that still
 * come on them to the present worker, through the frontend `inner` on a unix socket, and only
 * finishes what it had begun. It is told once the present worker answers: a request relayed while
 * the two change places could meet the closing listener.
 * In each backend a slot has an entry `s<n>` and an entry `b<n>` marked `backup`. Only read/s<n> is
 * health-checked, the others track it. Traffic is steered by weights alone: they are not inherited
 * by tracking entries, unlike the states drain and maint.
 */
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "catalog/instances.h"

enum {
	TRAFFIC_NAME_SIZE = 2 * NAME_MAX_BYTES + 2, /* `<app>.<environment>` */
	TRAFFIC_BIND_MAX = 4,
	TRAFFIC_SLOT_MIN = 4,
	TRAFFIC_SLOT_MAX = 128,
	TRAFFIC_ENVIRONMENT_MAX = 256,
	TRAFFIC_PATH_MAX = 256,
	TRAFFIC_CONFIG_MAX = 8 * 1024 * 1024,
};

struct traffic_bind {
	char listen[96];           /* 127.0.0.1:8080, [::1]:8080, :8080 */
	char tls_certificate[512]; /* path of a PEM with certificate and key; empty: no TLS */
};

/* What a specification says about traffic. */
struct traffic_settings {
	struct traffic_bind bind;
	bool retry_idempotent_posts;       /* retry any method that carries an Idempotency-Key */
	char ready_path[TRAFFIC_PATH_MAX]; /* empty: an open port is enough */
	int64_t ready_interval_ms;
	int64_t close_spread_ms; /* over how long left-over WebSockets are closed */
	int replicas;            /* of the service in the proxy; sizes the slots */
};

/* How instances are checked: by opening a connection, by asking their readiness path, or, while one
 * colour has such a path and the other has not, by asking that or `/` and taking any answer but a
 * server error as good. */
enum traffic_check { TRAFFIC_CHECK_PORT, TRAFFIC_CHECK_PATH, TRAFFIC_CHECK_MIXED };

struct traffic_slot {
	char instance[INSTANCE_ID_SIZE]; /* empty: free */
	int port;
	enum instance_traffic traffic; /* NONE: being emptied */
	int weight;
	char ready_path[TRAFFIC_PATH_MAX];
};

struct traffic_environment {
	char name[TRAFFIC_NAME_SIZE];                 /* also the frontend's name */
	struct traffic_bind wanted[TRAFFIC_BIND_MAX]; /* what the specifications ask for */
	size_t wanted_count;
	struct traffic_bind binds[TRAFFIC_BIND_MAX]; /* those that can be had; none: not rendered */
	size_t bind_count;
	char problem[512];  /* why something wanted is not in force; empty: nothing */
	int64_t problem_ms; /* monotonic: when that was found; 0: found anew each time */
	bool retry_idempotent_posts;
	int64_t ready_interval_ms;
	enum traffic_check check;
	int64_t close_spread_ms;
	int slot_count;
	struct traffic_slot slots[TRAFFIC_SLOT_MAX];
};

struct traffic_plan {
	struct traffic_environment **environments; /* sorted by name */
	size_t environment_count;
	/* of the HAProxy process */
	char user[64]; /* empty: stay who we are */
	char group[64];
	int thread_count;
	int connection_count_max;
};

struct traffic_plan *traffic_plan_new(void);
void traffic_plan_free(struct traffic_plan *p);
/* `cleanup` helper. */
void traffic_plan_done(struct traffic_plan **p);
/* The environment NAME; NULL when there is none. */
struct traffic_environment *traffic_plan_find(const struct traffic_plan *p, const char *name);
/* A new empty one in its place of the order; NULL at TRAFFIC_ENVIRONMENT_MAX. */
struct traffic_environment *traffic_plan_add(struct traffic_plan *p, const char *name);
void traffic_plan_drop(struct traffic_plan *p, const char *name);
struct traffic_plan *traffic_plan_copy(const struct traffic_plan *p);
/* The slot of INSTANCE, or -1. */
int traffic_slot_find(const struct traffic_environment *env, const char *instance);

/* Weights of the entries `s` and `b` of a slot. */
void traffic_slot_weights(const struct traffic_slot *slot, int *ret_active, int *ret_backup);

/* Set the problem, cut to what fits. */
void traffic_environment_blame(struct traffic_environment *env, const char *problem,
			       int64_t now_ms);
/* Whether A and B differ in what only a reload can change. */
bool traffic_environment_differs(const struct traffic_environment *a,
				 const struct traffic_environment *b);
/* Give TO the structure of FROM (listening addresses, timings, number of slots); FROM may be NULL:
 * nothing is rendered then. Slots keep their occupants as far as they fit. */
void traffic_environment_revert(struct traffic_environment *to,
				const struct traffic_environment *from);

/*
 * The configuration as text for HAProxy 2.6, run with the folder of it as working folder. Each used
 * slot has its instance's id in a comment, which traffic_render_read() reads back.
 */
void traffic_render(const struct traffic_plan *p, struct buf *into);
/* Name of everything in P that only a reload can change: 16 hexadecimal digits. */
void traffic_render_signature(const struct traffic_plan *p, char ret_signature[static 17]);
/* The map file of ENV: readiness path of each slot. */
void traffic_render_map(const struct traffic_environment *env, struct buf *into);
/* `ready-<name>.map` */
void traffic_map_name(const struct traffic_environment *env, char *text, size_t size);

/* The reverse of traffic_render() as far as it must be known after a start of the daemon: the
 * environments, their addresses (without certificates), and who has which slot. */
void traffic_render_read(str config, struct traffic_plan *into);
