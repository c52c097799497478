#include "metrics/labels.h"

#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "codec/text.h"
#include "metrics/series_key.h"

static int by_name(const void *a, const void *b)
{
	const struct label *x = a, *y = b;
	return str_cmp(x->name, y->name);
}

static errc check_label(const struct label *l, struct err *e)
{
	if (l->name.len == 0)
		FAIL(e, ERR_INVALID, "a label with the value \"%.*s\" has no name",
		     (int)(l->value.len < 100 ? l->value.len : 100), l->value.ptr);
	if (l->name.len > LABEL_NAME_BYTES_MAX)
		FAIL(e, ERR_INVALID, "the label name %.60s… is longer than %d bytes", l->name.ptr,
		     LABEL_NAME_BYTES_MAX);
	if (!text_is_utf8(l->name))
		FAIL(e, ERR_INVALID, "a label name is not UTF-8");
	if (l->value.len > LABEL_VALUE_BYTES_MAX)
		FAIL(e, ERR_INVALID, "the value of the label %.*s has %zu bytes; at most %d fit",
		     STR_ARG(l->name), l->value.len, LABEL_VALUE_BYTES_MAX);
	if (!text_is_utf8(l->value))
		FAIL(e, ERR_INVALID, "the value of the label %.*s is not UTF-8", STR_ARG(l->name));
	return OK;
}

/* Most senders sort already; few labels otherwise. */
static void sort_labels(struct label *items, size_t count)
{
	bool sorted = true;
	for (size_t i = 1; i < count && sorted; i++)
		sorted = str_cmp(items[i - 1].name, items[i].name) < 0;
	if (!sorted)
		qsort(items, count, sizeof(*items), by_name);
}

errc labels_normalize(struct label *items, size_t count, struct labels *ret_labels, struct err *e)
{
	size_t kept = 0, bytes = 0;
	if (count > 4 * LABELS_COUNT_MAX)
		FAIL(e, ERR_INVALID, "a series has %zu labels; at most %d fit", count,
		     LABELS_COUNT_MAX);
	sort_labels(items, count);
	for (size_t i = 0; i < count; i++) {
		TRY(check_label(&items[i], e));
		if (i && str_eq(items[i - 1].name, items[i].name))
			FAIL(e, ERR_INVALID, "the label %.*s is there twice",
			     STR_ARG(items[i].name));
		bytes += items[i].value.len ? items[i].name.len + items[i].value.len : 0;
	}
	if (bytes > LABELS_BYTES_MAX)
		FAIL(e, ERR_INVALID, "the labels of a series take %zu bytes; at most %d fit", bytes,
		     LABELS_BYTES_MAX);
	for (size_t i = 0; i < count; i++)
		if (items[i].value.len)
			items[kept++] = items[i];
	if (kept > LABELS_COUNT_MAX)
		FAIL(e, ERR_INVALID, "a series has %zu labels; at most %d fit", kept,
		     LABELS_COUNT_MAX);
	*ret_labels = (struct labels){ items, kept };
	return OK;
}

str labels_get(const struct labels *l, str name)
{
	for (size_t i = 0; i < l->count; i++)
		if (str_eq(l->items[i].name, name))
			return l->items[i].value;
	return STR("");
}

int labels_cmp(const struct labels *a, const struct labels *b)
{
	size_t count = a->count < b->count ? a->count : b->count;
	for (size_t i = 0; i < count; i++) {
		int c = str_cmp(a->items[i].name, b->items[i].name);
		if (c == 0)
			c = str_cmp(a->items[i].value, b->items[i].value);
		if (c != 0)
			return c;
	}
	return (a->count > b->count) - (a->count < b->count);
}

bool labels_eq(const struct labels *a, const struct labels *b)
{
	if (a->count != b->count)
		return false;
	for (size_t i = 0; i < a->count; i++)
		if (!str_eq(a->items[i].value, b->items[i].value) ||
		    !str_eq(a->items[i].name, b->items[i].name))
			return false;
	return true;
}

uint64_t labels_hash(const struct labels *l)
{
	uint8_t small[2048];
	size_t size = series_key_size(l);
	if (size <= sizeof(small)) {
		series_key_put(small, l);
		return series_key_hash((str){ (const char *)small, size });
	}
	uint8_t *large = must_realloc(NULL, size);
	series_key_put(large, l);
	uint64_t hash = series_key_hash((str){ (const char *)large, size });
	free(large);
	return hash;
}

struct labels labels_copy(struct arena *a, const struct labels *l)
{
	struct label *items = arena_array(a, l->count ? l->count : 1, sizeof(*items));
	if (!items)
		return (struct labels){ NULL, 0 };
	for (size_t i = 0; i < l->count; i++) {
		items[i].name = arena_str(a, l->items[i].name);
		items[i].value = arena_str(a, l->items[i].value);
	}
	return (struct labels){ items, a->overflow ? 0 : l->count };
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_identifier(str s, bool colons)
{
	for (size_t i = 0; i < s.len; i++)
		if (!is_letter(s.ptr[i]) && !(colons && s.ptr[i] == ':') &&
		    !(i && s.ptr[i] >= '0' && s.ptr[i] <= '9'))
			return false;
	return s.len > 0;
}

void labels_add_quoted(struct buf *into, str s)
{
	buf_add_byte(into, '"');
	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];
		if (c == '"' || c == '\\')
			buf_add_byte(into, '\\');
		if (c == '\n')
			buf_add(into, STR("\\n"));
		else if ((unsigned char)c < 0x20 || c == 0x7f)
			buf_printf(into, "\\x%02x", (unsigned)(unsigned char)c);
		else
			buf_add_byte(into, c);
	}
	buf_add_byte(into, '"');
}

void labels_add_name(struct buf *into, str name)
{
	if (is_identifier(name, false))
		buf_add(into, name);
	else
		labels_add_quoted(into, name);
}

void labels_print(struct buf *into, const struct labels *l)
{
	str metric = labels_get(l, STR(LABEL_METRIC_NAME));
	bool plain = is_identifier(metric, true), first = true;
	if (plain)
		buf_add(into, metric);
	if (metric.len && plain && l->count == 1)
		return;
	buf_add_byte(into, '{');
	if (metric.len && !plain) {
		labels_add_quoted(into, metric);
		first = false;
	}
	for (size_t i = 0; i < l->count; i++) {
		if (str_eq(l->items[i].name, STR(LABEL_METRIC_NAME)))
			continue;
		if (!first)
			buf_add_byte(into, ',');
		first = false;
		labels_add_name(into, l->items[i].name);
		buf_add_byte(into, '=');
		labels_add_quoted(into, l->items[i].value);
	}
	buf_add_byte(into, '}');
}
