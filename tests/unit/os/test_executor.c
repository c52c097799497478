#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/checks.h"
#include "os/executor.h"

/* A job that says it has begun and then waits to be let go. */
struct gate {
	sem_t begun;
	sem_t open;
	int done_count; /* atomic */
};

static void wait_at_gate(void *ctx)
{
	struct gate *g = ctx;
	sem_post(&g->begun);
	sem_wait(&g->open);
	__atomic_add_fetch(&g->done_count, 1, __ATOMIC_SEQ_CST);
}

static void gate_init(struct gate *g)
{
	*g = (struct gate){ 0 };
	sem_init(&g->begun, 0, 0);
	sem_init(&g->open, 0, 0);
}

static void gate_let(struct gate *g, int count)
{
	while (count--)
		sem_post(&g->open);
}

static void gate_await(struct gate *g, int count)
{
	while (count--)
		sem_wait(&g->begun);
}

static void runs_up_to_the_cap_at_once(void **state)
{
	(void)state;
	struct gate g;
	struct err e;
	gate_init(&g);
	struct executor *x = executor_new("test", 3, 10);
	for (int i = 0; i < 3; i++)
		assert_int_equal(executor_submit(x, wait_at_gate, &g, &e), OK);
	gate_await(&g, 3); /* ends only if all three run together */
	assert_int_equal(executor_submit(x, wait_at_gate, &g, &e), OK);
	assert_int_equal(sem_trywait(&g.begun), -1); /* the fourth waits for a thread */
	gate_let(&g, 4);
	gate_await(&g, 1);
	executor_free(x);
	assert_int_equal(g.done_count, 4);
}

static void a_full_queue_is_busy(void **state)
{
	(void)state;
	struct gate g;
	struct err e;
	gate_init(&g);
	struct executor *x = executor_new("test", 1, 2);
	assert_int_equal(executor_submit(x, wait_at_gate, &g, &e), OK);
	gate_await(&g, 1);
	assert_int_equal(executor_submit(x, wait_at_gate, &g, &e), OK);
	assert_int_equal(executor_submit(x, wait_at_gate, &g, &e), OK);
	assert_int_equal(executor_submit(x, wait_at_gate, &g, &e), ERR_BUSY);
	assert_non_null(strstr(e.message, "try again"));
	gate_let(&g, 4);
	gate_await(&g, 2);
	/* room again; the refused one was not run */
	assert_int_equal(executor_submit(x, wait_at_gate, &g, &e), OK);
	gate_await(&g, 1);
	executor_free(x);
	assert_int_equal(g.done_count, 4);
}

static void *end_thread(void *ctx)
{
	executor_free(ctx);
	return NULL;
}

static void free_waits_for_what_runs_and_drops_the_rest(void **state)
{
	(void)state;
	struct gate g;
	struct err e;
	pthread_t thread;
	gate_init(&g);
	struct executor *x = executor_new("test", 1, 10);
	for (int i = 0; i < 5; i++)
		assert_int_equal(executor_submit(x, wait_at_gate, &g, &e), OK);
	gate_await(&g, 1);
	assert_int_equal(pthread_create(&thread, NULL, end_thread, x), 0);
	gate_let(&g, 5);
	assert_int_equal(pthread_join(thread, NULL), 0);
	/* one was running when the end began; others may have slipped in before it */
	assert_in_range(g.done_count, 1, 5);
	executor_free(NULL);
}

struct order {
	int seen[100];
	int count;
	sem_t all;
};

struct numbered {
	struct order *order;
	int number;
};

static void note(void *ctx)
{
	struct numbered *n = ctx;
	n->order->seen[n->order->count++] = n->number;
	if (n->order->count == 100)
		sem_post(&n->order->all);
}

static void one_thread_keeps_the_order(void **state)
{
	(void)state;
	struct order order = { .count = 0 };
	struct numbered jobs[100];
	struct err e;
	sem_init(&order.all, 0, 0);
	struct executor *x = executor_new("a name longer than the kernel keeps", 1, 100);
	for (int i = 0; i < 100; i++) {
		jobs[i] = (struct numbered){ &order, i };
		assert_int_equal(executor_submit(x, note, &jobs[i], &e), OK);
	}
	sem_wait(&order.all);
	executor_free(x);
	for (int i = 0; i < 100; i++)
		assert_int_equal(order.seen[i], i);
}

enum { SUBMITTERS = 4, JOBS_EACH = 2000 };

struct storm {
	struct executor *x;
	int run_count;      /* atomic */
	int accepted_count; /* atomic */
	sem_t ended;        /* posted once a job */
};

static void count_one(void *ctx)
{
	struct storm *s = ctx;
	__atomic_add_fetch(&s->run_count, 1, __ATOMIC_SEQ_CST);
	sem_post(&s->ended);
}

static void *submit_many(void *ctx)
{
	struct storm *s = ctx;
	for (int i = 0; i < JOBS_EACH; i++)
		if (executor_submit(s->x, count_one, s, NULL) == OK)
			__atomic_add_fetch(&s->accepted_count, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

/* Every accepted job runs exactly once, whoever submits and however full the queue is. */
static void nothing_is_lost_under_contention(void **state)
{
	(void)state;
	struct storm s = { .x = executor_new("storm", 3, 64) };
	pthread_t threads[SUBMITTERS];
	sem_init(&s.ended, 0, 0);
	for (int i = 0; i < SUBMITTERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, submit_many, &s), 0);
	for (int i = 0; i < SUBMITTERS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	int accepted = __atomic_load_n(&s.accepted_count, __ATOMIC_SEQ_CST);
	for (int i = 0; i < accepted; i++)
		sem_wait(&s.ended);
	executor_free(s.x);
	assert_true(accepted > 0);
	assert_int_equal(s.run_count, accepted);
}

struct chain {
	struct executor *x;
	int left;
	sem_t end;
};

static void next_link(void *ctx)
{
	struct chain *c = ctx;
	if (c->left-- == 0)
		sem_post(&c->end);
	else
		must(executor_submit(c->x, next_link, c, NULL) == OK);
}

static void a_job_may_submit(void **state)
{
	(void)state;
	struct chain c = { .x = executor_new("chain", 1, 1), .left = 500 };
	sem_init(&c.end, 0, 0);
	assert_int_equal(executor_submit(c.x, next_link, &c, NULL), OK);
	sem_wait(&c.end);
	executor_free(c.x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(runs_up_to_the_cap_at_once),
		cmocka_unit_test(a_full_queue_is_busy),
		cmocka_unit_test(free_waits_for_what_runs_and_drops_the_rest),
		cmocka_unit_test(one_thread_keeps_the_order),
		cmocka_unit_test(nothing_is_lost_under_contention),
		cmocka_unit_test(a_job_may_submit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
