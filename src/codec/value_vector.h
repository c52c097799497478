/*
 * Samples as bytes: doubles of which every bit comes back, NaN payloads, -0, infinities and
 * subnormals included. Small when they are decimals of up to 15 digits, as what people measure is.
 *
 * Shape: doubles -> integers (decimal with the rest patched, or bit patterns) -> residuals of a
 *   predictor (none, line, delta, delta of delta, moving averages) -> bit packing or tANS.
 * Limits: 1..VECTOR_LEN_MAX values a vector. The count is not stored; the end is.
 * Source: the decimal step follows ALP (Afroozeh, Kuffó, Boncz, SIGMOD 2023); the coding into bins
 *   and offsets follows Pcodec (Loncaric, 2024). Format: docs/format/vectors.md.
 */
#pragma once

#include "codec/varint.h"
#include "codec/vector.h"

/* What a zone map wants to know of a vector. NaN counts nowhere but in `first` and `last`. */
struct value_stats {
	size_t count; /* that are not NaN; 0: min and max are NaN */
	double min, max, first, last;
};

/* Append VALUES to INTO; how many bytes that took, or 0 past its cap. */
size_t value_vector_encode(const double *values, size_t n, enum vector_level level,
			   struct vector_scratch *scratch, struct buf *into);

/* Read a vector of N values and leave R behind it. Errors: ERR_CORRUPT; VALUES is then garbage. */
WARN_UNUSED errc value_vector_decode(struct reader *r, size_t n, double *values,
				     struct vector_scratch *scratch, struct err *e);

/* Of N values, N at least 1. */
struct value_stats value_stats_of(const double *values, size_t n);
