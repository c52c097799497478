#include "shim/shim_client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/checks.h"
#include "os/clock.h"
#include "os/io.h"
#include "shim/shim_internal.h"

enum { START_MS_MAX = 10 * 1000, ANSWER_MS_MAX = 5 * 1000, STARTED_LINE_BYTES_MAX = 8192 };

struct shim_client {
	int fd;
	bool watches;
	struct buf in;
	char socket[IO_PATH_MAX];
};

static const char *const state_names[] = {
#define X(name, text) text,
	SHIM_STATES(X)
#undef X
};

const char *shim_state_name(enum shim_state state)
{
	must((size_t)state < ARRAY_COUNT(state_names));
	return state_names[state];
}

bool shim_state_is_final(enum shim_state state)
{
	return state == SHIM_STOPPED || state == SHIM_FAILED;
}

/* Poll FD for reading until DEADLINE. */
static bool await(int fd, int64_t deadline)
{
	for (;;) {
		int64_t left = deadline - clock_mono_ms();
		struct pollfd p = { .fd = fd, .events = POLLIN };
		int n = poll(&p, 1, left > 0 ? (int)left : 0);
		if (n > 0)
			return true;
		if (n == 0 && left <= 0)
			return false;
	}
}

static errc read_started(int fd, pid_t *ret_pid, struct err *e)
{
	struct buf line = buf_init(STARTED_LINE_BYTES_MAX);
	int64_t deadline = clock_mono_ms() + START_MS_MAX;
	errc rc = OK;
	while (rc == OK && !(line.len && line.ptr[line.len - 1] == '\n')) {
		char chunk[1024];
		if (!await(fd, deadline)) {
			rc = err_fill(e, ERR_TIMEOUT, 0, __FILE__, __LINE__,
				      "the shim did not come up within %d s", START_MS_MAX / 1000);
			break;
		}
		ssize_t n = read(fd, chunk, sizeof(chunk));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		buf_add(&line, (str){ chunk, (size_t)n });
		rc = buf_check(&line, "the shim's first line", e);
	}
	if (rc == OK && !line.len)
		rc = err_fill(e, ERR_FAILED, 0, __FILE__, __LINE__,
			      "the shim ended before it was up; is the executable a Holdfast?");
	if (rc == OK)
		rc = shim_started_parse(str_trim(buf_str(&line)), ret_pid, e);
	buf_done(&line);
	return rc;
}

/* The specification as a file in memory: never on a disk, and no pump is needed. */
static errc spec_open(const struct shim_spec *spec, int *ret_fd, struct err *e)
{
	struct buf json = buf_init(SHIM_SPEC_BYTES_MAX);
	int fd = memfd_create("shim", MFD_CLOEXEC);
	errc rc = shim_spec_write(spec, &json, e);
	if (rc == OK && fd < 0)
		rc = err_fill_errno(e, __FILE__, __LINE__, "cannot make room for a specification");
	if (rc == OK)
		rc = io_write_all(fd, buf_str(&json), "a shim's specification", e);
	if (rc == OK && lseek(fd, 0, SEEK_SET) < 0)
		rc = err_fill_errno(e, __FILE__, __LINE__, "cannot rewind a specification");
	if (json.ptr)
		explicit_bzero(json.ptr, json.len);
	buf_done(&json);
	if (rc != OK) {
		io_close(&fd);
		return rc;
	}
	*ret_fd = fd;
	return OK;
}

errc shim_start(const struct shim_spec *spec, const char *executable, pid_t *ret_shim_pid,
		struct err *e)
{
	static const char *const env[] = { "PATH=/usr/local/bin:/usr/bin:/bin", NULL };
	const char *argv[] = { "holdfast", "shim", spec->id, NULL };
	int fd_spec CLEANUP(io_close) = -1, fds[2], status;
	pid_t starter;
	TRY(spec_open(spec, &fd_spec, e));
	if (pipe2(fds, O_CLOEXEC) < 0)
		FAIL_ERRNO(e, "cannot start the shim of %s", spec->id);
	int fd_line CLEANUP(io_close) = fds[0], fd_write CLEANUP(io_close) = fds[1];
	const struct process_options options = {
		.program = executable,
		.argv = argv,
		.envp = env,
		.fd_stdin = fd_spec,
		.fd_stdout = fd_write,
		.fd_stderr = -1,
	};
	TRY(process_spawn(&options, &starter, e));
	io_close(&fd_write);
	errc rc = read_started(fd_line, ret_shim_pid, e);
	if (rc == ERR_TIMEOUT)
		process_kill_group(starter, 0, &status);
	else
		process_reap(starter);
	if (rc != OK)
		return err_prepend(e, "cannot start the shim of %s", spec->id);
	return OK;
}

errc shim_connect(const char *socket, struct shim_client **ret_client, struct err *e)
{
	int fd;
	TRY(shim_socket_connect(socket, &fd, e));
	struct shim_client *client = must_calloc(1, sizeof(*client));
	client->fd = fd;
	client->in = buf_init(SHIM_STATUS_BYTES_MAX);
	snprintf(client->socket, sizeof(client->socket), "%s", socket);
	*ret_client = client;
	return OK;
}

void shim_client_free(struct shim_client *client)
{
	if (!client)
		return;
	io_close(&client->fd);
	buf_done(&client->in);
	free(client);
}

/* A command fits the socket's buffer: it is sent whole or the shim is stuck. */
static errc send_command(struct shim_client *client, str command, struct err *e)
{
	must(!client->watches && command.len < SHIM_COMMAND_BYTES_MAX);
	ssize_t n = send(client->fd, command.ptr, command.len, MSG_NOSIGNAL);
	if (n != (ssize_t)command.len)
		FAIL(e, ERR_UNAVAILABLE, "the shim at %s does not take commands: %s",
		     client->socket, n < 0 ? strerror(errno) : "its socket is full");
	return OK;
}

/* Parse the first whole line that came; *ret_any is false when there is none. */
static errc next_line(struct shim_client *client, bool *ret_any, struct shim_status *ret_status,
		      struct err *e)
{
	const char *end = client->in.len ? memchr(client->in.ptr, '\n', client->in.len) : NULL;
	*ret_any = end != NULL;
	if (!end)
		return OK;
	size_t len = (size_t)(end - client->in.ptr);
	errc rc = shim_status_parse((str){ client->in.ptr, len }, ret_status, e);
	buf_consume(&client->in, len + 1);
	return rc;
}

/* Take what has come. */
static errc fill(struct shim_client *client, struct err *e)
{
	for (;;) {
		char chunk[16384];
		ssize_t n = recv(client->fd, chunk, sizeof(chunk), MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return OK;
		if (n <= 0)
			FAIL(e, ERR_UNAVAILABLE, "the shim at %s is gone", client->socket);
		buf_add(&client->in, (str){ chunk, (size_t)n });
		TRY(buf_check(&client->in, "the answer of a shim", e));
		if (memchr(chunk, '\n', (size_t)n))
			return OK; /* what follows comes with the next call */
	}
}

static errc ask(struct shim_client *client, str command, struct shim_status *ret_status,
		struct err *e)
{
	int64_t deadline = clock_mono_ms() + ANSWER_MS_MAX;
	bool any = false;
	TRY(send_command(client, command, e));
	for (;;) {
		TRY(next_line(client, &any, ret_status, e));
		if (any)
			return OK;
		if (!await(client->fd, deadline))
			FAIL(e, ERR_TIMEOUT, "the shim at %s did not answer within %d s",
			     client->socket, ANSWER_MS_MAX / 1000);
		TRY(fill(client, e));
	}
}

/* As ask(), when the status that comes back does not matter. */
static errc tell(struct shim_client *client, str command, struct err *e)
{
	struct shim_status *status = must_calloc(1, sizeof(*status));
	errc rc = ask(client, command, status, e);
	free(status);
	return rc;
}

errc shim_status(struct shim_client *client, struct shim_status *ret_status, struct err *e)
{
	return ask(client, STR("{\"do\":\"status\"}\n"), ret_status, e);
}

errc shim_watch(struct shim_client *client, int *ret_fd, struct err *e)
{
	TRY(send_command(client, STR("{\"do\":\"watch\"}\n"), e));
	client->watches = true;
	*ret_fd = client->fd;
	return OK;
}

errc shim_watch_next(struct shim_client *client, bool *ret_any, struct shim_status *ret_status,
		     struct err *e)
{
	bool any = false;
	must(client->watches);
	TRY(next_line(client, &any, ret_status, e));
	if (!any) {
		TRY(fill(client, e));
		TRY(next_line(client, &any, ret_status, e));
	}
	*ret_any = any;
	return OK;
}

errc shim_stop(struct shim_client *client, int64_t timeout_ms, struct err *e)
{
	char command[96];
	if (timeout_ms < 0)
		return tell(client, STR("{\"do\":\"stop\"}\n"), e);
	snprintf(command, sizeof(command), "{\"do\":\"stop\",\"timeout_ms\":%lld}\n",
		 (long long)timeout_ms);
	return tell(client, str_c(command), e);
}

static errc wait_final(struct shim_client *client, int64_t deadline, struct shim_status *ret_status,
		       struct err *e)
{
	int fd;
	TRY(shim_watch(client, &fd, e));
	for (;;) {
		bool any = false;
		TRY(shim_watch_next(client, &any, ret_status, e));
		if (any && shim_state_is_final(ret_status->state))
			return OK;
		if (!any && !await(fd, deadline))
			FAIL(e, ERR_TIMEOUT, "the instance at %s has not ended yet",
			     client->socket);
	}
}

errc shim_wait_final(const char *socket, int64_t time_ms_max, struct shim_status *ret_status,
		     struct err *e)
{
	struct shim_client *client;
	TRY(shim_connect(socket, &client, e));
	errc rc = wait_final(client, clock_mono_ms() + time_ms_max, ret_status, e);
	shim_client_free(client);
	return rc;
}

errc shim_signal(struct shim_client *client, const char *signal_name, struct err *e)
{
	char command[96];
	if (!process_signal_of_name(str_c(signal_name)))
		FAIL(e, ERR_INVALID, "there is no signal %.20s; write it as SIGUSR2", signal_name);
	snprintf(command, sizeof(command), "{\"do\":\"signal\",\"signal\":\"%s\"}\n", signal_name);
	return tell(client, str_c(command), e);
}

errc shim_drain(struct shim_client *client, struct err *e)
{
	return tell(client, STR("{\"do\":\"drain\"}\n"), e);
}

errc shim_restart(struct shim_client *client, struct err *e)
{
	return tell(client, STR("{\"do\":\"restart\"}\n"), e);
}

errc shim_exit(struct shim_client *client, struct err *e)
{
	return tell(client, STR("{\"do\":\"exit\"}\n"), e);
}
