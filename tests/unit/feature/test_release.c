/* The journal of the release machine, and the keeper of warm releases. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <pthread.h>

#include "base/checks.h"
#include "feature/release/release_internal.h"
#include "os/clock.h"
#include "os/io.h"

struct fixture {
	char root[64];
	struct feature_context context;
	bool stopping;
	int64_t next_ms; /* of the keeper */
};

static int set_up(void **state)
{
	struct fixture *f = must_calloc(1, sizeof(*f));
	snprintf(f->root, sizeof(f->root), "/tmp/holdfast-release-XXXXXX");
	if (!mkdtemp(f->root) || catalog_open(f->root, &f->context.catalog, NULL) != OK)
		return -1;
	f->context.data = f->root;
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	catalog_close(f->context.catalog);
	errc rc = io_remove_tree(f->root, NULL);
	free(f);
	return rc == OK ? 0 : -1;
}

static void the_journal_comes_back_whole(void **state)
{
	struct fixture *f = *state;
	struct err e = { 0 };
	struct operation o = { .kind = "deploy",
			       .app = "shop",
			       .environment = "production",
			       .actor = "me",
			       .request = "{}" };
	assert_int_equal(operations_put(f->context.catalog, &o, &e), OK);
	struct release_run run = { .context = &f->context, .operation = o, .step = "switch" };
	run.journal = (struct release_journal){ .build = "op-build",
						.release = INT64_MAX,
						.previous = 41,
						.switched = true,
						.switched_ms = 1234,
						.switch_us = 567,
						.ready_ms = 89,
						.error_code = ERR_TIMEOUT,
						.error_step = "ready" };
	memset(run.journal.artifact, 'a', sizeof(run.journal.artifact) - 1);
	/* the last words of an application may be anything, and as long as they like */
	for (size_t i = 0; i + 1 < sizeof(run.journal.error); i++)
		run.journal.error[i] = (char)(1 + i % 127);
	if (release_journal_save(&run, &e) != OK)
		fail_msg("%s", e.message);
	struct release_run again = { .context = &f->context, .arena = arena_init(1 << 24) };
	assert_int_equal(
		operations_get(f->context.catalog, o.id, &again.arena, &again.operation, &e), OK);
	assert_string_equal(again.operation.step, "switch");
	assert_int_equal(release_journal_load(&again, &e), OK);
	const struct release_journal *a = &run.journal, *b = &again.journal;
	assert_string_equal(a->build, b->build);
	assert_string_equal(a->artifact, b->artifact);
	assert_string_equal(a->error, b->error);
	assert_string_equal(a->error_step, b->error_step);
	assert_true(a->release == b->release && a->previous == b->previous &&
		    a->switched == b->switched && a->switched_ms == b->switched_ms &&
		    a->switch_us == b->switch_us && a->ready_ms == b->ready_ms &&
		    a->error_code == b->error_code);
	arena_done(&again.arena);
}

static void an_empty_journal_is_the_beginning(void **state)
{
	struct fixture *f = *state;
	struct err e = { 0 };
	struct release_run run = { .context = &f->context, .arena = arena_init(1 << 20) };
	run.operation.journal = "{}";
	assert_int_equal(release_journal_load(&run, &e), OK);
	assert_int_equal(run.journal.release, 0);
	assert_int_equal(run.journal.error_code, OK);
	run.operation.journal = "{\"release\":";
	assert_int_equal(release_journal_load(&run, &e), ERR_INVALID);
	arena_done(&run.arena);
}

/* ---- The keeper. */

static struct instance put_warm(struct fixture *f, time_ms warm_until)
{
	struct err e = { 0 };
	struct release r = { .app = "shop",
			     .environment = "production",
			     .artifact = "sha256:x",
			     .specification = "",
			     .colour = "blue" };
	struct instance i = { .app = "shop",
			      .environment = "production",
			      .service = "web",
			      .release = 1,
			      .colour = "blue",
			      .in_proxy = true,
			      .port = 20001,
			      .traffic = TRAFFIC_DRAIN,
			      .weight = 1 };
	instance_set_id(&i);
	assert_int_equal(releases_put(f->context.catalog, &r, &e), OK);
	assert_int_equal(
		releases_set_state(f->context.catalog, &r, RELEASE_WARM, warm_until, NULL, &e), OK);
	assert_int_equal(instances_put(f->context.catalog, &i, &e), OK);
	return i;
}

static enum release_state state_of_first(struct fixture *f)
{
	struct arena scratch = arena_init(1 << 20);
	struct release r = { .state = RELEASE_NEW };
	assert_int_equal(
		releases_get(f->context.catalog, "shop", "production", 1, &scratch, &r, NULL), OK);
	arena_done(&scratch);
	return r.state;
}

static void *keep(void *ctx)
{
	struct fixture *f = ctx;
	f->next_ms = release_keep_warm(&f->context, &f->stopping, 60000);
	return NULL;
}

static void await_stopped(struct fixture *f, const char *id, struct instance *seen)
{
	for (;;) {
		uint64_t sequence = bus_sequence(catalog_bus(f->context.catalog));
		assert_int_equal(instances_get(f->context.catalog, id, seen, NULL), OK);
		if (seen->desired == INSTANCE_STOPPED)
			return;
		bus_wait(catalog_bus(f->context.catalog), sequence, 10000);
	}
}

static void a_warm_release_is_stopped_in_time(void **state)
{
	struct fixture *f = *state;
	pthread_t thread;
	struct lease lease;
	struct instance seen, i = put_warm(f, 1);
	assert_int_equal(pthread_create(&thread, NULL, keep, f), 0);
	await_stopped(f, i.id, &seen);
	/* nobody else may change the environment meanwhile */
	assert_int_equal(
		leases_acquire(f->context.catalog, "shop/production", "op-1", "me", &lease, NULL),
		ERR_LOCKED);
	seen.runtime.state = INSTANCE_STATE_GONE;
	instances_observe_runtime(f->context.catalog, &seen);
	pthread_join(thread, NULL);
	assert_int_equal(state_of_first(f), RELEASE_RETIRED);
	assert_int_equal(instances_get(f->context.catalog, i.id, &seen, NULL), ERR_NOT_FOUND);
	assert_int_equal(
		leases_acquire(f->context.catalog, "shop/production", "op-1", "me", &lease, NULL),
		OK);
	assert_int_equal(f->next_ms, 60000);
}

static void one_whose_time_is_not_over_stays(void **state)
{
	struct fixture *f = *state;
	struct instance seen, i = put_warm(f, clock_now() + 30000);
	keep(f);
	assert_in_range(f->next_ms, 1, 30000);
	assert_int_equal(instances_get(f->context.catalog, i.id, &seen, NULL), OK);
	assert_int_equal(seen.desired, INSTANCE_RUNNING);
}

/* A rollback that has the lease may be bringing just this release back. */
static void one_that_is_being_changed_stays(void **state)
{
	struct fixture *f = *state;
	struct lease lease;
	struct instance seen, i = put_warm(f, 1);
	assert_int_equal(
		leases_acquire(f->context.catalog, "shop/production", "op-1", "me", &lease, NULL),
		OK);
	keep(f);
	assert_in_range(f->next_ms, 1, 5000);
	assert_int_equal(instances_get(f->context.catalog, i.id, &seen, NULL), OK);
	assert_int_equal(seen.desired, INSTANCE_RUNNING);
	assert_int_equal(state_of_first(f), RELEASE_WARM);
}

/* An application that takes its time to stop does not hold the daemon up. */
static void the_keeper_ends_with_the_daemon(void **state)
{
	struct fixture *f = *state;
	pthread_t thread;
	struct lease lease;
	struct instance seen, i = put_warm(f, 1);
	assert_int_equal(pthread_create(&thread, NULL, keep, f), 0);
	await_stopped(f, i.id, &seen);
	__atomic_store_n(&f->stopping, true, __ATOMIC_RELEASE);
	bus_publish(catalog_bus(f->context.catalog), BUS_OPERATION, STR(""));
	pthread_join(thread, NULL);
	assert_int_equal(state_of_first(f), RELEASE_WARM); /* the next daemon goes on */
	assert_int_equal(
		leases_acquire(f->context.catalog, "shop/production", "op-1", "me", &lease, NULL),
		OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_journal_comes_back_whole, set_up, tear_down),
		cmocka_unit_test_setup_teardown(an_empty_journal_is_the_beginning, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(a_warm_release_is_stopped_in_time, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(one_whose_time_is_not_over_stays, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(one_that_is_being_changed_stays, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_keeper_ends_with_the_daemon, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
