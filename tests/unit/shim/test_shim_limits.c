/* Limits and secrets: memory, much output, too many clients, who may read what. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/checks.h"
#include "os/clock.h"
#include "os/io.h"
#include "shim_support.h"

enum { SPEW_LINE_COUNT = 450 * 1000 };

/* As the application: numbered lines of 100 bytes as fast as they are taken. */
static int spew(void)
{
	for (long i = 0; i < SPEW_LINE_COUNT; i++)
		printf("%09ld %089d\n", i, 0);
	return fflush(stdout);
}

static void check_spew(void *ctx, str stream, str text)
{
	long *next = ctx;
	if (str_eq_c(stream, "shim"))
		return;
	assert_int_equal(text.len, 99);
	assert_int_equal(strtol(text.ptr, NULL, 10), *next);
	(*next)++;
}

static void test_much_output_stays_whole_over_rotation(void **state)
{
	char self[256] = "";
	struct instance *x = instance_new("");
	struct err e = { 0 };
	long next = 0;
	(void)state;
	assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	x->argv[0] = self;
	x->argv[1] = "spew";
	x->argv[2] = NULL;
	x->spec.restart = SHIM_RESTART_NEVER;
	int64_t began = clock_mono_ms();
	instance_start(x);
	assert_int_equal(shim_wait_final(x->socket, 100000, &x->status, &e), OK);
	int64_t ms = clock_mono_ms() - began + 1;
	print_message("%lld MB/s\n", (long long)SPEW_LINE_COUNT * 100 / 1000 / ms);
	assert_int_equal(x->status.state, SHIM_STOPPED);
	assert_int_equal(x->status.dropped_lines, 0);
	assert_int_equal(x->status.last_line_count, SHIM_LAST_LINE_COUNT);
	char path[256];
	snprintf(path, sizeof(path), "%s/output.ndjson.2", x->folder);
	assert_int_equal(access(path, F_OK), 0);
	instance_output(x, check_spew, &next);
	assert_int_equal(next, SPEW_LINE_COUNT);
	instance_free(x);
}

static void count_lines(void *ctx, str stream, str text)
{
	(void)stream;
	(void)text;
	(*(long *)ctx)++;
}

static void test_binary_output(void **state)
{
	struct instance *x = instance_new("head -c 3000000 /dev/urandom; echo; echo last");
	struct err e = { 0 };
	long count = 0;
	(void)state;
	x->spec.restart = SHIM_RESTART_NEVER;
	instance_start(x);
	assert_int_equal(shim_wait_final(x->socket, 60000, &x->status, &e), OK);
	/* each line is checked to be valid JSON, so valid UTF-8 */
	instance_output(x, count_lines, &count);
	assert_true(count > 1000);
	assert_int_equal(shim_status(x->client, &x->status, &e), OK);
	assert_string_equal(x->status.last_lines[SHIM_LAST_LINE_COUNT - 2], "last");
	instance_free(x);
}

static bool killed_for_memory(const struct shim_status *status)
{
	return strstr(status->exit, "more memory") != NULL;
}

static void test_node_over_its_memory_cap(void **state)
{
	if (access("/usr/bin/node", X_OK) < 0 && access("/usr/local/bin/node", X_OK) < 0)
		skip();
	struct instance *x = instance_new("exec node -e 'const a=[];setInterval(()=>"
					  "a.push(Buffer.alloc(16<<20,1)),20)'");
	(void)state;
	x->spec.memory_bytes_max = 200 << 20;
	instance_start(x);
	instance_await(x, killed_for_memory);
	assert_non_null(strstr(x->status.exit, "200 MiB"));
	instance_stop(x);
	instance_free(x);
}

/* Whether any file of process PID named FILE holds TEXT. */
static bool proc_holds(pid_t pid, const char *file, const char *text)
{
	char path[64];
	struct buf bytes = buf_init(1 << 20);
	struct err e;
	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	bool found = io_read_file(path, &bytes, &e) == OK &&
		     str_find(buf_str(&bytes), str_c(text)) >= 0;
	buf_done(&bytes);
	return found;
}

static pid_t parent_of(pid_t pid)
{
	char path[64];
	int parent = 0;
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	FILE *f = fopen(path, "r");
	if (f && fscanf(f, "%*d (%*[^)]) %*c %d", &parent) != 1)
		parent = 0;
	if (f)
		fclose(f);
	return parent;
}

static void check_no_secret(void *ctx, str stream, str text)
{
	(void)stream;
	(*(int *)ctx)++;
	assert_true(str_find(text, STR("s3cr3t-0123456789")) < 0);
}

static void test_secrets_stay_in_memory(void **state)
{
	struct instance *x = instance_new("echo length=${#TOKEN}; sleep 1000");
	int line_count = 0;
	(void)state;
	x->envp[1] = "TOKEN=s3cr3t-0123456789";
	instance_start(x);
	assert_int_equal(instance_number(x, "length="), 17);
	pid_t guard = parent_of(x->shim_pid);
	pid_t pids[] = { x->shim_pid, guard, x->status.pid };
	assert_true(guard > 1);
	for (size_t i = 0; i < ARRAY_COUNT(pids); i++)
		assert_false(proc_holds(pids[i], "cmdline", "s3cr3t"));
	assert_false(proc_holds(x->shim_pid, "environ", "s3cr3t"));
	assert_false(proc_holds(guard, "environ", "s3cr3t"));
	static const char title[] = "holdfast\0shim\0web-1";
	struct buf command = buf_init(4096);
	struct err e;
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)x->shim_pid);
	assert_int_equal(io_read_file(path, &command, &e), OK);
	assert_true(str_eq(buf_str(&command), (str){ title, sizeof(title) }));
	buf_done(&command);
	assert_true(proc_holds(x->shim_pid, "comm", "shim web-1"));
	if (geteuid() == 0)
		assert_true(proc_holds(x->status.pid, "environ", "s3cr3t"));
	instance_output(x, check_no_secret, &line_count);
	assert_true(line_count >= 2);
	kill(x->shim_pid, SIGKILL);
	await_gone(guard);
	instance_free(x);
}

static void test_ordinary_user(void **state)
{
	if (geteuid() != 0)
		skip();
	struct instance *x = instance_new("echo ids=$(id -u):$(id -g):$(id -G);"
					  "cat output.ndjson; exit 0");
	struct err e = { 0 };
	(void)state;
	assert_int_equal(process_user_find("nobody", &x->spec.user, &e), OK);
	x->spec.restart = SHIM_RESTART_NEVER;
	instance_start(x);
	assert_int_equal(shim_wait_final(x->socket, 20000, &x->status, &e), OK);
	instance_await_line(x, "ids=65534:65534:65534");
	instance_free(x);
}

static int raw_connect(const struct instance *x)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", x->socket);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

/* Send TEXT and read up to the end of a line or of the connection. */
static void exchange(int fd, str text, char *answer, size_t size)
{
	size_t len = 0;
	if (text.len)
		assert_int_equal(send(fd, text.ptr, text.len, MSG_NOSIGNAL), text.len);
	while (len + 1 < size && !(len && answer[len - 1] == '\n')) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		assert_int_equal(poll(&p, 1, 20000), 1);
		ssize_t n = recv(fd, answer + len, size - 1 - len, 0);
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	answer[len] = '\0';
}

static void test_bad_commands(void **state)
{
	static const struct {
		const char *command, *wanted;
	} cases[] = {
		{ "hello\n", "\"invalid\"" },
		{ "{}\n", "\\\"do\\\"" },
		{ "{\"do\":\"statsu\"}\n", "did you mean status" },
		{ "{\"do\":\"stop\",\"timeout_ms\":-1}\n", "timeout_ms" },
		{ "{\"do\":\"signal\",\"signal\":\"SIGNOPE\"}\n", "no such signal" },
		{ "{\"do\":\"status\"}\n", "\"running\"" },
	};
	struct instance *x = instance_new("echo up; sleep 1000");
	char answer[8192];
	(void)state;
	instance_start(x);
	instance_await_line(x, "up");
	int fd = raw_connect(x);
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		exchange(fd, str_c(cases[i].command), answer, sizeof(answer));
		if (!strstr(answer, cases[i].wanted))
			fail_msg("%s gave %s", cases[i].command, answer);
	}
	char long_line[4096];
	memset(long_line, 'x', sizeof(long_line));
	exchange(fd, (str){ long_line, sizeof(long_line) }, answer, sizeof(answer));
	assert_non_null(strstr(answer, "longer than 4096 bytes"));
	assert_int_equal(recv(fd, answer, 1, 0), 0);
	close(fd);
	instance_free(x);
}

static void test_too_many_clients(void **state)
{
	struct instance *x = instance_new("echo up; sleep 1000");
	char answer[8192];
	int fds[15];
	(void)state;
	instance_start(x);
	instance_await_line(x, "up");
	for (size_t i = 0; i < ARRAY_COUNT(fds); i++) {
		fds[i] = raw_connect(x);
		exchange(fds[i], STR("{\"do\":\"watch\"}\n"), answer, sizeof(answer));
		assert_non_null(strstr(answer, "running"));
	}
	int extra = raw_connect(x);
	exchange(extra, STR(""), answer, sizeof(answer));
	assert_non_null(strstr(answer, "\"busy\""));
	close(extra);
	for (size_t i = 0; i < ARRAY_COUNT(fds); i++)
		close(fds[i]);
	instance_await_line(x, "up");
	/* one that asks and asks and never reads is cut, the others are served */
	int deaf = raw_connect(x);
	for (int i = 0; i < 100000; i++)
		if (send(deaf, "{\"do\":\"status\"}\n", 16, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			break;
	instance_await_line(x, "up");
	close(deaf);
	instance_stop(x);
	instance_free(x);
}

static void test_small(void **state)
{
	struct instance *x = instance_new("echo up; sleep 1000");
	char path[64], line[256];
	(void)state;
	instance_start(x);
	instance_await_line(x, "up");
	pid_t pids[] = { x->shim_pid, parent_of(x->shim_pid) };
	for (size_t i = 0; i < ARRAY_COUNT(pids); i++) {
		snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pids[i]);
		FILE *f = fopen(path, "r");
		while (f && fgets(line, sizeof(line), f))
			if (strncmp(line, "Rss:", 4) == 0 || strncmp(line, "Pss:", 4) == 0 ||
			    strncmp(line, "Private_Dirty:", 14) == 0)
				print_message("%s %s", i ? "guard" : "shim", line);
		if (f)
			fclose(f);
	}
	instance_free(x);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_much_output_stays_whole_over_rotation),
		cmocka_unit_test(test_binary_output),
		cmocka_unit_test(test_node_over_its_memory_cap),
		cmocka_unit_test(test_secrets_stay_in_memory),
		cmocka_unit_test(test_ordinary_user),
		cmocka_unit_test(test_bad_commands),
		cmocka_unit_test(test_too_many_clients),
		cmocka_unit_test(test_small),
	};
	if (argc > 1 && strcmp(argv[1], "spew") == 0)
		return spew();
	shim_support_main(argc, argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
