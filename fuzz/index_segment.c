/* An index as somebody may have made it (see part_input.h). What is read, written again, reads the
 * same. */
#include "metrics/index_segment_internal.h"
#include "metrics/series_key.h"
#include "part_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

enum { ENTRIES_MAX = 1000 };

struct gathered {
	struct index_entry entries[ENTRIES_MAX];
	size_t count;
	struct arena arena;
};

static errc gather(void *ctx, uint32_t id, str key, struct err *e)
{
	struct gathered *g = ctx;
	(void)e;
	if (g->count < ENTRIES_MAX)
		g->entries[g->count++] = (struct index_entry){ id, arena_str(&g->arena, key) };
	return OK;
}

static errc see(void *ctx, str value, uint64_t series_count, struct err *e)
{
	(void)e;
	(void)series_count;
	*(size_t *)ctx += value.len;
	return OK;
}

static void look_up(struct index_segment *s, const struct gathered *g)
{
	struct buf key = buf_init(SERIES_KEY_BYTES_MAX);
	struct matcher matchers[] = {
		{ .type = MATCH_EQUAL, .name = STR("__name__"), .value = STR("up") },
		{ .type = MATCH_REGEXP, .name = STR("host"), .value = STR("a.*|") },
		{ .type = MATCH_NOT_EQUAL, .name = STR("zone"), .value = STR("1") },
	};
	struct index_source source = index_segment_source(s);
	struct err e;
	size_t seen = 0;
	for (size_t i = 0; i < g->count; i++) {
		(void)!index_segment_find(s, g->entries[i].key);
		(void)!index_segment_key(s, g->entries[i].id, &key);
	}
	must(index_segment_values(s, STR(""), see, &seen, &e) == OK);
	must(index_segment_values(s, STR("host"), see, &seen, &e) == OK);
	for (size_t i = 0; i < ARRAY_COUNT(matchers); i++) {
		struct id_set ids = { 0 };
		must(matcher_compile(&matchers[i], &e) == OK);
		(void)!index_match(&source, &matchers[i], 1, &ids, &e);
		id_set_done(&ids);
		matcher_done(&matchers[i]);
	}
	buf_done(&key);
}

static void write_again(struct gathered *g)
{
	struct index_segment *s = NULL;
	struct err e;
	uint64_t file_bytes;
	must(index_segment_write(part_input_folder, "i-2.part", 20000, g->entries, g->count,
				 &file_bytes, &e) == OK);
	must(index_segment_open(part_input_folder, "i-2.part", NULL, &s, &e) == OK);
	for (size_t i = 0; i < index_segment_count(s); i++)
		must(index_segment_find(s, g->entries[i].key) != 0);
	index_segment_unref(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	static struct gathered g;
	struct index_segment *s = NULL;
	struct err e;
	if (!part_input_write(bytes, len, INDEX_KIND, "i-1.part") ||
	    index_segment_open(part_input_folder, "i-1.part", NULL, &s, &e) != OK)
		return 0;
	g.count = 0;
	g.arena = arena_init(64 << 20);
	must(index_segment_each(s, gather, &g, &e) == OK);
	look_up(s, &g);
	if (g.count)
		write_again(&g);
	arena_done(&g.arena);
	index_segment_unref(s);
	return 0;
}
