/*
 * Times, durations, sizes: the value types and their text forms.
 *
 * Units: time_ms is milliseconds since 1970 UTC; durations are milliseconds; sizes are bytes.
 */
#pragma once

#include "base/str.h"

typedef int64_t time_ms;

enum { UNIT_TEXT_SIZE = 40 };

/* `500ms`, `3s`, `10m`, `2h`, `7d`, and sums such as `1h30m`. False on anything else. */
bool duration_parse(str s, int64_t *ret_ms);
/* The shortest such text, rounded to three digits: `850ms`, `2.4s`, `10m`. */
const char *duration_format(int64_t ms, char text[static UNIT_TEXT_SIZE]);
/* `512`, `64KiB`, `1.5GiB`, and the decimal `kB`, `MB`, `GB`. False on anything else. */
bool size_parse(str s, int64_t *ret_bytes);
const char *size_format(int64_t bytes, char text[static UNIT_TEXT_SIZE]);
/* RFC 3339 in UTC with milliseconds: `2026-11-24T01:41:00.123Z`. */
const char *time_format(time_ms t, char text[static UNIT_TEXT_SIZE]);
/* RFC 3339 with any fraction (cut to milliseconds) and offset; years 0 to 9999. False on anything
 * else. */
bool time_parse(str s, time_ms *ret_time);
/* How long before NOW it was, for a person: `3 minutes ago`. */
const char *time_ago(time_ms t, time_ms now, char text[static UNIT_TEXT_SIZE]);
