/*
 * chart: lines over time, drawn with braille characters of 2 by 4 dots.
 *
 * Limits: CHART_SERIES_MAX lines, of which the first colours repeat; what does not fit the width is
 *   averaged into a dot column.
 */
#pragma once

#include "base/buf.h"
#include "base/units.h"

enum { CHART_SERIES_MAX = 12, CHART_WIDTH_MIN = 40, CHART_HEIGHT_MIN = 4 };

struct chart_series {
	const char *name;
	const time_ms *times; /* ascending */
	const double *values; /* those that are not finite are gaps */
	size_t count;
};

struct chart {
	const struct chart_series *series;
	size_t series_count;
	time_ms from, to;
	int64_t step_ms;   /* points further apart than twice this are not joined */
	int width, height; /* in characters, axes included */
	bool colour;
};

/* Axes in round numbers, lines, and times below in the local zone. */
void chart_draw(const struct chart *chart, struct buf *into);
/* The escape sequence of line INDEX, or "" without colour. */
const char *chart_colour(const struct chart *chart, size_t index);
/* A value for a person in four significant digits with k, M, G, T or µ, n behind. */
enum { CHART_VALUE_SIZE = 24 };
const char *chart_value(double v, char text[static CHART_VALUE_SIZE]);
