/* What is wrong with a specification: collected, sorted, printed. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/suggest.h"
#include "spec/spec_internal.h"

enum { SHOWN_MAX = 40, WORD_COUNT_MAX = 64 };

static const char *kept(const char *s)
{
	return s ? s : "";
}

void spec_problem_add(struct spec_parser *p, bool warning, size_t line, size_t column,
		      const char *suggestion, const char *message)
{
	p->failed |= !warning;
	struct spec_problems *all = p->problems;
	size_t at = all->count;
	if (at == SPEC_PROBLEM_COUNT_MAX) {
		/* an error is worth more than a warning */
		all->truncated = true;
		while (at > 0 && !all->items[at - 1].warning)
			at--;
		if (warning || at == 0)
			return;
		memmove(&all->items[at - 1], &all->items[at],
			(all->count - at) * sizeof(all->items[0]));
		at = --all->count;
	}
	all->items[at] = (struct spec_problem){
		.warning = warning,
		.line = line,
		.column = column,
		.path = kept(arena_cstr(p->config, str_c(p->path))),
		.message = kept(arena_cstr(p->config, str_c(message))),
		.suggestion = kept(arena_cstr(p->config, str_c(suggestion))),
	};
	all->count++;
	all->error_count += !warning;
}

void spec_error(struct spec_parser *p, const struct yaml_node *node, const char *suggestion,
		const char *fmt, ...)
{
	char message[512];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	spec_problem_add(p, false, node->line, node->column, suggestion, message);
}

void spec_warn(struct spec_parser *p, const struct yaml_node *node, const char *suggestion,
	       const char *fmt, ...)
{
	char message[512];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	spec_problem_add(p, true, node->line, node->column, suggestion, message);
}

size_t spec_path_push(struct spec_parser *p, str name)
{
	size_t mark = p->path_len;
	char shown[SHOWN_MAX + 4];
	size_t n = 0;
	for (size_t i = 0; i < name.len && n < SHOWN_MAX; i++) {
		unsigned char c = (unsigned char)name.ptr[i];
		shown[n++] = c <= 0x20 || c >= 0x7f ? '?' : (char)c;
	}
	shown[n] = '\0';
	int len = snprintf(p->path + mark, sizeof(p->path) - mark, "%s%s%s", mark ? "." : "", shown,
			   name.len > SHOWN_MAX ? "..." : "");
	p->path_len = strlen(p->path);
	must(len >= 0);
	return mark;
}

size_t spec_path_push_index(struct spec_parser *p, size_t index)
{
	size_t mark = p->path_len;
	snprintf(p->path + mark, sizeof(p->path) - mark, "[%zu]", index);
	p->path_len = strlen(p->path);
	return mark;
}

void spec_path_pop(struct spec_parser *p, size_t mark)
{
	p->path_len = mark;
	p->path[mark] = '\0';
}

const char *spec_shown(struct spec_parser *p, str s)
{
	char shown[SHOWN_MAX + 1];
	size_t n = 0;
	for (size_t i = 0; i < s.len && n < SHOWN_MAX; i++) {
		unsigned char c = (unsigned char)s.ptr[i];
		shown[n++] = c < 0x20 || c >= 0x7f ? '?' : (char)c;
	}
	shown[n] = '\0';
	return kept(arena_printf(p->config, "`%s%s`", shown, s.len > SHOWN_MAX ? "…" : ""));
}

const char *spec_did_you_mean(struct spec_parser *p, str typed, const char *const *words)
{
	size_t count = 0;
	while (words[count] && count < WORD_COUNT_MAX)
		count++;
	const char *near = suggest(typed, words, count);
	return near ? kept(arena_printf(p->config, "did you mean %s?", near)) : "";
}

static int compare_problems(const void *a, const void *b)
{
	const struct spec_problem *x = a, *y = b;
	if (x->line != y->line)
		return x->line < y->line ? -1 : 1;
	if (x->column != y->column)
		return x->column < y->column ? -1 : 1;
	int order = strcmp(x->path, y->path);
	return order ? order : strcmp(x->message, y->message);
}

void spec_problems_sort(struct spec_problems *problems)
{
	qsort(problems->items, problems->count, sizeof(problems->items[0]), compare_problems);
}

void spec_problem_write(const struct spec_problems *problems, const struct spec_problem *problem,
			struct buf *into)
{
	buf_add_c(into, problems->file);
	if (problem->line)
		buf_printf(into, ":%zu:%zu", problem->line, problem->column);
	buf_add_c(into, problem->warning ? ": warning: " : ": ");
	if (problem->path[0])
		buf_printf(into, "%s: ", problem->path);
	buf_add_c(into, problem->message);
	if (problem->suggestion[0])
		buf_printf(into, "; %s", problem->suggestion);
}

/* As many whole lines as fit into a message, and how many more there are. */
errc spec_problems_fail(const struct spec_problems *problems, struct err *e)
{
	enum { LINE_MAX_BYTES = 2048, REST_BYTES = 80 };
	struct buf all = buf_init(sizeof(e->message));
	size_t shown = 0;
	for (size_t i = 0; i < problems->count; i++) {
		const struct spec_problem *problem = &problems->items[i];
		if (problem->warning)
			continue;
		struct buf line = buf_init(LINE_MAX_BYTES);
		spec_problem_write(problems, problem, &line);
		bool fits = all.len + line.len + REST_BYTES < sizeof(e->message);
		if (fits || shown == 0) {
			size_t room = sizeof(e->message) - REST_BYTES - all.len;
			buf_printf(&all, "%s%.*s", shown ? "\n" : "",
				   (int)(line.len < room ? line.len : room), buf_cstr(&line));
			shown++;
		}
		buf_done(&line);
		if (!fits)
			break;
	}
	if (shown < problems->error_count)
		buf_printf(&all, "\nand %s%zu more", problems->truncated ? "at least " : "",
			   problems->error_count - shown);
	err_fill(e, ERR_INVALID, 0, __FILE__, __LINE__, "%s", buf_cstr(&all));
	buf_done(&all);
	return ERR_INVALID;
}
