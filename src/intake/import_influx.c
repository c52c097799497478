/*
 * Influx line protocol: `measurement,tag=value field=1.5,other=2i 1700000000000000000`. What stands
 * before the first blank, with the name of a field, is known from the lines before; it is parsed
 * when it is not.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "intake/import_text.h"
#include "intake/intake_internal.h"
#include "intake/intake_number.h"

enum { SCRATCH_BYTES_MAX = 8 << 20, SHOWN_MAX = 80, FIELDS_MAX = 256 };

errc influx_precision(str precision, struct import_options *options, struct err *e)
{
	static const struct {
		const char *word;
		int64_t divisor, factor;
	} words[] = { { "ns", 1000000, 1 }, { "n", 1000000, 1 }, { "us", 1000, 1 },
		      { "u", 1000, 1 },     { "µ", 1000, 1 },    { "ms", 1, 1 },
		      { "s", 1, 1000 },     { "m", 1, 60000 },   { "h", 1, 3600000 } };
	for (size_t i = 0; i < ARRAY_COUNT(words); i++) {
		if (!str_eq_c(precision, words[i].word))
			continue;
		options->time_divisor = words[i].divisor;
		options->time_factor = words[i].factor;
		return OK;
	}
	FAIL(e, ERR_INVALID, "the precision \"%.*s\" is not known: use ns, us, ms, s, m or h",
	     (int)(precision.len < 20 ? precision.len : 20), precision.ptr);
}

struct influx {
	struct intake *in;
	struct metrics_batch *batch;
	const struct import_options *options;
	struct intake_result *result;
	struct arena scratch;
	size_t line;
	time_ms now;
	struct series_hash extra; /* of the extra labels */
	/* of the line: measurement and tags as written */
	str head;
	struct series_hash head_hash;
	/* and parsed, when that had to be: tags and extra labels */
	bool parsed;
	struct label items[LABELS_COUNT_MAX];
	size_t count;
	str measurement;
};

/* Up to one of STOPS that is not escaped; unescaped into SCRATCH where there is a backslash. */
static str take_text(struct influx *s, str *rest, const char *stops)
{
	size_t n = 0;
	bool escaped = false;
	while (n < rest->len && !strchr(stops, rest->ptr[n])) {
		escaped |= rest->ptr[n] == '\\';
		n += rest->ptr[n] == '\\' && n + 1 < rest->len ? 2 : 1;
	}
	str raw = { rest->ptr, n };
	*rest = (str){ rest->ptr + n, rest->len - n };
	if (!escaped)
		return raw;
	struct buf b CLEANUP(buf_done) = buf_init(raw.len + 16);
	for (size_t i = 0; i < raw.len; i++) {
		bool drop = raw.ptr[i] == '\\' && i + 1 < raw.len &&
			    strchr(",= \\", raw.ptr[i + 1]);
		i += drop;
		buf_add_byte(&b, raw.ptr[i]);
	}
	return arena_str(&s->scratch, buf_str(&b));
}

/* The measurement and its tags off the front of REST. */
static void take_head(struct influx *s, str *rest)
{
	size_t n = 0;
	while (n < rest->len && rest->ptr[n] != ' ')
		n += rest->ptr[n] == '\\' && n + 1 < rest->len ? 2 : 1;
	s->head = (str){ rest->ptr, n };
	s->head_hash = series_hash_of(rest->ptr, n);
	s->parsed = false;
	*rest = (str){ rest->ptr + n, rest->len - n };
}

static errc parse_head(struct influx *s, struct err *e)
{
	str left = s->head, *rest = &left;
	s->count = 0;
	s->measurement = take_text(s, rest, ",");
	if (!s->measurement.len)
		FAIL(e, ERR_INVALID, "line %zu: there is no measurement", s->line);
	while (rest->len) {
		*rest = (str){ rest->ptr + 1, rest->len - 1 };
		struct label tag = { take_text(s, rest, "=,"), STR("") };
		if (!rest->len || rest->ptr[0] != '=' || !tag.name.len)
			FAIL(e, ERR_INVALID, "line %zu: a tag without a value", s->line);
		*rest = (str){ rest->ptr + 1, rest->len - 1 };
		tag.value = take_text(s, rest, ",");
		TRY(import_set_label(s->items, &s->count, &tag, e));
	}
	s->parsed = true;
	for (size_t i = 0; s->options && i < s->options->extra_label_count; i++)
		TRY(import_set_label(s->items, &s->count, &s->options->extra_labels[i], e));
	return OK;
}

/* `1`, `1i`, `1u`, `true`, `"text"`; *RET_IS_NUMBER false: it is skipped. */
static errc take_value(struct influx *s, str *rest, double *ret, bool *ret_is_number, struct err *e)
{
	static const char *const trues[] = { "t", "T", "true", "True", "TRUE" };
	static const char *const falses[] = { "f", "F", "false", "False", "FALSE" };
	*ret_is_number = false;
	if (rest->len && rest->ptr[0] == '"') {
		size_t n = 1;
		while (n < rest->len && rest->ptr[n] != '"')
			n += rest->ptr[n] == '\\' ? 2 : 1;
		if (n >= rest->len)
			FAIL(e, ERR_INVALID, "line %zu: a text that does not end", s->line);
		*rest = (str){ rest->ptr + n + 1, rest->len - n - 1 };
		return OK;
	}
	str word = take_text(s, rest, ", ");
	*ret_is_number = true;
	for (size_t i = 0; i < ARRAY_COUNT(trues); i++) {
		if (str_eq_c(word, trues[i]) || str_eq_c(word, falses[i])) {
			*ret = str_eq_c(word, trues[i]);
			return OK;
		}
	}
	if (word.len > 1 && (word.ptr[word.len - 1] == 'i' || word.ptr[word.len - 1] == 'u'))
		word.len--;
	if (!word.len || !intake_number(word, ret))
		FAIL(e, ERR_INVALID, "line %zu: \"%.*s\" is no value", s->line,
		     (int)(word.len < SHOWN_MAX ? word.len : SHOWN_MAX), word.ptr);
	return OK;
}

/* The time of a line in the unit that was said, or guessed by its size. */
static time_ms to_ms(const struct influx *s, int64_t time)
{
	const struct import_options *o = s->options;
	uint64_t size = time < 0 ? -(uint64_t)time : (uint64_t)time;
	time_ms ms;
	if (o && o->time_divisor) {
		int64_t factor = o->time_factor ? o->time_factor : 1;
		if (__builtin_mul_overflow(time / o->time_divisor, factor, &ms))
			return time < 0 ? INT64_MIN
					: INT64_MAX; /* refused, as too old or too new */
		return ms;
	}
	if (size < UINT64_C(100000000000)) /* seconds until the year 5138 */
		return time * 1000;
	if (size < UINT64_C(100000000000000))
		return time;
	return size < UINT64_C(100000000000000000) ? time / 1000 : time / 1000000;
}

static errc take_time(struct influx *s, str rest, time_ms *ret, struct err *e)
{
	int64_t time;
	rest = str_trim(rest);
	*ret = s->now;
	if (!rest.len)
		return OK;
	if (!str_to_i64(rest, &time))
		FAIL(e, ERR_INVALID, "line %zu: \"%.*s\" is no time", s->line,
		     (int)(rest.len < SHOWN_MAX ? rest.len : SHOWN_MAX), rest.ptr);
	*ret = to_ms(s, time);
	return OK;
}

/* Look a series up by its labels. */
static __attribute__((noinline)) errc find_field(struct influx *s, str field, metrics_ref *ret_ref,
						 struct err *e)
{
	struct label items[LABELS_COUNT_MAX];
	if (!s->parsed)
		TRY(parse_head(s, e));
	size_t count = s->count;
	char *name = arena_printf(&s->scratch, "%.*s_%.*s", STR_ARG(s->measurement),
				  STR_ARG(field));
	memcpy(items, s->items, count * sizeof(items[0]));
	struct label metric = { STR(LABEL_METRIC_NAME), str_c(name) };
	TRY(import_set_label(items, &count, &metric, e));
	TRY(arena_check(&s->scratch, "a line", e));
	return intake_series(s->batch, items, count, ret_ref, e);
}

static errc put_field(struct influx *s, str field, time_ms time, double value, struct err *e)
{
	const struct series_hash parts[] = { s->head_hash, series_hash_of(field.ptr, field.len),
					     s->extra };
	struct series_hash hash = series_hash_of(parts, sizeof(parts));
	metrics_ref ref = series_cache_get(s->in->cache, hash);
	if (!ref || !metrics_batch_sample(s->batch, ref, time, value)) {
		TRY(find_field(s, field, &ref, e));
		series_cache_put(s->in->cache, hash, ref);
		if (!metrics_batch_sample(s->batch, ref, time, value))
			return OK;
	}
	s->result->sample_count++;
	return OK;
}

struct field {
	str name;
	double value;
};

static errc take_line(struct influx *s, str line, struct err *e)
{
	__attribute__((uninitialized)) struct field fields[FIELDS_MAX];
	size_t count = 0;
	time_ms time;
	str rest = line;
	take_head(s, &rest);
	do {
		bool number;
		rest = (str){ rest.ptr + (rest.len > 0), rest.len - (rest.len > 0) };
		if (count == ARRAY_COUNT(fields))
			FAIL(e, ERR_LIMIT, "line %zu: more than %zu fields", s->line, count);
		fields[count].name = take_text(s, &rest, "=, ");
		if (!rest.len || rest.ptr[0] != '=' || !fields[count].name.len)
			FAIL(e, ERR_INVALID, "line %zu: a field without a value", s->line);
		rest = (str){ rest.ptr + 1, rest.len - 1 };
		TRY(take_value(s, &rest, &fields[count].value, &number, e));
		s->result->skipped_count += !number;
		count += number;
	} while (rest.len && rest.ptr[0] == ',');
	TRY(take_time(s, rest, &time, e));
	for (size_t i = 0; i < count; i++)
		TRY(put_field(s, fields[i].name, time, fields[i].value, e));
	s->result->series_count++;
	return OK;
}

errc intake_influx(struct intake *in, struct metrics_batch *batch, str body,
		   const struct import_options *options, struct intake_result *ret, struct err *e)
{
	struct influx *s = must_calloc(1, sizeof(*s));
	struct err own;
	if (!e)
		e = &own;
	*s = (struct influx){ .in = in,
			      .batch = batch,
			      .options = options,
			      .result = ret,
			      .scratch = arena_init(SCRATCH_BYTES_MAX),
			      .now = in->options.now() };
	errc rc = OK;
	str line;
	s->extra = import_extra_hash(options);
	series_cache_enter(in->cache);
	while (rc == OK && body.len && str_split(&body, '\n', &line)) {
		s->line++;
		line = str_trim(line);
		if (!line.len || line.ptr[0] == '#')
			continue;
		if (s->scratch.chunks) {
			arena_done(&s->scratch);
			s->scratch = arena_init(SCRATCH_BYTES_MAX);
		}
		errc taken = take_line(s, line, e);
		if (taken == OK)
			continue;
		if (!ret->rejected_count)
			ret->line = s->line;
		if (!intake_is_fatal(taken)) {
			intake_reject(ret, 1, e);
			continue;
		}
		rc = taken;
	}
	series_cache_leave(in->cache);
	arena_done(&s->scratch);
	free(s);
	return rc;
}
