#include "intake_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codec/number.h"
#include "os/io.h"

struct err fixture_error;

static time_ms now(void)
{
	return FIXTURE_NOW;
}

void fixture_assert_ok(errc rc, const struct err *e, const char *file, int line)
{
	if (rc == OK)
		return;
	print_error("%s: %s (%s:%d)\n", errc_name(rc), e->message, e->file, e->line);
	_fail(file, line);
}

void fixture_open(struct intake_fixture *f, uint64_t series_max)
{
	*f = (struct intake_fixture){ .folder = "/tmp/hf-intake-XXXXXX",
				      .text = buf_init(64 << 20) };
	assert_non_null(mkdtemp(f->folder));
	struct metrics_options options = { .folder = f->folder,
					   .now = now,
					   .disk_reserve_bytes = 1,
					   .memory_bytes_max = (size_t)256 << 20 };
	assert_ok(metrics_open(&options, &f->m, &fixture_error));
	struct intake_options intake_options = { .metrics = f->m, .now = now };
	f->in = intake_new(&intake_options);
	f->batch = metrics_batch_new(f->m, STR("test"), series_max);
}

void fixture_close(struct intake_fixture *f)
{
	metrics_batch_free(f->batch);
	intake_free(f->in);
	metrics_close(f->m);
	buf_done(&f->text);
	assert_ok(io_remove_tree(f->folder, &fixture_error));
}

void fixture_commit(struct intake_fixture *f)
{
	f->committed = (struct metrics_batch_result){ 0 };
	assert_ok(metrics_batch_commit(f->batch, &f->committed, &fixture_error));
}

static void print_histogram(struct buf *into, const struct histogram *h)
{
	buf_printf(into, "h[schema %d count %g sum %g zero %g/%g reset %d", h->schema, h->count,
		   h->sum, h->zero_count, h->zero_threshold, (int)h->reset);
	const struct histogram_side *sides[] = { &h->positive, &h->negative };
	for (int i = 0; i < 2; i++) {
		buf_add_c(into, i ? " -" : " +");
		for (uint32_t k = 0; k < sides[i]->span_count; k++)
			buf_printf(into, "(%d,%u)", sides[i]->spans[k].offset,
				   sides[i]->spans[k].length);
		for (uint32_t k = 0; k < sides[i]->bucket_count; k++)
			buf_printf(into, " %g", sides[i]->buckets[k]);
	}
	for (uint32_t i = 0; i < h->custom_bound_count; i++)
		buf_printf(into, " le%g", h->custom_bounds[i]);
	buf_add_c(into, "]");
}

static void print_samples(struct buf *into, const struct labels *labels,
			  const struct metrics_samples *s)
{
	for (size_t i = 0; i < s->count; i++) {
		char text[NUMBER_TEXT_SIZE];
		labels_print(into, labels);
		buf_add_byte(into, ' ');
		if (s->histograms && s->histograms[i]) {
			print_histogram(into, s->histograms[i]);
		} else if (metrics_is_stale(s->values[i])) {
			buf_add_c(into, "stale");
		} else {
			number_format(s->values[i], text);
			buf_add_c(into, text);
		}
		buf_printf(into, "@%lld\n", (long long)(s->times[i] - FIXTURE_NOW));
	}
}

static struct matcher any_name(void)
{
	struct matcher m = { .type = MATCH_NOT_EQUAL,
			     .name = STR(LABEL_METRIC_NAME),
			     .value = STR("") };
	assert_ok(matcher_compile(&m, &fixture_error));
	return m;
}

const char *fixture_dump(struct intake_fixture *f)
{
	struct matcher matcher = any_name();
	struct metrics_query query = { .matchers = &matcher,
				       .matcher_count = 1,
				       .from = FIXTURE_NOW - 86400000,
				       .to = FIXTURE_NOW + 86400000 };
	struct metrics_selection *s = NULL;
	struct metrics_samples samples = { 0 };
	buf_clear(&f->text);
	assert_ok(metrics_select(f->m, &query, &s, &fixture_error));
	for (size_t i = 0; i < metrics_selection_count(s); i++) {
		struct labels labels = metrics_selection_labels(s, i);
		assert_ok(metrics_selection_read(s, i, query.from, query.to, &samples,
						 &fixture_error));
		print_samples(&f->text, &labels, &samples);
	}
	metrics_samples_done(&samples);
	metrics_selection_free(s);
	matcher_done(&matcher);
	return buf_cstr(&f->text);
}

const char *fixture_exemplars(struct intake_fixture *f)
{
	struct matcher matcher = any_name();
	struct metrics_matchers set = { &matcher, 1 };
	struct arena arena = arena_init(1 << 20);
	struct metrics_exemplars *found = NULL;
	size_t count = 0;
	buf_clear(&f->text);
	assert_ok(metrics_exemplars_query(f->m, &set, 1, FIXTURE_NOW - 86400000,
					  FIXTURE_NOW + 86400000, &arena, &found, &count,
					  &fixture_error));
	for (size_t i = 0; i < count; i++)
		for (size_t k = 0; k < found[i].count; k++) {
			const struct metrics_exemplar *x = &found[i].items[k];
			labels_print(&f->text, &found[i].series);
			buf_add_byte(&f->text, ' ');
			labels_print(&f->text, &x->labels);
			buf_printf(&f->text, " %g@%lld\n", x->value,
				   (long long)(x->time - FIXTURE_NOW));
		}
	arena_done(&arena);
	matcher_done(&matcher);
	return buf_cstr(&f->text);
}

const char *fixture_metadata(struct intake_fixture *f)
{
	struct arena arena = arena_init(1 << 20);
	struct metrics_metadata *found = NULL;
	size_t count = 0;
	buf_clear(&f->text);
	assert_ok(metrics_metadata_list(f->m, STR(""), 0, &arena, &found, &count, &fixture_error));
	for (size_t i = 0; i < count; i++)
		buf_printf(&f->text, "%.*s %s [%.*s] [%.*s]\n", STR_ARG(found[i].name),
			   metrics_type_name(found[i].type), STR_ARG(found[i].help),
			   STR_ARG(found[i].unit));
	arena_done(&arena);
	return buf_cstr(&f->text);
}
