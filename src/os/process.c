#include "os/process.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/checks.h"
#include "os/clock.h"
#include "os/io.h"
#include "os/process_scope.h"

/*
 * The child is made by clone(CLONE_VM | CLONE_VFORK) on a stack of its own, as posix_spawn() does:
 * our address space is not copied however large it is, and we wait until it has called exec. It
 * shares our memory until then, so it tells of a failure by writing into struct child (no pipe is
 * needed, none can leak), must not allocate or lock, and changes identity by raw system calls: the
 * C library's setuid() would change all of our threads.
 */

enum { CHILD_STACK_BYTES = 64 * 1024, PATH_FOLDER_COUNT_MAX = 64, LEADER_KILL_MS = 5000 };

enum stage { STAGE_SETUP, STAGE_DESCRIPTORS, STAGE_USER, STAGE_CWD, STAGE_EXEC };

struct child {
	const struct process_options *options;
	char **candidates; /* paths of the program to try in turn; ends in NULL */
	int fds[3];        /* all above 2 */
	int fd_scope;      /* -1: none */
	pid_t parent;
	bool join_failed;
	enum stage stage;
	int sys_errno; /* 0: exec succeeded */
};

static bool find_account(const char *name, struct passwd *entry, char *bytes, size_t size)
{
	struct passwd *found = NULL;
	return getpwnam_r(name, entry, bytes, size, &found) == 0 && found;
}

errc process_user_find(const char *name, struct process_user *ret_user, struct err *e)
{
	struct process_user user = { .uid = geteuid(), .gid = getegid() };
	struct passwd entry;
	char bytes[8192];
	bool found = false;
	if (name) {
		found = find_account(name, &entry, bytes, sizeof(bytes));
		if (!found)
			FAIL(e, ERR_NOT_FOUND,
			     "there is no account %s on this machine; create it with `adduser "
			     "--system --group %s` or name another",
			     name, name);
	} else if (user.uid == 0) {
		found = find_account("holdfast", &entry, bytes, sizeof(bytes)) ||
			find_account("nobody", &entry, bytes, sizeof(bytes));
		if (!found)
			FAIL(e, ERR_NOT_FOUND,
			     "there is no account to run programs as; create one with `adduser "
			     "--system --group holdfast`");
	}
	if (found && user.uid != 0 && entry.pw_uid != user.uid)
		FAIL(e, ERR_FORBIDDEN,
		     "only root can run programs as %s; start Holdfast as root or as that account",
		     name);
	if (found && user.uid == 0 && entry.pw_uid != 0) {
		int count = PROCESS_GROUP_COUNT_MAX;
		user.uid = entry.pw_uid;
		user.gid = entry.pw_gid;
		user.drop = true;
		if (getgrouplist(entry.pw_name, user.gid, user.groups, &count) < 0)
			FAIL(e, ERR_LIMIT, "the account %s is in more than %d groups",
			     entry.pw_name, PROCESS_GROUP_COUNT_MAX);
		user.group_count = (unsigned)count;
	}
	*ret_user = user;
	return OK;
}

static long child_drop(const struct process_user *user)
{
	if (!user->drop)
		return 0;
	if (syscall(SYS_setgroups, (size_t)user->group_count, user->groups) < 0 ||
	    syscall(SYS_setresgid, user->gid, user->gid, user->gid) < 0)
		return -1;
	return syscall(SYS_setresuid, user->uid, user->uid, user->uid);
}

static void child_reset_signals(void)
{
	/* the system call, not sigaction(): that refuses the two signals that glibc keeps for
	 * itself, and a program started by posix_spawn() may have inherited them ignored. All zero
	 * is SIG_DFL with no flags, as the kernel lays it out. */
	const struct {
		void *handler;
		unsigned long flags;
		void *restorer;
		unsigned long mask;
	} action = { 0 };
	sigset_t none;
	for (int number = 1; number < NSIG; number++) /* those that cannot be set stay */
		syscall(SYS_rt_sigaction, number, &action, NULL, sizeof(action.mask));
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* By hand: the printf family may lock. Lower scores than ours are not ours to give. */
static void child_adjust_oom_score(int value)
{
	char digits[4];
	size_t len = 0;
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	for (int unit = 1000; unit; unit /= 10)
		digits[len++] = (char)('0' + value / unit % 10);
	if (fd >= 0 && write(fd, digits, len) < 0)
		errno = 0; /* a preference, not a condition */
}

static long child_setup(struct child *child)
{
	const struct process_options *options = child->options;
	struct rlimit none = { 0, 0 };
	if (setsid() < 0)
		return -1;
	if (child->fd_scope >= 0 && write(child->fd_scope, "0", 1) != 1)
		child->join_failed = true;
	if (options->nice)
		setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + options->nice);
	if (options->oom_score_adj > 0)
		child_adjust_oom_score(options->oom_score_adj);
	umask(options->umask ? options->umask : 022);
	setrlimit(RLIMIT_CORE, &none); /* a core would hold the secrets of its environment */
	return 0;
}

static long child_descriptors(struct child *child)
{
	for (int fd = 0; fd < 3; fd++)
		if (dup2(child->fds[fd], fd) < 0)
			return -1;
	return close_range(3, ~0U, 0);
}

static int child_main(void *arg) __attribute__((no_sanitize("address", "thread", "undefined")));

static int child_main(void *arg)
{
	struct child *child = arg;
	const struct process_options *options = child->options;
	int failure = ENOENT;
	child->stage = STAGE_SETUP;
	if (child_setup(child) < 0)
		goto failed;
	child->stage = STAGE_DESCRIPTORS;
	if (child_descriptors(child) < 0)
		goto failed;
	child->stage = STAGE_USER;
	if (child_drop(&options->user) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		goto failed;
	/* after the change of identity, which clears it */
	if (options->death_signal &&
	    (prctl(PR_SET_PDEATHSIG, options->death_signal) < 0 || getppid() != child->parent))
		goto failed;
	child->stage = STAGE_CWD;
	if (options->cwd && chdir(options->cwd) < 0)
		goto failed;
	child->stage = STAGE_EXEC;
	child_reset_signals();
	for (char **path = child->candidates; *path; path++) {
		execve(*path, (char *const *)(uintptr_t)options->argv,
		       (char *const *)(uintptr_t)options->envp);
		/* as execvp(): a program that may not be run hides the reason "not found" */
		if (errno != ENOENT && errno != ENOTDIR)
			failure = errno;
		if (failure != ENOENT && failure != EACCES)
			break;
	}
	errno = failure;
failed:
	child->sys_errno = errno ? errno : EIO;
	_exit(127);
}

static const char *env_path(const char *const *envp)
{
	for (; envp && *envp; envp++)
		if (strncmp(*envp, "PATH=", 5) == 0)
			return *envp + 5;
	return "/usr/local/bin:/usr/bin:/bin";
}

static void free_candidates(char **candidates)
{
	for (char **path = candidates; path && *path; path++)
		free(*path);
	free(candidates);
}

static const char *program_of(const struct process_options *options)
{
	return options->program ? options->program : options->argv[0];
}

static char **make_candidates(const struct process_options *options)
{
	char **candidates = must_calloc(PATH_FOLDER_COUNT_MAX + 1, sizeof(*candidates));
	const char *program = program_of(options);
	if (strchr(program, '/')) {
		candidates[0] = must_strdup(program);
		return candidates;
	}
	str rest = str_c(env_path(options->envp)), folder;
	size_t count = 0;
	while (count < PATH_FOLDER_COUNT_MAX && str_split(&rest, ':', &folder)) {
		char path[IO_PATH_MAX];
		int len = snprintf(path, sizeof(path), "%.*s/%s", STR_ARG(folder), program);
		if (folder.len && len > 0 && (size_t)len < sizeof(path))
			candidates[count++] = must_strdup(path);
	}
	return candidates;
}

static errc stage_error(const struct child *child, struct err *e)
{
	const struct process_options *options = child->options;
	const char *program = program_of(options), *why = strerror(child->sys_errno);
	errc code = child->sys_errno == ENOENT ? ERR_NOT_FOUND : ERR_FAILED;
	if (child->stage == STAGE_CWD)
		return err_fill(e, code, child->sys_errno, __FILE__, __LINE__,
				"cannot start %s in the folder %s: %s; check that it exists and "
				"that the account may enter it",
				program, options->cwd, why);
	if (child->stage == STAGE_USER)
		return err_fill(e, code, child->sys_errno, __FILE__, __LINE__,
				"cannot start %s as user id %u: %s", program,
				(unsigned)options->user.uid, why);
	if (child->stage == STAGE_EXEC)
		return err_fill(e, code, child->sys_errno, __FILE__, __LINE__,
				"cannot run %s: %s; %s", program, why,
				code == ERR_NOT_FOUND
					? "check its path, its #! line and that it is installed"
					: "check that the account may execute it");
	return err_fill(e, code, child->sys_errno, __FILE__, __LINE__, "cannot start %s: %s",
			program, why);
}

/* A copy of FD above 2: it is put at 0–2 in the child, where no other source may lie. */
static int fd_above(int fd)
{
	int null CLEANUP(io_close) = fd < 0 ? open("/dev/null", O_RDWR | O_CLOEXEC) : -1;
	return fcntl(fd < 0 ? null : fd, F_DUPFD_CLOEXEC, 3);
}

static pid_t clone_child(struct child *child)
{
	sigset_t all, before;
	int cancel;
	char *stack = mmap(NULL, CHILD_STACK_BYTES, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (stack == MAP_FAILED)
		return -1;
	/* no handler of ours may run in the child while it shares our memory */
	sigfillset(&all);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	pid_t pid = clone(child_main, stack + CHILD_STACK_BYTES, CLONE_VM | CLONE_VFORK | SIGCHLD,
			  child);
	int saved = errno;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_setcancelstate(cancel, NULL);
	munmap(stack, CHILD_STACK_BYTES);
	errno = saved;
	return pid;
}

errc process_spawn(const struct process_options *options, pid_t *ret_pid, struct err *e)
{
	struct child child = {
		.options = options,
		.candidates = make_candidates(options),
		.fds = { fd_above(options->fd_stdin), fd_above(options->fd_stdout),
			 fd_above(options->fd_stderr) },
		.fd_scope = options->scope ? process_scope_procs_fd(options->scope) : -1,
		.parent = getpid(),
	};
	errc rc = OK;
	pid_t pid = -1;
	if (child.fds[0] >= 0 && child.fds[1] >= 0 && child.fds[2] >= 0)
		pid = clone_child(&child);
	if (pid < 0) {
		rc = err_fill_errno(e, __FILE__, __LINE__, "cannot start %s", program_of(options));
	} else if (child.sys_errno) {
		process_reap(pid);
		rc = stage_error(&child, e);
	}
	for (int fd = 0; fd < 3; fd++)
		io_close(&child.fds[fd]);
	free_candidates(child.candidates);
	if (rc != OK)
		return rc;
	if (options->scope) {
		if (child.join_failed)
			process_scope_join_failed(options->scope);
		process_scope_set_leader(options->scope, pid);
	}
	*ret_pid = pid;
	return OK;
}

int process_reap(pid_t pid)
{
	int status = 0;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

bool process_wait_end(pid_t pid, int64_t deadline_ms)
{
	int fd CLEANUP(io_close) = pidfd_open(pid, 0);
	for (;;) {
		siginfo_t info = { 0 };
		if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0 &&
		    errno != EINTR)
			return true; /* not our child any more: there is nothing to wait for */
		if (info.si_pid == pid)
			return true;
		int64_t left = deadline_ms - clock_mono_ms();
		if (left <= 0)
			return false;
		/* without a pidfd (out of descriptors) look again every 10 ms */
		int64_t wait_max = fd >= 0 ? 60000 : 10;
		struct pollfd p = { .fd = fd, .events = POLLIN };
		poll(&p, 1, (int)(left < wait_max ? left : wait_max));
	}
}

void process_kill_group(pid_t pid, int64_t grace_ms, int *ret_status)
{
	struct process_scope *scope = process_scope_new(0, false);
	process_scope_set_leader(scope, pid);
	process_scope_over_memory(scope, NULL); /* remember who is there before they scatter */
	kill(-pid, SIGTERM);
	process_wait_end(pid, clock_mono_ms() + grace_ms);
	process_scope_kill(scope);
	/* one in uninterruptible sleep is the kernel's; it must not hold us up for ever */
	if (process_wait_end(pid, clock_mono_ms() + LEADER_KILL_MS))
		*ret_status = process_reap(pid);
	else
		*ret_status = SIGKILL;
	process_scope_free(scope);
}

const char *process_status_text(int wait_status, char text[static PROCESS_STATUS_TEXT_SIZE])
{
	if (WIFSIGNALED(wait_status)) {
		const char *name = sigdescr_np(WTERMSIG(wait_status));
		snprintf(text, PROCESS_STATUS_TEXT_SIZE, "signal %d (%s)", WTERMSIG(wait_status),
			 name ? name : "unknown");
	} else {
		snprintf(text, PROCESS_STATUS_TEXT_SIZE, "exit status %d",
			 WEXITSTATUS(wait_status));
	}
	return text;
}

int process_signal_of_name(str name)
{
	if (str_starts(name, STR("SIG")))
		name = (str){ name.ptr + 3, name.len - 3 };
	for (int number = 1; number < NSIG; number++) {
		const char *known = sigabbrev_np(number);
		if (known && str_eq_c(name, known))
			return number;
	}
	return 0;
}
