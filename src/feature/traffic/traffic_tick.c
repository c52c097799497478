/*
 * One round: read what is desired, put its structure in force when that changed, write the
 * configuration, bring every worker to it, report, and free slots that are empty.
 *
 * The configuration is written before the commands are sent: whoever starts HAProxy from it gets
 * what was desired, and a round that was cut short is simply repeated.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checks.h"
#include "base/log.h"
#include "feature/traffic/traffic_internal.h"
#include "os/clock.h"

enum {
	QUERY_BYTES_MAX = 64 * 1024 * 1024,
	SESSIONS_BYTES_MAX = 4 * 1024 * 1024,
	PAUSE_MOVING_MS = 50,
	PAUSE_STANDBY_MS = 100,
	PAUSE_PROBLEM_MS = 1000,
	PAUSE_IDLE_MS = 2000,
	REFUSED_MS = 5000,
	ENSURE_MS = 2000,
};

/* Sums over all workers, of one slot. */
struct total {
	int requests;
	int websockets;
	int queued;
	bool settled;
	bool changed; /* by a command of this round */
	bool up;
	char check[96];
	int64_t switch_us;
};

struct round {
	struct traffic *t;
	struct traffic_plan *plan;
	struct instance *instances;
	size_t instance_count;
	struct total **totals; /* as the plan's environments and slots */
	struct arena *query;
	int64_t now_ms;
	int64_t pause_ms;
	bool blind; /* a worker could not be counted: nothing may be called empty */
};

static void hurry(struct round *r, int64_t ms)
{
	if (ms < r->pause_ms)
		r->pause_ms = ms;
}

static errc check_port(void *ctx, const char *listen, struct err *e)
{
	struct traffic *t = ctx;
	return traffic_port_check(&t->proxy, listen, e);
}

/* Environments whose structure is not what runs get WHY as their problem, and what runs back. */
static void revert(struct round *r, const char *why)
{
	struct traffic *t = r->t;
	for (size_t i = 0; i < r->plan->environment_count; i++) {
		struct traffic_environment *env = r->plan->environments[i];
		const struct traffic_environment *before = traffic_plan_find(t->plan, env->name);
		if (t->structure_known && before && !traffic_environment_differs(env, before))
			continue;
		traffic_environment_blame(env, why, r->now_ms);
		if (t->structure_known)
			traffic_environment_revert(env, before);
	}
}

static bool any_frontend(const struct traffic_plan *p)
{
	for (size_t i = 0; i < p->environment_count; i++)
		if (p->environments[i]->bind_count)
			return true;
	return false;
}

/* Nothing is left to carry. */
static errc stop_proxy(struct round *r, struct err *e)
{
	struct buf config CLEANUP(buf_done) = buf_init(TRAFFIC_CONFIG_MAX);
	char path[IO_PATH_MAX + 16];
	TRY(traffic_proxy_read_config(&r->t->proxy, &config, e));
	if (!config.len)
		return OK;
	(void)snprintf(path, sizeof(path), "%s/haproxy.cfg", r->t->proxy.folder);
	TRY(traffic_proxy_stop(&r->t->proxy, e));
	if (unlink(path) != 0)
		FAIL_ERRNO(e, "cannot remove %s", path);
	return OK;
}

static void refuse(struct round *r, const char *signature, const struct err *why)
{
	struct traffic *t = r->t;
	log_err(LOG_WARN, "the proxy did not take a change", why);
	memcpy(t->refused, signature, sizeof(t->refused));
	(void)str_copy((str){ why->message, strnlen(why->message, sizeof(t->refused_why) - 1) },
		       t->refused_why, sizeof(t->refused_why));
	t->refused_until_ms = r->now_ms + REFUSED_MS;
	revert(r, t->refused_why);
}

/* Try what HAProxy did not take only now and then. */
static bool try_apply(struct round *r, const char *signature)
{
	struct traffic *t = r->t;
	struct err why;
	if (!strcmp(signature, t->refused) && r->now_ms < t->refused_until_ms) {
		revert(r, t->refused_why);
		return false;
	}
	if (traffic_proxy_apply(&t->proxy, r->plan, &why) == OK)
		return true;
	refuse(r, signature, &why);
	return false;
}

/* Make the plan's structure run, and its files equal to it. *ret_runs: HAProxy answers. */
static errc structure(struct round *r, bool *ret_runs, struct err *e)
{
	struct traffic *t = r->t;
	char running[17] = "";
	char wanted[17];
	struct err why;
	if (r->now_ms - t->ensure_ms >= ENSURE_MS) {
		t->ensure_ms = r->now_ms;
		TRY(traffic_proxy_ensure(&t->proxy, e));
	}
	bool runs = traffic_proxy_signature(&t->proxy, running, &why) == OK;
	if (!runs)
		t->ensure_ms = 0;
	traffic_render_signature(r->plan, wanted);
	if (runs && strcmp(wanted, running) != 0) {
		if (try_apply(r, wanted))
			memcpy(running, wanted, sizeof(running));
	} else if (!runs && t->proxy.worker_count == 0) {
		/* not started yet; or dead, and the shim starts it again with what is on disk */
		struct buf config CLEANUP(buf_done) = buf_init(TRAFFIC_CONFIG_MAX);
		TRY(traffic_proxy_read_config(&t->proxy, &config, e));
		t->structure_known = t->structure_known || !config.len;
		if (!config.len && try_apply(r, wanted)) {
			runs = true;
			memcpy(running, wanted, sizeof(running));
		}
	}
	traffic_render_signature(r->plan, wanted);
	if (runs && !strcmp(wanted, running)) {
		t->structure_known = true;
		TRY(traffic_proxy_write(&t->proxy, r->plan, e));
	}
	*ret_runs = runs;
	return OK;
}

static errc look(struct round *r, size_t worker, struct traffic_view *ret_view, struct err *e)
{
	struct haproxy_stat *stats;
	size_t count;
	TRY(traffic_proxy_stats(&r->t->proxy, worker, r->query, &stats, &count, e));
	return traffic_view_read(r->plan, stats, count, r->query, ret_view, e);
}

/* Send what is missing as one text; mark the slots that were not as planned. Only the present
 * worker can be changed: HAProxy refuses it of one that finishes, and that one relays new requests
 * to the present one. */
static errc change(struct round *r, struct traffic_view *view, struct err *e)
{
	struct traffic_changes changes CLEANUP(traffic_changes_done);
	traffic_changes_init(&changes);
	traffic_view_changes(r->plan, view, &changes);
	size_t size = traffic_changes_size(&changes);
	if (!size)
		return OK;
	struct buf all CLEANUP(buf_done) = buf_init(size + 1);
	buf_add(&all, buf_str(&changes.prepare));
	buf_add(&all, buf_str(&changes.raise));
	buf_add(&all, buf_str(&changes.lower));
	buf_add(&all, buf_str(&changes.retire));
	TRY(buf_check(&all, "the commands for HAProxy", e));
	int64_t start = clock_mono_us();
	TRY(traffic_proxy_change(&r->t->proxy, buf_str(&all), e));
	int64_t took = clock_mono_us() - start;
	for (size_t i = 0; i < r->plan->environment_count; i++)
		for (int s = 0; s < r->plan->environments[i]->slot_count; s++)
			if (!traffic_view_settled(r->plan->environments[i], s,
						  &view->environments[i][s])) {
				r->totals[i][s].changed = true;
				r->totals[i][s].switch_us = took;
			}
	return look(r, 0, view, e);
}

static void add_up(struct round *r, size_t worker, const struct traffic_view *view)
{
	for (size_t i = 0; i < r->plan->environment_count; i++)
		for (int s = 0; s < r->plan->environments[i]->slot_count; s++) {
			const struct traffic_slot *slot = &r->plan->environments[i]->slots[s];
			const struct traffic_view_slot *seen = &view->environments[i][s];
			struct total *total = &r->totals[i][s];
			/* an old worker may still have another instance there */
			if (!slot->instance[0] || seen->active[TRAFFIC_READ].port != slot->port)
				continue;
			total->requests += traffic_view_requests(seen);
			total->websockets += traffic_view_websockets(seen);
			total->queued += traffic_view_queued(seen);
			if (worker > 0)
				continue;
			total->settled = traffic_view_settled(r->plan->environments[i], s, seen);
			total->up = traffic_view_up(slot, seen);
			memcpy(total->check, seen->check, sizeof(total->check));
		}
}

static struct traffic_memory *remember(struct traffic *t, const char *instance)
{
	for (size_t i = 0; i < t->memory_count; i++)
		if (!strcmp(t->memory[i].instance, instance))
			return &t->memory[i];
	t->memory = must_realloc(t->memory, (t->memory_count + 1) * sizeof(*t->memory));
	struct traffic_memory *m = &t->memory[t->memory_count++];
	*m = (struct traffic_memory){ 0 };
	(void)str_copy(str_c(instance), m->instance, sizeof(m->instance));
	return m;
}

struct closing {
	struct round *r;
	size_t worker;
};

static void close_session(void *ctx, str id)
{
	struct closing *closing = ctx;
	struct buf command CLEANUP(buf_done) = buf_init(128);
	struct buf reply CLEANUP(buf_done) = buf_init(4096);
	struct err e;
	buf_printf(&command, "shutdown session %.*s", STR_ARG(id));
	if (traffic_proxy_ask(&closing->r->t->proxy, closing->worker, buf_str(&command), &reply,
			      &e) != OK)
		log_err(LOG_DEBUG, "a WebSocket could not be closed", &e);
}

/* How many of the WebSockets of a slot without traffic are due to be closed by now. */
static int due_to_close(struct round *r, const struct traffic_environment *env, int index, int open)
{
	struct traffic_memory *m = remember(r->t, env->slots[index].instance);
	if (!m->close_start_ms) {
		m->close_start_ms = r->now_ms;
		m->close_total = open;
	}
	if (open > m->close_total)
		m->close_total = open;
	int64_t elapsed = r->now_ms - m->close_start_ms + PAUSE_MOVING_MS;
	if (elapsed >= env->close_spread_ms)
		return open;
	int64_t due = m->close_total * elapsed / env->close_spread_ms;
	int64_t closed = m->close_total - open;
	return due > closed ? (int)(due - closed) : 0;
}

static void close_websockets(struct round *r, size_t worker, const struct traffic_view *view)
{
	for (size_t i = 0; i < r->plan->environment_count; i++) {
		const struct traffic_environment *env = r->plan->environments[i];
		for (int s = 0; s < env->slot_count; s++) {
			const struct traffic_slot *slot = &env->slots[s];
			const struct traffic_view_slot *seen = &view->environments[i][s];
			if (!slot->instance[0] || slot->traffic != TRAFFIC_NONE ||
			    seen->active[TRAFFIC_READ].port != slot->port ||
			    !traffic_view_websockets(seen))
				continue;
			int count = due_to_close(r, env, s, traffic_view_websockets(seen));
			struct buf reply CLEANUP(buf_done) = buf_init(SESSIONS_BYTES_MAX);
			struct err ignored;
			struct closing closing = { r, worker };
			if (count && traffic_proxy_ask(&r->t->proxy, worker, STR("show sess"),
						       &reply, &ignored) == OK)
				traffic_view_sessions(buf_str(&reply), env, s, count, close_session,
						      &closing);
		}
	}
}

static errc steer(struct round *r, struct err *e)
{
	struct traffic *t = r->t;
	struct err ignored;
	if (traffic_proxy_read_workers(&t->proxy, &ignored) != OK || !t->proxy.worker_count) {
		t->proxy.worker_count = 0; /* the master is just replacing itself */
		r->blind = true;
		hurry(r, PAUSE_MOVING_MS);
	}
	traffic_proxy_relay(&t->proxy);
	for (size_t w = 0; w == 0 || w < t->proxy.worker_count; w++) {
		struct traffic_view view;
		errc rc = look(r, w, &view, w ? &ignored : e);
		if (rc == OK && w == 0)
			rc = change(r, &view, e);
		if (rc == OK) {
			add_up(r, w, &view);
			close_websockets(r, w, &view);
		} else if (w == 0) {
			return rc;
		} else {
			r->blind = true; /* if it has ended, the next round knows */
		}
	}
	return OK;
}

/* What is to be said of an instance that occupies a slot. */
static void report_slot(struct round *r, struct instance *seen,
			const struct traffic_environment *env, const struct total *total)
{
	struct traffic_memory *m = remember(r->t, seen->id);
	bool leaving = seen->traffic == TRAFFIC_DRAIN || seen->traffic == TRAFFIC_NONE;
	bool blamed = env->problem[0] && seen->traffic == TRAFFIC_CHECKED;
	m->seen = true;
	if (total->changed) {
		m->switch_us = total->switch_us;
		if (leaving && !m->requests)
			m->requests = 1; /* a look from before the change does not count */
	}
	int requests = total->requests;
	if (r->blind && leaving && requests < m->requests)
		requests = m->requests;
	seen->proxy.in_flight = leaving && m->requests > requests ? m->requests : requests;
	m->requests = requests;
	seen->proxy.queued = total->queued;
	seen->proxy.websockets = total->websockets;
	/* without traffic the slot may still have an earlier instance of this name */
	seen->proxy.up = total->up && !blamed && seen->traffic != TRAFFIC_NONE;
	seen->proxy.switch_us = m->switch_us;
	if (total->settled && !blamed)
		seen->proxy.generation = seen->traffic_generation;
	memcpy(seen->proxy.check, total->check, sizeof(seen->proxy.check));
	if (!total->settled || (seen->traffic == TRAFFIC_CHECKED && !total->up) || leaving)
		hurry(r, PAUSE_MOVING_MS);
	else if (seen->traffic == TRAFFIC_BACKUP)
		hurry(r, PAUSE_STANDBY_MS);
}

static void report_problem(struct round *r, struct instance *seen, const char *problem)
{
	struct buf text CLEANUP(buf_done) = buf_init(1024);
	buf_printf(&text, "proxy: %s", problem);
	str cut = { buf_cstr(&text), text.len < sizeof(seen->proxy.check)
					     ? text.len
					     : sizeof(seen->proxy.check) - 1 };
	(void)str_copy(cut, seen->proxy.check, sizeof(seen->proxy.check));
	hurry(r, PAUSE_PROBLEM_MS);
}

/* FAILURE: why HAProxy could not be asked; NULL when it was. */
static void report(struct round *r, const char *failure)
{
	for (size_t k = 0; k < r->instance_count; k++) {
		struct instance *seen = &r->instances[k];
		char name[TRAFFIC_NAME_SIZE];
		(void)snprintf(name, sizeof(name), "%s.%s", seen->app, seen->environment);
		size_t at = 0;
		while (at < r->plan->environment_count &&
		       strcmp(r->plan->environments[at]->name, name) != 0)
			at++;
		const struct traffic_environment *env = at < r->plan->environment_count
								? r->plan->environments[at]
								: NULL;
		int slot = env ? traffic_slot_find(env, seen->id) : -1;
		bool wanted = seen->traffic != TRAFFIC_NONE;
		seen->proxy.observed_ms = r->now_ms;
		if (slot >= 0 && env->bind_count && !failure) {
			report_slot(r, seen, env, &r->totals[at][slot]);
		} else {
			seen->proxy.up = false;
			if (!failure)
				seen->proxy.in_flight = seen->proxy.websockets =
					seen->proxy.queued = 0;
			seen->proxy.check[0] = '\0';
			if (!wanted && slot < 0)
				seen->proxy.generation = seen->traffic_generation;
		}
		if (wanted && failure)
			report_problem(r, seen, failure);
		else if (wanted && env && env->problem[0] &&
			 (seen->traffic == TRAFFIC_CHECKED || slot < 0 || !env->bind_count))
			report_problem(r, seen, env->problem);
		instances_observe_proxy(r->t->catalog, seen);
	}
}

/* Free the slots that were found empty twice in a row; forget what nobody needs. */
static void free_slots(struct round *r)
{
	struct traffic *t = r->t;
	for (size_t i = 0; i < r->plan->environment_count; i++) {
		struct traffic_environment *env = r->plan->environments[i];
		for (int s = 0; s < env->slot_count; s++) {
			struct traffic_slot *slot = &env->slots[s];
			if (!slot->instance[0])
				continue;
			struct traffic_memory *m = remember(t, slot->instance);
			const struct total *total = &r->totals[i][s];
			m->seen = true;
			if (slot->traffic != TRAFFIC_NONE)
				continue;
			hurry(r, PAUSE_MOVING_MS);
			bool empty = !env->bind_count || (total->settled && !total->requests &&
							  !total->websockets && !total->queued);
			m->empty_look_count = empty ? m->empty_look_count + 1 : 0;
			if (m->empty_look_count >= 2)
				memset(slot, 0, sizeof(*slot));
		}
	}
	size_t kept = 0;
	for (size_t i = 0; i < t->memory_count; i++)
		if (t->memory[i].seen) {
			t->memory[kept] = t->memory[i];
			t->memory[kept++].seen = false;
		}
	t->memory_count = kept;
}

static errc carry_out(struct round *r, bool *ret_runs, struct err *e)
{
	struct err ignored;
	*ret_runs = false;
	if (traffic_proxy_read_workers(&r->t->proxy, &ignored) != OK)
		r->t->proxy.worker_count = 0;
	traffic_desired_bind(r->plan, r->t->plan, r->now_ms, check_port, r->t);
	if (!any_frontend(r->plan))
		return stop_proxy(r, e);
	TRY(structure(r, ret_runs, e));
	if (!any_frontend(r->plan))
		return OK; /* all refused */
	if (!*ret_runs)
		FAIL(e, ERR_UNAVAILABLE, "HAProxy does not answer; it is being started again");
	return steer(r, e);
}

errc traffic_tick(struct traffic *t, int64_t *ret_pause_ms, struct err *e)
{
	struct arena query CLEANUP(arena_done) = arena_init(QUERY_BYTES_MAX);
	struct round r = {
		.t = t, .query = &query, .now_ms = clock_mono_ms(), .pause_ms = PAUSE_IDLE_MS
	};
	TRY(traffic_desired(t->catalog, t->cache, t->plan, &query, &r.plan, &r.instances,
			    &r.instance_count, e));
	r.totals = arena_array(&query, r.plan->environment_count + 1, sizeof(*r.totals));
	for (size_t i = 0; r.totals && i < r.plan->environment_count; i++)
		r.totals[i] = arena_array(&query, TRAFFIC_SLOT_MAX, sizeof(struct total));
	errc rc = arena_check(&query, "the state of the proxy", e);
	if (rc != OK) {
		traffic_plan_free(r.plan);
		return rc;
	}
	bool runs;
	rc = carry_out(&r, &runs, e);
	report(&r, rc == OK ? NULL : e->message);
	if (rc != OK)
		t->structure_known = false;
	if (rc == OK)
		free_slots(&r);
	pthread_mutex_lock(&t->lock);
	struct traffic_plan *former = t->plan;
	t->plan = r.plan;
	t->runs = runs;
	pthread_mutex_unlock(&t->lock);
	traffic_plan_free(former);
	*ret_pause_ms = rc == OK ? r.pause_ms : PAUSE_STANDBY_MS;
	return rc;
}
