/*
 * Whether an address can be listened on, and who has it otherwise: an attempt to bind, then the
 * kernel's table of listening sockets, then whose descriptor that socket is.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checks.h"
#include "feature/traffic/traffic_proxy.h"

enum { INODE_MAX = 16 };

/* `host:port`, `[host]:port`, `:port` or `*:port` to a socket address; false when it is a name or
 * something that only HAProxy understands. */
static bool parse_listen(const char *wish, struct sockaddr_storage *ret_address, socklen_t *ret_len)
{
	str text = str_c(wish);
	ptrdiff_t colon = -1;
	for (size_t i = 0; i < text.len; i++)
		if (text.ptr[i] == ':')
			colon = (ptrdiff_t)i;
	uint64_t port;
	char host[64];
	if (colon < 0 ||
	    !str_to_u64((str){ text.ptr + colon + 1, text.len - (size_t)colon - 1 }, &port) ||
	    port < 1 || port > 65535)
		return false;
	str h = { text.ptr, (size_t)colon };
	if (h.len >= 2 && h.ptr[0] == '[' && h.ptr[h.len - 1] == ']')
		h = (str){ h.ptr + 1, h.len - 2 };
	if (h.len == 0 || str_eq_c(h, "*"))
		h = STR("0.0.0.0");
	if (!str_copy(h, host, sizeof(host)))
		return false;
	memset(ret_address, 0, sizeof(*ret_address));
	struct sockaddr_in *v4 = (struct sockaddr_in *)ret_address;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret_address;
	if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)port);
		*ret_len = sizeof(*v4);
		return true;
	}
	if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons((uint16_t)port);
		*ret_len = sizeof(*v6);
		return true;
	}
	return false;
}

/* Inodes of sockets that listen on PORT, from /proc/net/tcp or tcp6. */
static size_t find_inodes(const char *table, unsigned port, unsigned long *inodes, size_t count)
{
	FILE *f = fopen(table, "re");
	if (!f)
		return count;
	char line[512];
	while (count < INODE_MAX && fgets(line, sizeof(line), f)) {
		unsigned local_port;
		unsigned state;
		unsigned long inode;
		if (sscanf(line, "%*d: %*[0-9A-Fa-f]:%x %*s %x %*s %*s %*s %*s %*s %lu",
			   &local_port, &state, &inode) == 3 &&
		    local_port == port && state == 0x0a)
			inodes[count++] = inode;
	}
	(void)fclose(f);
	return count;
}

static bool holds_inode(const char *pid, const unsigned long *inodes, size_t count)
{
	char path[64];
	(void)snprintf(path, sizeof(path), "/proc/%.20s/fd", pid);
	DIR *d = opendir(path);
	if (!d)
		return false;
	bool found = false;
	struct dirent *entry;
	while (!found && (entry = readdir(d))) {
		char link[64];
		unsigned long inode;
		ssize_t n = readlinkat(dirfd(d), entry->d_name, link, sizeof(link) - 1);
		if (n <= 0)
			continue;
		link[n] = '\0';
		if (sscanf(link, "socket:[%lu]", &inode) != 1)
			continue;
		for (size_t i = 0; i < count; i++)
			found = found || inodes[i] == inode;
	}
	(void)closedir(d);
	return found;
}

static bool is_ours(const struct traffic_proxy *x, pid_t pid)
{
	if (pid == x->master)
		return true;
	for (size_t i = 0; i < x->worker_count; i++)
		if (x->workers[i] == pid)
			return true;
	return false;
}

/* Who listens on PORT: 0 when it cannot be seen. *ret_ours when one of HAProxy's own does. */
static pid_t find_owner(const struct traffic_proxy *x, unsigned port, bool *ret_ours)
{
	unsigned long inodes[INODE_MAX];
	size_t count = find_inodes("/proc/net/tcp", port, inodes, 0);
	count = find_inodes("/proc/net/tcp6", port, inodes, count);
	pid_t owner = 0;
	*ret_ours = false;
	DIR *d = count ? opendir("/proc") : NULL;
	struct dirent *entry;
	while (d && (entry = readdir(d))) {
		if (!isdigit((unsigned char)entry->d_name[0]) ||
		    !holds_inode(entry->d_name, inodes, count))
			continue;
		pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
		if (is_ours(x, pid))
			*ret_ours = true;
		else
			owner = pid;
	}
	if (d)
		(void)closedir(d);
	return owner;
}

static void read_name(pid_t pid, char name[static 64])
{
	char path[64];
	struct buf text CLEANUP(buf_done) = buf_init(63);
	(void)snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	struct err ignored;
	if (io_read_file(path, &text, &ignored) != OK ||
	    !str_copy(str_trim(buf_str(&text)), name, 64))
		(void)str_copy(STR("unknown"), name, 64);
}

errc traffic_port_check(const struct traffic_proxy *x, const char *wish, struct err *e)
{
	struct sockaddr_storage address;
	socklen_t len;
	if (!parse_listen(wish, &address, &len))
		return OK; /* HAProxy judges it */
	int fd CLEANUP(io_close) = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		FAIL_ERRNO(e, "cannot listen on %s", wish);
	/* as HAProxy does, so that connections in TIME_WAIT do not count */
	int one = 1;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&address, len) == 0)
		return OK;
	if (errno != EADDRINUSE)
		FAIL_ERRNO(e, "cannot listen on %s", wish);
	bool ours;
	unsigned port = ntohs(address.ss_family == AF_INET
				      ? ((struct sockaddr_in *)&address)->sin_port
				      : ((struct sockaddr_in6 *)&address)->sin6_port);
	pid_t owner = find_owner(x, port, &ours);
	if (ours)
		return OK;
	if (!owner)
		FAIL(e, ERR_BUSY,
		     "cannot listen on %s: in use by another program; stop it or change `listen`",
		     wish);
	char name[64];
	read_name(owner, name);
	FAIL(e, ERR_BUSY, "cannot listen on %s: in use by pid %d (%s); stop it or change `listen`",
	     wish, (int)owner, name);
}
