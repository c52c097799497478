/* The open log: appending, syncing, truncating. How segments are written is in wal_write.c. */
#include "store/wal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "codec/crc32c.h"
#include "os/clock.h"
#include "os/io.h"
#include "store/wal_internal.h"

enum {
	SPARE_ROOM_MAX = 8 << 20, /* of buffers kept for the next groups */
	SPARE_LOOKS_MAX = 8,      /* under the lock: a long list of small ones is not worth it */
	KEPT_ROOM_MIN = 4096,
	SYNC_ATTEMPTS = 2, /* the second is of what was written again */
};

#define NOT_DUE INT64_MAX

/* ---- Groups in memory. */

static struct wal_kept *take_spare(struct wal *w, size_t len)
{
	struct wal_kept *found = NULL;
	pthread_mutex_lock(&w->lock);
	int looks = 0;
	for (struct wal_kept **at = &w->spare; *at && looks < SPARE_LOOKS_MAX;
	     at = &(*at)->next, looks++) {
		if ((*at)->room < len)
			continue;
		found = *at;
		*at = found->next;
		w->spare_room -= found->room;
		break;
	}
	pthread_mutex_unlock(&w->lock);
	return found;
}

static struct wal_kept *make_group(struct wal *w, const struct wal_record *records, size_t count,
				   uint64_t payload_len)
{
	size_t len = (size_t)payload_len + WAL_GROUP_HEADER;
	struct wal_kept *k = take_spare(w, len);
	if (!k) {
		size_t room = len + len / 4 > KEPT_ROOM_MIN ? len + len / 4 : KEPT_ROOM_MIN;
		k = must_realloc(NULL, sizeof(*k) + room);
		k->room = room;
	}
	k->next = NULL;
	k->len = len;
	uint8_t *payload = k->bytes + WAL_GROUP_HEADER;
	wal_payload_encode(records, count, payload);
	/* wal_write_group() makes the rest of the header, which depends on the place */
	put_u32(k->bytes + 12, (uint32_t)count);
	put_u32(k->bytes + 24, crc32c(0, (str){ (const char *)payload, (size_t)payload_len }));
	return k;
}

/* Holds: the lock. */
static void give_back(struct wal *w, struct wal_kept *k)
{
	if (w->spare_room + k->room > SPARE_ROOM_MAX) {
		free(k);
		return;
	}
	k->next = w->spare;
	w->spare = k;
	w->spare_room += k->room;
}

/* Everything before SEQUENCE is on the disk. Holds: the lock. */
static void drop_synced(struct wal *w, uint64_t sequence)
{
	while (w->kept && w->kept->sequence < sequence) {
		struct wal_kept *k = w->kept;
		w->kept = k->next;
		w->kept_bytes -= k->len;
		w->kept_room -= k->room;
		give_back(w, k);
	}
	if (!w->kept)
		w->kept_end = &w->kept;
	wal_set_due(w, w->kept ? w->kept->mono_ms + WAL_SYNC_DUE_MS : NOT_DUE);
}

static void keep(struct wal *w, struct wal_kept *k)
{
	k->mono_ms = clock_mono_ms();
	if (!w->kept)
		wal_set_due(w, k->mono_ms + WAL_SYNC_DUE_MS);
	*w->kept_end = k;
	w->kept_end = &k->next;
	w->kept_bytes += k->len;
	w->kept_room += k->room;
}

/* ---- Syncing. */

/* What one sync covers. */
struct sync_plan {
	struct wal_segment **segments;
	uint64_t *ends, *nexts;
	int *fds;
	size_t count;
	uint64_t target;
	bool folder;
};

/* Holds: the lock. */
static void plan_sync(struct wal *w, struct sync_plan *p)
{
	size_t room = w->segments.count + 1;
	*p = (struct sync_plan){
		.segments = must_calloc(room, sizeof(p->segments[0])),
		.ends = must_calloc(room, sizeof(p->ends[0])),
		.nexts = must_calloc(room, sizeof(p->nexts[0])),
		.fds = must_calloc(room, sizeof(p->fds[0])),
		.target = w->next,
		.folder = w->folder_dirty,
	};
	for (size_t i = 0; i < w->segments.count; i++) {
		struct wal_segment *s = w->segments.items[i];
		if (s->fd < 0 || s->synced == s->end || s->next == s->first)
			continue;
		p->segments[p->count] = s;
		p->ends[p->count] = s->end;
		p->nexts[p->count] = s->next;
		p->fds[p->count++] = s->fd;
	}
}

static void plan_done(struct sync_plan *p)
{
	free(p->segments);
	free(p->ends);
	free(p->nexts);
	free(p->fds);
}

static errc sync_folder(struct wal *w, struct err *e)
{
	int fd CLEANUP(io_close) = io->open(w->folder, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0 || io->fsync(fd) < 0)
		FAIL_ERRNO(e, "cannot sync the folder %s", w->folder);
	return OK;
}

/* Without the lock. */
static errc carry_out(struct wal *w, const struct sync_plan *p, struct err *e)
{
	for (size_t i = 0; i < p->count; i++)
		if (io->fdatasync(p->fds[i]) < 0)
			FAIL_ERRNO(e, "cannot sync the log in %s", w->folder);
	return p->folder ? sync_folder(w, e) : OK;
}

/* Holds: the lock. */
static void note_synced(struct wal *w, const struct sync_plan *p)
{
	for (size_t i = 0; i < p->count; i++) {
		struct wal_segment *s = p->segments[i];
		s->synced = p->ends[i];
		s->synced_next = p->nexts[i];
		if (s != w->current && s->synced == s->end)
			io_close(&s->fd);
	}
	if (p->folder)
		w->folder_dirty = false;
	w->synced = p->target;
	w->sync_count++;
	drop_synced(w, p->target);
	wal_sweep(w);
}

/* One attempt; the lock is let go meanwhile. Holds: the lock, and nobody else syncs. */
static errc sync_once(struct wal *w, struct err *e)
{
	struct sync_plan p;
	if (w->failing)
		TRY(wal_write_again(w, e));
	plan_sync(w, &p);
	w->syncing = true;
	pthread_mutex_unlock(&w->lock);
	errc rc = carry_out(w, &p, e);
	pthread_mutex_lock(&w->lock);
	w->syncing = false;
	if (rc == OK)
		note_synced(w, &p);
	else
		w->sync_failed_count++;
	plan_done(&p);
	return rc;
}

/* Until everything before TARGET is on the disk. Holds: the lock. */
static errc sync_until(struct wal *w, uint64_t target, struct err *e)
{
	errc rc = OK;
	for (int attempt = 0; w->synced < target && attempt < SYNC_ATTEMPTS;) {
		if (w->syncing) {
			pthread_cond_wait(&w->sync_ended, &w->lock);
			continue;
		}
		rc = sync_once(w, e);
		if (rc != OK) {
			/* nobody knows what the page cache still holds: all of it anew */
			w->failing = true;
			attempt++;
		}
		pthread_cond_broadcast(&w->sync_ended);
	}
	return w->synced >= target ? OK : rc == OK ? ERR_IO : rc;
}

errc wal_sync(struct wal *w, struct err *e)
{
	pthread_mutex_lock(&w->lock);
	errc rc = sync_until(w, w->next, e);
	pthread_mutex_unlock(&w->lock);
	TRY(rc);
	return wal_take_out(w, e);
}

int64_t wal_sync_due_ms(struct wal *w)
{
	int64_t due = __atomic_load_n(&w->due_mono_ms, __ATOMIC_RELAXED);
	if (due == NOT_DUE)
		return INT64_MAX;
	int64_t left = due - clock_mono_ms();
	return left > 0 ? left : 0;
}

/* ---- Appending. */

/* A segment with room. Holds: the lock. */
static errc ensure_segment(struct wal *w, struct err *e)
{
	if (w->failing)
		TRY(wal_write_again(w, e));
	if (w->current && w->current->end >= w->options.segment_bytes)
		wal_retire(w);
	return w->current ? OK : wal_begin_segment(w, 0, e);
}

/* Holds: the lock. */
static errc append_locked(struct wal *w, struct wal_kept *k, struct err *e)
{
	if (w->bytes + k->len > w->options.bytes_max)
		FAIL(e, ERR_BUSY,
		     "the log in %s has %llu MiB, as much as it may; it goes on when a flush has "
		     "ended",
		     w->folder, (unsigned long long)(w->bytes >> 20));
	k->sequence = w->next;
	TRY(ensure_segment(w, e));
	if (wal_write_group(w, k, e) != OK) {
		/* left behind, unless the disk was only full */
		if (w->current)
			return ERR_IO;
		TRY(wal_begin_segment(w, 0, e));
		TRY(wal_write_group(w, k, e));
	}
	w->next++;
	w->append_count++;
	w->append_bytes += k->len;
	keep(w, k);
	return OK;
}

errc wal_append(struct wal *w, const struct wal_record *records, size_t count,
		uint64_t *ret_sequence, struct err *e)
{
	must(count > 0);
	uint64_t len = wal_payload_len(records, count);
	if (!len)
		FAIL(e, ERR_LIMIT, "a group of the log would have more than %d bytes",
		     WAL_GROUP_BYTES_MAX);
	struct wal_kept *k = make_group(w, records, count, len);
	pthread_mutex_lock(&w->lock);
	errc rc = append_locked(w, k, e);
	if (rc != OK) {
		give_back(w, k);
		pthread_mutex_unlock(&w->lock);
		return rc;
	}
	uint64_t sequence = k->sequence; /* K may be gone after a sync */
	if (ret_sequence)
		*ret_sequence = sequence;
	if (w->options.sync_always || w->kept_bytes > w->options.unsynced_bytes_max)
		rc = sync_until(w, sequence + 1, e);
	pthread_mutex_unlock(&w->lock);
	return rc;
}

uint64_t wal_next(struct wal *w)
{
	pthread_mutex_lock(&w->lock);
	uint64_t next = w->next;
	pthread_mutex_unlock(&w->lock);
	return next;
}

/* ---- Truncating. */

void wal_sweep(struct wal *w)
{
	for (size_t i = 0; i < w->segments.count;) {
		struct wal_segment *s = w->segments.items[i];
		/* an open one is not synced yet, or is the current one */
		if (s == w->current || s->fd >= 0 || s->next > w->truncate_to) {
			i++;
			continue;
		}
		wal_segments_remove(&w->segments, i);
		*wal_segments_add(&w->garbage) = *s;
		free(s);
	}
}

static errc remove_segment(struct wal *w, const struct wal_segment *s, struct err *e)
{
	char path[IO_PATH_MAX];
	TRY(wal_segment_path(w->folder, s->number, path, sizeof(path), e));
	if (s->bad) {
		errc rc = quarantine_move(path, e);
		return rc == ERR_NOT_FOUND ? OK : rc;
	}
	if (io->unlink(path) < 0 && errno != ENOENT)
		FAIL_ERRNO(e, "cannot remove %s", path);
	return OK;
}

errc wal_take_out(struct wal *w, struct err *e)
{
	errc rc = OK;
	pthread_mutex_lock(&w->lock);
	while (rc == OK && w->garbage.count) {
		struct wal_segment *s = w->garbage.items[0];
		wal_segments_remove(&w->garbage, 0);
		pthread_mutex_unlock(&w->lock);
		rc = remove_segment(w, s, e);
		pthread_mutex_lock(&w->lock);
		if (rc == OK)
			w->bytes -= s->end;
		else
			*wal_segments_add(&w->garbage) = *s;
		free(s);
	}
	pthread_mutex_unlock(&w->lock);
	return rc;
}

errc wal_truncate(struct wal *w, uint64_t position, struct err *e)
{
	pthread_mutex_lock(&w->lock);
	if (position > w->truncate_to)
		w->truncate_to = position < w->next ? position : w->next;
	/* what nobody needs any more would keep a whole segment alive */
	if (w->current && w->current->next <= w->truncate_to &&
	    w->current->next > w->current->first)
		wal_retire(w);
	wal_sweep(w);
	pthread_mutex_unlock(&w->lock);
	return wal_take_out(w, e);
}

/* ---- Opening and closing. */

static void wal_free(struct wal *w)
{
	for (size_t i = 0; i < w->segments.count; i++)
		io_close(&w->segments.items[i]->fd);
	wal_segments_done(&w->segments);
	wal_segments_done(&w->garbage);
	for (struct wal_kept *k = w->kept, *next; k; k = next) {
		next = k->next;
		free(k);
	}
	for (struct wal_kept *k = w->spare, *next; k; k = next) {
		next = k->next;
		free(k);
	}
	pthread_mutex_destroy(&w->lock);
	pthread_cond_destroy(&w->sync_ended);
	free(w);
}

static uint64_t or_default(uint64_t value, uint64_t otherwise)
{
	return value ? value : otherwise;
}

static errc recover(struct wal *w, uint64_t from, wal_replay_fn *replay, void *ctx,
		    struct wal_report *ret_report, struct err *e)
{
	struct wal_recovered r;
	errc rc = wal_recover(&w->options, from, replay, ctx, &r, e);
	w->segments = r.segments;
	*ret_report = r.report;
	TRY(rc);
	w->log_id = r.log_id;
	while (!w->log_id)
		entropy_fill(&w->log_id, sizeof(w->log_id));
	w->number_next = r.number_next;
	w->next = w->synced = r.report.next;
	for (size_t i = 0; i < w->segments.count; i++) {
		struct wal_segment *s = w->segments.items[i];
		s->fd = -1;
		s->synced = s->end;
		s->synced_next = s->next;
		w->bytes += s->end;
	}
	return OK;
}

errc wal_open(const struct wal_options *options, uint64_t from, wal_replay_fn *replay, void *ctx,
	      struct wal_report *ret_report, struct wal **ret_wal, struct err *e)
{
	struct wal *w = must_calloc(1, sizeof(*w));
	struct wal_report report = { 0 };
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->sync_ended, NULL);
	w->kept_end = &w->kept;
	w->due_mono_ms = NOT_DUE;
	w->options = *options;
	w->options.segment_bytes = or_default(options->segment_bytes, 64 << 20);
	w->options.bytes_max = or_default(options->bytes_max, UINT64_C(1) << 30);
	w->options.unsynced_bytes_max = or_default(options->unsynced_bytes_max, 32 << 20);
	errc rc = OK;
	if (!str_copy(str_c(options->folder), w->folder, sizeof(w->folder)) ||
	    !str_copy(str_c(options->engine), w->engine, sizeof(w->engine)))
		rc = err_fill(e, ERR_LIMIT, 0, __FILE__, __LINE__, "the path %.60s… is too long",
			      options->folder);
	w->options.folder = w->folder;
	w->options.engine = w->engine;
	if (rc == OK)
		rc = io_make_dirs(w->folder, 0700, e);
	if (rc == OK)
		rc = recover(w, from, replay, ctx, &report, e);
	*ret_report = report;
	if (rc != OK) {
		wal_free(w);
		return rc;
	}
	w->truncate_to = from;
	*ret_wal = w;
	return OK;
}

errc wal_close(struct wal *w, struct err *e)
{
	if (!w)
		return OK;
	errc rc = wal_sync(w, e);
	wal_free(w);
	return rc;
}

void wal_stats(struct wal *w, struct wal_stats *ret_stats)
{
	pthread_mutex_lock(&w->lock);
	*ret_stats = (struct wal_stats){
		.segment_count = w->segments.count + w->garbage.count,
		.bytes = w->bytes,
		.next = w->next,
		.synced = w->synced,
		.unsynced_bytes = w->kept_bytes,
		.memory_bytes = w->kept_room + w->spare_room,
		.append_count = w->append_count,
		.append_bytes = w->append_bytes,
		.sync_count = w->sync_count,
		.write_failed_count = w->write_failed_count,
		.sync_failed_count = w->sync_failed_count,
		.failing = w->failing,
	};
	pthread_mutex_unlock(&w->lock);
}
