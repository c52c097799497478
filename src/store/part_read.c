/* Parts as they are read: the table whole, blocks through a mapping once their bytes were checked.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/checks.h"
#include "os/io.h"
#include "store/part_internal.h"

enum block_state { BLOCK_UNKNOWN, BLOCK_GOOD, BLOCK_BAD };

struct block {
	uint64_t offset;
	uint32_t len, crc;
};

struct part_file {
	size_t refs; /* atomic */
	bool doomed; /* atomic */
	bool damaged;
	bool unreadable; /* atomic: a call failed */
	char path[IO_PATH_MAX], name[PART_NAME_MAX + 1];
	int fd;
	uint64_t bytes;
	const uint8_t *mapping;
	uint32_t kind_version, block_count;
	struct block *blocks;
	uint8_t *states; /* enum block_state, atomic */
	char *meta;
	size_t meta_len;
	struct quarantine *quarantine;
};

/* ---- Bytes by system call. */

static errc read_exactly(const struct part_file *p, void *into, size_t len, uint64_t offset,
			 struct err *e)
{
	uint8_t *at = into;
	bool again = true;
	while (len) {
		ssize_t n = io->pread(p->fd, at, len, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && again) {
			again = false; /* some failures pass */
			continue;
		}
		if (n < 0)
			FAIL_ERRNO(e, "cannot read %s at byte %llu", p->path,
				   (unsigned long long)offset);
		if (n == 0)
			FAIL(e, ERR_CORRUPT, "%s ends before byte %llu", p->path,
			     (unsigned long long)offset);
		at += n;
		offset += (uint64_t)n;
		len -= (size_t)n;
	}
	return OK;
}

/* ---- Opening. */

/* Remembers that a call failed: then what is not found may be there all the same. */
static errc read_at_open(struct part_file *p, void *into, size_t len, uint64_t offset)
{
	errc rc = read_exactly(p, into, len, offset, NULL);
	if (rc == ERR_IO)
		__atomic_store_n(&p->unreadable, true, __ATOMIC_RELAXED);
	return rc;
}

static errc check_header(struct part_file *p, const char *kind, struct err *e)
{
	uint8_t bytes[PART_HEADER_BYTES];
	struct part_header header;
	/* with a bad header the trailers still say everything but the kind */
	if (read_at_open(p, bytes, sizeof(bytes), 0) != OK || !part_header_decode(bytes, &header)) {
		p->damaged = true;
		quarantine_add(p->quarantine, p->path, 0, PART_HEADER_BYTES,
			       "the header of this part is bad");
		return OK;
	}
	if (header.version > PART_VERSION)
		FAIL(e, ERR_CONFLICT,
		     "%s was written by a newer Holdfast (format %u, this one knows %d); start "
		     "that one",
		     p->path, header.version, PART_VERSION);
	if (strcmp(header.kind, kind) != 0)
		FAIL(e, ERR_CONFLICT, "%s is of the kind %s, not %s", p->path, header.kind, kind);
	p->kind_version = header.kind_version;
	return OK;
}

static bool trailer_fits(const struct part_file *p, const struct part_trailer *t, uint64_t at)
{
	return t->file_bytes == p->bytes && t->block_count <= PART_BLOCK_COUNT_MAX &&
	       t->meta_len <= PART_META_BYTES_MAX && t->copy_offset >= PART_HEADER_BYTES &&
	       t->copy_offset <= at &&
	       t->copy_offset + part_copy_len(t->block_count, t->meta_len) == at;
}

/* Table and META at the trailer that stands at AT; false when they are not whole. */
static bool take_copy(struct part_file *p, const struct part_trailer *t, uint64_t at)
{
	size_t table_len = (size_t)t->block_count * PART_TABLE_ENTRY;
	uint8_t *bytes = NULL;
	bool good = false;
	if (!trailer_fits(p, t, at))
		return false;
	bytes = must_realloc(NULL, table_len + t->meta_len + 1);
	if (read_at_open(p, bytes, table_len + t->meta_len, t->copy_offset) == OK &&
	    crc32c(0, (str){ (const char *)bytes, table_len + t->meta_len }) == t->copy_crc) {
		uint64_t offset = PART_HEADER_BYTES;
		p->blocks = must_calloc(t->block_count + 1, sizeof(p->blocks[0]));
		for (uint32_t i = 0; i < t->block_count; i++) {
			const uint8_t *entry = bytes + (size_t)i * PART_TABLE_ENTRY;
			p->blocks[i] = (struct block){ offset, get_u32(entry), get_u32(entry + 4) };
			offset += align8(p->blocks[i].len);
		}
		good = offset <= t->copy_offset;
		p->block_count = t->block_count;
		p->meta_len = t->meta_len;
		p->meta = must_realloc(NULL, t->meta_len + 1);
		memcpy(p->meta, bytes + table_len, t->meta_len);
		p->meta[t->meta_len] = '\0';
	}
	free(bytes);
	return good;
}

static void drop_copy(struct part_file *p)
{
	free(p->blocks);
	free(p->meta);
	p->blocks = NULL;
	p->meta = NULL;
}

/* The first copy's trailer, wherever it is: before the second copy, whose length nobody says. */
static bool find_first_copy(struct part_file *p)
{
	enum { STEP = 1 << 20 };
	uint64_t most =
		2 * (part_copy_len(PART_BLOCK_COUNT_MAX, PART_META_BYTES_MAX) + PART_TRAILER_BYTES);
	uint64_t lowest = p->bytes > most ? align8(p->bytes - most) : 0;
	uint8_t *window = must_realloc(NULL, STEP + PART_TRAILER_BYTES);
	bool found = false;
	for (uint64_t end = p->bytes & ~UINT64_C(7); !found && end > lowest;) {
		uint64_t begin = end - lowest > STEP ? end - STEP : lowest;
		size_t len = (size_t)(p->bytes - begin < STEP + PART_TRAILER_BYTES
					      ? p->bytes - begin
					      : STEP + PART_TRAILER_BYTES);
		if (read_at_open(p, window, len, begin) == OK) {
			for (uint64_t at = end - 8;; at -= 8) {
				struct part_trailer t;
				const uint8_t *bytes = window + (at - begin);
				if (at + PART_TRAILER_BYTES <= begin + len &&
				    part_trailer_decode(bytes, &t) && take_copy(p, &t, at)) {
					found = true;
					break;
				}
				drop_copy(p);
				if (at == begin)
					break;
			}
		}
		end = begin;
	}
	free(window);
	return found;
}

/* The first copy says the same as T, the second? */
static bool other_copy_is_good(struct part_file *p, const struct part_trailer *t)
{
	uint8_t bytes[PART_TRAILER_BYTES];
	struct part_trailer other;
	uint64_t at = t->copy_offset - PART_TRAILER_BYTES;
	uint64_t len = part_copy_len(t->block_count, t->meta_len);
	if (t->copy_offset < PART_HEADER_BYTES + PART_TRAILER_BYTES + len ||
	    read_at_open(p, bytes, sizeof(bytes), at) != OK ||
	    !part_trailer_decode(bytes, &other) || !trailer_fits(p, &other, at) ||
	    other.copy_crc != t->copy_crc)
		return false;
	size_t exact = (size_t)t->block_count * PART_TABLE_ENTRY + t->meta_len;
	uint8_t *copy = must_realloc(NULL, exact + 1);
	bool good = read_at_open(p, copy, exact, other.copy_offset) == OK &&
		    crc32c(0, (str){ (const char *)copy, exact }) == t->copy_crc;
	free(copy);
	return good;
}

static errc read_table(struct part_file *p, struct err *e)
{
	uint8_t bytes[PART_TRAILER_BYTES];
	struct part_trailer t;
	if (p->bytes >= PART_HEADER_BYTES + 2 * PART_TRAILER_BYTES) {
		uint64_t at = p->bytes - PART_TRAILER_BYTES;
		if (read_at_open(p, bytes, sizeof(bytes), at) == OK &&
		    part_trailer_decode(bytes, &t) && take_copy(p, &t, at)) {
			p->damaged |= !other_copy_is_good(p, &t);
			return OK;
		}
		drop_copy(p);
		p->damaged = true;
		if (find_first_copy(p))
			return OK;
		drop_copy(p);
	}
	if (part_file_is_unreadable(p))
		FAIL(e, ERR_IO,
		     "%s cannot be read; look after its disk, or let `holdfast doctor "
		     "--data --repair` put it aside",
		     p->path);
	quarantine_add(p->quarantine, p->path, 0, 0, "no table of blocks of this part is whole");
	FAIL(e, ERR_CORRUPT, "%s: no table of its blocks is whole", p->path);
}

static errc open_part(struct part_file *p, const char *folder, const char *name, const char *kind,
		      struct err *e)
{
	struct stat st;
	if (!part_name_is_valid(name) || !str_copy(str_c(name), p->name, sizeof(p->name)))
		FAIL(e, ERR_INVALID, "\"%.80s\" cannot be the name of a part", name);
	if (snprintf(p->path, sizeof(p->path), "%s/%s", folder, name) >= (int)sizeof(p->path))
		FAIL(e, ERR_LIMIT, "the path %.60s… is too long", folder);
	p->fd = io->open(p->path, O_RDONLY | O_NOFOLLOW, 0);
	if (p->fd < 0 || fstat(p->fd, &st) < 0)
		FAIL_ERRNO(e, "cannot open %s", p->path);
	p->bytes = (uint64_t)st.st_size;
	TRY(check_header(p, kind, e));
	TRY(read_table(p, e));
	p->states = must_calloc(p->block_count + 1, 1);
	void *mapping = mmap(NULL, p->bytes, PROT_READ, MAP_SHARED, p->fd, 0);
	if (mapping == MAP_FAILED)
		FAIL_ERRNO(e, "cannot map %s", p->path);
	p->mapping = mapping;
	return OK;
}

static void close_part(struct part_file *p)
{
	if (p->mapping)
		munmap((void *)p->mapping, p->bytes);
	io_close(&p->fd);
	drop_copy(p);
	free(p->states);
	free(p);
}

errc part_file_open(const char *folder, const char *name, const char *kind,
		    struct quarantine *quarantine, struct part_file **ret_part, struct err *e)
{
	struct part_file *p = must_calloc(1, sizeof(*p));
	p->refs = 1;
	p->fd = -1;
	p->quarantine = quarantine;
	errc rc = open_part(p, folder, name, kind, e);
	if (rc != OK) {
		close_part(p);
		return rc;
	}
	*ret_part = p;
	return OK;
}

struct part_file *part_file_ref(struct part_file *p)
{
	__atomic_fetch_add(&p->refs, 1, __ATOMIC_RELAXED);
	return p;
}

void part_file_unref(struct part_file *p)
{
	if (!p || __atomic_sub_fetch(&p->refs, 1, __ATOMIC_ACQ_REL))
		return;
	if (__atomic_load_n(&p->doomed, __ATOMIC_ACQUIRE))
		io->unlink(p->path); /* what remains is removed at the next open */
	close_part(p);
}

void part_file_doom(struct part_file *p)
{
	__atomic_store_n(&p->doomed, true, __ATOMIC_RELEASE);
}

/* ---- What it is. */

const char *part_file_name(const struct part_file *p)
{
	return p->name;
}

uint32_t part_file_kind_version(const struct part_file *p)
{
	return p->kind_version;
}

uint64_t part_file_bytes(const struct part_file *p)
{
	return p->bytes;
}

uint32_t part_block_count(const struct part_file *p)
{
	return p->block_count;
}

str part_file_meta(const struct part_file *p)
{
	return (str){ p->meta, p->meta_len };
}

bool part_file_is_damaged(const struct part_file *p)
{
	return p->damaged;
}

bool part_file_is_unreadable(const struct part_file *p)
{
	return __atomic_load_n(&p->unreadable, __ATOMIC_RELAXED);
}

size_t part_file_memory_bytes(const struct part_file *p)
{
	return sizeof(*p) + p->meta_len +
	       (size_t)p->block_count * (sizeof(struct block) + sizeof(uint8_t));
}

/* ---- Blocks. */

uint32_t part_block_len(const struct part_file *p, uint32_t index)
{
	must(index < p->block_count);
	return p->blocks[index].len;
}

static enum block_state state_of(const struct part_file *p, uint32_t index)
{
	return __atomic_load_n(&p->states[index], __ATOMIC_ACQUIRE);
}

bool part_block_is_bad(const struct part_file *p, uint32_t index)
{
	return index >= p->block_count || state_of(p, index) == BLOCK_BAD;
}

static errc bad_block(const struct part_file *p, uint32_t index, struct err *e)
{
	if (index >= p->block_count)
		FAIL(e, ERR_CORRUPT, "%s has no block %u", p->path, index);
	FAIL(e, ERR_CORRUPT, "%s: the block of %u bytes at %llu is bad", p->path,
	     p->blocks[index].len, (unsigned long long)p->blocks[index].offset);
}

static errc read_checked(struct part_file *p, uint32_t index, char *into, struct err *e)
{
	const struct block *b = &p->blocks[index];
	struct err why;
	errc rc = read_exactly(p, into, b->len, b->offset, &why);
	if (rc == ERR_IO)
		__atomic_store_n(&p->unreadable, true, __ATOMIC_RELAXED);
	if (rc == OK && crc32c(part_block_seed(index), (str){ into, b->len }) == b->crc) {
		uint8_t unknown = BLOCK_UNKNOWN;
		__atomic_compare_exchange_n(&p->states[index], &unknown, BLOCK_GOOD, false,
					    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
		return OK;
	}
	if (__atomic_exchange_n(&p->states[index], BLOCK_BAD, __ATOMIC_ACQ_REL) != BLOCK_BAD)
		quarantine_add(p->quarantine, p->path, b->offset, b->len,
			       rc == OK ? "the block's checksum is wrong"
					: "the block cannot be read");
	return bad_block(p, index, e);
}

errc part_block(struct part_file *p, uint32_t index, str *ret_bytes, struct err *e)
{
	if (part_block_is_bad(p, index))
		return bad_block(p, index, e);
	const struct block *b = &p->blocks[index];
	if (state_of(p, index) == BLOCK_UNKNOWN) {
		char *copy = must_realloc(NULL, (size_t)b->len + 1);
		errc rc = read_checked(p, index, copy, e);
		free(copy);
		TRY(rc);
	}
	*ret_bytes = (str){ (const char *)p->mapping + b->offset, b->len };
	return OK;
}

errc part_block_read(struct part_file *p, uint32_t index, char *into, struct err *e)
{
	return part_block_is_bad(p, index) ? bad_block(p, index, e)
					   : read_checked(p, index, into, e);
}

void part_file_forget_pages(struct part_file *p)
{
	madvise((void *)p->mapping, p->bytes, MADV_DONTNEED);
}

errc part_file_verify(struct part_file *p, uint64_t *ret_bad_count, struct err *e)
{
	(void)e;
	uint64_t bad = 0;
	for (uint32_t i = 0; i < p->block_count; i++) {
		char *copy = must_realloc(NULL, (size_t)p->blocks[i].len + 1);
		bad += part_block_is_bad(p, i) || read_checked(p, i, copy, NULL) != OK;
		free(copy);
	}
	*ret_bad_count = bad;
	return OK;
}
