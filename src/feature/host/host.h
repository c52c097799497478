/*
 * host: the machine and the processes of deployed instances, read from /proc; the names are those
 * of node_exporter and of the client libraries' process_*.
 *
 * Who may use it: api. Uses: base, os, catalog; no other feature. Threads: none of its own.
 * Limits: HOST_DEVICES_MAX devices, file systems and interfaces each.
 * Source: proc(5); node_exporter 1.x's default collectors.
 */
#pragma once

#include "feature/feature.h"

enum { HOST_DEVICES_MAX = 256 };

extern const struct feature host_feature;

/* `# HELP` and `# TYPE`, of KIND `counter` or `gauge`. */
void host_family(struct buf *into, const char *name, const char *kind, const char *help);
struct host_label {
	const char *name;
	str value;
};
/* `name{label="value",…} `, escaped; the number is the caller's to add. */
void host_sample(struct buf *into, const char *name, const struct host_label *labels, size_t count);
/* Read a file of /proc or /sys whole into TEXT (emptied first); false when it cannot be. */
bool host_read(const char *path, struct buf *text);
/* The next word, separated by blanks; empty at the end. */
str host_word(str *rest);

void host_system(struct buf *into);  /* host_system.c: processors, memory, load, pressure */
void host_devices(struct buf *into); /* host_devices.c: disks, file systems, network */
void host_network(struct buf *into); /* host_network.c: interfaces, sockets, protocols */
/* host_processes.c */
void host_processes(struct catalog *c, struct buf *into);
