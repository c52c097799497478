#include "shim/shim_output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checks.h"
#include "codec/json.h"
#include "codec/text.h"
#include "os/clock.h"
#include "os/io.h"
#include "shim/shim_client.h"

enum {
	BATCH_BYTES = 64 * 1024,
	/* a batch that is nearly full, then one line of which each byte takes six, and its frame */
	PENDING_BYTES_MAX = BATCH_BYTES + 6 * SHIM_LINE_BYTES_MAX + 256,
};

struct partial {
	char *bytes; /* SHIM_LINE_BYTES_MAX, made when first needed */
	size_t len;
};

struct shim_output {
	int fd; /* -1: could not be opened; tried again at each flush */
	int64_t file_bytes;
	int64_t file_bytes_max;
	struct buf pending; /* whole lines of JSON */
	int64_t pending_line_count;
	int64_t dropped_count;
	int64_t unreported_count; /* of those, not yet told in the file */
	int write_errno;
	time_ms now; /* of the bytes being taken */
	struct partial partials[SHIM_STREAM_COUNT];
	uint64_t line_count;
	size_t last_lens[SHIM_LAST_LINE_COUNT];
	char last[SHIM_LAST_LINE_COUNT][SHIM_LAST_LINE_BYTES_MAX];
	char path[IO_PATH_MAX];
};

static const char *const stream_names[SHIM_STREAM_COUNT] = { "out", "err" };

static void open_file(struct shim_output *o)
{
	struct stat st;
	o->fd = io->open(o->path, O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW, 0600);
	if (o->fd < 0) {
		o->write_errno = errno;
		return;
	}
	o->file_bytes = fstat(o->fd, &st) == 0 ? st.st_size : 0;
	/* a shim that was killed may have left half a line */
	char last = '\n';
	if (o->file_bytes > 0 && pread(o->fd, &last, 1, o->file_bytes - 1) == 1 && last != '\n' &&
	    io->write(o->fd, "\n", 1) == 1)
		o->file_bytes++;
}

errc shim_output_open(const char *folder, int64_t file_bytes_max, struct shim_output **ret_output,
		      struct err *e)
{
	struct shim_output *o = must_calloc(1, sizeof(*o));
	int len = snprintf(o->path, sizeof(o->path) - 8, "%s/output.ndjson", folder);
	o->pending = buf_init(PENDING_BYTES_MAX);
	o->file_bytes_max = file_bytes_max;
	if (len < 0 || (size_t)len >= sizeof(o->path) - 8) {
		free(o);
		FAIL(e, ERR_LIMIT, "the path of the folder %.60s… is too long", folder);
	}
	open_file(o);
	if (o->fd < 0) {
		errno = o->write_errno;
		errc rc = err_fill_errno(e, __FILE__, __LINE__, "cannot write %s", o->path);
		free(o);
		return rc;
	}
	*ret_output = o;
	return OK;
}

void shim_output_close(struct shim_output *o)
{
	if (!o)
		return;
	for (int stream = 0; stream < SHIM_STREAM_COUNT; stream++)
		shim_output_end(o, (enum shim_stream)stream);
	shim_output_flush(o);
	io_close(&o->fd);
	for (int stream = 0; stream < SHIM_STREAM_COUNT; stream++)
		free(o->partials[stream].bytes);
	buf_done(&o->pending);
	free(o);
}

static void add_line(struct shim_output *o, const char *stream, str line, bool more)
{
	struct json_writer quoted = json_writer_init(&o->pending, false);
	size_t last = o->line_count++ % SHIM_LAST_LINE_COUNT;
	o->last_lens[last] = line.len < SHIM_LAST_LINE_BYTES_MAX ? line.len
								 : SHIM_LAST_LINE_BYTES_MAX;
	if (o->last_lens[last])
		memcpy(o->last[last], line.ptr, o->last_lens[last]);
	buf_printf(&o->pending, "{\"t\":%lld,\"s\":\"%s\",\"l\":", (long long)o->now, stream);
	json_add_str(&quoted, line);
	buf_add_c(&o->pending, more ? ",\"more\":true}\n" : "}\n");
	o->pending_line_count++;
	must(!o->pending.overflow);
	if (o->pending.len >= BATCH_BYTES)
		shim_output_flush(o);
}

/* Where a line longer than allowed is cut: not within a character. */
static size_t cut_len(const char *bytes, size_t len)
{
	size_t back = 0;
	while (back < 3 && ((unsigned char)bytes[len - 1 - back] & 0xc0) == 0x80)
		back++;
	if ((unsigned char)bytes[len - 1 - back] < 0xc0)
		return len;
	str tail = { bytes + len - 1 - back, back + 1 };
	return text_utf8_step(tail) ? len : len - back - 1;
}

static void add_partial(struct shim_output *o, enum shim_stream stream, str bytes)
{
	struct partial *p = &o->partials[stream];
	if (!p->bytes)
		p->bytes = must_calloc(1, SHIM_LINE_BYTES_MAX);
	while (bytes.len) {
		if (p->len == SHIM_LINE_BYTES_MAX) {
			size_t len = cut_len(p->bytes, p->len);
			add_line(o, stream_names[stream], (str){ p->bytes, len }, true);
			memmove(p->bytes, p->bytes + len, p->len - len);
			p->len -= len;
		}
		size_t room = SHIM_LINE_BYTES_MAX - p->len;
		size_t len = bytes.len < room ? bytes.len : room;
		memcpy(p->bytes + p->len, bytes.ptr, len);
		p->len += len;
		bytes = (str){ bytes.ptr + len, bytes.len - len };
	}
}

void shim_output_bytes(struct shim_output *o, enum shim_stream stream, str bytes)
{
	struct partial *p = &o->partials[stream];
	o->now = clock_now();
	while (bytes.len) {
		const char *end = memchr(bytes.ptr, '\n', bytes.len);
		size_t len = end ? (size_t)(end - bytes.ptr) : bytes.len;
		if (end && p->len == 0 && len <= SHIM_LINE_BYTES_MAX) {
			add_line(o, stream_names[stream], (str){ bytes.ptr, len }, false);
		} else {
			add_partial(o, stream, (str){ bytes.ptr, len });
			if (end) {
				add_line(o, stream_names[stream], (str){ p->bytes, p->len }, false);
				p->len = 0;
			}
		}
		len += end != NULL;
		bytes = (str){ bytes.ptr + len, bytes.len - len };
	}
}

void shim_output_end(struct shim_output *o, enum shim_stream stream)
{
	struct partial *p = &o->partials[stream];
	o->now = clock_now();
	if (p->len)
		add_line(o, stream_names[stream], (str){ p->bytes, p->len }, false);
	p->len = 0;
}

void shim_output_note(struct shim_output *o, const char *fmt, ...)
{
	char text[1024];
	va_list ap;
	va_start(ap, fmt);
	int len = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	o->now = clock_now();
	if (len > 0)
		add_line(o, "shim", str_c(text), false);
}

static void rotate(struct shim_output *o)
{
	char from[IO_PATH_MAX], to[IO_PATH_MAX];
	io_close(&o->fd);
	for (int number = SHIM_LOG_FILE_COUNT - 1; number > 0; number--) {
		snprintf(to, sizeof(to), "%s.%d", o->path, number);
		if (number > 1)
			snprintf(from, sizeof(from), "%s.%d", o->path, number - 1);
		else
			snprintf(from, sizeof(from), "%s", o->path);
		io->rename(from, to); /* one that is missing or stuck: the next is still tried */
	}
	open_file(o);
}

/* Write whole lines; what could not be written is cut off the file again up to the last whole line
 * and counted by how many lines are missing. */
static int64_t write_lines(struct shim_output *o, str lines, int64_t line_count)
{
	size_t done = 0;
	while (o->fd >= 0 && done < lines.len) {
		ssize_t n = io->write(o->fd, lines.ptr + done, lines.len - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			o->write_errno = n < 0 ? errno : ENOSPC;
			break;
		}
		done += (size_t)n;
	}
	size_t whole = 0;
	for (const char *end; whole < done && (end = memchr(lines.ptr + whole, '\n', done - whole));
	     line_count--)
		whole = (size_t)(end - lines.ptr) + 1;
	o->file_bytes += (int64_t)whole;
	if (whole < done && ftruncate(o->fd, o->file_bytes) < 0)
		o->file_bytes += (int64_t)(done - whole);
	return line_count;
}

static bool report_dropped(struct shim_output *o)
{
	char text[256];
	int len = snprintf(text, sizeof(text),
			   "{\"t\":%lld,\"s\":\"shim\",\"l\":\"%lld lines of output are missing "
			   "here: %s\"}\n",
			   (long long)clock_now(), (long long)o->unreported_count,
			   strerrordesc_np(o->write_errno));
	if (write_lines(o, (str){ text, (size_t)len }, 1) > 0)
		return false;
	o->unreported_count = 0;
	return true;
}

void shim_output_flush(struct shim_output *o)
{
	int64_t missing = o->pending_line_count;
	if (o->pending.len == 0)
		return;
	if (o->fd < 0)
		open_file(o);
	if (o->fd >= 0 && o->file_bytes > 0 &&
	    o->file_bytes + (int64_t)o->pending.len > o->file_bytes_max)
		rotate(o);
	if (o->unreported_count == 0 || report_dropped(o))
		missing = write_lines(o, buf_str(&o->pending), missing);
	o->dropped_count += missing;
	o->unreported_count += missing;
	o->pending_line_count = 0;
	buf_clear(&o->pending);
}

int64_t shim_output_dropped(const struct shim_output *o)
{
	return o->dropped_count;
}

bool shim_output_last(const struct shim_output *o, size_t n, str *ret_line)
{
	size_t count = o->line_count < SHIM_LAST_LINE_COUNT ? (size_t)o->line_count
							    : SHIM_LAST_LINE_COUNT;
	if (n >= count)
		return false;
	size_t at = (size_t)((o->line_count - count + n) % SHIM_LAST_LINE_COUNT);
	*ret_line = (str){ o->last[at], o->last_lens[at] };
	return true;
}
