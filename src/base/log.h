/*
 * The daemon's own log: one key=value line an event on standard error. Features, daemon and command
 * line log, once, where an error is handled; libraries do not.
 *
 * Threads: any; a line is written by one write().
 */
#pragma once

#include "base/err.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

void log_set_level(enum log_level level);
/* FMT gives further `key=value` fields, values quoted by the caller where they hold spaces. */
void log_write(enum log_level level, const char *msg, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#define log_debug(msg, ...) log_write(LOG_DEBUG, (msg), __VA_ARGS__)
#define log_info(msg, ...) log_write(LOG_INFO, (msg), __VA_ARGS__)
#define log_warn(msg, ...) log_write(LOG_WARN, (msg), __VA_ARGS__)
#define log_error(msg, ...) log_write(LOG_ERROR, (msg), __VA_ARGS__)

/* WARN or ERROR with the code, message and place of E. */
void log_err(enum log_level level, const char *msg, const struct err *e);
