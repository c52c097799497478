/*
 * The time-series engine alone, without HTTP: what ingest, flush, merge and reading cost, and how
 * many bytes a sample takes.
 *
 *     bench-metrics-engine [SERIES [STEPS [FOLDER]]]
 *
 * Shape: as bench/write_load.c: on 100 instances counters, gauges of two decimals, buckets of
 *   histograms and constants in equal parts, scraped every 15 s, now and then late. A batch is what
 *   one instance has at one step. The clock of the engine follows the samples, and it is ticked
 *   every 10 steps. Seconds are of CPU.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/checks.h"
#include "metrics/metrics.h"
#include "os/io.h"

enum { INSTANCES = 100, LE_COUNT = 10, INTERVAL_MS = 15000, TICK_STEPS = 10 };

enum kind { COUNTER, GAUGE, BUCKET, CONSTANT };

struct series {
	enum kind kind;
	double value, rate;
	metrics_ref ref;
};

static uint64_t seed = 42;
static time_ms engine_time = 1790000000000 / 86400000 * 86400000;

static time_ms now(void)
{
	return engine_time;
}

static double uniform(void)
{
	uint64_t z = seed += UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

static double normal(void)
{
	return sqrt(-2 * log(1 - uniform())) * cos(6.283185307179586 * uniform());
}

static double poisson(double mean)
{
	double limit = exp(-mean), p = uniform(), count = 0;
	if (mean > 60)
		return fmax(0, rint(mean + sqrt(mean) * normal()));
	for (; p > limit; p *= uniform())
		count++;
	return count;
}

static double cpu(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static struct err error;

static void check(errc rc)
{
	if (rc == OK)
		return;
	fprintf(stderr, "%s: %s\n", errc_name(rc), error.message);
	exit(1);
}

static void name_series(struct metrics_batch *b, struct series *s, size_t id, size_t instance)
{
	static const char *const names[] = { "x", "g", "b", "c" };
	char number[24], host[24], job[16], le[16];
	struct label items[5];
	size_t n = 0;
	snprintf(number, sizeof(number), "%zu", s->kind == BUCKET ? id / LE_COUNT : id);
	snprintf(host, sizeof(host), "host-%02zu:9100", instance);
	snprintf(job, sizeof(job), "job-%zu", instance % 10);
	snprintf(le, sizeof(le), "0.%zu", id % LE_COUNT);
	items[n++] = (struct label){ STR("__name__"), str_c(names[s->kind]) };
	items[n++] = (struct label){ STR("id"), str_c(number) };
	items[n++] = (struct label){ STR("instance"), str_c(host) };
	items[n++] = (struct label){ STR("job"), str_c(job) };
	if (s->kind == BUCKET)
		items[n++] = (struct label){ STR("le"), str_c(le) };
	const struct labels labels = { items, n };
	check(metrics_batch_series(b, &labels, &s->ref, &error));
}

static double advance(struct series *s, double *carried)
{
	switch (s->kind) {
	case COUNTER:
		return s->value += poisson(s->rate);
	case GAUGE:
		return (s->value += rint(25 * normal())) / 100;
	case BUCKET:
		*carried += poisson(s->rate);
		return s->value += *carried;
	case CONSTANT:
		break;
	}
	return s->value;
}

struct bench {
	struct metrics *m;
	struct metrics_batch *batch;
	struct series *series;
	size_t each; /* series of an instance */
	time_ms begin;
	double *values;
	double commit, tick, merge;
};

static void make_series(struct bench *b)
{
	for (size_t i = 0; i < b->each * INSTANCES; i++) {
		struct series *s = &b->series[i];
		size_t at = i % b->each;
		s->kind = (enum kind)(at * 4 / b->each);
		s->rate = s->kind == BUCKET ? 0.5 + 4 * uniform() : 2 + 60 * uniform();
		if (s->kind == GAUGE || s->kind == CONSTANT)
			s->value = rint((s->kind == GAUGE ? 10000 : 1000) * uniform());
		name_series(b->batch, s, i, i / b->each);
	}
}

static void put_step(struct bench *b, size_t step)
{
	for (size_t k = 0; k < INSTANCES; k++) {
		struct metrics_batch_result result;
		struct series *s = b->series + k * b->each;
		double carried = 0;
		time_ms time = b->begin + (time_ms)step * INTERVAL_MS + (time_ms)(k * 150);
		if (uniform() < 0.1)
			time += 1 + (time_ms)(5 * uniform());
		for (size_t i = 0; i < b->each; i++) {
			carried = s[i].kind == BUCKET && i % LE_COUNT ? carried : 0;
			b->values[i] = advance(&s[i], &carried);
		}
		double before = cpu();
		for (size_t i = 0; i < b->each; i++)
			must(metrics_batch_sample(b->batch, s[i].ref, time, b->values[i]));
		check(metrics_batch_commit(b->batch, &result, &error));
		b->commit += cpu() - before;
	}
}

static void tick(struct bench *b)
{
	bool more = true;
	double before = cpu();
	while (more)
		check(metrics_tick(b->m, &more, &error));
	b->tick += cpu() - before;
}

static void report(struct bench *b, size_t steps)
{
	struct metrics_stats s;
	double samples = (double)(b->each * INSTANCES * steps);
	metrics_stats(b->m, &s);
	printf("samples %.0f in %llu parts, %llu flushes, %llu merges\n", samples,
	       (unsigned long long)s.part_count, (unsigned long long)s.flush_count,
	       (unsigned long long)s.merge_count);
	printf("commit %.2f s, ticks %.2f s, last merge %.2f s: %.2f million samples a second\n",
	       b->commit, b->tick, b->merge, samples / 1e6 / (b->commit + b->tick + b->merge));
	printf("%.3f bytes a sample, %llu MiB of memory\n", (double)s.bytes_on_disk / samples,
	       (unsigned long long)s.memory_bytes >> 20);
}

static void read_all(struct bench *b)
{
	const struct matcher matcher = { .type = MATCH_NOT_EQUAL,
					 .name = STR("__name__"),
					 .value = STR("") };
	struct metrics_query query = {
		.matchers = &matcher, .matcher_count = 1, .from = INT64_MIN, .to = INT64_MAX
	};
	struct metrics_selection *s = NULL;
	struct metrics_samples samples = { 0 };
	uint64_t count = 0;
	double before = cpu();
	check(metrics_select(b->m, &query, &s, &error));
	double selected = cpu();
	for (size_t i = 0; i < metrics_selection_count(s); i++) {
		check(metrics_selection_read(s, i, query.from, query.to, &samples, &error));
		count += samples.count;
	}
	double read = cpu() - selected;
	printf("select %.3f s, read %.3f s: %.0f million samples a second\n", selected - before,
	       read, (double)count / 1e6 / read);
	metrics_samples_done(&samples);
	metrics_selection_free(s);
}

int main(int argc, char **argv)
{
	size_t series = argc > 1 ? strtoul(argv[1], NULL, 10) : 20000;
	size_t steps = argc > 2 ? strtoul(argv[2], NULL, 10) : 1440;
	const char *folder = argc > 3 ? argv[3] : "/tmp/holdfast-bench-metrics";
	struct metrics_options options = { .folder = folder, .now = now };
	struct bench b = { .each = series / INSTANCES, .begin = engine_time };
	if (!b.each || !steps)
		return 2;
	check(io_remove_tree(folder, &error));
	check(metrics_open(&options, &b.m, &error));
	b.batch = metrics_batch_new(b.m, STR("bench"), 0);
	b.series = must_calloc(series, sizeof(b.series[0]));
	b.values = must_calloc(b.each, sizeof(b.values[0]));
	make_series(&b);
	for (size_t i = 0; i < steps; i++) {
		engine_time = b.begin + (time_ms)i * INTERVAL_MS + INTERVAL_MS;
		put_step(&b, i);
		if (i % TICK_STEPS == 0)
			tick(&b);
	}
	read_all(&b);
	double before = cpu();
	check(metrics_flush(b.m, true, &error));
	b.merge = cpu() - before;
	report(&b, steps);
	read_all(&b);
	metrics_batch_free(b.batch);
	metrics_close(b.m);
	check(io_remove_tree(folder, &error));
	free(b.series);
	free(b.values);
	return 0;
}
