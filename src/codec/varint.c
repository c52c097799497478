#include "codec/varint.h"

uint64_t reader_varint_long(struct reader *r)
{
	uint64_t value = 0;
	const uint8_t *at = r->at;
	for (unsigned shift = 0; shift < 64 && at < r->end; shift += 7) {
		uint8_t byte = *at++;
		value |= (uint64_t)(byte & 0x7f) << shift;
		if (byte >= 0x80)
			continue;
		if (shift == 63 && byte > 1)
			break;
		r->at = at;
		return value;
	}
	reader_fail(r);
	return 0;
}

static void add(struct buf *b, const void *bytes, size_t size)
{
	buf_add(b, (str){ bytes, size });
}

void buf_add_u16(struct buf *b, uint16_t value)
{
	add(b, &value, sizeof(value));
}

void buf_add_u32(struct buf *b, uint32_t value)
{
	add(b, &value, sizeof(value));
}

void buf_add_u64(struct buf *b, uint64_t value)
{
	add(b, &value, sizeof(value));
}

void buf_add_varint(struct buf *b, uint64_t value)
{
	uint8_t bytes[VARINT_BYTES_MAX];
	add(b, bytes, varint_put(bytes, value));
}

void buf_add_zigzag(struct buf *b, int64_t value)
{
	buf_add_varint(b, zigzag(value));
}
