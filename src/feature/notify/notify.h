/*
 * notify: sends what waits in the outbox: webhooks, signed as Standard Webhooks ask, tried again
 * with growing pauses (5 s to about 10 minutes) until the receiver answers 2xx or the attempts are
 * used up.
 *
 * Threads: one of its own, which sleeps until something waits.
 */
#pragma once

#include "feature/feature.h"

extern const struct feature notify_feature;
