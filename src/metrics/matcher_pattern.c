#include <string.h>

#include "metrics/matcher_internal.h"

/* ---- Refusing what RE2 lacks, and spelling what PCRE2 understands otherwise. */

struct translation {
	str in;
	size_t at;
	struct buf *out;
	bool after_quantifier; /* a further `+` would be possessive in PCRE2 */
};

static char peek(const struct translation *t, size_t ahead)
{
	return t->at + ahead < t->in.len ? t->in.ptr[t->at + ahead] : '\0';
}

static errc refuse(const struct translation *t, const char *what, struct err *e)
{
	FAIL(e, ERR_INVALID, "the regular expression \"%.*s\" has %s at byte %zu",
	     (int)(t->in.len < 200 ? t->in.len : 200), t->in.ptr, what, t->at + 1);
}

static void copy(struct translation *t, size_t len)
{
	if (len > t->in.len - t->at)
		len = t->in.len - t->at;
	buf_add(t->out, (str){ t->in.ptr + t->at, len });
	t->at += len;
}

/* `\Q…\E`: plain text. */
static void translate_quoted(struct translation *t)
{
	t->at += 2;
	while (t->at < t->in.len) {
		if (peek(t, 0) == '\\' && peek(t, 1) == 'E') {
			t->at += 2;
			return;
		}
		if (strchr("\\^$.[]|()?*+{}-", peek(t, 0)) && peek(t, 0))
			buf_add_byte(t->out, '\\');
		copy(t, 1);
	}
}

static bool is_octal(char c)
{
	return c >= '0' && c <= '7';
}

static errc translate_escape(struct translation *t, bool in_class, struct err *e)
{
	char c = peek(t, 1);
	if (t->at + 1 >= t->in.len)
		return refuse(t, "a backslash at its end", e);
	if (c == 'Q' && !in_class) {
		translate_quoted(t);
		return OK;
	}
	if (c == 'v') { /* PCRE2's is all vertical space */
		buf_add_c(t->out, "\\x0b");
		t->at += 2;
		return OK;
	}
	if (c == '0' || (c >= '1' && c <= '7' && is_octal(peek(t, 2)))) {
		unsigned value = 0, n = 0;
		for (t->at++; n < 3 && is_octal(peek(t, 0)); n++, t->at++)
			value = value * 8 + (unsigned)(peek(t, 0) - '0');
		buf_printf(t->out, "\\x{%x}", value);
		return OK;
	}
	if (c >= '1' && c <= '9')
		return refuse(t, "a back reference, which is not supported,", e);
	if ((unsigned char)c >= 0x80 || strchr("afnrtxdDsSwWpP", c) ||
	    (!in_class && strchr("AbBz", c))) {
		copy(t, 2);
		return OK;
	}
	if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
		return refuse(t, "an unknown escape", e);
	copy(t, 2);
	return OK;
}

static errc translate_class(struct translation *t, struct err *e)
{
	copy(t, 1);
	if (peek(t, 0) == '^')
		copy(t, 1);
	if (peek(t, 0) == ']') /* the first one is itself */
		copy(t, 1);
	while (t->at < t->in.len && peek(t, 0) != ']') {
		if (peek(t, 0) == '\\') {
			TRY(translate_escape(t, true, e));
		} else if (peek(t, 0) == '[' && peek(t, 1) == ':') {
			copy(t, 2);
			while (t->at < t->in.len && peek(t, 0) != ']')
				copy(t, 1);
			copy(t, 1);
		} else if (peek(t, 0) == '[') {
			buf_add_c(t->out, "\\[");
			t->at++;
		} else {
			copy(t, 1);
		}
	}
	if (t->at == t->in.len)
		return refuse(t, "a [ without its ]", e);
	copy(t, 1);
	return OK;
}

static errc translate_group(struct translation *t, struct err *e)
{
	if (peek(t, 1) == '*')
		return refuse(t, "nothing to repeat", e);
	if (peek(t, 1) != '?') {
		copy(t, 1);
		return OK;
	}
	size_t n = 2;
	if (peek(t, 2) == 'P' && peek(t, 3) == '<') {
		copy(t, 4);
		return OK;
	}
	if (peek(t, 2) == '<' && peek(t, 3) != '=' && peek(t, 3) != '!') {
		copy(t, 3);
		return OK;
	}
	while (peek(t, n) && strchr("imsU-", peek(t, n)))
		n++;
	if (peek(t, n) != ':' && (peek(t, n) != ')' || n == 2))
		return refuse(t, "a group that is not supported (look-around, condition, …)", e);
	copy(t, n + 1);
	return OK;
}

errc pattern_translate(str pattern, struct buf *into, struct err *e)
{
	struct translation t = { .in = pattern, .out = into };
	while (t.at < pattern.len) {
		char c = peek(&t, 0);
		bool quantifier = false;
		if (c == '\\') {
			TRY(translate_escape(&t, false, e));
		} else if (c == '[') {
			TRY(translate_class(&t, e));
		} else if (c == '(') {
			TRY(translate_group(&t, e));
		} else {
			quantifier = c == '*' || c == '+' || c == '?' ||
				     (c == '}' && t.at &&
				      strchr("0123456789,", pattern.ptr[t.at - 1]));
			if (quantifier && t.after_quantifier && c != '?' && c != '}')
				return refuse(&t, "a repetition of a repetition", e);
			copy(&t, 1);
		}
		t.after_quantifier = quantifier;
	}
	return OK;
}

/* ---- Alternatives of plain text. A small recursive reader of literals, groups and `|`. */

struct look {
	str in;
	size_t at;
	unsigned depth;
	struct arena *arena;
};

struct alternatives {
	str *items;
	size_t count;
};

static bool look_alternatives(struct look *l, struct alternatives *ret);

static str joined(struct arena *arena, str a, str b)
{
	char *bytes = arena_alloc(arena, a.len + b.len + 1);
	if (!bytes)
		return STR("");
	memcpy(bytes, a.ptr, a.len);
	memcpy(bytes + a.len, b.ptr, b.len);
	return (str){ bytes, a.len + b.len };
}

/* Every one of A followed by every one of B. */
static bool product(struct look *l, struct alternatives *a, const struct alternatives *b)
{
	size_t count = a->count * b->count;
	if (count > MATCHER_LITERALS_MAX)
		return false;
	str *items = arena_array(l->arena, count, sizeof(*items));
	for (size_t i = 0; items && i < count; i++)
		items[i] = joined(l->arena, a->items[i / b->count], b->items[i % b->count]);
	*a = (struct alternatives){ items, count };
	return items && !l->arena->overflow;
}

/* The plain text at l->at: how many bytes stand for how many. False when it is something else. */
static bool plain_text(struct look *l, struct buf *text)
{
	while (l->at < l->in.len) {
		char c = l->in.ptr[l->at];
		size_t len = 1;
		if (strchr("^$.[]|()?*+{}", c) && c)
			break;
		if (c == '\\') {
			c = l->at + 1 < l->in.len ? l->in.ptr[l->at + 1] : '\0';
			if (!c || !strchr("\\^$.[]|()?*+{}-/\"'_:,=<>@#%&~ ", c))
				break;
			len = 2;
		}
		buf_add_byte(text, c);
		l->at += len;
	}
	return !text->overflow;
}

static bool look_one(struct look *l, struct alternatives *one)
{
	if (l->in.ptr[l->at] == '(') {
		l->at++;
		if (l->at < l->in.len && l->in.ptr[l->at] == '?') {
			if (!str_starts((str){ l->in.ptr + l->at, l->in.len - l->at }, STR("?:")))
				return false;
			l->at += 2;
		}
		if (++l->depth > 20 || !look_alternatives(l, one) || l->at == l->in.len)
			return false;
		l->depth--;
		l->at++; /* the ) */
	} else {
		struct buf text = buf_init(MATCHER_BYTES_MAX);
		size_t before = l->at;
		bool ok = plain_text(l, &text) && l->at > before;
		one->items = arena_alloc(l->arena, sizeof(*one->items));
		one->count = 1;
		if (one->items)
			one->items[0] = arena_str(l->arena, buf_str(&text));
		buf_done(&text);
		if (!ok || !one->items)
			return false;
	}
	return l->at == l->in.len || !strchr("?*+{", l->in.ptr[l->at]);
}

static bool look_alternatives(struct look *l, struct alternatives *ret)
{
	static str nothing = { "", 0 };
	str *items = arena_array(l->arena, MATCHER_LITERALS_MAX, sizeof(*items));
	size_t count = 0;
	for (;;) {
		struct alternatives sequence = { &nothing, 1 };
		while (l->at < l->in.len && l->in.ptr[l->at] != '|' && l->in.ptr[l->at] != ')') {
			struct alternatives one;
			if (!look_one(l, &one) || !product(l, &sequence, &one))
				return false;
		}
		if (!items || count + sequence.count > MATCHER_LITERALS_MAX)
			return false;
		memcpy(items + count, sequence.items, sequence.count * sizeof(*items));
		count += sequence.count;
		if (l->at == l->in.len || l->in.ptr[l->at] == ')')
			break;
		l->at++; /* the | */
	}
	*ret = (struct alternatives){ items, count };
	return true;
}

/* A `|` outside of all groups ends every hope of a common prefix (short of the literals). Where
 * brackets and quotes make it hard to tell, there is one. */
static bool has_alternatives(str s)
{
	int depth = 0;
	bool unclear = str_find(s, STR("[")) >= 0 || str_find(s, STR("\\Q")) >= 0;
	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];
		if (c == '\\')
			i++;
		else if (c == '(')
			depth++;
		else if (c == ')')
			depth--;
		else if (c == '|' && (depth <= 0 || unclear))
			return true;
	}
	return false;
}

static str prefix_of(str pattern, struct arena *arena)
{
	struct look l = { .in = pattern, .arena = arena };
	struct buf text = buf_init(MATCHER_BYTES_MAX);
	str prefix = STR("");
	if (!has_alternatives(pattern) && plain_text(&l, &text)) {
		size_t len = text.len;
		if (l.at < pattern.len && strchr("?*{", pattern.ptr[l.at])) {
			while (len && ((unsigned char)text.ptr[len - 1] & 0xc0) == 0x80)
				len--; /* the last character need not be there */
			len -= len > 0;
		}
		prefix = arena_str(arena, (str){ text.len ? text.ptr : "", len });
	}
	buf_done(&text);
	return prefix;
}

void pattern_look(str pattern, struct arena *arena, struct pattern_facts *ret)
{
	struct look l = { .in = pattern, .arena = arena };
	struct alternatives all;
	*ret = (struct pattern_facts){ .prefix = STR("") };
	if (look_alternatives(&l, &all) && l.at == pattern.len && !arena->overflow) {
		ret->literals = all.items;
		ret->literal_count = all.count;
	}
	if (ret->literal_count == 1)
		ret->prefix = ret->literals[0];
	else if (!ret->literals)
		ret->prefix = prefix_of(pattern, arena);
	if (arena->overflow)
		*ret = (struct pattern_facts){ .prefix = STR("") };
}
