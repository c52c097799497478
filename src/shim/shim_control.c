#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/checks.h"
#include "os/clock.h"
#include "os/io.h"
#include "os/process.h"
#include "shim/shim_internal.h"

/*
 * The control protocol: a command is one line, `{"do":"status"}`, `watch`, `stop` (`timeout_ms`),
 * `signal` (`signal`), `drain`, `restart` or `exit`; the answer is one line, the status after it or
 * `{"error":…}`. Commands may be pipelined. A watcher gets a status at once and whenever the state
 * changed; states that passed while it did not read are told as the last one.
 */

enum {
	OUT_BYTES_MAX = 2 * SHIM_STATUS_BYTES_MAX,
	UNREAD_MS_MAX = 10 * 1000, /* a client that does not read for so long is cut */
};

struct client {
	int fd; /* -1: free */
	bool watches;
	bool closing; /* once its answers are sent */
	unsigned version_told;
	int64_t unread_since_ms; /* since when OUT does not move; 0: it is empty */
	size_t in_len;
	struct buf out;
	char in[SHIM_COMMAND_BYTES_MAX];
};

struct shim_control {
	int fd_listen;
	struct shim_app *app;
	bool exit_wanted;
	struct client *clients[SHIM_CLIENT_COUNT_MAX]; /* NULL: free */
};

struct shim_control *shim_control_new(int fd_listen, struct shim_app *app)
{
	struct shim_control *control = must_calloc(1, sizeof(*control));
	control->fd_listen = fd_listen;
	control->app = app;
	return control;
}

static void client_free(struct client *c)
{
	if (!c)
		return;
	io_close(&c->fd);
	buf_done(&c->out);
	free(c);
}

void shim_control_free(struct shim_control *control)
{
	if (!control)
		return;
	for (size_t i = 0; i < SHIM_CLIENT_COUNT_MAX; i++)
		client_free(control->clients[i]);
	io_close(&control->fd_listen);
	free(control);
}

/* Send what can be sent without waiting. False: the client is gone or does not read. */
static bool client_send(struct client *c)
{
	while (c->out.len) {
		ssize_t n = send(c->fd, c->out.ptr, c->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			int64_t now = clock_mono_ms();
			if (!c->unread_since_ms)
				c->unread_since_ms = now;
			return now - c->unread_since_ms < UNREAD_MS_MAX;
		}
		if (n <= 0)
			return false;
		c->unread_since_ms = 0;
		buf_consume(&c->out, (size_t)n);
	}
	c->unread_since_ms = 0;
	if (c->out.size) {
		/* an idle watcher costs no buffer */
		buf_done(&c->out);
		c->out = buf_init(OUT_BYTES_MAX);
	}
	return !c->closing;
}

static errc run_command(struct shim_control *control, struct client *c,
			const struct shim_command *command, struct err *e)
{
	struct shim_app *app = control->app;
	switch (command->verb) {
	case SHIM_DO_STATUS:
		break;
	case SHIM_DO_WATCH:
		c->watches = true;
		c->version_told = app->version;
		break;
	case SHIM_DO_STOP:
		shim_app_stop(app, command->timeout_ms);
		break;
	case SHIM_DO_SIGNAL:
		return shim_app_signal(app, command->signal_number, e);
	case SHIM_DO_DRAIN:
		if (app->spec->drain_signal)
			return shim_app_signal(
				app, process_signal_of_name(str_c(app->spec->drain_signal)), e);
		break;
	case SHIM_DO_RESTART:
		shim_app_restart(app);
		break;
	case SHIM_DO_EXIT:
		if (!shim_state_is_final(app->state))
			FAIL(e, ERR_CONFLICT,
			     "the shim cannot end while the application is %s; stop it first",
			     shim_state_name(app->state));
		control->exit_wanted = true;
		break;
	}
	return OK;
}

static void answer_error(struct client *c, const struct err *error)
{
	shim_error_write(error, &c->out);
	buf_add_byte(&c->out, '\n');
}

static void answer(struct shim_control *control, struct client *c, str line)
{
	struct shim_command command;
	struct err error = { 0 };
	errc rc = shim_command_parse(line, &command, &error);
	if (rc == OK)
		rc = run_command(control, c, &command, &error);
	if (rc == OK) {
		shim_status_write(control->app, &c->out);
		buf_add_byte(&c->out, '\n');
	} else {
		answer_error(c, &error);
	}
}

/* Carry out the whole lines that came. */
static void client_lines(struct shim_control *control, struct client *c)
{
	size_t at = 0;
	while (at < c->in_len && !c->out.overflow) {
		const char *end = memchr(c->in + at, '\n', c->in_len - at);
		if (!end)
			break;
		size_t len = (size_t)(end - c->in) - at;
		answer(control, c, (str){ c->in + at, len });
		at += len + 1;
	}
	memmove(c->in, c->in + at, c->in_len - at);
	c->in_len -= at;
	if (c->in_len == sizeof(c->in)) {
		struct err error = { 0 };
		err_fill(&error, ERR_LIMIT, 0, __FILE__, __LINE__,
			 "a command is longer than %d bytes", SHIM_COMMAND_BYTES_MAX);
		answer_error(c, &error);
		c->closing = true;
	}
}

/* False: the client is gone. */
static bool client_read(struct shim_control *control, struct client *c)
{
	if (c->closing)
		return client_send(c);
	ssize_t n = recv(c->fd, c->in + c->in_len, sizeof(c->in) - c->in_len, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (n <= 0)
		return false;
	c->in_len += (size_t)n;
	client_lines(control, c);
	return !c->out.overflow && client_send(c);
}

static void refuse(int fd, const char *why)
{
	struct buf line = buf_init(1024);
	struct err error = { 0 };
	err_fill(&error, ERR_BUSY, 0, __FILE__, __LINE__, "%s", why);
	shim_error_write(&error, &line);
	buf_add_byte(&line, '\n');
	if (send(fd, line.ptr, line.len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		errno = 0; /* it will see the end of the connection */
	buf_done(&line);
	io_close(&fd);
}

static void accept_client(struct shim_control *control)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);
	int fd = accept4(control->fd_listen, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 ||
	    (peer.uid != 0 && peer.uid != geteuid())) {
		io_close(&fd);
		return;
	}
	for (size_t i = 0; i < SHIM_CLIENT_COUNT_MAX; i++) {
		if (control->clients[i])
			continue;
		struct client *c = must_calloc(1, sizeof(*c));
		c->fd = fd;
		c->out = buf_init(OUT_BYTES_MAX);
		control->clients[i] = c;
		return;
	}
	refuse(fd, "this shim has its greatest number of clients; close one");
}

size_t shim_control_polls(const struct shim_control *control, struct pollfd *polls)
{
	size_t count = 0;
	polls[count++] = (struct pollfd){ .fd = control->fd_listen, .events = POLLIN };
	for (size_t i = 0; i < SHIM_CLIENT_COUNT_MAX; i++) {
		const struct client *c = control->clients[i];
		if (c)
			polls[count++] = (struct pollfd){
				.fd = c->fd,
				/* no new command while the answers to the last are not read */
				.events = c->out.len ? POLLOUT : POLLIN,
			};
	}
	return count;
}

void shim_control_handle(struct shim_control *control, const struct pollfd *polls, size_t count)
{
	for (size_t i = 1; i < count; i++) {
		for (size_t j = 0; polls[i].revents && j < SHIM_CLIENT_COUNT_MAX; j++) {
			struct client *c = control->clients[j];
			if (!c || c->fd != polls[i].fd)
				continue;
			bool alive = polls[i].revents & POLLOUT ? client_send(c)
								: client_read(control, c);
			if (!alive) {
				client_free(c);
				control->clients[j] = NULL;
			}
			break;
		}
	}
	if (polls[0].revents)
		accept_client(control);
}

void shim_control_push(struct shim_control *control)
{
	for (size_t i = 0; i < SHIM_CLIENT_COUNT_MAX; i++) {
		struct client *c = control->clients[i];
		if (!c)
			continue;
		if (c->watches && c->version_told != control->app->version && !c->out.len) {
			c->version_told = control->app->version;
			shim_status_write(control->app, &c->out);
			buf_add_byte(&c->out, '\n');
		}
		if (c->out.overflow || (c->out.len && !client_send(c))) {
			client_free(c);
			control->clients[i] = NULL;
		}
	}
}

int64_t shim_control_due(const struct shim_control *control)
{
	int64_t due = INT64_MAX;
	for (size_t i = 0; i < SHIM_CLIENT_COUNT_MAX; i++) {
		const struct client *c = control->clients[i];
		if (c && c->unread_since_ms && c->unread_since_ms + UNREAD_MS_MAX < due)
			due = c->unread_since_ms + UNREAD_MS_MAX;
	}
	return due;
}

bool shim_control_exit_wanted(const struct shim_control *control)
{
	return control->exit_wanted;
}
