/* What the files of the validation share. Used by validate*.c alone. */
#pragma once

#include "artifact/validate.h"
#include "base/buf.h"

enum { VALIDATE_FINDING_COUNT_MAX = 1000, VALIDATE_TEXT_MAX = 64 * 1024 * 1024 };

struct validation {
	const struct validate_options *options;
	struct arena *into;
	const char **files; /* all below the folder, relative, in byte order */
	size_t file_count;
	size_t file_size;
	struct validate_finding *findings;
	size_t finding_count;
	size_t finding_count_total;
};

/* Add a finding; LINE 0 is the file as a whole. */
void validate_add(struct validation *v, enum validate_rule rule, str file, size_t line,
		  const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* The line, from 1, of the byte at OFFSET. */
size_t validate_line(str text, size_t offset);
bool validate_has_file(const struct validation *v, str path);

/* Secrets in TEXT, any kind of file. */
void validate_secrets(struct validation *v, str file, str text);
/* References of a page, a style sheet or a script in TEXT, by the ending of FILE. */
void validate_assets(struct validation *v, str file, str text);

/* Calls FOUND for every path in import, export … from, import() and new URL(…, import.meta.url). */
void validate_scan_script(str text, void (*found)(void *ctx, str specifier, size_t offset),
			  void *ctx);
