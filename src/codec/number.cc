/* Numbers through the standard library's charconv, which is exact, fast and free of locales. */
#include "codec/number.h"

#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>

static size_t put(char *text, const char *word)
{
	size_t len = std::strlen(word);
	std::memcpy(text, word, len + 1);
	return len;
}

size_t number_format(double v, char text[NUMBER_TEXT_SIZE])
{
	if (std::isnan(v))
		return put(text, "NaN");
	if (std::isinf(v))
		return put(text, v > 0 ? "+Inf" : "-Inf");
	double size = std::fabs(v);
	auto form = size != 0 && (size < 1e-6 || size >= 1e21) ? std::chars_format::scientific
							       : std::chars_format::fixed;
	auto end = std::to_chars(text, text + NUMBER_TEXT_SIZE - 1, v, form);
	*end.ptr = '\0';
	return (size_t)(end.ptr - text);
}

static bool is_word(str s, const char *word)
{
	return s.len == std::strlen(word) && strncasecmp(s.ptr, word, s.len) == 0;
}

/* from_chars leaves its result alone when the number is out of range; the exponent tells which way:
 * what is too large has its first digit left of the point after the exponent is applied. */
static double out_of_range(str s)
{
	long long exponent = 0, place = 0;
	bool point = false, seen = false;
	size_t i = 0;
	for (; i < s.len && s.ptr[i] != 'e' && s.ptr[i] != 'E'; i++) {
		if (s.ptr[i] == '.')
			point = true;
		else if (seen)
			place += point ? 0 : 1;
		else if (s.ptr[i] != '0')
			seen = true, place = point ? place - 1 : 0;
		else
			place -= point ? 1 : 0;
	}
	bool minus = i + 1 < s.len && s.ptr[i + 1] == '-';
	for (i += 1; i < s.len; i++)
		if (s.ptr[i] >= '0' && s.ptr[i] <= '9' && exponent < 1000000000)
			exponent = exponent * 10 + (s.ptr[i] - '0');
	return place + (minus ? -exponent : exponent) > 0 ? HUGE_VAL : 0.0;
}

bool number_parse(str s, double *ret_value)
{
	double v = 0;
	bool negative = s.len && s.ptr[0] == '-';
	if (negative || (s.len && s.ptr[0] == '+'))
		s.ptr++, s.len--;
	if (!s.len)
		return false;
	if (s.ptr[0] > '9') {
		if (is_word(s, "nan"))
			v = std::numeric_limits<double>::quiet_NaN();
		else if (is_word(s, "inf") || is_word(s, "infinity"))
			v = HUGE_VAL;
		else
			return false;
	} else if (s.ptr[0] == '-') {
		return false;
	} else {
		auto end = std::from_chars(s.ptr, s.ptr + s.len, v);
		if (end.ptr != s.ptr + s.len || end.ec == std::errc::invalid_argument)
			return false;
		if (end.ec == std::errc::result_out_of_range)
			v = out_of_range(s);
	}
	*ret_value = negative ? -v : v;
	return true;
}
