/* What a user relies on: instances start, are restarted, stop, and outlive whoever started them. */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/checks.h"
#include "codec/json.h"
#include "os/clock.h"
#include "os/io.h"
#include "shim_support.h"

static const char serve_script[] = "trap 'echo bye; exit 0' TERM; trap 'echo usr2' USR2;"
				   "trap 'echo hup' HUP; echo pid=$$;"
				   "while :; do sleep 0.05; done";

static void test_start_stop_exit(void **state)
{
	struct instance *x = instance_new(serve_script);
	struct err e = { 0 };
	struct stat st;
	(void)state;
	x->spec.drain_signal = "SIGHUP";
	instance_start(x);
	long pid = instance_number(x, "pid=");
	assert_int_equal(x->status.pid, pid);
	assert_int_equal(x->status.shim_pid, x->shim_pid);
	assert_int_equal(x->status.state, SHIM_RUNNING);
	assert_string_equal(x->status.id, "web-1");
	assert_string_equal(x->status.exit, "");
	assert_int_equal(stat(x->socket, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(stat(x->folder, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	assert_int_equal(shim_signal(x->client, "SIGUSR2", &e), OK);
	instance_await_line(x, "usr2");
	assert_int_equal(shim_drain(x->client, &e), OK);
	instance_await_line(x, "hup");
	assert_int_equal(shim_signal(x->client, "SIGNOPE", &e), ERR_INVALID);
	assert_int_equal(shim_exit(x->client, &e), ERR_CONFLICT);
	instance_stop(x);
	assert_int_equal(x->status.state, SHIM_STOPPED);
	assert_string_equal(x->status.exit, "exit status 0");
	assert_int_equal(x->status.pid, 0);
	assert_false(process_is_alive((pid_t)pid));
	instance_await_line(x, "bye");
	assert_int_equal(shim_signal(x->client, "SIGUSR2", &e), ERR_CONFLICT);
	assert_int_equal(shim_restart(x->client, &e), OK);
	instance_await_line(x, "started process");
	assert_int_not_equal(instance_number(x, "pid="), 0);
	instance_stop(x);
	assert_int_equal(x->status.restarts, 1);
	assert_int_equal(shim_exit(x->client, &e), OK);
	await_gone(x->shim_pid);
	assert_int_equal(access(x->socket, F_OK), -1);
	struct shim_client *client;
	assert_int_equal(shim_connect(x->socket, &client, &e), ERR_NOT_FOUND);
	instance_free(x);
}

static void test_starting_twice_is_refused(void **state)
{
	struct instance *x = instance_new(serve_script);
	struct err e = { 0 };
	pid_t other = 0;
	(void)state;
	instance_start(x);
	assert_int_equal(shim_start(&x->spec, "/proc/self/exe", &other, &e), ERR_CONFLICT);
	assert_non_null(strstr(e.message, "already"));
	x->spec.folder = x->root;
	assert_int_equal(shim_start(&x->spec, "/proc/self/exe", &other, &e), ERR_CONFLICT);
	assert_int_equal(shim_start(&x->spec, "/bin/true", &other, &e), ERR_FAILED);
	x->spec.id = "Not/A/Name";
	assert_int_equal(shim_start(&x->spec, "/proc/self/exe", &other, &e), ERR_INVALID);
	instance_stop(x);
	instance_free(x);
}

static bool restarted_often(const struct shim_status *status)
{
	return status->restarts >= 4;
}

struct loop_times {
	int up_count;
	int start_count;
};

static void count_ups(void *ctx, str stream, str text)
{
	struct loop_times *times = ctx;
	times->up_count += str_eq_c(stream, "out") && str_eq_c(text, "up");
	times->start_count += str_eq_c(stream, "shim") && str_starts(text, STR("started process"));
}

static void test_crash_loop_backs_off(void **state)
{
	struct instance *x = instance_new("echo up; exit 3");
	struct loop_times times = { 0 };
	(void)state;
	x->spec.restart_backoff_max_ms = 300;
	int64_t began = clock_mono_ms();
	instance_start(x);
	instance_await(x, restarted_often);
	/* 100 + 200 + 300 + 300 at the least */
	assert_true(clock_mono_ms() - began >= 900);
	assert_string_equal(x->status.exit, "exit status 3");
	instance_stop(x);
	assert_int_equal(x->status.state, SHIM_STOPPED);
	instance_output(x, count_ups, &times);
	assert_int_equal(times.start_count, x->status.restarts + 1);
	/* the stop may have met the last one before it could say so */
	assert_true(times.up_count == times.start_count || times.up_count == times.start_count - 1);
	instance_free(x);
}

static void test_watch_tells_each_state(void **state)
{
	struct instance *x = instance_new("exit 3");
	struct shim_client *client;
	struct err e = { 0 };
	unsigned seen = 0;
	int fd;
	(void)state;
	x->spec.restart_backoff_max_ms = 300;
	instance_start(x);
	assert_int_equal(shim_connect(x->socket, &client, &e), OK);
	assert_int_equal(shim_watch(client, &fd, &e), OK);
	while (!(seen & 1u << SHIM_STOPPED)) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		bool any = true;
		assert_int_equal(poll(&p, 1, 20000), 1);
		while (any) {
			assert_int_equal(shim_watch_next(client, &any, &x->status, &e), OK);
			if (any)
				seen |= 1u << x->status.state;
		}
		if (x->status.restarts >= 2)
			assert_int_equal(shim_stop(x->client, -1, &e), OK);
	}
	assert_true(seen & 1u << SHIM_RUNNING);
	assert_true(seen & 1u << SHIM_BACKOFF);
	kill(x->shim_pid, SIGKILL);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	assert_int_equal(poll(&p, 1, 20000), 1);
	bool any;
	assert_int_equal(shim_watch_next(client, &any, &x->status, &e), ERR_UNAVAILABLE);
	shim_client_free(client);
	instance_free(x);
}

static void test_restart_never(void **state)
{
	static const struct {
		const char *script, *exit;
		enum shim_state state;
	} cases[] = {
		{ "exit 0", "exit status 0", SHIM_STOPPED },
		{ "exit 9", "exit status 9", SHIM_FAILED },
		{ "kill -11 $$", "signal 11 (Segmentation fault)", SHIM_FAILED },
	};
	struct err e = { 0 };
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct instance *x = instance_new(cases[i].script);
		x->spec.restart = SHIM_RESTART_NEVER;
		instance_start(x);
		assert_int_equal(shim_wait_final(x->socket, 20000, &x->status, &e), OK);
		assert_int_equal(x->status.state, cases[i].state);
		assert_string_equal(x->status.exit, cases[i].exit);
		instance_free(x);
	}
	struct instance *x = instance_new("");
	x->argv[0] = "/no/such/program";
	x->spec.restart = SHIM_RESTART_NEVER;
	instance_start(x);
	assert_int_equal(shim_wait_final(x->socket, 20000, &x->status, &e), OK);
	assert_int_equal(x->status.state, SHIM_FAILED);
	assert_non_null(strstr(x->status.exit, "cannot run /no/such/program"));
	instance_free(x);
}

/* A leader that does not stop, a child in its group and one that went away into a session of its
 * own with its parent gone. */
static const char family_script[] =
	"trap '' TERM; sleep 1000 & echo child=$!;"
	"(setsid sh -c 'trap \"\" TERM HUP; echo away=$$; exec sleep 1000' &) ;"
	"while :; do sleep 0.05; done";

static void test_stop_deadline_kills_the_family(void **state)
{
	struct instance *x = instance_new(family_script);
	struct err e = { 0 };
	(void)state;
	instance_start(x);
	pid_t child = (pid_t)instance_number(x, "child=");
	pid_t away = (pid_t)instance_number(x, "away=");
	pid_t leader = x->status.pid;
	assert_int_equal(shim_stop(x->client, 300, &e), OK);
	assert_int_equal(shim_wait_final(x->socket, 20000, &x->status, &e), OK);
	assert_int_equal(x->status.state, SHIM_STOPPED);
	assert_non_null(strstr(x->status.exit, "signal 9 (Killed)"));
	assert_non_null(strstr(x->status.exit, "did not stop in time"));
	assert_false(process_is_alive(leader));
	assert_false(process_is_alive(child));
	assert_false(process_is_alive(away));
	instance_free(x);
}

static void test_leader_gone_takes_the_family(void **state)
{
	struct instance *x = instance_new(family_script);
	(void)state;
	x->spec.restart = SHIM_RESTART_NEVER;
	instance_start(x);
	pid_t child = (pid_t)instance_number(x, "child=");
	pid_t away = (pid_t)instance_number(x, "away=");
	struct err e = { 0 };
	kill(x->status.pid, SIGKILL);
	assert_int_equal(shim_wait_final(x->socket, 20000, &x->status, &e), OK);
	assert_int_equal(x->status.state, SHIM_FAILED);
	assert_false(process_is_alive(child));
	assert_false(process_is_alive(away));
	instance_free(x);
}

static void test_shim_killed_takes_the_family(void **state)
{
	struct instance *x = instance_new(family_script);
	(void)state;
	instance_start(x);
	pid_t child = (pid_t)instance_number(x, "child=");
	pid_t away = (pid_t)instance_number(x, "away=");
	pid_t leader = x->status.pid;
	kill(x->shim_pid, SIGKILL);
	await_gone(leader);
	await_gone(child);
	await_gone(away);
	/* and a new one can take its place in the same folder, on the same socket */
	shim_client_free(x->client);
	x->client = NULL;
	instance_start(x);
	instance_number(x, "child=");
	kill(x->shim_pid, SIGKILL);
	instance_free(x);
}

static void test_sigterm_to_the_shim_is_graceful(void **state)
{
	struct instance *x = instance_new(serve_script);
	struct loop_times times = { 0 };
	(void)state;
	instance_start(x);
	pid_t leader = (pid_t)instance_number(x, "pid=");
	kill(x->shim_pid, SIGINT);
	kill(x->shim_pid, SIGHUP);
	instance_await_line(x, "pid=");
	kill(x->shim_pid, SIGTERM);
	await_gone(x->shim_pid);
	assert_false(process_is_alive(leader));
	assert_int_equal(access(x->socket, F_OK), -1);
	instance_output(x, count_ups, &times);
	instance_free(x);
}

struct numbers {
	long next;
	long err_next;
};

static void check_numbers(void *ctx, str stream, str text)
{
	struct numbers *n = ctx;
	if (str_eq_c(stream, "shim"))
		return;
	long number = strtol(text.ptr, NULL, 10);
	long *next = str_eq_c(stream, "err") ? &n->err_next : &n->next;
	if (number != *next)
		fail_msg("line %ld came where %ld should", number, *next);
	(*next)++;
}

/* The starter, as the daemon would be, is killed while output flows. */
static void test_starter_killed_loses_nothing(void **state)
{
	struct instance *x = instance_new("seq 0 299999; sleep 0.3; seq 300000 400000;"
					  "seq 0 999 >&2; echo done >/dev/null");
	struct numbers numbers = { 0 };
	struct err e = { 0 };
	int fds[2];
	(void)state;
	x->spec.restart = SHIM_RESTART_NEVER;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid_t starter = fork();
	if (starter == 0) {
		pid_t shim_pid = 0;
		if (shim_start(&x->spec, "/proc/self/exe", &shim_pid, &e) != OK ||
		    write(fds[1], &shim_pid, sizeof(shim_pid)) < 0)
			_exit(1);
		pause();
	}
	assert_int_equal(read(fds[0], &x->shim_pid, sizeof(x->shim_pid)), sizeof(x->shim_pid));
	kill(starter, SIGKILL);
	waitpid(starter, NULL, 0);
	assert_int_equal(shim_connect(x->socket, &x->client, &e), OK);
	assert_int_equal(shim_wait_final(x->socket, 60000, &x->status, &e), OK);
	assert_int_equal(x->status.state, SHIM_STOPPED);
	assert_int_equal(x->status.dropped_lines, 0);
	instance_output(x, check_numbers, &numbers);
	assert_int_equal(numbers.next, 400001);
	assert_int_equal(numbers.err_next, 1000);
	close(fds[0]);
	close(fds[1]);
	instance_free(x);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_start_stop_exit),
		cmocka_unit_test(test_starting_twice_is_refused),
		cmocka_unit_test(test_crash_loop_backs_off),
		cmocka_unit_test(test_watch_tells_each_state),
		cmocka_unit_test(test_restart_never),
		cmocka_unit_test(test_stop_deadline_kills_the_family),
		cmocka_unit_test(test_leader_gone_takes_the_family),
		cmocka_unit_test(test_shim_killed_takes_the_family),
		cmocka_unit_test(test_sigterm_to_the_shim_is_graceful),
		cmocka_unit_test(test_starter_killed_loses_nothing),
	};
	shim_support_main(argc, argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
