#include "feature/traffic/traffic_desired.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "catalog/releases.h"

enum { CACHE_MAX = 256, RETRY_MS = 1000 };

struct cached {
	char app[NAME_MAX_BYTES + 1];
	char environment[NAME_MAX_BYTES + 1];
	int64_t release;
	uint64_t used; /* when, by the cache's clock */
	struct traffic_settings settings;
};

struct traffic_settings_cache {
	traffic_settings_reader *reader;
	struct cached *items;
	size_t count;
	uint64_t clock;
};

struct traffic_settings_cache *traffic_settings_cache_new(traffic_settings_reader *reader)
{
	struct traffic_settings_cache *cache = must_calloc(1, sizeof(*cache));
	cache->reader = reader;
	return cache;
}

void traffic_settings_cache_free(struct traffic_settings_cache *cache)
{
	if (!cache)
		return;
	free(cache->items);
	free(cache);
}

static struct cached *cache_place(struct traffic_settings_cache *cache)
{
	if (cache->count < CACHE_MAX) {
		cache->items = must_realloc(cache->items,
					    (cache->count + 1) * sizeof(*cache->items));
		return &cache->items[cache->count++];
	}
	struct cached *oldest = cache->items;
	for (size_t i = 1; i < cache->count; i++)
		if (cache->items[i].used < oldest->used)
			oldest = &cache->items[i];
	return oldest;
}

/* A path is put into a command of HAProxy's and a line of its map. */
static errc check_settings(const struct traffic_settings *s, struct err *e)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				      "0123456789/_.~%&=?+:@,-";
	if ((s->ready_path[0] && s->ready_path[0] != '/') ||
	    s->ready_path[strspn(s->ready_path, allowed)])
		FAIL(e, ERR_INVALID,
		     "the readiness path %s must begin with / and hold only characters of an URL",
		     s->ready_path);
	if (strpbrk(s->bind.listen, "\n\r") || strpbrk(s->bind.tls_certificate, "\n\r"))
		FAIL(e, ERR_INVALID, "the address to listen on holds a line break");
	if (!s->bind.listen[0])
		FAIL(e, ERR_INVALID, "the environment names no address to listen on");
	return OK;
}

/* Settings of the release of I. Valid until: the next call. */
static errc find_settings(struct catalog *c, struct traffic_settings_cache *cache,
			  const struct instance *i, const struct traffic_settings **ret_settings,
			  struct err *e)
{
	for (size_t k = 0; k < cache->count; k++) {
		struct cached *item = &cache->items[k];
		if (item->release != i->release || strcmp(item->app, i->app) != 0 ||
		    strcmp(item->environment, i->environment) != 0)
			continue;
		item->used = ++cache->clock;
		*ret_settings = &item->settings;
		return OK;
	}
	struct arena scratch CLEANUP(arena_done) = arena_init(4 * 1024 * 1024);
	struct release release;
	struct traffic_settings settings = { 0 };
	TRY(releases_get(c, i->app, i->environment, i->release, &scratch, &release, e));
	TRY(cache->reader(release.specification, i->environment, &settings, e));
	TRY(check_settings(&settings, e));
	struct cached *item = cache_place(cache);
	*item = (struct cached){ .release = i->release,
				 .used = ++cache->clock,
				 .settings = settings };
	memcpy(item->app, i->app, sizeof(item->app));
	memcpy(item->environment, i->environment, sizeof(item->environment));
	*ret_settings = &item->settings;
	return OK;
}

static void add_bind(struct traffic_environment *env, const struct traffic_bind *bind)
{
	for (size_t i = 0; i < env->wanted_count; i++)
		if (!strcmp(env->wanted[i].listen, bind->listen)) {
			env->wanted[i] = *bind; /* the newer release's certificate */
			return;
		}
	if (env->wanted_count < TRAFFIC_BIND_MAX)
		env->wanted[env->wanted_count++] = *bind;
}

static int slots_for(int wanted)
{
	int count = TRAFFIC_SLOT_MIN;
	while (count < wanted && count < TRAFFIC_SLOT_MAX)
		count *= 2;
	return count;
}

/* The environment of I in the plan, with the slots it had in PREVIOUS on its way to be empty. */
static struct traffic_environment *environment_of(struct traffic_plan *plan,
						  const struct traffic_plan *previous,
						  const struct instance *i)
{
	char name[TRAFFIC_NAME_SIZE];
	(void)snprintf(name, sizeof(name), "%s.%s", i->app, i->environment);
	struct traffic_environment *env = traffic_plan_find(plan, name);
	if (env)
		return env;
	const struct traffic_environment *before = traffic_plan_find(previous, name);
	env = traffic_plan_add(plan, name);
	if (!env || !before)
		return env;
	*env = *before;
	env->wanted_count = 0;
	if (!env->problem_ms)
		env->problem[0] = '\0';
	for (int s = 0; s < env->slot_count; s++)
		env->slots[s].traffic = TRAFFIC_NONE;
	return env;
}

static void take_settings(struct traffic_environment *env, const struct traffic_settings *s)
{
	enum traffic_check check = s->ready_path[0] ? TRAFFIC_CHECK_PATH : TRAFFIC_CHECK_PORT;
	env->check = env->wanted_count && env->check != check ? TRAFFIC_CHECK_MIXED : check;
	add_bind(env, &s->bind);
	env->retry_idempotent_posts = s->retry_idempotent_posts;
	env->ready_interval_ms = s->ready_interval_ms;
	env->close_spread_ms = s->close_spread_ms;
	if (slots_for(2 * s->replicas) > env->slot_count)
		env->slot_count = slots_for(2 * s->replicas);
}

static bool place(struct traffic_environment *env, const struct instance *i, const char *ready_path)
{
	int at = traffic_slot_find(env, i->id);
	if (at < 0)
		at = traffic_slot_find(env, "");
	if (at < 0 && env->slot_count < TRAFFIC_SLOT_MAX) {
		at = env->slot_count;
		env->slot_count = slots_for(env->slot_count + 1);
	}
	if (at < 0)
		return false;
	struct traffic_slot *slot = &env->slots[at];
	memcpy(slot->instance, i->id, sizeof(slot->instance));
	slot->port = i->port;
	slot->traffic = i->traffic;
	slot->weight = i->weight < 1 ? 1 : i->weight > 256 ? 256 : i->weight;
	(void)str_copy(str_c(ready_path), slot->ready_path, sizeof(slot->ready_path));
	return true;
}

static int by_release(const void *a, const void *b)
{
	const struct instance *const *x = a;
	const struct instance *const *y = b;
	if ((*x)->release != (*y)->release)
		return (*x)->release < (*y)->release ? -1 : 1;
	return strcmp((*x)->id, (*y)->id);
}

/* Environments that keep nothing but instances on their way out, which the catalog may not know. */
static void keep_emptying(struct traffic_plan *plan, const struct traffic_plan *previous)
{
	for (size_t k = 0; k < previous->environment_count; k++) {
		const struct traffic_environment *before = previous->environments[k];
		struct traffic_environment *env = traffic_plan_find(plan, before->name);
		bool occupied = false;
		for (int s = 0; s < before->slot_count; s++)
			occupied = occupied || before->slots[s].instance[0];
		if (env || !occupied)
			continue;
		env = traffic_plan_add(plan, before->name);
		if (!env)
			return;
		*env = *before;
		env->wanted_count = 0;
		for (int s = 0; s < env->slot_count; s++)
			env->slots[s].traffic = TRAFFIC_NONE;
	}
}

errc traffic_desired(struct catalog *c, struct traffic_settings_cache *cache,
		     const struct traffic_plan *previous, struct arena *query,
		     struct traffic_plan **ret_plan, struct instance **ret_instances,
		     size_t *ret_instance_count, struct err *e)
{
	struct traffic_plan *plan CLEANUP(traffic_plan_done) = traffic_plan_new();
	struct instance_filter any = { 0 };
	struct instance *all;
	size_t count;
	TRY(instances_list(c, &any, query, &all, &count, e));
	struct instance **order = arena_array(query, count + 1, sizeof(struct instance *));
	TRY(arena_check(query, "the list of instances", e));
	size_t wanted = 0;
	size_t in_proxy = 0;
	for (size_t k = 0; k < count; k++)
		if (all[k].in_proxy)
			all[in_proxy++] = all[k];
	for (size_t k = 0; k < in_proxy; k++)
		if (all[k].traffic != TRAFFIC_NONE)
			order[wanted++] = &all[k];
	/* oldest release first, so that the newest one's settings stay */
	qsort(order, wanted, sizeof(struct instance *), by_release);

	memcpy(plan->user, previous->user, sizeof(plan->user));
	memcpy(plan->group, previous->group, sizeof(plan->group));
	plan->thread_count = previous->thread_count;
	plan->connection_count_max = previous->connection_count_max;
	for (size_t k = 0; k < wanted; k++) {
		const struct traffic_settings *settings;
		struct err problem;
		struct traffic_environment *env = environment_of(plan, previous, order[k]);
		if (!env)
			FAIL(e, ERR_LIMIT, "the proxy carries at most %d environments",
			     TRAFFIC_ENVIRONMENT_MAX);
		if (find_settings(c, cache, order[k], &settings, &problem) != OK) {
			traffic_environment_blame(env, problem.message, 0);
			continue;
		}
		take_settings(env, settings);
		if (!place(env, order[k], settings->ready_path))
			traffic_environment_blame(env, "the environment has too many instances", 0);
	}
	keep_emptying(plan, previous);
	*ret_plan = plan;
	plan = NULL;
	*ret_instances = all;
	*ret_instance_count = in_proxy;
	return OK;
}

/* Host and port of a listening address; an empty host is any. */
static void split_listen(const char *listen, str *ret_host, str *ret_port)
{
	str text = str_c(listen);
	size_t at = text.len;
	while (at && text.ptr[at - 1] != ':')
		at--;
	*ret_port = (str){ text.ptr + at, text.len - at };
	*ret_host = (str){ text.ptr, at ? at - 1 : 0 };
	if (str_eq_c(*ret_host, "*") || str_eq_c(*ret_host, "0.0.0.0") ||
	    str_eq_c(*ret_host, "[::]") || str_eq_c(*ret_host, "::"))
		ret_host->len = 0;
}

static bool collide(const char *a, const char *b)
{
	str host[2];
	str port[2];
	split_listen(a, &host[0], &port[0]);
	split_listen(b, &host[1], &port[1]);
	return str_eq(port[0], port[1]) &&
	       (!host[0].len || !host[1].len || str_eq(host[0], host[1]));
}

static const struct traffic_bind *find_bind(const struct traffic_bind *binds, size_t count,
					    const char *listen)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(binds[i].listen, listen))
			return &binds[i];
	return NULL;
}

/* The environment other than ENV that listens there already. */
static const char *who_listens(const struct traffic_plan *p, const struct traffic_environment *env,
			       const char *listen)
{
	for (size_t i = 0; i < p->environment_count; i++)
		for (size_t b = 0; p->environments[i] != env && b < p->environments[i]->bind_count;
		     b++)
			if (collide(p->environments[i]->binds[b].listen, listen))
				return p->environments[i]->name;
	return NULL;
}

static void keep_binds(struct traffic_environment *env, const struct traffic_environment *before)
{
	env->bind_count = 0;
	for (size_t b = 0; before && b < env->wanted_count; b++)
		if (find_bind(before->binds, before->bind_count, env->wanted[b].listen))
			env->binds[env->bind_count++] = env->wanted[b];
	if (before && !env->wanted_count) { /* only emptying: as it was */
		memcpy(env->binds, before->binds, sizeof(env->binds));
		env->bind_count = before->bind_count;
	}
}

static void add_binds(struct traffic_plan *p, struct traffic_environment *env, int64_t now_ms,
		      errc (*check)(void *ctx, const char *listen, struct err *e), void *ctx)
{
	for (size_t b = 0; b < env->wanted_count; b++) {
		const char *listen = env->wanted[b].listen;
		if (find_bind(env->binds, env->bind_count, listen))
			continue;
		struct err problem;
		const char *who = who_listens(p, env, listen);
		if (who)
			(void)err_fill(&problem, ERR_CONFLICT, 0, __FILE__, __LINE__,
				       "cannot listen on %s: the environment %s does; give one of "
				       "them another `listen`",
				       listen, who);
		else if (check(ctx, listen, &problem) == OK) {
			env->binds[env->bind_count++] = env->wanted[b];
			continue;
		}
		traffic_environment_blame(env, problem.message, now_ms);
	}
}

void traffic_desired_bind(struct traffic_plan *p, const struct traffic_plan *previous,
			  int64_t now_ms,
			  errc (*check)(void *ctx, const char *listen, struct err *e), void *ctx)
{
	for (size_t i = 0; i < p->environment_count; i++)
		keep_binds(p->environments[i],
			   traffic_plan_find(previous, p->environments[i]->name));
	for (size_t i = 0; i < p->environment_count; i++) {
		struct traffic_environment *env = p->environments[i];
		bool recent = env->problem[0] && now_ms - env->problem_ms < RETRY_MS;
		if (!recent) {
			if (env->problem_ms)
				env->problem[0] = '\0';
			env->problem_ms = 0;
			add_binds(p, env, now_ms, check, ctx);
		}
	}
}
