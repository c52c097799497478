#include "intake/pushgateway.h"

#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "codec/crc32c.h"
#include "codec/json.h"
#include "codec/number.h"
#include "codec/wire.h"
#include "intake/intake_internal.h"
#include "intake/pushgateway_internal.h"
#include "os/io.h"

enum {
	FILE_BYTES_MAX = 2 * PUSHGATEWAY_BYTES_MAX,
	EXEMPLARS_SCRATCH = 1 << 20,
	PATH_BYTES_MAX = 64 * 1024,
};
#define MAGIC "HFPUSH1\n"

struct pushgateway *pushgateway_new(void)
{
	struct pushgateway *g = must_calloc(1, sizeof(*g));
	pthread_mutex_init(&g->lock, NULL);
	return g;
}

void pushgateway_free(struct pushgateway *g)
{
	if (!g)
		return;
	while (g->group_count)
		push_group_remove(g, &g->groups[g->group_count - 1]);
	free(g->groups);
	free(g->exposed);
	pthread_mutex_destroy(&g->lock);
	free(g);
}

/* ---- In. */

/* What a PUT to GROUP replaces makes room for what it brings. */
static errc check_room(const struct pushgateway *g, enum pushgateway_method method,
		       const struct push_group *group, size_t len, struct err *e)
{
	size_t kept = g->bytes;
	for (size_t i = 0; method == PUSHGATEWAY_PUT && group && i < group->push_count; i++)
		kept -= group->pushes[i].len;
	if (kept + len > PUSHGATEWAY_BYTES_MAX)
		FAIL(e, ERR_LIMIT, "what is pushed is kept up to %d MiB, which this would pass",
		     PUSHGATEWAY_BYTES_MAX >> 20);
	return OK;
}

static errc read_new(const struct pushgateway *g, const struct push_group *group,
		     const struct label *items, size_t count, enum scrape_format format, str body,
		     struct push *ret, struct err *e)
{
	TRY(push_read(items, count, format, body, ret, e));
	errc rc = push_check_types(g, group, ret, e);
	if (rc != OK)
		push_done(ret);
	return rc;
}

static errc store(struct pushgateway *g, enum pushgateway_method method, const struct label *items,
		  size_t count, enum scrape_format format, str body, time_ms now, struct err *e)
{
	struct push_group *group = push_group_find(g, items, count);
	struct push p;
	errc rc = check_room(g, method, group, body.len, e);
	if (rc == OK)
		rc = read_new(g, group, items, count, format, body, &p, e);
	struct err ignored = { 0 };
	errc made = push_group_get(g, items, count, &group, rc == OK ? e : &ignored);
	if (rc == OK && made != OK)
		push_done(&p);
	if (made != OK)
		return rc == OK ? made : rc;
	g->dirty = true;
	if (rc != OK) {
		group->failed_at = (double)now / 1000;
		return rc;
	}
	if (method == PUSHGATEWAY_PUT)
		push_group_clear(g, group);
	push_group_add(g, group, &p);
	group->pushed_at = (double)now / 1000;
	return OK;
}

errc pushgateway_push(struct pushgateway *g, enum pushgateway_method method, str path,
		      enum scrape_format format, str body, time_ms now, struct err *e)
{
	struct arena scratch CLEANUP(arena_done) = arena_init(4 * PATH_BYTES_MAX);
	struct label items[LABELS_COUNT_MAX];
	size_t count = 0;
	errc rc = OK;
	if (path.len > PATH_BYTES_MAX)
		FAIL(e, ERR_INVALID, "the path is longer than %d bytes", PATH_BYTES_MAX);
	TRY(push_labels_of(path, &scratch, items, &count, e));
	pthread_mutex_lock(&g->lock);
	if (method == PUSHGATEWAY_DELETE) {
		struct push_group *group = push_group_find(g, items, count);
		if (group)
			push_group_remove(g, group);
		g->dirty |= group != NULL;
	} else {
		rc = store(g, method, items, count, format, body, now, e);
	}
	pthread_mutex_unlock(&g->lock);
	return rc;
}

void pushgateway_wipe(struct pushgateway *g)
{
	pthread_mutex_lock(&g->lock);
	while (g->group_count)
		push_group_remove(g, &g->groups[g->group_count - 1]);
	g->dirty = true;
	pthread_mutex_unlock(&g->lock);
}

/* ---- Out. */

struct exposing {
	struct metrics_batch *batch;
	struct intake_result *result;
	time_ms now;
	metrics_ref *refs;
	size_t count;
};

static void remember(struct exposing *x, metrics_ref ref)
{
	if ((x->count & (x->count - 1)) == 0) {
		size_t room = x->count ? x->count * 2 : 1;
		x->refs = must_realloc(x->refs, room * sizeof(*x->refs));
	}
	x->refs[x->count++] = ref;
}

static errc expose_series(struct exposing *x, struct label *items, size_t count, double value,
			  const struct histogram *histogram, struct err *e)
{
	metrics_ref ref;
	errc rc = intake_series(x->batch, items, count, &ref, e);
	if (rc != OK && intake_is_fatal(rc))
		return rc;
	if (rc != OK) {
		intake_reject(x->result, 1, e);
		return OK;
	}
	if (histogram) {
		(void)metrics_batch_histogram(x->batch, ref, x->now, histogram);
		x->result->histogram_count++;
	} else {
		(void)metrics_batch_sample(x->batch, ref, x->now, value);
		x->result->sample_count++;
	}
	remember(x, ref);
	return OK;
}

static errc expose_push(struct exposing *x, const struct push_group *group, const struct push *p,
			struct err *e)
{
	struct scrape_parser parser;
	enum scrape_event event;
	errc rc;
	scrape_parser_init(&parser, p->format, (str){ p->body, p->len });
	while ((rc = scrape_parser_next(&parser, &event, e)) == OK && event != SCRAPE_END) {
		struct arena scratch CLEANUP(arena_done) = arena_init(EXEMPLARS_SCRATCH);
		struct label items[LABELS_COUNT_MAX];
		size_t count = 0;
		str name;
		if (event == SCRAPE_FAMILY) {
			if (intake_metadata(x->batch, &parser.family))
				x->result->metadata_count++;
			continue;
		}
		rc = push_series(&parser, group->labels, group->label_count, &scratch, items,
				 &count, &name, e);
		if (rc != OK)
			break;
		const struct pushed_family *family =
			push_family_find(p, push_family_of(&parser, name));
		if (family && family->replaced)
			continue;
		rc = expose_series(x, items, count, parser.value,
				   event == SCRAPE_HISTOGRAM ? parser.histogram : NULL, e);
		if (rc != OK)
			break;
	}
	scrape_parser_done(&parser);
	return rc;
}

static errc expose_time(struct exposing *x, const struct push_group *group, const char *name,
			double value, struct err *e)
{
	struct label items[LABELS_COUNT_MAX];
	size_t count = 0;
	items[count++] = (struct label){ STR(LABEL_METRIC_NAME), str_c(name) };
	for (size_t i = 0; i < group->label_count; i++)
		items[count++] = group->labels[i];
	return expose_series(x, items, count, value, NULL, e);
}

static int ref_cmp(const void *a, const void *b)
{
	metrics_ref x = *(const metrics_ref *)a, y = *(const metrics_ref *)b;
	return x < y ? -1 : x > y;
}

static void end_others(struct pushgateway *g, struct exposing *x)
{
	uint64_t bits = METRICS_STALE_BITS;
	double stale;
	memcpy(&stale, &bits, sizeof(stale));
	for (size_t i = 0; i < g->exposed_count; i++)
		if (!x->count ||
		    !bsearch(&g->exposed[i], x->refs, x->count, sizeof(*x->refs), ref_cmp))
			(void)metrics_batch_sample(x->batch, g->exposed[i], x->now, stale);
}

errc pushgateway_expose(struct pushgateway *g, struct metrics_batch *batch, time_ms now,
			struct intake_result *ret, struct err *e)
{
	struct exposing x = { .batch = batch, .result = ret, .now = now };
	errc rc = OK;
	pthread_mutex_lock(&g->lock);
	for (size_t i = 0; i < g->group_count && rc == OK; i++) {
		const struct push_group *group = &g->groups[i];
		for (size_t k = 0; k < group->push_count && rc == OK; k++)
			rc = expose_push(&x, group, &group->pushes[k], e);
		if (rc == OK)
			rc = expose_time(&x, group, "push_time_seconds", group->pushed_at, e);
		if (rc == OK)
			rc = expose_time(&x, group, "push_failure_time_seconds", group->failed_at,
					 e);
	}
	if (rc == OK) {
		if (x.count)
			qsort(x.refs, x.count, sizeof(*x.refs), ref_cmp);
		end_others(g, &x);
		free(g->exposed);
		g->exposed = x.refs;
		g->exposed_count = x.count;
	} else {
		free(x.refs);
	}
	pthread_mutex_unlock(&g->lock);
	return rc;
}

void pushgateway_print(struct pushgateway *g, struct buf *into)
{
	struct json_writer w = json_writer_init(into, false);
	pthread_mutex_lock(&g->lock);
	json_begin_array(&w);
	for (size_t i = 0; i < g->group_count; i++) {
		const struct push_group *group = &g->groups[i];
		json_begin_object(&w);
		json_key(&w, "labels");
		json_begin_object(&w);
		for (size_t k = 0; k < group->label_count; k++) {
			json_key_str(&w, group->labels[k].name);
			json_add_str(&w, group->labels[k].value);
		}
		json_end_object(&w);
		json_put_bool(&w, "last_push_successful", group->pushed_at >= group->failed_at);
		json_key(&w, "push_time_seconds");
		json_add_f64(&w, group->pushed_at);
		json_key(&w, "push_failure_time_seconds");
		json_add_f64(&w, group->failed_at);
		json_end_object(&w);
	}
	json_end_array(&w);
	pthread_mutex_unlock(&g->lock);
}

/* ---- The file: MAGIC, groups {1 label {1 name, 2 value}, 2 push {1 format, 2 body}, 3 pushed at,
 * 4 failed at} as field 1 of a message, CRC32C of what is before it. */

bool pushgateway_is_dirty(struct pushgateway *g)
{
	pthread_mutex_lock(&g->lock);
	bool dirty = g->dirty;
	pthread_mutex_unlock(&g->lock);
	return dirty;
}

static void write_group(struct buf *file, const struct push_group *group)
{
	size_t whole = wire_begin(file, 1);
	for (size_t k = 0; k < group->label_count; k++) {
		size_t label = wire_begin(file, 1);
		wire_add_bytes(file, 1, group->labels[k].name);
		wire_add_bytes(file, 2, group->labels[k].value);
		wire_end(file, label);
	}
	for (size_t k = 0; k < group->push_count; k++) {
		const struct push *p = &group->pushes[k];
		size_t push = wire_begin(file, 2);
		wire_add_varint(file, 1, p->format);
		wire_add_bytes(file, 2, (str){ p->body, p->len });
		wire_end(file, push);
	}
	wire_add_double(file, 3, group->pushed_at);
	wire_add_double(file, 4, group->failed_at);
	wire_end(file, whole);
}

errc pushgateway_save(struct pushgateway *g, const char *path, struct err *e)
{
	struct buf file CLEANUP(buf_done) = buf_init(FILE_BYTES_MAX);
	buf_add_c(&file, MAGIC);
	pthread_mutex_lock(&g->lock);
	for (size_t i = 0; i < g->group_count; i++)
		write_group(&file, &g->groups[i]);
	g->dirty = false;
	pthread_mutex_unlock(&g->lock);
	uint32_t sum = crc32c(0, buf_str(&file));
	buf_add(&file, (str){ (const char *)&sum, sizeof(sum) });
	errc rc = buf_check(&file, "what was pushed", e);
	if (rc == OK)
		rc = io_write_file(path, buf_str(&file), 0600, e);
	if (rc != OK) {
		pthread_mutex_lock(&g->lock);
		g->dirty = true;
		pthread_mutex_unlock(&g->lock);
	}
	return rc;
}

static errc read_push(struct pushgateway *g, struct push_group *group, str message, struct err *e)
{
	struct reader r = reader_init(message);
	struct wire_field f;
	struct push p;
	uint64_t format = SCRAPE_TEXT;
	str body = STR("");
	while (wire_next(&r, &f)) {
		if (f.key == WIRE_KEY(1, WIRE_VARINT))
			format = f.value;
		else if (f.key == WIRE_KEY(2, WIRE_BYTES))
			body = f.bytes;
	}
	if (r.failed || format > SCRAPE_PROTOBUF)
		FAIL(e, ERR_CORRUPT, "a push is malformed");
	/* types were compared when it was pushed; families that are replaced since may differ */
	TRY(push_read(group->labels, group->label_count, (enum scrape_format)format, body, &p, e));
	push_group_add(g, group, &p);
	return OK;
}

static errc read_labels(str message, struct label *items, size_t *count, struct err *e)
{
	struct reader r = reader_init(message), inner;
	struct wire_field f, part;
	while (wire_next(&r, &f)) {
		if (f.key != WIRE_KEY(1, WIRE_BYTES) || *count == LABELS_COUNT_MAX)
			continue;
		items[*count] = (struct label){ STR(""), STR("") };
		inner = wire_message(&f);
		while (wire_next(&inner, &part)) {
			if (part.key == WIRE_KEY(1, WIRE_BYTES))
				items[*count].name = part.bytes;
			else if (part.key == WIRE_KEY(2, WIRE_BYTES))
				items[*count].value = part.bytes;
		}
		r.failed |= inner.failed;
		(*count)++;
	}
	if (r.failed)
		FAIL(e, ERR_CORRUPT, "the labels of a group are malformed");
	return OK;
}

static errc read_group(struct pushgateway *g, str message, struct err *e)
{
	struct label items[LABELS_COUNT_MAX];
	struct push_group *group;
	struct reader r = reader_init(message);
	struct wire_field f;
	size_t count = 0;
	TRY(read_labels(message, items, &count, e));
	TRY(push_group_get(g, items, count, &group, e));
	while (wire_next(&r, &f)) {
		if (f.key == WIRE_KEY(2, WIRE_BYTES))
			TRY(read_push(g, group, f.bytes, e));
		else if (f.key == WIRE_KEY(3, WIRE_FIXED64))
			group->pushed_at = wire_double(&f);
		else if (f.key == WIRE_KEY(4, WIRE_FIXED64))
			group->failed_at = wire_double(&f);
	}
	return OK;
}

static errc read_file(struct pushgateway *g, str file, struct err *e)
{
	uint32_t sum;
	struct wire_field f;
	if (file.len < strlen(MAGIC) + sizeof(sum) || !str_starts(file, STR(MAGIC)))
		FAIL(e, ERR_CORRUPT, "it is no file of pushed metrics");
	memcpy(&sum, file.ptr + file.len - sizeof(sum), sizeof(sum));
	file.len -= sizeof(sum);
	if (crc32c(0, file) != sum)
		FAIL(e, ERR_CORRUPT, "its checksum is wrong");
	struct reader r = reader_init((str){ file.ptr + strlen(MAGIC), file.len - strlen(MAGIC) });
	while (wire_next(&r, &f))
		if (f.key == WIRE_KEY(1, WIRE_BYTES))
			TRY(read_group(g, f.bytes, e));
	if (r.failed)
		FAIL(e, ERR_CORRUPT, "it is malformed");
	return OK;
}

errc pushgateway_load(struct pushgateway *g, const char *path, struct err *e)
{
	struct buf file CLEANUP(buf_done) = buf_init(FILE_BYTES_MAX);
	errc rc = io_read_file(path, &file, e);
	if (rc == ERR_NOT_FOUND) {
		*e = (struct err){ 0 };
		return OK;
	}
	TRY(rc);
	rc = read_file(g, buf_str(&file), e);
	if (rc != OK)
		return err_prepend(e, "%s", path);
	return OK;
}
