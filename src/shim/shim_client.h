/*
 * What the daemon uses to start an application instance under a shim and to steer it. The daemon
 * may end at any time: a shim goes on alone, and shim_connect() finds it again.
 *
 * Shape: a unix stream socket, one JSON object a line each way; see shim_control.c.
 * Limits: 16 clients a shim, 4 KiB a command, 64 KiB a status line.
 * Threads: a struct shim_client belongs to one thread at a time.
 */
#pragma once

#include <sys/types.h>

#include "base/err.h"
#include "base/units.h"
#include "os/process.h"

enum {
	SHIM_ID_BYTES_MAX = 143,
	SHIM_ARG_COUNT_MAX = 256,
	SHIM_ENV_COUNT_MAX = 1024,
	SHIM_SPEC_BYTES_MAX = 1024 * 1024,
	SHIM_LAST_LINE_COUNT = 20,
	SHIM_LAST_LINE_BYTES_MAX = 1024,
	SHIM_LOG_FILE_COUNT = 4,
};

enum shim_restart { SHIM_RESTART_ALWAYS, SHIM_RESTART_NEVER };

/* One instance. Strings and arrays belong to the caller. Zero means the default given. */
struct shim_spec {
	const char *id;          /* of a-z, 0-9, - and .; stands in process titles */
	const char *const *argv; /* ends in NULL */
	const char *const *envp; /* `NAME=value`, ends in NULL; may hold secrets */
	const char *cwd;
	const char *folder;             /* of this instance; made with 0700; holds output.ndjson */
	const char *socket;             /* path of the control socket */
	struct process_user user;       /* what process_user_find() gave */
	const char *stop_signal;        /* default SIGTERM */
	const char *drain_signal;       /* NULL: none */
	int64_t stop_timeout_ms;        /* default 10 s */
	int64_t memory_bytes_max;       /* default: no cap */
	int64_t restart_backoff_max_ms; /* default 30 s */
	enum shim_restart restart;
	int64_t log_bytes_max; /* of one file of SHIM_LOG_FILE_COUNT; ≥ 1 MiB, default 16 MiB */
	mode_t umask;          /* default 027 */
};

/*
 * starting: being started for the first time, or by `restart`
 * running:  the process is there
 * backoff:  it ended by itself and will be started again
 * stopping: it was told to stop and has not ended yet
 * stopped:  ended on request, or by itself with status 0 and restart never
 * failed:   ended by itself and restart is never, or could not be started and restart is never
 */
#define SHIM_STATES(X)               \
	X(SHIM_STARTING, "starting") \
	X(SHIM_RUNNING, "running")   \
	X(SHIM_BACKOFF, "backoff")   \
	X(SHIM_STOPPING, "stopping") \
	X(SHIM_STOPPED, "stopped")   \
	X(SHIM_FAILED, "failed")

enum shim_state {
#define X(name, text) name,
	SHIM_STATES(X)
#undef X
};

struct shim_status {
	char id[SHIM_ID_BYTES_MAX + 1];
	pid_t pid;      /* of the application; 0 when there is none */
	pid_t shim_pid; /* of the shim */
	enum shim_state state;
	int64_t restarts;   /* starts after the first */
	time_ms started_ms; /* when the process was started last; 0: never */
	char exit[160];     /* how it ended last: `exit status 3`, `signal 9 (Killed)`, … or "" */
	time_ms exit_ms;    /* when; 0: never */
	int64_t dropped_lines; /* lines of output that could not be written */
	/* The last lines of output, oldest first, as valid UTF-8 each ended by NUL. */
	size_t last_line_count;
	char last_lines[SHIM_LAST_LINE_COUNT][SHIM_LAST_LINE_BYTES_MAX + 1];
};

const char *shim_state_name(enum shim_state state);
/* Whether a state is one that only a command ends. */
bool shim_state_is_final(enum shim_state state);

/* Start a shim with EXECUTABLE (`/proc/self/exe` for our own) and wait until its control socket
 * listens. The shim has detached then and is nobody's child. Errors: ERR_CONFLICT when one runs in
 * that folder or on that socket; ERR_INVALID; ERR_TIMEOUT after 10 s. */
WARN_UNUSED errc shim_start(const struct shim_spec *spec, const char *executable,
			    pid_t *ret_shim_pid, struct err *e);

struct shim_client;

/* Owns: end with shim_client_free(). Errors: ERR_NOT_FOUND when no shim listens there. */
WARN_UNUSED errc shim_connect(const char *socket, struct shim_client **ret_client, struct err *e);
void shim_client_free(struct shim_client *client);

/* Ask and wait at most 5 s for the answer. Not on a connection that watches. */
WARN_UNUSED errc shim_status(struct shim_client *client, struct shim_status *ret_status,
			     struct err *e);

/* Ask for a status line now and at each change of state, and give the descriptor to poll for
 * reading. From then on only shim_watch_next() and shim_client_free() may be used. */
WARN_UNUSED errc shim_watch(struct shim_client *client, int *ret_fd, struct err *e);
/* The next status that came, never waiting: *ret_any is false when there is none yet; call it until
 * then each time the descriptor is readable. Errors: ERR_UNAVAILABLE when the shim is gone. */
WARN_UNUSED errc shim_watch_next(struct shim_client *client, bool *ret_any,
				 struct shim_status *ret_status, struct err *e);

/* Stop the application and return at once; TIMEOUT_MS < 0: as in the specification. Watch, or
 * shim_wait_final(), to learn when it ended. */
WARN_UNUSED errc shim_stop(struct shim_client *client, int64_t timeout_ms, struct err *e);
/* Wait for a final state. Errors: ERR_TIMEOUT. Uses a connection of its own. */
WARN_UNUSED errc shim_wait_final(const char *socket, int64_t time_ms_max,
				 struct shim_status *ret_status, struct err *e);
/* Send SIGNAL (`SIGUSR2`) to the application. Errors: ERR_CONFLICT when it does not run. */
WARN_UNUSED errc shim_signal(struct shim_client *client, const char *signal_name, struct err *e);
/* Send the drain signal; OK without effect when the specification names none. */
WARN_UNUSED errc shim_drain(struct shim_client *client, struct err *e);
/* Stop when running, then start anew without back-off. */
WARN_UNUSED errc shim_restart(struct shim_client *client, struct err *e);
/* End the shim. Errors: ERR_CONFLICT unless the state is final. */
WARN_UNUSED errc shim_exit(struct shim_client *client, struct err *e);
