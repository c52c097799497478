#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/checks.h"
#include "os/clock.h"
#include "os/io.h"
#include "os/process.h"
#include "os/process_scope.h"

/*
 * Both streams share one pipe, so that their lines keep their order. Whatever ends the run, the
 * group is killed before the leader is reaped (its number cannot have been given away) and what
 * was in the pipe then is still delivered.
 */

enum { LOOK_MS = 100, DRAIN_BYTES_MAX = 2 * 1024 * 1024, LEADER_KILL_MS = 5000 };

struct running {
	const struct process_run *run;
	struct process_scope *scope;
	pid_t pid;
	int fd_output;
	int fd_end; /* pidfd, readable once the leader ended */
	int64_t started_ms;
	int64_t looked_ms;
	size_t line_len;
	char line[PROCESS_LINE_BYTES_MAX];
	char chunk[65536];
};

static void line_end(struct running *r)
{
	if (r->run->line)
		r->run->line(r->run->ctx, (str){ r->line, r->line_len });
	r->line_len = 0;
}

static void take_output(struct running *r, str bytes)
{
	while (bytes.len) {
		const char *end = memchr(bytes.ptr, '\n', bytes.len);
		size_t len = end ? (size_t)(end - bytes.ptr) : bytes.len;
		size_t room = sizeof(r->line) - r->line_len;
		bool cut = len > room;
		if (cut)
			len = room;
		memcpy(r->line + r->line_len, bytes.ptr, len);
		r->line_len += len;
		if (!cut && end && r->line_len && r->line[r->line_len - 1] == '\r')
			r->line_len--;
		if (cut || end)
			line_end(r);
		len += !cut && end;
		bytes = (str){ bytes.ptr + len, bytes.len - len };
	}
}

/* At most DRAIN_BYTES_MAX at a time, so that cancellation and deadlines are looked at in between.
 * False at the end of output. */
static bool read_output(struct running *r)
{
	for (size_t sum = 0; sum < DRAIN_BYTES_MAX;) {
		ssize_t n = read(r->fd_output, r->chunk, sizeof(r->chunk));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 && errno == EAGAIN;
		take_output(r, (str){ r->chunk, (size_t)n });
		sum += (size_t)n;
	}
	return true;
}

/* What ends the run early; OK: nothing does. */
static errc look(struct running *r, struct err *e)
{
	const struct process_run *run = r->run;
	const char *program = run->process.argv[0];
	char text[UNIT_TEXT_SIZE];
	int64_t now = clock_mono_ms();
	if (run->time_ms_max > 0 && now - r->started_ms >= run->time_ms_max)
		FAIL(e, ERR_TIMEOUT, "%s took longer than the %s allowed and was killed", program,
		     duration_format(run->time_ms_max, text));
	if (now - r->looked_ms < LOOK_MS)
		return OK;
	if (run->cancelled && run->cancelled(run->ctx))
		FAIL(e, ERR_CANCELLED, "%s was cancelled", program);
	bool over = process_scope_over_memory(r->scope, NULL);
	r->looked_ms = clock_mono_ms();
	if (over)
		FAIL(e, ERR_FAILED,
		     "%s was killed: out of memory (it and what it started used more than %s); "
		     "raise the limit or make it use less",
		     program, size_format(run->process.memory_bytes_max, text));
	return OK;
}

static int poll_ms(const struct running *r)
{
	int64_t wait = LOOK_MS;
	if (r->run->time_ms_max > 0) {
		int64_t left = r->started_ms + r->run->time_ms_max - clock_mono_ms();
		wait = left < wait ? left : wait;
	}
	return wait > 0 ? (int)wait : 0;
}

/* Until the leader ended or something ends the run early. */
static errc follow(struct running *r, struct err *e)
{
	for (;;) {
		struct pollfd p[] = {
			{ .fd = r->fd_end, .events = POLLIN },
			{ .fd = r->fd_output, .events = POLLIN },
		};
		poll(p, 2, poll_ms(r));
		if (p[1].revents && !read_output(r))
			io_close(&r->fd_output);
		if (p[0].revents)
			return OK;
		TRY(look(r, e));
	}
}

static errc status_error(const struct running *r, int status, struct err *e)
{
	char text[PROCESS_STATUS_TEXT_SIZE], size[UNIT_TEXT_SIZE];
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return OK;
	if (process_scope_met_cap(r->scope))
		FAIL(e, ERR_FAILED,
		     "%s was killed: out of memory (it and what it started used more than %s); "
		     "raise the limit or make it use less",
		     r->run->process.argv[0], size_format(r->run->process.memory_bytes_max, size));
	FAIL(e, ERR_FAILED, "%s ended with %s", r->run->process.argv[0],
	     process_status_text(status, text));
}

static errc finish(struct running *r, errc rc, struct err *e)
{
	process_scope_kill(r->scope);
	/* one in uninterruptible sleep is the kernel's; it must not hold us up for ever */
	int status = SIGKILL;
	if (process_wait_end(r->pid, clock_mono_ms() + LEADER_KILL_MS))
		status = process_reap(r->pid);
	if (r->fd_output >= 0)
		read_output(r);
	if (r->line_len)
		line_end(r);
	return rc != OK ? rc : status_error(r, status, e);
}

/* The input as a file in memory: it needs no pump, and a child that never reads it harms nobody. */
static errc input_open(str input, int *ret_fd, struct err *e)
{
	int fd = memfd_create("input", MFD_CLOEXEC);
	if (fd < 0)
		FAIL_ERRNO(e, "cannot make room for the input of a program");
	errc rc = io_write_all(fd, input, "the input of a program", e);
	if (rc == OK && lseek(fd, 0, SEEK_SET) < 0)
		rc = err_fill_errno(e, __FILE__, __LINE__, "cannot rewind the input of a program");
	if (rc != OK) {
		io_close(&fd);
		return rc;
	}
	*ret_fd = fd;
	return OK;
}

static errc start(struct running *r, struct err *e)
{
	struct process_options options = r->run->process;
	int fds[2] = { -1, -1 }, fd_input CLEANUP(io_close) = -1;
	if (r->run->input.len) {
		TRY(input_open(r->run->input, &fd_input, e));
		options.fd_stdin = fd_input;
	}
	if (pipe2(fds, O_CLOEXEC) < 0)
		FAIL_ERRNO(e, "cannot start %s: no pipe for its output", options.argv[0]);
	int fd_write CLEANUP(io_close) = fds[1];
	r->fd_output = fds[0];
	if (fcntl(r->fd_output, F_SETFL, O_NONBLOCK) < 0)
		FAIL_ERRNO(e, "cannot start %s", options.argv[0]);
	options.fd_stdout = options.fd_stderr = fd_write;
	options.scope = r->scope;
	TRY(process_spawn(&options, &r->pid, e));
	r->fd_end = pidfd_open(r->pid, 0);
	if (r->fd_end < 0) {
		errc rc = err_fill_errno(e, __FILE__, __LINE__, "cannot watch %s", options.argv[0]);
		return finish(r, rc, e);
	}
	return OK;
}

errc process_run(const struct process_run *run, struct err *e)
{
	struct running *r = must_calloc(1, sizeof(*r));
	r->run = run;
	r->fd_output = r->fd_end = -1;
	r->started_ms = clock_mono_ms();
	r->looked_ms = r->started_ms - LOOK_MS + 20; /* a first look soon: who starts what */
	r->scope = process_scope_new(run->process.memory_bytes_max, false);
	process_scope_contain(r->scope);
	errc rc = start(r, e);
	if (rc == OK)
		rc = finish(r, follow(r, e), e);
	io_close(&r->fd_output);
	io_close(&r->fd_end);
	process_scope_free(r->scope);
	free(r);
	return rc;
}
