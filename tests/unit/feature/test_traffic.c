/* The real HAProxy in front of small servers: what a deploy relies on. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/checks.h"
#include "catalog/releases.h"
#include "feature/traffic/traffic.h"
#include "os/clock.h"
#include "os/io.h"
#include "os/socket.h"
#include "shim/shim.h"
#include "traffic_support.h"

enum { WAIT_MS = 30000 };

struct fixture {
	char data[64];
	int listen;
	struct catalog *catalog;
	struct traffic *traffic;
	const struct traffic_options *options;
};

static const struct traffic_options options = { .executable = "/proc/self/exe" };

#define ok(call)                                              \
	do {                                                  \
		struct err e;                                 \
		if ((call) != OK)                             \
			fail_msg("%s: %s", #call, e.message); \
	} while (0)

static int setup(void **state)
{
	struct fixture *f = must_calloc(1, sizeof(*f));
	snprintf(f->data, sizeof(f->data), "/tmp/hf-traffic-XXXXXX");
	assert_non_null(mkdtemp(f->data));
	f->listen = support_free_port();
	ok(catalog_open(f->data, &f->catalog, &e));
	ok(traffic_start(f->catalog, &options, &f->traffic, &e));
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	traffic_stop(f->traffic);
	ok(traffic_shutdown_proxy(f->data, options.executable, &e));
	catalog_close(f->catalog);
	ok(io_remove_tree(f->data, &e));
	free(f);
	return 0;
}

/* A release of shop in ENVIRONMENT that listens on LISTEN. */
static int64_t put_release_at(struct fixture *f, const char *environment, int listen)
{
	char text[1024];
	struct release r = { .app = "shop", .colour = "blue", .actor = "test", .operation = "op" };
	snprintf(text, sizeof(text),
		 "app: shop\n"
		 "services:\n"
		 "  web:\n"
		 "    command: [node, x.js]\n"
		 "    instances: 2\n"
		 "    traffic: true\n"
		 "    ready: /ready\n"
		 "    ready_interval: 200ms\n"
		 "deploy:\n"
		 "  close_spread: 200ms\n"
		 "environments:\n"
		 "  %s:\n"
		 "    listen: 127.0.0.1:%d\n",
		 environment, listen);
	snprintf(r.environment, sizeof(r.environment), "%s", environment);
	snprintf(r.artifact, sizeof(r.artifact), "sha256:%064d", 0);
	r.specification = text;
	ok(releases_put(f->catalog, &r, &e));
	return r.number;
}

static void put_instance(struct fixture *f, const char *environment, int64_t release, int ordinal,
			 int port, char id[INSTANCE_ID_SIZE])
{
	struct instance i = { .app = "shop",
			      .service = "web",
			      .release = release,
			      .ordinal = ordinal,
			      .colour = "blue",
			      .in_proxy = true,
			      .port = port,
			      .weight = 100 };
	snprintf(i.environment, sizeof(i.environment), "%s", environment);
	instance_set_id(&i);
	ok(instances_put(f->catalog, &i, &e));
	memcpy(id, i.id, INSTANCE_ID_SIZE);
}

/* Two instances of a release, with servers. */
struct colour {
	int64_t release;
	char ids[2][INSTANCE_ID_SIZE];
	struct server *servers[2];
};

static void colour_start(struct fixture *f, struct colour *c, const char *name, bool ready)
{
	c->release = put_release_at(f, "production", f->listen);
	for (int i = 0; i < 2; i++) {
		int port;
		ok(instances_pick_port(f->catalog, &port, &e));
		c->servers[i] = server_start(name, port, ready);
		put_instance(f, "production", c->release, i, port, c->ids[i]);
	}
}

static void colour_end(struct colour *c)
{
	server_free(c->servers[0]);
	server_free(c->servers[1]);
}

static void set_traffic(struct fixture *f, const struct colour *c, enum instance_traffic traffic)
{
	struct instance_traffic_change changes[2] = { { c->ids[0], traffic, 100 },
						      { c->ids[1], traffic, 100 } };
	ok(instances_set_traffic(f->catalog, changes, 2, &e));
}

static void swap(struct fixture *f, const struct colour *in, const struct colour *out,
		 enum instance_traffic former)
{
	struct instance_traffic_change changes[4] = { { in->ids[0], TRAFFIC_ACTIVE, 100 },
						      { in->ids[1], TRAFFIC_ACTIVE, 100 },
						      { out->ids[0], former, 100 },
						      { out->ids[1], former, 100 } };
	ok(instances_set_traffic(f->catalog, changes, 4, &e));
}

static bool in_force(const struct instance *i)
{
	return i->proxy.generation == i->traffic_generation && i->proxy.observed_ms;
}

static bool is_up(const struct instance *i)
{
	return in_force(i) && i->proxy.up;
}

static bool is_down(const struct instance *i)
{
	return in_force(i) && !i->proxy.up && strstr(i->proxy.check, "503");
}

static bool is_idle(const struct instance *i)
{
	return in_force(i) && !i->proxy.in_flight;
}

static bool is_blamed(const struct instance *i)
{
	return !in_force(i) && !strncmp(i->proxy.check, "proxy: ", 7);
}

static bool has_websocket(const struct instance *i)
{
	return i->proxy.websockets > 0;
}

static bool has_request(const struct instance *i)
{
	return i->proxy.in_flight > 0;
}

static bool has_nothing(const struct instance *i)
{
	return in_force(i) && !i->proxy.in_flight && !i->proxy.websockets;
}

static void await(struct fixture *f, const char *id, bool (*wanted)(const struct instance *))
{
	int64_t deadline = clock_mono_ms() + WAIT_MS;
	struct instance i;
	for (;;) {
		uint64_t sequence = bus_sequence(catalog_bus(f->catalog));
		ok(instances_get(f->catalog, id, &i, &e));
		if (wanted(&i))
			return;
		if (clock_mono_ms() > deadline) {
			struct buf status = buf_init(65536);
			traffic_status(f->traffic, &status);
			fail_msg("%s: generation %d of %d, up %d, check %s, in flight %d, "
				 "websockets %d\n%s",
				 id, (int)i.proxy.generation, (int)i.traffic_generation, i.proxy.up,
				 i.proxy.check, i.proxy.in_flight, i.proxy.websockets,
				 buf_cstr(&status));
		}
		/* counters change without an announcement */
		(void)bus_wait(catalog_bus(f->catalog), sequence, 20);
	}
}

static void await_both(struct fixture *f, const struct colour *c,
		       bool (*wanted)(const struct instance *))
{
	await(f, c->ids[0], wanted);
	await(f, c->ids[1], wanted);
}

static void expect_body(struct fixture *f, const char *method, const char *name)
{
	char body[64];
	assert_int_equal(client_once(f->listen, method, "/", body), 200);
	assert_string_equal(body, name);
}

static void serve_first(struct fixture *f, struct colour *c)
{
	colour_start(f, c, "one", true);
	set_traffic(f, c, TRAFFIC_CHECKED);
	await_both(f, c, is_up);
	set_traffic(f, c, TRAFFIC_ACTIVE);
	await_both(f, c, is_up);
	expect_body(f, "GET", "one");
}

static void expect_no_failure(struct load *l)
{
	long answered;
	long failed;
	char why[256];
	load_stop(l, &answered, &failed, why);
	print_message("%ld requests, %ld failed %s\n", answered, failed, why);
	assert_int_equal(failed, 0);
	assert_true(answered > 0);
}

static bool pid_of_worker(struct fixture *f, pid_t *ret_worker, pid_t *ret_master);

static void test_deploy(void **state)
{
	struct fixture *f = *state;
	struct colour one;
	struct colour two;
	serve_first(f, &one);
	struct load *l = load_start(f->listen, 6, true);

	/* not ready: checked, without traffic */
	colour_start(f, &two, "two", false);
	set_traffic(f, &two, TRAFFIC_CHECKED);
	await_both(f, &two, is_down);
	load_await(l, 200);
	atomic_store(&two.servers[0]->switches->ready, true);
	atomic_store(&two.servers[1]->switches->ready, true);
	await_both(f, &two, is_up);
	expect_body(f, "GET", "one");

	swap(f, &two, &one, TRAFFIC_BACKUP);
	await_both(f, &two, in_force);
	await_both(f, &one, in_force);
	expect_body(f, "GET", "two");
	expect_body(f, "POST", "two");
	load_await(l, 500);

	set_traffic(f, &one, TRAFFIC_DRAIN);
	await_both(f, &one, is_idle);
	/* nothing is sent there any more, so it may end at once */
	server_kill(one.servers[0]);
	server_kill(one.servers[1]);
	load_await(l, 500);
	set_traffic(f, &one, TRAFFIC_NONE);
	await_both(f, &one, has_nothing);
	for (int i = 0; i < 2; i++)
		ok(instances_remove(f->catalog, one.ids[i], &e));
	load_await(l, 200);
	expect_no_failure(l);
	colour_end(&one);
	colour_end(&two);
}

static void test_backup_takes_over(void **state)
{
	struct fixture *f = *state;
	struct colour one;
	struct colour two;
	serve_first(f, &one);
	colour_start(f, &two, "two", true);
	set_traffic(f, &two, TRAFFIC_CHECKED);
	await_both(f, &two, is_up);
	swap(f, &two, &one, TRAFFIC_BACKUP);
	await_both(f, &two, in_force);
	struct load *l = load_start(f->listen, 6, false);
	load_await(l, 300);
	expect_body(f, "GET", "two");
	server_kill(two.servers[0]);
	load_await(l, 300);
	server_kill(two.servers[1]);
	load_await(l, 500);
	expect_body(f, "GET", "one");
	expect_body(f, "POST", "one");
	expect_no_failure(l);
	colour_end(&one);
	colour_end(&two);
}

static void test_drain_counts(void **state)
{
	struct fixture *f = *state;
	struct colour one;
	struct colour two;
	char body[64];
	serve_first(f, &one);
	/* one request and one WebSocket at each, as round robin gives them */
	int held[2];
	int sockets[2];
	for (int i = 0; i < 2; i++) {
		held[i] = client_send(f->listen, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
		sockets[i] = client_websocket(f->listen);
		assert_true(sockets[i] >= 0);
	}
	colour_start(f, &two, "two", true);
	set_traffic(f, &two, TRAFFIC_CHECKED);
	await_both(f, &two, is_up);
	swap(f, &two, &one, TRAFFIC_DRAIN);
	await_both(f, &one, in_force);
	for (int i = 0; i < 2; i++) {
		await(f, one.ids[i], has_request);
		await(f, one.ids[i], has_websocket);
		assert_false(client_closed(held[i]));
	}
	for (int i = 0; i < 2; i++) {
		atomic_store(&one.servers[i]->switches->release, true);
	}
	for (int i = 0; i < 2; i++) {
		assert_int_equal(client_answer(held[i], body), 200);
		assert_string_equal(body, "one");
		close(held[i]);
	}
	await_both(f, &one, is_idle);
	assert_false(client_closed(sockets[0]) || client_closed(sockets[1]));
	set_traffic(f, &one, TRAFFIC_NONE);
	await_both(f, &one, has_nothing);
	assert_true(client_closed(sockets[0]) && client_closed(sockets[1]));
	close(sockets[0]);
	close(sockets[1]);
	colour_end(&one);
	colour_end(&two);
}

static void test_reload(void **state)
{
	struct fixture *f = *state;
	struct colour one;
	struct colour two;
	char body[64];
	serve_first(f, &one);
	/* the old worker keeps these, and is still counted and steered */
	int kept = client_send(f->listen, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
	assert_int_equal(client_answer(kept, body), 200);
	int held[2];
	for (int i = 0; i < 2; i++)
		held[i] = client_send(f->listen, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
	await_both(f, &one, has_request);
	struct load *l = load_start(f->listen, 6, true);
	load_await(l, 200);
	pid_t worker[2];
	pid_t master[2];
	pid_of_worker(f, &worker[0], &master[0]);

	/* another environment is a reload */
	int port;
	char id[INSTANCE_ID_SIZE];
	int64_t release = put_release_at(f, "staging", support_free_port());
	ok(instances_pick_port(f->catalog, &port, &e));
	struct server *staging = server_start("staging", port, true);
	put_instance(f, "staging", release, 0, port, id);
	struct instance_traffic_change change = { id, TRAFFIC_CHECKED, 100 };
	ok(instances_set_traffic(f->catalog, &change, 1, &e));
	await(f, id, is_up);
	pid_of_worker(f, &worker[1], &master[1]);
	assert_int_not_equal(worker[0], worker[1]);
	assert_int_equal(master[0], master[1]);
	load_await(l, 300);
	await_both(f, &one, has_request);

	/* the switch reaches connections that the old worker has */
	colour_start(f, &two, "two", true);
	set_traffic(f, &two, TRAFFIC_CHECKED);
	await_both(f, &two, is_up);
	swap(f, &two, &one, TRAFFIC_DRAIN);
	await_both(f, &one, in_force);
	const char *request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
	assert_int_equal(write(kept, request, strlen(request)), strlen(request));
	assert_int_equal(client_answer(kept, body), 200);
	assert_string_equal(body, "two");
	close(kept);
	await_both(f, &one, has_request);
	for (int i = 0; i < 2; i++)
		atomic_store(&one.servers[i]->switches->release, true);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(client_answer(held[i], body), 200);
		close(held[i]);
	}
	await_both(f, &one, is_idle);
	expect_no_failure(l);
	server_free(staging);
	colour_end(&one);
	colour_end(&two);
}

/* Present worker and master, as HAProxy's master says. False while it cannot be asked. */
static bool pid_of_worker(struct fixture *f, pid_t *ret_worker, pid_t *ret_master)
{
	char path[128];
	char line[256];
	int fd;
	*ret_worker = *ret_master = 0;
	snprintf(path, sizeof(path), "%s/run/haproxy/master.sock", f->data);
	if (socket_connect_unix(path, clock_mono_ms() + WAIT_MS, &fd, NULL) != OK)
		return false;
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	const char *request = "show proc;quit\n";
	assert_int_equal(write(fd, request, strlen(request)), strlen(request));
	FILE *reply = fdopen(fd, "r");
	assert_non_null(reply);
	while (fgets(line, sizeof(line), reply)) {
		pid_t pid = (pid_t)strtol(line, NULL, 10);
		if (strstr(line, "master"))
			*ret_master = pid;
		else if (strstr(line, "worker") && line[0] != '#' && !*ret_worker)
			*ret_worker = pid;
	}
	fclose(reply);
	return *ret_worker > 0 && *ret_master > 0;
}

/* Until another worker than FORMER serves. */
static void await_restart(struct fixture *f, pid_t former, const char *name)
{
	int64_t deadline = clock_mono_ms() + WAIT_MS;
	char body[64];
	pid_t worker;
	pid_t master;
	while (!pid_of_worker(f, &worker, &master) || worker == former ||
	       client_once(f->listen, "GET", "/", body) != 200) {
		assert_true(clock_mono_ms() < deadline);
		clock_sleep_ms(20);
	}
	for (int i = 0; i < 20; i++)
		expect_body(f, "GET", name);
}

static void test_haproxy_killed(void **state)
{
	struct fixture *f = *state;
	struct colour one;
	struct colour two;
	pid_t worker;
	pid_t master;
	serve_first(f, &one);
	colour_start(f, &two, "two", true);
	set_traffic(f, &two, TRAFFIC_CHECKED);
	await_both(f, &two, is_up);
	swap(f, &two, &one, TRAFFIC_BACKUP);
	await_both(f, &two, in_force);
	pid_of_worker(f, &worker, &master);
	kill(worker, SIGKILL);
	await_restart(f, worker, "two");
	await_both(f, &two, is_up);
	pid_of_worker(f, &worker, &master);
	kill(master, SIGKILL);
	await_restart(f, worker, "two");
	await_both(f, &two, is_up);
	/* the same without the daemon: what is on disk is what ran */
	traffic_stop(f->traffic);
	f->traffic = NULL;
	pid_of_worker(f, &worker, &master);
	kill(master, SIGKILL);
	await_restart(f, worker, "two");
	/* a new daemon adopts it without a reload */
	pid_t adopted[2];
	pid_of_worker(f, &worker, &master);
	ok(traffic_start(f->catalog, &options, &f->traffic, &e));
	swap(f, &one, &two, TRAFFIC_BACKUP);
	await_both(f, &one, in_force);
	expect_body(f, "GET", "one");
	pid_of_worker(f, &adopted[0], &adopted[1]);
	assert_int_equal(adopted[0], worker);
	colour_end(&one);
	colour_end(&two);
}

static void test_port_in_use(void **state)
{
	struct fixture *f = *state;
	struct colour one;
	char id[INSTANCE_ID_SIZE];
	char expected[128];
	struct instance i;
	serve_first(f, &one);
	int taken = support_free_port();
	struct server *thief = server_start("thief", taken, true);
	int port;
	ok(instances_pick_port(f->catalog, &port, &e));
	struct server *staging = server_start("staging", port, true);
	put_instance(f, "staging", put_release_at(f, "staging", taken), 0, port, id);
	struct instance_traffic_change change = { id, TRAFFIC_CHECKED, 100 };
	ok(instances_set_traffic(f->catalog, &change, 1, &e));
	await(f, id, is_blamed);
	ok(instances_get(f->catalog, id, &i, &e));
	snprintf(expected, sizeof(expected),
		 "proxy: cannot listen on 127.0.0.1:%d: in use by pid %d", taken, (int)thief->pid);
	assert_memory_equal(i.proxy.check, expected, strlen(expected));
	/* nobody else is harmed, and it heals */
	expect_body(f, "GET", "one");
	server_kill(thief);
	await(f, id, is_up);
	server_free(thief);
	server_free(staging);
	colour_end(&one);
}

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a;
	int64_t y = *(const int64_t *)b;
	return x < y ? -1 : x > y;
}

static void test_switch_time(void **state)
{
	enum { SWITCH_COUNT = 200 };
	struct fixture *f = *state;
	struct colour one;
	struct colour two;
	int64_t us[SWITCH_COUNT];
	serve_first(f, &one);
	colour_start(f, &two, "two", true);
	set_traffic(f, &two, TRAFFIC_CHECKED);
	await_both(f, &two, is_up);
	struct load *l = load_start(f->listen, 2, true);
	for (int n = 0; n < SWITCH_COUNT; n++) {
		const struct colour *in = n % 2 ? &one : &two;
		swap(f, in, n % 2 ? &two : &one, TRAFFIC_BACKUP);
		await_both(f, in, in_force);
		struct instance i;
		ok(instances_get(f->catalog, in->ids[0], &i, &e));
		us[n] = i.proxy.switch_us;
		expect_body(f, "GET", n % 2 ? "one" : "two");
	}
	expect_no_failure(l);
	qsort(us, SWITCH_COUNT, sizeof(us[0]), by_value);
	print_message("switch: p50 %lld us, p99 %lld us, max %lld us\n",
		      (long long)us[SWITCH_COUNT / 2], (long long)us[SWITCH_COUNT * 99 / 100 - 1],
		      (long long)us[SWITCH_COUNT - 1]);
	colour_end(&one);
	colour_end(&two);
}

/* Every request is counted once, by the instance that answered it. */
static void test_access(void **state)
{
	struct fixture *f = *state;
	struct colour one;
	char body[64], wanted[2][256];
	serve_first(f, &one); /* a GET */
	for (int i = 0; i < 9; i++)
		assert_int_equal(client_once(f->listen, "GET", "/", body), 200);
	for (int i = 0; i < 6; i++)
		assert_int_equal(client_once(f->listen, "POST", "/", body), 200);
	int64_t deadline = clock_mono_ms() + WAIT_MS;
	uint64_t counted[2] = { 0 };
	while (counted[0] != 10 || counted[1] != 6) {
		struct buf text = buf_init(1 << 20);
		static const char *const methods[] = { "GET", "POST" };
		traffic_expose(f->traffic, &text);
		assert_false(text.overflow);
		for (int m = 0; m < 2; m++) {
			str rest = buf_str(&text), line;
			counted[m] = 0;
			snprintf(wanted[m], sizeof(wanted[m]), ",method=\"%s\",code=\"200\"} ",
				 methods[m]);
			while (str_split(&rest, '\n', &line)) {
				ptrdiff_t at = str_find(line, str_c(wanted[m]));
				uint64_t n = 0;
				if (at < 0)
					continue;
				at += (ptrdiff_t)strlen(wanted[m]);
				assert_true(str_find(line, STR("release=\"")) > 0);
				assert_true(str_to_u64(
					(str){ line.ptr + at, line.len - (size_t)at }, &n));
				counted[m] += n;
			}
			assert_true(counted[m] <= (m ? 6 : 10));
		}
		buf_done(&text);
		assert_true(clock_mono_ms() < deadline);
		clock_sleep_ms(5);
	}
	colour_end(&one);
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "shim"))
		return shim_main(argc, argv);
	if (access("/usr/sbin/haproxy", X_OK) != 0) {
		printf("skipped: HAProxy is not installed\n");
		return 77;
	}
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_deploy, setup, teardown),
		cmocka_unit_test_setup_teardown(test_backup_takes_over, setup, teardown),
		cmocka_unit_test_setup_teardown(test_drain_counts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reload, setup, teardown),
		cmocka_unit_test_setup_teardown(test_haproxy_killed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_port_in_use, setup, teardown),
		cmocka_unit_test_setup_teardown(test_switch_time, setup, teardown),
		cmocka_unit_test_setup_teardown(test_access, setup, teardown),
	};
	cmocka_set_test_filter(getenv("TRAFFIC_TEST"));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
