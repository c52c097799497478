/*
 * The outbox: messages that must reach an outside address, kept until they did or were given up.
 * Written in the transaction of what they announce; sent by the feature `notify`.
 */
#pragma once

#include "catalog/catalog.h"

enum { OUTBOX_ATTEMPTS_MAX = 8, OUTBOX_BODY_MAX = 256 * 1024 };

struct outbox_message {
	int64_t id;
	const char *message_id; /* the webhook-id: the same for every attempt */
	const char *app;
	const char *environment;
	const char *url;
	const char *secret_name; /* of the environment's secrets; empty: unsigned */
	const char *body;
	int attempts;
	time_ms next; /* not before */
};

WARN_UNUSED errc outbox_put(struct catalog *c, const struct outbox_message *m, struct err *e);
/* Those due by NOW, oldest first; *ret_next (0 none) is when the next one after them is due. */
WARN_UNUSED errc outbox_due(struct catalog *c, time_ms now, int limit, struct arena *scratch,
			    struct outbox_message **ret_items, size_t *ret_count, time_ms *ret_next,
			    struct err *e);
WARN_UNUSED errc outbox_sent(struct catalog *c, int64_t id, struct err *e);
/* Count an attempt and put it off; given up (and kept for `holdfast audit`) after the last. */
WARN_UNUSED errc outbox_failed(struct catalog *c, int64_t id, time_ms next, const char *why,
			       struct err *e);
