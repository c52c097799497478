/*
 * number: doubles as text and back, exactly and without a locale.
 *
 * Source: Go's strconv, whose forms Prometheus and its clients print and read.
 */
#pragma once

#include "base/buf.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { NUMBER_TEXT_SIZE = 40 };

/* The shortest digits that read back as V, and a NUL: `0.1`, `1e-07`, `1e+21`, `+Inf`, `-Inf`,
 * `NaN`; an exponent below 1e-6 and from 1e21, as JSON and Prometheus's API have it. Returns the
 * length. */
size_t number_format(double v, char text[NUMBER_TEXT_SIZE]);
/* The same at the end of INTO. */
static inline void number_add(struct buf *into, double v)
{
	char text[NUMBER_TEXT_SIZE];
	buf_add(into, (str){ text, number_format(v, text) });
}

/* Whole of S: decimal with an optional sign, fraction and exponent; `Inf`, `infinity` and `NaN` in
 * any case. Correctly rounded; too large is ±Inf, too small ±0. False on anything else. Cost: about
 * 10 ns for what people write. */
bool number_parse(str s, double *ret_value);

#ifdef __cplusplus
}
#endif
