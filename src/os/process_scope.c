#include "os/process_scope.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/checks.h"
#include "base/str.h"
#include "os/clock.h"
#include "os/io.h"

/*
 * Who belongs to a scope. With a cgroup (version 2, made beside our own processes when we may):
 * whoever is in it; nothing can leave. Always, from a snapshot of /proc as well: the leader's group
 * and session, every process whose chain of parents leads to a member, and every process that was a
 * member in an earlier snapshot (a daemon that called setsid() and lost its parent since). Without
 * a cgroup only a process can escape that does both between two snapshots, 100 ms in process_run();
 * a child subreaper (`owns_descendants`) loses none.
 *
 * How memory is capped. RLIMIT_AS cannot be used: V8, Go and the JVM reserve far more address space
 * than they touch. RLIMIT_DATA counts every writable private mapping, touched or not (thread
 * stacks, reserved heaps), and is per process, so that a build with eight workers would get eight
 * times the cap. So: memory.max of the cgroup when its parent hands the memory controller down
 * (the kernel enforces it and kills the group as one), else the caller looks a few times a second
 * and kills: the sum of resident memory first, as it is cheap and never too small, and when that is
 * over the cap the exact sum of each process's proportional share of anonymous and shared memory,
 * so that pages shared by forked workers and mapped program text count once or not at all.
 */

enum {
	MEMBER_COUNT_MAX = 4096,
	PROCESS_COUNT_MAX = 65536,
	KILL_ROUND_COUNT_MAX = 100,
	REAP_MS_MAX = 30000,
};

struct proc {
	pid_t pid;
	pid_t parent;
	pid_t group;
	pid_t session;
	char state;
	bool member;
	uint64_t start; /* clock ticks since boot: tells a reused number */
	int64_t resident_pages;
};

struct known {
	pid_t pid;
	uint64_t start;
};

struct process_scope {
	int64_t memory_bytes_max;
	bool owns_descendants;
	bool kernel_enforces;
	long oom_kill_count_before;
	pid_t leader;
	int fd_folder; /* of the cgroup, or -1 */
	int fd_procs;
	char folder[512];
	struct known *known; /* members of the last snapshot, by pid */
	size_t known_count;
};

struct snapshot {
	struct proc *procs; /* by pid */
	size_t count;
	size_t size;
};

static bool read_small(int fd_folder, const char *name, char *text, size_t size)
{
	int fd CLEANUP(io_close) = openat(fd_folder, name, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);
	text[n > 0 ? n : 0] = '\0';
	return n > 0;
}

static bool write_small(int fd_folder, const char *name, const char *text)
{
	int fd CLEANUP(io_close) = openat(fd_folder, name, O_WRONLY | O_CLOEXEC);
	return fd >= 0 && write(fd, text, strlen(text)) > 0;
}

/* Where the version 2 hierarchy is mounted and our own group in it: the folder to make ours in. */
static bool own_cgroup(char *folder, size_t size)
{
	char line[1024], mount[256] = "", path[256] = "";
	FILE *f = fopen("/proc/self/mountinfo", "re");
	while (f && fgets(line, sizeof(line), f)) {
		char point[256];
		/* `36 35 98:0 / /sys/fs/cgroup rw … - cgroup2 …`, only one that shows all of it */
		if (strstr(line, " - cgroup2 ") &&
		    sscanf(line, "%*s %*s %*s / %255s", point) == 1 && !mount[0])
			snprintf(mount, sizeof(mount), "%s", point);
	}
	if (f)
		fclose(f);
	f = fopen("/proc/self/cgroup", "re");
	while (f && fgets(line, sizeof(line), f))
		if (strncmp(line, "0::/", 4) == 0)
			snprintf(path, sizeof(path), "%.*s", (int)strcspn(line + 3, "\n"),
				 line + 3);
	if (f)
		fclose(f);
	if (!mount[0] || !path[0] || strstr(path, "/../"))
		return false;
	int len = snprintf(folder, size, "%s%s", mount, strcmp(path, "/") ? path : "");
	return len > 0 && (size_t)len < size;
}

/* Remove empty groups that a killed process left. One that is in use cannot be removed. */
static void sweep_cgroups(const char *parent)
{
	DIR *dir = opendir(parent);
	for (struct dirent *d; dir && (d = readdir(dir));) {
		int owner = 0;
		if (sscanf(d->d_name, "holdfast-%d-", &owner) == 1 && kill(owner, 0) < 0 &&
		    errno == ESRCH)
			unlinkat(dirfd(dir), d->d_name, AT_REMOVEDIR);
	}
	if (dir)
		closedir(dir);
}

static void leave_cgroup(struct process_scope *scope)
{
	io_close(&scope->fd_procs);
	io_close(&scope->fd_folder);
	/* the kernel needs a moment after the last one was reaped */
	for (int i = 0; scope->folder[0] && i < 20 && rmdir(scope->folder) < 0; i++) {
		if (errno != EBUSY)
			break;
		clock_sleep_ms(1 + i);
	}
	scope->folder[0] = '\0';
	scope->kernel_enforces = false;
}

static void enter_cgroup(struct process_scope *scope)
{
	char parent[384], text[64], random[9];
	if (!own_cgroup(parent, sizeof(parent)))
		return;
	sweep_cgroups(parent);
	entropy_hex(random, 8);
	snprintf(scope->folder, sizeof(scope->folder), "%s/holdfast-%d-%s", parent, (int)getpid(),
		 random);
	if (mkdir(scope->folder, 0755) < 0) {
		scope->folder[0] = '\0';
		return;
	}
	scope->fd_folder = open(scope->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (scope->fd_folder >= 0)
		scope->fd_procs = openat(scope->fd_folder, "cgroup.procs", O_WRONLY | O_CLOEXEC);
	if (scope->fd_procs < 0 ||
	    !read_small(scope->fd_folder, "cgroup.type", text, sizeof(text)) ||
	    strcmp(text, "domain\n") != 0) {
		leave_cgroup(scope);
		return;
	}
	if (scope->memory_bytes_max > 0) {
		snprintf(text, sizeof(text), "%lld", (long long)scope->memory_bytes_max);
		scope->kernel_enforces = write_small(scope->fd_folder, "memory.max", text);
		write_small(scope->fd_folder, "memory.swap.max", "0");
		write_small(scope->fd_folder, "memory.oom.group", "1");
	}
}

struct process_scope *process_scope_new(int64_t memory_bytes_max, bool owns_descendants)
{
	struct process_scope *scope = must_calloc(1, sizeof(*scope));
	scope->memory_bytes_max = memory_bytes_max;
	scope->owns_descendants = owns_descendants;
	scope->fd_folder = scope->fd_procs = -1;
	return scope;
}

void process_scope_free(struct process_scope *scope)
{
	if (!scope)
		return;
	leave_cgroup(scope);
	free(scope->known);
	free(scope);
}

void process_scope_contain(struct process_scope *scope)
{
	if (scope->fd_folder < 0)
		enter_cgroup(scope);
}

static long oom_kill_count(const struct process_scope *scope)
{
	char text[512];
	if (!scope->kernel_enforces ||
	    !read_small(scope->fd_folder, "memory.events", text, sizeof(text)))
		return 0;
	const char *at = strstr(text, "oom_kill ");
	return at ? strtol(at + strlen("oom_kill "), NULL, 10) : 0;
}

void process_scope_set_leader(struct process_scope *scope, pid_t leader)
{
	scope->oom_kill_count_before = oom_kill_count(scope);
	scope->leader = leader;
	scope->known_count = 0;
}

int process_scope_procs_fd(const struct process_scope *scope)
{
	return scope->fd_procs;
}

void process_scope_join_failed(struct process_scope *scope)
{
	leave_cgroup(scope);
}

/* `PID (name) S PPID PGRP SESSION …`; the name may hold anything, so count from its last `)`. */
static bool parse_stat(const char *text, struct proc *p)
{
	const char *rest = strrchr(text, ')');
	int parent = 0, group = 0, session = 0;
	unsigned long long start = 0;
	long long pages = 0;
	if (!rest ||
	    sscanf(rest + 1,
		   " %c %d %d %d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d "
		   "%llu %*u %lld",
		   &p->state, &parent, &group, &session, &start, &pages) != 6)
		return false;
	p->parent = parent;
	p->group = group;
	p->session = session;
	p->start = start;
	p->resident_pages = pages;
	return true;
}

static bool read_proc(int fd_proc, const char *pid_name, struct proc *p)
{
	char path[64], text[1024];
	snprintf(path, sizeof(path), "%.20s/stat", pid_name);
	*p = (struct proc){ .pid = (pid_t)strtol(pid_name, NULL, 10) };
	return read_small(fd_proc, path, text, sizeof(text)) && parse_stat(text, p);
}

static int proc_cmp(const void *a, const void *b)
{
	const struct proc *x = a, *y = b;
	return (x->pid > y->pid) - (x->pid < y->pid);
}

static struct proc *snapshot_find(const struct snapshot *s, pid_t pid)
{
	struct proc key = { .pid = pid };
	if (!s->count)
		return NULL;
	return bsearch(&key, s->procs, s->count, sizeof(key), proc_cmp);
}

static bool was_known(const struct process_scope *scope, const struct proc *p)
{
	for (size_t i = 0; i < scope->known_count; i++)
		if (scope->known[i].pid == p->pid)
			return scope->known[i].start == p->start;
	return false;
}

static void mark_members(const struct process_scope *scope, struct snapshot *s)
{
	pid_t self = getpid();
	bool changed = true;
	for (size_t i = 0; i < s->count; i++) {
		struct proc *p = &s->procs[i];
		if (scope->leader)
			p->member = p->pid == scope->leader || p->group == scope->leader ||
				    p->session == scope->leader || was_known(scope, p);
		if (scope->owns_descendants && p->parent == self)
			p->member = true;
		if (p->pid == self)
			p->member = false;
	}
	while (changed) {
		changed = false;
		for (size_t i = 0; i < s->count; i++) {
			struct proc *p = &s->procs[i];
			const struct proc *parent = p->member ? NULL : snapshot_find(s, p->parent);
			if (parent && parent->member && p->pid != self)
				p->member = changed = true;
		}
	}
}

static void remember_members(struct process_scope *scope, const struct snapshot *s)
{
	scope->known_count = 0;
	for (size_t i = 0; i < s->count && scope->known_count < MEMBER_COUNT_MAX; i++) {
		if (!s->procs[i].member)
			continue;
		if (scope->known_count % 64 == 0)
			scope->known = must_realloc(scope->known, (scope->known_count + 64) *
									  sizeof(*scope->known));
		scope->known[scope->known_count++] = (struct known){ s->procs[i].pid,
								     s->procs[i].start };
	}
}

static struct snapshot take_snapshot(struct process_scope *scope)
{
	struct snapshot s = { 0 };
	DIR *dir = opendir("/proc");
	for (struct dirent *d; dir && s.count < PROCESS_COUNT_MAX && (d = readdir(dir));) {
		if (d->d_name[0] < '1' || d->d_name[0] > '9')
			continue;
		if (s.count == s.size) {
			s.size = s.size ? s.size * 2 : 128;
			s.procs = must_realloc(s.procs, s.size * sizeof(*s.procs));
		}
		s.count += read_proc(dirfd(dir), d->d_name, &s.procs[s.count]);
	}
	if (dir)
		closedir(dir);
	if (s.count)
		qsort(s.procs, s.count, sizeof(*s.procs), proc_cmp);
	mark_members(scope, &s);
	remember_members(scope, &s);
	return s;
}

/* Proportional anonymous and shared memory of PID in bytes; RESIDENT when it cannot be read. */
static int64_t exact_bytes(pid_t pid, int64_t resident)
{
	char path[64], text[2048];
	int64_t sum = 0;
	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
	if (!read_small(AT_FDCWD, path, text, sizeof(text)))
		return resident;
	static const char *const fields[] = { "\nPss_Anon:", "\nPss_Shmem:" };
	for (size_t i = 0; i < ARRAY_COUNT(fields); i++) {
		const char *at = strstr(text, fields[i]);
		if (!at)
			return resident;
		sum += strtoll(at + strlen(fields[i]), NULL, 10) * 1024;
	}
	return sum;
}

/* The same from the cgroup's own list: no walk over all processes of the machine. */
static struct snapshot cgroup_snapshot(const struct process_scope *scope)
{
	struct snapshot s = { 0 };
	int pid;
	int fd_proc CLEANUP(io_close) = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fd = openat(scope->fd_folder, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
	while (f && s.count < MEMBER_COUNT_MAX && fscanf(f, "%d", &pid) == 1) {
		char name[24];
		snprintf(name, sizeof(name), "%d", pid);
		if (s.count % 64 == 0)
			s.procs = must_realloc(s.procs, (s.count + 64) * sizeof(*s.procs));
		struct proc *p = &s.procs[s.count];
		s.count += read_proc(fd_proc, name, p);
		p->member = true;
	}
	if (f)
		fclose(f);
	return s;
}

static int64_t sum_bytes(const struct snapshot *s, bool exact)
{
	int64_t page = sysconf(_SC_PAGESIZE), sum = 0;
	for (size_t i = 0; i < s->count; i++) {
		int64_t resident = s->procs[i].resident_pages * page;
		if (s->procs[i].member)
			sum += exact ? exact_bytes(s->procs[i].pid, resident) : resident;
	}
	return sum;
}

bool process_scope_over_memory(struct process_scope *scope, int64_t *ret_bytes)
{
	int64_t max = scope->memory_bytes_max;
	char text[32];
	if (scope->kernel_enforces) {
		if (ret_bytes && read_small(scope->fd_folder, "memory.current", text, sizeof(text)))
			*ret_bytes = strtoll(text, NULL, 10);
		return false;
	}
	if (scope->fd_folder >= 0 && max == 0 && !ret_bytes)
		return false; /* nothing leaves a cgroup: nobody need be remembered */
	struct snapshot s = scope->fd_folder >= 0 ? cgroup_snapshot(scope) : take_snapshot(scope);
	int64_t bytes = sum_bytes(&s, false);
	if (max > 0 && bytes > max)
		bytes = sum_bytes(&s, true);
	free(s.procs);
	if (ret_bytes)
		*ret_bytes = bytes;
	return max > 0 && bytes > max;
}

bool process_scope_met_cap(const struct process_scope *scope)
{
	return oom_kill_count(scope) > scope->oom_kill_count_before;
}

/* SIGKILL the very process of the snapshot, not one that was given its number since. */
static void kill_exactly(const struct proc *p)
{
	char name[24];
	struct proc now;
	int fd CLEANUP(io_close) = pidfd_open(p->pid, 0);
	int fd_proc CLEANUP(io_close) = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	snprintf(name, sizeof(name), "%d", (int)p->pid);
	if (fd >= 0 && read_proc(fd_proc, name, &now) && now.start == p->start)
		pidfd_send_signal(fd, SIGKILL, NULL, 0);
}

static size_t kill_members(struct process_scope *scope)
{
	size_t alive_count = 0;
	if (scope->fd_folder >= 0)
		write_small(scope->fd_folder, "cgroup.kill", "1");
	struct snapshot s = take_snapshot(scope);
	for (size_t i = 0; i < s.count; i++) {
		if (!s.procs[i].member || s.procs[i].state == 'Z' || s.procs[i].state == 'X')
			continue;
		alive_count++;
		kill_exactly(&s.procs[i]);
	}
	free(s.procs);
	return alive_count;
}

void process_scope_kill(struct process_scope *scope)
{
	for (int round = 0; round < KILL_ROUND_COUNT_MAX && kill_members(scope) > 0; round++)
		clock_sleep_ms(round < 10 ? 1 : 20);
}

void process_kill_descendants(void)
{
	struct process_scope *scope = process_scope_new(0, true);
	int64_t deadline = clock_mono_ms() + REAP_MS_MAX;
	while (clock_mono_ms() < deadline) {
		process_scope_kill(scope);
		pid_t pid;
		do {
			pid = waitpid(-1, NULL, WNOHANG);
		} while (pid > 0 || (pid < 0 && errno == EINTR));
		if (pid < 0)
			break; /* ECHILD: nobody is left */
		clock_sleep_ms(5);
	}
	process_scope_free(scope);
}
