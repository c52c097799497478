#include "cli/print.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/checks.h"
#include "base/units.h"
#include "os/clock.h"

enum { PRINT_BYTES_MAX = 64 * 1024 * 1024 };

void print_table_row(struct print_table *t, const char *const *cells)
{
	if (t->row_count == t->room) {
		size_t room = t->room ? t->room * 2 : 16;
		const char **grown = arena_array(t->arena, room * t->column_count,
						 sizeof(grown[0]));
		must(grown != NULL);
		if (t->row_count)
			memcpy(grown, t->cells, t->row_count * t->column_count * sizeof(grown[0]));
		t->cells = grown;
		t->room = room;
	}
	for (size_t k = 0; k < t->column_count; k++)
		t->cells[t->row_count * t->column_count + k] = cells[k] ? cells[k] : "";
	t->row_count++;
}

struct print_table print_table_init(struct arena *arena, size_t column_count,
				    const char *const *headings)
{
	struct print_table t = { .arena = arena, .column_count = column_count };
	must(column_count <= PRINT_COLUMNS_MAX);
	print_table_row(&t, headings);
	return t;
}

void print_table_write(const struct print_table *t)
{
	size_t widths[PRINT_COLUMNS_MAX] = { 0 };
	for (size_t i = 0; i < t->row_count * t->column_count; i++) {
		size_t len = strlen(t->cells[i]);
		if (len > widths[i % t->column_count])
			widths[i % t->column_count] = len;
	}
	for (size_t r = 0; r < t->row_count; r++) {
		for (size_t k = 0; k < t->column_count; k++) {
			const char *cell = t->cells[r * t->column_count + k];
			bool last = k + 1 == t->column_count;
			printf("%-*s%s", last ? 0 : (int)widths[k], cell, last ? "\n" : "  ");
		}
	}
}

const char *print_ago(struct arena *arena, const struct json *time)
{
	struct tm tm = { 0 };
	char text[UNIT_TEXT_SIZE];
	const char *s = json_cstr(time);
	if (!s[0] || !strptime(s, "%Y-%m-%dT%H:%M:%S", &tm))
		return "";
	return arena_cstr(arena, str_c(time_ago((time_ms)timegm(&tm) * 1000, clock_now(), text)));
}

void print_json(const struct json *v)
{
	struct buf text CLEANUP(buf_done) = buf_init(PRINT_BYTES_MAX);
	struct json_writer w = json_writer_init(&text, false);
	json_add_value(&w, v);
	printf("%s\n", buf_cstr(&text));
}

int cli_fail(const struct cli *cli, const struct err *e)
{
	if (cli->json) {
		struct buf text CLEANUP(buf_done) = buf_init(65536);
		struct json_writer w = json_writer_init(&text, false);
		json_begin_object(&w);
		json_key(&w, "error");
		json_begin_object(&w);
		json_put_cstr(&w, "code", errc_name(e->code));
		json_put_cstr(&w, "message", e->message);
		json_end_object(&w);
		json_end_object(&w);
		fprintf(stderr, "%s\n", buf_cstr(&text));
	} else {
		fprintf(stderr, "holdfast: %s\n", e->message);
	}
	return errc_exit_status(e->code);
}
