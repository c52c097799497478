/* From the canary to the drain, and the way back. */
#include <stdio.h>
#include <string.h>

#include "base/checks.h"
#include "feature/release/release_internal.h"
#include "os/clock.h"

enum {
	SCRATCH_BYTES = 32 * 1024 * 1024,
	STEER_MS_MAX = 15000,
	FULL_WEIGHT = 100,
	WEIGHT_MAX = 256,
	UNREADY_MS_MAX = 2000, /* a new instance may miss its checks for so long in the watch */
	CLOSE_SLACK_MS = 1000, /* beyond the spread for the last WebSocket to go */
};

/* ---- steering */

struct steering {
	int64_t release;
	enum instance_traffic traffic;
	int weight;
};

static errc collect_changes(struct release_run *run, const struct steering *s,
			    struct arena *scratch, struct instance_traffic_change *changes,
			    size_t *n, size_t room, struct err *e)
{
	struct instance *items = NULL;
	size_t count = 0;
	TRY(release_instances(run, s->release, scratch, &items, &count, e));
	for (size_t k = 0; k < count; k++) {
		if (!items[k].in_proxy)
			continue;
		must(*n < room);
		changes[(*n)++] = (struct instance_traffic_change){ items[k].id, s->traffic,
								    s->weight };
	}
	return OK;
}

static bool in_force(const struct instance *items, size_t count, int64_t *switch_us)
{
	for (size_t k = 0; k < count; k++) {
		if (!items[k].in_proxy)
			continue;
		if (items[k].proxy.generation != items[k].traffic_generation)
			return false;
		if (items[k].proxy.switch_us > *switch_us)
			*switch_us = items[k].proxy.switch_us;
	}
	return true;
}

/* Wait until the proxy does what is desired of the instances of A and B. */
static errc wait_in_force(struct release_run *run, int64_t a, int64_t b, int64_t *ret_switch_us,
			  struct err *e)
{
	int64_t deadline = clock_mono_ms() + STEER_MS_MAX;
	for (;;) {
		struct arena scratch CLEANUP(arena_done) = arena_init(SCRATCH_BYTES);
		struct instance *of_a = NULL, *of_b = NULL;
		size_t count_a = 0, count_b = 0;
		int64_t switch_us = 0;
		uint64_t sequence = release_sequence(run);
		TRY(release_instances(run, a, &scratch, &of_a, &count_a, e));
		TRY(release_instances(run, b, &scratch, &of_b, &count_b, e));
		if (in_force(of_a, count_a, &switch_us) && in_force(of_b, count_b, &switch_us)) {
			*ret_switch_us = switch_us;
			return OK;
		}
		if (clock_mono_ms() > deadline) {
			const char *why = count_a ? of_a[0].proxy.check : "";
			FAIL(e, ERR_UNAVAILABLE,
			     "the proxy did not take the change within %d s%s%s",
			     STEER_MS_MAX / 1000, why[0] ? ": " : "", why);
		}
		TRY(release_pause(run, sequence, 100, e));
	}
}

errc release_steer(struct release_run *run, int64_t a, enum instance_traffic a_traffic,
		   int a_weight, int64_t b, enum instance_traffic b_traffic, int b_weight,
		   int64_t *ret_switch_us, struct err *e)
{
	struct arena scratch CLEANUP(arena_done) = arena_init(SCRATCH_BYTES);
	size_t n = 0, room = 2 * 64 * 16;
	struct instance_traffic_change *changes = arena_array(&scratch, room, sizeof(changes[0]));
	TRY(arena_check(&scratch, "the change of traffic", e));
	struct steering of_a = { a, a_traffic, a_weight }, of_b = { b, b_traffic, b_weight };
	TRY(collect_changes(run, &of_a, &scratch, changes, &n, room, e));
	TRY(collect_changes(run, &of_b, &scratch, changes, &n, room, e));
	if (n)
		TRY(instances_set_traffic(run->context->catalog, changes, n, e));
	return wait_in_force(run, a, b, ret_switch_us, e);
}

static size_t count_in_proxy(struct release_run *run, int64_t number, struct err *e)
{
	struct arena scratch CLEANUP(arena_done) = arena_init(SCRATCH_BYTES);
	struct instance *items = NULL;
	size_t count = 0, n = 0;
	if (release_instances(run, number, &scratch, &items, &count, e) != OK)
		return 0;
	for (size_t k = 0; k < count; k++)
		n += items[k].in_proxy;
	return n;
}

static errc check_new_alive(struct release_run *run, struct err *e)
{
	struct arena scratch CLEANUP(arena_done) = arena_init(SCRATCH_BYTES);
	struct instance *items = NULL;
	size_t count = 0;
	TRY(release_instances(run, run->next.number, &scratch, &items, &count, e));
	return release_check_alive(run, items, count, e);
}

/* ---- canary */

/* Weights of one instance each, so that the new colour as a whole gets PERCENT of the requests. */
static void canary_weights(int64_t percent, size_t new_count, size_t old_count, int *new_weight,
			   int *old_weight)
{
	double share = (double)percent / 100;
	double new_each = share / (double)new_count, old_each = (1 - share) / (double)old_count;
	double scale = WEIGHT_MAX / (new_each > old_each ? new_each : old_each);
	*new_weight = (int)(new_each * scale + 0.5);
	*old_weight = (int)(old_each * scale + 0.5);
	if (*new_weight < 1)
		*new_weight = 1;
	if (*old_weight < 1)
		*old_weight = 1;
}

errc release_step_canary(struct release_run *run, struct err *e)
{
	const struct spec_canary *canary = &run->environment->deploy.canary;
	int new_weight = 0, old_weight = 0;
	int64_t switch_us = 0;
	if (!canary->enabled || !run->previous.number)
		return OK;
	size_t new_count = count_in_proxy(run, run->next.number, e);
	size_t old_count = count_in_proxy(run, run->previous.number, e);
	if (!new_count || !old_count)
		return OK;
	canary_weights(canary->weight_percent, new_count, old_count, &new_weight, &old_weight);
	TRY(release_steer(run, run->next.number, TRAFFIC_ACTIVE, new_weight, run->previous.number,
			  TRAFFIC_ACTIVE, old_weight, &switch_us, e));
	release_say(run, EVENT_PROGRESS, "release %lld takes %lld %% of the requests",
		    (long long)run->next.number, (long long)canary->weight_percent);
	int64_t end = clock_mono_ms() + canary->time_ms;
	for (int64_t left; (left = end - clock_mono_ms()) > 0;) {
		uint64_t sequence = release_sequence(run);
		TRY(check_new_alive(run, e));
		TRY(release_pause(run, sequence, left, e));
	}
	return check_new_alive(run, e);
}

/* ---- switch */

/* Who serves now, in one transaction: both releases change state or neither does. */
static errc record_switch(struct release_run *run, struct err *e)
{
	struct catalog *c = run->context->catalog;
	char note[128] = "";
	time_ms warm_until = clock_now() + run->environment->deploy.keep_warm_ms;
	if (release_is_rollback(run))
		snprintf(note, sizeof(note), "rolled back to release %lld by %s",
			 (long long)run->next.number, run->operation.actor);
	TRY(catalog_begin(c, e));
	errc rc = OK;
	if (run->previous.number)
		rc = releases_set_state(c, &run->previous, RELEASE_WARM, warm_until,
					note[0] ? note : NULL, e);
	if (rc == OK)
		rc = releases_set_state(c, &run->next, RELEASE_CURRENT, 0, "", e);
	return catalog_end(c, rc, e);
}

errc release_step_switch(struct release_run *run, struct err *e)
{
	/* the old colour stands behind the new one until the watch is over; after a rollback nobody
	 * wants it back */
	enum instance_traffic old = release_is_rollback(run) ? TRAFFIC_DRAIN : TRAFFIC_BACKUP;
	int64_t switch_us = 0;
	char total[UNIT_TEXT_SIZE];
	TRY(release_steer(run, run->next.number, TRAFFIC_ACTIVE, FULL_WEIGHT, run->previous.number,
			  old, FULL_WEIGHT, &switch_us, e));
	TRY(record_switch(run, e));
	if (!run->journal.switched) {
		run->journal.switched = true;
		run->journal.switch_us = switch_us;
		run->journal.switched_ms = clock_now() - run->operation.created;
		TRY(release_journal_save(run, e));
	}
	release_say(run, EVENT_PROGRESS, "release %lld serves %s, %s after it was asked for",
		    (long long)run->next.number, run->operation.environment,
		    duration_format(run->journal.switched_ms, total));
	return OK;
}

/* ---- watch */

errc release_step_watch(struct release_run *run, struct err *e)
{
	int64_t end = clock_mono_ms() + run->environment->deploy.watch_ms;
	int64_t unready_since = 0;
	if (!run->previous.number)
		end = clock_mono_ms() + (run->environment->deploy.watch_ms < 1000
						 ? run->environment->deploy.watch_ms
						 : 1000);
	for (;;) {
		struct arena scratch CLEANUP(arena_done) = arena_init(SCRATCH_BYTES);
		struct instance *items = NULL;
		const struct instance *unready = NULL;
		size_t count = 0;
		uint64_t sequence = release_sequence(run);
		int64_t now = clock_mono_ms();
		TRY(release_instances(run, run->next.number, &scratch, &items, &count, e));
		TRY(release_check_alive(run, items, count, e));
		for (size_t k = 0; k < count && !unready; k++)
			if (items[k].in_proxy && !items[k].proxy.up)
				unready = &items[k];
		if (!unready)
			unready_since = 0;
		else if (!unready_since)
			unready_since = now;
		if (unready && now - unready_since > UNREADY_MS_MAX) {
			err_fill(e, ERR_FAILED, 0, __FILE__, __LINE__,
				 "%s stopped being ready after the switch: %s.", unready->id,
				 unready->proxy.check);
			release_add_output(run, unready, e);
			return ERR_FAILED;
		}
		if (now >= end && !unready)
			return OK;
		TRY(release_pause(run, sequence, end > now ? end - now : 100, e));
	}
}

/* ---- drain */

struct load_left {
	int in_flight;
	int websockets;
};

/* What the proxy still has at the old colour, read after the drain came into force. */
static errc read_load(struct release_run *run, int64_t since_ms, struct load_left *left,
		      bool *ret_fresh, struct err *e)
{
	struct arena scratch CLEANUP(arena_done) = arena_init(SCRATCH_BYTES);
	struct instance *items = NULL;
	size_t count = 0;
	TRY(release_instances(run, run->previous.number, &scratch, &items, &count, e));
	*left = (struct load_left){ 0 };
	*ret_fresh = true;
	for (size_t k = 0; k < count; k++) {
		if (!items[k].in_proxy)
			continue;
		*ret_fresh &= items[k].proxy.observed_ms > since_ms;
		left->in_flight += items[k].proxy.in_flight + items[k].proxy.queued;
		left->websockets += items[k].proxy.websockets;
	}
	return OK;
}

/* Wait until NOTHING is left of one kind, at most MS; *ret_left is what is. */
static errc wait_for_load(struct release_run *run, bool websockets, int64_t ms, int *ret_left,
			  struct err *e)
{
	int64_t begun = clock_mono_ms();
	for (;;) {
		struct load_left left;
		bool fresh = false;
		uint64_t sequence = release_sequence(run);
		TRY(read_load(run, begun, &left, &fresh, e));
		*ret_left = websockets ? left.websockets : left.in_flight;
		if ((fresh && *ret_left == 0) || clock_mono_ms() - begun > ms)
			return OK;
		TRY(release_pause(run, sequence, 100, e));
	}
}

static errc signal_drain(struct release_run *run, struct err *e)
{
	struct arena scratch CLEANUP(arena_done) = arena_init(SCRATCH_BYTES);
	struct instance *items = NULL;
	size_t count = 0;
	TRY(release_instances(run, run->previous.number, &scratch, &items, &count, e));
	for (size_t k = 0; k < count; k++)
		if (items[k].in_proxy)
			TRY(instances_signal_drain(run->context->catalog, items[k].id, e));
	return OK;
}

/* The specification of the release that is drained says whether it takes a drain signal. */
static errc previous_takes_signal(struct release_run *run, bool *ret_takes, struct err *e)
{
	struct arena scratch CLEANUP(arena_done) = arena_init(SPEC_ARENA_BYTES);
	const struct spec *spec = NULL;
	const struct spec_environment *environment = NULL;
	TRY(spec_parse(&scratch, str_c(run->previous.specification), "holdfast.yml", &spec, NULL,
		       e));
	TRY(spec_environment_find(spec, run->operation.environment, &environment, e));
	*ret_takes = spec_traffic_service(environment)->drain_signal != 0;
	return OK;
}

static errc drain_websockets(struct release_run *run, struct err *e)
{
	const struct spec_deploy *deploy = &run->environment->deploy;
	bool takes_signal = false;
	int left = 0;
	TRY(wait_for_load(run, true, deploy->websocket_grace_ms, &left, e));
	TRY(previous_takes_signal(run, &takes_signal, e));
	if (left == 0 || !takes_signal)
		return OK; /* others close theirs when they are stopped */
	release_say(run, EVENT_PROGRESS, "asking release %lld to close %d WebSockets",
		    (long long)run->previous.number, left);
	TRY(signal_drain(run, e));
	TRY(wait_for_load(run, true, deploy->close_spread_ms + CLOSE_SLACK_MS, &left, e));
	if (left)
		release_say(run, EVENT_WARNING,
			    "%d WebSockets stay with release %lld until it is stopped", left,
			    (long long)run->previous.number);
	return OK;
}

errc release_step_drain(struct release_run *run, struct err *e)
{
	int left = 0;
	int64_t switch_us = 0;
	char limit[UNIT_TEXT_SIZE];
	if (!run->previous.number)
		return OK;
	TRY(release_steer(run, run->next.number, TRAFFIC_ACTIVE, FULL_WEIGHT, run->previous.number,
			  TRAFFIC_DRAIN, FULL_WEIGHT, &switch_us, e));
	TRY(wait_for_load(run, false, run->environment->deploy.drain_timeout_ms, &left, e));
	if (left)
		release_say(run, EVENT_WARNING, "%d requests were still at release %lld after %s",
			    left, (long long)run->previous.number,
			    duration_format(run->environment->deploy.drain_timeout_ms, limit));
	return drain_websockets(run, e);
}

/* ---- the way back */

/* A rollback that fails leaves its target as it was: warm, or not running. */
static enum release_state state_after_revert(const struct release_run *run)
{
	if (!release_is_rollback(run))
		return RELEASE_FAILED;
	return run->next.state == RELEASE_WARM ? RELEASE_WARM : RELEASE_RETIRED;
}

/* Who serves again, in one transaction as in record_switch(). */
static errc record_revert(struct release_run *run, struct err *e)
{
	struct catalog *c = run->context->catalog;
	enum release_state state = state_after_revert(run);
	time_ms warm_until = state == RELEASE_WARM ? run->next.warm_until : 0;
	const char *note = state == RELEASE_FAILED ? run->journal.error : NULL;
	TRY(catalog_begin(c, e));
	errc rc = releases_set_state(c, &run->next, state, warm_until, note, e);
	if (rc == OK && run->previous.number)
		rc = releases_set_state(c, &run->previous, RELEASE_CURRENT, 0, NULL, e);
	return catalog_end(c, rc, e);
}

/* What is desired is durable: a proxy that cannot take the change now takes it when it can, so that
 * is no reason to leave the new colour running. */
static errc give_back(struct release_run *run, struct err *e)
{
	int64_t switch_us = 0;
	/* the new colour finishes what it has */
	errc rc = release_steer(run, run->previous.number, TRAFFIC_ACTIVE, FULL_WEIGHT,
				run->next.number, TRAFFIC_DRAIN, FULL_WEIGHT, &switch_us, e);
	if (rc == ERR_UNAVAILABLE && !__atomic_load_n(run->stopping, __ATOMIC_ACQUIRE))
		release_say(run, EVENT_WARNING, "%s", e ? e->message : "the proxy does not answer");
	else if (rc != OK)
		return rc;
	return record_revert(run, e);
}

static errc finish_requests(struct release_run *run, struct err *e)
{
	struct release previous = run->previous;
	run->previous = run->next; /* whose load is waited for */
	int left = 0;
	errc rc = wait_for_load(run, false, run->environment->deploy.drain_timeout_ms, &left, e);
	run->previous = previous;
	return rc;
}

/* Whether an instance of the new release may have had a request of a user. */
static errc had_requests(struct release_run *run, bool *ret_had, struct err *e)
{
	struct arena scratch CLEANUP(arena_done) = arena_init(SCRATCH_BYTES);
	struct instance *items = NULL;
	size_t count = 0;
	TRY(release_instances(run, run->next.number, &scratch, &items, &count, e));
	*ret_had = false;
	for (size_t k = 0; k < count; k++)
		*ret_had |= items[k].in_proxy && items[k].traffic != TRAFFIC_NONE &&
			    items[k].traffic != TRAFFIC_CHECKED;
	return OK;
}

errc release_revert(struct release_run *run, struct err *e)
{
	if (!run->next.number)
		TRY(release_load(run, e));
	bool had = false;
	TRY(release_journal_save(run, e));
	TRY(had_requests(run, &had, e));
	/* a colour that never took traffic leaves no traffic to give back */
	TRY(had ? give_back(run, e) : record_revert(run, e));
	if (state_after_revert(run) == RELEASE_WARM)
		return OK;
	if (had)
		TRY(finish_requests(run, e));
	return release_retire_instances(run, run->next.number, e);
}
