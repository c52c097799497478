/*
 * What one HAProxy worker does at present, read from `show stat`, and the commands that bring it to
 * the plan. Pure: no socket, no clock.
 */
#pragma once

#include "feature/traffic/traffic_plan.h"
#include "net/haproxy.h"

enum traffic_kind { TRAFFIC_READ, TRAFFIC_WRITE, TRAFFIC_WS, TRAFFIC_KIND_COUNT };

/* One server entry. */
struct traffic_entry {
	bool found;
	bool maintenance;
	bool up;
	int port;
	int weight;
	int current; /* requests, or WebSockets, at it */
	int queued;
};

struct traffic_view_slot {
	struct traffic_entry active[TRAFFIC_KIND_COUNT];
	struct traffic_entry backup[TRAFFIC_KIND_COUNT];
	bool check_passed;  /* the last health check was good */
	bool check_pending; /* none has ended yet */
	char check[96];
};

struct traffic_view {
	/* as the plan's environments; each with its slot_count of slots */
	struct traffic_view_slot **environments;
};

/* Errors: ERR_LIMIT when QUERY is full. Valid until: arena_done() of QUERY. */
WARN_UNUSED errc traffic_view_read(const struct traffic_plan *p, const struct haproxy_stat *stats,
				   size_t stat_count, struct arena *query,
				   struct traffic_view *ret_view, struct err *e);

/* Commands, each ended by `;`, in the order in which they must be carried out. */
struct traffic_changes {
	struct buf prepare; /* put instances into their slots, without traffic */
	struct buf raise;   /* give traffic */
	struct buf lower;   /* take traffic */
	struct buf retire;  /* empty slots */
};

void traffic_changes_init(struct traffic_changes *c);
void traffic_changes_done(struct traffic_changes *c);
/* How many bytes of commands there are. */
size_t traffic_changes_size(const struct traffic_changes *c);

/* What has to change in the worker for the plan to be in force; nothing when it is. */
void traffic_view_changes(const struct traffic_plan *p, const struct traffic_view *view,
			  struct traffic_changes *into);
/* Whether one slot is as planned. */
bool traffic_view_settled(const struct traffic_environment *env, int index,
			  const struct traffic_view_slot *slot);
/* Counters of a slot. */
int traffic_view_requests(const struct traffic_view_slot *slot);
int traffic_view_websockets(const struct traffic_view_slot *slot);
int traffic_view_queued(const struct traffic_view_slot *slot);
/* Whether it may be said that the instance is healthy. */
bool traffic_view_up(const struct traffic_slot *planned, const struct traffic_view_slot *slot);

/* The ids of sessions at slot INDEX in the reply of `show sess`: at most ID_COUNT_MAX, each called
 * as WEBSOCKET(ctx, id). */
void traffic_view_sessions(str reply, const struct traffic_environment *env, int index,
			   int session_count_max, void (*websocket)(void *ctx, str id), void *ctx);
