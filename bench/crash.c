/*
 * kill -9 under load: a child writes, flushes and merges until it is killed at a random moment;
 * then the engine is opened here, and every sample that was acknowledged must be there, with its
 * value. The same data folder lives through all rounds.
 *
 *     bench-crash [ROUNDS [SEED]]        1,000 rounds; ends with 1 when something was lost
 */
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/checks.h"
#include "metrics/metrics.h"
#include "os/clock.h"
#include "os/io.h"

enum {
	ROUNDS = 1000,
	WRITERS = 2,
	SERIES = 8,            /* of each writer, besides one that is new in each round */
	ROUND_US_MAX = 150000, /* until it is killed */
	WHOLE_EVERY = 50,      /* rounds between two looks at everything */
	WRITE_PAUSE_US = 200,
	HISTORY_MS = 3600000,
};

/* What the child had acknowledged; it outlives the child. */
struct told {
	uint64_t acknowledged[WRITERS]; /* atomic: the next number */
};

static struct told *told;
static char folder[64];
static time_ms start;
static uint64_t random_state;

static uint64_t random_u64(void)
{
	uint64_t z = (random_state += 0x9e3779b97f4a7c15u);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static _Noreturn void give_up(const char *what, const struct err *e)
{
	fprintf(stderr, "bench-crash: %s: %s\n", what, e->message);
	_exit(2);
}

static struct metrics *open_engine(void)
{
	struct metrics_options options = { .folder = folder,
					   .disk_reserve_bytes = 1,
					   .memory_bytes_max = (size_t)64 << 20 };
	struct metrics *m = NULL;
	struct err e = { .code = OK };
	if (metrics_open(&options, &m, &e) != OK)
		give_up("it does not open", &e);
	return m;
}

/* ---- The child. */

static struct metrics *engine;

static errc gather(struct metrics_batch *b, const char *name, unsigned writer, unsigned index,
		   uint64_t n, struct err *e)
{
	char w[16], i[16];
	snprintf(w, sizeof(w), "%u", writer);
	snprintf(i, sizeof(i), "%u", index);
	struct label items[] = { { STR(LABEL_METRIC_NAME), str_c(name) },
				 { STR("index"), str_c(i) },
				 { STR("writer"), str_c(w) } };
	const struct labels labels = { items, 3 };
	metrics_ref ref = 0;
	TRY(metrics_batch_series(b, &labels, &ref, e));
	if (!metrics_batch_sample(b, ref, start + (time_ms)n, (double)n))
		FAIL(e, ERR_INTERNAL, "a series just made is not known");
	return OK;
}

static void *write_on(void *arg)
{
	unsigned writer = *(unsigned *)arg;
	struct metrics_batch *b = metrics_batch_new(engine, STR("crash"), 0);
	struct err e = { .code = OK };
	uint64_t first = told->acknowledged[writer];
	for (uint64_t n = first;; n++) {
		struct metrics_batch_result result;
		errc rc = OK;
		for (unsigned i = 0; i < SERIES && rc == OK; i++)
			rc = gather(b, "steady", writer, i, n, &e);
		if (n == first && rc == OK)
			rc = gather(b, "fresh", writer, (unsigned)n, n, &e);
		if (rc == OK)
			rc = metrics_batch_commit(b, &result, &e);
		if (rc != OK)
			give_up("a commit failed", &e);
		__atomic_store_n(&told->acknowledged[writer], n + 1, __ATOMIC_RELEASE);
		usleep(WRITE_PAUSE_US);
	}
	return NULL;
}

static _Noreturn void run_child(void)
{
	static unsigned indexes[WRITERS];
	struct err e = { .code = OK };
	engine = open_engine();
	for (unsigned i = 0; i < WRITERS; i++) {
		pthread_t thread;
		indexes[i] = i;
		must(pthread_create(&thread, NULL, write_on, &indexes[i]) == 0);
	}
	for (uint64_t n = 0;; n++) {
		bool more;
		errc rc = metrics_tick(engine, &more, &e);
		if (rc == OK && random_u64() % 4 == 0)
			rc = metrics_flush(engine, random_u64() % 4 == 0, &e);
		if (rc != OK)
			give_up("the keeper failed", &e);
		usleep((useconds_t)(random_u64() % 20000));
	}
}

/* ---- What must be there. */

/* Samples of the writer's numbers [from, to) in one series; how many are wrong or missing. */
static uint64_t check_series(struct metrics *m, const char *name, unsigned writer, uint64_t from,
			     uint64_t to, uint64_t series_count)
{
	char text[16];
	snprintf(text, sizeof(text), "%u", writer);
	const struct matcher matchers[] = {
		{ .type = MATCH_EQUAL, .name = STR(LABEL_METRIC_NAME), .value = str_c(name) },
		{ .type = MATCH_EQUAL, .name = STR("writer"), .value = str_c(text) },
	};
	struct metrics_query query = { .matchers = matchers,
				       .matcher_count = 2,
				       .from = start + (time_ms)from,
				       .to = start + (time_ms)to - 1 };
	struct metrics_samples samples = { 0 };
	struct metrics_selection *s = NULL;
	struct err e = { .code = OK };
	uint64_t wrong = 0, found = 0, expected = (to - from) * series_count;
	if (metrics_select(m, &query, &s, &e) != OK)
		give_up("the selection failed", &e);
	for (size_t i = 0; i < metrics_selection_count(s); i++) {
		if (metrics_selection_read(s, i, query.from, query.to, &samples, &e) != OK)
			give_up("a read failed", &e);
		found += samples.count;
		for (size_t k = 0; k < samples.count; k++)
			wrong += samples.values[k] != (double)(samples.times[k] - start);
	}
	metrics_samples_done(&samples);
	metrics_selection_free(s);
	return wrong + (found < expected ? expected - found : 0);
}

static uint64_t check(const uint64_t from[static WRITERS])
{
	struct metrics *m = open_engine();
	uint64_t lost = 0;
	for (unsigned w = 0; w < WRITERS; w++) {
		uint64_t to = told->acknowledged[w];
		if (to == from[w])
			continue;
		lost += check_series(m, "steady", w, from[w], to, SERIES);
		/* the first commit of the round made this one */
		lost += check_series(m, "fresh", w, from[w], from[w] + 1, 1);
	}
	metrics_close(m);
	return lost;
}

static void run_round(void)
{
	pid_t child = fork();
	must(child >= 0);
	if (child == 0)
		run_child();
	usleep((useconds_t)(random_u64() % ROUND_US_MAX));
	int status = 0;
	kill(child, SIGKILL);
	must(waitpid(child, &status, 0) == child);
	if (!WIFSIGNALED(status))
		exit(2); /* it said why */
}

int main(int argc, char **argv)
{
	unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : ROUNDS;
	uint64_t lost = 0, total = 0, before[WRITERS] = { 0 };
	static const uint64_t beginning[WRITERS];
	random_state = argc > 2 ? strtoull(argv[2], NULL, 10) : (uint64_t)clock_now();
	printf("seed %" PRIu64 "\n", random_state);
	fflush(stdout);
	snprintf(folder, sizeof(folder), "/tmp/hf-crash-XXXXXX");
	must(mkdtemp(folder));
	told = mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(told != MAP_FAILED);
	start = clock_now() - HISTORY_MS;
	for (unsigned long i = 0; i < rounds && !lost; i++) {
		for (unsigned w = 0; w < WRITERS; w++)
			before[w] = told->acknowledged[w];
		run_round();
		lost += check(i % WHOLE_EVERY == 0 || i + 1 == rounds ? beginning : before);
		if (lost)
			printf("round %lu: %" PRIu64
			       " acknowledged samples are lost; the data is in "
			       "%s\n",
			       i + 1, lost, folder);
	}
	for (unsigned w = 0; w < WRITERS; w++)
		total += told->acknowledged[w] * SERIES;
	printf("%lu rounds, %" PRIu64 " acknowledged samples, %" PRIu64 " lost\n", rounds, total,
	       lost);
	if (!lost)
		(void)!io_remove_tree(folder, NULL);
	return lost != 0;
}
