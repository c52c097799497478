#include "metrics_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "os/io.h"

time_ms fixture_time = 1790000000000;
struct err fixture_error;

static time_ms fixture_now(void)
{
	return __atomic_load_n(&fixture_time, __ATOMIC_RELAXED);
}

void fixture_assert_ok(errc rc, const struct err *e, const char *file, int line)
{
	if (rc == OK)
		return;
	print_error("%s: %s (%s:%d)\n", errc_name(rc), e->message, e->file, e->line);
	_fail(file, line);
}

void fixture_open(struct metrics_fixture *f)
{
	*f = (struct metrics_fixture){ .folder = "/tmp/hf-metrics-XXXXXX" };
	assert_non_null(mkdtemp(f->folder));
	f->options = (struct metrics_options){ .folder = f->folder,
					       .now = fixture_now,
					       .disk_reserve_bytes = 1,
					       .memory_bytes_max = (size_t)256 << 20 };
	assert_ok(metrics_open(&f->options, &f->m, &fixture_error));
}

void fixture_reopen(struct metrics_fixture *f)
{
	metrics_close(f->m);
	f->m = NULL;
	assert_ok(metrics_open(&f->options, &f->m, &fixture_error));
}

void fixture_close(struct metrics_fixture *f)
{
	metrics_close(f->m);
	f->m = NULL;
	assert_ok(io_remove_tree(f->folder, &fixture_error));
}

void fixture_tick(struct metrics_fixture *f)
{
	bool more = true;
	while (more)
		assert_ok(metrics_tick(f->m, &more, &fixture_error));
}

struct labels fixture_labels(const char *name, unsigned index, struct label items[static 2],
			     char text[static 16])
{
	snprintf(text, 16, "%u", index);
	items[0] = (struct label){ STR(LABEL_METRIC_NAME), str_c(name) };
	items[1] = (struct label){ STR("i"), str_c(text) };
	return (struct labels){ items, 2 };
}

void fixture_put(struct metrics_fixture *f, const char *name, unsigned index, time_ms time,
		 double value)
{
	struct metrics_batch *b = metrics_batch_new(f->m, STR("test"), 0);
	struct metrics_batch_result result;
	struct label items[2];
	char text[16];
	struct labels labels = fixture_labels(name, index, items, text);
	metrics_ref ref = 0;
	assert_ok(metrics_batch_series(b, &labels, &ref, &fixture_error));
	assert_true(metrics_batch_sample(b, ref, time, value));
	assert_ok(metrics_batch_commit(b, &result, &fixture_error));
	assert_int_equal(result.sample_count, 1);
	metrics_batch_free(b);
}

size_t fixture_read(struct metrics_fixture *f, const char *name, unsigned index, time_ms from,
		    time_ms to, struct metrics_samples *into)
{
	char text[16];
	snprintf(text, sizeof(text), "%u", index);
	const struct matcher matchers[] = {
		{ .type = MATCH_EQUAL, .name = STR(LABEL_METRIC_NAME), .value = str_c(name) },
		{ .type = MATCH_EQUAL, .name = STR("i"), .value = str_c(text) },
	};
	struct metrics_query query = {
		.matchers = matchers, .matcher_count = 2, .from = from, .to = to
	};
	struct metrics_selection *s = NULL;
	assert_ok(metrics_select(f->m, &query, &s, &fixture_error));
	size_t count = metrics_selection_count(s);
	assert_true(count <= 1);
	into->count = 0;
	if (count)
		assert_ok(metrics_selection_read(s, 0, from, to, into, &fixture_error));
	metrics_selection_free(s);
	return into->count;
}
