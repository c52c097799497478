#include "intake/intake_number.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/checks.h"

const double intake_powers_of_ten[23] = { 1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
					  1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
					  1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22 };

double intake_nan(void)
{
	const uint64_t bits = 0x7ff8000000000001u;
	double v;
	memcpy(&v, &bits, sizeof(v));
	return v;
}

/* The fewest digits of a finite V ≠ 0, and where the point is: 0.DIGITS * 10^*RET_POINT. */
static size_t digits_of(double v, char digits[NUMBER_TEXT_SIZE], int *ret_point)
{
	char text[NUMBER_TEXT_SIZE];
	size_t len = number_format(v < 0 ? -v : v, text), count = 0;
	int point = 0, exponent = 0;
	bool fraction = false;
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '.') {
			fraction = true;
		} else if (text[i] == 'e') {
			bool minus = text[i + 1] == '-';
			for (i += 2; i < len; i++)
				exponent = exponent * 10 + (text[i] - '0');
			exponent = minus ? -exponent : exponent;
		} else if (count || text[i] != '0') {
			digits[count++] = text[i];
			point += !fraction;
		} else if (fraction) {
			point--;
		}
	}
	while (count > 1 && digits[count - 1] == '0')
		count--;
	*ret_point = point + exponent;
	return count;
}

static size_t put_word(char *text, const char *word)
{
	size_t len = strlen(word);
	memcpy(text, word, len + 1);
	return len;
}

/* DIGITS with the point where it belongs, zeros filled in. */
static size_t put_fixed(char *text, const char *digits, size_t count, int point)
{
	size_t len = 0;
	if (point <= 0) {
		text[len++] = '0';
		text[len++] = '.';
		for (; point < 0; point++)
			text[len++] = '0';
		memcpy(text + len, digits, count);
		return len + count;
	}
	for (size_t i = 0; i < count || i < (size_t)point; i++) {
		if (i == (size_t)point)
			text[len++] = '.';
		text[len++] = i < count ? digits[i] : '0';
	}
	return len;
}

size_t intake_number_print(double v, char text[NUMBER_TEXT_SIZE])
{
	char digits[NUMBER_TEXT_SIZE];
	int point = 0;
	if (isnan(v))
		return put_word(text, "NaN");
	if (isinf(v))
		return put_word(text, v > 0 ? "+Inf" : "-Inf");
	if (v == 0)
		return put_word(text, "0.0");
	size_t count = digits_of(v, digits, &point), len = 0;
	if (v < 0)
		text[len++] = '-';
	int exponent = point - 1;
	/* where Go's %g with the fewest digits changes over */
	if (exponent < -4 || exponent >= 6) {
		text[len++] = digits[0];
		if (count > 1)
			text[len++] = '.';
		memcpy(text + len, digits + 1, count - 1);
		len += count - 1;
		int n = snprintf(text + len, NUMBER_TEXT_SIZE - len, "e%+03d", exponent);
		must(n > 0);
		return len + (size_t)n;
	}
	len += put_fixed(text + len, digits, count, point);
	if (point > 0 && (size_t)point >= count)
		len += put_word(text + len, ".0");
	text[len] = '\0';
	return len;
}

size_t intake_number_print_fixed(double v, char text[INTAKE_FIXED_SIZE])
{
	char digits[NUMBER_TEXT_SIZE];
	int point = 0;
	if (isnan(v))
		return put_word(text, "NaN");
	if (isinf(v))
		return put_word(text, v > 0 ? "+Inf" : "-Inf");
	if (v == 0)
		return put_word(text, signbit(v) ? "-0" : "0");
	size_t count = digits_of(v, digits, &point), len = 0;
	if (v < 0)
		text[len++] = '-';
	len += put_fixed(text + len, digits, count, point);
	text[len] = '\0';
	return len;
}
