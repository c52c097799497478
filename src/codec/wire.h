/*
 * Protocol Buffers wire format, without schemas: a reader that walks the fields of a message in
 * place, and a writer.
 *
 *     struct reader r = reader_init(body);
 *     struct wire_field f;
 *     while (wire_next(&r, &f)) {
 *             switch (f.key) {
 *             case WIRE_KEY(1, WIRE_BYTES): series(wire_message(&f)); break;
 *             case WIRE_KEY(2, WIRE_FIXED64): value = wire_double(&f); break;
 *             }                      // any other field, and any other type of these: skipped
 *     }
 *     if (r.failed) …                // malformed
 *
 * Nesting is the caller's: each level is a loop of its own, so a schema bounds it.
 * Limits: field numbers 1..2^29-1. Groups, which nobody sends, are malformed.
 * Source: https://protobuf.dev/programming-guides/encoding/
 */
#pragma once

#include "codec/varint.h"

enum wire_type { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

#define WIRE_KEY(number, type) ((uint32_t)(number) << 3 | (uint32_t)(type))

struct wire_field {
	uint32_t key;   /* WIRE_KEY(number, type) */
	uint64_t value; /* of varint, fixed32 and fixed64 */
	str bytes;      /* of WIRE_BYTES: in the message read */
};

static inline uint32_t wire_number(const struct wire_field *f)
{
	return f->key >> 3;
}

static inline enum wire_type wire_type(const struct wire_field *f)
{
	return (enum wire_type)(f->key & 7);
}

/* The next field; false at the end, and when it is malformed: then R->failed. */
static inline bool wire_next(struct reader *r, struct wire_field *f)
{
	if (r->at == r->end)
		return false;
	uint64_t key = reader_varint(r);
	f->key = (uint32_t)key;
	f->value = 0;
	f->bytes = STR("");
	switch (key & 7) {
	case WIRE_VARINT:
		f->value = reader_varint(r);
		break;
	case WIRE_FIXED64:
		f->value = reader_u64(r);
		break;
	case WIRE_BYTES:
		f->bytes = reader_bytes(r, reader_varint(r));
		break;
	case WIRE_FIXED32:
		f->value = reader_u32(r);
		break;
	default:
		reader_fail(r);
	}
	if (__builtin_expect(key < 8 || key > UINT32_MAX, 0))
		reader_fail(r);
	return !r->failed;
}

/* int64, int32, enum: two's complement. */
static inline int64_t wire_int(const struct wire_field *f)
{
	return (int64_t)f->value;
}

/* sint64, sint32. */
static inline int64_t wire_sint(const struct wire_field *f)
{
	return unzigzag(f->value);
}

/* double, in WIRE_FIXED64. */
static inline double wire_double(const struct wire_field *f)
{
	double value;
	memcpy(&value, &f->value, sizeof(value));
	return value;
}

/* float, in WIRE_FIXED32. */
static inline float wire_float(const struct wire_field *f)
{
	uint32_t bits = (uint32_t)f->value;
	float value;
	memcpy(&value, &bits, sizeof(value));
	return value;
}

/* The message, or the packed values, in a field of WIRE_BYTES. */
static inline struct reader wire_message(const struct wire_field *f)
{
	return reader_init(f->bytes);
}

/*
 * The values of a repeated scalar field, which writers send packed or one by one. Of the field F as
 * wire_next() left it, call until false: gives F's one value, or the next of its packed ones.
 *
 *     case WIRE_KEY(3, WIRE_VARINT):
 *     case WIRE_KEY(3, WIRE_BYTES):
 *             while (wire_next_varint(&r, &f, &v)) …
 *
 * Errors: a malformed packed value sets R->failed.
 */
bool wire_next_varint(struct reader *r, struct wire_field *f, uint64_t *ret_value);
bool wire_next_fixed64(struct reader *r, struct wire_field *f, uint64_t *ret_value);
bool wire_next_fixed32(struct reader *r, struct wire_field *f, uint32_t *ret_value);
bool wire_next_double(struct reader *r, struct wire_field *f, double *ret_value);

/* The writer. An overflow of the buf is its caller's to check, once at the end. */
void wire_add_varint(struct buf *b, uint32_t number, uint64_t value);
void wire_add_int(struct buf *b, uint32_t number, int64_t value);
void wire_add_sint(struct buf *b, uint32_t number, int64_t value);
void wire_add_fixed32(struct buf *b, uint32_t number, uint32_t value);
void wire_add_fixed64(struct buf *b, uint32_t number, uint64_t value);
void wire_add_double(struct buf *b, uint32_t number, double value);
void wire_add_bytes(struct buf *b, uint32_t number, str bytes);
/*
 * A nested message, or packed values: what is added between begin and end is its content.
 * Returns the mark to end it with; they nest.
 * Cost: a content of 128 bytes or more is moved once, to make room for its length.
 */
size_t wire_begin(struct buf *b, uint32_t number);
void wire_end(struct buf *b, size_t mark);
