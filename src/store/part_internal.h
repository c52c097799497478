/* The layout of a part, for its writer and its reader. Format: docs/format/store.md. */
#pragma once

#include "codec/crc32c.h"
#include "store/part_file.h"
#include "store/store_internal.h"

enum {
	PART_VERSION = 1,
	PART_HEADER_BYTES = 64,
	PART_TRAILER_BYTES = 64,
	PART_TABLE_ENTRY = 8, /* length, checksum */
};

#define PART_ENDING ".part"
#define PART_TEMPORARY ".tmp"

extern const char part_header_magic[8];
extern const char part_trailer_magic[8];

struct part_header {
	char kind[PART_KIND_MAX + 1];
	uint32_t version, kind_version;
};

/* Where one copy of table and META lies. */
struct part_trailer {
	uint64_t copy_offset, file_bytes;
	uint32_t block_count, meta_len, copy_crc;
};

void part_header_encode(const struct part_header *header, uint8_t bytes[static PART_HEADER_BYTES]);
bool part_header_decode(const uint8_t bytes[static PART_HEADER_BYTES], struct part_header *ret);
void part_trailer_encode(const struct part_trailer *trailer,
			 uint8_t bytes[static PART_TRAILER_BYTES]);
bool part_trailer_decode(const uint8_t bytes[static PART_TRAILER_BYTES], struct part_trailer *ret);

/* Table and META of a copy, padded to 8. */
static inline uint64_t part_copy_len(uint32_t block_count, uint32_t meta_len)
{
	return align8((uint64_t)block_count * PART_TABLE_ENTRY + meta_len);
}

/* A block's checksum depends on its place, so that no block passes for another. */
static inline uint32_t part_block_seed(uint32_t index)
{
	return index * 0x9e3779b1U + 1;
}

/* Whether NAME is a plain file name that ends in `.part`. */
bool part_name_is_valid(const char *name);
