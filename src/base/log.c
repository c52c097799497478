#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/units.h"

static enum log_level level_min = LOG_INFO;

static const char *const level_names[] = { "debug", "info", "warn", "error" };

void log_set_level(enum log_level level)
{
	level_min = level;
}

/* Control bytes would let outside text forge a line. */
static void flatten(char *line)
{
	for (char *c = line; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = ' ';
}

void log_write(enum log_level level, const char *msg, const char *fmt, ...)
{
	if (level < level_min)
		return;
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	char at[UNIT_TEXT_SIZE];
	char line[2048];
	time_format((time_ms)now.tv_sec * 1000 + now.tv_nsec / 1000000, at);
	int n = snprintf(line, sizeof(line) - 2, "time=%s level=%s msg=\"%s\" ", at,
			 level_names[level], msg);
	if (n < 0)
		return;
	size_t used = (size_t)n < sizeof(line) - 2 ? (size_t)n : sizeof(line) - 3;
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(line + used, sizeof(line) - 1 - used, fmt, ap);
	va_end(ap);
	flatten(line);
	size_t len = strlen(line);
	while (len && line[len - 1] == ' ')
		len--;
	line[len++] = '\n';
	if (write(STDERR_FILENO, line, len) < 0)
		return; /* nobody is left to tell */
}

void log_err(enum log_level level, const char *msg, const struct err *e)
{
	log_write(level, msg, "code=%s error=\"%s\" at=%s:%d", errc_name(e->code), e->message,
		  e->file ? e->file : "?", e->line);
}
