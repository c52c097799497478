#include "artifact/precompress.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/checks.h"
#include "base/glob.h"
#include "codec/compress.h"
#include "codec/digest.h"
#include "os/io.h"

enum {
	THREAD_COUNT = 2,
	FILE_COUNT_MAX = 200000,
	BYTES_MIN = 1024,
	BYTES_MAX = 64 * 1024 * 1024, /* more is no page: it would block a build for minutes */
	PATHS_BYTES_MAX = 256 * 1024 * 1024,
};

static const char *const text_endings[] = {
	".html", ".htm", ".css", ".js",  ".mjs",  ".cjs", ".json", ".webmanifest",
	".svg",  ".xml", ".txt", ".md",  ".csv",  ".map", ".wasm", ".ttf",
	".otf",  ".eot", ".ico", ".rss", ".atom", ".ics", ".vtt",  ".geojson",
};

static const struct encoding {
	enum compress_format format;
	int level;
	const char *ending;
} encodings[] = {
	{ COMPRESS_GZIP, 9, ".gz" },
	{ COMPRESS_BROTLI, 11, ".br" },
};

struct work {
	const struct precompress_options *options;
	struct arena paths;
	const char **files; /* relative */
	size_t file_count;
	size_t file_size;
	atomic_size_t next;
	atomic_bool stop; /* somebody failed */
	pthread_mutex_t lock;
	struct precompress_result result; /* under the lock, as are the two below */
	errc rc;
	struct err err;
};

static bool is_text(str path)
{
	for (size_t i = 0; i < ARRAY_COUNT(text_endings); i++)
		if (str_ends(path, str_c(text_endings[i])))
			return true;
	return false;
}

static errc visit(void *ctx, const struct io_entry *entry, enum io_walk *ret_walk, struct err *e)
{
	struct work *w = ctx;
	str path = str_c(entry->path);
	*ret_walk = IO_WALK_INTO;
	for (size_t i = 0; i < w->options->exclude_count; i++)
		if (glob_match(w->options->exclude[i], path)) {
			*ret_walk = IO_WALK_SKIP;
			return OK;
		}
	if (!S_ISREG(entry->st.st_mode) || !is_text(path))
		return OK;
	if (w->file_count == FILE_COUNT_MAX)
		FAIL(e, ERR_LIMIT, "%s holds more than %d files to compress", w->options->folder,
		     FILE_COUNT_MAX);
	if (w->file_count == w->file_size) {
		w->file_size = w->file_size ? w->file_size * 2 : 256;
		w->files = must_realloc(w->files, w->file_size * sizeof(*w->files));
	}
	w->files[w->file_count++] = arena_cstr(&w->paths, path);
	return arena_check(&w->paths, "the list of files", e);
}

WARN_UNUSED static errc join(char path[IO_PATH_MAX], const char *folder, const char *name,
			     const char *ending, struct err *e)
{
	if (snprintf(path, IO_PATH_MAX, "%s/%s%s", folder, name, ending) >= IO_PATH_MAX)
		FAIL(e, ERR_LIMIT, "a path below %s is too long", folder);
	return OK;
}

/*
 * A cache entry is the digest of its bytes and then the bytes, so that a damaged one is noticed; an
 * entry without bytes says that compressing does not pay.
 */
static bool cache_read(const char *path, struct buf *into)
{
	struct digest stored;
	if (io_read_file(path, into, NULL) != OK || into->len < DIGEST_BYTES) {
		buf_clear(into);
		return false;
	}
	memcpy(stored.bytes, into->ptr, DIGEST_BYTES);
	buf_consume(into, DIGEST_BYTES);
	struct digest actual = digest_of(buf_str(into));
	if (digest_eq(&stored, &actual))
		return true;
	buf_clear(into);
	return false;
}

static errc cache_write(const char *path, str bytes, struct err *e)
{
	struct digest d = digest_of(bytes);
	struct buf entry CLEANUP(buf_done) = buf_init(BYTES_MAX + DIGEST_BYTES);
	buf_add(&entry, (str){ (const char *)d.bytes, DIGEST_BYTES });
	buf_add(&entry, bytes);
	TRY(buf_check(&entry, "a cache entry", e));
	return io_write_file(path, buf_str(&entry), 0600, e);
}

/* The compressed bytes, empty where they would not be smaller. */
static errc compress(const struct work *w, const struct encoding *encoding, str bytes,
		     const struct digest *digest, struct buf *into, bool *ret_cached, struct err *e)
{
	char path[IO_PATH_MAX], hex[DIGEST_HEX_SIZE];
	*ret_cached = false;
	if (w->options->cache_folder) {
		TRY(join(path, w->options->cache_folder, digest_hex(digest, hex), encoding->ending,
			 e));
		*ret_cached = cache_read(path, into);
		if (*ret_cached)
			return OK;
	}
	struct buf packed CLEANUP(buf_done) = buf_init(bytes.len + bytes.len / 8 + 65536);
	TRY(compress_bytes(encoding->format, encoding->level, bytes, &packed, e));
	if (packed.len < bytes.len)
		buf_add(into, buf_str(&packed));
	return w->options->cache_folder ? cache_write(path, buf_str(into), e) : OK;
}

static errc remove_sibling(const char *path, struct err *e)
{
	if (io->unlink(path) < 0 && errno != ENOENT)
		FAIL_ERRNO(e, "cannot remove %s", path);
	return OK;
}

/* Not synced: a build's output is packed next, and a crash before that begins it again. */
static errc write_sibling(const char *path, str bytes, struct err *e)
{
	TRY(remove_sibling(path, e));
	int fd CLEANUP(io_close) = io->open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
	if (fd < 0)
		FAIL_ERRNO(e, "cannot create %s", path);
	return io_write_all(fd, bytes, path, e);
}

static errc compress_file(const struct work *w, const char *name, struct precompress_result *r,
			  struct err *e)
{
	char path[IO_PATH_MAX];
	struct buf bytes CLEANUP(buf_done) = buf_init(BYTES_MAX);
	struct buf packed CLEANUP(buf_done) = buf_init(BYTES_MAX);
	TRY(join(path, w->options->folder, name, "", e));
	errc rc = io_read_file(path, &bytes, e);
	bool eligible = rc == OK && bytes.len >= BYTES_MIN;
	if (rc != OK && rc != ERR_LIMIT)
		return rc;
	struct digest digest = digest_of(buf_str(&bytes));
	r->file_count++;
	r->raw_bytes += (int64_t)bytes.len;
	for (size_t i = 0; i < ARRAY_COUNT(encodings); i++) {
		bool cached = false;
		buf_clear(&packed);
		if (eligible)
			TRY(compress(w, &encodings[i], buf_str(&bytes), &digest, &packed, &cached,
				     e));
		TRY(join(path, w->options->folder, name, encodings[i].ending, e));
		if (packed.len == 0) {
			TRY(remove_sibling(path, e));
			continue;
		}
		TRY(write_sibling(path, buf_str(&packed), e));
		r->sibling_count++;
		r->cached_count += cached;
		*(i ? &r->brotli_bytes : &r->gzip_bytes) += (int64_t)packed.len;
	}
	return OK;
}

static void add_result(struct precompress_result *total, const struct precompress_result *r)
{
	total->file_count += r->file_count;
	total->sibling_count += r->sibling_count;
	total->cached_count += r->cached_count;
	total->raw_bytes += r->raw_bytes;
	total->gzip_bytes += r->gzip_bytes;
	total->brotli_bytes += r->brotli_bytes;
}

static errc check_cancelled(const struct work *w, struct err *e)
{
	if (w->options->cancelled && w->options->cancelled(w->options->cancelled_ctx))
		FAIL(e, ERR_CANCELLED, "compressing was cancelled");
	return OK;
}

static void *run(void *ctx)
{
	struct work *w = ctx;
	struct precompress_result r = { 0 };
	struct err e = { .code = OK };
	errc rc = OK;
	while (rc == OK && !atomic_load(&w->stop)) {
		size_t i = atomic_fetch_add(&w->next, 1);
		if (i >= w->file_count)
			break;
		rc = check_cancelled(w, &e);
		if (rc == OK)
			rc = compress_file(w, w->files[i], &r, &e);
	}
	pthread_mutex_lock(&w->lock);
	add_result(&w->result, &r);
	if (rc != OK && w->rc == OK) {
		w->rc = rc;
		w->err = e;
		atomic_store(&w->stop, true);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

/* This thread works too, so a machine that gives us no second one only takes longer. */
static void run_all(struct work *w)
{
	pthread_t threads[THREAD_COUNT - 1];
	size_t started = 0;
	while (started < ARRAY_COUNT(threads) && w->file_count > 1 &&
	       pthread_create(&threads[started], NULL, run, w) == 0)
		started++;
	run(w);
	while (started)
		pthread_join(threads[--started], NULL);
}

errc precompress_folder(const struct precompress_options *options,
			struct precompress_result *ret_result, struct err *e)
{
	struct work w = { .options = options, .paths = arena_init(PATHS_BYTES_MAX) };
	if (options->cache_folder)
		TRY(io_make_dirs(options->cache_folder, 0700, e));
	pthread_mutex_init(&w.lock, NULL);
	errc rc = io_walk(options->folder, visit, &w, e);
	if (rc == OK) {
		run_all(&w);
		rc = w.rc;
		if (rc != OK && e)
			*e = w.err;
	}
	if (rc == OK)
		*ret_result = w.result;
	pthread_mutex_destroy(&w.lock);
	free(w.files);
	arena_done(&w.paths);
	return rc;
}
