/*
 * Readers look at a bucket without a lock and look again at its version: a writer makes that odd
 * while it changes the bucket. Growing moves every entry, so it waits until no body is being read:
 * that is what the read-write lock is for, taken once a body.
 */
#define XXH_INLINE_ALL
#include "intake/series_cache.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/checks.h"
#include "os/clock.h"

enum {
	WAYS = 5,
	/* so many entries go to the first bucket before the second is looked at */
	FIRST_FULL = 4,
	BUCKET_BYTES = 128,
	BUCKETS_MIN = 256,
	FULL_PERCENT = 75,
	SECRET_BYTES = 192,
};

struct bucket {
	uint32_t version; /* odd: being written */
	uint32_t recent;  /* a bit a way: used since the last eviction */
	uint64_t low[WAYS], high[WAYS];
	metrics_ref ref[WAYS]; /* 0: free */
};
static_assert(sizeof(struct bucket) == BUCKET_BYTES, "a bucket is two cache lines");

struct series_cache {
	pthread_rwlock_t moving;
	struct bucket *buckets;
	size_t bucket_count; /* a power of two */
	size_t bytes_max;
	size_t count; /* atomic */
	struct metrics *metrics;
	struct metrics_budget budget;
};

static uint8_t secret[SECRET_BYTES];
static pthread_once_t secret_once = PTHREAD_ONCE_INIT;

static void make_secret(void)
{
	entropy_fill(secret, sizeof(secret));
}

static struct bucket *buckets_new(size_t count)
{
	struct bucket *buckets = aligned_alloc(BUCKET_BYTES, count * sizeof(*buckets));
	must(buckets != NULL);
	memset(buckets, 0, count * sizeof(*buckets));
	return buckets;
}

struct series_cache *series_cache_new(struct metrics *m, size_t bytes_max)
{
	struct series_cache *c = must_calloc(1, sizeof(*c));
	pthread_once(&secret_once, make_secret);
	must(pthread_rwlock_init(&c->moving, NULL) == 0);
	c->bucket_count = BUCKETS_MIN;
	c->buckets = buckets_new(c->bucket_count);
	c->bytes_max = bytes_max;
	c->metrics = m;
	return c;
}

static void charge_back(struct series_cache *c, size_t bytes)
{
	struct err e;
	if (c->metrics) /* giving back cannot fail */
		must(metrics_charge(c->metrics, &c->budget, -(int64_t)bytes, &e) == OK);
}

void series_cache_free(struct series_cache *c)
{
	if (!c)
		return;
	if (c->bucket_count > BUCKETS_MIN)
		charge_back(c, c->bucket_count * BUCKET_BYTES);
	pthread_rwlock_destroy(&c->moving);
	free(c->buckets);
	free(c);
}

size_t series_cache_count(const struct series_cache *c)
{
	return __atomic_load_n(&c->count, __ATOMIC_RELAXED);
}

size_t series_cache_bytes(const struct series_cache *c)
{
	return __atomic_load_n(&c->bucket_count, __ATOMIC_RELAXED) * BUCKET_BYTES;
}

struct series_hash series_hash_of(const void *bytes, size_t len)
{
	XXH128_hash_t h = XXH3_128bits_withSecret(bytes, len, secret, sizeof(secret));
	return (struct series_hash){ h.low64, h.high64 };
}

static struct bucket *first_of(const struct series_cache *c, struct series_hash h)
{
	return &c->buckets[h.high & (c->bucket_count - 1)];
}

static struct bucket *second_of(const struct series_cache *c, struct series_hash h)
{
	return &c->buckets[(h.high >> 32 ^ h.low >> 32) & (c->bucket_count - 1)];
}

/* How many entries are in use. */
static unsigned used_of(const struct bucket *b)
{
	unsigned used = 0;
	for (int i = 0; i < WAYS; i++)
		used += __atomic_load_n(&b->ref[i], __ATOMIC_RELAXED) != 0;
	return used;
}

/* Which way holds HASH, or -1. */
static int find(const struct bucket *b, struct series_hash h)
{
	for (int i = 0; i < WAYS; i++)
		if (__atomic_load_n(&b->low[i], __ATOMIC_ACQUIRE) == h.low &&
		    __atomic_load_n(&b->high[i], __ATOMIC_ACQUIRE) == h.high)
			return i;
	return -1;
}

void series_cache_prefetch(const struct series_cache *c, struct series_hash hash)
{
	const char *bucket = (const char *)first_of(c, hash);
	__builtin_prefetch(bucket);
	__builtin_prefetch(bucket + BUCKET_BYTES / 2);
}

static metrics_ref get_from(struct bucket *b, struct series_hash hash)
{
	uint32_t version = __atomic_load_n(&b->version, __ATOMIC_ACQUIRE);
	int way = find(b, hash);
	if (way < 0)
		return 0;
	metrics_ref ref = __atomic_load_n(&b->ref[way], __ATOMIC_ACQUIRE);
	/* being written: a miss costs a lookup by labels, and is right */
	if ((version & 1) || __atomic_load_n(&b->version, __ATOMIC_RELAXED) != version)
		return 0;
	uint32_t bit = 1u << way;
	if (!(__atomic_load_n(&b->recent, __ATOMIC_RELAXED) & bit))
		__atomic_fetch_or(&b->recent, bit, __ATOMIC_RELAXED);
	return ref;
}

metrics_ref series_cache_get(struct series_cache *c, struct series_hash hash)
{
	metrics_ref ref = get_from(first_of(c, hash), hash);
	return ref ? ref : get_from(second_of(c, hash), hash);
}

static void lock_bucket(struct bucket *b)
{
	for (;;) {
		uint32_t version = __atomic_load_n(&b->version, __ATOMIC_RELAXED);
		if (!(version & 1) &&
		    __atomic_compare_exchange_n(&b->version, &version, version + 1, true,
						__ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
			return;
		__builtin_ia32_pause();
	}
}

static void unlock_bucket(struct bucket *b)
{
	__atomic_fetch_add(&b->version, 1, __ATOMIC_RELEASE);
}

/* The way for a new entry: a free one, else one not used since all had been. */
static int make_room(struct bucket *b, struct series_hash hash)
{
	for (int i = 0; i < WAYS; i++)
		if (!b->ref[i])
			return i;
	uint32_t recent = __atomic_load_n(&b->recent, __ATOMIC_RELAXED);
	for (int i = 0; i < WAYS; i++)
		if (!(recent & (1u << i)))
			return i;
	__atomic_store_n(&b->recent, 0, __ATOMIC_RELAXED);
	return (int)(hash.low % WAYS);
}

/* Returns whether an entry was added rather than replaced. */
static bool put_into(struct bucket *b, struct series_hash hash, metrics_ref ref)
{
	lock_bucket(b);
	int way = find(b, hash);
	if (way < 0)
		way = make_room(b, hash);
	bool added = !b->ref[way];
	__atomic_store_n(&b->low[way], hash.low, __ATOMIC_RELEASE);
	__atomic_store_n(&b->high[way], hash.high, __ATOMIC_RELEASE);
	__atomic_store_n(&b->ref[way], ref, __ATOMIC_RELEASE);
	__atomic_fetch_or(&b->recent, 1u << way, __ATOMIC_RELAXED);
	unlock_bucket(b);
	return added;
}

static struct bucket *bucket_for(const struct series_cache *c, struct series_hash hash)
{
	struct bucket *first = first_of(c, hash), *second = second_of(c, hash);
	if (find(second, hash) >= 0)
		return second;
	unsigned used = used_of(first);
	if (used < FIRST_FULL || find(first, hash) >= 0)
		return first;
	return used_of(second) < used ? second : first;
}

void series_cache_put(struct series_cache *c, struct series_hash hash, metrics_ref ref)
{
	must(ref != 0);
	if (put_into(bucket_for(c, hash), hash, ref))
		__atomic_fetch_add(&c->count, 1, __ATOMIC_RELAXED);
}

static bool is_full(const struct series_cache *c)
{
	return series_cache_count(c) >= c->bucket_count * WAYS * FULL_PERCENT / 100 &&
	       c->bucket_count * BUCKET_BYTES * 2 <= c->bytes_max;
}

/* Twice the buckets. When the engine has no memory for them the cache stays as it is. */
static void grow(struct series_cache *c)
{
	struct err e;
	size_t bytes = c->bucket_count * 2 * BUCKET_BYTES;
	if (c->metrics && metrics_charge(c->metrics, &c->budget, (int64_t)bytes, &e) != OK)
		return;
	struct series_cache bigger = *c;
	bigger.bucket_count = c->bucket_count * 2;
	bigger.buckets = buckets_new(bigger.bucket_count);
	size_t count = 0;
	for (size_t i = 0; i < c->bucket_count; i++) {
		const struct bucket *b = &c->buckets[i];
		for (int way = 0; way < WAYS; way++) {
			struct series_hash hash = { b->low[way], b->high[way] };
			if (b->ref[way])
				count += put_into(bucket_for(&bigger, hash), hash, b->ref[way]);
		}
	}
	if (c->bucket_count > BUCKETS_MIN)
		charge_back(c, c->bucket_count * BUCKET_BYTES);
	free(c->buckets);
	c->buckets = bigger.buckets;
	__atomic_store_n(&c->bucket_count, bigger.bucket_count, __ATOMIC_RELAXED);
	__atomic_store_n(&c->count, count, __ATOMIC_RELAXED);
}

void series_cache_enter(struct series_cache *c)
{
	must(pthread_rwlock_rdlock(&c->moving) == 0);
	if (!is_full(c))
		return;
	pthread_rwlock_unlock(&c->moving);
	must(pthread_rwlock_wrlock(&c->moving) == 0);
	if (is_full(c))
		grow(c);
	pthread_rwlock_unlock(&c->moving);
	must(pthread_rwlock_rdlock(&c->moving) == 0);
}

void series_cache_leave(struct series_cache *c)
{
	pthread_rwlock_unlock(&c->moving);
}
