/*
 * Child processes: started in a session and group of their own, bounded in memory and time, killed
 * with everything they started.
 *
 * Threads: any; a child is made by a vfork-like clone(), so nothing but system calls runs between
 *   it and exec, and its cost does not grow with our memory.
 */
#pragma once

#include <signal.h>
#include <sys/types.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/units.h"

struct process_scope;

enum { PROCESS_GROUP_COUNT_MAX = 32, PROCESS_LINE_BYTES_MAX = 16 * 1024 };

struct process_user {
	uid_t uid;
	gid_t gid;
	bool drop; /* change to it; false: stay who we are */
	unsigned group_count;
	gid_t groups[PROCESS_GROUP_COUNT_MAX]; /* supplementary, GID included */
};

/* The account NAME; with NULL the account that an ordinary user's program runs as: `holdfast` where
 * it exists, else `nobody`. When we are not root only our own account can be had, and NULL gives
 * that; drop is then false. Errors: ERR_NOT_FOUND; ERR_FORBIDDEN for another account. */
WARN_UNUSED errc process_user_find(const char *name, struct process_user *ret_user, struct err *e);

struct process_options {
	const char *program;     /* a path, or looked up in PATH of envp; NULL: argv[0] */
	const char *const *argv; /* ends in NULL */
	const char *const *envp; /* ends in NULL; the whole environment of the child */
	const char *cwd;         /* NULL: ours */
	int fd_stdin;            /* -1: /dev/null */
	int fd_stdout;           /* -1: /dev/null */
	int fd_stderr;
	int nice;                 /* added to the priority */
	int oom_score_adj;        /* 0: as ours; higher is killed first when the machine is out */
	mode_t umask;             /* 0: 022 */
	int death_signal;         /* sent when the *thread* that starts it ends; 0: none */
	int64_t memory_bytes_max; /* process_run() only; 0: no cap (see process_scope.c) */
	struct process_scope
		*scope; /* what it is put into; NULL: none. process_run() makes its own */
	struct process_user user;
};

/* Start a child in a new session; by itself it does not die with us. All descriptors but 0–2 are
 * closed, signal handlers and mask reset, core dumps off, no new privileges. Errors: exec's own
 * failure is reported here, not as an exit status. */
WARN_UNUSED errc process_spawn(const struct process_options *options, pid_t *ret_pid,
			       struct err *e);

/* SIGTERM to the group of PID (a child of ours from process_spawn()), SIGKILL to what is left of
 * its group and session once it ended or after GRACE_MS, and reap it. */
void process_kill_group(pid_t pid, int64_t grace_ms, int *ret_status);

/* Wait until child PID ended without reaping it, or DEADLINE (clock_mono_ms()); false then. While
 * it is not reaped its number cannot belong to somebody else. */
bool process_wait_end(pid_t pid, int64_t deadline_ms);

/* Reap child PID, which has ended or will. */
int process_reap(pid_t pid);

struct process_run {
	struct process_options process; /* fd_stdout and fd_stderr are ours */
	str input;                      /* given on standard input when not empty */
	int64_t time_ms_max;            /* 0: no limit */
	/* Called for each line of output without its end; a longer one than
	 * PROCESS_LINE_BYTES_MAX comes in pieces. May be NULL. */
	void (*line)(void *ctx, str line);
	/* Asked about ten times a second; true ends the group. May be NULL. */
	bool (*cancelled)(void *ctx);
	void *ctx;
};

/* Run to the end, output (both streams) line by line. OK only for exit status 0.
 * Errors: ERR_FAILED with the status or signal (and "out of memory" when the cap was met),
 * ERR_TIMEOUT, ERR_CANCELLED; the whole group is gone in every case. */
WARN_UNUSED errc process_run(const struct process_run *run, struct err *e);

enum { PROCESS_STATUS_TEXT_SIZE = 64 };

/* `exit status 3` or `signal 9 (Killed)`. */
const char *process_status_text(int wait_status, char text[static PROCESS_STATUS_TEXT_SIZE]);
/* `SIGUSR2` or `USR2`; 0 when there is no such signal. */
int process_signal_of_name(str name);
