/* Stored values: the first two bytes give the count. What is read, written again, reads the same.
 */
#include <stdint.h>
#include <string.h>

#include "base/checks.h"
#include "codec/value_vector.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static struct vector_scratch *scratch;

static void again(const double *values, size_t n, enum vector_level level)
{
	static double back[VECTOR_LEN_MAX];
	struct buf b = buf_init(VECTOR_BYTES_MAX);
	struct err e;
	must(value_vector_encode(values, n, level, scratch, &b));
	struct reader r = reader_init(buf_str(&b));
	must(value_vector_decode(&r, n, back, scratch, &e) == OK);
	must(reader_left(&r) == 0 && memcmp(back, values, n * sizeof(*values)) == 0);
	buf_done(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	static double values[VECTOR_LEN_MAX];
	struct err e;
	if (len < 2)
		return 0;
	if (!scratch)
		scratch = vector_scratch_new();
	size_t n = (size_t)(bytes[0] | bytes[1] << 8) % VECTOR_LEN_MAX + 1;
	struct reader r = reader_init((str){ (const char *)bytes + 2, len - 2 });
	if (value_vector_decode(&r, n, values, scratch, &e) != OK)
		return 0;
	again(values, n, VECTOR_HOT);
	again(values, n, VECTOR_COLD);
	return 0;
}
