#include "cli/chart.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/checks.h"

enum {
	DOTS_ACROSS = 2,
	DOTS_DOWN = 4,
	AXIS_WIDTH = 10,
	TICKS_DOWN = 4,
	WIDTH_MAX = 400,
	HEIGHT_MAX = 100
};

static const char *const colours[] = { "\033[36m", "\033[33m", "\033[35m",
				       "\033[32m", "\033[34m", "\033[31m" };
static const char reset[] = "\033[0m";

struct cell {
	uint8_t dots; /* a bit a dot, as the block of characters has them */
	uint8_t line; /* the series drawn last, from 1 */
};

struct canvas {
	struct cell *cells;
	int columns, rows;
	double low, high; /* of the values, round */
	double tick;
};

const char *chart_colour(const struct chart *chart, size_t index)
{
	return chart->colour ? colours[index % ARRAY_COUNT(colours)] : "";
}

const char *chart_value(double v, char text[static CHART_VALUE_SIZE])
{
	static const struct {
		double scale;
		const char *suffix;
	} units[] = { { 1e12, "T" }, { 1e9, "G" },  { 1e6, "M" }, { 1e3, "k" },
		      { 1e-3, "" },  { 1e-6, "µ" }, { 1e-9, "n" } };
	size_t u = 0;
	if (!isfinite(v) || v == 0 || fabs(v) >= 1e15 || fabs(v) < 1e-9) {
		snprintf(text, CHART_VALUE_SIZE, "%.4g", v == 0 ? 0 : v);
		return text;
	}
	while (u + 1 < ARRAY_COUNT(units) && fabs(v) < units[u].scale * 0.99995)
		u++;
	/* what is below one is easier read as 0.25 than as 250m */
	double scale = units[u].suffix[0] ? units[u].scale : 1;
	snprintf(text, CHART_VALUE_SIZE, "%.4g%s", v / scale, units[u].suffix);
	return text;
}

/* 1, 2 or 5 times a power of ten, at least V. */
static double round_up(double v)
{
	double power = pow(10, floor(log10(v)));
	double times = v / power;
	return power * (times <= 1.0000001   ? 1
			: times <= 2.0000001 ? 2
			: times <= 5.0000001 ? 5
					     : 10);
}

/* Limits that the ticks divide evenly; zero is one of them when the values are near. */
static bool find_limits(const struct chart *chart, struct canvas *c)
{
	double low = HUGE_VAL, high = -HUGE_VAL;
	for (size_t s = 0; s < chart->series_count; s++) {
		for (size_t i = 0; i < chart->series[s].count; i++) {
			double v = chart->series[s].values[i];
			if (!isfinite(v))
				continue;
			low = fmin(low, v);
			high = fmax(high, v);
		}
	}
	if (low > high)
		return false;
	if (low >= 0 && low < high / 2)
		low = 0;
	if (high <= 0 && high > low / 2)
		high = 0;
	if (!(high - low > fabs(high) * 1e-12)) {
		double room = low == 0 ? 1 : fabs(low) / 10;
		low -= low == 0 ? 0 : room;
		high += room;
	}
	if (!isfinite(high - low)) {
		low /= 4;
		high /= 4;
	}
	c->tick = round_up((high - low) / TICKS_DOWN);
	c->low = floor(low / c->tick + 1e-9) * c->tick;
	c->high = ceil(high / c->tick - 1e-9) * c->tick;
	return c->high > c->low;
}

static void put_dot(struct canvas *c, int x, int y, size_t line)
{
	/* columns of the block: 1 2 3 7 and 4 5 6 8, from the top */
	static const uint8_t bits[DOTS_ACROSS][DOTS_DOWN] = { { 0x01, 0x02, 0x04, 0x40 },
							      { 0x08, 0x10, 0x20, 0x80 } };
	if (x < 0 || y < 0 || x >= c->columns * DOTS_ACROSS || y >= c->rows * DOTS_DOWN)
		return;
	struct cell *cell = &c->cells[y / DOTS_DOWN * c->columns + x / DOTS_ACROSS];
	cell->dots |= bits[x % DOTS_ACROSS][y % DOTS_DOWN];
	cell->line = (uint8_t)(line + 1);
}

/* Bresenham's line. */
static void put_line(struct canvas *c, int x0, int y0, int x1, int y1, size_t line)
{
	int across = abs(x1 - x0), down = -abs(y1 - y0), left = x0 < x1 ? 1 : -1,
	    up = y0 < y1 ? 1 : -1, error = across + down;
	for (;;) {
		put_dot(c, x0, y0, line);
		if (x0 == x1 && y0 == y1)
			return;
		int twice = 2 * error;
		if (twice >= down) {
			error += down;
			x0 += left;
		}
		if (twice <= across) {
			error += across;
			y0 += up;
		}
	}
}

static void put_series(const struct chart *chart, struct canvas *c, size_t index)
{
	const struct chart_series *s = &chart->series[index];
	int last_x = -1, last_y = 0, width = c->columns * DOTS_ACROSS, height = c->rows * DOTS_DOWN;
	double span = (double)(chart->to > chart->from ? chart->to - chart->from : 1);
	time_ms last_time = 0;
	for (size_t i = 0; i < s->count;) {
		if (!isfinite(s->values[i]) || s->times[i] < chart->from ||
		    s->times[i] > chart->to) {
			i++;
			continue;
		}
		time_ms begun = s->times[i];
		int x = (int)((double)(begun - chart->from) / span * (width - 1));
		double sum = 0;
		size_t count = 0;
		for (; i < s->count && s->times[i] <= chart->to &&
		       (int)((double)(s->times[i] - chart->from) / span * (width - 1)) == x;
		     i++)
			if (isfinite(s->values[i])) {
				sum += s->values[i];
				count++;
			}
		double v = sum / (double)count;
		int y = (int)lround((c->high - v) / (c->high - c->low) * (height - 1));
		bool joined = last_x >= 0 && begun - last_time <= 2 * chart->step_ms;
		put_line(c, joined ? last_x : x, joined ? last_y : y, x, y, index);
		last_x = x;
		last_y = y;
		last_time = s->times[i - 1];
	}
}

static void write_row(const struct chart *chart, const struct canvas *c, int row, struct buf *into)
{
	double top = c->high - (c->high - c->low) * row / c->rows,
	       bottom = c->high - (c->high - c->low) * (row + 1) / c->rows;
	/* the tick that lies in this row */
	double value = ceil(bottom / c->tick + 1e-9) * c->tick;
	char text[CHART_VALUE_SIZE] = "";
	bool ticked = value <= top + c->tick * 1e-9;
	if (row == c->rows - 1 && !ticked) {
		value = c->low;
		ticked = true;
	}
	if (ticked)
		chart_value(fabs(value) < c->tick * 1e-6 ? 0 : value, text);
	int wide = 0; /* characters that take more than a byte */
	for (const char *p = text; *p; p++)
		wide += (*p & 0xc0) == 0x80;
	buf_printf(into, "%*s %s", AXIS_WIDTH - 2 + wide, text, ticked ? "┤" : "│");
	uint8_t line = 0;
	int end = c->columns;
	while (end > 0 && !c->cells[row * c->columns + end - 1].dots)
		end--;
	for (int i = 0; i < end; i++) {
		const struct cell *cell = &c->cells[row * c->columns + i];
		if (cell->dots && cell->line != line && chart->colour) {
			buf_add_c(into, chart_colour(chart, cell->line - 1u));
			line = cell->line;
		}
		if (!cell->dots) {
			buf_add_byte(into, ' ');
			continue;
		}
		/* U+2800 and its 255 followers in UTF-8 */
		buf_add_byte(into, (char)0xe2);
		buf_add_byte(into, (char)(0xa0 | cell->dots >> 6));
		buf_add_byte(into, (char)(0x80 | (cell->dots & 0x3f)));
	}
	if (line)
		buf_add_c(into, reset);
	buf_add_byte(into, '\n');
}

static void write_times(const struct chart *chart, const struct canvas *c, struct buf *into)
{
	enum { LABEL_EVERY = 20, LABEL_SIZE = 20 };
	int64_t span = chart->to - chart->from;
	const char *format = span > 2 * 86400000LL ? "%m-%d %H:%M"
			     : span > 600000       ? "%H:%M"
						   : "%H:%M:%S";
	char line[WIDTH_MAX + LABEL_SIZE];
	buf_printf(into, "%*s└", AXIS_WIDTH - 1, "");
	for (int i = 0; i < c->columns; i++)
		buf_add_c(into, i % LABEL_EVERY == 0 ? "┬" : "─");
	buf_add_byte(into, '\n');
	memset(line, ' ', sizeof(line));
	size_t used = 0;
	for (int i = 0; i < c->columns; i += LABEL_EVERY) {
		char text[LABEL_SIZE];
		struct tm tm;
		time_t at =
			(time_t)((chart->from + span * i / (c->columns > 1 ? c->columns - 1 : 1)) /
				 1000);
		localtime_r(&at, &tm);
		size_t n = strftime(text, sizeof(text), format, &tm);
		if (i + (int)n > c->columns && i)
			break;
		memcpy(line + i, text, n);
		used = (size_t)i + n;
	}
	buf_printf(into, "%*s%.*s\n", AXIS_WIDTH, "", (int)used, line);
}

void chart_draw(const struct chart *chart, struct buf *into)
{
	int width = chart->width < CHART_WIDTH_MIN ? CHART_WIDTH_MIN
		    : chart->width > WIDTH_MAX     ? WIDTH_MAX
						   : chart->width,
	    height = chart->height < CHART_HEIGHT_MIN ? CHART_HEIGHT_MIN
		     : chart->height > HEIGHT_MAX     ? HEIGHT_MAX
						      : chart->height;
	struct canvas c = { .columns = width - AXIS_WIDTH, .rows = height - 2 };
	if (!find_limits(chart, &c)) {
		buf_add_c(into, "nothing to draw: no finite value in this time\n");
		return;
	}
	c.cells = must_calloc((size_t)c.columns * (size_t)c.rows, sizeof(c.cells[0]));
	for (size_t i = 0; i < chart->series_count && i < CHART_SERIES_MAX; i++)
		put_series(chart, &c, i);
	for (int row = 0; row < c.rows; row++)
		write_row(chart, &c, row, into);
	write_times(chart, &c, into);
	free(c.cells);
}
