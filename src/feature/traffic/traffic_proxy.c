#include "feature/traffic/traffic_proxy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checks.h"
#include "base/log.h"
#include "os/clock.h"
#include "os/process.h"
#include "shim/shim_client.h"

enum {
	COMMAND_BYTES_MAX = 12000,
	REPLY_BYTES_MAX = 4 * 1024 * 1024,
	START_MS_MAX = 10000,
	STOP_MS_MAX = 15000,
	/* what a unix socket's address holds, less the suffix HAProxy adds while it replaces one */
	FOLDER_BYTES_MAX = 107 - 28,
};

static void shim_client_done(struct shim_client **client)
{
	shim_client_free(*client);
}

static void free_status(struct shim_status **status)
{
	free(*status);
}

static const char *path_in(const struct traffic_proxy *x, const char *name, char text[IO_PATH_MAX])
{
	struct buf b CLEANUP(buf_done) = buf_init(IO_PATH_MAX - 1);
	buf_printf(&b, "%s/%s", x->folder, name);
	must(str_copy(buf_str(&b), text, IO_PATH_MAX));
	return text;
}

static bool find_program(const char *name, char ret_path[IO_PATH_MAX])
{
	const char *path = getenv("PATH");
	struct buf all CLEANUP(buf_done) = buf_init(64 * 1024);
	buf_printf(&all, "%s:/usr/local/sbin:/usr/sbin:/sbin", path ? path : "/usr/bin:/bin");
	str rest = buf_str(&all);
	str folder;
	while (str_split(&rest, ':', &folder)) {
		struct buf b CLEANUP(buf_done) = buf_init(IO_PATH_MAX - 1);
		buf_printf(&b, "%.*s/%s", STR_ARG(folder), name);
		if (folder.len && folder.ptr[0] == '/' && !b.overflow &&
		    access(buf_cstr(&b), X_OK) == 0)
			return str_copy(buf_str(&b), ret_path, IO_PATH_MAX);
	}
	return false;
}

errc traffic_proxy_init(struct traffic_proxy *x, const char *data, const char *executable,
			const char *haproxy, struct err *e)
{
	memset(x, 0, sizeof(*x));
	struct buf b CLEANUP(buf_done) = buf_init(FOLDER_BYTES_MAX);
	buf_printf(&b, "%s/run/haproxy", data);
	if (b.overflow || !str_copy(buf_str(&b), x->folder, sizeof(x->folder)))
		FAIL(e, ERR_LIMIT,
		     "the data folder's path %s is too long for the proxy's sockets: at most %d "
		     "bytes; choose a shorter one",
		     data, FOLDER_BYTES_MAX - 12);
	(void)path_in(x, "stats.sock", x->stats_socket);
	if (!str_copy(str_c(executable), x->executable, sizeof(x->executable)))
		FAIL(e, ERR_INVALID, "the path of the program is too long");
	if (haproxy ? !str_copy(str_c(haproxy), x->haproxy, sizeof(x->haproxy))
		    : !find_program("haproxy", x->haproxy))
		FAIL(e, ERR_NOT_FOUND,
		     "there is no haproxy in PATH or /usr/sbin: install it (apt-get install "
		     "haproxy)");
	TRY(io_make_dirs(x->folder, 0700, e));
	/* a worker that is not root reaches the inner sockets, of which it is the owner */
	if (geteuid() == 0 && chmod(x->folder, 0711) != 0)
		FAIL_ERRNO(e, "cannot set the mode of %s", x->folder);
	return OK;
}

static errc ask(const char *socket_path, str command, struct buf *reply, struct err *e)
{
	struct haproxy h = { .socket_path = socket_path, .time_ms_max = 3000 };
	return haproxy_command(&h, command, reply, e);
}

/* The value behind `NAME: ` at the start of a line. */
static str field(str text, const char *name)
{
	str line;
	str key = str_c(name);
	while (str_split(&text, '\n', &line))
		if (str_starts(line, key) && line.len > key.len && line.ptr[key.len] == ':')
			return str_trim((str){ line.ptr + key.len + 1, line.len - key.len - 1 });
	return (str){ 0 };
}

errc traffic_proxy_signature(struct traffic_proxy *x, char ret_signature[static 17], struct err *e)
{
	struct buf reply CLEANUP(buf_done) = buf_init(64 * 1024);
	TRY(ask(x->stats_socket, STR("show info"), &reply, e));
	str description = field(buf_str(&reply), "description");
	str prefix = STR("holdfast-");
	char signature[17] = "";
	if (str_starts(description, prefix))
		(void)str_copy((str){ description.ptr + prefix.len, description.len - prefix.len },
			       signature, sizeof(signature));
	memcpy(ret_signature, signature, sizeof(signature));
	return OK;
}

/* Word number N of LINE, words separated by blanks. */
static str word_of(str line, int n)
{
	size_t at = 0;
	for (;;) {
		while (at < line.len && (line.ptr[at] == ' ' || line.ptr[at] == '\t'))
			at++;
		size_t start = at;
		while (at < line.len && line.ptr[at] != ' ' && line.ptr[at] != '\t')
			at++;
		if (start == at || n-- == 0)
			return (str){ line.ptr + start, at - start };
	}
}

errc traffic_proxy_read_workers(struct traffic_proxy *x, struct err *e)
{
	char socket_path[IO_PATH_MAX];
	struct buf reply CLEANUP(buf_done) = buf_init(64 * 1024);
	x->worker_count = 0;
	x->master = 0;
	TRY(ask(path_in(x, "master.sock", socket_path), STR("show proc;quit"), &reply, e));
	str rest = buf_str(&reply);
	str line;
	while (str_split(&rest, '\n', &line) && x->worker_count < TRAFFIC_WORKER_MAX) {
		uint64_t pid;
		str kind = word_of(line, 1);
		if (!str_to_u64(word_of(line, 0), &pid) || pid == 0 || pid > INT32_MAX)
			continue;
		if (str_eq_c(kind, "worker"))
			x->workers[x->worker_count++] = (pid_t)pid;
		if (!str_eq_c(kind, "master"))
			continue;
		x->master = (pid_t)pid;
		/* `0 [failed: 2]` */
		uint64_t failed = 0;
		str count = word_of(line, 4);
		if (count.len && count.ptr[count.len - 1] == ']')
			count.len--;
		x->reload_failures = str_to_u64(count, &failed) ? (int)failed : 0;
	}
	return OK;
}

errc traffic_proxy_ask(struct traffic_proxy *x, size_t worker, str command, struct buf *reply,
		       struct err *e)
{
	if (worker == 0)
		return ask(x->stats_socket, command, reply, e);
	char socket_path[IO_PATH_MAX];
	struct buf b CLEANUP(buf_done) = buf_init(COMMAND_BYTES_MAX + 2048);
	/* `@!pid` alone directs what follows; the master closes only after `quit` */
	buf_printf(&b, "@!%d;%.*s;quit", (int)x->workers[worker], STR_ARG(command));
	TRY(buf_check(&b, "a command for HAProxy", e));
	return ask(path_in(x, "master.sock", socket_path), buf_str(&b), reply, e);
}

errc traffic_proxy_stats(struct traffic_proxy *x, size_t worker, struct arena *query,
			 struct haproxy_stat **ret_stats, size_t *ret_count, struct err *e)
{
	struct buf reply CLEANUP(buf_done) = buf_init(REPLY_BYTES_MAX);
	TRY(traffic_proxy_ask(x, worker, STR("show stat -1 4 -1"), &reply, e));
	return haproxy_stat_parse(arena_str(query, buf_str(&reply)), query, ret_stats, ret_count,
				  e);
}

errc traffic_proxy_change(struct traffic_proxy *x, str commands, struct err *e)
{
	struct buf reply CLEANUP(buf_done) = buf_init(REPLY_BYTES_MAX);
	while (commands.len) {
		size_t len = commands.len;
		if (len > COMMAND_BYTES_MAX)
			for (len = COMMAND_BYTES_MAX; len && commands.ptr[len - 1] != ';';)
				len--;
		must(len > 0);
		str batch = { commands.ptr, len - 1 }; /* without the last `;` */
		buf_clear(&reply);
		TRY(traffic_proxy_ask(x, 0, batch, &reply, e));
		commands = (str){ commands.ptr + len, commands.len - len };
	}
	return OK;
}

void traffic_proxy_relay(struct traffic_proxy *x)
{
	for (size_t w = 1; w < x->worker_count; w++) {
		struct buf reply CLEANUP(buf_done) = buf_init(4096);
		struct err e;
		if (traffic_proxy_ask(x, w, STR("set map relay.map requests relay"), &reply, &e) !=
		    OK)
			log_err(LOG_DEBUG, "a worker of the proxy that ends does not answer", &e);
	}
}

static errc write_if_changed(const char *path, str text, struct err *e)
{
	struct buf present CLEANUP(buf_done) = buf_init(TRAFFIC_CONFIG_MAX);
	struct err ignored;
	if (io_read_file(path, &present, &ignored) == OK && str_eq(buf_str(&present), text))
		return OK;
	return io_write_file(path, text, 0600, e);
}

static errc write_maps(struct traffic_proxy *x, const struct traffic_plan *p, struct err *e)
{
	char relay[IO_PATH_MAX];
	TRY(write_if_changed(path_in(x, "relay.map", relay), STR("requests direct\n"), e));
	for (size_t i = 0; i < p->environment_count; i++) {
		char name[TRAFFIC_NAME_SIZE + 16];
		char path[IO_PATH_MAX];
		struct buf text CLEANUP(buf_done) = buf_init(TRAFFIC_CONFIG_MAX);
		if (!p->environments[i]->bind_count)
			continue;
		traffic_map_name(p->environments[i], name, sizeof(name));
		traffic_render_map(p->environments[i], &text);
		TRY(buf_check(&text, "the proxy's map of readiness paths", e));
		TRY(write_if_changed(path_in(x, name, path), buf_str(&text), e));
	}
	return OK;
}

errc traffic_proxy_write(struct traffic_proxy *x, const struct traffic_plan *p, struct err *e)
{
	char path[IO_PATH_MAX];
	struct buf text CLEANUP(buf_done) = buf_init(TRAFFIC_CONFIG_MAX);
	traffic_render(p, &text);
	TRY(buf_check(&text, "the proxy's configuration", e));
	TRY(write_maps(x, p, e));
	return write_if_changed(path_in(x, "haproxy.cfg", path), buf_str(&text), e);
}

errc traffic_proxy_read_config(struct traffic_proxy *x, struct buf *into, struct err *e)
{
	char path[IO_PATH_MAX];
	errc rc = io_read_file(path_in(x, "haproxy.cfg", path), into, e);
	return rc == ERR_NOT_FOUND ? OK : rc;
}

/* Keeps the complaint of `haproxy -c`: its first line that is one. */
static void keep_alert(void *ctx, str line)
{
	struct buf *alert = ctx;
	ptrdiff_t mark = str_find(line, STR("[ALERT]"));
	if (mark < 0 || alert->len)
		return;
	/* `[ALERT]    (123) : config : parsing …` */
	ptrdiff_t start = str_find(line, STR(" : "));
	if (start >= 0)
		line = (str){ line.ptr + start + 3, line.len - (size_t)start - 3 };
	buf_add(alert, (str){ line.ptr, line.len < 400 ? line.len : 400 });
}

static errc validate(struct traffic_proxy *x, const char *name, struct err *e)
{
	struct buf alert CLEANUP(buf_done) = buf_init(512);
	const char *argv[] = { x->haproxy, "-c", "-f", name, NULL };
	const char *envp[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	struct process_run run = {
		.process = { .argv = argv, .envp = envp, .cwd = x->folder, .fd_stdin = -1 },
		.time_ms_max = 20000,
		.line = keep_alert,
		.ctx = &alert,
	};
	errc rc = process_run(&run, e);
	if (rc == ERR_FAILED && alert.len)
		FAIL(e, ERR_INVALID, "HAProxy rejects its configuration: %s", buf_cstr(&alert));
	return rc;
}

/* HAProxy's last words in the shim's lines of output. */
static void last_alert(const struct shim_status *status, struct buf *alert)
{
	for (size_t i = 0; i < status->last_line_count; i++)
		if (strstr(status->last_lines[i], "[ALERT]")) {
			buf_clear(alert);
			keep_alert(alert, str_c(status->last_lines[i]));
			if (strstr(status->last_lines[i], "cannot bind"))
				return;
		}
}

static errc read_shim(struct traffic_proxy *x, struct shim_status *ret_status, struct err *e)
{
	char socket_path[IO_PATH_MAX];
	struct shim_client *client CLEANUP(shim_client_done) = NULL;
	TRY(shim_connect(path_in(x, "shim.sock", socket_path), &client, e));
	return shim_status(client, ret_status, e);
}

/* Wait until the worker that runs SIGNATURE answers. */
static errc await_signature(struct traffic_proxy *x, const char *signature, int failures_before,
			    struct err *e)
{
	int64_t deadline = clock_mono_ms() + START_MS_MAX;
	struct shim_status *status CLEANUP(free_status) = must_calloc(1, sizeof(*status));
	struct err ignored;
	bool failed = false;
	while (!failed && clock_mono_ms() < deadline) {
		char running[17];
		bool answers = traffic_proxy_signature(x, running, &ignored) == OK;
		bool master = traffic_proxy_read_workers(x, &ignored) == OK;
		if (answers && master && x->worker_count && !strcmp(running, signature))
			return OK;
		if (master)
			failed = x->reload_failures > failures_before && failures_before >= 0;
		else if (read_shim(x, status, &ignored) == OK)
			failed = failures_before < 0 && status->restarts > 0 &&
				 status->state != SHIM_RUNNING;
		clock_sleep_ms(5);
	}
	struct buf alert CLEANUP(buf_done) = buf_init(512);
	if (read_shim(x, status, &ignored) == OK)
		last_alert(status, &alert);
	if (alert.len)
		FAIL(e, ERR_INVALID, "HAProxy cannot take its new configuration: %s",
		     buf_cstr(&alert));
	FAIL(e, ERR_UNAVAILABLE,
	     "HAProxy did not take its new configuration within %d s; see %s/shim/output.ndjson",
	     START_MS_MAX / 1000, x->folder);
}

static errc start_shim(struct traffic_proxy *x, struct err *e)
{
	char socket_path[IO_PATH_MAX];
	char folder[IO_PATH_MAX];
	/* ahead of builds and of the applications themselves, whose requests wait for it; `nice`
	 * goes on with a warning when it may not */
	const char *argv[] = { "/usr/bin/nice",
			       "-n",
			       "-10",
			       x->haproxy,
			       "-W",
			       "-S",
			       "unix@master.sock,mode,600",
			       "-f",
			       "haproxy.cfg",
			       NULL };
	const char *envp[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	struct shim_spec spec = {
		.id = "haproxy",
		.argv = argv,
		.envp = envp,
		.cwd = x->folder,
		.folder = path_in(x, "shim", folder),
		.socket = path_in(x, "shim.sock", socket_path),
		.stop_timeout_ms = 5000,
		.restart_backoff_max_ms = 1000,
		.restart = SHIM_RESTART_ALWAYS,
		.log_bytes_max = 1024 * 1024,
		.umask = 077,
	};
	pid_t pid;
	return shim_start(&spec, x->executable, &pid, e);
}

errc traffic_proxy_ensure(struct traffic_proxy *x, struct err *e)
{
	char path[IO_PATH_MAX];
	struct err ignored;
	struct shim_status *status CLEANUP(free_status) = must_calloc(1, sizeof(*status));
	if (access(path_in(x, "haproxy.cfg", path), F_OK) != 0 ||
	    read_shim(x, status, &ignored) != ERR_NOT_FOUND)
		return OK;
	/* A master without its shim is let go once the new one listens beside it. */
	pid_t orphan = traffic_proxy_read_workers(x, &ignored) == OK ? x->master : 0;
	TRY(start_shim(x, e));
	if (!orphan)
		return OK;
	int64_t deadline = clock_mono_ms() + START_MS_MAX;
	while (clock_mono_ms() < deadline && (traffic_proxy_read_workers(x, &ignored) != OK ||
					      x->master == orphan || !x->worker_count))
		clock_sleep_ms(5);
	if (x->master && x->master != orphan)
		(void)kill(orphan, SIGUSR1);
	return OK;
}

static errc reload(struct traffic_proxy *x, struct err *e)
{
	char socket_path[IO_PATH_MAX];
	struct buf reply CLEANUP(buf_done) = buf_init(64 * 1024);
	return ask(path_in(x, "master.sock", socket_path), STR("reload;quit"), &reply, e);
}

/* Back to the files that were in force; without any there is nothing to run. What fails here is
 * told to the log: the caller has the first failure already. */
static void restore(struct traffic_proxy *x, str former)
{
	char path[IO_PATH_MAX];
	struct err e;
	errc rc;
	(void)path_in(x, "haproxy.cfg", path);
	if (former.len) {
		rc = io_write_file(path, former, 0600, &e);
	} else {
		rc = traffic_proxy_stop(x, &e);
		(void)unlink(path);
	}
	if (rc != OK)
		log_err(LOG_ERROR, "the proxy's former configuration could not be restored", &e);
}

errc traffic_proxy_apply(struct traffic_proxy *x, const struct traffic_plan *p, struct err *e)
{
	char path[IO_PATH_MAX];
	char signature[17];
	struct err ignored;
	struct buf former CLEANUP(buf_done) = buf_init(TRAFFIC_CONFIG_MAX);
	struct buf text CLEANUP(buf_done) = buf_init(TRAFFIC_CONFIG_MAX);
	TRY(traffic_proxy_read_config(x, &former, e));
	traffic_render(p, &text);
	TRY(buf_check(&text, "the proxy's configuration", e));
	TRY(write_maps(x, p, e));
	TRY(io_write_file(path_in(x, "new.cfg", path), buf_str(&text), 0600, e));
	TRY(validate(x, "new.cfg", e));
	TRY(traffic_proxy_write(x, p, e));
	(void)unlink(path);
	traffic_render_signature(p, signature);

	errc rc;
	bool runs = traffic_proxy_read_workers(x, &ignored) == OK && x->worker_count > 0;
	int failures = runs ? x->reload_failures : -1;
	if (runs)
		rc = reload(x, e);
	else
		rc = traffic_proxy_ensure(x, e);
	if (rc == OK)
		rc = await_signature(x, signature, failures, e);
	if (rc != OK)
		restore(x, buf_str(&former));
	return rc;
}

errc traffic_proxy_stop(struct traffic_proxy *x, struct err *e)
{
	char socket_path[IO_PATH_MAX];
	struct shim_client *client CLEANUP(shim_client_done) = NULL;
	struct shim_status *status CLEANUP(free_status) = must_calloc(1, sizeof(*status));
	errc rc = shim_connect(path_in(x, "shim.sock", socket_path), &client, e);
	if (rc == ERR_NOT_FOUND)
		return OK;
	TRY(rc);
	TRY(shim_stop(client, -1, e));
	TRY(shim_wait_final(socket_path, STOP_MS_MAX, status, e));
	return shim_exit(client, e);
}
