/* Whatever a segment of the log holds: groups come in order and whole, and every byte is either of
 * one or called bad or torn. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/checks.h"
#include "codec/crc32c.h"
#include "store/wal_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static errc look_at_group(void *ctx, struct wal_group *group, struct err *e)
{
	uint64_t *last = ctx;
	struct wal_record record;
	size_t sum = 0, count = 0;
	(void)e;
	must(group->sequence > *last);
	*last = group->sequence;
	for (; wal_group_record(group, &record); count++)
		for (size_t i = 0; i < record.bytes.len; i++)
			sum += (uint8_t)record.bytes.ptr[i];
	must(count > 0 && group->next == group->end);
	return sum == SIZE_MAX ? ERR_INTERNAL : OK;
}

static void read_segment(const uint8_t *bytes, size_t len)
{
	struct wal_header header = { .number = 1, .log_id = 1 };
	struct wal_report report = { 0 };
	uint32_t version;
	uint64_t last = 0;
	struct err e;
	if (len >= WAL_GROUPS_BEGIN && !wal_header_decode(bytes, &header, &version))
		header.log_id = 1;
	int fd = memfd_create("segment", MFD_CLOEXEC);
	must(fd >= 0 && write(fd, bytes, len) == (ssize_t)len);
	struct wal_reading reading = { .fd = fd,
				       .size = len,
				       .name = "segment",
				       .header = header,
				       .torn_from = UINT64_MAX,
				       .replay = look_at_group,
				       .ctx = &last,
				       .report = &report };
	must(wal_segment_read(&reading, &e) == OK);
	must(reading.end <= len && report.bad_bytes + report.torn_bytes <= len);
	must(reading.last == last && reading.unseen_bytes == len - reading.end);
	close(fd);
}

/* Set every checksum right, so that what is behind them is met. */
static void seal(uint8_t *bytes, size_t len)
{
	struct wal_header header = { .number = 1, .log_id = 1, .first = 1 };
	wal_header_encode(&header, bytes);
	for (size_t at = WAL_GROUPS_BEGIN; len - at >= WAL_GROUP_HEADER;) {
		struct wal_group_header group = {
			.payload_len = get_u32(bytes + at + 8) & ~7U,
			.record_count = get_u32(bytes + at + 12),
			.sequence = get_u64(bytes + at + 16),
		};
		size_t left = len - at - WAL_GROUP_HEADER;
		size_t payload = group.payload_len < left ? group.payload_len : left & ~(size_t)7;
		const char *begin = (const char *)bytes + at + WAL_GROUP_HEADER;
		group.payload_crc = crc32c(0, (str){ begin, payload });
		wal_group_header_encode(&group, wal_group_seed(1, 1, at), bytes + at);
		at += WAL_GROUP_HEADER + payload;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	read_segment(bytes, len);
	if (len < WAL_GROUPS_BEGIN || len > 1 << 20)
		return 0;
	uint8_t *copy = must_realloc(NULL, len);
	memcpy(copy, bytes, len);
	seal(copy, len);
	read_segment(copy, len);
	free(copy);
	return 0;
}
