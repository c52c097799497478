/*
 * OpenTelemetry names as Prometheus writes them.
 *
 * Source: Prometheus's otlptranslator; OpenTelemetry's "Prometheus and OpenMetrics compatibility".
 */
#include <string.h>

#include "base/checks.h"
#include "codec/text.h"
#include "intake/otlp_internal.h"

enum { WORDS_MAX = 128 };

struct unit_word {
	const char *unit, *word;
};

static const struct unit_word units[] = {
	{ "d", "days" },          { "h", "hours" },
	{ "min", "minutes" },     { "s", "seconds" },
	{ "ms", "milliseconds" }, { "us", "microseconds" },
	{ "ns", "nanoseconds" },  { "By", "bytes" },
	{ "KiBy", "kibibytes" },  { "MiBy", "mebibytes" },
	{ "GiBy", "gibibytes" },  { "TiBy", "tibibytes" },
	{ "KBy", "kilobytes" },   { "kBy", "kilobytes" },
	{ "MBy", "megabytes" },   { "GBy", "gigabytes" },
	{ "TBy", "terabytes" },   { "m", "meters" },
	{ "V", "volts" },         { "A", "amperes" },
	{ "J", "joules" },        { "W", "watts" },
	{ "g", "grams" },         { "Cel", "celsius" },
	{ "Hz", "hertz" },        { "1", "" },
	{ "%", "percent" },
};
static const struct unit_word per_units[] = {
	{ "s", "second" }, { "m", "minute" }, { "h", "hour" }, { "d", "day" },
	{ "w", "week" },   { "mo", "month" }, { "y", "year" },
};

static str word_of(const struct unit_word *words, size_t count, str unit)
{
	for (size_t i = 0; i < count; i++)
		if (str_eq_c(unit, words[i].unit))
			return str_c(words[i].word);
	return unit;
}

static bool is_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

struct words {
	str items[WORDS_MAX];
	size_t count;
};

/* The parts of TEXT between what is neither a letter nor a digit nor among MORE. */
static void split_words(struct words *w, str text, const char *more)
{
	size_t begin = 0;
	for (size_t i = 0; i <= text.len; i++) {
		if (i < text.len &&
		    (is_word(text.ptr[i]) || (text.ptr[i] && strchr(more, text.ptr[i]))))
			continue;
		if (i > begin && w->count < WORDS_MAX)
			w->items[w->count++] = (str){ text.ptr + begin, i - begin };
		begin = i + 1;
	}
}

static bool has_word(const struct words *w, str word)
{
	for (size_t i = 0; i < w->count; i++)
		if (str_eq(w->items[i], word))
			return true;
	return false;
}

static void add_words(struct words *w, const struct words *more)
{
	for (size_t i = 0; i < more->count; i++)
		if (w->count < WORDS_MAX && !has_word(w, more->items[i]))
			w->items[w->count++] = more->items[i];
}

static void drop_word(struct words *w, str word)
{
	size_t kept = 0;
	for (size_t i = 0; i < w->count; i++)
		if (!str_eq(w->items[i], word))
			w->items[kept++] = w->items[i];
	w->count = kept;
}

/* `By/s` -> bytes, per, second. What is in braces is a remark, what the NAME says is not said
 * again. */
static void unit_words(struct words *w, str unit, const struct words *name)
{
	ptrdiff_t slash = str_find(unit, STR("/"));
	str main_unit = slash < 0 ? unit : (str){ unit.ptr, (size_t)slash };
	str per = STR("");
	if (slash >= 0)
		per = (str){ unit.ptr + slash + 1, unit.len - (size_t)slash - 1 };
	main_unit = str_trim(main_unit);
	per = str_trim(per);
	if (main_unit.len && str_find(main_unit, STR("{")) < 0)
		split_words(w, word_of(units, ARRAY_COUNT(units), main_unit), "");
	per = word_of(per_units, ARRAY_COUNT(per_units), per);
	if (per.len && str_find(per, STR("{")) < 0 && !has_word(name, per)) {
		if (w->count < WORDS_MAX)
			w->items[w->count++] = STR("per");
		split_words(w, per, "");
	}
}

static str join(struct arena *scratch, const struct words *w)
{
	size_t size = w->count + 2, at = 0;
	for (size_t i = 0; i < w->count; i++)
		size += w->items[i].len;
	char *text = arena_alloc(scratch, size);
	if (!text)
		return STR("");
	if (w->count && w->items[0].ptr[0] >= '0' && w->items[0].ptr[0] <= '9')
		text[at++] = '_';
	for (size_t i = 0; i < w->count; i++) {
		if (i)
			text[at++] = '_';
		memcpy(text + at, w->items[i].ptr, w->items[i].len);
		at += w->items[i].len;
	}
	return (str){ text, at };
}

/* Room for a prefix before what this writes. */
enum { PREFIX_BYTES = 4 };

static str replace_bad(struct arena *scratch, str name)
{
	char *text = arena_alloc(scratch, PREFIX_BYTES + name.len + 1);
	size_t at = PREFIX_BYTES;
	if (!text)
		return STR("");
	for (size_t i = 0; i < name.len;) {
		/* one character, of however many bytes, becomes one underscore */
		size_t step = text_utf8_step((str){ name.ptr + i, name.len - i });
		text[at++] = is_word(name.ptr[i]) ? name.ptr[i] : '_';
		i += step ? step : 1;
	}
	return (str){ text + PREFIX_BYTES, at - PREFIX_BYTES };
}

static str prefixed(str text, const char *prefix)
{
	size_t len = strlen(prefix);
	char *begin = (char *)text.ptr - len;
	memcpy(begin, prefix, len);
	return (str){ begin, text.len + len };
}

/* UTF-8 names: as they are, suffixes appended. */
static str with_suffixes(struct arena *scratch, const struct otlp_metric *m,
			 const struct words *unit, bool total, bool ratio)
{
	str name = m->name;
	for (size_t i = 0; i < unit->count; i++)
		if (!str_ends(name, unit->items[i]))
			name = str_c(arena_printf(scratch, "%.*s_%.*s", STR_ARG(name),
						  STR_ARG(unit->items[i])));
	if (total && !str_ends(name, STR("_total")))
		name = str_c(arena_printf(scratch, "%.*s_total", STR_ARG(name)));
	if (ratio && !str_ends(name, STR("_ratio")))
		name = str_c(arena_printf(scratch, "%.*s_ratio", STR_ARG(name)));
	return name;
}

str otlp_metric_name(struct arena *scratch, const struct otlp_metric *m,
		     enum otlp_translation translation)
{
	struct words words = { .count = 0 }, unit = { .count = 0 };
	bool total = m->type == METRICS_TYPE_COUNTER;
	bool ratio = m->type == METRICS_TYPE_GAUGE && !m->is_sum && str_eq_c(m->unit, "1");
	if (translation == OTLP_UTF8)
		return m->name;
	if (translation == OTLP_UNDERSCORES) {
		split_words(&words, m->name, ":_");
		return join(scratch, &words);
	}
	split_words(&words, m->name, ":");
	unit_words(&unit, m->unit, &words);
	if (translation == OTLP_UTF8_SUFFIXES)
		return with_suffixes(scratch, m, &unit, total, ratio);
	add_words(&words, &unit);
	if (total) {
		drop_word(&words, STR("total"));
		if (words.count < WORDS_MAX)
			words.items[words.count++] = STR("total");
	}
	if (ratio) {
		drop_word(&words, STR("ratio"));
		if (words.count < WORDS_MAX)
			words.items[words.count++] = STR("ratio");
	}
	return join(scratch, &words);
}

str otlp_label_name(struct arena *scratch, str name, enum otlp_translation translation)
{
	if (translation == OTLP_UTF8 || translation == OTLP_UTF8_SUFFIXES)
		return name;
	str text = replace_bad(scratch, name);
	if (text.len && text.ptr[0] >= '0' && text.ptr[0] <= '9')
		return prefixed(text, "key_");
	/* two underscores in front stay: they are Prometheus's own names */
	if (text.len && text.ptr[0] == '_' && !str_starts(text, STR("__")))
		return prefixed(text, "key");
	return text;
}
