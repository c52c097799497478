#include "base/units.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/checks.h"

struct unit {
	const char *name;
	int64_t scale;
};

static const struct unit durations[] = {
	{ "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 }, { "d", 86400000 },
};

static const struct unit sizes[] = {
	{ "B", 1 },           { "KiB", 1 << 10 }, { "MiB", 1 << 20 }, { "GiB", 1 << 30 },
	{ "TiB", 1LL << 40 }, { "kB", 1000 },     { "MB", 1000000 },  { "GB", 1000000000 },
};

enum { BINARY_SIZES = 5 }; /* the first ones of sizes[], which are the ones written */

/* One `number unit` off the front of *REST; the number may have decimals. */
static bool take_quantity(str *rest, const struct unit *units, size_t unit_count,
			  int64_t *ret_value)
{
	size_t i = 0;
	double number = 0, place = 0;
	for (; i < rest->len; i++) {
		char c = rest->ptr[i];
		if (c == '.' && place == 0 && i > 0) {
			place = 1;
			continue;
		}
		if (c < '0' || c > '9')
			break;
		number = number * 10 + (c - '0');
		place *= 10;
	}
	if (i == 0 || i > 15 || rest->ptr[i - 1] == '.')
		return false;
	size_t start = i;
	while (i < rest->len && ((rest->ptr[i] | 32) >= 'a' && (rest->ptr[i] | 32) <= 'z'))
		i++;
	str name = { rest->ptr + start, i - start };
	for (size_t u = 0; u < unit_count; u++) {
		if (!str_eq_c(name, units[u].name))
			continue;
		double value = number / (place > 0 ? place : 1) * (double)units[u].scale;
		if (value > 9e15)
			return false;
		*ret_value = (int64_t)(value + 0.5);
		*rest = (str){ rest->ptr + i, rest->len - i };
		return true;
	}
	return false;
}

bool duration_parse(str s, int64_t *ret_ms)
{
	int64_t total = 0, part = 0;
	if (str_eq_c(s, "0")) {
		*ret_ms = 0;
		return true;
	}
	if (s.len == 0)
		return false;
	while (s.len) {
		if (!take_quantity(&s, durations, ARRAY_COUNT(durations), &part) ||
		    __builtin_add_overflow(total, part, &total))
			return false;
	}
	*ret_ms = total;
	return true;
}

/* VALUE to three digits. */
static double round_three(double value)
{
	double places = value < 10 ? 100 : value < 100 ? 10 : 1;
	return (double)(int64_t)(value * places + 0.5) / places;
}

/* VALUE in the largest unit of which it holds one; 59.99 s is a minute when rounded. */
static const char *format_scaled(int64_t value, const struct unit *units, size_t unit_count,
				 const char *gap, char text[static UNIT_TEXT_SIZE])
{
	double size = value < 0 ? -(double)value : (double)value;
	size_t u = unit_count - 1;
	while (u > 0 && size < (double)units[u].scale)
		u--;
	double rounded = round_three(size / (double)units[u].scale);
	if (u + 1 < unit_count && rounded * (double)units[u].scale >= (double)units[u + 1].scale) {
		u++;
		rounded = 1;
	}
	char number[24];
	int places = rounded < 10 ? 2 : rounded < 100 ? 1 : 0;
	snprintf(number, sizeof(number), "%.*f", places, rounded);
	if (strchr(number, '.')) {
		size_t n = strlen(number);
		while (number[n - 1] == '0')
			number[--n] = '\0';
		if (number[n - 1] == '.')
			number[n - 1] = '\0';
	}
	snprintf(text, UNIT_TEXT_SIZE, "%s%s%s%s", value < 0 ? "-" : "", number, gap,
		 units[u].name);
	return text;
}

const char *duration_format(int64_t ms, char text[static UNIT_TEXT_SIZE])
{
	return format_scaled(ms, durations, ARRAY_COUNT(durations), "", text);
}

bool size_parse(str s, int64_t *ret_bytes)
{
	uint64_t plain = 0;
	if (str_to_u64(s, &plain) && plain <= INT64_MAX) {
		*ret_bytes = (int64_t)plain;
		return true;
	}
	int64_t bytes = 0;
	if (!take_quantity(&s, sizes, ARRAY_COUNT(sizes), &bytes) || s.len)
		return false;
	*ret_bytes = bytes;
	return true;
}

const char *size_format(int64_t bytes, char text[static UNIT_TEXT_SIZE])
{
	return format_scaled(bytes, sizes, BINARY_SIZES, " ", text);
}

const char *time_format(time_ms t, char text[static UNIT_TEXT_SIZE])
{
	int64_t ms = t % 1000;
	if (ms < 0)
		ms += 1000;
	time_t seconds = (time_t)(t / 1000 - (t % 1000 < 0));
	struct tm tm;
	if (!gmtime_r(&seconds, &tm)) {
		snprintf(text, UNIT_TEXT_SIZE, "%lld", (long long)t);
		return text;
	}
	size_t n = strftime(text, UNIT_TEXT_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text + n, UNIT_TEXT_SIZE - n, ".%03dZ", (int)ms);
	return text;
}

static bool take_digits(str *s, size_t count, int *ret)
{
	int v = 0;
	if (s->len < count)
		return false;
	for (size_t i = 0; i < count; i++) {
		if (s->ptr[i] < '0' || s->ptr[i] > '9')
			return false;
		v = v * 10 + (s->ptr[i] - '0');
	}
	*s = (str){ s->ptr + count, s->len - count };
	*ret = v;
	return true;
}

static bool take_one_of(str *s, const char *set)
{
	if (!s->len || !strchr(set, s->ptr[0]) || !s->ptr[0])
		return false;
	*s = (str){ s->ptr + 1, s->len - 1 };
	return true;
}

/* Days from 1970-01-01 in the Gregorian calendar, whose 400 years have 146,097 days. */
static int64_t days_of(int year, int month, int day)
{
	int64_t y = month <= 2 ? year - 1 : year, era = (y >= 0 ? y : y - 399) / 400;
	int64_t of_era = y - era * 400,
		of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
	return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static bool take_fraction(str *s, int *ret_ms)
{
	int place = 100, digit;
	if (!take_one_of(s, "."))
		return true;
	if (!take_digits(s, 1, &digit))
		return false;
	do {
		*ret_ms += digit * place;
		place /= 10;
	} while (take_digits(s, 1, &digit));
	return true;
}

bool time_parse(str s, time_ms *ret_time)
{
	static const int month_days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	int year, month, day, hour, minute, second, ms = 0, zone_hours = 0, zone_minutes = 0;
	if (!take_digits(&s, 4, &year) || !take_one_of(&s, "-") || !take_digits(&s, 2, &month) ||
	    !take_one_of(&s, "-") || !take_digits(&s, 2, &day) || !take_one_of(&s, "Tt ") ||
	    !take_digits(&s, 2, &hour) || !take_one_of(&s, ":") || !take_digits(&s, 2, &minute) ||
	    !take_one_of(&s, ":") || !take_digits(&s, 2, &second) || !take_fraction(&s, &ms))
		return false;
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
	if (month < 1 || month > 12 || day < 1 ||
	    day > month_days[month - 1] + (leap && month == 2) || hour > 23 || minute > 59 ||
	    second > 59)
		return false;
	if (!take_one_of(&s, "Zz")) {
		bool west = s.len && s.ptr[0] == '-';
		if (!take_one_of(&s, "+-") || !take_digits(&s, 2, &zone_hours) ||
		    !take_one_of(&s, ":") || !take_digits(&s, 2, &zone_minutes) ||
		    zone_hours > 23 || zone_minutes > 59)
			return false;
		zone_hours = west ? -zone_hours : zone_hours;
		zone_minutes = west ? -zone_minutes : zone_minutes;
	}
	if (s.len)
		return false;
	int64_t minutes = (days_of(year, month, day) * 24 + hour - zone_hours) * 60 + minute -
			  zone_minutes;
	*ret_time = (minutes * 60 + second) * 1000 + ms;
	return true;
}

const char *time_ago(time_ms t, time_ms now, char text[static UNIT_TEXT_SIZE])
{
	static const struct unit spans[] = {
		{ "second", 1000 }, { "minute", 60000 }, { "hour", 3600000 }, { "day", 86400000 }
	};
	int64_t ms = now > t ? now - t : 0;
	if (ms < 1000) {
		snprintf(text, UNIT_TEXT_SIZE, "just now");
		return text;
	}
	size_t u = ARRAY_COUNT(spans) - 1;
	while (u > 0 && ms < spans[u].scale)
		u--;
	long long n = (long long)(ms / spans[u].scale);
	snprintf(text, UNIT_TEXT_SIZE, "%lld %s%s ago", n, spans[u].name, n == 1 ? "" : "s");
	return text;
}
