#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct err_row {
	const char *name;
	int http_status;
	int exit_status;
	const char *meaning;
};

static const struct err_row rows[] = { [OK] = { "ok", 200, 0, "it succeeded" },
#define X(name, http, status, meaning) [name] = { #name, http, status, meaning },
				       ERR_TABLE(X)
#undef X
};

enum { ROW_COUNT = sizeof(rows) / sizeof(rows[0]), NAME_SIZE = 24 };

static const struct err_row *row_of(errc code)
{
	if ((size_t)code >= ROW_COUNT)
		code = ERR_INTERNAL;
	return &rows[code];
}

/* A message cut at its end must not end within a character of UTF-8. */
static void drop_partial_character(char *text, size_t len)
{
	size_t back = 0;
	while (back < len && back < 3 && ((unsigned char)text[len - 1 - back] & 0xc0) == 0x80)
		back++;
	if (back == len)
		return;
	unsigned char lead = (unsigned char)text[len - 1 - back];
	size_t wants = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : lead >= 0xc0 ? 1 : 0;
	if (wants > back)
		text[len - 1 - back] = '\0';
}

/* snprintf's N says how long the whole would have been. */
static void end_message(struct err *e, int n)
{
	if (n >= 0 && (size_t)n >= sizeof(e->message))
		drop_partial_character(e->message, sizeof(e->message) - 1);
}

static void fill(struct err *e, errc code, int sys_errno, const char *file, int line,
		 const char *fmt, va_list ap)
{
	if (!e)
		return;
	e->code = code;
	e->sys_errno = sys_errno;
	e->file = file;
	e->line = line;
	int n = vsnprintf(e->message, sizeof(e->message), fmt, ap);
	if (sys_errno && n >= 0 && (size_t)n < sizeof(e->message))
		n += snprintf(e->message + n, sizeof(e->message) - (size_t)n, ": %s",
			      strerror(sys_errno));
	end_message(e, n);
}

errc err_fill(struct err *e, errc code, int sys_errno, const char *file, int line, const char *fmt,
	      ...)
{
	va_list ap;
	va_start(ap, fmt);
	fill(e, code, sys_errno, file, line, fmt, ap);
	va_end(ap);
	return code;
}

errc err_fill_errno(struct err *e, const char *file, int line, const char *fmt, ...)
{
	int sys_errno = errno;
	errc code = ERR_IO;
	if (sys_errno == ENOENT)
		code = ERR_NOT_FOUND;
	else if (sys_errno == ETIMEDOUT)
		code = ERR_TIMEOUT;
	va_list ap;
	va_start(ap, fmt);
	fill(e, code, sys_errno, file, line, fmt, ap);
	va_end(ap);
	return code;
}

errc err_prepend(struct err *e, const char *fmt, ...)
{
	if (!e)
		return ERR_INTERNAL;
	char tail[sizeof(e->message)];
	memcpy(tail, e->message, sizeof(tail));
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(e->message, sizeof(e->message), fmt, ap);
	va_end(ap);
	if (n >= 0 && (size_t)n < sizeof(e->message))
		n += snprintf(e->message + n, sizeof(e->message) - (size_t)n, ": %s", tail);
	end_message(e, n);
	return e->code;
}

/*
 * Names are stored as the constants are spelled; JSON has them in lower case without ERR_. Each has
 * its own place, so that two names can stand in one line.
 */
const char *errc_name(errc code)
{
	static _Thread_local char names[ROW_COUNT][NAME_SIZE];
	const struct err_row *row = row_of(code);
	char *name = names[row - rows];
	const char *s = row->name;
	if (strncmp(s, "ERR_", 4) == 0)
		s += 4;
	size_t i = 0;
	for (; s[i] && i + 1 < NAME_SIZE; i++)
		name[i] = (char)(s[i] >= 'A' && s[i] <= 'Z' ? s[i] - 'A' + 'a' : s[i]);
	name[i] = '\0';
	return name;
}

errc errc_of_name(const char *name)
{
	for (size_t i = 0; i < ROW_COUNT; i++)
		if (strcmp(errc_name((errc)i), name) == 0)
			return (errc)i;
	return ERR_INTERNAL;
}

int errc_http_status(errc code)
{
	return row_of(code)->http_status;
}

int errc_exit_status(errc code)
{
	return row_of(code)->exit_status;
}

const char *errc_meaning(errc code)
{
	return row_of(code)->meaning;
}
