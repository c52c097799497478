/* Operations, their events, leases, and the outbox. */
#include "catalog_fixture.h"

#include <pthread.h>

#include "catalog/operations.h"
#include "catalog/outbox.h"
#include "os/clock.h"

static struct operation make(const char *kind)
{
	struct operation o = { .request = "{\"to\":1}" };
	snprintf(o.kind, sizeof(o.kind), "%s", kind);
	snprintf(o.app, sizeof(o.app), "shop");
	snprintf(o.environment, sizeof(o.environment), "production");
	snprintf(o.actor, sizeof(o.actor), "local:me");
	return o;
}

static struct operation put(struct catalog *c, const char *kind)
{
	struct operation o = make(kind);
	struct err e = { 0 };
	if (operations_put(c, &o, &e) != OK)
		fail_msg("%s", e.message);
	return o;
}

static struct operation get(struct catalog_fixture *f, const char *id)
{
	struct operation o = { .request = NULL };
	assert_int_equal(operations_get(f->catalog, id, &f->scratch, &o, NULL), OK);
	return o;
}

static void an_operation_lives_from_queued_to_finished(void **state)
{
	struct catalog_fixture *f = *state;
	struct err e, why = { .code = ERR_TIMEOUT };
	bool taken = false;
	struct operation o = put(f->catalog, "deploy");
	struct operation seen = get(f, o.id);
	assert_int_equal(seen.state, OPERATION_QUEUED);
	assert_string_equal(seen.request, "{\"to\":1}");
	assert_string_equal(seen.journal, "{}");
	assert_string_equal(seen.step, "");
	assert_int_equal(operations_begin(f->catalog, o.id, &taken, &e), OK);
	assert_true(taken);
	assert_int_equal(operations_begin(f->catalog, o.id, &taken, &e), OK);
	assert_false(taken);
	assert_int_equal(operations_step(f->catalog, o.id, "switch", "{\"release\":2}", &e), OK);
	catalog_reopen(f);
	seen = get(f, o.id);
	assert_int_equal(seen.state, OPERATION_RUNNING);
	assert_string_equal(seen.step, "switch");
	assert_string_equal(seen.journal, "{\"release\":2}");
	snprintf(why.message, sizeof(why.message), "it took too long");
	assert_int_equal(operations_finish(f->catalog, o.id, OPERATION_FAILED, &why, "{}", &e), OK);
	seen = get(f, o.id);
	assert_int_equal(seen.state, OPERATION_FAILED);
	assert_int_equal(seen.error_code, ERR_TIMEOUT);
	assert_string_equal(seen.error, "it took too long");
	assert_true(seen.ended >= seen.created);
	assert_int_equal(operations_cancel(f->catalog, o.id, &e), ERR_CONFLICT);
	assert_int_equal(operations_get(f->catalog, "op-none", &f->scratch, &seen, &e),
			 ERR_NOT_FOUND);
}

static void old_operations_are_forgotten_with_their_events(void **state)
{
	struct catalog_fixture *f = *state;
	struct operation_event *events = NULL;
	size_t count = 1;
	struct err e;
	struct operation ended = put(f->catalog, "deploy"), waiting = put(f->catalog, "deploy"),
			 seen;
	operations_event(f->catalog, ended.id, EVENT_PROGRESS, "lock", NULL, "hello");
	assert_int_equal(
		operations_finish(f->catalog, ended.id, OPERATION_SUCCEEDED, NULL, "{}", &e), OK);
	assert_int_equal(operations_prune(f->catalog, clock_now() - 60000, &e), OK);
	assert_string_equal(get(f, ended.id).id, ended.id);
	assert_int_equal(operations_prune(f->catalog, clock_now() + 60000, &e), OK);
	assert_int_equal(operations_get(f->catalog, ended.id, &f->scratch, &seen, &e),
			 ERR_NOT_FOUND);
	assert_int_equal(
		operations_events(f->catalog, ended.id, 0, 10, &f->scratch, &events, &count, &e),
		OK);
	assert_int_equal(count, 0);
	assert_string_equal(get(f, waiting.id).id, waiting.id);
}

static void a_wish_to_cancel_is_heard(void **state)
{
	struct catalog_fixture *f = *state;
	struct err e;
	struct operation o = put(f->catalog, "deploy");
	assert_false(operations_cancel_wanted(f->catalog, o.id));
	assert_int_equal(operations_cancel(f->catalog, o.id, &e), OK);
	assert_true(operations_cancel_wanted(f->catalog, o.id));
	catalog_reopen(f);
	assert_true(operations_cancel_wanted(f->catalog, o.id));
	assert_false(operations_cancel_wanted(f->catalog, "op-none"));
	assert_int_equal(operations_cancel(f->catalog, "op-none", &e), ERR_CONFLICT);
}

static void the_unfinished_are_listed_oldest_first(void **state)
{
	struct catalog_fixture *f = *state;
	struct err e;
	struct operation *items = NULL;
	size_t count = 0;
	struct operation a = put(f->catalog, "deploy");
	clock_sleep_ms(2);
	struct operation b = put(f->catalog, "build");
	clock_sleep_ms(2);
	struct operation c = put(f->catalog, "deploy");
	struct operation_filter unfinished = { .unfinished = true }, all = { .limit = 2 },
				builds = { .kind = "build" };
	assert_int_equal(operations_list(f->catalog, &unfinished, &f->scratch, &items, &count, &e),
			 OK);
	assert_int_equal(count, 3);
	assert_string_equal(items[0].id, a.id);
	assert_string_equal(items[2].id, c.id);
	assert_string_equal(items[0].request, "");
	assert_int_equal(operations_finish(f->catalog, a.id, OPERATION_SUCCEEDED, NULL,
					   "{\"release\":1}", &e),
			 OK);
	assert_int_equal(operations_list(f->catalog, &unfinished, &f->scratch, &items, &count, &e),
			 OK);
	assert_int_equal(count, 2);
	assert_string_equal(items[0].id, b.id);
	assert_int_equal(operations_list(f->catalog, &all, &f->scratch, &items, &count, &e), OK);
	assert_int_equal(count, 2);
	assert_string_equal(items[0].id, c.id);
	assert_int_equal(operations_list(f->catalog, &builds, &f->scratch, &items, &count, &e), OK);
	assert_int_equal(count, 1);
	assert_string_equal(get(f, a.id).result, "{\"release\":1}");
}

struct taker {
	struct catalog *catalog;
	char ids[20][OPERATION_ID_SIZE];
	int taken[20];
};

static void *take_all(void *ctx)
{
	struct taker *t = ctx;
	for (size_t i = 0; i < ARRAY_COUNT(t->ids); i++) {
		bool taken = false;
		if (operations_begin(t->catalog, t->ids[i], &taken, NULL) != OK)
			return "begin";
		__atomic_fetch_add(&t->taken[i], taken, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void one_thread_of_eight_takes_it(void **state)
{
	struct catalog_fixture *f = *state;
	struct taker t = { .catalog = f->catalog };
	pthread_t threads[8];
	for (size_t i = 0; i < ARRAY_COUNT(t.ids); i++)
		memcpy(t.ids[i], put(f->catalog, "deploy").id, OPERATION_ID_SIZE);
	for (size_t i = 0; i < ARRAY_COUNT(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, take_all, &t), 0);
	for (size_t i = 0; i < ARRAY_COUNT(threads); i++) {
		void *problem = NULL;
		pthread_join(threads[i], &problem);
		assert_null(problem);
	}
	for (size_t i = 0; i < ARRAY_COUNT(t.ids); i++)
		assert_int_equal(t.taken[i], 1);
}

/* ---- Events. */

static void events_come_in_order(void **state)
{
	struct catalog_fixture *f = *state;
	struct operation_event *items = NULL;
	size_t count = 0;
	struct err e;
	struct operation o = put(f->catalog, "deploy"), other = put(f->catalog, "deploy");
	for (int i = 0; i < 10; i++) {
		operations_event(f->catalog, o.id, EVENT_OUTPUT, "build", NULL, "line %d", i);
		operations_event(f->catalog, other.id, EVENT_PROGRESS, NULL, "{\"n\":1}", "x");
	}
	assert_int_equal(operations_events(f->catalog, o.id, 0, 7, &f->scratch, &items, &count, &e),
			 OK);
	assert_int_equal(count, 7);
	assert_string_equal(items[0].message, "line 0");
	assert_string_equal(items[0].step, "build");
	assert_string_equal(items[0].data, "");
	assert_int_equal(items[0].kind, EVENT_OUTPUT);
	int64_t last = items[6].sequence;
	assert_int_equal(
		operations_events(f->catalog, o.id, last, 7, &f->scratch, &items, &count, &e), OK);
	assert_int_equal(count, 3);
	assert_string_equal(items[0].message, "line 7");
	assert_true(items[0].sequence > last);
	/* of no operation: dropped, not crashed on */
	operations_event(f->catalog, "op-none", EVENT_OUTPUT, "x", NULL, "lost");
	assert_int_equal(
		operations_events(f->catalog, "op-none", 0, 7, &f->scratch, &items, &count, &e),
		OK);
	assert_int_equal(count, 0);
}

static void a_long_message_is_cut_at_a_character(void **state)
{
	struct catalog_fixture *f = *state;
	struct operation_event *items = NULL;
	size_t count = 0;
	struct err e;
	char text[9000];
	struct operation o = put(f->catalog, "deploy");
	text[0] = 'x'; /* so that no power of two falls between two characters */
	for (size_t i = 1; i + 4 < sizeof(text); i += 3)
		memcpy(text + i, "\xe2\x82\xac", 4);
	operations_event(f->catalog, o.id, EVENT_OUTPUT, "x", NULL, "%s", text);
	assert_int_equal(operations_events(f->catalog, o.id, 0, 7, &f->scratch, &items, &count, &e),
			 OK);
	assert_int_equal(count, 1);
	assert_in_range(strlen(items[0].message), 4000, 4095);
	assert_int_equal(strncmp(items[0].message, text, strlen(items[0].message)), 0);
	assert_int_equal(strlen(items[0].message) % 3, 1);
}

static void past_the_cap_only_what_matters_is_kept(void **state)
{
	struct catalog_fixture *f = *state;
	struct err e;
	struct operation o = put(f->catalog, "build"), other = put(f->catalog, "build");
	assert_int_equal(catalog_begin(f->catalog, &e), OK);
	for (int i = 0; i < 10050; i++)
		operations_event(f->catalog, o.id, i % 2 ? EVENT_OUTPUT : EVENT_PROGRESS, "x", NULL,
				 "%d", i);
	operations_event(f->catalog, o.id, EVENT_FAILURE, "x", NULL, "the end");
	operations_event(f->catalog, other.id, EVENT_OUTPUT, "x", NULL, "its own cap");
	assert_int_equal(catalog_end(f->catalog, OK, &e), OK);
	assert_int_equal(catalog_ask(f->catalog, "SELECT count(*) FROM operation_event"), 10002);
	assert_int_equal(catalog_ask(f->catalog, "SELECT count(*) FROM operation_event"
						 " WHERE message = 'the end'"),
			 1);
}

/* ---- Leases. */

static void a_lease_names_its_holder(void **state)
{
	struct catalog_fixture *f = *state;
	struct lease mine = { .fence = 0 }, theirs, seen;
	struct err e;
	struct operation o = put(f->catalog, "deploy"), second = put(f->catalog, "deploy");
	assert_int_equal(leases_get(f->catalog, "shop/production", &seen, &e), ERR_NOT_FOUND);
	assert_int_equal(
		leases_acquire(f->catalog, "shop/production", o.id, "token:ann", &mine, &e), OK);
	assert_int_equal(
		leases_acquire(f->catalog, "shop/production", second.id, "token:bob", &theirs, &e),
		ERR_LOCKED);
	assert_non_null(strstr(e.message, "token:ann"));
	assert_non_null(strstr(e.message, o.id));
	assert_int_equal(leases_get(f->catalog, "shop/production", &seen, &e), OK);
	assert_string_equal(seen.holder, "token:ann");
	/* another place is another lease */
	assert_int_equal(
		leases_acquire(f->catalog, "shop/staging", second.id, "token:bob", &theirs, &e),
		OK);
	/* the same operation gets it again: the same fence, a later end */
	catalog_reopen(f);
	assert_int_equal(
		leases_acquire(f->catalog, "shop/production", o.id, "token:ann", &seen, &e), OK);
	assert_int_equal(seen.fence, mine.fence);
	assert_int_equal(seen.acquired, mine.acquired);
	assert_true(seen.expires >= mine.expires);
	assert_int_equal(get(f, o.id).fence, mine.fence);
}

static void the_fence_grows_with_every_holder(void **state)
{
	struct catalog_fixture *f = *state;
	struct lease l;
	struct err e;
	int64_t fence = 0;
	for (int i = 0; i < 5; i++) {
		struct operation o = put(f->catalog, "deploy");
		assert_int_equal(leases_acquire(f->catalog, "shop/production", o.id, "me", &l, &e),
				 OK);
		assert_true(l.fence > fence);
		fence = l.fence;
		/* who does not hold it releases nothing */
		assert_int_equal(leases_release(f->catalog, "shop/production", "op-other", &e), OK);
		assert_int_equal(leases_get(f->catalog, "shop/production", &l, &e), OK);
		assert_int_equal(leases_release(f->catalog, "shop/production", o.id, &e), OK);
		assert_int_equal(leases_get(f->catalog, "shop/production", &l, &e), ERR_NOT_FOUND);
		catalog_reopen(f);
	}
}

static void expire(struct catalog *c)
{
	catalog_run(c, "UPDATE lease SET expires = 1");
}

static void an_expired_lease_of_nobody_at_work_can_be_taken(void **state)
{
	struct catalog_fixture *f = *state;
	struct lease mine, theirs;
	struct err e;
	struct operation dead = put(f->catalog, "deploy"), next = put(f->catalog, "deploy");
	assert_int_equal(leases_acquire(f->catalog, "shop/production", dead.id, "a", &mine, &e),
			 OK);
	expire(f->catalog);
	/* renewing in time is best, late is well as long as nobody took it */
	assert_int_equal(leases_renew(f->catalog, &mine, &e), OK);
	assert_int_equal(leases_acquire(f->catalog, "shop/production", next.id, "b", &theirs, &e),
			 ERR_LOCKED);
	expire(f->catalog);
	assert_int_equal(leases_acquire(f->catalog, "shop/production", next.id, "b", &theirs, &e),
			 OK);
	assert_int_equal(theirs.fence, mine.fence + 1);
	assert_int_equal(leases_renew(f->catalog, &mine, &e), ERR_LOCKED);
	assert_non_null(strstr(e.message, "lost"));
	assert_int_equal(leases_renew(f->catalog, &theirs, &e), OK);
}

/* A clock that jumps, or a daemon that was away for long, costs no running operation its lease. */
static void an_operation_at_work_keeps_its_lease(void **state)
{
	struct catalog_fixture *f = *state;
	struct lease mine, theirs;
	struct err e;
	bool taken = false;
	struct operation at_work = put(f->catalog, "deploy"), next = put(f->catalog, "deploy");
	assert_int_equal(operations_begin(f->catalog, at_work.id, &taken, &e), OK);
	assert_int_equal(leases_acquire(f->catalog, "shop/production", at_work.id, "a", &mine, &e),
			 OK);
	expire(f->catalog);
	catalog_reopen(f);
	assert_int_equal(leases_acquire(f->catalog, "shop/production", next.id, "b", &theirs, &e),
			 ERR_LOCKED);
	assert_int_equal(
		operations_finish(f->catalog, at_work.id, OPERATION_FAILED, NULL, "{}", &e), OK);
	assert_int_equal(leases_acquire(f->catalog, "shop/production", next.id, "b", &theirs, &e),
			 OK);
}

struct racer {
	struct catalog *catalog;
	int inside;
	int entered;
};

static void *race(void *ctx)
{
	struct racer *r = ctx;
	for (int i = 0; i < 20; i++) {
		struct operation o = make("deploy");
		struct lease l;
		if (operations_put(r->catalog, &o, NULL) != OK)
			return "put";
		while (leases_acquire(r->catalog, "shop/production", o.id, "x", &l, NULL) != OK)
			;
		if (__atomic_fetch_add(&r->inside, 1, __ATOMIC_ACQ_REL) != 0)
			return "two hold it";
		r->entered++; /* the lease is the lock; the catalog's orders memory */
		__atomic_fetch_sub(&r->inside, 1, __ATOMIC_ACQ_REL);
		if (leases_release(r->catalog, "shop/production", o.id, NULL) != OK)
			return "release";
	}
	return NULL;
}

static void one_holds_it_at_a_time(void **state)
{
	struct catalog_fixture *f = *state;
	struct racer r = { .catalog = f->catalog };
	pthread_t threads[3];
	for (size_t i = 0; i < ARRAY_COUNT(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, race, &r), 0);
	for (size_t i = 0; i < ARRAY_COUNT(threads); i++) {
		void *problem = NULL;
		pthread_join(threads[i], &problem);
		if (problem)
			fail_msg("%s", (const char *)problem);
	}
	assert_int_equal(r.entered, 60);
}

/* ---- The outbox. */

static void put_message(struct catalog *c, const char *id, time_ms next)
{
	struct outbox_message m = { .message_id = id,
				    .app = "shop",
				    .environment = "production",
				    .url = "https://hooks.example/",
				    .secret_name = "HOOK",
				    .body = "{}",
				    .next = next };
	struct err e = { 0 };
	if (outbox_put(c, &m, &e) != OK)
		fail_msg("%s", e.message);
}

static void messages_are_due_in_their_order(void **state)
{
	struct catalog_fixture *f = *state;
	struct outbox_message *items = NULL, again = { .message_id = "b",
						       .app = "",
						       .environment = "",
						       .url = "",
						       .secret_name = "",
						       .body = "" };
	size_t count = 0;
	time_ms next = 0;
	struct err e;
	put_message(f->catalog, "c", 300);
	put_message(f->catalog, "a", 100);
	put_message(f->catalog, "b", 100);
	put_message(f->catalog, "d", 9000);
	assert_int_equal(outbox_put(f->catalog, &again, &e), ERR_CONFLICT);
	catalog_reopen(f);
	assert_int_equal(outbox_due(f->catalog, 50, 10, &f->scratch, &items, &count, &next, &e),
			 OK);
	assert_true(count == 0 && next == 100);
	assert_int_equal(outbox_due(f->catalog, 1000, 10, &f->scratch, &items, &count, &next, &e),
			 OK);
	assert_true(count == 3 && next == 9000);
	assert_string_equal(items[0].message_id, "a");
	assert_string_equal(items[1].message_id, "b");
	assert_string_equal(items[2].message_id, "c");
	assert_string_equal(items[0].secret_name, "HOOK");
	assert_int_equal(outbox_sent(f->catalog, items[0].id, &e), OK);
	assert_int_equal(outbox_due(f->catalog, 1000, 1, &f->scratch, &items, &count, &next, &e),
			 OK);
	assert_true(count == 1 && next == 300);
	assert_string_equal(items[0].message_id, "b");
	/* what was sent is not told again, even by a step that is repeated */
	again.message_id = "a";
	assert_int_equal(outbox_put(f->catalog, &again, &e), ERR_CONFLICT);
}

static void a_message_is_given_up_after_its_attempts(void **state)
{
	struct catalog_fixture *f = *state;
	struct outbox_message *items = NULL;
	size_t count = 0;
	time_ms next = 0;
	struct err e;
	put_message(f->catalog, "a", 0);
	for (int i = 0; i < OUTBOX_ATTEMPTS_MAX; i++) {
		assert_int_equal(outbox_due(f->catalog, 1000 * i, 10, &f->scratch, &items, &count,
					    &next, &e),
				 OK);
		assert_int_equal(count, 1);
		assert_int_equal(items[0].attempts, i);
		assert_int_equal(outbox_failed(f->catalog, items[0].id, 1000 * (i + 1),
					       "connection refused", &e),
				 OK);
		assert_int_equal(outbox_due(f->catalog, 1000 * i, 10, &f->scratch, &items, &count,
					    &next, &e),
				 OK);
		assert_int_equal(count, 0);
	}
	assert_int_equal(
		outbox_due(f->catalog, INT64_MAX, 10, &f->scratch, &items, &count, &next, &e), OK);
	assert_true(count == 0 && next == 0);
	assert_int_equal(catalog_ask(f->catalog, "SELECT count(*) FROM outbox"
						 " WHERE error = 'connection refused'"),
			 1);
}

static void a_message_too_large_is_refused(void **state)
{
	struct catalog_fixture *f = *state;
	struct err e;
	char *body = must_calloc(OUTBOX_BODY_MAX + 2, 1);
	memset(body, 'x', OUTBOX_BODY_MAX + 1);
	struct outbox_message m = { .message_id = "a",
				    .app = "",
				    .environment = "",
				    .url = "",
				    .secret_name = "",
				    .body = body };
	assert_int_equal(outbox_put(f->catalog, &m, &e), ERR_LIMIT);
	body[OUTBOX_BODY_MAX] = '\0';
	assert_int_equal(outbox_put(f->catalog, &m, &e), OK);
	free(body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CATALOG_TEST(an_operation_lives_from_queued_to_finished),
		CATALOG_TEST(old_operations_are_forgotten_with_their_events),
		CATALOG_TEST(a_wish_to_cancel_is_heard),
		CATALOG_TEST(the_unfinished_are_listed_oldest_first),
		CATALOG_TEST(one_thread_of_eight_takes_it),
		CATALOG_TEST(events_come_in_order),
		CATALOG_TEST(a_long_message_is_cut_at_a_character),
		CATALOG_TEST(past_the_cap_only_what_matters_is_kept),
		CATALOG_TEST(a_lease_names_its_holder),
		CATALOG_TEST(the_fence_grows_with_every_holder),
		CATALOG_TEST(an_expired_lease_of_nobody_at_work_can_be_taken),
		CATALOG_TEST(an_operation_at_work_keeps_its_lease),
		CATALOG_TEST(one_holds_it_at_a_time),
		CATALOG_TEST(messages_are_due_in_their_order),
		CATALOG_TEST(a_message_is_given_up_after_its_attempts),
		CATALOG_TEST(a_message_too_large_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
