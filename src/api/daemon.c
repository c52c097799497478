#include "api/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "api/api.h"
#include "api/exposition.h"
#include "api/feature_list.h"
#include "api/prometheus.h"
#include "base/checks.h"
#include "base/log.h"
#include "catalog/access.h"
#include "os/clock.h"
#include "os/io.h"
#include "os/memory.h"

enum {
	WORKER_COUNT_MAX = 8,
	WORK_QUEUE_MAX = 256,
	STOP_MS = 5000,
	ADMIN_TOKEN_DAYS = 366,
	TRIM_SECONDS = 2
};

struct daemon {
	char data[IO_PATH_MAX];
	int lock_fd;
	struct feature_context context;
	struct api api;
	struct telemetry *telemetry;
	struct exposition *exposition;
	struct http_server *server;
	struct http_route *routes;
	size_t route_count;
	void *feature_states[16];
	size_t features_started;
};

errc daemon_socket_path(const char *data, char path[static DAEMON_SOCKET_SIZE], struct err *e)
{
	int n = snprintf(path, DAEMON_SOCKET_SIZE, "%s/run/holdfast.sock", data);
	if (n < 0 || n >= DAEMON_SOCKET_SIZE)
		FAIL(e, ERR_LIMIT,
		     "the path of the data folder is too long for a unix socket (at most %d "
		     "bytes): %s",
		     DAEMON_SOCKET_SIZE - (int)sizeof("/run/holdfast.sock"), data);
	return OK;
}

/* 0711: the application's account must reach its working copies, and may list nothing. */
static errc make_folders(struct daemon *d, const char *data, struct err *e)
{
	static const char *const folders[] = { "", "/run", "/artifacts", "/keys" };
	char path[IO_PATH_MAX + 16];
	TRY(io_make_dirs(data, 0711, e));
	if (!realpath(data, d->data))
		FAIL_ERRNO(e, "cannot resolve %s", data);
	for (size_t i = 0; i < ARRAY_COUNT(folders); i++) {
		snprintf(path, sizeof(path), "%s%s", d->data, folders[i]);
		mode_t mode = i < 2 ? 0711 : 0700;
		TRY(io_make_dirs(path, mode, e));
		if (chmod(path, mode) < 0)
			FAIL_ERRNO(e, "cannot set the mode of %s (is it another user's?)", path);
	}
	return OK;
}

static errc lock_data(struct daemon *d, struct err *e)
{
	char path[IO_PATH_MAX + 32], text[32];
	snprintf(path, sizeof(path), "%s/run/holdfast.pid", d->data);
	d->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (d->lock_fd < 0)
		FAIL_ERRNO(e, "cannot open %s", path);
	if (flock(d->lock_fd, LOCK_EX | LOCK_NB) < 0) {
		ssize_t n = pread(d->lock_fd, text, sizeof(text) - 1, 0);
		text[n > 0 ? n : 0] = '\0';
		FAIL(e, ERR_BUSY, "another holdfast serves %s (pid %.*s)", d->data,
		     (int)strcspn(text, "\n"), text);
	}
	int n = snprintf(text, sizeof(text), "%d\n", getpid());
	if (ftruncate(d->lock_fd, 0) < 0 || pwrite(d->lock_fd, text, (size_t)n, 0) != n)
		FAIL_ERRNO(e, "cannot write %s", path);
	return OK;
}

/* An ordinary account for what is not ours: the one asked for, or `holdfast`, or `nobody`. */
static errc find_account(struct daemon *d, const char *name, struct err *e)
{
	d->context.account_home = "/nonexistent";
	if (geteuid() != 0) {
		if (name)
			FAIL(e, ERR_USAGE, "only root can run instances as another account (%s)",
			     name);
		d->context.account = (struct process_user){ geteuid(), getegid(), false };
		return OK;
	}
	if (name)
		return process_user_find(name, &d->context.account, e);
	if (process_user_find("holdfast", &d->context.account, NULL) == OK)
		return OK;
	return process_user_find("nobody", &d->context.account, e);
}

/* The first start makes an admin token and leaves its text in a file only its owner reads. */
static errc make_admin_token(struct daemon *d, struct err *e)
{
	struct arena scratch CLEANUP(arena_done) = arena_init(1 << 20);
	struct token *tokens = NULL, token;
	size_t count = 0;
	char text[TOKEN_TEXT_SIZE + 1], path[IO_PATH_MAX + 32];
	TRY(tokens_list(d->context.catalog, &scratch, &tokens, &count, e));
	if (count)
		return OK;
	TRY(tokens_create(d->context.catalog, "admin", ROLE_ADMIN, ADMIN_TOKEN_DAYS, text, &token,
			  e));
	snprintf(path, sizeof(path), "%s/keys/admin.token", d->data);
	size_t len = strlen(text);
	text[len] = '\n';
	TRY(io_write_file(path, (str){ text, len + 1 }, 0600, e));
	log_info("made the admin token", "file=%s days=%d", path, ADMIN_TOKEN_DAYS);
	return OK;
}

static errc start_parts(struct daemon *d, const struct daemon_options *options, struct err *e)
{
	struct feature_context *context = &d->context;
	char path[IO_PATH_MAX + 32];
	struct sysinfo machine = { 0 };
	sysinfo(&machine);
	context->memory_bytes_total = (int64_t)machine.totalram * machine.mem_unit;
	context->data = d->data;
	context->executable = options->executable;
	TRY(find_account(d, options->account, e));
	TRY(catalog_open(d->data, &context->catalog, e));
	TRY(make_admin_token(d, e));
	snprintf(path, sizeof(path), "%s/keys", d->data);
	TRY(signing_open(path, &context->signing, e));
	snprintf(path, sizeof(path), "%s/artifacts", d->data);
	TRY(artifact_store_open(path, context->signing, &context->artifacts, e));
	context->executor = executor_new("worker", WORKER_COUNT_MAX, WORK_QUEUE_MAX);
	return telemetry_open(&options->telemetry, context, &d->telemetry, e);
}

static errc start_features(struct daemon *d, struct err *e)
{
	must(feature_count <= ARRAY_COUNT(d->feature_states));
	for (size_t i = 0; i < feature_count; i++) {
		void *state = NULL;
		if (feature_list[i]->start(&d->context, &state, e) != OK)
			return err_prepend(e, "the feature %s cannot start", feature_list[i]->name);
		__atomic_store_n(&d->feature_states[i], state, __ATOMIC_RELEASE);
		d->features_started = i + 1;
	}
	return OK;
}

static errc start_server(struct daemon *d, const struct daemon_options *options, struct err *e)
{
	char socket[DAEMON_SOCKET_SIZE];
	int port = 0;
	d->api.context = &d->context;
	d->api.feature_states = d->feature_states;
	d->api.started = clock_now();
	d->routes = api_routes_new(&d->api, &d->route_count);
	struct http_server_options server = { .executor = d->context.executor,
					      .routes = d->routes,
					      .route_count = d->route_count,
					      .authorize = api_authorize,
					      .authorize_ctx = &d->api };
	TRY(http_server_new(&server, &d->server, e));
	TRY(daemon_socket_path(d->data, socket, e));
	TRY(http_server_listen_unix(d->server, socket, e));
	if (strcmp(options->listen, "none") != 0)
		TRY(http_server_listen_tcp(d->server, options->listen, &port, e));
	TRY(http_server_start(d->server, e));
	log_info("listening", "socket=%s address=%s port=%d", socket, options->listen, port);
	return OK;
}

/* Give memory back whenever something happened and it is quiet again. */
static int wait_for_signal(struct daemon *d, const sigset_t *signals)
{
	struct bus *bus = catalog_bus(d->context.catalog);
	uint64_t trimmed = bus_sequence(bus) - 1, seen = 0;
	for (;;) {
		struct timespec pause = { .tv_sec = TRIM_SECONDS };
		uint64_t sequence = bus_sequence(bus);
		if (sequence == seen && sequence != trimmed) {
			memory_release();
			trimmed = sequence;
		}
		seen = sequence;
		int caught = sigtimedwait(signals, NULL, &pause);
		if (caught > 0)
			return caught;
	}
}

static errc serve(struct daemon *d, const struct daemon_options *options, struct err *e)
{
	sigset_t signals;
	int caught = 0;
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	/* before any thread, so that only sigwait() gets them */
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);
	int64_t begun_us = clock_mono_us();
	TRY(make_folders(d, options->data, e));
	TRY(lock_data(d, e));
	TRY(start_parts(d, options, e));
	TRY(start_server(d, options, e));
	TRY(start_features(d, e));
	TRY(exposition_start(&d->api, &d->exposition, e));
	__atomic_store_n(&d->api.ready, true, __ATOMIC_RELEASE);
	log_info("ready", "version=%s pid=%d data=%s start_ms=%d", HOLDFAST_VERSION, getpid(),
		 d->data, (int)((clock_mono_us() - begun_us) / 1000));
	caught = wait_for_signal(d, &signals);
	log_info("stopping", "signal=%s; instances and proxy go on", strsignal(caught));
	return OK;
}

static void stop(struct daemon *d)
{
	if (d->server)
		http_server_stop(d->server, STOP_MS);
	exposition_stop(d->exposition);
	while (d->features_started > 0) {
		d->features_started--;
		feature_list[d->features_started]->stop(d->feature_states[d->features_started]);
	}
	http_server_free(d->server);
	api_routes_free(d->routes, d->route_count);
	prometheus_writers_free();
	executor_free(d->context.executor);
	telemetry_close(d->telemetry);
	artifact_store_close(d->context.artifacts);
	signing_close(d->context.signing);
	catalog_close(d->context.catalog);
	io_close(&d->lock_fd);
}

errc daemon_run(const struct daemon_options *options, struct err *e)
{
	struct daemon d = { .lock_fd = -1 };
	/* one heap is enough for threads that mostly wait, and what is large goes back when it is
	 * freed */
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_MMAP_THRESHOLD, 128 * 1024);
	mallopt(M_TRIM_THRESHOLD, 256 * 1024);
	prctl(PR_SET_DUMPABLE, 0); /* secrets and keys are in memory */
	umask(022); /* modes are always given; the application account must reach its copies */
	errc rc = serve(&d, options, e);
	stop(&d);
	return rc;
}
