/* Processors, memory, load, the kernel's counters, pressure. */
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/checks.h"
#include "feature/host/host.h"
#include "os/clock.h"

enum { TEXT_MAX = 1 << 20 };

static double tick_seconds(void)
{
	return 1.0 / (double)sysconf(_SC_CLK_TCK);
}

static void add_processor(struct buf *into, str name, str rest)
{
	static const char *const modes[] = { "user",   "nice", "system",  "idle",
					     "iowait", "irq",  "softirq", "steal" };
	for (size_t i = 0; i < ARRAY_COUNT(modes); i++) {
		uint64_t ticks;
		if (!str_to_u64(host_word(&rest), &ticks))
			return;
		buf_printf(into, "node_cpu_seconds_total{cpu=\"%.*s\",mode=\"%s\"} %.2f\n",
			   STR_ARG(name), modes[i], (double)ticks * tick_seconds());
	}
}

struct counter {
	const char *key, *name, *kind, *help;
};

static void add_counter(struct buf *into, const struct counter *table, size_t count, str key,
			str value)
{
	uint64_t number;
	for (size_t i = 0; i < count; i++) {
		if (!str_eq_c(key, table[i].key) || !str_to_u64(value, &number))
			continue;
		host_family(into, table[i].name, table[i].kind, table[i].help);
		buf_printf(into, "%s %llu\n", table[i].name, (unsigned long long)number);
	}
}

static void add_stat(struct buf *into, struct buf *text)
{
	static const struct counter table[] = {
		{ "intr", "node_intr_total", "counter", "Interrupts served." },
		{ "ctxt", "node_context_switches_total", "counter", "Context switches." },
		{ "btime", "node_boot_time_seconds", "gauge", "When the machine started." },
		{ "processes", "node_forks_total", "counter", "Processes and threads made." },
		{ "procs_running", "node_procs_running", "gauge", "Threads that run or could." },
		{ "procs_blocked", "node_procs_blocked", "gauge", "Threads that wait for I/O." },
	};
	if (!host_read("/proc/stat", text))
		return;
	str rest = buf_str(text), line;
	host_family(into, "node_cpu_seconds_total", "counter",
		    "Seconds the processors spent in each mode.");
	while (rest.len && str_split(&rest, '\n', &line)) {
		str key = host_word(&line);
		if (str_starts(key, STR("cpu")) && key.len > 3)
			add_processor(into, (str){ key.ptr + 3, key.len - 3 }, line);
		else
			add_counter(into, table, ARRAY_COUNT(table), key, host_word(&line));
	}
}

/* `MemTotal:   123 kB` is node_memory_MemTotal_bytes, `Active(anon)` …_Active_anon_bytes. */
static void add_memory(struct buf *into, struct buf *text)
{
	if (!host_read("/proc/meminfo", text))
		return;
	str rest = buf_str(text), line;
	while (rest.len && str_split(&rest, '\n', &line)) {
		char name[96] = "node_memory_";
		size_t len = strlen(name);
		uint64_t number;
		str key = host_word(&line);
		for (size_t i = 0; i < key.len && len < sizeof(name) - 8; i++) {
			char c = key.ptr[i];
			if (c == '(')
				name[len++] = '_';
			else if (c != ')' && c != ':')
				name[len++] = c;
		}
		name[len] = '\0';
		if (!str_to_u64(host_word(&line), &number))
			continue;
		bool kib = str_eq_c(host_word(&line), "kB");
		if (kib)
			memcpy(name + len, "_bytes", sizeof("_bytes"));
		host_family(into, name, "gauge", "Of /proc/meminfo.");
		buf_printf(into, "%s %llu\n", name,
			   (unsigned long long)(kib ? number * 1024 : number));
	}
}

static void add_load(struct buf *into, struct buf *text)
{
	static const char *const names[] = { "node_load1", "node_load5", "node_load15" };
	if (!host_read("/proc/loadavg", text))
		return;
	str rest = buf_str(text);
	for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
		str word = host_word(&rest);
		if (!word.len)
			return;
		host_family(into, names[i], "gauge", "Load average.");
		buf_printf(into, "%s %.*s\n", names[i], STR_ARG(word));
	}
}

static void add_vmstat(struct buf *into, struct buf *text)
{
	static const struct counter table[] = {
		{ "oom_kill", "node_vmstat_oom_kill", "counter",
		  "Processes killed for want of memory." },
		{ "pgfault", "node_vmstat_pgfault", "counter", "Page faults." },
		{ "pgmajfault", "node_vmstat_pgmajfault", "counter",
		  "Page faults that read from disk." },
		{ "pgpgin", "node_vmstat_pgpgin", "counter", "KiB read from disks." },
		{ "pgpgout", "node_vmstat_pgpgout", "counter", "KiB written to disks." },
		{ "pswpin", "node_vmstat_pswpin", "counter", "Pages swapped in." },
		{ "pswpout", "node_vmstat_pswpout", "counter", "Pages swapped out." },
	};
	if (!host_read("/proc/vmstat", text))
		return;
	str rest = buf_str(text), line;
	while (rest.len && str_split(&rest, '\n', &line)) {
		str key = host_word(&line);
		add_counter(into, table, ARRAY_COUNT(table), key, host_word(&line));
	}
}

/* The line `some avg10=… total=123` of a pressure file, in microseconds. */
static bool pressure_total(str text, const char *which, uint64_t *ret_us)
{
	str line;
	while (text.len && str_split(&text, '\n', &line)) {
		if (!str_eq_c(host_word(&line), which))
			continue;
		for (str word; (word = host_word(&line)).len;)
			if (str_starts(word, STR("total=")))
				return str_to_u64((str){ word.ptr + 6, word.len - 6 }, ret_us);
	}
	return false;
}

static void add_pressure(struct buf *into, struct buf *text)
{
	static const struct {
		const char *path, *which, *name, *help;
	} table[] = {
		{ "/proc/pressure/cpu", "some", "node_pressure_cpu_waiting_seconds_total",
		  "Seconds in which something waited for a processor." },
		{ "/proc/pressure/io", "some", "node_pressure_io_waiting_seconds_total",
		  "Seconds in which something waited for I/O." },
		{ "/proc/pressure/io", "full", "node_pressure_io_stalled_seconds_total",
		  "Seconds in which everything waited for I/O." },
		{ "/proc/pressure/memory", "some", "node_pressure_memory_waiting_seconds_total",
		  "Seconds in which something waited for memory." },
		{ "/proc/pressure/memory", "full", "node_pressure_memory_stalled_seconds_total",
		  "Seconds in which everything waited for memory." },
	};
	for (size_t i = 0; i < ARRAY_COUNT(table); i++) {
		uint64_t us;
		if (!host_read(table[i].path, text) ||
		    !pressure_total(buf_str(text), table[i].which, &us))
			continue;
		host_family(into, table[i].name, "counter", table[i].help);
		buf_printf(into, "%s %.6f\n", table[i].name, (double)us / 1e6);
	}
}

static void add_files(struct buf *into, struct buf *text)
{
	if (!host_read("/proc/sys/fs/file-nr", text))
		return;
	str rest = buf_str(text), line;
	if (!str_split(&rest, '\n', &line))
		return;
	uint64_t allocated, unused, maximum;
	if (!str_to_u64(host_word(&line), &allocated) || !str_to_u64(host_word(&line), &unused) ||
	    !str_to_u64(host_word(&line), &maximum))
		return;
	host_family(into, "node_filefd_allocated", "gauge", "File handles in use.");
	buf_printf(into, "node_filefd_allocated %llu\n", (unsigned long long)allocated);
	host_family(into, "node_filefd_maximum", "gauge", "File handles that there may be.");
	buf_printf(into, "node_filefd_maximum %llu\n", (unsigned long long)maximum);
}

static void add_names(struct buf *into)
{
	struct utsname u;
	time_ms now = clock_now();
	host_family(into, "node_time_seconds", "gauge", "The machine's clock.");
	buf_printf(into, "node_time_seconds %lld.%03d\n", (long long)(now / 1000),
		   (int)(now % 1000));
	if (uname(&u) < 0)
		return;
	host_family(into, "node_uname_info", "gauge", "The kernel's own description.");
	buf_printf(into,
		   "node_uname_info{sysname=\"%s\",release=\"%s\",version=\"%s\",machine=\"%s\","
		   "nodename=\"%s\",domainname=\"%s\"} 1\n",
		   u.sysname, u.release, u.version, u.machine, u.nodename, u.domainname);
}

void host_system(struct buf *into)
{
	struct buf text CLEANUP(buf_done) = buf_init(TEXT_MAX);
	add_stat(into, &text);
	add_memory(into, &text);
	add_load(into, &text);
	add_vmstat(into, &text);
	add_pressure(into, &text);
	add_files(into, &text);
	add_names(into);
}
