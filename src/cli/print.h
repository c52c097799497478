/* What the commands share to print: tables for people, errors. */
#pragma once

#include "cli/command.h"
#include "codec/json.h"

enum { PRINT_COLUMNS_MAX = 10 };

/* A table with a heading row, columns as wide as they need to be. */
struct print_table {
	struct arena *arena;
	size_t column_count;
	size_t row_count;
	const char **cells; /* grows by rows */
	size_t room;
};

struct print_table print_table_init(struct arena *arena, size_t column_count,
				    const char *const *headings);
/* COLUMN_COUNT cells; NULL is empty. Valid until: printed; cells are not copied. */
void print_table_row(struct print_table *t, const char *const *cells);
void print_table_write(const struct print_table *t);

/* A time of the API as a person says it: `3 minutes ago`; "" for null. */
const char *print_ago(struct arena *arena, const struct json *time);
/* A whole JSON value and a newline. */
void print_json(const struct json *v);
