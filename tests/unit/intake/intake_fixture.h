/* An engine with an intake in front of it, and what came out as text. */
#pragma once

#include "base/buf.h"
#include "intake/intake.h"
#include "metrics/metrics.h"

struct intake_fixture {
	char folder[64];
	struct metrics *m;
	struct intake *in;
	struct metrics_batch *batch;
	struct intake_result result;
	struct metrics_batch_result committed;
	struct buf text;
};

#define FIXTURE_NOW INT64_C(1790000000000)

/* SERIES_MAX: of the source of the batch; 0: no limit. */
void fixture_open(struct intake_fixture *f, uint64_t series_max);
void fixture_close(struct intake_fixture *f);
void fixture_commit(struct intake_fixture *f);
/* Every sample as `labels value@time-FIXTURE_NOW`, by series and time, a line each. Valid until:
 * the next call. */
const char *fixture_dump(struct intake_fixture *f);
/* Exemplars and metadata likewise. */
const char *fixture_exemplars(struct intake_fixture *f);
const char *fixture_metadata(struct intake_fixture *f);

/* Fail the test with the error's message. */
#define assert_ok(expr) fixture_assert_ok((expr), &fixture_error, __FILE__, __LINE__)
extern struct err fixture_error;
void fixture_assert_ok(errc rc, const struct err *e, const char *file, int line);
