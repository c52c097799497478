#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/checks.h"
#include "os/clock.h"
#include "os/io.h"
#include "os/process.h"
#include "os/process_scope.h"

static const char *const env[] = { "PATH=/usr/local/bin:/usr/bin:/bin", "COLOUR=blue", NULL };

struct collected {
	struct buf text;
	size_t line_count;
	const char *cancel_at; /* cancel once this line came */
	bool cancel;
};

static void collect(void *ctx, str line)
{
	struct collected *c = ctx;
	buf_add(&c->text, line);
	buf_add_byte(&c->text, '\n');
	c->line_count++;
	if (c->cancel_at && str_starts(line, str_c(c->cancel_at)))
		c->cancel = true;
}

static bool asked_to_cancel(void *ctx)
{
	return ((struct collected *)ctx)->cancel;
}

static struct process_run shell(const char **argv, const char *script, struct collected *c)
{
	argv[0] = "sh";
	argv[1] = "-c";
	argv[2] = script;
	argv[3] = NULL;
	c->text = buf_init(64 * 1024 * 1024);
	return (struct process_run){
		.process = { .argv = argv, .envp = env, .fd_stdin = -1 },
		.time_ms_max = 60 * 1000,
		.line = collect,
		.cancelled = asked_to_cancel,
		.ctx = c,
	};
}

static errc run_shell(const char *script, struct collected *c, struct err *e)
{
	const char *argv[4];
	struct process_run run = shell(argv, script, c);
	return process_run(&run, e);
}

static size_t fd_count(void)
{
	size_t count = 0;
	DIR *dir = opendir("/proc/self/fd");
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static bool is_alive(pid_t pid)
{
	char path[64], text[512] = "";
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	FILE *f = fopen(path, "r");
	if (!f)
		return false;
	char *got = fgets(text, sizeof(text), f);
	fclose(f);
	const char *end = got ? strrchr(text, ')') : NULL;
	return end && end[2] != 'Z' && end[2] != 'X';
}

static void wait_gone(pid_t pid)
{
	int64_t deadline = clock_mono_ms() + 10000;
	while (is_alive(pid) && clock_mono_ms() < deadline)
		clock_sleep_ms(5);
	assert_false(is_alive(pid));
}

static void test_output_and_status(void **state)
{
	struct collected c = { 0 };
	struct err e = { 0 };
	(void)state;
	assert_int_equal(run_shell("echo $COLOUR; echo two >&2; printf three", &c, &e), OK);
	assert_string_equal(buf_cstr(&c.text), "blue\ntwo\nthree\n");
	buf_done(&c.text);
	assert_int_equal(run_shell("echo why; exit 3", &c, &e), ERR_FAILED);
	assert_non_null(strstr(e.message, "exit status 3"));
	buf_done(&c.text);
	assert_int_equal(run_shell("kill -9 $$", &c, &e), ERR_FAILED);
	assert_non_null(strstr(e.message, "signal 9 (Killed)"));
	buf_done(&c.text);
}

static void test_long_lines_come_in_pieces(void **state)
{
	struct collected c = { 0 };
	struct err e;
	(void)state;
	assert_int_equal(run_shell("head -c 40000 /dev/zero | tr '\\0' x; echo; echo end;"
				   "head -c 16384 /dev/zero | tr '\\0' y; echo; echo end",
				   &c, &e),
			 OK);
	assert_int_equal(c.line_count, 3 + 1 + 1 + 1);
	assert_int_equal(c.text.len, 40000 + 3 + 4 + 16384 + 1 + 4);
	buf_done(&c.text);
}

static void test_input(void **state)
{
	struct collected c = { 0 };
	const char *argv[4];
	struct err e;
	(void)state;
	struct buf big = buf_init(1 << 20);
	for (int i = 0; i < 20000; i++)
		buf_printf(&big, "line %d\n", i);
	struct process_run run = shell(argv, "cat", &c);
	run.input = buf_str(&big);
	assert_int_equal(process_run(&run, &e), OK);
	assert_int_equal(c.line_count, 20000);
	assert_true(str_eq(buf_str(&c.text), buf_str(&big)));
	buf_done(&c.text);
	/* one that never reads it is no trouble */
	run = shell(argv, "exit 0", &c);
	run.input = buf_str(&big);
	assert_int_equal(process_run(&run, &e), OK);
	buf_done(&c.text);
	buf_done(&big);
}

static void test_exec_failure_is_an_error(void **state)
{
	const char *argv[] = { "holdfast-no-such-program", NULL };
	struct process_options options = {
		.argv = argv, .envp = env, .fd_stdin = -1, .fd_stdout = -1, .fd_stderr = -1
	};
	struct err e = { 0 };
	pid_t pid = 0;
	(void)state;
	size_t before = fd_count();
	assert_int_equal(process_spawn(&options, &pid, &e), ERR_NOT_FOUND);
	assert_non_null(strstr(e.message, "holdfast-no-such-program"));
	argv[0] = "/etc/passwd";
	assert_int_equal(process_spawn(&options, &pid, &e), ERR_FAILED);
	assert_non_null(strstr(e.message, "Permission denied"));
	argv[0] = "true";
	options.cwd = "/no/such/folder";
	assert_int_equal(process_spawn(&options, &pid, &e), ERR_NOT_FOUND);
	assert_non_null(strstr(e.message, "/no/such/folder"));
	assert_int_equal(pid, 0);
	assert_int_equal(fd_count(), before);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static void test_child_inherits_nothing(void **state)
{
	struct collected c = { 0 };
	struct err e;
	sigset_t mask, old;
	(void)state;
	int leak = open("/dev/null", O_RDONLY); /* without O_CLOEXEC */
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR1);
	sigprocmask(SIG_BLOCK, &mask, &old);
	assert_int_equal(run_shell("ls /proc/$$/fd | tr '\\n' ' '; echo; umask;"
				   "exec grep -E 'SigBlk|SigIgn|NoNewPrivs' /proc/self/status",
				   &c, &e),
			 OK);
	sigprocmask(SIG_SETMASK, &old, NULL);
	close(leak);
	assert_non_null(strstr(buf_cstr(&c.text), "0 1 2 \n0022\n"));
	assert_non_null(strstr(buf_cstr(&c.text), "SigBlk:\t0000000000000000"));
	assert_non_null(strstr(buf_cstr(&c.text), "SigIgn:\t0000000000000000"));
	assert_non_null(strstr(buf_cstr(&c.text), "NoNewPrivs:\t1"));
	buf_done(&c.text);
}

static void test_deadline_and_cancel_kill_all(void **state)
{
	struct collected c = { 0 };
	const char *argv[4];
	struct err e;
	(void)state;
	/* one in the group, one in a session of its own; both ignore SIGTERM */
	const char *staying = "trap '' TERM; sleep 1000 & echo $!;"
			      "setsid sh -c 'trap \"\" TERM; echo $$; echo go; sleep 1000; true' &"
			      "wait";
	/* one that left its parent at once as well is found only where we may make a cgroup */
	const char *leaving =
		"trap '' TERM; sleep 1000 & echo $!;"
		"(setsid sh -c 'trap \"\" TERM; echo $$; echo go; sleep 1000; true' &);"
		"wait";
	struct process_scope *scope = process_scope_new(0, false);
	process_scope_contain(scope);
	const char *script = process_scope_procs_fd(scope) >= 0 ? leaving : staying;
	process_scope_free(scope);
	size_t before = fd_count();
	c.cancel_at = "go";
	assert_int_equal(run_shell(script, &c, &e), ERR_CANCELLED);
	char *rest;
	pid_t first = (pid_t)strtol(buf_cstr(&c.text), &rest, 10);
	pid_t second = (pid_t)strtol(rest, NULL, 10);
	assert_true(first > 1 && second > 1);
	wait_gone(first);
	wait_gone(second);
	buf_done(&c.text);
	c = (struct collected){ 0 };
	struct process_run run = shell(argv, "trap '' TERM; while :; do sleep 1; done", &c);
	run.time_ms_max = 200;
	assert_int_equal(process_run(&run, &e), ERR_TIMEOUT);
	assert_non_null(strstr(e.message, "200ms"));
	buf_done(&c.text);
	assert_int_equal(fd_count(), before);
}

/* As on a machine that lets us make no cgroup: a look is what finds one that went away later. */
static void test_scope_without_a_cgroup(void **state)
{
	const char *argv[] = { "sh", "-c",
			       "sh -c 'setsid sh -c \"echo \\$\\$; exec sleep 1000\" & wait' &"
			       "wait",
			       NULL };
	struct process_scope *scope = process_scope_new(1 << 30, false);
	struct err e = { 0 };
	char line[32] = "";
	int64_t bytes = 0;
	pid_t pid;
	int fds[2];
	(void)state;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	struct process_options options = { .argv = argv,
					   .envp = env,
					   .fd_stdin = -1,
					   .fd_stdout = fds[1],
					   .fd_stderr = -1,
					   .scope = scope };
	assert_int_equal(process_spawn(&options, &pid, &e), OK);
	assert_true(read(fds[0], line, sizeof(line) - 1) > 1);
	pid_t away = (pid_t)strtol(line, NULL, 10);
	assert_true(is_alive(away));
	assert_false(process_scope_over_memory(scope, &bytes));
	assert_true(bytes > 100 * 1000);
	kill(pid, SIGKILL);
	process_scope_kill(scope);
	process_reap(pid);
	wait_gone(away);
	process_scope_free(scope);
	close(fds[0]);
	close(fds[1]);
}

static void test_background_work_does_not_hold_the_run(void **state)
{
	struct collected c = { 0 };
	struct err e;
	(void)state;
	/* the sleeper holds the pipe open */
	assert_int_equal(run_shell("sleep 1000 & echo $!; exit 0", &c, &e), OK);
	wait_gone((pid_t)strtol(buf_cstr(&c.text), NULL, 10));
	buf_done(&c.text);
}

static void test_memory_cap(void **state)
{
	struct collected c = { 0 };
	const char *argv[4];
	struct err e = { 0 };
	(void)state;
	/* three of 60 MB each are over the cap, one is not */
	const char *hog = "h() { head -c 60000000 /dev/zero | tail -c 60000000 | "
			  "{ sleep 3; cat >/dev/null; }; }; ";
	char script[512];
	snprintf(script, sizeof(script), "%s h & h & h & wait; echo survived", hog);
	struct process_run run = shell(argv, script, &c);
	run.process.memory_bytes_max = 100 << 20;
	assert_int_equal(process_run(&run, &e), ERR_FAILED);
	assert_non_null(strstr(e.message, "out of memory"));
	assert_int_equal(c.line_count, 0);
	buf_done(&c.text);
}

static void test_node_within_its_cap(void **state)
{
	struct collected c = { 0 };
	const char *argv[4];
	struct err e = { 0 };
	(void)state;
	if (access("/usr/bin/node", X_OK) < 0 && access("/usr/local/bin/node", X_OK) < 0)
		skip();
	struct process_run run = shell(argv, "exec node -e 'console.log(6*7)'", &c);
	run.process.memory_bytes_max = 200 << 20;
	assert_int_equal(process_run(&run, &e), OK);
	assert_string_equal(buf_cstr(&c.text), "42\n");
	buf_done(&c.text);
	run = shell(argv,
		    "exec node --max-old-space-size=4000 -e 'const a=[];for(;;)"
		    "a.push(Buffer.alloc(1<<20,1))'",
		    &c);
	run.process.memory_bytes_max = 200 << 20;
	assert_int_equal(process_run(&run, &e), ERR_FAILED);
	assert_non_null(strstr(e.message, "out of memory"));
	buf_done(&c.text);
}

static void test_drop_to_user(void **state)
{
	struct collected c = { 0 };
	const char *argv[4];
	struct err e = { 0 };
	struct process_user user;
	(void)state;
	assert_int_equal(process_user_find("no-such-account", &user, &e), ERR_NOT_FOUND);
	assert_int_equal(process_user_find(NULL, &user, &e), OK);
	if (geteuid() != 0) {
		assert_false(user.drop);
		skip();
	}
	assert_true(user.drop);
	assert_int_equal(process_user_find("nobody", &user, &e), OK);
	struct process_run run = shell(argv, "id -u; id -G; id -ru; cat /etc/shadow", &c);
	run.process.user = user;
	run.process.cwd = "/";
	assert_int_equal(process_run(&run, &e), ERR_FAILED);
	assert_non_null(strstr(buf_cstr(&c.text), "65534\n65534\n65534\n"));
	buf_done(&c.text);
}

static void test_kill_group(void **state)
{
	const char *argv[] = { "sh", "-c",
			       "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done", NULL };
	struct err e = { 0 };
	int fds[2], status = 0;
	char up[3];
	pid_t pid;
	(void)state;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	struct process_options options = {
		.argv = argv, .envp = env, .fd_stdin = -1, .fd_stdout = fds[1], .fd_stderr = -1
	};
	assert_int_equal(process_spawn(&options, &pid, &e), OK);
	assert_int_equal(read(fds[0], up, sizeof(up)), sizeof(up));
	process_kill_group(pid, 10000, &status);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
	argv[2] = "trap '' TERM; echo up; while :; do sleep 0.05; done";
	assert_int_equal(process_spawn(&options, &pid, &e), OK);
	assert_int_equal(read(fds[0], up, sizeof(up)), sizeof(up));
	process_kill_group(pid, 100, &status);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	close(fds[0]);
	close(fds[1]);
}

static void *spawn_often(void *ctx)
{
	const char *argv[] = { "true", NULL };
	struct process_run run = { .process = { .argv = argv, .envp = env, .fd_stdin = -1 } };
	size_t *failures = ctx;
	struct err e;
	for (int i = 0; i < 50; i++)
		*failures += process_run(&run, &e) != OK;
	return NULL;
}

static void test_threads_spawn_at_once(void **state)
{
	pthread_t threads[4];
	size_t failures[4] = { 0 }, before = fd_count();
	(void)state;
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, spawn_often, &failures[i]);
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(failures[i], 0);
	}
	assert_int_equal(fd_count(), before);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void test_signal_names(void **state)
{
	char text[PROCESS_STATUS_TEXT_SIZE];
	(void)state;
	assert_int_equal(process_signal_of_name(STR("SIGUSR2")), SIGUSR2);
	assert_int_equal(process_signal_of_name(STR("TERM")), SIGTERM);
	assert_int_equal(process_signal_of_name(STR("SIGNOPE")), 0);
	assert_int_equal(process_signal_of_name(STR("")), 0);
	assert_string_equal(process_status_text(3 << 8, text), "exit status 3");
	assert_string_equal(process_status_text(9, text), "signal 9 (Killed)");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_output_and_status),
		cmocka_unit_test(test_long_lines_come_in_pieces),
		cmocka_unit_test(test_input),
		cmocka_unit_test(test_exec_failure_is_an_error),
		cmocka_unit_test(test_child_inherits_nothing),
		cmocka_unit_test(test_deadline_and_cancel_kill_all),
		cmocka_unit_test(test_scope_without_a_cgroup),
		cmocka_unit_test(test_background_work_does_not_hold_the_run),
		cmocka_unit_test(test_memory_cap),
		cmocka_unit_test(test_node_within_its_cap),
		cmocka_unit_test(test_drop_to_user),
		cmocka_unit_test(test_kill_group),
		cmocka_unit_test(test_threads_spawn_at_once),
		cmocka_unit_test(test_signal_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
