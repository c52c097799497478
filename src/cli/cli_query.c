/* query, cardinality: metrics for the person at the terminal. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/checks.h"
#include "cli/chart.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/print.h"
#include "codec/number.h"
#include "codec/text.h"
#include "os/clock.h"

enum { WIDTH_DEFAULT = 100, WIDTH_TABLE_MAX = 200, HEIGHT = 16, POINTS = 400, ROWS_MAX = 1000 };

static const char *percent(struct cli *cli, const char *text)
{
	struct buf b CLEANUP(buf_done) = buf_init(4 * 1024 * 1024);
	text_add_percent(&b, str_c(text));
	return arena_cstr(&cli->arena, buf_str(&b));
}

/* `up{job="api"}` of a result's labels. */
static const char *series_name(struct cli *cli, const struct json *metric)
{
	struct buf b CLEANUP(buf_done) = buf_init(1024 * 1024);
	bool begun = false;
	buf_add(&b, json_str(json_get(metric, "__name__"), STR("")));
	for (size_t i = 0; metric && i < metric->count; i++) {
		if (str_eq_c(metric->keys[i], "__name__"))
			continue;
		str value = json_str(&metric->items[i], STR(""));
		buf_printf(&b, "%s%.*s=\"%.*s\"", begun ? ", " : "{", STR_ARG(metric->keys[i]),
			   STR_ARG(value));
		begun = true;
	}
	buf_add_c(&b, begun ? "}" : b.len ? "" : "{}");
	return arena_cstr(&cli->arena, buf_str(&b));
}

static double point_value(const struct json *point)
{
	double v = (double)NAN;
	if (point && point->count == 2)
		number_parse(json_str(&point->items[1], STR("")), &v);
	return v;
}

static time_ms point_time(const struct json *point)
{
	return point && point->count == 2 ? (time_ms)llround(json_f64(&point->items[0], 0) * 1000)
					  : 0;
}

static void print_notes(const struct json *answer)
{
	static const char *const kinds[] = { "warnings", "infos" };
	for (size_t k = 0; k < ARRAY_COUNT(kinds); k++) {
		const struct json *notes = json_get(answer, kinds[k]);
		for (size_t i = 0; notes && i < notes->count; i++)
			fprintf(stderr, "holdfast: %s\n", json_cstr(&notes->items[i]));
	}
}

/* An instant's result: a scalar, a string, or a row a series. */
static void print_instant(struct cli *cli, const struct json *data)
{
	const struct json *result = json_get(data, "result");
	const char *type = json_cstr(json_get(data, "resultType"));
	if (strcmp(type, "scalar") == 0 || strcmp(type, "string") == 0) {
		printf("%s\n", result && result->count == 2 ? json_cstr(&result->items[1]) : "");
		return;
	}
	if (!result || !result->count) {
		printf("No series. `holdfast cardinality` lists the metrics there are.\n");
		return;
	}
	const char *const headings[] = { "VALUE", "SERIES" };
	struct print_table t = print_table_init(&cli->arena, ARRAY_COUNT(headings), headings);
	for (size_t i = 0; i < result->count && i < ROWS_MAX; i++) {
		const struct json *value = json_get(&result->items[i], "value");
		const struct json *histogram = json_get(&result->items[i], "histogram");
		const struct json *points = json_get(&result->items[i], "values");
		const char *text = value && value->count == 2 ? json_cstr(&value->items[1]) : "";
		if (histogram && histogram->count == 2) {
			const struct json *h = &histogram->items[1];
			text = arena_printf(&cli->arena, "histogram: count %s, sum %s",
					    json_cstr(json_get(h, "count")),
					    json_cstr(json_get(h, "sum")));
		} else if (points) {
			text = arena_printf(&cli->arena, "%zu samples, last %s", points->count,
					    json_cstr(&points->items[points->count - 1].items[1]));
		}
		const char *const cells[] = { text, series_name(cli, json_get(&result->items[i],
									      "metric")) };
		print_table_row(&t, cells);
	}
	print_table_write(&t);
	if (result->count > ROWS_MAX)
		printf("… and %zu more; --json prints all\n", result->count - ROWS_MAX);
}

static struct chart_series take_series(struct cli *cli, const struct json *item)
{
	const struct json *points = json_get(item, "values");
	size_t count = points ? points->count : 0;
	time_ms *times = arena_array(&cli->arena, count + 1, sizeof(times[0]));
	double *values = arena_array(&cli->arena, count + 1, sizeof(values[0]));
	struct chart_series s = { .name = series_name(cli, json_get(item, "metric")),
				  .times = times,
				  .values = values,
				  .count = times && values ? count : 0 };
	for (size_t i = 0; i < s.count; i++) {
		times[i] = point_time(&points->items[i]);
		values[i] = point_value(&points->items[i]);
	}
	return s;
}

/* The series with the largest last values first: what is worth a line. */
static int by_last(const void *a, const void *b)
{
	const struct chart_series *x = a, *y = b;
	double v = x->count ? x->values[x->count - 1] : -HUGE_VAL,
	       w = y->count ? y->values[y->count - 1] : -HUGE_VAL;
	v = isnan(v) ? -HUGE_VAL : v;
	w = isnan(w) ? -HUGE_VAL : w;
	return v < w ? 1 : v > w ? -1 : strcmp(x->name, y->name);
}

static void print_legend(struct cli *cli, const struct chart *chart, size_t all)
{
	const char *const headings[] = { "", "LAST", "MIN", "AVG", "MAX", "SERIES" };
	struct print_table t = print_table_init(&cli->arena, ARRAY_COUNT(headings), headings);
	for (size_t i = 0; i < chart->series_count; i++) {
		const struct chart_series *s = &chart->series[i];
		double low = HUGE_VAL, high = -HUGE_VAL, sum = 0, last = (double)NAN;
		size_t count = 0;
		for (size_t k = 0; k < s->count; k++) {
			last = s->values[k];
			if (isnan(last))
				continue;
			low = fmin(low, last);
			high = fmax(high, last);
			sum += last;
			count++;
		}
		char texts[4][CHART_VALUE_SIZE];
		const double values[] = { last, count ? low : (double)NAN, sum / (double)count,
					  count ? high : (double)NAN };
		for (size_t k = 0; k < ARRAY_COUNT(values); k++)
			chart_value(values[k], texts[k]);
		const char *const cells[] = {
			arena_printf(&cli->arena, "%s━━%s", chart_colour(chart, i),
				     chart->colour ? "\033[0m" : ""),
			arena_cstr(&cli->arena, str_c(texts[0])),
			arena_cstr(&cli->arena, str_c(texts[1])),
			arena_cstr(&cli->arena, str_c(texts[2])),
			arena_cstr(&cli->arena, str_c(texts[3])),
			s->name,
		};
		print_table_row(&t, cells);
	}
	print_table_write(&t);
	if (all > chart->series_count)
		printf("… and %zu more series with smaller last values; --json prints all\n",
		       all - chart->series_count);
}

static int terminal_width(const struct cli *cli)
{
	struct winsize size = { 0 };
	if (cli->terminal && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col)
		return size.ws_col < WIDTH_TABLE_MAX ? size.ws_col : WIDTH_TABLE_MAX;
	return WIDTH_DEFAULT;
}

static void print_range(struct cli *cli, const struct json *data, time_ms from, time_ms to,
			int64_t step_ms)
{
	const struct json *result = json_get(data, "result");
	size_t count = result ? result->count : 0;
	struct buf text CLEANUP(buf_done) = buf_init(4 * 1024 * 1024);
	struct chart_series *series = arena_array(&cli->arena, count + 1, sizeof(series[0]));
	if (!count || !series) {
		printf("No series in this time. `holdfast cardinality` lists the metrics there "
		       "are.\n");
		return;
	}
	for (size_t i = 0; i < count; i++)
		series[i] = take_series(cli, &result->items[i]);
	qsort(series, count, sizeof(series[0]), by_last);
	struct chart chart = { .series = series,
			       .series_count = count < CHART_SERIES_MAX ? count : CHART_SERIES_MAX,
			       .from = from,
			       .to = to,
			       .step_ms = step_ms,
			       .width = terminal_width(cli),
			       .height = HEIGHT,
			       .colour = cli->colour };
	chart_draw(&chart, &text);
	fwrite(text.ptr, 1, text.len, stdout);
	print_legend(cli, &chart, count);
}

/* A round step that gives about as many points as the chart has columns of dots. */
static int64_t choose_step(int64_t span_ms)
{
	static const int64_t seconds[] = { 1,   2,   5,    10,   15,   30,    60,    120,  300,
					   600, 900, 1800, 3600, 7200, 21600, 43200, 86400 };
	for (size_t i = 0; i < ARRAY_COUNT(seconds); i++)
		if (span_ms / (seconds[i] * 1000) <= POINTS)
			return seconds[i] * 1000;
	return span_ms / POINTS;
}

static errc read_duration(struct cli *cli, const char *option, int64_t *ret_ms, struct err *e)
{
	const char *text = cli_option(cli, option);
	if (text && (!duration_parse(str_c(text), ret_ms) || *ret_ms <= 0))
		FAIL(e, ERR_USAGE, "--%s must be a duration such as 15m, 6h or 7d: %s", option,
		     text);
	return OK;
}

static errc query(struct cli *cli, struct err *e)
{
	const struct json *answer = NULL;
	const char *at_text = cli_option(cli, "at");
	time_ms to = clock_now();
	int64_t since_ms = 0, step_ms = 0;
	char *path;
	TRY(read_duration(cli, "since", &since_ms, e));
	TRY(read_duration(cli, "step", &step_ms, e));
	if (at_text && !time_parse(str_c(at_text), &to))
		FAIL(e, ERR_USAGE, "--at must be a time such as 2026-11-24T01:41:00Z: %s", at_text);
	if (step_ms && !since_ms)
		FAIL(e, ERR_USAGE, "--step needs --since: a step belongs to a range");
	const char *expression = percent(cli, cli->arguments[0]);
	if (since_ms) {
		step_ms = step_ms ? step_ms : choose_step(since_ms);
		to -= at_text ? 0 : to % step_ms; /* the same points from one call to the next */
		path = arena_printf(&cli->arena,
				    "/api/v1/query_range?query=%s&start=%.3f&end=%.3f&step=%.3f",
				    expression, (double)(to - since_ms) / 1000, (double)to / 1000,
				    (double)step_ms / 1000);
	} else {
		path = arena_printf(&cli->arena, "/api/v1/query?query=%s&time=%.3f", expression,
				    (double)to / 1000);
	}
	TRY(client_request(cli, "GET", path, STR(""), &answer, e));
	if (cli->json) {
		print_json(answer);
		return OK;
	}
	print_notes(answer);
	if (since_ms)
		print_range(cli, json_get(answer, "data"), to - since_ms, to, step_ms);
	else
		print_instant(cli, json_get(answer, "data"));
	return OK;
}

static int run_query(struct cli *cli)
{
	struct err e = { 0 };
	return query(cli, &e) == OK ? 0 : cli_fail(cli, &e);
}

static int run_cardinality(struct cli *cli)
{
	const struct json *answer = NULL;
	struct err e = { 0 };
	const char *by = cli_option(cli, "by"), *top = cli_option(cli, "top");
	char *path = arena_printf(&cli->arena, "/holdfast/v1/metrics/cardinality?by=%s&limit=%s",
				  percent(cli, by ? by : "metric"), percent(cli, top ? top : "20"));
	if (client_request(cli, "GET", path, STR(""), &answer, &e) != OK)
		return cli_fail(cli, &e);
	if (cli->json) {
		print_json(answer);
		return 0;
	}
	const struct json *data = json_get(answer, "data"), *rows = json_get(data, "rows");
	bool labels = by && strcmp(by, "label") == 0;
	const char *const headings[] = { "SERIES", "NEW TODAY", labels ? "VALUES" : "", "NAME" };
	struct print_table t = print_table_init(&cli->arena, ARRAY_COUNT(headings), headings);
	printf("%lld active series, %lld made since the start\n",
	       (long long)json_i64(json_get(data, "series"), 0),
	       (long long)json_i64(json_get(data, "created"), 0));
	for (size_t i = 0; rows && i < rows->count; i++) {
		const struct json *row = &rows->items[i];
		const char *const cells[] = {
			arena_printf(&cli->arena, "%lld",
				     (long long)json_i64(json_get(row, "series"), 0)),
			arena_printf(&cli->arena, "%lld",
				     (long long)json_i64(json_get(row, "created"), 0)),
			labels ? arena_printf(&cli->arena, "%lld",
					      (long long)json_i64(json_get(row, "values"), 0))
			       : "",
			json_cstr(json_get(row, "name")),
		};
		print_table_row(&t, cells);
	}
	print_table_write(&t);
	return 0;
}

static const struct command_option query_options[] = {
	{ "since", 0, "DURATION", "a chart of this much time up to now: 15m, 6h, 7d", NULL },
	{ "step", 0, "DURATION", "time between its points; default: by the chart's width", NULL },
	{ "at", 0, "TIME", "the instant, or the end of the chart; default: now", NULL },
};
static const char *const query_examples[] = {
	"holdfast query up",
	"one value a series, now",
	"holdfast query 'sum by (instance) (rate(http_requests_total[5m]))' --since 6h",
	"a chart of the last six hours",
	NULL,
};
const struct command query_command = {
	.name = "query",
	.arguments = "EXPR",
	.argument_count_min = 1,
	.argument_count_max = 1,
	.summary = "Ask the metrics with PromQL",
	.description = "EXPR is an expression of Prometheus 3. Without --since its value now, with "
		       "it a chart of its\n"
		       "values and a line for each of the largest series.",
	.examples = query_examples,
	.options = query_options,
	.option_count = ARRAY_COUNT(query_options),
	.run = run_query,
};

static const char *const by_choices[] = { "metric", "label", "pair", NULL };
static const struct command_option cardinality_options[] = {
	{ "by", 0, "WHAT", "metric, label or pair (label=value); default: metric", by_choices },
	{ "top", 0, "N", "how many rows; default: 20", NULL },
};
static const char *const cardinality_examples[] = {
	"holdfast cardinality",
	"the metrics with the most series",
	"holdfast cardinality --by label",
	"the labels with the most, and how many values each has",
	NULL,
};
const struct command cardinality_command = {
	.name = "cardinality",
	.arguments = "",
	.summary = "Show where the series come from",
	.description =
		"Counts today's series; NEW TODAY is what was made since midnight UTC: where "
		"that is close to\n"
		"SERIES day after day, a label changes with every release or request.",
	.examples = cardinality_examples,
	.options = cardinality_options,
	.option_count = ARRAY_COUNT(cardinality_options),
	.run = run_cardinality,
};
