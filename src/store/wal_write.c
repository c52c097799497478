/* Segments as they are written: begun, appended to, left; see wal.h for what happens when a call
 * fails. Everything here runs with the log's lock held. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "os/io.h"
#include "store/wal_internal.h"

enum { NUMBERS_TRIED = 16 };

/* 0, or the errno of the write that failed. */
static int write_fully(int fd, const uint8_t *bytes, size_t len)
{
	while (len) {
		ssize_t n = io->write(fd, bytes, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n == 0 ? ENOSPC : errno;
		bytes += n;
		len -= (size_t)n;
	}
	return 0;
}

/* A file of an unused number; one that an earlier failure could not remove is passed over. */
static errc create_file(struct wal *w, char path[IO_PATH_MAX], int *ret_fd, struct err *e)
{
	for (int i = 0; i < NUMBERS_TRIED; i++) {
		TRY(wal_segment_path(w->folder, w->number_next, path, IO_PATH_MAX, e));
		int fd = io->open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND, 0600);
		if (fd >= 0) {
			*ret_fd = fd;
			return OK;
		}
		if (errno != EEXIST)
			break;
		w->number_next++;
	}
	FAIL_ERRNO(e, "cannot create %s", path);
}

/* The segment before; one that never got its header holds nothing to be said of. */
static const struct wal_segment *last_written(const struct wal *w)
{
	for (size_t i = w->segments.count; i > 0; i--)
		if (w->segments.items[i - 1]->end >= WAL_GROUPS_BEGIN)
			return w->segments.items[i - 1];
	return NULL;
}

errc wal_begin_segment(struct wal *w, uint32_t flags, struct err *e)
{
	char path[IO_PATH_MAX];
	uint8_t bytes[WAL_GROUPS_BEGIN];
	int fd = -1;
	must(!w->current);
	TRY(create_file(w, path, &fd, e));
	struct wal_header header = {
		.number = w->number_next,
		.log_id = w->log_id,
		.first = w->kept && flags & WAL_REPEATS ? w->kept->sequence : w->next,
		.flags = flags | (w->first_begun ? 0 : WAL_AFTER_RECOVERY),
	};
	memcpy(header.engine, w->engine, sizeof(header.engine));
	const struct wal_segment *last = last_written(w);
	if (last) {
		/* what is not synced yet may be torn by a crash, though it may be there */
		header.previous_number = last->number;
		header.previous_end = last->synced;
	}
	wal_header_encode(&header, bytes);
	int failure = write_fully(fd, bytes, sizeof(bytes));
	if (failure) {
		w->write_failed_count++;
		io_close(&fd);
		io->unlink(path);
		errno = failure;
		FAIL_ERRNO(e, "cannot begin the log segment %s", path);
	}
	struct wal_segment *s = wal_segments_add(&w->segments);
	s->number = w->number_next++;
	s->first = s->next = header.first;
	s->synced_next = s->next;
	s->end = WAL_GROUPS_BEGIN;
	s->synced = 0;
	s->fd = fd;
	w->bytes += s->end;
	w->folder_dirty = true;
	w->current = s;
	return OK;
}

void wal_retire(struct wal *w)
{
	struct wal_segment *s = w->current;
	w->current = NULL;
	/* otherwise the sync that comes closes it */
	if (s && s->synced_next == s->next && !w->syncing)
		io_close(&s->fd);
}

/* Take the current segment, the last, out of the list and off the disk: it holds nothing. */
static void drop_current(struct wal *w)
{
	struct wal_segment *s = w->current;
	char path[IO_PATH_MAX];
	w->current = NULL;
	w->bytes -= s->end;
	io_close(&s->fd);
	if (wal_segment_path(w->folder, s->number, path, sizeof(path), NULL) == OK)
		io->unlink(path);
	must(w->segments.items[w->segments.count - 1] == s);
	wal_segments_remove(&w->segments, w->segments.count - 1);
	free(s);
}

/* Whatever the failed write left is cut off. The header of the next segment says where this one
 * ends, for when even that is impossible. */
static void after_failed_write(struct wal *w, int failure)
{
	struct wal_segment *s = w->current;
	w->write_failed_count++;
	bool cut = io->ftruncate(s->fd, (off_t)s->end) == 0;
	if (cut && (failure == ENOSPC || failure == EDQUOT))
		return;
	if (s->next == s->first)
		drop_current(w);
	else
		wal_retire(w);
}

errc wal_write_group(struct wal *w, struct wal_kept *group, struct err *e)
{
	struct wal_segment *s = w->current;
	struct wal_group_header header = {
		.payload_len = (uint32_t)(group->len - WAL_GROUP_HEADER),
		.record_count = get_u32(group->bytes + 12),
		.payload_crc = get_u32(group->bytes + 24),
		.sequence = group->sequence,
	};
	wal_group_header_encode(&header, wal_group_seed(w->log_id, s->number, s->end),
				group->bytes);
	int failure = write_fully(s->fd, group->bytes, group->len);
	if (failure) {
		after_failed_write(w, failure);
		errno = failure;
		FAIL_ERRNO(e, "cannot append to the log in %s", w->folder);
	}
	s->end += group->len;
	s->next = group->sequence + 1;
	w->bytes += group->len;
	w->first_begun = true;
	return OK;
}

errc wal_write_again(struct wal *w, struct err *e)
{
	/* nobody syncs now: what fails here was not fit to be synced */
	if (w->current)
		wal_retire(w);
	for (size_t i = 0; i < w->segments.count; i++)
		io_close(&w->segments.items[i]->fd);
	w->failing = true;
	TRY(wal_begin_segment(w, WAL_REPEATS, e));
	struct wal_segment *begun = w->current;
	for (struct wal_kept *k = w->kept; k; k = k->next) {
		if (wal_write_group(w, k, e) == OK)
			continue;
		/* only copies are in it; it may be gone already */
		if (w->segments.count && w->segments.items[w->segments.count - 1] == begun) {
			w->current = begun;
			drop_current(w);
		}
		return ERR_IO;
	}
	w->failing = false;
	return OK;
}

void wal_set_due(struct wal *w, int64_t mono_ms)
{
	__atomic_store_n(&w->due_mono_ms, mono_ms, __ATOMIC_RELAXED);
}
