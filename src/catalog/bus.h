/*
 * The bus: every change of state is announced here, within the process.
 *
 * Threads: any. Subscribers are called in the publisher's thread, in the order they subscribed, and
 *   must only note that something happened (wake a thread, set a flag); they may not publish.
 */
#pragma once

#include "base/str.h"

struct bus;

/* What changed. */
enum bus_topic {
	BUS_INSTANCE_DESIRED,  /* runtime has something to reconcile; subject: instance id */
	BUS_INSTANCE_OBSERVED, /* an instance's process or its standing in the proxy changed */
	BUS_TRAFFIC_DESIRED,   /* the proxy has something to reconcile; subject: app/environment */
	BUS_OPERATION, /* an operation's state or a new event of it; subject: operation id */
	BUS_RELEASE,   /* a release was made or changed state; subject: app/environment */
	BUS_OUTBOX,    /* a message waits to be sent */
	BUS_TOPIC_COUNT
};

struct bus *bus_new(void);
void bus_free(struct bus *b);

/* Call NOTE(ctx, topic, subject) for every announcement of TOPIC until bus_unsubscribe().
 * Limits: 1,024 subscriptions; false past them. */
bool bus_subscribe(struct bus *b, enum bus_topic topic,
		   void (*note)(void *ctx, enum bus_topic topic, str subject), void *ctx);
/* Forget every subscription with this NOTE and CTX; no call of it runs once this returns. */
void bus_unsubscribe(struct bus *b, void (*note)(void *ctx, enum bus_topic topic, str subject),
		     void *ctx);

void bus_publish(struct bus *b, enum bus_topic topic, str subject);

/* How many announcements there have been. Read it before looking at state, then wait with it. */
uint64_t bus_sequence(struct bus *b);
/* Wait until there were announcements after SEQUENCE, at most TIMEOUT_MS; false on time-out. */
bool bus_wait(struct bus *b, uint64_t sequence, int64_t timeout_ms);
