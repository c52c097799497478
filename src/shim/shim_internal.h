/* What the files of the shim share. */
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "shim/shim_client.h"
#include "shim/shim_output.h"

enum {
	SHIM_COMMAND_BYTES_MAX = 4096,
	SHIM_STATUS_BYTES_MAX = 256 * 1024, /* 20 lines of 1 KiB, each byte at most six */
	SHIM_CLIENT_COUNT_MAX = 16,
};

/* ---- shim_json.c: the only file that knows how these look as JSON */

WARN_UNUSED errc shim_spec_write(const struct shim_spec *spec, struct buf *b, struct err *e);
/* Strings belong to CONFIG. Defaults are filled in and everything is checked. */
WARN_UNUSED errc shim_spec_parse(str json, struct arena *config, struct shim_spec *ret_spec,
				 struct err *e);

enum shim_verb {
	SHIM_DO_STATUS,
	SHIM_DO_WATCH,
	SHIM_DO_STOP,
	SHIM_DO_SIGNAL,
	SHIM_DO_DRAIN,
	SHIM_DO_RESTART,
	SHIM_DO_EXIT,
};

struct shim_command {
	enum shim_verb verb;
	int64_t timeout_ms; /* of stop; < 0: as in the specification */
	int signal_number;  /* of signal */
};

WARN_UNUSED errc shim_command_parse(str json, struct shim_command *ret_command, struct err *e);
/* The line for ERR, `{"error":{"code":…,"message":…}}`. */
void shim_error_write(const struct err *error, struct buf *b);
/* Either the status or the error that LINE holds. */
WARN_UNUSED errc shim_status_parse(str line, struct shim_status *ret_status, struct err *e);
/* The `{"pid":…}` or error line of a start. */
WARN_UNUSED errc shim_started_parse(str line, pid_t *ret_pid, struct err *e);

/* ---- shim_socket.c */

/* Connect to, or listen on, the unix socket PATH, which may be longer than 108 bytes. Listening
 * replaces a socket nobody listens on; ERR_CONFLICT when somebody does. */
WARN_UNUSED errc shim_socket_connect(const char *path, int *ret_fd, struct err *e);
WARN_UNUSED errc shim_socket_listen(const char *path, int *ret_fd, struct err *e);

/* ---- shim_app.c: the application, its restarts and its end */

struct shim_app {
	const struct shim_spec *spec;
	struct shim_output *output;
	struct process_scope *scope;
	enum shim_state state;
	unsigned version; /* grows with each change of state */
	pid_t pid;        /* 0: none */
	int fds[SHIM_STREAM_COUNT];
	int64_t restarts;
	bool was_started;
	time_ms started_ms;
	int64_t started_mono_ms;
	char exit[160];
	time_ms exit_ms;
	int64_t backoff_ms;
	int64_t due_ms; /* clock_mono_ms() of the next start, or of the kill; INT64_MAX: nothing */
	int64_t look_ms;
	bool start_again; /* after it stopped */
	bool over_memory;
	bool over_time;
	char chunk[65536];
};

void shim_app_init(struct shim_app *app, const struct shim_spec *spec, struct shim_output *output);
void shim_app_start(struct shim_app *app);
void shim_app_stop(struct shim_app *app, int64_t timeout_ms);
void shim_app_restart(struct shim_app *app);
WARN_UNUSED errc shim_app_signal(struct shim_app *app, int number, struct err *e);
/* Read what FDS[stream] has; called when it is readable. */
void shim_app_read(struct shim_app *app, enum shim_stream stream);
/* Children ended: reap them. */
void shim_app_reap(struct shim_app *app);
/* Do what is due, and tell when there is something to do next. */
int64_t shim_app_tick(struct shim_app *app);
void shim_status_write(const struct shim_app *app, struct buf *b);

/* ---- shim_control.c: the clients */

struct shim_control;
struct pollfd;

struct shim_control *shim_control_new(int fd_listen, struct shim_app *app);
void shim_control_free(struct shim_control *control);
/* Fill POLLS (room for SHIM_CLIENT_COUNT_MAX + 1), return how many. */
size_t shim_control_polls(const struct shim_control *control, struct pollfd *polls);
void shim_control_handle(struct shim_control *control, const struct pollfd *polls, size_t count);
/* Push the state to those who watch, when it changed; cut those who do not read. */
void shim_control_push(struct shim_control *control);
/* When shim_control_push() wants to be called though nothing happened; INT64_MAX: never. */
int64_t shim_control_due(const struct shim_control *control);
/* Whether a client asked the shim to end. */
bool shim_control_exit_wanted(const struct shim_control *control);
