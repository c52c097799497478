/* HAProxy's Runtime API against the real one, and the parsers against broken text. */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/haproxy.h"
#include "os/clock.h"
#include "os/io.h"

static char dir[64], socket_path[96];
static pid_t pid;
static struct haproxy haproxy = { .socket_path = socket_path };

static int setup(void **state)
{
	struct err e;
	struct haproxy_info info;
	char config_path[96];
	struct buf config = buf_init(4096);
	(void)state;
	if (access("/usr/sbin/haproxy", X_OK) != 0) {
		print_message("haproxy is not installed\n");
		return -1;
	}
	snprintf(dir, sizeof(dir), "/tmp/holdfast-haproxy-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(socket_path, sizeof(socket_path), "%s/admin.sock", dir);
	snprintf(config_path, sizeof(config_path), "%s/haproxy.cfg", dir);
	buf_printf(&config,
		   "global\n  stats socket %s mode 600 level admin\n  maxconn 100\n"
		   "defaults\n  mode http\n  timeout connect 1s\n  timeout client 1s\n"
		   "  timeout server 1s\n"
		   "frontend web\n  bind unix@%s/web.sock\n  default_backend app\n"
		   "backend app\n  balance roundrobin\n  server blue 127.0.0.1:9 weight 10\n"
		   "  server green 127.0.0.1:9 weight 0 disabled\n",
		   socket_path, dir);
	if (io_write_file(config_path, buf_str(&config), 0600, &e) != OK)
		return -1;
	buf_done(&config);
	pid = fork();
	if (pid == 0) {
		execl("/usr/sbin/haproxy", "haproxy", "-db", "-q", "-f", config_path, NULL);
		_exit(127);
	}
	for (int i = 0; i < 2000; i++) {
		if (haproxy_show_info(&haproxy, &info, &e) == OK)
			return 0;
		clock_sleep_ms(5);
	}
	print_message("%s\n", e.message);
	return -1;
}

static int teardown(void **state)
{
	struct err e;
	(void)state;
	kill(pid, SIGTERM);
	waitpid(pid, NULL, 0);
	return io_remove_tree(dir, &e) == OK ? 0 : -1;
}

static struct haproxy_stat stat_of(const char *server)
{
	struct haproxy_stat *stats, copy;
	size_t count;
	struct err e = { 0 };
	static struct arena query;
	arena_done(&query);
	query = arena_init(1 << 20);
	if (haproxy_show_stat(&haproxy, "app", server, &query, &stats, &count, &e) != OK)
		fail_msg("%s", e.message);
	assert_int_equal(count, 1);
	copy = stats[0];
	return copy;
}

static void expect_failure(const char *command, errc code, const char *contains)
{
	struct err e = { 0 };
	errc rc = haproxy_change(&haproxy, str_c(command), &e);
	if (rc != code || !strstr(e.message, contains))
		fail_msg("%s: wanted %s with '%s', got %s: %s", command, errc_name(code), contains,
			 errc_name(rc), e.message);
}

static void expect_change(const char *command)
{
	struct err e = { 0 };
	if (haproxy_change(&haproxy, str_c(command), &e) != OK)
		fail_msg("%s", e.message);
}

static void test_info_and_stat(void **state)
{
	struct haproxy_info info;
	struct err e;
	(void)state;
	assert_int_equal(haproxy_show_info(&haproxy, &info, &e), OK);
	assert_memory_equal(info.version, "2.", 2);
	assert_int_equal(info.pid, pid);
	assert_int_equal(info.max_conn, 100);
	struct haproxy_stat s = stat_of("blue");
	assert_int_equal(s.type, HAPROXY_SERVER);
	assert_true(str_eq_c(s.status, "no check"));
	assert_true(str_eq_c(s.addr, "127.0.0.1:9"));
	assert_int_equal(s.weight, 10);
	assert_true(str_eq_c(stat_of("green").status, "MAINT"));
	assert_int_equal(stat_of("BACKEND").type, HAPROXY_BACKEND);
}

static void test_changes(void **state)
{
	struct err e;
	struct buf reply = buf_init(1 << 20);
	struct arena query = arena_init(1 << 20);
	struct haproxy_server_conn *servers;
	size_t count;
	(void)state;
	/* one write, several commands: the switch of a deploy */
	expect_change("set server app/green state ready; set weight app/green 100; set weight "
		      "app/blue 0; set server app/blue state drain");
	assert_true(str_starts(stat_of("blue").status, STR("DRAIN")));
	assert_int_equal(stat_of("green").weight, 100);
	assert_true(str_eq_c(stat_of("green").status, "no check"));
	expect_change("set server app/green addr 127.0.0.1 port 10");
	assert_true(str_eq_c(stat_of("green").addr, "127.0.0.1:10"));
	expect_change("add server app/violet 127.0.0.1:11 weight 1");
	expect_failure("add server app/violet 127.0.0.1:11", ERR_CONFLICT, "lready exists");
	expect_change("set server app/violet state maint");
	assert_int_equal(haproxy_show_servers_conn(&haproxy, "app", &query, &servers, &count, &e),
			 OK);
	assert_int_equal(count, 3);
	assert_true(str_eq_c(servers[2].server, "violet"));
	assert_int_equal(servers[2].port, 11);
	expect_change("del server app/violet");
	expect_failure("del server app/blue", ERR_CONFLICT, "HAProxy: del server app/blue");
	expect_failure("del server app/violet", ERR_NOT_FOUND, "violet");
	expect_failure("set server app/none state ready", ERR_NOT_FOUND, "No such server");
	expect_failure("set server app/blue state rady", ERR_INVALID, "");
	expect_failure("set server app/green state ready; set weight app/none 1", ERR_NOT_FOUND,
		       "No such server");
	expect_failure("nonsense", ERR_INVALID, "Unknown command");
	expect_failure("", ERR_INVALID, "on one line");
	expect_failure("show info\nshow stat", ERR_INVALID, "on one line");
	assert_int_equal(haproxy_show_servers_conn(&haproxy, "none", &query, &servers, &count, &e),
			 ERR_NOT_FOUND);
	assert_int_equal(haproxy_command(&haproxy, STR("show info; show stat"), &reply, &e), OK);
	assert_non_null(strstr(buf_cstr(&reply), "Uptime_sec"));
	assert_non_null(strstr(buf_cstr(&reply), "# pxname"));
	buf_done(&reply);
	arena_done(&query);
}

static void test_nobody_there(void **state)
{
	struct err e;
	struct haproxy_info info;
	struct haproxy none = { .socket_path = "/tmp/no-such-socket" };
	(void)state;
	assert_int_equal(haproxy_show_info(&none, &info, &e), ERR_UNAVAILABLE);
	assert_non_null(strstr(e.message, "/tmp/no-such-socket"));
}

static errc parse(const char *csv, size_t *ret_count, struct haproxy_stat *ret_first)
{
	struct arena query = arena_init(1 << 20);
	struct haproxy_stat *stats;
	struct err e;
	errc rc = haproxy_stat_parse(str_c(csv), &query, &stats, ret_count, &e);
	if (rc == OK && *ret_count && ret_first) {
		*ret_first = stats[0];
		/* only numbers outlive the arena here */
		assert_true(str_eq_c(stats[0].last_chk, "a, \"b\"\nc"));
	}
	arena_done(&query);
	return rc;
}

static void test_parser(void **state)
{
	size_t count = 0;
	struct haproxy_stat first = { 0 };
	(void)state;
	/* columns moved, unknown ones, quotes, a negative number, too few fields, too many */
	assert_int_equal(
		parse("# type,new,svname,pxname,status,qcur,last_chk,\n"
		      "2,x,s1,be,UP,-1,\"a, \"\"b\"\"\nc\",\n2,,s2,be\n2,,s3,be,UP,7,,,,,\n",
		      &count, &first),
		OK);
	assert_int_equal(count, 3);
	assert_int_equal(first.qcur, 0);
	assert_int_equal(parse("", &count, NULL), ERR_CORRUPT);
	assert_int_equal(parse("Permission denied\n", &count, NULL), ERR_CORRUPT);
	assert_int_equal(parse("# pxname,svname,status\n", &count, NULL), ERR_CORRUPT);
	assert_int_equal(parse("# pxname,svname,status,type\na,b,UP,9\n", &count, NULL),
			 ERR_CORRUPT);
	assert_int_equal(parse("# pxname,svname,status,type\na,\"b", &count, NULL), ERR_CORRUPT);
	assert_int_equal(parse("# pxname,svname,status,type\na,\"b\"c,UP,2\n", &count, NULL),
			 ERR_CORRUPT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_info_and_stat),
		cmocka_unit_test(test_changes),
		cmocka_unit_test(test_nobody_there),
		cmocka_unit_test(test_parser),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
