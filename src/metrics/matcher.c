#include "metrics/matcher.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/checks.h"
#include "metrics/matcher_internal.h"
#include "metrics/series_key.h"

enum { STEPS_MAX = 1000000, LOOK_BYTES_MAX = 1 << 20 };

struct matcher_program {
	pcre2_code *code;
	pcre2_match_context *context;
	struct arena arena; /* what the text of the expression tells */
	struct pattern_facts facts;
	bool matches_all; /* `.*` */
	bool matches_empty;
};

/* Match data belongs to a thread: making it for every value would cost more than most matches. */
static pthread_key_t data_key;

static void free_data(void *data)
{
	pcre2_match_data_free(data);
}

static void make_key(void)
{
	must(pthread_key_create(&data_key, free_data) == 0);
}

static pcre2_match_data *match_data(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, make_key);
	pcre2_match_data *data = pthread_getspecific(data_key);
	if (!data) {
		data = pcre2_match_data_create(1, NULL);
		must(data && pthread_setspecific(data_key, data) == 0);
	}
	return data;
}

static errc run(const struct matcher *m, str value, bool *ret_matches, struct err *e)
{
	const struct matcher_program *p = m->program;
	if (value.len < p->facts.prefix.len || !str_starts(value, p->facts.prefix)) {
		*ret_matches = false;
		return OK;
	}
	int rc = pcre2_match(p->code, (PCRE2_SPTR)(value.ptr ? value.ptr : ""), value.len, 0, 0,
			     match_data(), p->context);
	if (rc < 0 && rc != PCRE2_ERROR_NOMATCH)
		FAIL(e, ERR_LIMIT,
		     "the regular expression \"%.*s\" takes too many steps to match a value of %zu "
		     "bytes; make it simpler",
		     (int)(m->value.len < 200 ? m->value.len : 200), m->value.ptr, value.len);
	*ret_matches = rc >= 0;
	return OK;
}

/* ---- Groups put into a template, as Go's regexp.Expand() does. */

static void add_group(const struct matcher_program *p, pcre2_match_data *data, str value, str name,
		      struct buf *into)
{
	uint64_t number;
	char text[64];
	if (!str_copy(name, text, sizeof(text)))
		return;
	if (!str_to_u64(name, &number)) {
		int found = pcre2_substring_number_from_name(p->code, (PCRE2_SPTR)text);
		if (found < 0)
			return;
		number = (uint64_t)found;
	}
	const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(data);
	if (number < pcre2_get_ovector_count(data) && ends[2 * number] != PCRE2_UNSET)
		buf_add(into, (str){ value.ptr + ends[2 * number],
				     ends[2 * number + 1] - ends[2 * number] });
}

static bool is_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_';
}

/* The name behind the `$` at AT, and where the text goes on; false when that is no name. */
static bool group_name(str template, size_t at, str *ret_name, size_t *ret_next)
{
	bool braced = at + 1 < template.len && template.ptr[at + 1] == '{';
	size_t begin = at + 1 + braced, end = begin;
	while (end < template.len && is_word(template.ptr[end]))
		end++;
	if (end == begin || (braced && (end == template.len || template.ptr[end] != '}')))
		return false;
	*ret_name = (str){ template.ptr + begin, end - begin };
	*ret_next = end + braced;
	return true;
}

static void expand(const struct matcher_program *p, pcre2_match_data *data, str value, str template,
		   struct buf *into)
{
	str name;
	for (size_t at = 0, next; at < template.len; at = next) {
		next = at + 1;
		if (template.ptr[at] != '$')
			buf_add_byte(into, template.ptr[at]);
		else if (next < template.len && template.ptr[next] == '$')
			buf_add_byte(into, template.ptr[next++]);
		else if (group_name(template, at, &name, &next))
			add_group(p, data, value, name, into);
		else
			buf_add_byte(into, '$');
	}
}

errc matcher_expand(const struct matcher *m, str value, str template, struct buf *into,
		    bool *ret_matches, struct err *e)
{
	pcre2_match_data *data = NULL;
	TRY(run(m, value, ret_matches, e));
	if (!*ret_matches)
		return OK;
	if (!memchr(template.ptr ? template.ptr : "", '$', template.len)) {
		buf_add(into, template);
		return OK;
	}
	data = pcre2_match_data_create_from_pattern(m->program->code, NULL);
	must(data);
	int rc = pcre2_match(m->program->code, (PCRE2_SPTR)(value.ptr ? value.ptr : ""), value.len,
			     0, 0, data, m->program->context);
	if (rc > 0)
		expand(m->program, data, value, template, into);
	pcre2_match_data_free(data);
	return OK;
}

static errc compile_code(struct matcher_program *p, str pattern, struct err *e)
{
	int code = 0;
	PCRE2_SIZE place = 0;
	struct buf translated = buf_init(4 * MATCHER_BYTES_MAX);
	errc rc = pattern_translate(pattern, &translated, e);
	if (rc == OK)
		rc = buf_check(&translated, "a regular expression", e);
	if (rc == OK) {
		p->code = pcre2_compile((PCRE2_SPTR)buf_cstr(&translated), translated.len,
					PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_DOTALL |
						PCRE2_DOLLAR_ENDONLY | PCRE2_MATCH_INVALID_UTF |
						PCRE2_NEVER_BACKSLASH_C,
					&code, &place, NULL);
		if (!p->code) {
			char why[160] = "";
			pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof(why));
			rc = err_fill(e, ERR_INVALID, 0, __FILE__, __LINE__,
				      "the regular expression \"%.*s\" is wrong at byte %zu: %s",
				      (int)(pattern.len < 200 ? pattern.len : 200), pattern.ptr,
				      (size_t)place + 1, why);
		}
	}
	buf_done(&translated);
	return rc;
}

static void program_free(struct matcher_program *p)
{
	if (!p)
		return;
	pcre2_code_free(p->code);
	pcre2_match_context_free(p->context);
	arena_done(&p->arena);
	free(p);
}

errc matcher_compile(struct matcher *m, struct err *e)
{
	m->program = NULL;
	if (m->type != MATCH_REGEXP && m->type != MATCH_NOT_REGEXP)
		return OK;
	if (m->value.len > MATCHER_BYTES_MAX)
		FAIL(e, ERR_LIMIT, "a regular expression has %zu bytes; at most %d fit",
		     m->value.len, MATCHER_BYTES_MAX);
	struct matcher_program *p = must_calloc(1, sizeof(*p));
	errc rc = compile_code(p, m->value, e);
	if (rc != OK) {
		program_free(p);
		return rc;
	}
	pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE); /* without it, it is slower */
	p->context = pcre2_match_context_create(NULL);
	must(p->context);
	pcre2_set_match_limit(p->context, STEPS_MAX);
	p->arena = arena_init(LOOK_BYTES_MAX);
	pattern_look(m->value, &p->arena, &p->facts);
	p->matches_all = str_eq(m->value, STR(".*"));
	m->program = p;
	rc = run(m, STR(""), &p->matches_empty, e);
	if (rc != OK)
		matcher_done(m);
	return rc;
}

void matcher_done(struct matcher *m)
{
	if (!m)
		return;
	program_free(m->program);
	m->program = NULL;
}

errc matcher_matches(const struct matcher *m, str value, bool *ret_matches, struct err *e)
{
	bool matches = false;
	if (m->type == MATCH_EQUAL || m->type == MATCH_NOT_EQUAL)
		matches = str_eq(value, m->value);
	else if (m->program->matches_all)
		matches = true;
	else
		TRY(run(m, value, &matches, e));
	*ret_matches = matches == (m->type == MATCH_EQUAL || m->type == MATCH_REGEXP);
	return OK;
}

bool matcher_matches_empty(const struct matcher *m)
{
	switch (m->type) {
	case MATCH_EQUAL:
		return m->value.len == 0;
	case MATCH_NOT_EQUAL:
		return m->value.len != 0;
	case MATCH_REGEXP:
		return m->program->matches_empty;
	case MATCH_NOT_REGEXP:
		return !m->program->matches_empty;
	}
	return false;
}

bool matcher_literals(const struct matcher *m, const str **ret_values, size_t *ret_count)
{
	if (!m->program || !m->program->facts.literals)
		return false;
	*ret_values = m->program->facts.literals;
	*ret_count = m->program->facts.literal_count;
	return true;
}

str matcher_prefix(const struct matcher *m)
{
	return m->program ? m->program->facts.prefix : STR("");
}

void matcher_print(struct buf *into, const struct matcher *m)
{
	static const char *const operators[] = { "=", "!=", "=~", "!~" };
	labels_add_name(into, m->name);
	buf_add_c(into, operators[m->type]);
	labels_add_quoted(into, m->value);
}
