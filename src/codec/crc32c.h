/*
 * CRC-32C (Castagnoli), the checksum of every stored block. With SSE 4.2 where the processor has
 * it.
 *
 * Source: RFC 3720, appendix B.4.
 */
#pragma once

#include "base/str.h"

/*
 * The checksum of BYTES, or, with the checksum of what came before as SEED, of both together.
 * A first SEED is 0.
 */
uint32_t crc32c(uint32_t seed, str bytes);

/* The same by tables, as processors without the instruction compute it. */
uint32_t crc32c_portable(uint32_t seed, str bytes);
