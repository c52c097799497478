/* What deployed instances take, by the names that client libraries give their own process. */
#include <dirent.h>
#include <stdio.h>
#include <unistd.h>

#include "base/checks.h"
#include "catalog/instances.h"
#include "codec/number.h"
#include "feature/host/host.h"

enum { STAT_FIELDS = 52, LIST_BYTES_MAX = 64 << 20, FILES_MAX = 1 << 20 };

enum value {
	CPU_SECONDS,
	RESIDENT_BYTES,
	VIRTUAL_BYTES,
	OPEN_FDS,
	THREADS,
	START_TIME,
	RESTARTS,
	VALUE_COUNT
};

static const struct {
	const char *name, *kind, *help;
} columns[VALUE_COUNT] = {
	[CPU_SECONDS] = { "process_cpu_seconds_total", "counter", "Processor time taken." },
	[RESIDENT_BYTES] = { "process_resident_memory_bytes", "gauge", "Memory in use." },
	[VIRTUAL_BYTES] = { "process_virtual_memory_bytes", "gauge", "Address space." },
	[OPEN_FDS] = { "process_open_fds", "gauge", "Open file descriptors." },
	[THREADS] = { "process_threads", "gauge", "Threads." },
	[START_TIME] = { "process_start_time_seconds", "gauge", "When it was started." },
	[RESTARTS] = { "holdfast_instance_restarts_total", "counter",
		       "How often it was started again." },
};

struct process {
	const struct instance *instance;
	double values[VALUE_COUNT];
};

static size_t count_files(int64_t pid)
{
	char path[64];
	size_t count = 0;
	snprintf(path, sizeof(path), "/proc/%lld/fd", (long long)pid);
	DIR *folder = opendir(path);
	if (!folder)
		return 0;
	for (struct dirent *d; count < FILES_MAX && (d = readdir(folder));)
		count += d->d_name[0] != '.';
	closedir(folder);
	return count;
}

/* The numbers of /proc/PID/stat behind the name, which may hold anything and ends at the last `)`.
 */
static bool read_stat(int64_t pid, uint64_t fields[static STAT_FIELDS])
{
	struct buf text CLEANUP(buf_done) = buf_init(8192);
	char path[64];
	snprintf(path, sizeof(path), "/proc/%lld/stat", (long long)pid);
	if (!host_read(path, &text))
		return false;
	str rest = buf_str(&text);
	size_t end = rest.len;
	while (end && rest.ptr[end - 1] != ')')
		end--;
	if (!end)
		return false;
	rest = (str){ rest.ptr + end, rest.len - end };
	host_word(&rest); /* the state, a letter: field 3 */
	for (size_t i = 4; i < STAT_FIELDS; i++) {
		int64_t number = 0;
		if (!str_to_i64(str_trim(host_word(&rest)), &number))
			return i > 24;
		fields[i] = (uint64_t)number;
	}
	return true;
}

static bool read_process(const struct instance *i, struct process *ret)
{
	uint64_t f[STAT_FIELDS] = { 0 };
	double ticks = (double)sysconf(_SC_CLK_TCK);
	if (i->runtime.state != INSTANCE_STATE_RUNNING || i->runtime.pid <= 0 ||
	    !read_stat(i->runtime.pid, f))
		return false;
	*ret = (struct process){ .instance = i };
	ret->values[CPU_SECONDS] = (double)(f[14] + f[15]) / ticks;
	ret->values[THREADS] = (double)f[20];
	ret->values[START_TIME] = (double)i->runtime.started / 1000;
	ret->values[VIRTUAL_BYTES] = (double)f[23];
	ret->values[RESIDENT_BYTES] = (double)f[24] * (double)sysconf(_SC_PAGESIZE);
	ret->values[OPEN_FDS] = (double)count_files(i->runtime.pid);
	ret->values[RESTARTS] = i->runtime.restarts;
	return true;
}

static void add_sample(struct buf *into, const char *name, const struct process *p, double value)
{
	char release[24], instance[32];
	int release_len = snprintf(release, sizeof(release), "%lld",
				   (long long)p->instance->release);
	int instance_len = snprintf(instance, sizeof(instance), "127.0.0.1:%d", p->instance->port);
	const struct host_label labels[] = {
		{ "app", str_c(p->instance->app) },
		{ "environment", str_c(p->instance->environment) },
		{ "service", str_c(p->instance->service) },
		{ "release", { release, (size_t)release_len } },
		{ "instance", { instance, (size_t)instance_len } },
	};
	host_sample(into, name, labels, ARRAY_COUNT(labels));
	number_add(into, value);
	buf_add_byte(into, '\n');
}

void host_processes(struct catalog *c, struct buf *into)
{
	struct arena scratch CLEANUP(arena_done) = arena_init(LIST_BYTES_MAX);
	struct instance_filter all = { 0 };
	struct instance *items = NULL;
	size_t item_count = 0, count = 0;
	if (instances_list(c, &all, &scratch, &items, &item_count, NULL) != OK)
		return;
	struct process *processes = arena_array(&scratch, item_count + 1, sizeof(processes[0]));
	for (size_t i = 0; processes && i < item_count; i++)
		count += read_process(&items[i], &processes[count]);
	for (size_t v = 0; v < VALUE_COUNT; v++) {
		host_family(into, columns[v].name, columns[v].kind, columns[v].help);
		for (size_t i = 0; i < count; i++)
			add_sample(into, columns[v].name, &processes[i], processes[i].values[v]);
	}
}
