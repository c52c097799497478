/* Recovery: every whole group of every segment, in order, whatever else the bytes are. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checks.h"
#include "codec/crc32c.h"
#include "os/io.h"
#include "store/wal_internal.h"

enum {
	WINDOW_BYTES = 1 << 20,
	SECTOR_BYTES = 4096,
	/* the least a group takes: so many at most were in a span that cannot be read */
	GROUP_BYTES_MIN = WAL_GROUP_HEADER + WAL_RECORD_HEADER,
};

/* ---- A window over the file, of as many bytes as the present group needs. */

struct window {
	int fd;
	uint64_t size; /* of the file */
	uint8_t *bytes;
	size_t room;
	uint64_t offset; /* of bytes[0] in the file */
	size_t len;
	bool unreadable; /* some of it, so far */
};

static ssize_t read_at(int fd, uint8_t *into, size_t len, uint64_t offset)
{
	ssize_t n;
	bool again = true;
	for (;;) {
		n = io->pread(fd, into, len, (off_t)offset);
		if (n >= 0 || (errno != EINTR && !again))
			return n;
		if (errno != EINTR)
			again = false; /* once more: some failures pass */
	}
}

/* What cannot be read is zeros: no group checks there, and those around it are found. False when
 * there was such a place. */
static bool read_or_zero(int fd, uint8_t *into, size_t len, uint64_t offset)
{
	bool whole = true;
	while (len) {
		ssize_t n = read_at(fd, into, len, offset);
		size_t step = n > 0 ? (size_t)n : 0;
		if (n == 0) { /* shorter than it was */
			memset(into, 0, len);
			break;
		}
		if (n < 0) {
			step = SECTOR_BYTES - offset % SECTOR_BYTES;
			if (step > len)
				step = len;
			n = len > step ? read_at(fd, into, step, offset) : -1;
			if (n > 0)
				step = (size_t)n;
			else
				memset(into, 0, step);
			whole &= n > 0;
		}
		into += step;
		offset += step;
		len -= step;
	}
	return whole;
}

/* LEN bytes at OFFSET, both within the file. Valid until: the next call. */
static const uint8_t *window_at(struct window *w, uint64_t offset, size_t len)
{
	must(offset <= w->size && len <= w->size - offset);
	if (offset >= w->offset && offset - w->offset <= w->len &&
	    len <= w->len - (offset - w->offset))
		return w->bytes + (offset - w->offset);
	size_t want = len > WINDOW_BYTES ? len : WINDOW_BYTES;
	if (want > w->size - offset)
		want = (size_t)(w->size - offset);
	if (want > w->room) {
		free(w->bytes);
		w->bytes = must_calloc(1, want);
		w->room = want;
	}
	w->unreadable |= !read_or_zero(w->fd, w->bytes, want, offset);
	w->offset = offset;
	w->len = want;
	return w->bytes;
}

/* ---- One segment. */

/* Bytes [begin, end) hold no whole group. */
static void note_bad(struct wal_reading *r, uint64_t begin, uint64_t end)
{
	if (begin >= r->torn_from) {
		r->report->torn_bytes += end - begin;
		return;
	}
	r->bad = true;
	r->report->bad_span_count++;
	r->report->bad_bytes += end - begin;
	quarantine_add(r->quarantine, r->name, begin, end - begin,
		       "these bytes of the log do not match their checksums");
}

static errc deliver(struct wal_reading *r, const struct wal_group_header *h, const uint8_t *payload,
		    struct err *e)
{
	if (r->expected && h->sequence > r->expected && r->fill)
		TRY(r->fill(r, h->sequence, e));
	if (h->sequence <= r->last) {
		r->report->repeated_count++;
		return OK;
	}
	if (r->expected && h->sequence > r->expected)
		r->report->lost_count += h->sequence - r->expected;
	r->last = h->sequence;
	r->expected = h->sequence + 1;
	if (h->sequence < r->from) {
		r->report->skipped_count++;
		return OK;
	}
	r->report->group_count++;
	if (!r->replay)
		return OK;
	struct wal_group group = { .sequence = h->sequence,
				   .next = payload,
				   .end = payload + h->payload_len };
	return r->replay(r->ctx, &group, e);
}

enum step { STEP_GROUP, STEP_BAD_GROUP, STEP_BAD_HEADER, STEP_CUT };

/* What stands at OFFSET. The payload is looked at only when somebody wants it. */
static enum step look(struct wal_reading *r, struct window *w, uint64_t offset,
		      struct wal_group_header *h, const uint8_t **ret_payload)
{
	uint32_t seed = wal_group_seed(r->header.log_id, r->header.number, offset);
	if (!wal_group_header_decode(window_at(w, offset, WAL_GROUP_HEADER), seed, h))
		return STEP_BAD_HEADER;
	if (h->payload_len > r->size - offset - WAL_GROUP_HEADER)
		return STEP_CUT;
	*ret_payload = NULL;
	if (h->sequence < r->from)
		return STEP_GROUP;
	const uint8_t *payload = window_at(w, offset, WAL_GROUP_HEADER + h->payload_len) +
				 WAL_GROUP_HEADER;
	if (crc32c(0, (str){ (const char *)payload, h->payload_len }) != h->payload_crc ||
	    !wal_payload_check(payload, h->payload_len, h->record_count))
		return STEP_BAD_GROUP;
	*ret_payload = payload;
	return STEP_GROUP;
}

static errc read_groups(struct wal_reading *r, struct window *w, struct err *e)
{
	const uint64_t none = UINT64_MAX;
	uint64_t offset = WAL_GROUPS_BEGIN, bad_from = none;
	r->end = offset < r->size ? offset : r->size;
	while (offset < r->size && r->size - offset >= WAL_GROUP_HEADER) {
		struct wal_group_header h;
		const uint8_t *payload;
		enum step step = look(r, w, offset, &h, &payload);
		if (step == STEP_GROUP) {
			if (bad_from != none)
				note_bad(r, bad_from, offset);
			bad_from = none;
			TRY(deliver(r, &h, payload, e));
			offset += WAL_GROUP_HEADER + h.payload_len;
			r->end = offset;
			continue;
		}
		if (bad_from == none)
			bad_from = offset;
		/* a header that checks says how far its group goes; else try every place */
		offset += step == STEP_BAD_GROUP ? WAL_GROUP_HEADER + h.payload_len : 8;
	}
	r->unseen_bytes = r->size - r->end;
	if (bad_from == none && offset < r->size)
		bad_from = offset;
	if (bad_from != none && r->is_tail)
		r->report->torn_bytes += r->size - bad_from;
	else if (bad_from != none)
		note_bad(r, bad_from, r->size);
	return OK;
}

errc wal_segment_read(struct wal_reading *r, struct err *e)
{
	struct window w = { .fd = r->fd, .size = r->size };
	errc rc = read_groups(r, &w, e);
	if (w.unreadable && !r->bad)
		quarantine_add(r->quarantine, r->name, 0, 0, "some of the log cannot be read");
	r->bad |= w.unreadable;
	r->unreadable = w.unreadable;
	free(w.bytes);
	return rc;
}

/* ---- All segments. */

struct candidate {
	uint64_t number, size;
	struct wal_header header;
	bool has_header, is_empty; /* empty: never got its header */
};

struct recovery {
	const struct wal_options *options;
	struct candidate *items;
	size_t count, index;        /* of items: the one that is read */
	struct wal_reading reading; /* what goes from segment to segment */
	struct wal_recovered *out;
};

static int by_number(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;
	return x->number < y->number ? -1 : x->number > y->number;
}

static errc list_segments(struct recovery *v, struct err *e)
{
	size_t room = 0;
	DIR *dir = opendir(v->options->folder);
	if (!dir && errno == ENOENT)
		return OK;
	if (!dir)
		FAIL_ERRNO(e, "cannot list the log in %s", v->options->folder);
	errno = 0;
	for (struct dirent *d; (d = readdir(dir)); errno = 0) {
		uint64_t number;
		if (!wal_segment_number(d->d_name, &number))
			continue;
		if (v->count == room) {
			room = room ? room * 2 : 16;
			v->items = must_realloc(v->items, room * sizeof(*v->items));
		}
		v->items[v->count++] = (struct candidate){ .number = number };
	}
	int failure = errno;
	closedir(dir);
	errno = failure;
	if (failure)
		FAIL_ERRNO(e, "cannot list the log in %s", v->options->folder);
	if (v->count)
		qsort(v->items, v->count, sizeof(*v->items), by_number);
	return OK;
}

static errc open_segment(const struct recovery *v, const struct candidate *c, int *ret_fd,
			 struct err *e)
{
	char path[IO_PATH_MAX];
	TRY(wal_segment_path(v->options->folder, c->number, path, sizeof(path), e));
	int fd = io->open(path, O_RDONLY | O_NOFOLLOW, 0);
	if (fd < 0)
		FAIL_ERRNO(e, "cannot open %s", path);
	*ret_fd = fd;
	return OK;
}

static errc check_owner(const struct recovery *v, const struct candidate *c, uint32_t version,
			struct err *e)
{
	const char *folder = v->options->folder;
	if (version > WAL_VERSION)
		FAIL(e, ERR_CONFLICT,
		     "the log in %s was written by a newer Holdfast (format %u, this one knows "
		     "%d); start that one",
		     folder, version, WAL_VERSION);
	if (strcmp(c->header.engine, v->options->engine) != 0)
		FAIL(e, ERR_CONFLICT, "the log in %s belongs to %.16s, not to %s", folder,
		     c->header.engine, v->options->engine);
	return OK;
}

/* Nobody knows how many groups there are, and a new one must not get the number of one of them. */
static errc unreadable(const char *folder, uint64_t number, struct err *e)
{
	FAIL(e, ERR_IO,
	     "segment %llu of the log in %s cannot be read; look after its disk, or let `holdfast "
	     "doctor --data --repair` put it aside",
	     (unsigned long long)number, folder);
}

static errc read_header(struct recovery *v, struct candidate *c, struct err *e)
{
	uint8_t bytes[WAL_GROUPS_BEGIN] = { 0 };
	uint32_t version;
	struct stat st;
	int fd CLEANUP(io_close) = -1;
	TRY(open_segment(v, c, &fd, e));
	if (fstat(fd, &st) < 0)
		FAIL_ERRNO(e, "cannot stat a segment of the log in %s", v->options->folder);
	c->size = (uint64_t)st.st_size;
	if (!read_or_zero(fd, bytes, sizeof(bytes), 0))
		return unreadable(v->options->folder, c->number, e);
	c->has_header = wal_header_decode(bytes, &c->header, &version);
	c->is_empty = c->size < WAL_GROUPS_BEGIN;
	if (!c->has_header)
		return OK;
	TRY(check_owner(v, c, version, e));
	/* a file that was renamed: its groups stand by the number within */
	if (v->out->log_id == 0)
		v->out->log_id = c->header.log_id;
	return OK;
}

/* Whether it is the last that was written to: those after it, if any, never got their header. */
static bool is_tail(const struct recovery *v, size_t index)
{
	while (++index < v->count)
		if (v->items[index].has_header)
			return false;
	return true;
}

/* A segment that no copy of its header describes: by its neighbours and its name. */
static void guess_header(struct recovery *v, struct candidate *c, size_t index)
{
	c->header = (struct wal_header){ .number = c->number, .log_id = v->out->log_id };
	if (c->is_empty || is_tail(v, index))
		return;
	quarantine_add(v->options->quarantine, v->reading.name, 0, WAL_GROUPS_BEGIN,
		       "both headers of this segment of the log are bad");
	v->reading.bad = true;
	v->out->report.bad_span_count++;
	v->out->report.bad_bytes += WAL_GROUPS_BEGIN;
}

static bool is_skipped(const struct recovery *v, size_t index)
{
	/* all its groups come before FROM, and none is copied into the next */
	if (index + 1 == v->count || v->reading.from == 0)
		return false;
	const struct candidate *next = &v->items[index + 1];
	return next->has_header && next->header.first <= v->reading.from &&
	       !(next->header.flags & WAL_REPEATS);
}

/* From where on bad bytes are a torn tail. */
static uint64_t torn_from(const struct recovery *v, size_t index)
{
	const struct candidate *c = &v->items[index];
	for (size_t i = index + 1; i < v->count; i++)
		if (v->items[i].has_header && v->items[i].header.previous_number == c->number)
			return v->items[i].header.previous_end;
	return UINT64_MAX;
}

static void finish_segment(struct recovery *v, struct candidate *c, uint64_t unseen)
{
	struct wal_segment *s = wal_segments_add(&v->out->segments);
	uint64_t first = c->has_header ? c->header.first : v->reading.last + 1;
	/* groups may have been there whose sequences nobody must use again */
	uint64_t next = v->reading.last + 1 + (unseen ? unseen / GROUP_BYTES_MIN + 1 : 0);
	if (next < first)
		next = first;
	s->number = c->number;
	s->first = first;
	s->next = next;
	s->end = v->reading.end;
	s->bad = v->reading.bad;
	v->out->report.segment_count++;
	v->out->report.bytes += c->size;
	if (next > v->out->report.next)
		v->out->report.next = next;
}

/* ---- Groups that a failed sync lost where they were first, and that were written again. */

struct filling {
	struct wal_reading *into;
	uint64_t until;
	bool begun, ended;
};

/* A row of groups without a gap: of all that follows, the first segment may have more. */
static errc fill_with(void *ctx, struct wal_group *group, struct err *e)
{
	struct filling *f = ctx;
	struct wal_reading *r = f->into;
	bool begins = !f->begun && group->sequence < f->until;
	if (f->ended || (group->sequence != r->expected && !begins)) {
		f->ended = true;
		return OK;
	}
	f->begun = true;
	r->report->lost_count += group->sequence - r->expected;
	r->report->group_count++;
	r->last = group->sequence;
	r->expected = group->sequence + 1;
	return r->replay ? r->replay(r->ctx, group, e) : OK;
}

/* From the segments after this one that repeat groups: not only up to UNTIL, as after a failed sync
 * there may be many gaps. */
static errc fill_gap(struct wal_reading *r, uint64_t until, struct err *e)
{
	struct recovery *v = (struct recovery *)((char *)r - offsetof(struct recovery, reading));
	for (size_t i = v->index + 1; i < v->count && r->expected < until; i++) {
		const struct candidate *c = &v->items[i];
		struct wal_report unused = { 0 };
		struct filling f = { .into = r, .until = until };
		int fd CLEANUP(io_close) = -1;
		if (!c->has_header || !(c->header.flags & WAL_REPEATS) || c->header.first >= until)
			continue;
		TRY(open_segment(v, c, &fd, e));
		struct wal_reading copies = { .fd = fd,
					      .size = c->size,
					      .name = r->name,
					      .header = c->header,
					      .is_tail = true,
					      .from = r->expected,
					      .last = r->expected - 1,
					      .replay = fill_with,
					      .ctx = &f,
					      .report = &unused };
		TRY(wal_segment_read(&copies, e));
	}
	return OK;
}

static errc read_one(struct recovery *v, size_t index, struct err *e)
{
	struct candidate *c = &v->items[index];
	struct wal_reading *r = &v->reading;
	char path[IO_PATH_MAX];
	v->index = index;
	TRY(wal_segment_path(v->options->folder, c->number, path, sizeof(path), e));
	r->name = path;
	r->bad = false;
	r->end = r->unseen_bytes = 0;
	if (!c->has_header)
		guess_header(v, c, index);
	if (c->is_empty) {
		v->out->report.torn_bytes += c->size;
		finish_segment(v, c, 0);
		return OK;
	}
	if (is_skipped(v, index)) {
		uint64_t first = v->items[index + 1].header.first;
		if (first && first - 1 > r->last)
			r->last = first - 1;
		r->expected = r->last + 1;
		r->end = c->size;
		finish_segment(v, c, 0);
		return OK;
	}
	if (c->has_header && (c->header.flags & WAL_AFTER_RECOVERY || r->expected == 0))
		r->expected = c->header.first > r->from ? c->header.first : r->from;
	int fd CLEANUP(io_close) = -1;
	TRY(open_segment(v, c, &fd, e));
	r->fd = fd;
	r->size = c->size;
	r->header = c->header;
	r->torn_from = torn_from(v, index);
	r->is_tail = is_tail(v, index);
	TRY(wal_segment_read(r, e));
	if (r->is_tail && r->unreadable)
		return unreadable(v->options->folder, c->number, e);
	finish_segment(v, c, r->unseen_bytes);
	return OK;
}

static errc recover_all(struct recovery *v, struct err *e)
{
	TRY(list_segments(v, e));
	for (size_t i = 0; i < v->count; i++)
		TRY(read_header(v, &v->items[i], e));
	for (size_t i = 0; i < v->count; i++)
		TRY(read_one(v, i, e));
	return OK;
}

errc wal_recover(const struct wal_options *options, uint64_t from, wal_replay_fn *replay, void *ctx,
		 struct wal_recovered *r, struct err *e)
{
	*r = (struct wal_recovered){ .report.next = from ? from : 1 };
	struct recovery v = { .options = options, .out = r };
	v.reading = (struct wal_reading){
		.quarantine = options->quarantine,
		.from = from,
		.replay = replay,
		.ctx = ctx,
		.report = &r->report,
		.fill = fill_gap,
	};
	errc rc = recover_all(&v, e);
	r->number_next = v.count ? v.items[v.count - 1].number + 1 : 1;
	free(v.items);
	return rc;
}

errc wal_scan(const struct wal_options *options, uint64_t from, wal_replay_fn *replay, void *ctx,
	      struct wal_report *ret_report, struct err *e)
{
	struct wal_recovered r;
	errc rc = wal_recover(options, from, replay, ctx, &r, e);
	*ret_report = r.report;
	wal_segments_done(&r.segments);
	return rc;
}
