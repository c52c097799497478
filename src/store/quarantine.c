#include "store/quarantine.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checks.h"
#include "os/io.h"

struct quarantine {
	pthread_mutex_t lock;
	struct quarantine_entry *entries;
	size_t entry_count, room;
	uint64_t total_count;
};

struct quarantine *quarantine_new(void)
{
	struct quarantine *q = must_calloc(1, sizeof(*q));
	must(pthread_mutex_init(&q->lock, NULL) == 0);
	return q;
}

void quarantine_free(struct quarantine *q)
{
	if (!q)
		return;
	pthread_mutex_destroy(&q->lock);
	free(q->entries);
	free(q);
}

static bool is_listed(const struct quarantine *q, const char *file, uint64_t offset, uint64_t len)
{
	for (size_t i = 0; i < q->entry_count; i++) {
		const struct quarantine_entry *entry = &q->entries[i];
		if (entry->offset == offset && entry->len == len && !strcmp(entry->file, file))
			return true;
	}
	return false;
}

static void add_locked(struct quarantine *q, const char *file, uint64_t offset, uint64_t len,
		       const char *why)
{
	if (is_listed(q, file, offset, len))
		return;
	q->total_count++;
	if (q->entry_count == QUARANTINE_ENTRIES_MAX)
		return;
	if (q->entry_count == q->room) {
		q->room = q->room ? q->room * 2 : 8;
		q->entries = must_realloc(q->entries, q->room * sizeof(*q->entries));
	}
	struct quarantine_entry *entry = &q->entries[q->entry_count++];
	*entry = (struct quarantine_entry){ .offset = offset, .len = len };
	snprintf(entry->file, sizeof(entry->file), "%s", file);
	snprintf(entry->why, sizeof(entry->why), "%s", why);
}

void quarantine_add(struct quarantine *q, const char *file, uint64_t offset, uint64_t len,
		    const char *why)
{
	if (!q)
		return;
	size_t file_len = strlen(file);
	if (file_len >= QUARANTINE_FILE_MAX)
		file += file_len - (QUARANTINE_FILE_MAX - 1);
	pthread_mutex_lock(&q->lock);
	add_locked(q, file, offset, len, why);
	pthread_mutex_unlock(&q->lock);
}

uint64_t quarantine_count(struct quarantine *q)
{
	pthread_mutex_lock(&q->lock);
	uint64_t count = q->total_count;
	pthread_mutex_unlock(&q->lock);
	return count;
}

bool quarantine_get(struct quarantine *q, size_t index, struct quarantine_entry *ret_entry)
{
	pthread_mutex_lock(&q->lock);
	bool found = index < q->entry_count;
	if (found)
		*ret_entry = q->entries[index];
	pthread_mutex_unlock(&q->lock);
	return found;
}

enum { SAME_NAME_MAX = 1000 };

/* A name in FOLDER that is not taken. */
static errc free_name(const char *folder, const char *name, char path[IO_PATH_MAX], struct err *e)
{
	for (int i = 0; i < SAME_NAME_MAX; i++) {
		int n = i ? snprintf(path, IO_PATH_MAX, "%s/%s.%d", folder, name, i)
			  : snprintf(path, IO_PATH_MAX, "%s/%s", folder, name);
		if (n < 0 || n >= IO_PATH_MAX)
			FAIL(e, ERR_LIMIT, "the path %.60s… is too long", folder);
		if (access(path, F_OK) < 0 && errno == ENOENT)
			return OK;
	}
	FAIL(e, ERR_IO, "%s holds too many files named %s; look at them and remove them", folder,
	     name);
}

errc quarantine_move(const char *path, struct err *e)
{
	char folder[IO_PATH_MAX], to[IO_PATH_MAX];
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	int n = snprintf(folder, sizeof(folder), "%.*squarantine", (int)(name - path), path);
	if (n < 0 || (size_t)n >= sizeof(folder))
		FAIL(e, ERR_LIMIT, "the path %.60s… is too long", path);
	TRY(io_make_dirs(folder, 0700, e));
	TRY(free_name(folder, name, to, e));
	if (io->rename(path, to) < 0)
		FAIL_ERRNO(e, "cannot move %s into %s", path, folder);
	TRY(io_sync_parent(to, e));
	return io_sync_parent(path, e);
}
