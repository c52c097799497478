/*
 * The specifiers in a script. Not a parser: strings, templates, comments and regular expressions
 * are told apart well enough that words inside them are not taken for code.
 */
#include <string.h>

#include "artifact/validate_internal.h"

enum { TEMPLATE_DEPTH_MAX = 64 };

enum expectation {
	EXPECT_NOTHING,
	EXPECT_SPECIFIER, /* after import, from, import( */
	EXPECT_URL,       /* after new URL( */
};

struct script {
	str text;
	size_t at;
	void (*found)(void *ctx, str specifier, size_t offset);
	void *ctx;
	enum expectation expect;
	bool value_before; /* a `/` now divides rather than begins a regular expression */
	bool after_new;
	bool after_import; /* not from: its parenthesis may hold a specifier too */
	bool after_url;    /* `new URL` was read: its parenthesis comes */
	unsigned braces[TEMPLATE_DEPTH_MAX]; /* open braces within each open ${ */
	size_t template_depth;
};

static char peek(const struct script *s, size_t ahead)
{
	return s->at + ahead < s->text.len ? s->text.ptr[s->at + ahead] : '\0';
}

static bool is_identifier(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_' || c == '$' || (c & 0x80);
}

static void settle(struct script *s, bool value_before)
{
	s->expect = EXPECT_NOTHING;
	s->after_new = s->after_import = s->after_url = false;
	s->value_before = value_before;
}

/* Only the form that bundlers resolve: relative to this module. */
static bool is_module_url(const struct script *s)
{
	size_t at = s->at;
	static const str url = { "import.meta.url", 15 };
	while (at < s->text.len && strchr(" \t\r\n,", s->text.ptr[at]))
		at++;
	return str_starts((str){ s->text.ptr + at, s->text.len - at }, url);
}

/* A bare name is for an import map, not a file. */
static bool is_path(str specifier)
{
	return str_starts(specifier, STR("./")) || str_starts(specifier, STR("../")) ||
	       str_starts(specifier, STR("/"));
}

static void skip_string(struct script *s)
{
	char quote = s->text.ptr[s->at];
	size_t begin = ++s->at;
	while (s->at < s->text.len && peek(s, 0) != quote && peek(s, 0) != '\n')
		s->at += peek(s, 0) == '\\' ? 2 : 1;
	if (s->at > s->text.len)
		s->at = s->text.len;
	str content = { s->text.ptr + begin, s->at - begin };
	s->at += s->at < s->text.len;
	if (!memchr(content.ptr, '\\', content.len) &&
	    ((s->expect == EXPECT_SPECIFIER && is_path(content)) ||
	     (s->expect == EXPECT_URL && is_module_url(s))))
		s->found(s->ctx, content, begin);
	settle(s, true);
}

/* From behind the backtick, or the brace that ends a ${, to the next ${ or the end. */
static void skip_template(struct script *s)
{
	while (s->at < s->text.len) {
		if (peek(s, 0) == '\\') {
			s->at += 2;
		} else if (peek(s, 0) == '`') {
			s->at++;
			break;
		} else if (peek(s, 0) == '$' && peek(s, 1) == '{' &&
			   s->template_depth < TEMPLATE_DEPTH_MAX) {
			s->at += 2;
			s->braces[s->template_depth++] = 0;
			settle(s, false);
			return;
		} else {
			s->at++;
		}
	}
	settle(s, true);
}

static void skip_comment(struct script *s)
{
	bool line = peek(s, 1) == '/';
	str rest = { s->text.ptr + s->at, s->text.len - s->at };
	ptrdiff_t end = str_find((str){ rest.ptr + 2, rest.len - 2 }, line ? STR("\n") : STR("*/"));
	s->at = end < 0 ? s->text.len : s->at + 2 + (size_t)end + (line ? 1 : 2);
}

static void skip_expression(struct script *s)
{
	bool in_class = false;
	for (s->at++; s->at < s->text.len && peek(s, 0) != '\n'; s->at++) {
		char c = peek(s, 0);
		if (c == '\\')
			s->at++;
		else if (c == '[' || c == ']')
			in_class = c == '[';
		else if (c == '/' && !in_class)
			break;
	}
	s->at += s->at < s->text.len;
	settle(s, true);
}

/* words after which a `/` begins a regular expression */
static bool is_operator_word(str word)
{
	static const char *const words[] = { "return", "typeof", "case",  "in",        "of",
					     "delete", "void",   "do",    "else",      "throw",
					     "new",    "yield",  "await", "instanceof" };
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (str_eq_c(word, words[i]))
			return true;
	return false;
}

static void read_word(struct script *s)
{
	size_t begin = s->at;
	bool member = begin && s->text.ptr[begin - 1] == '.';
	while (s->at < s->text.len && is_identifier(peek(s, 0)))
		s->at++;
	str word = { s->text.ptr + begin, s->at - begin };
	bool after_new = s->after_new;
	settle(s, !is_operator_word(word));
	if (member)
		s->value_before = true;
	else if (str_eq(word, STR("import")) || str_eq(word, STR("from")))
		s->expect = EXPECT_SPECIFIER;
	else if (str_eq(word, STR("new")))
		s->after_new = true;
	else if (after_new && str_eq(word, STR("URL")))
		s->after_url = true;
	s->after_import = s->expect == EXPECT_SPECIFIER && str_eq(word, STR("import"));
}

static void read_brace(struct script *s, char c)
{
	s->at++;
	if (s->template_depth && c == '}' && s->braces[s->template_depth - 1] == 0) {
		s->template_depth--;
		skip_template(s);
		return;
	}
	if (s->template_depth)
		s->braces[s->template_depth - 1] += c == '{' ? 1u : -1u;
	settle(s, false);
}

static void read_mark(struct script *s, char c)
{
	s->at++;
	if (c == '(' && s->after_url) {
		settle(s, false);
		s->expect = EXPECT_URL;
	} else if (c == '(' && s->after_import) {
		s->value_before = false; /* import( */
	} else {
		settle(s, c == ')' || c == ']');
	}
}

void validate_scan_script(str text, void (*found)(void *ctx, str specifier, size_t offset),
			  void *ctx)
{
	struct script s = { .text = text, .found = found, .ctx = ctx };
	while (s.at < text.len) {
		char c = text.ptr[s.at];
		if (c == '"' || c == '\'')
			skip_string(&s);
		else if (c == '`' && ++s.at)
			skip_template(&s);
		else if (c == '/' && (peek(&s, 1) == '/' || peek(&s, 1) == '*'))
			skip_comment(&s);
		else if (c == '/' && !s.value_before)
			skip_expression(&s);
		else if (is_identifier(c))
			read_word(&s);
		else if (c == '{' || c == '}')
			read_brace(&s, c);
		else if (c == ' ' || c == '\t' || c == '\r' || c == '\n')
			s.at++;
		else
			read_mark(&s, c);
	}
}
