/*
 * executor: a bounded pool of worker threads over a bounded queue.
 *
 * Threads: executor_submit() from any. A thread is created when work waits and none is idle, up to
 *   the cap, and ends after 10 s without work, so an idle daemon pays for none.
 */
#pragma once

#include "base/err.h"

struct executor;

/* Owns: end with executor_free(), which waits for what is running and drops what is queued. */
struct executor *executor_new(const char *name, unsigned thread_count_max,
			      unsigned queue_count_max);
void executor_free(struct executor *x);

/* Queue RUN(ctx). Errors: ERR_BUSY when the queue is full. */
WARN_UNUSED errc executor_submit(struct executor *x, void (*run)(void *ctx), void *ctx,
				 struct err *e);
