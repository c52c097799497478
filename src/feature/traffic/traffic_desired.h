/*
 * The plan that the catalog asks for: which environments, addresses and slots there should be.
 *
 * An environment is in the proxy while an instance of the service that takes its traffic is (any
 * traffic but `none`). It listens on the addresses of every release with such an instance, so a
 * deploy that changes the address serves both until the old colour is gone; other settings are
 * those of the newest such release, readiness paths each release's own.
 */
#pragma once

#include "feature/traffic/traffic_plan.h"

/* Settings of releases, kept because a release never changes. */
struct traffic_settings_cache;

/* How to read a specification; traffic_settings_read() but in tests. */
typedef errc traffic_settings_reader(const char *specification, const char *environment,
				     struct traffic_settings *ret_settings, struct err *e);
traffic_settings_reader traffic_settings_read;

struct traffic_settings_cache *traffic_settings_cache_new(traffic_settings_reader *reader);
void traffic_settings_cache_free(struct traffic_settings_cache *cache);

/*
 * Read the catalog and give the next plan. PREVIOUS tells who has which slot. Instances whose
 * traffic is `none`, or that the catalog has forgotten, keep a slot they have until it is emptied
 * by the caller. binds are those wanted; `problem` tells what is wrong with an environment.
 * ret_instances: all in_proxy instances; Valid until: arena_done() of QUERY.
 */
WARN_UNUSED errc traffic_desired(struct catalog *c, struct traffic_settings_cache *cache,
				 const struct traffic_plan *previous, struct arena *query,
				 struct traffic_plan **ret_plan, struct instance **ret_instances,
				 size_t *ret_instance_count, struct err *e);

/*
 * Decide which of the wanted addresses each environment of P gets: those it had in PREVIOUS, and
 * further ones that no other environment has and that CHECK (ctx, address) finds free. What is
 * refused becomes the environment's `problem`, and is tried again 1 s after NOW_MS at the earliest.
 */
void traffic_desired_bind(struct traffic_plan *p, const struct traffic_plan *previous,
			  int64_t now_ms,
			  errc (*check)(void *ctx, const char *listen, struct err *e), void *ctx);
