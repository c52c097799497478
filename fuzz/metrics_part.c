/* A part of samples as somebody may have made it (see part_input.h). What is read, written again,
 * reads the same. */
#include "metrics/metrics_part_internal.h"
#include "metrics/samples.h"
#include "part_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void read_series(struct metrics_part *p, uint32_t id)
{
	static const time_ms ranges[][2] = { { INT64_MIN, INT64_MAX },
					     { 0, 1000 },
					     { 1728000000000, 1728000600000 } };
	struct metrics_samples s = { 0 };
	struct err e;
	for (size_t i = 0; i < ARRAY_COUNT(ranges); i++)
		for (int rollup = METRICS_LAST; rollup <= METRICS_COUNT; rollup++) {
			uint64_t bad = 0;
			samples_clear(&s);
			(void)!metrics_part_read(p, id, ranges[i][0], ranges[i][1],
						 (enum metrics_rollup)rollup, &s, &bad, &e);
		}
	metrics_samples_done(&s);
}

/* Through the cursor into a part of its own, as a merge does. */
static uint64_t copy(struct metrics_part *p, const char *name)
{
	struct metrics_part_cursor *c = metrics_part_cursor_new(p);
	struct metrics_part_writer *w = NULL;
	struct metrics_part_meta meta = { .day = 20000 };
	struct metrics_samples s = { 0 };
	struct err e;
	uint64_t bad = 0, file_bytes, written;
	uint32_t id;
	must(metrics_part_writer_new(part_input_folder, name, &meta, &w, &e) == OK);
	while (metrics_part_cursor_next(c, &id, &bad, &e) == OK && id) {
		samples_clear(&s);
		if (metrics_part_cursor_read(c, &s, &bad, &e) != OK)
			break;
		samples_order(&s, 0);
		must(metrics_part_writer_add(w, id, &s, &e) == OK);
	}
	written = metrics_part_writer_samples(w);
	must(metrics_part_writer_finish(w, &meta, &file_bytes, &e) == OK);
	metrics_part_writer_free(w);
	metrics_part_cursor_free(c);
	metrics_samples_done(&s);
	return written;
}

static void read_back(const char *name, uint64_t written)
{
	struct metrics_part *p = NULL;
	struct err e;
	must(metrics_part_open(part_input_folder, name, NULL, &p, &e) == OK);
	must(metrics_part_meta(p)->sample_count == written);
	must(copy(p, "s-3.part") == written);
	metrics_part_unref(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct metrics_part *p = NULL;
	struct id_set ids = { 0 };
	struct err e;
	if (!part_input_write(bytes, len, METRICS_PART_KIND, "s-1.part") ||
	    metrics_part_open(part_input_folder, "s-1.part", NULL, &p, &e) != OK)
		return 0;
	metrics_part_ids(p, &ids);
	for (size_t i = 0; i < ids.count && i < 50; i++)
		read_series(p, ids.ids[i]);
	if (metrics_part_meta(p)->resolution == METRICS_RAW)
		read_back("s-2.part", copy(p, "s-2.part"));
	id_set_done(&ids);
	metrics_part_unref(p);
	return 0;
}
