/* A time-series engine in a temporary folder, with a clock that tests set, and what they put in. */
#pragma once

#include "metrics/metrics.h"

enum { FIXTURE_DAY_MS = 86400000 };

struct metrics_fixture {
	char folder[64];
	struct metrics_options options;
	struct metrics *m;
};

/* The engine's time; tests move it. */
extern time_ms fixture_time;

/* An empty engine, with defaults where the test says nothing later. */
void fixture_open(struct metrics_fixture *f);
/* Close and open again, as after a kill: nothing is flushed. */
void fixture_reopen(struct metrics_fixture *f);
void fixture_close(struct metrics_fixture *f);
/* Tick until nothing is due. */
void fixture_tick(struct metrics_fixture *f);

/* One sample of `NAME{i="INDEX"}` in a commit of its own. */
void fixture_put(struct metrics_fixture *f, const char *name, unsigned index, time_ms time,
		 double value);
/* The labels of that series, in ITEMS and TEXT. */
struct labels fixture_labels(const char *name, unsigned index, struct label items[static 2],
			     char text[static 16]);
/* The samples of the series with that name and index in [from, to]; how many. Owns: end INTO with
 * metrics_samples_done(). */
size_t fixture_read(struct metrics_fixture *f, const char *name, unsigned index, time_ms from,
		    time_ms to, struct metrics_samples *into);

/* Fail the test with the error's message. */
#define assert_ok(expr) fixture_assert_ok((expr), &fixture_error, __FILE__, __LINE__)
extern struct err fixture_error;
void fixture_assert_ok(errc rc, const struct err *e, const char *file, int line);
