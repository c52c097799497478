/*
 * Sends generated samples by remote write 1.0, the same bytes to whoever it is told to:
 *
 *     bench-write-load URL [--series N] [--steps N] [--interval MS] [--end MS]
 *                          [--from STEP] [--token FILE] [--active]
 *
 * Shape: N series on 100 instances of 10 jobs: counters x and y, gauges g of two decimals, the
 *   buckets of histograms b, constants c, in equal parts (x and y share one). Each instance is
 *   scraped at its own moment, now and then a few milliseconds late. A body has the samples of ten
 *   instances at one step. --active: one sample a series, each series a name of its own.
 * Prints `samples N bodies N bytes N seconds S refused N` and exits 1 when a body was refused.
 * Limits: N series at most 5 million, steps at most a million.
 */
#include <curl/curl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/checks.h"
#include "base/str.h"
#include "codec/compress.h"
#include "codec/wire.h"

enum {
	INSTANCES = 100,
	JOBS = 10,
	GROUP = 10, /* instances a body */
	LE_COUNT = 10,
	BODY_MAX = 64 << 20,
	ACTIVE_BODY = 10000,
};

enum kind { COUNTER_X, COUNTER_Y, GAUGE, BUCKET, CONSTANT };

struct series {
	enum kind kind;
	int instance;
	double value, rate;
	struct buf labels; /* the encoded label messages */
};

struct options {
	const char *url, *token;
	size_t series, steps, from;
	int64_t interval_ms, end_ms;
	bool active;
};

static uint64_t seed = 42;

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

static double poisson(double mean)
{
	if (mean > 60)
		return fmax(0, rint(mean + sqrt(mean) * normal()));
	double limit = exp(-mean), p = uniform(), count = 0;
	for (; p > limit; p *= uniform())
		count++;
	return count;
}

/* ---- Series. */

static void add_label(struct buf *into, const char *name, const char *value)
{
	size_t mark = wire_begin(into, 1);
	wire_add_bytes(into, 1, str_c(name));
	wire_add_bytes(into, 2, str_c(value));
	wire_end(into, mark);
}

static void name_series(struct series *s, size_t id)
{
	static const char *const names[] = { "x", "y", "g", "b", "c" };
	static const char *const les[LE_COUNT] = { "0.005", "0.01", "0.025", "0.05", "0.1",
						   "0.25",  "0.5",  "1",     "5",    "+Inf" };
	char job[16], instance[16], text[24];
	int number = s->instance % JOBS;
	snprintf(job, sizeof(job), number ? "job-%d" : "node", number);
	snprintf(instance, sizeof(instance), "host-%02d:9100", s->instance);
	s->labels = buf_init(4096);
	add_label(&s->labels, "__name__", names[s->kind]);
	snprintf(text, sizeof(text), "%zu", s->kind == BUCKET ? id / LE_COUNT : id);
	add_label(&s->labels, "id", text);
	add_label(&s->labels, "instance", instance);
	add_label(&s->labels, "job", job);
	if (s->kind == BUCKET)
		add_label(&s->labels, "le", les[id % LE_COUNT]);
}

/* Of each instance as many series, in quarters by kind. */
static struct series *make_series(size_t count)
{
	struct series *all = must_calloc(count, sizeof(*all));
	size_t each = count / INSTANCES;
	for (size_t i = 0; i < each * INSTANCES; i++) {
		struct series *s = &all[i];
		size_t at = i % each, quarter = at * 4 / each;
		s->instance = (int)(i / each);
		s->kind = quarter == 0   ? (at & 1 ? COUNTER_Y : COUNTER_X)
			  : quarter == 1 ? GAUGE
			  : quarter == 2 ? BUCKET
					 : CONSTANT;
		s->rate = s->kind == BUCKET ? 0.5 + 4 * uniform() : 2 + 60 * uniform();
		s->value = s->kind == GAUGE      ? rint(10000 * uniform())
			   : s->kind == CONSTANT ? rint(1000 * uniform())
						 : 0;
		name_series(s, at + (size_t)s->instance * each);
	}
	return all;
}

/* The next value. Buckets of one histogram are cumulative: each adds to what the one before had. */
static double advance(struct series *s, double *carried)
{
	switch (s->kind) {
	case COUNTER_X:
	case COUNTER_Y:
		return s->value += poisson(s->rate);
	case GAUGE:
		s->value += rint(25 * normal());
		return s->value / 100;
	case BUCKET:
		*carried += poisson(s->rate);
		return s->value += *carried;
	case CONSTANT:
		break;
	}
	return s->value;
}

/* ---- Sending. */

struct sender {
	CURL *curl;
	struct curl_slist *fields;
	struct compressor *compressor;
	struct buf plain, packed;
	uint64_t samples, bodies, bytes, refused;
};

static size_t ignore(char *data, size_t size, size_t count, void *ctx)
{
	(void)data, (void)ctx;
	return size * count;
}

static void sender_init(struct sender *s, const struct options *o)
{
	char field[512] = "";
	*s = (struct sender){ .curl = curl_easy_init(),
			      .compressor = compressor_new(),
			      .plain = buf_init(BODY_MAX),
			      .packed = buf_init(BODY_MAX) };
	must(s->curl);
	s->fields = curl_slist_append(s->fields, "Content-Type: application/x-protobuf");
	s->fields = curl_slist_append(s->fields, "Content-Encoding: snappy");
	s->fields = curl_slist_append(s->fields, "X-Prometheus-Remote-Write-Version: 0.1.0");
	s->fields = curl_slist_append(s->fields, "Expect:");
	if (o->token) {
		FILE *file = fopen(o->token, "r");
		char token[256];
		must(file && fgets(token, sizeof(token), file));
		fclose(file);
		token[strcspn(token, "\n")] = '\0';
		snprintf(field, sizeof(field), "Authorization: Bearer %s", token);
		s->fields = curl_slist_append(s->fields, field);
	}
	curl_easy_setopt(s->curl, CURLOPT_URL, o->url);
	curl_easy_setopt(s->curl, CURLOPT_PROXY, "");
	curl_easy_setopt(s->curl, CURLOPT_HTTPHEADER, s->fields);
	curl_easy_setopt(s->curl, CURLOPT_WRITEFUNCTION, ignore);
	curl_easy_setopt(s->curl, CURLOPT_TIMEOUT, 120L);
}

/* What is refused for now (429, 503) is sent again, as senders do. */
static void send_body(struct sender *s)
{
	struct err e = { 0 };
	long status = 0;
	buf_clear(&s->packed);
	if (compressor_compress(s->compressor, COMPRESS_SNAPPY, 0, buf_str(&s->plain), &s->packed,
				&e) != OK) {
		fprintf(stderr, "%s\n", e.message);
		exit(1);
	}
	curl_easy_setopt(s->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)s->packed.len);
	curl_easy_setopt(s->curl, CURLOPT_POSTFIELDS, s->packed.ptr);
	for (int attempt = 0; attempt < 600; attempt++) {
		CURLcode code = curl_easy_perform(s->curl);
		curl_easy_getinfo(s->curl, CURLINFO_RESPONSE_CODE, &status);
		if (code != CURLE_OK) {
			fprintf(stderr, "the request failed: %s\n", curl_easy_strerror(code));
			exit(1);
		}
		if (status != 429 && status != 503)
			break;
		struct timespec pause = { .tv_nsec = 100 * 1000000 };
		nanosleep(&pause, NULL);
	}
	if (status / 100 != 2 && s->refused++ == 0)
		fprintf(stderr, "a body was answered with status %ld\n", status);
	s->bodies++;
	s->bytes += s->packed.len;
	buf_clear(&s->plain);
}

static void add_sample(struct sender *s, const struct series *series, double value, int64_t time)
{
	size_t mark = wire_begin(&s->plain, 1);
	buf_add(&s->plain, buf_str(&series->labels));
	size_t sample = wire_begin(&s->plain, 2);
	wire_add_double(&s->plain, 1, value);
	wire_add_int(&s->plain, 2, time);
	wire_end(&s->plain, sample);
	wire_end(&s->plain, mark);
	s->samples++;
}

static void send_step(struct sender *s, const struct options *o, struct series *all, size_t step,
		      bool quiet)
{
	size_t each = o->series / INSTANCES;
	int64_t base = o->end_ms - (int64_t)(o->steps - step) * o->interval_ms;
	for (int instance = 0; instance < INSTANCES; instance++) {
		int64_t late = uniform() < 0.1 ? (int64_t)(uniform() * 4) : 0;
		int64_t time = base + instance * o->interval_ms / INSTANCES + late;
		double carried = 0;
		for (size_t i = 0; i < each; i++) {
			struct series *series = &all[(size_t)instance * each + i];
			if (series->kind != BUCKET || i % LE_COUNT == 0)
				carried = 0;
			double value = advance(series, &carried);
			if (!quiet)
				add_sample(s, series, value, time);
		}
		if (!quiet && instance % GROUP == GROUP - 1)
			send_body(s);
	}
}

/* One sample of each of many series. */
static void send_active(struct sender *s, const struct options *o)
{
	struct series one = { 0 };
	char name[64], instance[32];
	for (size_t i = 0; i < o->series; i++) {
		one.labels = buf_init(4096);
		snprintf(name, sizeof(name), "%zu", i);
		snprintf(instance, sizeof(instance), "host-%zu:9100", i / 1000);
		add_label(&one.labels, "__name__", "http_requests_total");
		add_label(&one.labels, "id", name);
		add_label(&one.labels, "instance", instance);
		add_label(&one.labels, "job", "node");
		add_label(&one.labels, "method", i & 1 ? "GET" : "POST");
		add_sample(s, &one, (double)i, o->end_ms);
		buf_done(&one.labels);
		if (i % ACTIVE_BODY == ACTIVE_BODY - 1 || i + 1 == o->series)
			send_body(s);
	}
}

static uint64_t count_option(const char *name, const char *text, uint64_t max)
{
	uint64_t value = 0;
	if (!text || !str_to_u64(str_c(text), &value) || value > max) {
		fprintf(stderr, "%s wants a number of at most %llu\n", name,
			(unsigned long long)max);
		exit(2);
	}
	return value;
}

static struct options read_options(int argc, char **argv)
{
	struct options o = { .series = 20000, .steps = 1440, .interval_ms = 15000 };
	o.end_ms = (int64_t)time(NULL) * 1000;
	for (int i = 1; i < argc; i++) {
		const char *word = argv[i], *next = i + 1 < argc ? argv[i + 1] : NULL;
		if (strcmp(word, "--active") == 0) {
			o.active = true;
			continue;
		}
		if (word[0] != '-') {
			o.url = word;
			continue;
		}
		i++;
		if (strcmp(word, "--series") == 0)
			o.series = count_option(word, next, 5000000);
		else if (strcmp(word, "--steps") == 0)
			o.steps = count_option(word, next, 1000000);
		else if (strcmp(word, "--from") == 0)
			o.from = count_option(word, next, 1000000);
		else if (strcmp(word, "--interval") == 0)
			o.interval_ms = (int64_t)count_option(word, next, 86400000);
		else if (strcmp(word, "--end") == 0)
			o.end_ms = (int64_t)count_option(word, next, INT64_MAX);
		else if (strcmp(word, "--token") == 0)
			o.token = next;
		else
			o.url = NULL;
	}
	if (!o.url || !o.series || o.series % (INSTANCES * 4 * LE_COUNT)) {
		fprintf(stderr, "usage: bench-write-load URL [--series N, a multiple of %d] …\n",
			INSTANCES * 4 * LE_COUNT);
		exit(2);
	}
	return o;
}

int main(int argc, char **argv)
{
	struct options o = read_options(argc, argv);
	struct sender s;
	struct timespec begun, ended;
	curl_global_init(CURL_GLOBAL_DEFAULT);
	sender_init(&s, &o);
	clock_gettime(CLOCK_MONOTONIC, &begun);
	if (o.active) {
		send_active(&s, &o);
	} else {
		struct series *all = make_series(o.series);
		for (size_t step = 0; step < o.steps; step++)
			send_step(&s, &o, all, step, step < o.from);
	}
	clock_gettime(CLOCK_MONOTONIC, &ended);
	printf("samples %llu bodies %llu bytes %llu seconds %.3f refused %llu\n",
	       (unsigned long long)s.samples, (unsigned long long)s.bodies,
	       (unsigned long long)s.bytes,
	       (double)(ended.tv_sec - begun.tv_sec) +
		       (double)(ended.tv_nsec - begun.tv_nsec) / 1e9,
	       (unsigned long long)s.refused);
	return s.refused != 0;
}
