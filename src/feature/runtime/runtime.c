#include "feature/runtime/runtime.h"

#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/checks.h"
#include "base/log.h"
#include "feature/runtime/runtime_internal.h"
#include "os/clock.h"
#include "os/io.h"

enum {
	TICK_MS = 1000,
	RETRY_MS = 1000, /* after a shim that could not be started or reached */
	RETRY_MS_MAX = 30000,
	LIST_ARENA_BYTES = 16 * 1024 * 1024,
};

/* What the reconciler knows of one instance beyond the catalog. */
struct runner {
	struct instance instance; /* as last listed; `runtime` is ours */
	char socket[RUNTIME_SOCKET_SIZE];
	struct shim_client *watch; /* NULL: not connected */
	int fd;                    /* of the watch */
	struct shim_status status;
	bool wanted;   /* still in the catalog */
	bool starting; /* a worker starts its shim */
	bool stop_sent;
	int64_t restart_generation; /* that was carried out */
	int failures;               /* starts in a row that failed */
	int64_t retry_at;           /* monotonic ms */
	bool start_failed;          /* set by the worker, under the lock */
	struct err start_error;
};

struct runtime {
	const struct feature_context *context;
	pthread_t thread;
	int wake_fd;
	bool stopping;
	pthread_mutex_t lock; /* of `starting`, `start_failed` and `start_error` of the runners */
	pthread_cond_t idle;
	int starting_count;
	struct runner **runners;
	size_t runner_count;
};

static void wake(struct runtime *rt)
{
	uint64_t one = 1;
	ssize_t n = write(rt->wake_fd, &one, sizeof(one));
	(void)n; /* full: it is awake already */
}

static void note_desired(void *ctx, enum bus_topic topic, str subject)
{
	(void)topic, (void)subject;
	wake(ctx);
}

/* ---- Starting, on a worker. */

struct start_job {
	struct runtime *runtime;
	struct runner *runner;
	struct instance instance;
};

static void run_start(void *ctx)
{
	struct start_job *job = ctx;
	struct runtime *rt = job->runtime;
	struct err e = { 0 };
	errc rc = runtime_start_instance(rt->context, &job->instance, &e);
	pthread_mutex_lock(&rt->lock);
	job->runner->starting = false;
	job->runner->start_failed = rc != OK;
	job->runner->start_error = e;
	wake(rt);
	rt->starting_count--;
	pthread_cond_broadcast(&rt->idle);
	pthread_mutex_unlock(&rt->lock); /* from here on stop() may free it */
	free(job);
}

static void begin_start(struct runtime *rt, struct runner *r)
{
	struct err e;
	struct start_job *job = must_calloc(1, sizeof(*job));
	*job = (struct start_job){ rt, r, r->instance };
	pthread_mutex_lock(&rt->lock);
	r->starting = true;
	rt->starting_count++;
	pthread_mutex_unlock(&rt->lock);
	r->instance.runtime.state = INSTANCE_STATE_STARTING;
	if (executor_submit(rt->context->executor, run_start, job, &e) == OK)
		return;
	pthread_mutex_lock(&rt->lock);
	r->starting = false;
	rt->starting_count--;
	pthread_mutex_unlock(&rt->lock);
	r->retry_at = clock_mono_ms() + RETRY_MS;
	free(job);
}

/* ---- What a shim says. */

static enum instance_state state_of(const struct runner *r)
{
	switch (r->status.state) {
	case SHIM_STARTING:
		return INSTANCE_STATE_STARTING;
	case SHIM_RUNNING:
		return INSTANCE_STATE_RUNNING;
	case SHIM_BACKOFF:
		return INSTANCE_STATE_BACKOFF;
	case SHIM_STOPPING:
		return INSTANCE_STATE_STOPPING;
	case SHIM_STOPPED:
		return INSTANCE_STATE_STOPPING; /* its shim still has to go */
	case SHIM_FAILED:
		return INSTANCE_STATE_FAILED;
	}
	return INSTANCE_STATE_PENDING;
}

static void join_last_lines(const struct shim_status *status, char *text, size_t size)
{
	/* the newest lines that fit */
	size_t first = status->last_line_count, room = size - 1;
	while (first > 0 && strlen(status->last_lines[first - 1]) + 1 <= room)
		room -= strlen(status->last_lines[--first]) + 1;
	size_t used = 0;
	text[0] = '\0';
	for (size_t i = first; i < status->last_line_count; i++)
		used += (size_t)snprintf(text + used, size - used, "%s%s", used ? "\n" : "",
					 status->last_lines[i]);
}

static void report(struct runtime *rt, struct runner *r)
{
	instances_observe_runtime(rt->context->catalog, &r->instance);
}

static void take_status(struct runner *r)
{
	const struct shim_status *s = &r->status;
	r->instance.runtime.state = state_of(r);
	r->instance.runtime.pid = s->pid;
	r->instance.runtime.shim_pid = s->shim_pid;
	r->instance.runtime.restarts = (int)s->restarts;
	r->instance.runtime.started = s->started_ms;
	snprintf(r->instance.runtime.exit, sizeof(r->instance.runtime.exit), "%s", s->exit);
	join_last_lines(s, r->instance.runtime.message, sizeof(r->instance.runtime.message));
}

static void disconnect(struct runner *r)
{
	shim_client_free(r->watch);
	r->watch = NULL;
	r->fd = -1;
}

static void connect_runner(struct runner *r)
{
	struct shim_client *client = NULL;
	if (shim_connect(r->socket, &client, NULL) != OK)
		return;
	if (shim_watch(client, &r->fd, NULL) != OK) {
		shim_client_free(client);
		return;
	}
	r->watch = client;
	r->stop_sent = false;
	r->failures = 0;
}

/* A command on a connection of its own, since the watching one only listens. */
static errc command(struct runner *r, errc (*run)(struct shim_client *client, struct err *e),
		    struct err *e)
{
	struct shim_client *client = NULL;
	TRY(shim_connect(r->socket, &client, e));
	errc rc = run(client, e);
	shim_client_free(client);
	return rc;
}

static errc stop_as_specified(struct shim_client *client, struct err *e)
{
	return shim_stop(client, -1, e);
}

static void read_watch(struct runner *r)
{
	for (bool any = true; any;) {
		struct err e;
		errc rc = shim_watch_next(r->watch, &any, &r->status, &e);
		if (rc != OK) {
			/* the shim is gone, and with it the application: it is started anew */
			disconnect(r);
			r->instance.runtime.pid = 0;
			r->instance.runtime.shim_pid = 0;
			r->instance.runtime.state = INSTANCE_STATE_BACKOFF;
			r->retry_at = clock_mono_ms() + 100;
			return;
		}
		if (any)
			take_status(r);
	}
}

/* ---- Reconciling one instance. */

static void start_if_due(struct runtime *rt, struct runner *r)
{
	pthread_mutex_lock(&rt->lock);
	bool starting = r->starting, failed = r->start_failed;
	struct err e = r->start_error;
	r->start_failed = false;
	pthread_mutex_unlock(&rt->lock);
	if (starting)
		return;
	if (failed) {
		log_err(LOG_WARN, "an instance cannot be started", &e);
		int64_t pause = (int64_t)RETRY_MS << (r->failures < 5 ? r->failures : 5);
		r->failures++;
		r->retry_at = clock_mono_ms() + (pause < RETRY_MS_MAX ? pause : RETRY_MS_MAX);
		r->instance.runtime.state = INSTANCE_STATE_FAILED;
		snprintf(r->instance.runtime.message, sizeof(r->instance.runtime.message),
			 "%.1500s", e.message);
		return;
	}
	connect_runner(r);
	if (!r->watch && clock_mono_ms() >= r->retry_at)
		begin_start(rt, r);
}

static void steer_running(struct runner *r)
{
	struct err e;
	struct instance *i = &r->instance;
	if (r->restart_generation != i->restart_generation && command(r, shim_restart, &e) == OK)
		r->restart_generation = i->restart_generation;
	if (i->drain_signalled && !i->runtime.drain_signal_sent && r->status.state == SHIM_RUNNING)
		i->runtime.drain_signal_sent = command(r, shim_drain, &e) == OK;
}

/* Tell it to stop, then to go; gone is when nobody listens any more. */
static void steer_stopping(struct runner *r)
{
	struct err e;
	if (!r->watch) {
		connect_runner(r);
		if (!r->watch) {
			r->instance.runtime.state = INSTANCE_STATE_GONE;
			r->instance.runtime.pid = 0;
			return;
		}
	}
	if (r->status.id[0] && shim_state_is_final(r->status.state)) {
		if (command(r, shim_exit, &e) != OK)
			return;
		disconnect(r);
		r->instance.runtime.state = INSTANCE_STATE_GONE;
		r->instance.runtime.pid = 0;
		return;
	}
	if (!r->stop_sent)
		r->stop_sent = command(r, stop_as_specified, &e) == OK;
}

static void reconcile(struct runtime *rt, struct runner *r)
{
	if (r->watch)
		read_watch(r);
	if (r->instance.desired == INSTANCE_RUNNING && r->wanted) {
		if (!r->watch)
			start_if_due(rt, r);
		if (r->watch)
			steer_running(r);
	} else {
		pthread_mutex_lock(&rt->lock);
		bool starting = r->starting;
		pthread_mutex_unlock(&rt->lock);
		if (!starting && r->instance.runtime.state != INSTANCE_STATE_GONE)
			steer_stopping(r);
	}
	report(rt, r);
}

/* ---- The set of runners. */

static struct runner *find_runner(struct runtime *rt, const char *id)
{
	for (size_t i = 0; i < rt->runner_count; i++)
		if (strcmp(rt->runners[i]->instance.id, id) == 0)
			return rt->runners[i];
	return NULL;
}

static void add_runner(struct runtime *rt, const struct instance *i)
{
	struct runner *r = must_calloc(1, sizeof(*r));
	struct err e;
	r->instance = *i;
	r->fd = -1;
	r->restart_generation = i->restart_generation;
	if (runtime_socket_path(rt->context, i->id, r->socket, &e) != OK)
		log_err(LOG_ERROR, "an instance cannot be run", &e);
	rt->runners = must_realloc(rt->runners, (rt->runner_count + 1) * sizeof(rt->runners[0]));
	rt->runners[rt->runner_count++] = r;
}

/* The instance was removed when it was gone, and one of the same id was put before we looked. */
static void begin_anew(struct runner *r, const struct instance *i)
{
	disconnect(r);
	r->instance = *i;
	r->status = (struct shim_status){ 0 };
	r->stop_sent = false;
	r->restart_generation = i->restart_generation;
	r->failures = 0;
	r->retry_at = 0;
}

static void list_desired(struct runtime *rt)
{
	struct arena scratch CLEANUP(arena_done) = arena_init(LIST_ARENA_BYTES);
	struct instance_filter all = { 0 };
	struct instance *items = NULL;
	size_t count = 0;
	struct err e;
	if (instances_list(rt->context->catalog, &all, &scratch, &items, &count, &e) != OK) {
		log_err(LOG_ERROR, "the instances cannot be listed", &e);
		return;
	}
	for (size_t i = 0; i < rt->runner_count; i++)
		rt->runners[i]->wanted = false;
	for (size_t i = 0; i < count; i++) {
		if (!find_runner(rt, items[i].id))
			add_runner(rt, &items[i]);
		struct runner *r = find_runner(rt, items[i].id);
		if (r->instance.incarnation != items[i].incarnation)
			begin_anew(r, &items[i]);
		r->wanted = true;
		r->instance.desired = items[i].desired;
		r->instance.restart_generation = items[i].restart_generation;
		if (!items[i].drain_signalled)
			r->instance.runtime.drain_signal_sent = false;
		r->instance.drain_signalled = items[i].drain_signalled;
	}
}

static void forget_gone(struct runtime *rt)
{
	size_t kept = 0;
	for (size_t i = 0; i < rt->runner_count; i++) {
		struct runner *r = rt->runners[i];
		pthread_mutex_lock(&rt->lock);
		bool starting = r->starting;
		pthread_mutex_unlock(&rt->lock);
		if (r->wanted || starting || r->instance.runtime.state != INSTANCE_STATE_GONE) {
			rt->runners[kept++] = r;
			continue;
		}
		disconnect(r);
		free(r);
	}
	rt->runner_count = kept;
}

/* Shims of instances that the catalog no longer has: a crash came between the two. */
static void stop_orphans(struct runtime *rt)
{
	char folder[IO_PATH_MAX], path[IO_PATH_MAX + 300];
	snprintf(folder, sizeof(folder), "%s/run/shims", rt->context->data);
	DIR *dir = opendir(folder);
	if (!dir)
		return;
	for (struct dirent *d; (d = readdir(dir));) {
		bool known = d->d_name[0] == '.';
		snprintf(path, sizeof(path), "%s/%s", folder, d->d_name);
		for (size_t i = 0; !known && i < rt->runner_count; i++)
			known = strcmp(rt->runners[i]->socket, path) == 0;
		if (known || strlen(path) >= RUNTIME_SOCKET_SIZE)
			continue;
		struct runner orphan = { .fd = -1 };
		snprintf(orphan.socket, sizeof(orphan.socket), "%.*s", RUNTIME_SOCKET_SIZE - 1,
			 path);
		struct err e;
		log_warn("stopping an instance that no release has", "socket=%s", path);
		if (command(&orphan, stop_as_specified, &e) == ERR_NOT_FOUND)
			unlink(path);
	}
	closedir(dir);
}

/* ---- The thread. */

static void wait_for_news(struct runtime *rt)
{
	struct pollfd *fds = must_calloc(rt->runner_count + 1, sizeof(*fds));
	int64_t now = clock_mono_ms(), pause = TICK_MS;
	fds[0] = (struct pollfd){ .fd = rt->wake_fd, .events = POLLIN };
	for (size_t i = 0; i < rt->runner_count; i++) {
		const struct runner *r = rt->runners[i];
		fds[i + 1] = (struct pollfd){ .fd = r->fd, .events = POLLIN };
		if (!r->watch && r->retry_at > now && r->retry_at - now < pause)
			pause = r->retry_at - now;
	}
	if (rt->runner_count == 0)
		pause = -1;
	poll(fds, rt->runner_count + 1, (int)pause);
	if (fds[0].revents) {
		uint64_t count;
		ssize_t n = read(rt->wake_fd, &count, sizeof(count));
		(void)n;
	}
	free(fds);
}

static void *run(void *arg)
{
	struct runtime *rt = arg;
	pthread_setname_np(pthread_self(), "runtime");
	list_desired(rt);
	stop_orphans(rt);
	while (!__atomic_load_n(&rt->stopping, __ATOMIC_ACQUIRE)) {
		list_desired(rt);
		for (size_t i = 0; i < rt->runner_count; i++)
			reconcile(rt, rt->runners[i]);
		forget_gone(rt);
		wait_for_news(rt);
	}
	return NULL;
}

static errc start(const struct feature_context *context, void **ret_state, struct err *e)
{
	struct runtime *rt = must_calloc(1, sizeof(*rt));
	rt->context = context;
	rt->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_mutex_init(&rt->lock, NULL);
	pthread_cond_init(&rt->idle, NULL);
	must(rt->wake_fd >= 0);
	bool subscribed = bus_subscribe(catalog_bus(context->catalog), BUS_INSTANCE_DESIRED,
					note_desired, rt) &&
			  bus_subscribe(catalog_bus(context->catalog), BUS_TRAFFIC_DESIRED,
					note_desired, rt);
	must(subscribed);
	if (pthread_create(&rt->thread, NULL, run, rt) != 0)
		FAIL(e, ERR_IO, "cannot start a thread");
	*ret_state = rt;
	return OK;
}

static void stop(void *state)
{
	struct runtime *rt = state;
	if (!rt)
		return;
	bus_unsubscribe(catalog_bus(rt->context->catalog), note_desired, rt);
	__atomic_store_n(&rt->stopping, true, __ATOMIC_RELEASE);
	wake(rt);
	pthread_join(rt->thread, NULL);
	pthread_mutex_lock(&rt->lock);
	while (rt->starting_count)
		pthread_cond_wait(&rt->idle, &rt->lock);
	pthread_mutex_unlock(&rt->lock);
	for (size_t i = 0; i < rt->runner_count; i++) {
		disconnect(rt->runners[i]);
		free(rt->runners[i]);
	}
	free(rt->runners);
	close(rt->wake_fd);
	pthread_mutex_destroy(&rt->lock);
	pthread_cond_destroy(&rt->idle);
	free(rt);
}

const struct feature runtime_feature = { .name = "runtime", .start = start, .stop = stop };
