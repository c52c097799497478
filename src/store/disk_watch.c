#include "store/disk_watch.h"

#include <string.h>

#include "base/checks.h"
#include "base/units.h"
#include "os/io.h"

static const int64_t RESERVE_MAX = (int64_t)2 << 30;
enum { RESERVE_PERCENT = 5 };

static int64_t bytes_of(uint64_t blocks, uint64_t block_size)
{
	uint64_t bytes;
	if (__builtin_mul_overflow(blocks, block_size, &bytes) || bytes > INT64_MAX)
		return INT64_MAX;
	return (int64_t)bytes;
}

errc disk_watch_init(struct disk_watch *d, const char *folder, int64_t reserve_bytes, struct err *e)
{
	must(reserve_bytes >= 0);
	memset(d, 0, sizeof(*d));
	if (!str_copy(str_c(folder), d->folder, sizeof(d->folder)))
		FAIL(e, ERR_LIMIT, "the path %.60s… is too long", folder);
	d->reserve_bytes = reserve_bytes;
	return disk_watch_check(d, e);
}

errc disk_watch_check(struct disk_watch *d, struct err *e)
{
	struct statvfs st;
	if (io->statvfs(d->folder, &st) < 0)
		FAIL_ERRNO(e, "cannot see how full the disk of %s is", d->folder);
	int64_t size = bytes_of(st.f_blocks, st.f_frsize);
	int64_t free_bytes = bytes_of(st.f_bavail, st.f_frsize);
	int64_t reserve = d->reserve_bytes;
	if (reserve == 0) {
		reserve = size / 100 * RESERVE_PERCENT;
		if (reserve > RESERVE_MAX)
			reserve = RESERVE_MAX;
	}
	bool was = __atomic_load_n(&d->read_only, __ATOMIC_RELAXED);
	bool read_only = was ? free_bytes <= reserve + reserve / 5 : free_bytes < reserve;
	__atomic_store_n(&d->size_bytes, size, __ATOMIC_RELAXED);
	__atomic_store_n(&d->free_bytes, free_bytes, __ATOMIC_RELAXED);
	__atomic_store_n(&d->limit_bytes, reserve, __ATOMIC_RELAXED);
	__atomic_store_n(&d->read_only, read_only, __ATOMIC_RELEASE);
	return OK;
}

bool disk_watch_is_read_only(const struct disk_watch *d)
{
	return __atomic_load_n(&d->read_only, __ATOMIC_ACQUIRE);
}

int64_t disk_watch_free(const struct disk_watch *d)
{
	return __atomic_load_n(&d->free_bytes, __ATOMIC_RELAXED);
}

int64_t disk_watch_reserve(const struct disk_watch *d)
{
	return __atomic_load_n(&d->limit_bytes, __ATOMIC_RELAXED);
}

errc disk_watch_writable(const struct disk_watch *d, struct err *e)
{
	if (!disk_watch_is_read_only(d))
		return OK;
	char free_text[UNIT_TEXT_SIZE], reserve[UNIT_TEXT_SIZE];
	FAIL(e, ERR_UNAVAILABLE,
	     "the disk of %s is nearly full: %s are free and %s are kept in reserve; free some "
	     "space, and writing goes on by itself",
	     d->folder, size_format(disk_watch_free(d), free_text),
	     size_format(disk_watch_reserve(d), reserve));
}

bool disk_watch_has_room(const struct disk_watch *d, uint64_t bytes)
{
	int64_t above = disk_watch_free(d) - disk_watch_reserve(d);
	return above > 0 && bytes <= (uint64_t)above;
}
