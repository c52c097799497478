/*
 * process_scope: a child and everything it started, as one thing that can be measured and killed.
 * A cgroup of our own where we may make one (nothing escapes it), else what /proc shows.
 *
 * Threads: one at a time. Limits: 4,096 processes are tracked; see process_scope.c for what can
 *   escape without a cgroup.
 */
#pragma once

#include <sys/types.h>

#include "base/err.h"
#include "base/units.h"

struct process_scope;

/* MEMORY_BYTES_MAX 0: no cap. OWNS_DESCENDANTS: every descendant of this process belongs to the
 * scope, as in a process that is a child subreaper and starts nothing else.
 * Owns: end with process_scope_free(), which does not kill. */
struct process_scope *process_scope_new(int64_t memory_bytes_max, bool owns_descendants);
void process_scope_free(struct process_scope *scope);

/* Make a cgroup for it where we may; without one it works by what /proc shows. */
void process_scope_contain(struct process_scope *scope);
/* The child in it, whose session and group belong to the scope. */
void process_scope_set_leader(struct process_scope *scope, pid_t leader);
/* For process_spawn(): where the child enters the scope, or -1; and that it could not. */
int process_scope_procs_fd(const struct process_scope *scope);
void process_scope_join_failed(struct process_scope *scope);

/* Look at who is in it now, so that a later kill finds also those who leave group and session.
 * Whether their memory is over the cap. Cost: without a cgroup a walk over /proc, 1–2 ms; call it a
 * few times a second. */
bool process_scope_over_memory(struct process_scope *scope, int64_t *ret_bytes);
/* Whether the kernel killed in it because of the cap since the leader was set. */
bool process_scope_met_cap(const struct process_scope *scope);

/* SIGKILL everything in it until nothing alive is found. The leader must not have been reaped yet.
 * Zombies are left to those who must reap them. */
void process_scope_kill(struct process_scope *scope);
/* SIGKILL every descendant of this process and reap them all. */
void process_kill_descendants(void);
