#include "os/executor.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "base/checks.h"

enum { IDLE_SECONDS_MAX = 10, STACK_BYTES = 512 * 1024 };

struct job {
	void (*run)(void *ctx);
	void *ctx;
};

struct executor {
	pthread_mutex_t lock;
	pthread_cond_t work;  /* signalled: a job was queued, or stopping */
	pthread_cond_t ended; /* signalled: a thread ended */
	struct job *ring;
	unsigned ring_size;
	unsigned first;
	unsigned queued_count;
	unsigned idle_count;
	unsigned thread_count;
	unsigned thread_count_max;
	bool stopping;
	char name[16];
};

struct executor *executor_new(const char *name, unsigned thread_count_max, unsigned queue_count_max)
{
	must(thread_count_max > 0 && queue_count_max > 0);
	struct executor *x = must_calloc(1, sizeof(*x));
	pthread_condattr_t monotonic;
	pthread_mutex_init(&x->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&x->work, &monotonic);
	pthread_cond_init(&x->ended, &monotonic);
	pthread_condattr_destroy(&monotonic);
	x->ring = must_calloc(queue_count_max, sizeof(x->ring[0]));
	x->ring_size = queue_count_max;
	x->thread_count_max = thread_count_max;
	for (size_t i = 0; i + 1 < sizeof(x->name) && name[i]; i++)
		x->name[i] = name[i];
	return x;
}

/* Wait for a job with the lock held; false when idle too long or stopping. */
static bool next_job(struct executor *x, struct job *ret_job)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += IDLE_SECONDS_MAX;
	x->idle_count++;
	while (x->queued_count == 0 && !x->stopping)
		if (pthread_cond_timedwait(&x->work, &x->lock, &until) == ETIMEDOUT)
			break;
	x->idle_count--;
	if (x->queued_count == 0 || x->stopping)
		return false;
	*ret_job = x->ring[x->first];
	x->first = (x->first + 1) % x->ring_size;
	x->queued_count--;
	return true;
}

static void *worker(void *arg)
{
	struct executor *x = arg;
	struct job job;
	pthread_setname_np(pthread_self(), x->name);
	pthread_mutex_lock(&x->lock);
	while (next_job(x, &job)) {
		pthread_mutex_unlock(&x->lock);
		job.run(job.ctx);
		pthread_mutex_lock(&x->lock);
	}
	x->thread_count--;
	pthread_cond_broadcast(&x->ended);
	pthread_mutex_unlock(&x->lock);
	return NULL;
}

static bool start_worker(struct executor *x)
{
	pthread_attr_t attr;
	pthread_t thread;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	bool started = pthread_create(&thread, &attr, worker, x) == 0;
	pthread_attr_destroy(&attr);
	x->thread_count += started;
	return started;
}

errc executor_submit(struct executor *x, void (*run)(void *ctx), void *ctx, struct err *e)
{
	pthread_mutex_lock(&x->lock);
	bool full = x->queued_count == x->ring_size || x->stopping;
	if (!full && x->queued_count >= x->idle_count && x->thread_count < x->thread_count_max)
		full = !start_worker(x) && x->thread_count == 0;
	if (!full) {
		x->ring[(x->first + x->queued_count++) % x->ring_size] = (struct job){ run, ctx };
		pthread_cond_signal(&x->work);
	}
	pthread_mutex_unlock(&x->lock);
	if (full)
		FAIL(e, ERR_BUSY, "all %u workers are busy and %u requests wait; try again shortly",
		     x->thread_count_max, x->ring_size);
	return OK;
}

void executor_free(struct executor *x)
{
	if (!x)
		return;
	pthread_mutex_lock(&x->lock);
	x->stopping = true;
	pthread_cond_broadcast(&x->work);
	while (x->thread_count)
		pthread_cond_wait(&x->ended, &x->lock);
	pthread_mutex_unlock(&x->lock);
	pthread_mutex_destroy(&x->lock);
	pthread_cond_destroy(&x->work);
	pthread_cond_destroy(&x->ended);
	free(x->ring);
	free(x);
}
