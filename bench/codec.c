/*
 * What the vectors of samples and timestamps take, and how fast they are written and read, on data
 * shaped like what people measure. Ends with a line for each figure that has a target:
 *
 *     figure value unit target ok|MISS
 *
 * Times are the least of several rounds, so that a neighbour on the machine does not show.
 * The entropy beside the bits is that of the distributions which the data was drawn from, told to
 * nobody: what a coder that knows them could reach. It is 0 where that is not known.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/checks.h"
#include "codec/compress.h"
#include "codec/crc32c.h"
#include "codec/time_vector.h"
#include "codec/value_vector.h"

enum {
	SERIES = 16,
	VECTORS = 16, /* of each series */
	SERIES_LEN = VECTORS * VECTOR_LEN_MAX,
	LEN = SERIES * SERIES_LEN,
	ROUNDS = 7,
	LE_COUNT = 12,
	BODY_BYTES = 100 * 1000,
};

static uint64_t seed = 1;

static uint64_t random_bits(void)
{
	uint64_t z = seed += UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static double uniform(void)
{
	return (double)(random_bits() >> 11) * 0x1p-53;
}

static double normal(void)
{
	return sqrt(-2 * log(1 - uniform())) * cos(6.283185307179586 * uniform());
}

static unsigned poisson(double mean)
{
	if (mean > 60)
		return (unsigned)fmax(0, rint(mean + sqrt(mean) * normal()));
	double limit = exp(-mean), p = uniform();
	unsigned count = 0;
	for (; p > limit; p *= uniform())
		count++;
	return count;
}

/* What the numbers made take, at least: the sum, in bits, of what their distributions tell. */
static double model_bits;

/* Bits of a normal distribution rounded to whole numbers; of a Poisson distribution. */
static double normal_bits(double spread)
{
	return 0.5 * log2(17.079468445347132 * (spread * spread + 1.0 / 12));
}

static double poisson_bits(double mean)
{
	if (mean > 60)
		return normal_bits(sqrt(mean));
	double p = exp(-mean), bits = 0;
	for (int k = 0; k < 200 && p > 0; p *= mean / ++k)
		bits -= p * log2(p);
	return bits;
}

static double of_two_decimals(double v)
{
	return rint(v * 100) / 100;
}

/* Increments are random about a rate that itself wanders. */
static void counters(double *out)
{
	for (size_t s = 0; s < SERIES; s++) {
		double rate = exp(log(20) + uniform() * log(100)), total = rint(uniform() * 1e7);
		for (size_t i = 0; i < SERIES_LEN; i++) {
			rate = fmin(fmax(rate * exp(0.01 * normal()), 5), 1e5);
			*out++ = total += poisson(rate);
			model_bits += poisson_bits(rate);
		}
	}
}

/* As counters, of a process that restarts now and then. */
static void resets(double *out)
{
	counters(out);
	for (size_t i = 0; i < LEN;) {
		size_t life = 200 + random_bits() % 3000;
		double before = out[i];
		for (size_t j = 0; j < life && i < LEN; j++, i++)
			out[i] = fmax(0, out[i] - before);
	}
}

static void gauges_walk(double *out)
{
	for (size_t s = 0; s < SERIES; s++) {
		double v = 20 + 60 * uniform(), step = exp(log(0.05) + uniform() * log(20));
		for (size_t i = 0; i < SERIES_LEN; i++) {
			v += step * normal();
			*out++ = of_two_decimals(v);
		}
		model_bits += SERIES_LEN * normal_bits(100 * step);
	}
}

/* Anything within a range is as likely. */
static void gauges_uniform(double *out)
{
	for (size_t s = 0; s < SERIES; s++) {
		double range = exp(log(1) + uniform() * log(100));
		for (size_t i = 0; i < SERIES_LEN; i++)
			*out++ = of_two_decimals(range * uniform());
		model_bits += SERIES_LEN * log2(range * 100);
	}
}

static void counters_uniform(double *out)
{
	for (size_t s = 0; s < SERIES; s++) {
		double range = rint(exp(log(10) + uniform() * log(1000))), total = 0;
		for (size_t i = 0; i < SERIES_LEN; i++)
			*out++ = total += floor(range * uniform());
		model_bits += SERIES_LEN * log2(range);
	}
}

static void gauges_noise(double *out)
{
	for (size_t s = 0; s < SERIES; s++) {
		double mean = 20 + 60 * uniform(), spread = exp(log(0.05) + uniform() * log(20));
		for (size_t i = 0; i < SERIES_LEN; i++)
			*out++ = of_two_decimals(mean + spread * normal());
		model_bits += SERIES_LEN * normal_bits(100 * spread);
	}
}

static void gauges_long(double *out)
{
	double v = 123456;
	for (size_t i = 0; i < LEN; i++) {
		v += 0.01 * normal();
		*out++ = rint(v * 1e8) / 1e8;
	}
	model_bits = LEN * normal_bits(1e6);
}

static void gauges_double(double *out)
{
	double v = 1;
	for (size_t i = 0; i < LEN; i++)
		*out++ = v *= exp(0.01 * normal());
}

/* Pages of memory in bytes: all are multiples of 4096. */
static void gauges_pages(double *out)
{
	double pages = 60000;
	for (size_t i = 0; i < LEN; i++)
		*out++ = 4096 * (pages = fmax(1000, rint(pages + 20 * normal())));
	model_bits = LEN * normal_bits(20);
}

static void constants(double *out)
{
	for (size_t i = 0; i < LEN; i++)
		out[i] = i / SERIES_LEN % 4 == 0 ? 0.25 : (double)(i / SERIES_LEN * 1000);
}

/* Cumulative counts of latencies below bounds: most of a series' steps are small, many are 0. */
static void buckets(double *out)
{
	for (size_t s = 0; s < SERIES; s++) {
		double below = pow((double)(s % LE_COUNT + 1) / LE_COUNT, 3), total = 0;
		double rate = s < LE_COUNT ? 4 : 0.3;
		for (size_t i = 0; i < SERIES_LEN; i++)
			*out++ = total += poisson(rate * below);
		model_bits += SERIES_LEN * poisson_bits(rate * below);
	}
}

static void bools(double *out)
{
	double v = 1;
	for (size_t i = 0; i < LEN; i++)
		*out++ = v = uniform() < 0.02 ? 1 - v : v;
	model_bits = LEN * -(0.02 * log2(0.02) + 0.98 * log2(0.98));
}

/* Bits that nothing can be known of. */
static void noise(double *out)
{
	for (size_t i = 0; i < LEN; i++) {
		uint64_t bits = random_bits() & (UINT64_MAX >> 2);
		memcpy(&out[i], &bits, sizeof(bits));
	}
	model_bits = LEN * 62.0;
}

/* Counters that end, each vector of them, in a staleness marker, as those of short jobs. */
static void stale(double *out)
{
	uint64_t marker = UINT64_C(0x7ff0000000000002);
	counters(out);
	for (size_t i = VECTOR_LEN_MAX - 1; i < LEN; i += VECTOR_LEN_MAX)
		memcpy(&out[i], &marker, sizeof(marker));
}

static void times_regular(time_ms *out)
{
	for (size_t i = 0; i < LEN; i++)
		out[i] = INT64_C(1700000000123) + (time_ms)i * 15000;
}

static void times_jittered(time_ms *out)
{
	for (size_t i = 0; i < LEN; i++)
		out[i] = INT64_C(1700000000000) + (time_ms)i * 15000 + (time_ms)rint(5 * normal());
	model_bits = LEN * normal_bits(5);
}

static const struct shape {
	const char *name;
	void (*values)(double *out);
	void (*times)(time_ms *out);
	/* a fourth each of counters, gauges of two decimals, buckets, constants */
	double share;
} shapes[] = {
	{ "counters", counters, NULL, 0.25 },
	{ "gauges_walk", gauges_walk, NULL, 0.125 },
	{ "gauges_noise", gauges_noise, NULL, 0.125 },
	{ "buckets", buckets, NULL, 0.25 },
	{ "constants", constants, NULL, 0.25 },
	{ "counters_uniform", counters_uniform, NULL, 0 },
	{ "gauges_uniform", gauges_uniform, NULL, 0 },
	{ "counter_resets", resets, NULL, 0 },
	{ "counters_stale", stale, NULL, 0 },
	{ "gauges_14_digits", gauges_long, NULL, 0 },
	{ "gauges_double", gauges_double, NULL, 0 },
	{ "gauges_pages", gauges_pages, NULL, 0 },
	{ "bools", bools, NULL, 0 },
	{ "noise", noise, NULL, 0 },
	{ "times_regular", NULL, times_regular, 0 },
	{ "times_jittered", NULL, times_jittered, 0 },
};

/* Values and timestamps are both 64 bits. */
static double values[LEN], values_back[LEN];
static time_ms times[LEN], times_back[LEN];

static double now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

struct result {
	double bits, encode_ns, decode_ns; /* a value */
};

static void encode_all(const struct shape *shape, size_t n, enum vector_level level,
		       struct vector_scratch *scratch, struct buf *into)
{
	buf_clear(into);
	for (size_t at = 0; at + n <= LEN; at += n) {
		size_t size = shape->times
				      ? time_vector_encode(times + at, n, level, scratch, into)
				      : value_vector_encode(values + at, n, level, scratch, into);
		must(size);
	}
}

static void decode_all(const struct shape *shape, size_t n, struct vector_scratch *scratch,
		       str encoded)
{
	struct reader r = reader_init(encoded);
	struct err e;
	for (size_t at = 0; at + n <= LEN; at += n) {
		errc rc = shape->times ? time_vector_decode(&r, n, times_back + at, scratch, &e)
				       : value_vector_decode(&r, n, values_back + at, scratch, &e);
		must(rc == OK);
	}
	must(reader_left(&r) == 0);
}

static struct result measure(const struct shape *shape, size_t n, enum vector_level level)
{
	struct vector_scratch *scratch = vector_scratch_new();
	struct buf encoded = buf_init((size_t)LEN * 10);
	struct result best = { 0, INFINITY, INFINITY };
	size_t len = LEN / n * n;
	for (int round = 0; round < ROUNDS; round++) {
		double start = now_ns();
		encode_all(shape, n, level, scratch, &encoded);
		double middle = now_ns();
		decode_all(shape, n, scratch, buf_str(&encoded));
		double end = now_ns();
		best.encode_ns = fmin(best.encode_ns, (middle - start) / (double)len);
		best.decode_ns = fmin(best.decode_ns, (end - middle) / (double)len);
	}
	if (shape->times)
		must(memcmp(times, times_back, len * sizeof(*times)) == 0);
	else
		must(memcmp(values, values_back, len * sizeof(*values)) == 0);
	best.bits = (double)encoded.len * 8 / (double)len;
	buf_done(&encoded);
	vector_scratch_free(scratch);
	return best;
}

static size_t missed;

static void figure(const char *name, double value, const char *unit, double target, bool is_most)
{
	bool is_met = is_most ? value <= target : value >= target;
	missed += !is_met;
	printf("%s %.3g %s %.3g %s\n", name, value, unit, target, is_met ? "ok" : "MISS");
}

static double crc_gigabytes(void)
{
	static char block[1 << 16];
	double best = INFINITY;
	volatile uint32_t sink = 0;
	for (int round = 0; round < 100 * ROUNDS; round++) {
		double start = now_ns();
		sink = crc32c(sink, (str){ block, sizeof(block) });
		best = fmin(best, now_ns() - start);
	}
	return sizeof(block) / best;
}

/* Microseconds to undo a body of the size that a scrape or a remote write has. */
static double body_us(enum compress_format format)
{
	struct compressor *c = compressor_new();
	struct buf body = buf_init(BODY_BYTES), packed = buf_init(2 * (size_t)BODY_BYTES);
	struct buf back = buf_init(BODY_BYTES);
	struct err e;
	double best = INFINITY;
	while (body.len + 100 < BODY_BYTES)
		buf_printf(&body, "http_requests_total{job=\"web\",code=\"%u\"} %u\n",
			   (unsigned)(200 + random_bits() % 5),
			   (unsigned)(random_bits() % 1000000));
	must(compressor_compress(c, format, 3, buf_str(&body), &packed, &e) == OK);
	for (int round = 0; round < 20 * ROUNDS; round++) {
		buf_clear(&back);
		double start = now_ns();
		must(compressor_decompress(c, format, buf_str(&packed), &back, &e) == OK);
		best = fmin(best, now_ns() - start);
	}
	must(str_eq(buf_str(&back), buf_str(&body)));
	buf_done(&back);
	buf_done(&packed);
	buf_done(&body);
	compressor_free(c);
	return best / 1000;
}

static void measure_bodies(void)
{
	static const struct {
		const char *name;
		enum compress_format format;
	} formats[] = { { "gzip", COMPRESS_GZIP },
			{ "zstd", COMPRESS_ZSTD },
			{ "snappy", COMPRESS_SNAPPY } };
	printf("\ndecompression of a body of 100 kB:");
	for (size_t i = 0; i < ARRAY_COUNT(formats); i++)
		printf(" %s %.0f us", formats[i].name, body_us(formats[i].format));
	printf("\n");
}

int main(int argc, char **argv)
{
	size_t n = argc > 1 ? strtoul(argv[1], NULL, 10) : VECTOR_LEN_MAX;
	if (n < 1 || n > VECTOR_LEN_MAX) {
		fprintf(stderr, "usage: bench-codec [VALUES A VECTOR, 1..%d]\n", VECTOR_LEN_MAX);
		return 2;
	}
	double hot_bits = 0, cold_bits = 0, least_bits = 0, cold_decode = 0, hot_decode = 0;
	double hot_encode = 0, cold_encode = 0;
	printf("vectors of %zu; bits a value, nanoseconds a value\n\n", n);
	printf("%-18s %8s %8s %8s %8s %8s %8s %8s\n", "", "entropy", "hot", "cold", "hot enc",
	       "hot dec", "cold enc", "cold dec");
	for (const struct shape *s = shapes; s < shapes + ARRAY_COUNT(shapes); s++) {
		model_bits = 0;
		if (s->times)
			s->times(times);
		else
			s->values(values);
		double bits = model_bits / LEN;
		struct result hot = measure(s, n, VECTOR_HOT), cold = measure(s, n, VECTOR_COLD);
		printf("%-18s %8.2f %8.2f %8.2f %8.2f %8.2f %8.2f %8.2f\n", s->name, bits, hot.bits,
		       cold.bits, hot.encode_ns, hot.decode_ns, cold.encode_ns, cold.decode_ns);
		fflush(stdout);
		least_bits += s->share * bits;
		hot_bits += s->share * hot.bits;
		cold_bits += s->share * cold.bits;
		hot_decode += s->share * hot.decode_ns;
		hot_encode += s->share * hot.encode_ns;
		cold_decode += s->share * cold.decode_ns;
		cold_encode += s->share * cold.encode_ns;
	}
	measure_bodies();
	printf("\ncounters, gauges of two decimals, buckets and constants in equal parts:\n");
	figure("values_cold_over_entropy", cold_bits / least_bits, "ratio", 1.09, true);
	figure("values_cold", cold_bits / 8, "B/value", 0.86, true);
	figure("values_hot", hot_bits / 8, "B/value", 1.1, true);
	figure("hot_encode", 1000 / hot_encode, "M/s", 100, false);
	figure("hot_decode", 1000 / hot_decode, "M/s", 500, false);
	figure("cold_encode", 1000 / cold_encode, "M/s", 15, false);
	figure("cold_decode", 1000 / cold_decode, "M/s", 300, false);
	figure("crc32c", crc_gigabytes(), "GB/s", 5, false);
	return missed ? 1 : 0;
}
