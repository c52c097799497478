#include "metrics/series_key.h"

#include <pthread.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "os/clock.h"

/* Seeded, so that nobody outside can choose labels that collide. */
static uint64_t hash_seed;

static void make_seed(void)
{
	entropy_fill(&hash_seed, sizeof(hash_seed));
}

size_t series_key_size(const struct labels *l)
{
	size_t size = varint_size(l->count);
	for (size_t i = 0; i < l->count; i++)
		size += varint_size(l->items[i].name.len) + l->items[i].name.len +
			varint_size(l->items[i].value.len) + l->items[i].value.len;
	return size;
}

static size_t put_str(uint8_t *dst, str s)
{
	size_t n = varint_put(dst, s.len);
	if (s.len)
		memcpy(dst + n, s.ptr, s.len);
	return n + s.len;
}

size_t series_key_put(uint8_t *dst, const struct labels *l)
{
	size_t n = varint_put(dst, l->count);
	for (size_t i = 0; i < l->count; i++) {
		n += put_str(dst + n, l->items[i].name);
		n += put_str(dst + n, l->items[i].value);
	}
	return n;
}

uint64_t series_key_hash(str key)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, make_seed);
	return XXH3_64bits_withSeed(key.ptr ? key.ptr : "", key.len, hash_seed);
}

size_t series_key_labels(str key, struct label items[static LABELS_COUNT_MAX])
{
	struct reader r = reader_init(key);
	uint64_t count = reader_varint(&r);
	if (count > LABELS_COUNT_MAX)
		return SIZE_MAX;
	for (uint64_t i = 0; i < count; i++) {
		items[i].name = reader_bytes(&r, (size_t)reader_varint(&r));
		items[i].value = reader_bytes(&r, (size_t)reader_varint(&r));
		if (!items[i].name.len || !items[i].value.len ||
		    (i && str_cmp(items[i - 1].name, items[i].name) >= 0))
			reader_fail(&r);
	}
	return r.failed || reader_left(&r) ? SIZE_MAX : (size_t)count;
}

str series_key_get(str key, str name)
{
	struct reader r = reader_init(key);
	uint64_t count = reader_varint(&r);
	for (uint64_t i = 0; i < count && !r.failed; i++) {
		str at = reader_bytes(&r, (size_t)reader_varint(&r));
		str value = reader_bytes(&r, (size_t)reader_varint(&r));
		if (str_eq(at, name))
			return value;
	}
	return STR("");
}

int series_key_cmp(str a, str b)
{
	struct reader x = reader_init(a), y = reader_init(b);
	uint64_t m = reader_varint(&x), n = reader_varint(&y);
	for (uint64_t i = 0; i < m && i < n; i++) {
		for (int part = 0; part < 2; part++) {
			int order = str_cmp(reader_bytes(&x, (size_t)reader_varint(&x)),
					    reader_bytes(&y, (size_t)reader_varint(&y)));
			if (order)
				return order;
		}
	}
	return (m > n) - (m < n);
}
