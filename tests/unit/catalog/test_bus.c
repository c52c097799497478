#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>

#include "base/checks.h"
#include "catalog/bus.h"

struct heard {
	char text[200];
	int count;
};

static void note(void *ctx, enum bus_topic topic, str subject)
{
	struct heard *h = ctx;
	size_t used = strlen(h->text);
	snprintf(h->text + used, sizeof(h->text) - used, "%d:%.*s ", (int)topic, STR_ARG(subject));
	h->count++;
}

static void subscribers_hear_their_topic(void **state)
{
	(void)state;
	struct heard a = { 0 }, b = { 0 };
	struct bus *bus = bus_new();
	uint64_t before = bus_sequence(bus);
	assert_true(bus_subscribe(bus, BUS_RELEASE, note, &a));
	assert_true(bus_subscribe(bus, BUS_OUTBOX, note, &a));
	assert_true(bus_subscribe(bus, BUS_RELEASE, note, &b));
	bus_publish(bus, BUS_RELEASE, STR("one"));
	bus_publish(bus, BUS_OPERATION, STR("two"));
	bus_publish(bus, BUS_OUTBOX, STR("three"));
	char expected[64];
	snprintf(expected, sizeof(expected), "%d:one %d:three ", BUS_RELEASE, BUS_OUTBOX);
	assert_string_equal(a.text, expected);
	assert_int_equal(b.count, 1);
	assert_int_equal(bus_sequence(bus), before + 3);
	bus_unsubscribe(bus, note, &a); /* of both topics */
	bus_publish(bus, BUS_RELEASE, STR("four"));
	bus_publish(bus, BUS_OUTBOX, STR("five"));
	assert_int_equal(a.count, 2);
	assert_int_equal(b.count, 2);
	bus_free(bus);
}

static int order[8], order_count;

static void note_order(void *ctx, enum bus_topic topic, str subject)
{
	(void)topic, (void)subject;
	order[order_count++] = (int)(intptr_t)ctx;
}

static void they_are_called_in_their_order(void **state)
{
	(void)state;
	struct bus *bus = bus_new();
	for (intptr_t i = 1; i <= 4; i++)
		assert_true(bus_subscribe(bus, BUS_OUTBOX, note_order, (void *)i));
	bus_unsubscribe(bus, note_order, (void *)2);
	assert_true(bus_subscribe(bus, BUS_OUTBOX, note_order, (void *)2));
	bus_publish(bus, BUS_OUTBOX, STR(""));
	assert_int_equal(order_count, 4);
	assert_true(order[0] == 1 && order[1] == 3 && order[2] == 4 && order[3] == 2);
	bus_free(bus);
}

static void there_is_a_cap(void **state)
{
	(void)state;
	struct heard h = { 0 };
	struct bus *bus = bus_new();
	for (int i = 0; i < 1024; i++)
		assert_true(bus_subscribe(bus, BUS_OUTBOX, note, &h));
	assert_false(bus_subscribe(bus, BUS_OUTBOX, note, &h));
	bus_unsubscribe(bus, note, &h);
	assert_true(bus_subscribe(bus, BUS_OUTBOX, note, &h));
	bus_free(bus);
}

/* ---- Waiting. */

static void *publish_one(void *ctx)
{
	bus_publish(ctx, BUS_RELEASE, STR("x"));
	return NULL;
}

static void a_wait_ends_with_an_announcement(void **state)
{
	(void)state;
	struct bus *bus = bus_new();
	pthread_t thread;
	for (int i = 0; i < 200; i++) {
		uint64_t sequence = bus_sequence(bus);
		assert_int_equal(pthread_create(&thread, NULL, publish_one, bus), 0);
		/* even one that comes before the wait begins is not missed */
		assert_true(bus_wait(bus, sequence, 60000));
		pthread_join(thread, NULL);
	}
	uint64_t sequence = bus_sequence(bus);
	assert_false(bus_wait(bus, sequence, 0));
	assert_false(bus_wait(bus, sequence, 1));
	assert_false(bus_wait(bus, sequence, -1));
	assert_false(bus_wait(bus, sequence, -1500));
	assert_true(bus_wait(bus, sequence - 1, 0));
	bus_free(bus);
}

/* ---- No call runs once bus_unsubscribe() returned. */

struct publisher {
	struct bus *bus;
	bool stop;
};

static void *publish_many(void *ctx)
{
	struct publisher *p = ctx;
	while (!__atomic_load_n(&p->stop, __ATOMIC_ACQUIRE))
		bus_publish(p->bus, BUS_OPERATION, STR("op"));
	return NULL;
}

static void note_alive(void *ctx, enum bus_topic topic, str subject)
{
	(void)topic, (void)subject;
	++*(int *)ctx; /* a freed one is what the sanitizers would find */
}

static void an_unsubscribed_one_may_be_freed(void **state)
{
	(void)state;
	struct publisher p = { .bus = bus_new() };
	pthread_t threads[3];
	for (size_t i = 0; i < ARRAY_COUNT(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, publish_many, &p), 0);
	for (int i = 0; i < 2000; i++) {
		int *alive = must_calloc(1, sizeof(*alive));
		assert_true(bus_subscribe(p.bus, BUS_OPERATION, note_alive, alive));
		bus_unsubscribe(p.bus, note_alive, alive);
		free(alive);
	}
	__atomic_store_n(&p.stop, true, __ATOMIC_RELEASE);
	for (size_t i = 0; i < ARRAY_COUNT(threads); i++)
		pthread_join(threads[i], NULL);
	bus_free(p.bus);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(subscribers_hear_their_topic),
		cmocka_unit_test(they_are_called_in_their_order),
		cmocka_unit_test(there_is_a_cap),
		cmocka_unit_test(a_wait_ends_with_an_announcement),
		cmocka_unit_test(an_unsubscribed_one_may_be_freed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
