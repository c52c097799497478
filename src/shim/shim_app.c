#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/checks.h"
#include "os/clock.h"
#include "os/io.h"
#include "os/process_scope.h"
#include "shim/shim_internal.h"

/*
 * Stopping is what systemd calls KillMode=mixed: the stop signal goes to the leader alone, as npm
 * and cluster masters pass it on to their children themselves and a second copy would make those
 * give up their work. When the leader is gone, or at the deadline, everything else is killed.
 *
 * When the shim itself is killed the application must not go on unseen, with nobody to hold its
 * pipes. The leader gets SIGKILL from the kernel then (death_signal; a gentle one could be ignored
 * and would leave a process that nobody can steer), and the guard in shim_main.c, a parent that
 * only waits, kills everything the leader had started. The reconciler finds the instance gone and
 * starts a new one.
 */

enum {
	BACKOFF_FIRST_MS = 100,
	HEALTHY_MS = 30 * 1000, /* alive that long: the next back-off begins anew */
	LOOK_MS = 500,          /* at memory */
	DRAIN_CHUNK_COUNT_MAX = 64,
	OOM_SCORE = 200, /* before the daemon and the system's own services */
};

static void set_state(struct shim_app *app, enum shim_state state)
{
	app->state = state;
	app->version++;
}

void shim_app_init(struct shim_app *app, const struct shim_spec *spec, struct shim_output *output)
{
	memset(app, 0, sizeof(*app));
	app->spec = spec;
	app->output = output;
	app->fds[SHIM_OUT] = app->fds[SHIM_ERR] = -1;
	app->backoff_ms = BACKOFF_FIRST_MS;
	app->due_ms = app->look_ms = INT64_MAX;
	app->scope = process_scope_new(spec->memory_bytes_max, true);
	process_scope_contain(app->scope);
}

/* The process ended by itself, or could not be started. */
static void plan_restart(struct shim_app *app, bool failed)
{
	if (app->spec->restart == SHIM_RESTART_NEVER) {
		app->due_ms = INT64_MAX;
		set_state(app, failed ? SHIM_FAILED : SHIM_STOPPED);
		return;
	}
	/* up to a quarter more, so that instances that fell together do not come up together */
	int64_t jitter = entropy_below((uint32_t)(app->backoff_ms / 4) + 1);
	app->due_ms = clock_mono_ms() + app->backoff_ms + jitter;
	app->backoff_ms *= 2;
	if (app->backoff_ms > app->spec->restart_backoff_max_ms)
		app->backoff_ms = app->spec->restart_backoff_max_ms;
	set_state(app, SHIM_BACKOFF);
}

static errc spawn(struct shim_app *app, struct err *e)
{
	int out[2] = { -1, -1 }, err[2] = { -1, -1 };
	errc rc = OK;
	if (pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0 ||
	    fcntl(out[0], F_SETFL, O_NONBLOCK) < 0 || fcntl(err[0], F_SETFL, O_NONBLOCK) < 0)
		rc = err_fill_errno(e, __FILE__, __LINE__, "cannot make pipes for the output");
	const struct process_options options = {
		.argv = app->spec->argv,
		.envp = app->spec->envp,
		.cwd = app->spec->cwd,
		.fd_stdin = -1,
		.fd_stdout = out[1],
		.fd_stderr = err[1],
		.oom_score_adj = OOM_SCORE,
		.umask = app->spec->umask,
		.death_signal = SIGKILL,
		.scope = app->scope,
		.user = app->spec->user,
	};
	if (rc == OK)
		rc = process_spawn(&options, &app->pid, e);
	io_close(&out[1]);
	io_close(&err[1]);
	if (rc != OK) {
		io_close(&out[0]);
		io_close(&err[0]);
		return rc;
	}
	app->fds[SHIM_OUT] = out[0];
	app->fds[SHIM_ERR] = err[0];
	return OK;
}

void shim_app_start(struct shim_app *app)
{
	struct err error = { 0 };
	must(app->pid == 0);
	if (app->was_started)
		app->restarts++;
	app->was_started = true;
	app->due_ms = INT64_MAX;
	app->start_again = app->over_memory = app->over_time = false;
	app->started_ms = clock_now();
	app->started_mono_ms = clock_mono_ms();
	if (spawn(app, &error) != OK) {
		snprintf(app->exit, sizeof(app->exit), "%s", error.message);
		app->exit_ms = clock_now();
		shim_output_note(app->output, "%s", error.message);
		plan_restart(app, true);
		return;
	}
	app->look_ms = app->spec->memory_bytes_max > 0 ? clock_mono_ms() + LOOK_MS : INT64_MAX;
	shim_output_note(app->output, "started process %d", (int)app->pid);
	set_state(app, SHIM_RUNNING);
}

void shim_app_stop(struct shim_app *app, int64_t timeout_ms)
{
	int64_t deadline = clock_mono_ms() +
			   (timeout_ms < 0 ? app->spec->stop_timeout_ms : timeout_ms);
	app->start_again = false;
	if (!app->pid) {
		app->due_ms = INT64_MAX;
		if (!shim_state_is_final(app->state))
			set_state(app, SHIM_STOPPED);
		return;
	}
	if (app->state == SHIM_STOPPING) {
		/* asked again: only a nearer deadline changes anything */
		if (deadline < app->due_ms)
			app->due_ms = deadline;
		return;
	}
	app->due_ms = deadline;
	set_state(app, SHIM_STOPPING);
	/* the leader is not reaped before app->pid is 0: the number is its own */
	kill(app->pid, process_signal_of_name(str_c(app->spec->stop_signal)));
}

void shim_app_restart(struct shim_app *app)
{
	app->backoff_ms = BACKOFF_FIRST_MS;
	if (app->pid) {
		shim_app_stop(app, -1);
		app->start_again = true;
		return;
	}
	set_state(app, SHIM_STARTING);
	shim_app_start(app);
}

errc shim_app_signal(struct shim_app *app, int number, struct err *e)
{
	if (!app->pid)
		FAIL(e, ERR_CONFLICT,
		     "the application does not run (it is %s), so it cannot get a signal",
		     shim_state_name(app->state));
	if (kill(app->pid, number) < 0)
		FAIL_ERRNO(e, "cannot signal process %d", (int)app->pid);
	return OK;
}

void shim_app_read(struct shim_app *app, enum shim_stream stream)
{
	ssize_t n = read(app->fds[stream], app->chunk, sizeof(app->chunk));
	if (n > 0) {
		shim_output_bytes(app->output, stream, (str){ app->chunk, (size_t)n });
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		shim_output_end(app->output, stream);
		io_close(&app->fds[stream]);
	}
}

/* What was in the pipes when everybody who could write into them was gone. */
static void drain(struct shim_app *app)
{
	for (int stream = 0; stream < SHIM_STREAM_COUNT; stream++) {
		for (int i = 0; i < DRAIN_CHUNK_COUNT_MAX && app->fds[stream] >= 0; i++) {
			ssize_t n = read(app->fds[stream], app->chunk, sizeof(app->chunk));
			if (n <= 0)
				break;
			shim_output_bytes(app->output, (enum shim_stream)stream,
					  (str){ app->chunk, (size_t)n });
		}
		shim_output_end(app->output, (enum shim_stream)stream);
		io_close(&app->fds[stream]);
	}
}

static void leader_ended(struct shim_app *app)
{
	char text[PROCESS_STATUS_TEXT_SIZE], size[UNIT_TEXT_SIZE];
	bool stopping = app->state == SHIM_STOPPING, start_again = app->start_again;
	process_scope_kill(app->scope);
	drain(app);
	bool over_memory = app->over_memory || process_scope_met_cap(app->scope);
	int status = process_reap(app->pid);
	process_scope_set_leader(app->scope, 0);
	app->pid = 0;
	app->due_ms = app->look_ms = INT64_MAX;
	app->exit_ms = clock_now();
	const char *why = "";
	if (over_memory)
		why = "; killed for using more memory than ";
	else if (app->over_time)
		why = "; killed as it did not stop in time";
	snprintf(app->exit, sizeof(app->exit), "%s%s%s", process_status_text(status, text), why,
		 over_memory ? size_format(app->spec->memory_bytes_max, size) : "");
	shim_output_note(app->output, "ended with %s", app->exit);
	if (clock_mono_ms() - app->started_mono_ms >= HEALTHY_MS)
		app->backoff_ms = BACKOFF_FIRST_MS;
	if (!stopping) {
		plan_restart(app, !WIFEXITED(status) || WEXITSTATUS(status) != 0);
	} else if (start_again) {
		set_state(app, SHIM_STARTING);
		shim_app_start(app);
	} else {
		set_state(app, SHIM_STOPPED);
	}
}

void shim_app_reap(struct shim_app *app)
{
	for (;;) {
		siginfo_t info = { 0 };
		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0)
			return;
		if (info.si_pid == app->pid)
			leader_ended(app);
		else
			process_reap(info.si_pid); /* somebody's orphan, ours as the subreaper */
	}
}

int64_t shim_app_tick(struct shim_app *app)
{
	int64_t now = clock_mono_ms();
	if (app->pid && now >= app->look_ms) {
		app->look_ms = now + LOOK_MS;
		if (process_scope_over_memory(app->scope, NULL)) {
			app->over_memory = true;
			process_scope_kill(app->scope);
		}
	}
	if (now >= app->due_ms) {
		app->due_ms = INT64_MAX;
		if (app->state == SHIM_BACKOFF) {
			shim_app_start(app);
		} else if (app->state == SHIM_STOPPING) {
			app->over_time = true;
			process_scope_kill(app->scope);
		}
	}
	return app->due_ms < app->look_ms ? app->due_ms : app->look_ms;
}
