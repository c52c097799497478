/* Layout of segments: bytes to structures and back. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "codec/crc32c.h"
#include "store/wal_internal.h"

static const char SEGMENT_MAGIC[8] = "HFWALSEG";
static const uint32_t GROUP_MAGIC = 0x31475748; /* "HWG1" */

struct wal_segment *wal_segments_add(struct wal_segments *s)
{
	if (s->count == s->room) {
		s->room = s->room ? s->room * 2 : 16;
		s->items = must_realloc(s->items, s->room * sizeof(struct wal_segment *));
	}
	struct wal_segment *segment = must_calloc(1, sizeof(*segment));
	segment->fd = -1;
	s->items[s->count++] = segment;
	return segment;
}

void wal_segments_remove(struct wal_segments *s, size_t index)
{
	must(index < s->count);
	s->count--;
	memmove(&s->items[index], &s->items[index + 1],
		(s->count - index) * sizeof(struct wal_segment *));
}

void wal_segments_done(struct wal_segments *s)
{
	for (size_t i = 0; i < s->count; i++)
		free(s->items[i]);
	free(s->items);
	*s = (struct wal_segments){ 0 };
}

errc wal_segment_path(const char *folder, uint64_t number, char path[], size_t size, struct err *e)
{
	int n = snprintf(path, size, "%s/%016llx.wal", folder, (unsigned long long)number);
	if (n < 0 || (size_t)n >= size)
		FAIL(e, ERR_LIMIT, "the path %.60s… is too long", folder);
	return OK;
}

bool wal_segment_number(const char *name, uint64_t *ret_number)
{
	uint64_t number = 0;
	if (strlen(name) != WAL_NAME_LEN || strcmp(name + WAL_NAME_LEN - 4, ".wal") != 0)
		return false;
	for (size_t i = 0; i < WAL_NAME_LEN - 4; i++) {
		const char *digits = "0123456789abcdef", *at = strchr(digits, name[i]);
		if (!at)
			return false;
		number = number << 4 | (uint64_t)(at - digits);
	}
	*ret_number = number;
	return number != 0 && number != UINT64_MAX;
}

/* The checksum of a header copy, its own field taken as 0. */
static uint32_t header_crc(const uint8_t bytes[static WAL_HEADER_BYTES])
{
	static const char zero[4];
	uint32_t crc = crc32c(0, (str){ (const char *)bytes, 12 });
	crc = crc32c(crc, (str){ zero, 4 });
	return crc32c(crc, (str){ (const char *)bytes + 16, WAL_HEADER_BYTES - 16 });
}

void wal_header_encode(const struct wal_header *header, uint8_t bytes[static WAL_GROUPS_BEGIN])
{
	memset(bytes, 0, WAL_GROUPS_BEGIN);
	memcpy(bytes, SEGMENT_MAGIC, 8);
	put_u32(bytes + 8, WAL_VERSION);
	memcpy(bytes + 16, header->engine, strnlen(header->engine, WAL_ENGINE_MAX));
	put_u64(bytes + 32, header->number);
	put_u64(bytes + 40, header->log_id);
	put_u64(bytes + 48, header->first);
	put_u64(bytes + 56, header->previous_number);
	put_u64(bytes + 64, header->previous_end);
	put_u32(bytes + 72, header->flags);
	put_u32(bytes + 12, header_crc(bytes));
	memcpy(bytes + WAL_HEADER_COPY, bytes, WAL_HEADER_BYTES);
}

static bool decode_copy(const uint8_t *bytes, struct wal_header *ret_header, uint32_t *ret_version)
{
	if (memcmp(bytes, SEGMENT_MAGIC, 8) != 0 || get_u32(bytes + 12) != header_crc(bytes))
		return false;
	struct wal_header header = {
		.number = get_u64(bytes + 32),
		.log_id = get_u64(bytes + 40),
		.first = get_u64(bytes + 48),
		.previous_number = get_u64(bytes + 56),
		.previous_end = get_u64(bytes + 64),
		.flags = get_u32(bytes + 72),
	};
	memcpy(header.engine, bytes + 16, WAL_ENGINE_MAX);
	*ret_version = get_u32(bytes + 8);
	*ret_header = header;
	return true;
}

bool wal_header_decode(const uint8_t bytes[static WAL_GROUPS_BEGIN], struct wal_header *ret_header,
		       uint32_t *ret_version)
{
	return decode_copy(bytes, ret_header, ret_version) ||
	       decode_copy(bytes + WAL_HEADER_COPY, ret_header, ret_version);
}

uint32_t wal_group_seed(uint64_t log_id, uint64_t number, uint64_t offset)
{
	char bytes[24];
	put_u64(bytes, log_id);
	put_u64(bytes + 8, number);
	put_u64(bytes + 16, offset);
	return crc32c(0, (str){ bytes, sizeof(bytes) });
}

void wal_group_header_encode(const struct wal_group_header *header, uint32_t seed,
			     uint8_t bytes[static WAL_GROUP_HEADER])
{
	put_u32(bytes, GROUP_MAGIC);
	put_u32(bytes + 8, header->payload_len);
	put_u32(bytes + 12, header->record_count);
	put_u64(bytes + 16, header->sequence);
	put_u32(bytes + 24, header->payload_crc);
	put_u32(bytes + 28, 0);
	put_u32(bytes + 4, crc32c(seed, (str){ (const char *)bytes + 8, WAL_GROUP_HEADER - 8 }));
}

bool wal_group_header_decode(const uint8_t bytes[static WAL_GROUP_HEADER], uint32_t seed,
			     struct wal_group_header *ret_header)
{
	if (get_u32(bytes) != GROUP_MAGIC)
		return false;
	if (get_u32(bytes + 4) !=
	    crc32c(seed, (str){ (const char *)bytes + 8, WAL_GROUP_HEADER - 8 }))
		return false;
	*ret_header = (struct wal_group_header){
		.payload_len = get_u32(bytes + 8),
		.record_count = get_u32(bytes + 12),
		.sequence = get_u64(bytes + 16),
		.payload_crc = get_u32(bytes + 24),
	};
	return ret_header->payload_len <= WAL_GROUP_BYTES_MAX && ret_header->payload_len % 8 == 0 &&
	       ret_header->sequence != 0 && ret_header->sequence < UINT64_MAX / 2;
}

uint64_t wal_payload_len(const struct wal_record *records, size_t count)
{
	uint64_t len = 0;
	for (size_t i = 0; i < count; i++) {
		if (records[i].bytes.len > WAL_GROUP_BYTES_MAX)
			return 0;
		len += WAL_RECORD_HEADER + align8(records[i].bytes.len);
		if (len > WAL_GROUP_BYTES_MAX)
			return 0;
	}
	return len;
}

void wal_payload_encode(const struct wal_record *records, size_t count, uint8_t *payload)
{
	for (size_t i = 0; i < count; i++) {
		size_t len = records[i].bytes.len, padded = align8(len);
		must(records[i].type != 0);
		memset(payload, 0, WAL_RECORD_HEADER);
		put_u32(payload, (uint32_t)len);
		payload[4] = records[i].type;
		payload += WAL_RECORD_HEADER;
		if (len)
			memcpy(payload, records[i].bytes.ptr, len);
		memset(payload + len, 0, padded - len);
		payload += padded;
	}
}

bool wal_group_record(struct wal_group *group, struct wal_record *ret_record)
{
	size_t left = (size_t)(group->end - group->next);
	if (left < WAL_RECORD_HEADER)
		return false;
	uint32_t len = get_u32(group->next);
	uint8_t type = group->next[4];
	if (type == 0 || align8(len) > left - WAL_RECORD_HEADER)
		return false;
	const uint8_t *bytes = group->next + WAL_RECORD_HEADER;
	*ret_record = (struct wal_record){ type, { (const char *)bytes, len } };
	group->next = bytes + align8(len);
	return true;
}

bool wal_payload_check(const uint8_t *payload, size_t len, uint32_t count)
{
	struct wal_group group = { .next = payload, .end = payload + len };
	struct wal_record record;
	uint32_t seen = 0;
	while (wal_group_record(&group, &record))
		seen++;
	return group.next == group.end && seen == count && count > 0;
}
