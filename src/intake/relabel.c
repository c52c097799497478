#include "intake/relabel.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "base/checks.h"

enum relabel_action {
	RELABEL_REPLACE,
	RELABEL_KEEP,
	RELABEL_DROP,
	RELABEL_KEEPEQUAL,
	RELABEL_DROPEQUAL,
	RELABEL_HASHMOD,
	RELABEL_LABELMAP,
	RELABEL_LABELDROP,
	RELABEL_LABELKEEP,
	RELABEL_LOWERCASE,
	RELABEL_UPPERCASE,
	RELABEL_ACTION_COUNT
};

static const char *const action_words[RELABEL_ACTION_COUNT] = {
	"replace",  "keep",      "drop",      "keepequal", "dropequal", "hashmod",
	"labelmap", "labeldrop", "labelkeep", "lowercase", "uppercase",
};

struct rule {
	enum relabel_action action;
	const str *sources;
	size_t source_count;
	str separator, target, replacement;
	struct matcher matcher; /* of the joined source values, or of label names */
	uint64_t modulus;
};

struct relabel {
	struct arena arena;
	struct rule *rules;
	size_t count;
};

/* One application of the rules. */
struct relabeling {
	struct arena *scratch;
	struct label *items;
	size_t count;
	struct buf joined, text;
};

enum { RULES_BYTES_MAX = 4 << 20, JOINED_MAX = 64 * 1024 };

/* ---- Compiling. */

static errc compile_rule(struct relabel *r, size_t at, const struct relabel_rule *from,
			 struct err *e)
{
	struct rule *to = &r->rules[at];
	size_t action = 0;
	while (action < RELABEL_ACTION_COUNT && !str_eq_c(from->action, action_words[action]))
		action++;
	if (action == RELABEL_ACTION_COUNT)
		FAIL(e, ERR_INVALID, "relabel rule %zu: there is no action \"%.*s\"", at + 1,
		     STR_ARG(from->action));
	str *sources = arena_array(&r->arena, from->source_count + 1, sizeof(str));
	if (!sources || from->source_count > RELABEL_SOURCES_MAX)
		FAIL(e, ERR_LIMIT, "relabel rule %zu is too large", at + 1);
	for (size_t i = 0; i < from->source_count; i++)
		sources[i] = arena_str(&r->arena, from->sources[i]);
	*to = (struct rule){ .action = (enum relabel_action)action,
			     .sources = sources,
			     .source_count = from->source_count,
			     .separator = arena_str(&r->arena, from->separator),
			     .target = arena_str(&r->arena, from->target),
			     .replacement = arena_str(&r->arena, from->replacement),
			     .modulus = from->modulus };
	bool needs_target = action == RELABEL_REPLACE || action == RELABEL_HASHMOD ||
			    action == RELABEL_KEEPEQUAL || action == RELABEL_DROPEQUAL ||
			    action == RELABEL_LOWERCASE || action == RELABEL_UPPERCASE;
	if (needs_target && !to->target.len)
		FAIL(e, ERR_INVALID, "relabel rule %zu: the action %s needs a target_label", at + 1,
		     action_words[action]);
	if (action == RELABEL_HASHMOD && !to->modulus)
		FAIL(e, ERR_INVALID, "relabel rule %zu: the action hashmod needs a modulus",
		     at + 1);
	to->matcher = (struct matcher){ .type = MATCH_REGEXP,
					.name = STR("regex"),
					.value = arena_str(&r->arena, from->regex) };
	if (matcher_compile(&to->matcher, e) != OK)
		return err_prepend(e, "relabel rule %zu", at + 1);
	return OK;
}

errc relabel_new(const struct relabel_rule *rules, size_t count, struct relabel **ret_relabel,
		 struct err *e)
{
	if (count > RELABEL_RULES_MAX)
		FAIL(e, ERR_LIMIT, "%zu relabel rules; at most %d", count, RELABEL_RULES_MAX);
	struct relabel *r = must_calloc(1, sizeof(*r));
	r->arena = arena_init(RULES_BYTES_MAX);
	r->rules = must_calloc(count + 1, sizeof(r->rules[0]));
	errc rc = OK;
	for (; rc == OK && r->count < count; r->count++)
		rc = compile_rule(r, r->count, &rules[r->count], e);
	if (rc == OK)
		rc = arena_check(&r->arena, "the relabel rules", e);
	if (rc != OK) {
		relabel_free(r);
		return rc;
	}
	*ret_relabel = r;
	return OK;
}

void relabel_free(struct relabel *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < r->count; i++)
		matcher_done(&r->rules[i].matcher);
	free(r->rules);
	arena_done(&r->arena);
	free(r);
}

/* ---- Labels. */

static struct label *find(struct relabeling *x, str name)
{
	for (size_t i = 0; i < x->count; i++)
		if (str_eq(x->items[i].name, name))
			return &x->items[i];
	return NULL;
}

static str value_of(struct relabeling *x, str name)
{
	const struct label *found = find(x, name);
	return found ? found->value : STR("");
}

static void remove_label(struct relabeling *x, size_t at)
{
	x->count--;
	memmove(&x->items[at], &x->items[at + 1], (x->count - at) * sizeof(x->items[0]));
}

/* NAME = VALUE, both copied; an empty value removes it. */
static errc set(struct relabeling *x, str name, str value, struct err *e)
{
	struct label *found = find(x, name);
	if (!value.len) {
		if (found)
			remove_label(x, (size_t)(found - x->items));
		return OK;
	}
	if (!found) {
		if (x->count == LABELS_COUNT_MAX)
			FAIL(e, ERR_LIMIT, "relabelling makes more than %d labels",
			     LABELS_COUNT_MAX);
		found = &x->items[x->count++];
		found->name = arena_str(x->scratch, name);
	}
	found->value = arena_str(x->scratch, value);
	return arena_check(x->scratch, "relabelling", e);
}

static void join(struct relabeling *x, const struct rule *rule)
{
	buf_clear(&x->joined);
	for (size_t i = 0; i < rule->source_count; i++) {
		if (i)
			buf_add(&x->joined, rule->separator);
		buf_add(&x->joined, value_of(x, rule->sources[i]));
	}
}

/* The label names that Prometheus takes in a target or a mapped name: UTF-8, not empty. */
static bool is_label_name(str name)
{
	return name.len && name.len <= LABEL_NAME_BYTES_MAX;
}

/* ---- Rules. */

static errc replace(struct relabeling *x, const struct rule *rule, struct err *e)
{
	bool matches = false;
	str value = buf_str(&x->joined);
	buf_clear(&x->text);
	TRY(matcher_expand(&rule->matcher, value, rule->target, &x->text, &matches, e));
	if (!matches || !is_label_name(buf_str(&x->text)))
		return OK;
	str name = arena_str(x->scratch, buf_str(&x->text));
	buf_clear(&x->text);
	TRY(matcher_expand(&rule->matcher, value, rule->replacement, &x->text, &matches, e));
	TRY(buf_check(&x->text, "a relabelled value", e));
	return set(x, name, buf_str(&x->text), e);
}

/* The last 8 bytes of the MD5, as Prometheus has it. */
static errc hash_modulo(struct relabeling *x, const struct rule *rule, struct err *e)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned len = 0;
	uint64_t number = 0;
	char text[24];
	if (!EVP_Digest(x->joined.ptr ? x->joined.ptr : "", x->joined.len, digest, &len, EVP_md5(),
			NULL) ||
	    len != 16)
		FAIL(e, ERR_FAILED, "hashmod: MD5 is not available on this machine");
	for (size_t i = 8; i < 16; i++)
		number = number << 8 | digest[i];
	int n = snprintf(text, sizeof(text), "%llu", (unsigned long long)(number % rule->modulus));
	return set(x, rule->target, (str){ text, (size_t)n }, e);
}

static errc change_case(struct relabeling *x, const struct rule *rule, struct err *e)
{
	buf_clear(&x->text);
	for (size_t i = 0; i < x->joined.len; i++) {
		unsigned char c = (unsigned char)x->joined.ptr[i];
		if (c < 0x80)
			c = (unsigned char)(rule->action == RELABEL_LOWERCASE ? tolower(c)
									      : toupper(c));
		buf_add_byte(&x->text, (char)c);
	}
	TRY(buf_check(&x->text, "a relabelled value", e));
	return set(x, rule->target, buf_str(&x->text), e);
}

static errc map_labels(struct relabeling *x, const struct rule *rule, struct err *e)
{
	struct label before[LABELS_COUNT_MAX];
	size_t count = x->count;
	memcpy(before, x->items, count * sizeof(before[0]));
	for (size_t i = 0; i < count; i++) {
		bool matches = false;
		buf_clear(&x->text);
		TRY(matcher_expand(&rule->matcher, before[i].name, rule->replacement, &x->text,
				   &matches, e));
		if (matches && is_label_name(buf_str(&x->text)))
			TRY(set(x, buf_str(&x->text), before[i].value, e));
	}
	return OK;
}

static errc drop_labels(struct relabeling *x, const struct rule *rule, struct err *e)
{
	for (size_t i = 0; i < x->count;) {
		bool matches = false;
		TRY(matcher_matches(&rule->matcher, x->items[i].name, &matches, e));
		if (matches == (rule->action == RELABEL_LABELDROP))
			remove_label(x, i);
		else
			i++;
	}
	return OK;
}

static errc apply_rule(struct relabeling *x, const struct rule *rule, bool *ret_keep, struct err *e)
{
	bool matches = false;
	join(x, rule);
	TRY(buf_check(&x->joined, "the labels of a relabel rule", e));
	switch (rule->action) {
	case RELABEL_REPLACE:
		return replace(x, rule, e);
	case RELABEL_KEEP:
	case RELABEL_DROP:
		TRY(matcher_matches(&rule->matcher, buf_str(&x->joined), &matches, e));
		*ret_keep = matches == (rule->action == RELABEL_KEEP);
		return OK;
	case RELABEL_KEEPEQUAL:
	case RELABEL_DROPEQUAL:
		matches = str_eq(buf_str(&x->joined), value_of(x, rule->target));
		*ret_keep = matches == (rule->action == RELABEL_KEEPEQUAL);
		return OK;
	case RELABEL_HASHMOD:
		return hash_modulo(x, rule, e);
	case RELABEL_LABELMAP:
		return map_labels(x, rule, e);
	case RELABEL_LABELDROP:
	case RELABEL_LABELKEEP:
		return drop_labels(x, rule, e);
	case RELABEL_LOWERCASE:
	case RELABEL_UPPERCASE:
		return change_case(x, rule, e);
	case RELABEL_ACTION_COUNT:
		break;
	}
	return OK;
}

errc relabel_apply(const struct relabel *r, struct arena *scratch, struct label *items,
		   size_t *count, bool *ret_keep, struct err *e)
{
	struct relabeling x = { .scratch = scratch,
				.items = items,
				.count = *count,
				.joined = buf_init(JOINED_MAX),
				.text = buf_init(JOINED_MAX) };
	errc rc = OK;
	*ret_keep = true;
	for (size_t i = 0; rc == OK && *ret_keep && i < r->count; i++)
		rc = apply_rule(&x, &r->rules[i], ret_keep, e);
	buf_done(&x.joined);
	buf_done(&x.text);
	*count = x.count;
	return rc;
}
