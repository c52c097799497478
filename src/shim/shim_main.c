#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/checks.h"
#include "os/clock.h"
#include "os/io.h"
#include "os/process_scope.h"
#include "shim/shim.h"
#include "shim/shim_internal.h"

/*
 * Three processes: the one that was started reads the specification and ends; its child is the
 * guard; the guard's child is the shim. Both are child subreapers. While the shim lives every
 * orphan of the application becomes the shim's child; when it is killed they become the guard's,
 * which kills them all, so nothing of the application is left without a shim. The guard does
 * nothing else and shares its memory with the shim.
 */

enum { POLL_COUNT_MAX = 1 + SHIM_STREAM_COUNT + 1 + SHIM_CLIENT_COUNT_MAX, NAME_SIZE = 16 };

struct shim {
	struct shim_spec spec;
	int fd_signals;
	int fd_folder; /* its lock is held as long as the shim lives */
	struct shim_output *output;
	struct shim_app *app;
	struct shim_control *control;
	bool terminate; /* SIGTERM: end once the application did */
};

static errc read_spec(struct arena *config, struct shim_spec *ret_spec, struct err *e)
{
	struct buf json = buf_init(SHIM_SPEC_BYTES_MAX);
	errc rc = OK;
	for (;;) {
		char *room = buf_reserve(&json, 16384);
		if (!room && (room = buf_reserve(&json, 1)) == NULL)
			break;
		size_t want = json.cap - json.len < 16384 ? 1 : 16384;
		ssize_t n = read(STDIN_FILENO, room, want);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			rc = err_fill_errno(e, __FILE__, __LINE__,
					    "cannot read the shim's specification");
		if (n <= 0)
			break;
		json.len += (size_t)n;
	}
	if (rc == OK)
		rc = buf_check(&json, "the shim's specification", e);
	if (rc == OK)
		rc = shim_spec_parse(buf_str(&json), config, ret_spec, e);
	if (json.ptr)
		explicit_bzero(json.ptr, json.len);
	buf_done(&json);
	return rc;
}

static void write_line(const struct buf *line)
{
	struct err error;
	if (io_write_all(STDOUT_FILENO, buf_str(line), "standard output", &error) != OK)
		errno = 0; /* the starter is gone; the shim goes on alone */
}

static int fail(const struct err *error)
{
	struct buf line = buf_init(8192);
	shim_error_write(error, &line);
	buf_add_byte(&line, '\n');
	write_line(&line);
	buf_done(&line);
	return 1;
}

static void set_title(const struct shim_spec *spec)
{
	char name[NAME_SIZE];
	snprintf(name, sizeof(name), "shim %s", spec->id);
	prctl(PR_SET_NAME, name);
}

static void to_null(int from, int to)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int fd = from; null >= 0 && fd <= to; fd++)
		dup2(null, fd);
	if (null > to)
		close(null);
}

static errc take_folder(const char *folder, int *ret_fd, struct err *e)
{
	TRY(io_make_dirs(folder, 0700, e));
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fchmod(fd, 0700) < 0) {
		errc rc = err_fill_errno(e, __FILE__, __LINE__, "cannot use the folder %s", folder);
		io_close(&fd);
		return rc;
	}
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		io_close(&fd);
		FAIL(e, ERR_CONFLICT,
		     "a shim already runs in the folder %s; stop that instance first", folder);
	}
	*ret_fd = fd;
	return OK;
}

static errc set_up(struct shim *shim, struct err *e)
{
	sigset_t wanted;
	int fd_listen;
	TRY(take_folder(shim->spec.folder, &shim->fd_folder, e));
	TRY(shim_output_open(shim->spec.folder, shim->spec.log_bytes_max, &shim->output, e));
	sigemptyset(&wanted);
	sigaddset(&wanted, SIGCHLD);
	sigaddset(&wanted, SIGTERM);
	shim->fd_signals = signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK);
	if (shim->fd_signals < 0)
		FAIL_ERRNO(e, "cannot take signals");
	TRY(shim_socket_listen(shim->spec.socket, &fd_listen, e));
	shim->app = must_calloc(1, sizeof(*shim->app));
	shim_app_init(shim->app, &shim->spec, shim->output);
	shim->control = shim_control_new(fd_listen, shim->app);
	return OK;
}

static void take_signals(struct shim *shim)
{
	struct signalfd_siginfo info;
	while (read(shim->fd_signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGTERM) {
			shim->terminate = true;
			shim_app_stop(shim->app, -1);
		}
	}
	shim_app_reap(shim->app);
}

static int poll_ms(int64_t due)
{
	if (due == INT64_MAX)
		return -1;
	int64_t left = due - clock_mono_ms();
	return left <= 0 ? 0 : left > 3600 * 1000 ? 3600 * 1000 : (int)left;
}

static void run(struct shim *shim)
{
	struct shim_app *app = shim->app;
	shim_app_start(app);
	for (;;) {
		struct pollfd polls[POLL_COUNT_MAX] = {
			{ .fd = shim->fd_signals, .events = POLLIN },
			{ .fd = app->fds[SHIM_OUT], .events = POLLIN },
			{ .fd = app->fds[SHIM_ERR], .events = POLLIN },
		};
		struct pollfd *clients = polls + 1 + SHIM_STREAM_COUNT;
		size_t client_count = shim_control_polls(shim->control, clients);
		int64_t due = shim_app_tick(app), control_due = shim_control_due(shim->control);
		shim_control_push(shim->control);
		if (shim_control_exit_wanted(shim->control) ||
		    (shim->terminate && shim_state_is_final(app->state)))
			return;
		shim_output_flush(shim->output);
		if (poll(polls, (nfds_t)(1 + SHIM_STREAM_COUNT + client_count),
			 poll_ms(due < control_due ? due : control_due)) <= 0)
			continue;
		for (int stream = 0; stream < SHIM_STREAM_COUNT; stream++)
			if (polls[1 + stream].revents)
				shim_app_read(app, (enum shim_stream)stream);
		if (polls[0].revents)
			take_signals(shim);
		shim_control_handle(shim->control, clients, client_count);
	}
}

static _Noreturn void shim_process(const struct shim_spec *spec)
{
	struct shim shim = { .spec = *spec, .fd_signals = -1, .fd_folder = -1 };
	struct err error = { 0 };
	struct buf line = buf_init(64);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (set_up(&shim, &error) != OK)
		_exit(fail(&error));
	buf_printf(&line, "{\"pid\":%d}\n", (int)getpid());
	write_line(&line);
	buf_done(&line);
	to_null(STDOUT_FILENO, STDERR_FILENO);
	malloc_trim(0); /* the specification came as text that is not needed any more */
	run(&shim);
	unlink(spec->socket);
	shim_control_free(shim.control);
	shim_output_close(shim.output);
	process_scope_free(shim.app->scope);
	_exit(0);
}

/* Wait for the shim; when it did not end by itself, kill what it left. */
static _Noreturn void guard_process(pid_t shim)
{
	sigset_t wanted;
	int status = 0;
	to_null(STDIN_FILENO, STDERR_FILENO);
	malloc_trim(0);
	sigemptyset(&wanted);
	sigaddset(&wanted, SIGCHLD);
	sigaddset(&wanted, SIGTERM);
	for (;;) {
		pid_t pid = waitpid(shim, &status, WNOHANG);
		if (pid == shim || (pid < 0 && errno != EINTR))
			break;
		if (sigwaitinfo(&wanted, NULL) == SIGTERM)
			kill(shim, SIGTERM);
	}
	process_kill_descendants();
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

int shim_main(int argc, char **argv)
{
	struct arena config = arena_init(4 * SHIM_SPEC_BYTES_MAX);
	struct shim_spec spec;
	struct err error = { 0 };
	sigset_t all;
	(void)argc;
	(void)argv; /* the id stands there only to be seen in a list of processes */
	/* fatal signals and SIGKILL act all the same; the rest is looked at where it is awaited */
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	close_range(3, ~0U, 0);
	umask(077);
	prctl(PR_SET_DUMPABLE, 0); /* neither a core nor a debugger shows the secrets */
	if (read_spec(&config, &spec, &error) != OK)
		return fail(&error);
	to_null(STDIN_FILENO, STDIN_FILENO);
	set_title(&spec);
	pid_t guard = fork();
	if (guard < 0) {
		err_fill_errno(&error, __FILE__, __LINE__, "cannot detach the shim");
		return fail(&error);
	}
	if (guard > 0)
		_exit(0);
	setsid();
	if (chdir("/") < 0)
		errno = 0; /* it only keeps a file system from being unmounted */
	/* before the fork: no moment in which an orphan would go past the guard */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	pid_t shim = fork();
	if (shim < 0) {
		err_fill_errno(&error, __FILE__, __LINE__, "cannot detach the shim");
		return fail(&error);
	}
	if (shim > 0)
		guard_process(shim);
	shim_process(&spec);
}
