/*
 * intake_number: numbers in text, exactly, at the speed of what is usual: few digits, no exponent.
 *
 * Source: Clinger, How to Read Floating Point Numbers Accurately: below 2^53 and 10^22 one division
 *   is rounded right.
 */
#pragma once

#include "codec/number.h"

extern const double intake_powers_of_ten[23];

/* NaN as Prometheus stores one that was read. */
double intake_nan(void);

/* Whole of S, as number_parse() reads it but for the bits of NaN. */
static inline bool intake_number(str s, double *ret_value)
{
	const char *p = s.ptr, *end = s.ptr + s.len;
	bool negative = p < end && *p == '-';
	p += negative;
	uint64_t mantissa = 0;
	const char *point = NULL;
	const char *digits = p;
	for (; p < end; p++) {
		unsigned digit = (unsigned)*p - '0';
		if (digit <= 9)
			mantissa = mantissa * 10 + digit;
		else if (*p == '.' && !point)
			point = p;
		else
			break;
	}
	ptrdiff_t count = p - digits - (point != NULL);
	if (p != end || count < 1 || count > 18 || mantissa > (1ull << 53)) {
		if (!number_parse(s, ret_value))
			return false;
		if (__builtin_expect(*ret_value != *ret_value, 0))
			*ret_value = intake_nan();
		return true;
	}
	double v = (double)mantissa;
	if (point)
		v /= intake_powers_of_ten[end - point - 1];
	*ret_value = negative ? -v : v;
	return true;
}

/* As Go's %g with the fewest digits, and with `.0` where nothing shows that it is no integer: the
 * values of `le` and `quantile`. */
size_t intake_number_print(double v, char text[NUMBER_TEXT_SIZE]);
/* As Go's %f with the fewest digits; up to 350 characters. */
enum { INTAKE_FIXED_SIZE = 352 };
size_t intake_number_print_fixed(double v, char text[INTAKE_FIXED_SIZE]);
