#include "codec/wire.h"

/* A scalar is taken by making its field an empty packed one. */
static void taken(struct wire_field *f)
{
	f->key = WIRE_KEY(wire_number(f), WIRE_BYTES);
	f->bytes = (str){ "", 0 };
}

/* The packed values of F; what is left of them after a read is put back by rest(). */
static bool rest(struct reader *r, struct wire_field *f, const struct reader *packed)
{
	f->bytes = (str){ (const char *)packed->at, reader_left(packed) };
	if (packed->failed)
		reader_fail(r);
	return !packed->failed;
}

bool wire_next_varint(struct reader *r, struct wire_field *f, uint64_t *ret_value)
{
	if (wire_type(f) == WIRE_VARINT) {
		*ret_value = f->value;
		taken(f);
		return true;
	}
	if (wire_type(f) != WIRE_BYTES || f->bytes.len == 0)
		return false;
	struct reader packed = wire_message(f);
	uint64_t value = reader_varint(&packed);
	if (!rest(r, f, &packed))
		return false;
	*ret_value = value;
	return true;
}

bool wire_next_fixed64(struct reader *r, struct wire_field *f, uint64_t *ret_value)
{
	if (wire_type(f) == WIRE_FIXED64) {
		*ret_value = f->value;
		taken(f);
		return true;
	}
	if (wire_type(f) != WIRE_BYTES || f->bytes.len == 0)
		return false;
	struct reader packed = wire_message(f);
	uint64_t value = reader_u64(&packed);
	if (!rest(r, f, &packed))
		return false;
	*ret_value = value;
	return true;
}

bool wire_next_fixed32(struct reader *r, struct wire_field *f, uint32_t *ret_value)
{
	if (wire_type(f) == WIRE_FIXED32) {
		*ret_value = (uint32_t)f->value;
		taken(f);
		return true;
	}
	if (wire_type(f) != WIRE_BYTES || f->bytes.len == 0)
		return false;
	struct reader packed = wire_message(f);
	uint32_t value = reader_u32(&packed);
	if (!rest(r, f, &packed))
		return false;
	*ret_value = value;
	return true;
}

bool wire_next_double(struct reader *r, struct wire_field *f, double *ret_value)
{
	uint64_t bits;
	if (!wire_next_fixed64(r, f, &bits))
		return false;
	memcpy(ret_value, &bits, sizeof(bits));
	return true;
}

void wire_add_varint(struct buf *b, uint32_t number, uint64_t value)
{
	buf_add_varint(b, WIRE_KEY(number, WIRE_VARINT));
	buf_add_varint(b, value);
}

void wire_add_int(struct buf *b, uint32_t number, int64_t value)
{
	wire_add_varint(b, number, (uint64_t)value);
}

void wire_add_sint(struct buf *b, uint32_t number, int64_t value)
{
	wire_add_varint(b, number, zigzag(value));
}

void wire_add_fixed32(struct buf *b, uint32_t number, uint32_t value)
{
	buf_add_varint(b, WIRE_KEY(number, WIRE_FIXED32));
	buf_add_u32(b, value);
}

void wire_add_fixed64(struct buf *b, uint32_t number, uint64_t value)
{
	buf_add_varint(b, WIRE_KEY(number, WIRE_FIXED64));
	buf_add_u64(b, value);
}

void wire_add_double(struct buf *b, uint32_t number, double value)
{
	uint64_t bits;
	memcpy(&bits, &value, sizeof(bits));
	wire_add_fixed64(b, number, bits);
}

void wire_add_bytes(struct buf *b, uint32_t number, str bytes)
{
	buf_add_varint(b, WIRE_KEY(number, WIRE_BYTES));
	buf_add_varint(b, bytes.len);
	buf_add(b, bytes);
}

size_t wire_begin(struct buf *b, uint32_t number)
{
	buf_add_varint(b, WIRE_KEY(number, WIRE_BYTES));
	buf_add_byte(b, 0);
	return b->len;
}

void wire_end(struct buf *b, size_t mark)
{
	if (b->overflow)
		return;
	size_t len = b->len - mark;
	size_t more = varint_size(len) - 1;
	if (more) {
		if (!buf_reserve(b, more))
			return;
		memmove(b->ptr + mark + more, b->ptr + mark, len);
		b->len += more;
		b->ptr[b->len] = '\0';
	}
	varint_put((uint8_t *)b->ptr + mark - 1, len);
}
