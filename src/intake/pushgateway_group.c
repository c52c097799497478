/* Groups of the Pushgateway: their names, what was pushed to them, and what may be. */
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "codec/text.h"
#include "intake/intake_internal.h"
#include "intake/pushgateway_internal.h"
#include "intake/series_cache.h"

enum { FAMILIES_MAX = 100000, SAMPLES_MAX = 1000000, PATH_LABELS_MAX = 32 };

/* ---- Names. */

static bool is_label_name(str s)
{
	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];
		bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
		if (!letter && !(i && c >= '0' && c <= '9'))
			return false;
	}
	return s.len && !str_starts(s, STR("__"));
}

/* A segment's value: percent-encoded, or base64 of either alphabet, where a lone `=` is empty. */
static errc value_of(str segment, bool base64, struct arena *scratch, str *ret, struct err *e)
{
	struct buf text CLEANUP(buf_done) = buf_init(LABEL_VALUE_BYTES_MAX);
	struct buf plain CLEANUP(buf_done) = buf_init(2 * LABEL_VALUE_BYTES_MAX);
	if (!text_from_percent(segment, &plain))
		FAIL(e, ERR_INVALID, "the path has a %% without two hexadecimal digits");
	str value = buf_str(&plain);
	if (base64) {
		while (value.len && value.ptr[value.len - 1] == '=')
			value.len--;
		for (size_t i = 0; i < value.len; i++) /* the standard alphabet, too */
			plain.ptr[i] = (char)(plain.ptr[i] == '+'   ? '-'
					      : plain.ptr[i] == '/' ? '_'
								    : plain.ptr[i]);
		if (!text_from_base64(value, TEXT_BASE64_URL, &text))
			FAIL(e, ERR_INVALID, "the path has a value that is no base64");
		value = buf_str(&text);
	}
	if (!text_is_utf8(value) || plain.overflow || text.overflow)
		FAIL(e, ERR_INVALID, "the path has a value that is no UTF-8, or too long");
	*ret = arena_str(scratch, value);
	return OK;
}

static int by_name(const void *a, const void *b)
{
	return str_cmp(((const struct label *)a)->name, ((const struct label *)b)->name);
}

errc push_labels_of(str path, struct arena *scratch, struct label *items, size_t *ret_count,
		    struct err *e)
{
	size_t count = 0;
	str rest = path, name, value;
	if (!str_starts(rest, STR("/")))
		FAIL(e, ERR_INVALID, "push to /metrics/job/NAME");
	rest = (str){ rest.ptr + 1, rest.len - 1 };
	while (str_split(&rest, '/', &name)) {
		bool base64 = str_ends(name, STR("@base64"));
		if (base64)
			name.len -= STR("@base64").len;
		if (!str_split(&rest, '/', &value))
			FAIL(e, ERR_INVALID, "the path has a label without a value: %.60s",
			     arena_cstr(scratch, name));
		if (!is_label_name(name))
			FAIL(e, ERR_INVALID, "the path has a label that cannot be one: \"%.60s\"",
			     arena_cstr(scratch, name));
		if (count == 0 && !str_eq_c(name, "job"))
			FAIL(e, ERR_INVALID, "the path must begin with /metrics/job/NAME");
		if (count == PATH_LABELS_MAX)
			FAIL(e, ERR_INVALID, "the path has more than %d labels", PATH_LABELS_MAX);
		items[count].name = arena_str(scratch, name);
		TRY(value_of(value, base64, scratch, &items[count].value, e));
		for (size_t i = 0; i < count; i++)
			if (str_eq(items[i].name, items[count].name))
				FAIL(e, ERR_INVALID, "the path has the label %.60s twice",
				     arena_cstr(scratch, name));
		count++;
	}
	if (!count || !items[0].value.len)
		FAIL(e, ERR_INVALID, "the job must have a name: push to /metrics/job/NAME");
	qsort(items, count, sizeof(*items), by_name);
	*ret_count = count;
	return arena_check(scratch, "the path", e);
}

/* ---- Groups. */

static bool same_labels(const struct push_group *group, const struct label *items, size_t count)
{
	bool same = group->label_count == count;
	for (size_t i = 0; same && i < count; i++)
		same = str_eq(group->labels[i].name, items[i].name) &&
		       str_eq(group->labels[i].value, items[i].value);
	return same;
}

struct push_group *push_group_find(struct pushgateway *g, const struct label *items, size_t count)
{
	for (size_t i = 0; i < g->group_count; i++)
		if (same_labels(&g->groups[i], items, count))
			return &g->groups[i];
	return NULL;
}

static str heap_str(str s)
{
	return (str){ str_dup(s), s.len };
}

errc push_group_get(struct pushgateway *g, const struct label *items, size_t count,
		    struct push_group **ret_group, struct err *e)
{
	*ret_group = push_group_find(g, items, count);
	if (*ret_group)
		return OK;
	if (g->group_count == PUSHGATEWAY_GROUPS_MAX)
		FAIL(e, ERR_LIMIT, "there are %d groups already: delete some",
		     PUSHGATEWAY_GROUPS_MAX);
	g->groups = must_realloc(g->groups, (g->group_count + 1) * sizeof(*g->groups));
	struct push_group *group = &g->groups[g->group_count++];
	*group = (struct push_group){ .labels = must_calloc(count, sizeof(*group->labels)),
				      .label_count = count };
	for (size_t i = 0; i < count; i++)
		group->labels[i] = (struct label){ heap_str(items[i].name),
						   heap_str(items[i].value) };
	*ret_group = group;
	return OK;
}

void push_done(struct push *p)
{
	for (size_t i = 0; i < p->family_count; i++)
		free(p->families[i].name);
	free(p->families);
	free(p->body);
	*p = (struct push){ 0 };
}

void push_group_clear(struct pushgateway *g, struct push_group *group)
{
	for (size_t i = 0; i < group->push_count; i++) {
		g->bytes -= group->pushes[i].len;
		push_done(&group->pushes[i]);
	}
	free(group->pushes);
	group->pushes = NULL;
	group->push_count = 0;
}

void push_group_remove(struct pushgateway *g, struct push_group *group)
{
	push_group_clear(g, group);
	for (size_t i = 0; i < group->label_count; i++) {
		free((char *)group->labels[i].name.ptr);
		free((char *)group->labels[i].value.ptr);
	}
	free(group->labels);
	*group = g->groups[--g->group_count];
}

/* ---- Families. */

str push_family_of(const struct scrape_parser *p, str name)
{
	const struct metrics_metadata *f = &p->family;
	if (f->name.len &&
	    (str_eq(name, f->name) || str_eq(intake_family_name(name, f->type), f->name)))
		return f->name;
	/* OpenMetrics: x_total and x_created of the counter x */
	if (f->name.len && p->format == SCRAPE_OPENMETRICS && str_starts(name, f->name) &&
	    name.ptr[f->name.len == name.len ? 0 : f->name.len] == '_')
		return f->name;
	return name;
}

static int family_cmp(const void *a, const void *b)
{
	return strcmp(((const struct pushed_family *)a)->name,
		      ((const struct pushed_family *)b)->name);
}

const struct pushed_family *push_family_find(const struct push *p, str name)
{
	size_t low = 0, high = p->family_count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = str_cmp(str_c(p->families[middle].name), name);
		if (order == 0)
			return &p->families[middle];
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

void push_group_add(struct pushgateway *g, struct push_group *group, const struct push *p)
{
	size_t kept = 0;
	for (size_t i = 0; i < group->push_count; i++) {
		struct push *old = &group->pushes[i];
		bool needed = false;
		for (size_t k = 0; k < old->family_count; k++) {
			struct pushed_family *f = &old->families[k];
			f->replaced |= push_family_find(p, str_c(f->name)) != NULL;
			needed |= !f->replaced;
		}
		if (needed) {
			group->pushes[kept++] = *old;
		} else {
			g->bytes -= old->len;
			push_done(old);
		}
	}
	group->pushes = must_realloc(group->pushes, (kept + 1) * sizeof(*group->pushes));
	group->pushes[kept] = *p;
	group->push_count = kept + 1;
	g->bytes += p->len;
}

/* ---- Bodies. */

errc push_series(struct scrape_parser *p, const struct label *group, size_t group_count,
		 struct arena *scratch, struct label *items, size_t *ret_count, str *ret_name,
		 struct err *e)
{
	size_t count = 0, kept = 0;
	*ret_name = STR("");
	TRY(scrape_parser_labels(p, scratch, items, &count, e));
	for (size_t i = 0; i < count; i++) {
		bool over = false;
		for (size_t k = 0; k < group_count; k++)
			over |= str_eq(items[i].name, group[k].name);
		if (str_eq_c(items[i].name, LABEL_METRIC_NAME))
			*ret_name = items[i].value;
		if (!over)
			items[kept++] = items[i];
	}
	if (kept + group_count > LABELS_COUNT_MAX)
		FAIL(e, ERR_INVALID, "line %zu: more than %d labels with those of the group",
		     p->line, LABELS_COUNT_MAX);
	for (size_t k = 0; k < group_count; k++)
		items[kept++] = group[k];
	*ret_count = kept;
	return OK;
}

struct reading {
	struct push *push;
	struct series_hash *seen; /* one a sample */
	size_t seen_count;
};

static void add_family(struct reading *r, str name, enum metrics_type type)
{
	struct push *p = r->push;
	for (size_t i = p->family_count; i-- > 0 && i + 8 > p->family_count;)
		if (str_eq_c(name, p->families[i].name)) {
			if (type != METRICS_TYPE_UNKNOWN)
				p->families[i].type = type;
			return;
		}
	if ((p->family_count & (p->family_count - 1)) == 0) {
		size_t room = p->family_count ? p->family_count * 2 : 1;
		p->families = must_realloc(p->families, room * sizeof(*p->families));
	}
	p->families[p->family_count++] = (struct pushed_family){ .name = str_dup(name),
								 .type = type };
}

static errc add_sample(struct reading *r, struct scrape_parser *p, const struct label *group,
		       size_t group_count, struct err *e)
{
	struct arena scratch CLEANUP(arena_done) = arena_init(1 << 20);
	struct buf key CLEANUP(buf_done) = buf_init(4 * LABELS_BYTES_MAX);
	struct label items[LABELS_COUNT_MAX];
	struct labels labels;
	size_t count;
	str name;
	TRY(push_series(p, group, group_count, &scratch, items, &count, &name, e));
	if (p->has_time)
		FAIL(e, ERR_INVALID, "line %zu: pushed samples must not have timestamps", p->line);
	TRY(labels_normalize(items, count, &labels, e));
	str family = push_family_of(p, name);
	add_family(r, family,
		   str_eq(family, p->family.name) ? p->family.type : METRICS_TYPE_UNKNOWN);
	if (r->seen_count == SAMPLES_MAX || r->push->family_count > FAMILIES_MAX)
		FAIL(e, ERR_LIMIT, "a push has at most %d samples and %d families", SAMPLES_MAX,
		     FAMILIES_MAX);
	if ((r->seen_count & (r->seen_count - 1)) == 0) {
		size_t room = r->seen_count ? r->seen_count * 2 : 1;
		r->seen = must_realloc(r->seen, room * sizeof(*r->seen));
	}
	labels_print(&key, &labels);
	r->seen[r->seen_count++] = series_hash_of(key.ptr, key.len);
	return OK;
}

static int hash_cmp(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct series_hash));
}

/* Sorted, each once; a later type wins over none. */
static void sort_families(struct push *p)
{
	size_t kept = 0;
	if (p->family_count)
		qsort(p->families, p->family_count, sizeof(*p->families), family_cmp);
	for (size_t i = 0; i < p->family_count; i++) {
		struct pushed_family *f = &p->families[i];
		if (kept && strcmp(p->families[kept - 1].name, f->name) == 0) {
			if (p->families[kept - 1].type == METRICS_TYPE_UNKNOWN)
				p->families[kept - 1].type = f->type;
			free(f->name);
		} else {
			p->families[kept++] = *f;
		}
	}
	p->family_count = kept;
}

errc push_check_types(const struct pushgateway *g, const struct push_group *own,
		      const struct push *p, struct err *e)
{
	for (size_t i = 0; i < g->group_count; i++) {
		if (&g->groups[i] == own) /* of its own group it replaces them */
			continue;
		for (size_t k = 0; k < g->groups[i].push_count; k++) {
			const struct push *other = &g->groups[i].pushes[k];
			for (size_t n = 0; n < p->family_count; n++) {
				const struct pushed_family *f = &p->families[n];
				const struct pushed_family *there =
					push_family_find(other, str_c(f->name));
				if (there && !there->replaced && there->type != f->type)
					FAIL(e, ERR_INVALID,
					     "%.200s is a %s here and a %s in another group",
					     f->name, metrics_type_name(f->type),
					     metrics_type_name(there->type));
			}
		}
	}
	return OK;
}

errc push_read(const struct label *items, size_t count, enum scrape_format format, str body,
	       struct push *ret, struct err *e)
{
	struct reading r = { .push = ret };
	struct scrape_parser parser;
	enum scrape_event event;
	*ret = (struct push){ .format = format, .len = body.len };
	scrape_parser_init(&parser, format, body);
	errc rc;
	while ((rc = scrape_parser_next(&parser, &event, e)) == OK && event != SCRAPE_END) {
		if (event == SCRAPE_FAMILY) {
			if (parser.family.name.len)
				add_family(&r, parser.family.name, parser.family.type);
			continue;
		}
		rc = add_sample(&r, &parser, items, count, e);
		if (rc != OK)
			break;
	}
	scrape_parser_done(&parser);
	if (rc == OK && r.seen_count)
		qsort(r.seen, r.seen_count, sizeof(*r.seen), hash_cmp);
	for (size_t i = 1; rc == OK && i < r.seen_count; i++)
		if (hash_cmp(&r.seen[i - 1], &r.seen[i]) == 0)
			rc = err_fill(e, ERR_INVALID, 0, __FILE__, __LINE__,
				      "a series is in the body twice");
	free(r.seen);
	sort_families(ret);
	if (rc != OK) {
		push_done(ret);
		return rc;
	}
	ret->body = str_dup(body);
	return OK;
}
