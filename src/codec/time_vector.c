#include "codec/time_vector.h"

#include "base/checks.h"
#include "codec/vector_internal.h"

size_t time_vector_encode(const time_ms *times, size_t n, enum vector_level level,
			  struct vector_scratch *scratch, struct buf *into)
{
	must(n >= 1 && n <= VECTOR_LEN_MAX);
	memcpy(scratch->integers, times, n * sizeof(*times));
	size_t size = int_vector_encode(n, level, scratch, scratch->out);
	buf_add(into, (str){ (const char *)scratch->out, size });
	return into->overflow ? 0 : size;
}

errc time_vector_decode(struct reader *r, size_t n, time_ms *times, struct vector_scratch *scratch,
			struct err *e)
{
	must(n >= 1 && n <= VECTOR_LEN_MAX);
	if (!int_vector_decode(r, n, scratch)) {
		reader_fail(r);
		FAIL(e, ERR_CORRUPT, "a vector of %zu timestamps is damaged", n);
	}
	memcpy(times, scratch->integers, n * sizeof(*times));
	return OK;
}
