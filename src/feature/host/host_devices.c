/* Disks and file systems. */
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/checks.h"
#include "codec/number.h"
#include "feature/host/host.h"

enum { TEXT_MAX = 1 << 20, DISK_FIELDS = 17, SECTOR_BYTES = 512 };

struct disk {
	str name;
	uint64_t fields[DISK_FIELDS];
	size_t field_count;
};

/* The columns of /proc/diskstats behind the name. */
static const struct disk_column {
	size_t field;
	double scale;
	const char *name, *kind, *help;
} disk_columns[] = {
	{ 0, 1, "node_disk_reads_completed_total", "counter", "Reads done." },
	{ 1, 1, "node_disk_reads_merged_total", "counter", "Reads merged with others." },
	{ 2, SECTOR_BYTES, "node_disk_read_bytes_total", "counter", "Bytes read." },
	{ 3, 0.001, "node_disk_read_time_seconds_total", "counter", "Seconds of all reads." },
	{ 4, 1, "node_disk_writes_completed_total", "counter", "Writes done." },
	{ 5, 1, "node_disk_writes_merged_total", "counter", "Writes merged with others." },
	{ 6, SECTOR_BYTES, "node_disk_written_bytes_total", "counter", "Bytes written." },
	{ 7, 0.001, "node_disk_write_time_seconds_total", "counter", "Seconds of all writes." },
	{ 8, 1, "node_disk_io_now", "gauge", "Requests in progress." },
	{ 9, 0.001, "node_disk_io_time_seconds_total", "counter", "Seconds with requests." },
	{ 10, 0.001, "node_disk_io_time_weighted_seconds_total", "counter",
	  "Seconds with requests, times how many." },
	{ 11, 1, "node_disk_discards_completed_total", "counter", "Discards done." },
	{ 13, SECTOR_BYTES, "node_disk_discarded_bytes_total", "counter", "Bytes discarded." },
	{ 15, 1, "node_disk_flush_requests_total", "counter", "Flushes done." },
	{ 16, 0.001, "node_disk_flush_requests_time_seconds_total", "counter",
	  "Seconds of all flushes." },
};

/* Memory and loop devices say nothing of a disk. */
static bool is_disk(str name)
{
	return !str_starts(name, STR("ram")) && !str_starts(name, STR("loop")) &&
	       !str_starts(name, STR("fd")) && !str_starts(name, STR("zram"));
}

static size_t read_disks(str text, struct disk *disks)
{
	size_t count = 0;
	str line;
	while (count < HOST_DEVICES_MAX && text.len && str_split(&text, '\n', &line)) {
		struct disk *d = &disks[count];
		host_word(&line), host_word(&line); /* device numbers */
		d->name = host_word(&line);
		d->field_count = 0;
		while (d->field_count < DISK_FIELDS &&
		       str_to_u64(host_word(&line), &d->fields[d->field_count]))
			d->field_count++;
		count += d->name.len && is_disk(d->name);
	}
	return count;
}

static void add_disks(struct buf *into, struct buf *text)
{
	struct disk disks[HOST_DEVICES_MAX];
	if (!host_read("/proc/diskstats", text))
		return;
	size_t count = read_disks(buf_str(text), disks);
	for (size_t c = 0; c < ARRAY_COUNT(disk_columns); c++) {
		const struct disk_column *column = &disk_columns[c];
		host_family(into, column->name, column->kind, column->help);
		for (size_t i = 0; i < count; i++) {
			if (column->field >= disks[i].field_count)
				continue;
			double value = (double)disks[i].fields[column->field] * column->scale;
			struct host_label label = { "device", disks[i].name };
			host_sample(into, column->name, &label, 1);
			number_add(into, value);
			buf_add_byte(into, '\n');
		}
	}
}

/* ---- File systems. */

struct mounted {
	str device, point, type;
	bool read_only;
	struct statvfs st;
};

/* Those of the kernel itself hold no files that could fill up. */
static bool is_storage(str type)
{
	static const char *const others[] = {
		"autofs",    "binfmt_misc", "bpf",        "cgroup",     "cgroup2",
		"configfs",  "debugfs",     "devpts",     "devtmpfs",   "fusectl",
		"hugetlbfs", "mqueue",      "nsfs",       "overlay",    "proc",
		"procfs",    "pstore",      "rpc_pipefs", "securityfs", "selinuxfs",
		"squashfs",  "sysfs",       "tracefs",    "efivarfs",   "fuse.gvfsd-fuse",
		"ramfs",     "nfsd",
	};
	for (size_t i = 0; i < ARRAY_COUNT(others); i++)
		if (str_eq_c(type, others[i]))
			return false;
	return true;
}

/* `\040` is a space; in place. */
static str unescape(str s)
{
	char *at = (char *)s.ptr;
	size_t len = 0;
	for (size_t i = 0; i < s.len; i++) {
		if (s.ptr[i] == '\\' && i + 3 < s.len && s.ptr[i + 1] >= '0' &&
		    s.ptr[i + 1] <= '3') {
			at[len++] = (char)((s.ptr[i + 1] - '0') * 64 + (s.ptr[i + 2] - '0') * 8 +
					   (s.ptr[i + 3] - '0'));
			i += 3;
		} else {
			at[len++] = s.ptr[i];
		}
	}
	return (str){ s.ptr, len };
}

static bool is_known(const struct mounted *items, size_t count, str point)
{
	for (size_t i = 0; i < count; i++)
		if (str_eq(items[i].point, point))
			return true;
	return false;
}

static size_t read_mounts(str text, struct mounted *items)
{
	size_t count = 0;
	str line;
	while (count < HOST_DEVICES_MAX && text.len && str_split(&text, '\n', &line)) {
		struct mounted *m = &items[count];
		char path[4096];
		m->device = unescape(host_word(&line));
		m->point = unescape(host_word(&line));
		m->type = host_word(&line);
		str options = host_word(&line);
		m->read_only = str_eq_c(options, "ro") || str_starts(options, STR("ro,"));
		if (!is_storage(m->type) || is_known(items, count, m->point) ||
		    !str_copy(m->point, path, sizeof(path)) || statvfs(path, &m->st) < 0 ||
		    !m->st.f_blocks)
			continue;
		count++;
	}
	return count;
}

static double fs_value(const struct mounted *m, size_t which)
{
	switch (which) {
	case 0:
		return (double)m->st.f_blocks * (double)m->st.f_frsize;
	case 1:
		return (double)m->st.f_bfree * (double)m->st.f_frsize;
	case 2:
		return (double)m->st.f_bavail * (double)m->st.f_frsize;
	case 3:
		return (double)m->st.f_files;
	case 4:
		return (double)m->st.f_ffree;
	default:
		return m->read_only;
	}
}

static void add_file_systems(struct buf *into, struct buf *text)
{
	static const struct {
		const char *name, *help;
	} columns[] = {
		{ "node_filesystem_size_bytes", "Size." },
		{ "node_filesystem_free_bytes", "Free, for root too." },
		{ "node_filesystem_avail_bytes", "Free for ordinary users." },
		{ "node_filesystem_files", "Files that there may be." },
		{ "node_filesystem_files_free", "Files that may still be made." },
		{ "node_filesystem_readonly", "Whether it is mounted read-only." },
	};
	struct mounted items[HOST_DEVICES_MAX];
	if (!host_read("/proc/self/mounts", text))
		return;
	size_t count = read_mounts(buf_str(text), items);
	for (size_t c = 0; c < ARRAY_COUNT(columns); c++) {
		host_family(into, columns[c].name, "gauge", columns[c].help);
		for (size_t i = 0; i < count; i++) {
			const struct host_label labels[] = {
				{ "device", items[i].device },
				{ "fstype", items[i].type },
				{ "mountpoint", items[i].point },
			};
			host_sample(into, columns[c].name, labels, ARRAY_COUNT(labels));
			number_add(into, fs_value(&items[i], c));
			buf_add_byte(into, '\n');
		}
	}
}

void host_devices(struct buf *into)
{
	struct buf text CLEANUP(buf_done) = buf_init(TEXT_MAX);
	add_disks(into, &text);
	add_file_systems(into, &text);
}
