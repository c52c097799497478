/* Shared by traffic.c (thread, status) and traffic_tick.c (one round of reconciliation). */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "feature/traffic/traffic.h"
#include "feature/traffic/traffic_access.h"
#include "feature/traffic/traffic_desired.h"
#include "feature/traffic/traffic_proxy.h"

/* What is remembered of an occupant of a slot between two looks. */
struct traffic_memory {
	char instance[INSTANCE_ID_SIZE];
	int requests;         /* at the last look */
	int empty_look_count; /* in a row */
	int64_t switch_us;
	int64_t close_start_ms; /* of closing its WebSockets; 0: not begun */
	int close_total;
	bool seen; /* in this round */
};

struct traffic {
	struct catalog *catalog;
	struct traffic_proxy proxy;
	struct traffic_access *access;
	struct traffic_settings_cache *cache;
	pthread_t thread;
	int wake_fd; /* eventfd */
	atomic_bool stopping;

	/* the thread's own */
	bool structure_known; /* `plan` has the structure of what runs, not only addresses and slots
			       */
	char refused[17];     /* signature of a plan that HAProxy did not take */
	int64_t refused_until_ms;
	char refused_why[512];
	int64_t ensure_ms; /* when the shim was looked for last */
	struct traffic_memory *memory;
	size_t memory_count;

	pthread_mutex_t lock;      /* of what follows, for traffic_status() */
	struct traffic_plan *plan; /* as of the last round; replaced only by the thread */
	bool runs;
	char error[512]; /* why the last round failed */
};

/* One round; *ret_pause_ms: how long to sleep unless woken. */
WARN_UNUSED errc traffic_tick(struct traffic *t, int64_t *ret_pause_ms, struct err *e);
