#include "feature/traffic/traffic.h"

#include <errno.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/checks.h"
#include "base/log.h"
#include "codec/json.h"
#include "feature/traffic/traffic_internal.h"

enum {
	THREAD_COUNT_MAX = 4,
	CONNECTION_COUNT_MAX = 8000,
	DESCRIPTOR_SPARE = 500,
	RETRY_MS = 1000,
};

static void wake(struct traffic *t)
{
	uint64_t one = 1;
	ssize_t n = write(t->wake_fd, &one, sizeof(one));
	(void)n; /* full means that it is awake already */
}

static void note(void *ctx, enum bus_topic topic, str subject)
{
	(void)topic;
	(void)subject;
	wake(ctx);
}

static void pause_ms(struct traffic *t, int64_t ms)
{
	struct pollfd p = { .fd = t->wake_fd, .events = POLLIN };
	uint64_t count;
	if (poll(&p, 1, (int)ms) > 0) {
		ssize_t n = read(t->wake_fd, &count, sizeof(count));
		(void)n;
	}
}

static void *run(void *ctx)
{
	struct traffic *t = ctx;
	while (!atomic_load(&t->stopping)) {
		int64_t ms = RETRY_MS;
		struct err e = { 0 };
		errc rc = traffic_tick(t, &ms, &e);
		bool news = rc != OK && strcmp(t->error, e.message) != 0;
		pthread_mutex_lock(&t->lock);
		t->error[0] = '\0';
		if (rc != OK)
			(void)str_copy((str){ e.message, strnlen(e.message, sizeof(t->error) - 1) },
				       t->error, sizeof(t->error));
		pthread_mutex_unlock(&t->lock);
		if (news)
			log_err(LOG_WARN, "the proxy could not be brought to what is desired", &e);
		if (!atomic_load(&t->stopping))
			pause_ms(t, ms);
	}
	return NULL;
}

/* HAProxy's workers are nobody important. */
static errc choose_user(const char *account, struct traffic_plan *p, uid_t *ret_uid, struct err *e)
{
	*ret_uid = geteuid();
	if (geteuid() != 0)
		return OK;
	const struct passwd *user = getpwnam(account ? account : "haproxy");
	if (!user && !account)
		user = getpwnam("nobody");
	if (!user)
		FAIL(e, ERR_NOT_FOUND, "there is no account %s for the proxy",
		     account ? account : "nobody");
	*ret_uid = user->pw_uid;
	const struct group *group = getgrgid(user->pw_gid);
	if (!group || !str_copy(str_c(user->pw_name), p->user, sizeof(p->user)) ||
	    !str_copy(str_c(group->gr_name), p->group, sizeof(p->group)))
		FAIL(e, ERR_NOT_FOUND, "the account %s has no group that can be named",
		     user->pw_name);
	return OK;
}

static errc start_access(struct traffic *t, uid_t uid, struct err *e)
{
	char path[IO_PATH_MAX + 16];
	snprintf(path, sizeof(path), "%s/access.sock", t->proxy.folder);
	return traffic_access_start(t->catalog, path, uid, &t->access, e);
}

static errc first_plan(struct traffic *t, const char *account, struct err *e)
{
	struct buf config CLEANUP(buf_done) = buf_init(TRAFFIC_CONFIG_MAX);
	uid_t uid;
	TRY(traffic_proxy_read_config(&t->proxy, &config, e));
	traffic_render_read(buf_str(&config), t->plan);
	TRY(choose_user(account, t->plan, &uid, e));
	TRY(start_access(t, uid, e));
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	t->plan->thread_count = cpus < 1                  ? 1
				: cpus > THREAD_COUNT_MAX ? THREAD_COUNT_MAX
							  : (int)cpus;
	struct rlimit limit = { 0 };
	must(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	t->plan->connection_count_max = CONNECTION_COUNT_MAX;
	if (limit.rlim_max < 2 * CONNECTION_COUNT_MAX + DESCRIPTOR_SPARE)
		t->plan->connection_count_max =
			limit.rlim_max > 2 * DESCRIPTOR_SPARE
				? (int)((limit.rlim_max - DESCRIPTOR_SPARE) / 2)
				: 100;
	return OK;
}

static void free_all(struct traffic *t)
{
	if (t->wake_fd >= 0)
		(void)close(t->wake_fd);
	pthread_mutex_destroy(&t->lock);
	traffic_access_stop(t->access);
	traffic_plan_free(t->plan);
	traffic_settings_cache_free(t->cache);
	free(t->memory);
	free(t);
}

errc traffic_start(struct catalog *c, const struct traffic_options *options,
		   struct traffic **ret_traffic, struct err *e)
{
	struct traffic *t = must_calloc(1, sizeof(*t));
	t->catalog = c;
	t->plan = traffic_plan_new();
	t->cache = traffic_settings_cache_new(traffic_settings_read);
	must(pthread_mutex_init(&t->lock, NULL) == 0);
	t->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	must(t->wake_fd >= 0);
	errc rc = traffic_proxy_init(&t->proxy, catalog_data(c), options->executable,
				     options->haproxy, e);
	if (rc == OK)
		rc = first_plan(t, options->account, e);
	if (rc != OK) {
		free_all(t);
		return rc;
	}
	bus_subscribe(catalog_bus(c), BUS_TRAFFIC_DESIRED, note, t);
	int failed = pthread_create(&t->thread, NULL, run, t);
	if (failed) {
		bus_unsubscribe(catalog_bus(c), note, t);
		free_all(t);
		errno = failed;
		FAIL_ERRNO(e, "cannot start the proxy's thread");
	}
	*ret_traffic = t;
	return OK;
}

void traffic_stop(struct traffic *t)
{
	if (!t)
		return;
	bus_unsubscribe(catalog_bus(t->catalog), note, t);
	atomic_store(&t->stopping, true);
	wake(t);
	pthread_join(t->thread, NULL);
	free_all(t);
}

errc traffic_shutdown_proxy(const char *data, const char *executable, struct err *e)
{
	struct traffic_proxy *x = must_calloc(1, sizeof(*x));
	errc rc = traffic_proxy_init(x, data, executable, "haproxy", e);
	if (rc == OK)
		rc = traffic_proxy_stop(x, e);
	free(x);
	return rc;
}

void traffic_expose(struct traffic *t, struct buf *into)
{
	traffic_access_expose(t->access, into);
}

static void write_slots(const struct traffic_environment *env, struct json_writer *w)
{
	json_key(w, "slots");
	json_begin_array(w);
	for (int s = 0; s < env->slot_count; s++) {
		const struct traffic_slot *slot = &env->slots[s];
		if (!slot->instance[0])
			continue;
		json_begin_object(w);
		json_put_i64(w, "slot", s + 1);
		json_put_cstr(w, "instance", slot->instance);
		json_put_i64(w, "port", slot->port);
		json_put_cstr(w, "traffic", instance_traffic_text(slot->traffic));
		json_put_i64(w, "weight", slot->weight);
		json_end_object(w);
	}
	json_end_array(w);
}

static void write_environment(const struct traffic_environment *env, struct json_writer *w)
{
	json_begin_object(w);
	json_put_cstr(w, "environment", env->name);
	json_key(w, "listen");
	json_begin_array(w);
	for (size_t b = 0; b < env->bind_count; b++)
		json_add_cstr(w, env->binds[b].listen);
	json_end_array(w);
	if (env->problem[0])
		json_put_cstr(w, "problem", env->problem);
	json_put_i64(w, "slot_count", env->slot_count);
	write_slots(env, w);
	json_end_object(w);
}

void traffic_status(struct traffic *t, struct buf *into)
{
	struct json_writer w = json_writer_init(into, false);
	pthread_mutex_lock(&t->lock);
	json_begin_object(&w);
	json_put_bool(&w, "running", t->runs);
	if (t->error[0])
		json_put_cstr(&w, "problem", t->error);
	json_key(&w, "environments");
	json_begin_array(&w);
	for (size_t i = 0; i < t->plan->environment_count; i++)
		write_environment(t->plan->environments[i], &w);
	json_end_array(&w);
	json_end_object(&w);
	pthread_mutex_unlock(&t->lock);
}
