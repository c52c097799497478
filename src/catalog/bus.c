#include "catalog/bus.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/checks.h"

enum { SUBSCRIPTION_COUNT_MAX = 1024 };

struct subscription {
	enum bus_topic topic;
	void (*note)(void *ctx, enum bus_topic topic, str subject);
	void *ctx;
};

struct bus {
	pthread_mutex_t subscriptions_lock;
	struct subscription *subscriptions;
	size_t subscription_count;
	size_t subscription_room;

	pthread_mutex_t sequence_lock;
	pthread_cond_t announced;
	uint64_t sequence;
};

struct bus *bus_new(void)
{
	struct bus *b = must_calloc(1, sizeof(*b));
	pthread_condattr_t monotonic;
	pthread_mutex_init(&b->subscriptions_lock, NULL);
	pthread_mutex_init(&b->sequence_lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&b->announced, &monotonic);
	pthread_condattr_destroy(&monotonic);
	return b;
}

void bus_free(struct bus *b)
{
	if (!b)
		return;
	pthread_mutex_destroy(&b->subscriptions_lock);
	pthread_mutex_destroy(&b->sequence_lock);
	pthread_cond_destroy(&b->announced);
	free(b->subscriptions);
	free(b);
}

bool bus_subscribe(struct bus *b, enum bus_topic topic,
		   void (*note)(void *ctx, enum bus_topic topic, str subject), void *ctx)
{
	pthread_mutex_lock(&b->subscriptions_lock);
	bool room = b->subscription_count < SUBSCRIPTION_COUNT_MAX;
	if (room && b->subscription_count == b->subscription_room) {
		b->subscription_room = b->subscription_room ? 2 * b->subscription_room : 16;
		b->subscriptions = must_realloc(b->subscriptions,
						b->subscription_room * sizeof(b->subscriptions[0]));
	}
	if (room)
		b->subscriptions[b->subscription_count++] = (struct subscription){ topic, note,
										   ctx };
	pthread_mutex_unlock(&b->subscriptions_lock);
	return room;
}

void bus_unsubscribe(struct bus *b, void (*note)(void *ctx, enum bus_topic topic, str subject),
		     void *ctx)
{
	size_t kept = 0;
	pthread_mutex_lock(&b->subscriptions_lock);
	for (size_t i = 0; i < b->subscription_count; i++)
		if (b->subscriptions[i].note != note || b->subscriptions[i].ctx != ctx)
			b->subscriptions[kept++] = b->subscriptions[i];
	b->subscription_count = kept;
	pthread_mutex_unlock(&b->subscriptions_lock);
}

void bus_publish(struct bus *b, enum bus_topic topic, str subject)
{
	pthread_mutex_lock(&b->sequence_lock);
	b->sequence++;
	pthread_cond_broadcast(&b->announced);
	pthread_mutex_unlock(&b->sequence_lock);

	pthread_mutex_lock(&b->subscriptions_lock);
	for (size_t i = 0; i < b->subscription_count; i++)
		if (b->subscriptions[i].topic == topic)
			b->subscriptions[i].note(b->subscriptions[i].ctx, topic, subject);
	pthread_mutex_unlock(&b->subscriptions_lock);
}

uint64_t bus_sequence(struct bus *b)
{
	pthread_mutex_lock(&b->sequence_lock);
	uint64_t sequence = b->sequence;
	pthread_mutex_unlock(&b->sequence_lock);
	return sequence;
}

bool bus_wait(struct bus *b, uint64_t sequence, int64_t timeout_ms)
{
	struct timespec until;
	if (timeout_ms < 0)
		timeout_ms = 0;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += timeout_ms / 1000;
	until.tv_nsec += (timeout_ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	pthread_mutex_lock(&b->sequence_lock);
	while (b->sequence == sequence)
		if (pthread_cond_timedwait(&b->announced, &b->sequence_lock, &until) != 0)
			break;
	bool announced = b->sequence != sequence;
	pthread_mutex_unlock(&b->sequence_lock);
	return announced;
}
