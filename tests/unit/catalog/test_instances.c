#include "catalog_fixture.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "catalog/instances.h"
#include "test_random.h"

static struct instance make(const char *app, int64_t release, int ordinal, int port)
{
	struct instance i = { .release = release,
			      .ordinal = ordinal,
			      .in_proxy = true,
			      .port = port,
			      .desired = INSTANCE_RUNNING,
			      .traffic = TRAFFIC_NONE,
			      .weight = 1 };
	snprintf(i.app, sizeof(i.app), "%s", app);
	snprintf(i.environment, sizeof(i.environment), "production");
	snprintf(i.service, sizeof(i.service), "web");
	snprintf(i.colour, sizeof(i.colour), "blue");
	instance_set_id(&i);
	return i;
}

static struct instance put(struct catalog *c, const char *app, int64_t release, int ordinal,
			   int port)
{
	struct instance i = make(app, release, ordinal, port);
	struct err e = { 0 };
	if (instances_put(c, &i, &e) != OK)
		fail_msg("%s", e.message);
	return i;
}

static struct instance get(struct catalog *c, const char *id)
{
	struct instance i = { 0 };
	assert_int_equal(instances_get(c, id, &i, NULL), OK);
	return i;
}

static void an_id_has_all_parts_at_their_longest(void **state)
{
	(void)state;
	struct instance i = { .release = 999999999999999, .ordinal = 999 };
	memset(i.app, 'a', NAME_MAX_BYTES);
	memset(i.environment, 'b', NAME_MAX_BYTES);
	memset(i.service, 'c', NAME_MAX_BYTES);
	instance_set_id(&i);
	assert_non_null(strstr(i.id, "b.r999999999999999.c"));
	assert_non_null(strstr(i.id, "c.999"));
}

static void the_desired_part_is_durable_the_observed_is_not(void **state)
{
	struct catalog_fixture *f = *state;
	struct err e;
	struct instance i = put(f->catalog, "shop", 3, 1, 20001);
	struct instance_traffic_change change = { i.id, TRAFFIC_ACTIVE, 77 };
	assert_int_equal(instances_set_traffic(f->catalog, &change, 1, &e), OK);
	assert_int_equal(instances_set_desired(f->catalog, i.id, INSTANCE_STOPPED, &e), OK);
	assert_int_equal(instances_restart(f->catalog, i.id, &e), OK);
	assert_int_equal(instances_restart(f->catalog, i.id, &e), OK);
	assert_int_equal(instances_signal_drain(f->catalog, i.id, &e), OK);
	struct instance seen = get(f->catalog, i.id);
	seen.runtime.state = INSTANCE_STATE_RUNNING;
	seen.runtime.pid = 42;
	seen.proxy.up = true;
	seen.proxy.generation = 1;
	instances_observe_runtime(f->catalog, &seen);
	instances_observe_proxy(f->catalog, &seen);
	seen = get(f->catalog, i.id);
	assert_true(seen.proxy.up && seen.runtime.pid == 42);

	catalog_reopen(f);
	seen = get(f->catalog, i.id);
	assert_string_equal(seen.id, "shop.production.r3.web.1");
	assert_string_equal(seen.app, "shop");
	assert_string_equal(seen.colour, "blue");
	assert_int_equal(seen.release, 3);
	assert_int_equal(seen.ordinal, 1);
	assert_int_equal(seen.port, 20001);
	assert_true(seen.in_proxy && seen.drain_signalled);
	assert_int_equal(seen.desired, INSTANCE_STOPPED);
	assert_int_equal(seen.traffic, TRAFFIC_ACTIVE);
	assert_int_equal(seen.weight, 77);
	assert_int_equal(seen.traffic_generation, 1);
	assert_int_equal(seen.restart_generation, 2);
	assert_int_equal(seen.runtime.state, INSTANCE_STATE_PENDING);
	assert_int_equal(seen.runtime.pid, 0);
	assert_false(seen.proxy.up);
	assert_int_equal(seen.proxy.generation, 0);
}

static void ids_and_ports_are_unique(void **state)
{
	struct catalog_fixture *f = *state;
	struct err e;
	struct instance a = put(f->catalog, "shop", 1, 0, 20001);
	struct instance same_id = make("shop", 1, 0, 20002), same_port = make("shop", 1, 1, 20001);
	assert_int_equal(instances_put(f->catalog, &same_id, &e), ERR_CONFLICT);
	assert_int_equal(instances_put(f->catalog, &same_port, &e), ERR_CONFLICT);
	assert_int_equal(instances_get(f->catalog, same_port.id, &same_port, &e), ERR_NOT_FOUND);
	assert_int_equal(get(f->catalog, a.id).port, 20001);
	/* the port is free again with its instance */
	assert_int_equal(instances_remove(f->catalog, a.id, &e), OK);
	assert_int_equal(instances_remove(f->catalog, a.id, &e), ERR_NOT_FOUND);
	put(f->catalog, "shop", 1, 1, 20001);
}

static void what_is_unknown_is_named(void **state)
{
	struct catalog_fixture *f = *state;
	struct err e;
	struct instance_traffic_change change = { "no.such", TRAFFIC_ACTIVE, 1 };
	struct instance ghost = make("ghost", 1, 0, 1);
	assert_int_equal(instances_set_desired(f->catalog, "no.such", INSTANCE_STOPPED, &e),
			 ERR_NOT_FOUND);
	assert_non_null(strstr(e.message, "no.such"));
	assert_int_equal(instances_restart(f->catalog, "no.such", &e), ERR_NOT_FOUND);
	assert_int_equal(instances_signal_drain(f->catalog, "no.such", &e), ERR_NOT_FOUND);
	assert_int_equal(instances_set_traffic(f->catalog, &change, 1, &e), ERR_NOT_FOUND);
	instances_observe_runtime(f->catalog, &ghost); /* ignored */
	instances_observe_proxy(f->catalog, &ghost);
}

static void traffic_changes_all_at_once_or_not_at_all(void **state)
{
	struct catalog_fixture *f = *state;
	struct err e;
	struct instance a = put(f->catalog, "shop", 1, 0, 20001),
			b = put(f->catalog, "shop", 2, 0, 20002);
	struct instance_traffic_change changes[] = { { a.id, TRAFFIC_BACKUP, 100 },
						     { b.id, TRAFFIC_ACTIVE, 100 },
						     { "no.such", TRAFFIC_ACTIVE, 1 } };
	assert_int_equal(instances_set_traffic(f->catalog, changes, 3, &e), ERR_NOT_FOUND);
	assert_int_equal(get(f->catalog, a.id).traffic, TRAFFIC_NONE);
	assert_int_equal(catalog_ask(f->catalog, "SELECT max(traffic_generation) FROM instance"),
			 0);
	assert_int_equal(instances_set_traffic(f->catalog, changes, 2, &e), OK);
	assert_int_equal(get(f->catalog, a.id).traffic_generation, 1);
	/* the same again changes no generation; another weight does */
	changes[1].weight = 50;
	assert_int_equal(instances_set_traffic(f->catalog, changes, 2, &e), OK);
	assert_int_equal(get(f->catalog, a.id).traffic_generation, 1);
	assert_int_equal(get(f->catalog, b.id).traffic_generation, 2);
	catalog_reopen(f);
	assert_int_equal(get(f->catalog, a.id).traffic_generation, 1);
	assert_int_equal(get(f->catalog, b.id).traffic_generation, 2);
	assert_int_equal(get(f->catalog, b.id).weight, 50);
}

static void who_takes_requests_again_is_not_drained(void **state)
{
	struct catalog_fixture *f = *state;
	struct err e;
	struct instance a = put(f->catalog, "shop", 1, 0, 20001);
	struct instance_traffic_change drain = { a.id, TRAFFIC_DRAIN, 1 },
				       active = { a.id, TRAFFIC_ACTIVE, 1 };
	assert_int_equal(instances_set_traffic(f->catalog, &drain, 1, &e), OK);
	assert_int_equal(instances_signal_drain(f->catalog, a.id, &e), OK);
	struct instance seen = get(f->catalog, a.id);
	seen.runtime.drain_signal_sent = true;
	instances_observe_runtime(f->catalog, &seen);
	assert_int_equal(instances_set_traffic(f->catalog, &active, 1, &e), OK);
	seen = get(f->catalog, a.id);
	assert_false(seen.drain_signalled || seen.runtime.drain_signal_sent);
	catalog_reopen(f);
	assert_false(get(f->catalog, a.id).drain_signalled);
}

static void lists_are_sorted_and_filtered(void **state)
{
	struct catalog_fixture *f = *state;
	struct err e;
	struct instance *items = NULL;
	size_t count = 0;
	put(f->catalog, "shop", 2, 0, 20003);
	put(f->catalog, "blog", 1, 0, 20004);
	put(f->catalog, "shop", 1, 1, 20001);
	put(f->catalog, "shop", 1, 0, 20002);
	struct instance_filter all = { 0 }, shop = { .app = "shop", .environment = "production" },
			       first = { .app = "shop", .release = 1 },
			       none = { .environment = "staging" };
	assert_int_equal(instances_list(f->catalog, &all, &f->scratch, &items, &count, &e), OK);
	assert_int_equal(count, 4);
	for (size_t i = 1; i < count; i++)
		assert_true(strcmp(items[i - 1].id, items[i].id) < 0);
	assert_int_equal(instances_list(f->catalog, &shop, &f->scratch, &items, &count, &e), OK);
	assert_int_equal(count, 3);
	assert_int_equal(instances_list(f->catalog, &first, &f->scratch, &items, &count, &e), OK);
	assert_int_equal(count, 2);
	assert_string_equal(items[1].id, "shop.production.r1.web.1");
	assert_int_equal(instances_list(f->catalog, &none, &f->scratch, &items, &count, &e), OK);
	assert_int_equal(count, 0);
	struct arena small = arena_init(1000);
	assert_int_equal(instances_list(f->catalog, &all, &small, &items, &count, &e), ERR_LIMIT);
	arena_done(&small);
}

static void a_damaged_row_stops_the_opening(void **state)
{
	struct catalog_fixture *f = *state;
	struct catalog *c = NULL;
	struct err e;
	put(f->catalog, "shop", 1, 0, 20001);
	catalog_run(f->catalog, "UPDATE instance SET traffic = 99");
	catalog_close(f->catalog);
	f->catalog = NULL;
	assert_int_equal(catalog_open(f->data, &c, &e), ERR_CORRUPT);
	assert_non_null(strstr(e.message, "shop.production.r1.web.0"));
}

static void a_picked_port_is_free(void **state)
{
	struct catalog_fixture *f = *state;
	struct err e;
	for (int n = 0; n < 30; n++) {
		int port = 0;
		assert_int_equal(instances_pick_port(f->catalog, &port, &e), OK);
		assert_in_range(port, 20000, 29999);
		put(f->catalog, "shop", 1, n, port); /* none comes twice */
		struct sockaddr_in at = { .sin_family = AF_INET,
					  .sin_port = htons((uint16_t)port),
					  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
		close(fd);
	}
}

/* ---- What is announced. */

struct announced {
	int counts[BUS_TOPIC_COUNT];
};

static void note(void *ctx, enum bus_topic topic, str subject)
{
	struct announced *a = ctx;
	(void)subject;
	a->counts[topic]++;
}

/* Rolled back to and forward again within a moment, an instance of the same id is another one. */
static void what_was_seen_of_the_former_says_nothing_of_the_next(void **state)
{
	struct catalog_fixture *f = *state;
	struct err e;
	struct instance former = put(f->catalog, "shop", 1, 0, 20001);
	former = get(f->catalog, former.id);
	former.proxy.up = true;
	former.runtime.pid = 42;
	assert_int_equal(instances_remove(f->catalog, former.id, &e), OK);
	put(f->catalog, "shop", 1, 0, 20001);
	instances_observe_proxy(f->catalog, &former);
	instances_observe_runtime(f->catalog, &former);
	struct instance next = get(f->catalog, former.id);
	assert_false(next.proxy.up);
	assert_int_equal(next.runtime.pid, 0);
	assert_int_not_equal(next.incarnation, former.incarnation);
}

static void changes_are_announced_counters_are_not(void **state)
{
	struct catalog_fixture *f = *state;
	struct announced a = { { 0 } };
	struct err e;
	struct bus *bus = catalog_bus(f->catalog);
	assert_true(bus_subscribe(bus, BUS_INSTANCE_DESIRED, note, &a));
	assert_true(bus_subscribe(bus, BUS_INSTANCE_OBSERVED, note, &a));
	assert_true(bus_subscribe(bus, BUS_TRAFFIC_DESIRED, note, &a));
	struct instance i = put(f->catalog, "shop", 1, 0, 20001);
	assert_int_equal(a.counts[BUS_INSTANCE_DESIRED], 1);
	i = get(f->catalog, i.id);
	i.runtime.pid = 5;
	instances_observe_runtime(f->catalog, &i);
	instances_observe_runtime(f->catalog, &i); /* nothing new */
	assert_int_equal(a.counts[BUS_INSTANCE_OBSERVED], 1);
	i.proxy.in_flight = 5;
	i.proxy.observed_ms = 1;
	instances_observe_proxy(f->catalog, &i); /* from nothing to something */
	i.proxy.in_flight = 9;
	i.proxy.observed_ms = 2;
	instances_observe_proxy(f->catalog, &i); /* only more */
	assert_int_equal(a.counts[BUS_INSTANCE_OBSERVED], 2);
	assert_int_equal(get(f->catalog, i.id).proxy.in_flight, 9);
	struct instance_traffic_change change = { i.id, TRAFFIC_ACTIVE, 1 };
	assert_int_equal(instances_set_traffic(f->catalog, &change, 1, &e), OK);
	assert_int_equal(a.counts[BUS_TRAFFIC_DESIRED], 1);
	assert_int_equal(instances_remove(f->catalog, i.id, &e), OK);
	assert_int_equal(a.counts[BUS_TRAFFIC_DESIRED], 2);
	assert_int_equal(a.counts[BUS_INSTANCE_OBSERVED], 3);
	/* what fails is not announced */
	assert_int_equal(instances_restart(f->catalog, i.id, &e), ERR_NOT_FOUND);
	assert_int_equal(a.counts[BUS_INSTANCE_DESIRED], 1);
	bus_unsubscribe(bus, note, &a);
}

/* ---- Threads. */

struct worker {
	struct catalog *catalog;
	int index;
	const char *problem;
};

/* Each changes instances of its own, lists all of them, and never sees a half-made switch. */
static void *switch_and_look(void *ctx)
{
	struct worker *w = ctx;
	char app[16];
	struct err e;
	snprintf(app, sizeof(app), "app-%d", w->index);
	struct instance a = make(app, 1, 0, 21000 + 2 * w->index),
			b = make(app, 2, 0, 21001 + 2 * w->index);
	if (instances_put(w->catalog, &a, &e) != OK || instances_put(w->catalog, &b, &e) != OK)
		return (void *)"put";
	for (int n = 0; n < 40; n++) {
		struct instance_traffic_change changes[] = {
			{ a.id, n % 2 ? TRAFFIC_ACTIVE : TRAFFIC_DRAIN, 1 },
			{ b.id, n % 2 ? TRAFFIC_DRAIN : TRAFFIC_ACTIVE, 1 }
		};
		if (instances_set_traffic(w->catalog, changes, 2, &e) != OK)
			return (void *)"set";
		struct arena scratch = arena_init(1 << 22);
		struct instance_filter all = { 0 };
		struct instance *items = NULL;
		size_t count = 0;
		errc rc = instances_list(w->catalog, &all, &scratch, &items, &count, &e);
		bool whole = rc == OK;
		for (size_t i = 0; whole && i + 1 < count; i++)
			if (strcmp(items[i].app, items[i + 1].app) == 0)
				whole = items[i].traffic_generation ==
						items[i + 1].traffic_generation &&
					(items[i].traffic != items[i + 1].traffic ||
					 items[i].traffic == TRAFFIC_NONE);
		arena_done(&scratch);
		if (!whole)
			return (void *)"list";
		a.runtime.restarts = n;
		instances_observe_runtime(w->catalog, &a);
	}
	return NULL;
}

static void threads_see_whole_switches(void **state)
{
	struct catalog_fixture *f = *state;
	pthread_t threads[4];
	struct worker workers[4];
	for (int i = 0; i < 4; i++) {
		workers[i] = (struct worker){ .catalog = f->catalog, .index = i };
		assert_int_equal(pthread_create(&threads[i], NULL, switch_and_look, &workers[i]),
				 0);
	}
	for (int i = 0; i < 4; i++) {
		void *problem = NULL;
		pthread_join(threads[i], &problem);
		if (problem)
			fail_msg("%s", (const char *)problem);
	}
	/* memory and database agree */
	struct instance before = get(f->catalog, "app-2.production.r1.web.0");
	catalog_reopen(f);
	struct instance after = get(f->catalog, "app-2.production.r1.web.0");
	assert_int_equal(before.traffic_generation, after.traffic_generation);
	assert_int_equal(before.traffic, after.traffic);
}

/* The order of the two locks is kept by force. */
static void in_a_transaction_it_stops_the_process(void **state)
{
	struct catalog_fixture *f = *state;
	int status = 0;
	pid_t pid = fork();
	if (pid == 0) {
		struct instance i;
		signal(SIGABRT, SIG_DFL);
		fclose(stderr);
		if (catalog_begin(f->catalog, NULL) == OK &&
		    instances_get(f->catalog, "x", &i, NULL) == ERR_NOT_FOUND)
			_exit(0);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Random changes against a plain model, with reopening now and then. */
static void random_changes_follow_a_model(void **state)
{
	struct catalog_fixture *f = *state;
	enum { COUNT = 24 };
	struct instance model[COUNT] = { { { 0 } } };
	struct test_random r = { 7 };
	struct err e;
	for (int n = 0; n < 1500; n++) {
		int k = (int)test_random_below(&r, COUNT);
		struct instance *m = &model[k];
		bool there = m->id[0] != '\0';
		switch (test_random_below(&r, there ? 6 : 1)) {
		case 0:
			if (there)
				break;
			*m = put(f->catalog, k % 2 ? "shop" : "blog", 1 + k / 8, k, 22000 + k);
			break;
		case 1:
			m->desired = INSTANCE_STOPPED;
			assert_int_equal(
				instances_set_desired(f->catalog, m->id, INSTANCE_STOPPED, &e), OK);
			break;
		case 2:
			m->restart_generation++;
			assert_int_equal(instances_restart(f->catalog, m->id, &e), OK);
			break;
		case 3:
		case 4: {
			struct instance_traffic_change change = {
				m->id, (enum instance_traffic)test_random_below(&r, 5),
				1 + (int)test_random_below(&r, 3)
			};
			if (m->traffic != change.traffic || m->weight != change.weight)
				m->traffic_generation++;
			m->traffic = change.traffic;
			m->weight = change.weight;
			assert_int_equal(instances_set_traffic(f->catalog, &change, 1, &e), OK);
			break;
		}
		default:
			assert_int_equal(instances_remove(f->catalog, m->id, &e), OK);
			*m = (struct instance){ { 0 } };
		}
		if (n % 250 == 0)
			catalog_reopen(f);
	}
	for (int k = 0; k < COUNT; k++) {
		if (!model[k].id[0])
			continue;
		struct instance seen = get(f->catalog, model[k].id);
		assert_int_equal(seen.desired, model[k].desired);
		assert_int_equal(seen.traffic, model[k].traffic);
		assert_int_equal(seen.weight, model[k].weight);
		assert_int_equal(seen.traffic_generation, model[k].traffic_generation);
		assert_int_equal(seen.restart_generation, model[k].restart_generation);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_id_has_all_parts_at_their_longest),
		CATALOG_TEST(the_desired_part_is_durable_the_observed_is_not),
		CATALOG_TEST(ids_and_ports_are_unique),
		CATALOG_TEST(what_is_unknown_is_named),
		CATALOG_TEST(traffic_changes_all_at_once_or_not_at_all),
		CATALOG_TEST(who_takes_requests_again_is_not_drained),
		CATALOG_TEST(lists_are_sorted_and_filtered),
		CATALOG_TEST(a_damaged_row_stops_the_opening),
		CATALOG_TEST(a_picked_port_is_free),
		CATALOG_TEST(changes_are_announced_counters_are_not),
		CATALOG_TEST(what_was_seen_of_the_former_says_nothing_of_the_next),
		CATALOG_TEST(threads_see_whole_switches),
		CATALOG_TEST(in_a_transaction_it_stops_the_process),
		CATALOG_TEST(random_changes_follow_a_model),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
