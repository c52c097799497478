/* Prometheus text and OpenMetrics, line by line. */
#include <math.h>
#include <string.h>

#include "base/checks.h"
#include "codec/text.h"
#include "intake/intake_number.h"
#include "intake/scrape_internal.h"

enum { SHOWN_MAX = 80 };

static bool is_open(const struct scrape_parser *p)
{
	return p->format == SCRAPE_OPENMETRICS;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static str skip_blanks(str s)
{
	while (s.len && is_blank(s.ptr[0]))
		s = (str){ s.ptr + 1, s.len - 1 };
	return s;
}

static str shown(str s)
{
	return (str){ s.ptr, s.len < SHOWN_MAX ? s.len : SHOWN_MAX };
}

/* The word at the front of REST, which then begins behind it. */
static str take_word(str *rest)
{
	size_t n = 0;
	while (n < rest->len && !is_blank(rest->ptr[n]))
		n++;
	str word = { rest->ptr, n };
	*rest = skip_blanks((str){ rest->ptr + n, rest->len - n });
	return word;
}

/* ---- Metadata. */

/* The length of the quoted text at the front of S, quotes included; 0 when it does not end. */
static size_t quoted_len(str s)
{
	for (size_t i = 1; i < s.len; i++) {
		if (s.ptr[i] == '\\')
			i++;
		else if (s.ptr[i] == '"')
			return i + 1;
	}
	return 0;
}

/* Unescaped, at the end of INTO. */
static void unescape(str s, struct buf *into)
{
	if (!memchr(s.ptr, '\\', s.len)) {
		buf_add(into, s);
		return;
	}
	for (size_t i = 0; i < s.len; i++) {
		if (s.ptr[i] != '\\' || i + 1 == s.len) {
			buf_add_byte(into, s.ptr[i]);
			continue;
		}
		char c = s.ptr[++i];
		if (c == 'n')
			buf_add_byte(into, '\n');
		else if (c == '\\' || c == '"')
			buf_add_byte(into, c);
		else { /* no escape: both as they are */
			buf_add_byte(into, '\\');
			buf_add_byte(into, c);
		}
	}
}

static bool take_name(str *rest, str *ret_name)
{
	if (rest->len && rest->ptr[0] == '"') {
		size_t n = quoted_len(*rest);
		if (!n)
			return false;
		*ret_name = (str){ rest->ptr + 1, n - 2 };
		*rest = skip_blanks((str){ rest->ptr + n, rest->len - n });
		return true;
	}
	*ret_name = take_word(rest);
	return ret_name->len > 0;
}

/* The family of a new name begins empty; pieces point into `names`, which does not move: its size
 * is reserved for a line before. */
static errc begin_family(struct scrape_parser *p, str name, struct err *e)
{
	buf_clear(&p->names);
	if (!buf_reserve(&p->names, (size_t)(p->end - p->at) < 65536 ? 131072 : 1 << 20))
		return scrape_fail(p, e, "out of room for metadata");
	unescape(name, &p->names);
	p->family = (struct metrics_metadata){ .name = buf_str(&p->names),
					       .help = STR(""),
					       .unit = STR("") };
	p->family_as_written = name;
	p->type = METRICS_TYPE_UNKNOWN;
	p->has_family = true;
	return OK;
}

static errc type_of(struct scrape_parser *p, str word, enum metrics_type *ret, struct err *e)
{
	if (str_eq_c(word, "untyped") && !is_open(p)) {
		*ret = METRICS_TYPE_UNKNOWN;
		return OK;
	}
	*ret = metrics_type_of_name(word);
	if (*ret == METRICS_TYPE_UNKNOWN && !str_eq_c(word, "unknown"))
		return scrape_fail(p, e, "there is no metric type \"%.*s\"", STR_ARG(shown(word)));
	return OK;
}

enum comment { COMMENT_OTHER, COMMENT_HELP, COMMENT_TYPE, COMMENT_UNIT };

static enum comment comment_of(const struct scrape_parser *p, str word)
{
	if (str_eq_c(word, "HELP"))
		return COMMENT_HELP;
	if (str_eq_c(word, "TYPE"))
		return COMMENT_TYPE;
	return is_open(p) && str_eq_c(word, "UNIT") ? COMMENT_UNIT : COMMENT_OTHER;
}

/* `# TYPE name counter`. *RET_WAIT: it is of another family than the one that waits to be told;
 * come again. */
static errc take_comment(struct scrape_parser *p, str line, bool *ret_wait, struct err *e)
{
	bool spaced = line.len > 1 && is_blank(line.ptr[1]);
	str rest = skip_blanks((str){ line.ptr + 1, line.len - 1 }), name;
	enum comment kind = spaced ? comment_of(p, take_word(&rest)) : COMMENT_OTHER;
	*ret_wait = false;
	if (kind == COMMENT_OTHER)
		return is_open(p) ? scrape_fail(p, e, "a comment that is not HELP, TYPE or UNIT")
				  : OK;
	if (!take_name(&rest, &name))
		return scrape_fail(p, e, "metadata without the name of a metric");
	if (p->has_family && !str_eq(p->family_as_written, name)) {
		*ret_wait = true;
		return OK;
	}
	if (!p->has_family)
		TRY(begin_family(p, name, e));
	size_t before = p->names.len;
	switch (kind) {
	case COMMENT_TYPE:
		TRY(type_of(p, take_word(&rest), &p->family.type, e));
		p->type = p->family.type;
		break;
	case COMMENT_HELP:
		if (p->names.len + rest.len >= p->names.size)
			break; /* longer than anybody keeps */
		unescape(rest, &p->names);
		p->family.help = (str){ p->names.ptr + before, p->names.len - before };
		break;
	default:
		p->family.unit = rest;
	}
	return OK;
}

/* ---- Samples. */

/* The length of `name{…}` at the front of LINE; 0 when the braces do not end. */
static size_t series_len(str line)
{
	size_t i = 0;
	if (line.ptr[0] == '}')
		return 0;
	while (i < line.len && !is_blank(line.ptr[i]) && line.ptr[i] != '{')
		i++;
	size_t after = i;
	while (after < line.len && is_blank(line.ptr[after]))
		after++;
	if (after == line.len || line.ptr[after] != '{')
		return i;
	for (i = after + 1; i < line.len; i++) {
		if (line.ptr[i] == '"') {
			size_t n = quoted_len((str){ line.ptr + i, line.len - i });
			if (!n)
				return 0;
			i += n - 1;
		} else if (line.ptr[i] == '}') {
			return i + 1;
		}
	}
	return 0;
}

/* The same where no exemplar is: the last `}` of the line ends the labels, and it is near the end.
 * What else has one is no series, which its labels or its value show. */
static size_t series_len_quick(str line)
{
	const char *brace = memrchr(line.ptr, '}', line.len);
	if (brace && line.ptr[0] != '}')
		return (size_t)(brace - line.ptr) + 1;
	return series_len(line);
}

static bool read_value(str word, double *ret)
{
	/* Go's hexadecimal and underscores are no exposition */
	return word.len && intake_number(word, ret);
}

/* Milliseconds, or with OpenMetrics seconds. */
static errc read_time(const struct scrape_parser *p, str word, time_ms *ret, struct err *e)
{
	double seconds;
	if (!is_open(p)) {
		if (!str_to_i64(word, ret))
			return scrape_fail(p, e, "\"%.*s\" is no time in milliseconds",
					   STR_ARG(shown(word)));
		return OK;
	}
	if (!read_value(word, &seconds) || isnan(seconds) || fabs(seconds) > 9e15)
		return scrape_fail(p, e, "\"%.*s\" is no time in seconds", STR_ARG(shown(word)));
	*ret = (time_ms)floor(seconds * 1000 + 0.5);
	return OK;
}

/* `# {labels} value [time]` */
static errc read_exemplar(struct scrape_parser *p, str rest, struct err *e)
{
	struct scrape_exemplar *x = &p->exemplars[0];
	rest = skip_blanks((str){ rest.ptr + 1, rest.len - 1 });
	size_t n = rest.len && rest.ptr[0] == '{' ? series_len(rest) : 0;
	if (!n)
		return scrape_fail(p, e, "an exemplar without labels in braces");
	x->labels = (str){ rest.ptr + 1, n - 2 };
	x->time = INT64_MIN;
	rest = skip_blanks((str){ rest.ptr + n, rest.len - n });
	if (!read_value(take_word(&rest), &x->value))
		return scrape_fail(p, e, "an exemplar without a value");
	if (rest.len)
		TRY(read_time(p, take_word(&rest), &x->time, e));
	if (rest.len)
		return scrape_fail(p, e, "\"%.*s\" behind an exemplar", STR_ARG(shown(rest)));
	p->exemplar_count = 1;
	return OK;
}

static errc take_sample(struct scrape_parser *p, str line, struct err *e)
{
	bool plain = !is_open(p) || !memchr(line.ptr, '#', line.len);
	size_t n = plain ? series_len_quick(line) : series_len(line);
	if (!n)
		return scrape_fail(p, e, "labels that do not end: %.*s", STR_ARG(shown(line)));
	p->series = (str){ line.ptr, n };
	str rest = skip_blanks((str){ line.ptr + n, line.len - n });
	str word = take_word(&rest);
	if (!read_value(word, &p->value))
		return scrape_fail(p, e, "\"%.*s\" is no number", STR_ARG(shown(word)));
	if (rest.len && rest.ptr[0] != '#') {
		TRY(read_time(p, take_word(&rest), &p->time, e));
		p->has_time = true;
	}
	if (rest.len && rest.ptr[0] == '#' && is_open(p))
		TRY(read_exemplar(p, rest, e));
	else if (rest.len)
		return scrape_fail(p, e, "\"%.*s\" behind a sample", STR_ARG(shown(rest)));
	return OK;
}

/* ---- Lines. */

static bool next_line(struct scrape_parser *p, str *ret)
{
	if (p->at == p->end)
		return false;
	const char *newline = memchr(p->at, '\n', (size_t)(p->end - p->at));
	const char *end = newline ? newline : p->end;
	*ret = (str){ p->at, (size_t)(end - p->at) };
	p->at = newline ? newline + 1 : p->end;
	p->line++;
	if (ret->len && ret->ptr[ret->len - 1] == '\r' && !is_open(p))
		ret->len--;
	return true;
}

static errc at_end(struct scrape_parser *p, enum scrape_event *ret_event, struct err *e)
{
	*ret_event = SCRAPE_END;
	if (!is_open(p) || p->saw_end)
		return OK;
	p->saw_end = true; /* who goes on gets to the end */
	return scrape_fail(p, e, "the text does not end with # EOF");
}

errc scrape_text_next(struct scrape_parser *p, enum scrape_event *ret_event, struct err *e)
{
	str line;
	for (;;) {
		const char *before = p->at;
		if (!next_line(p, &line))
			break;
		if (p->saw_end)
			return scrape_fail(p, e, "text behind # EOF");
		str text = is_open(p) ? line : skip_blanks(line);
		if (is_open(p) && str_eq_c(text, "# EOF")) {
			p->saw_end = true;
			continue;
		}
		if (!text.len && is_open(p))
			return scrape_fail(p, e, "an empty line");
		if (!text.len)
			continue;
		bool wait = text.ptr[0] != '#' && p->has_family;
		if (text.ptr[0] == '#')
			TRY(take_comment(p, text, &wait, e));
		if (wait) { /* the family first, then this line again */
			p->at = before;
			p->line--;
			p->has_family = false;
			*ret_event = SCRAPE_FAMILY;
			return OK;
		}
		if (text.ptr[0] == '#')
			continue;
		TRY(take_sample(p, text, e));
		*ret_event = SCRAPE_SAMPLE;
		return OK;
	}
	if (p->has_family) {
		p->has_family = false;
		*ret_event = SCRAPE_FAMILY;
		return OK;
	}
	return at_end(p, ret_event, e);
}

/* ---- Labels. */

struct labels_reader {
	struct scrape_parser *p;
	struct arena *scratch;
	struct label *items;
	size_t count;
	str rest;
	struct err *e;
};

static errc text_of(struct labels_reader *r, str *ret)
{
	size_t n = quoted_len(r->rest);
	if (!n)
		return scrape_fail(r->p, r->e, "a quoted text that does not end");
	str raw = { r->rest.ptr + 1, n - 2 };
	r->rest = (str){ r->rest.ptr + n, r->rest.len - n };
	*ret = raw;
	if (!memchr(raw.ptr, '\\', raw.len))
		return OK;
	struct buf b CLEANUP(buf_done) = buf_init(raw.len + 16);
	unescape(raw, &b);
	*ret = arena_str(r->scratch, buf_str(&b));
	return arena_check(r->scratch, "the labels of a scrape", r->e);
}

static errc add(struct labels_reader *r, str name, str value)
{
	if (r->count == LABELS_COUNT_MAX)
		return scrape_fail(r->p, r->e, "more than %d labels", LABELS_COUNT_MAX);
	r->items[r->count++] = (struct label){ name, value };
	return OK;
}

/* Whether S, which is not quoted, is an identifier; COLONS: of a metric. With `any_names` whatever
 * cannot be taken for something else. */
static bool is_name(const struct scrape_parser *p, str s, bool colons)
{
	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];
		bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
		bool digit = c >= '0' && c <= '9';
		if (p->any_names ? (unsigned char)c <= ' ' || strchr("{}\"=,#", c)
				 : !letter && !(digit && i) && !(c == ':' && colons))
			return false;
	}
	return s.len > 0;
}

/* `a="b"`, or a quoted metric's name alone. */
static errc one_label(struct labels_reader *r)
{
	str name, value;
	r->rest = skip_blanks(r->rest);
	if (r->rest.len && r->rest.ptr[0] == '"') {
		TRY(text_of(r, &name));
		r->rest = skip_blanks(r->rest);
		if (!r->rest.len || r->rest.ptr[0] != '=')
			return add(r, STR(LABEL_METRIC_NAME), name);
	} else {
		size_t n = 0;
		while (n < r->rest.len && !is_blank(r->rest.ptr[n]) && r->rest.ptr[n] != '=')
			n++;
		name = (str){ r->rest.ptr, n };
		r->rest = skip_blanks((str){ r->rest.ptr + n, r->rest.len - n });
		if (!is_name(r->p, name, false) || !r->rest.len || r->rest.ptr[0] != '=')
			return scrape_fail(r->p, r->e, "\"%.*s\" is no label with a value",
					   STR_ARG(shown(name)));
	}
	r->rest = skip_blanks((str){ r->rest.ptr + 1, r->rest.len - 1 });
	if (!r->rest.len || r->rest.ptr[0] != '"')
		return scrape_fail(r->p, r->e, "the value of a label is not quoted");
	TRY(text_of(r, &value));
	return add(r, name, value);
}

/* What stands between braces. */
static errc all_labels(struct labels_reader *r)
{
	r->rest = skip_blanks(r->rest);
	while (r->rest.len) {
		TRY(one_label(r));
		r->rest = skip_blanks(r->rest);
		if (!r->rest.len)
			break;
		if (r->rest.ptr[0] != ',')
			return scrape_fail(r->p, r->e, "\"%.*s\" behind a label",
					   STR_ARG(shown(r->rest)));
		r->rest = skip_blanks((str){ r->rest.ptr + 1, r->rest.len - 1 });
	}
	return OK;
}

/* `le="1"` is the same boundary as `le="1.0"`: written as one series. */
static errc normalize(struct labels_reader *r)
{
	const char *name = r->p->type == METRICS_TYPE_HISTOGRAM ||
					   r->p->type == METRICS_TYPE_GAUGE_HISTOGRAM
				   ? "le"
			   : r->p->type == METRICS_TYPE_SUMMARY ? "quantile"
								: NULL;
	for (size_t i = 0; name && i < r->count; i++) {
		char text[NUMBER_TEXT_SIZE];
		double v;
		if (!str_eq_c(r->items[i].name, name) || !number_parse(r->items[i].value, &v))
			continue;
		size_t n = intake_number_print(v, text);
		r->items[i].value = arena_str(r->scratch, (str){ text, n });
	}
	return arena_check(r->scratch, "the labels of a scrape", r->e);
}

errc scrape_text_labels(struct scrape_parser *p, str series, struct arena *scratch,
			struct label *items, size_t *ret_count, struct err *e)
{
	struct labels_reader r = { .p = p, .scratch = scratch, .items = items, .e = e };
	const char *brace = memchr(series.ptr, '{', series.len);
	str name = str_trim((str){ series.ptr, brace ? (size_t)(brace - series.ptr) : series.len });
	if (name.len && !is_name(p, name, true))
		return scrape_fail(p, e, "\"%.*s\" is no name of a metric", STR_ARG(shown(name)));
	if (name.len)
		TRY(add(&r, STR(LABEL_METRIC_NAME), name));
	if (brace) {
		size_t begin = (size_t)(brace - series.ptr) + 1;
		r.rest = (str){ series.ptr + begin, series.len - begin - 1 };
		TRY(all_labels(&r));
	}
	TRY(normalize(&r));
	*ret_count = r.count;
	return OK;
}

errc scrape_text_exemplar(struct scrape_parser *p, const struct scrape_exemplar *x,
			  struct arena *scratch, struct label *items, size_t *ret_count,
			  struct err *e)
{
	struct labels_reader r = {
		.p = p, .scratch = scratch, .items = items, .rest = x->labels, .e = e
	};
	TRY(all_labels(&r));
	*ret_count = r.count;
	return OK;
}
