#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/checks.h"
#include "os/io.h"
#include "shim/shim_internal.h"

enum { BACKLOG = 32 };

/*
 * sun_path holds 108 bytes and a data folder may lie deep, so the socket is addressed through a
 * descriptor of its folder: /proc/self/fd/N/name. Valid as long as *ret_fd_folder is open.
 */
static errc socket_address(const char *path, struct sockaddr_un *address, int *ret_fd_folder,
			   struct err *e)
{
	char folder[IO_PATH_MAX];
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	str parent = !slash          ? STR(".")
		     : slash == path ? STR("/")
				     : (str){ path, (size_t)(slash - path) };
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (!str_copy(parent, folder, sizeof(folder)) || !*name ||
	    strlen(name) > sizeof(address->sun_path) - 32)
		FAIL(e, ERR_LIMIT, "the socket's path %.80s… is too long", path);
	int fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		FAIL_ERRNO(e, "cannot open the folder of the socket %s", path);
	snprintf(address->sun_path, sizeof(address->sun_path), "/proc/self/fd/%d/%s", fd, name);
	*ret_fd_folder = fd;
	return OK;
}

static bool try_connect(int fd, const struct sockaddr_un *address)
{
	int rc;
	do {
		rc = connect(fd, (const struct sockaddr *)address, sizeof(*address));
	} while (rc < 0 && errno == EINTR);
	return rc == 0;
}

errc shim_socket_connect(const char *path, int *ret_fd, struct err *e)
{
	struct sockaddr_un address;
	int fd_folder CLEANUP(io_close) = -1;
	TRY(socket_address(path, &address, &fd_folder, e));
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		FAIL_ERRNO(e, "cannot make a socket");
	if (!try_connect(fd, &address)) {
		int saved = errno;
		io_close(&fd);
		errno = saved;
		if (saved == ECONNREFUSED || saved == ENOENT)
			FAIL(e, ERR_NOT_FOUND, "no shim listens on %s: the instance has ended",
			     path);
		if (saved == EAGAIN)
			FAIL(e, ERR_BUSY, "the shim at %s has too many clients; try again", path);
		FAIL_ERRNO(e, "cannot connect to the shim at %s", path);
	}
	*ret_fd = fd;
	return OK;
}

errc shim_socket_listen(const char *path, int *ret_fd, struct err *e)
{
	struct sockaddr_un address;
	int fd_folder CLEANUP(io_close) = -1;
	TRY(socket_address(path, &address, &fd_folder, e));
	int probe CLEANUP(io_close) = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
					     0);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	errc rc = OK;
	if (probe >= 0 && (try_connect(probe, &address) || errno == EAGAIN))
		rc = err_fill(e, ERR_CONFLICT, 0, __FILE__, __LINE__,
			      "a shim already listens on %s; stop that instance first", path);
	if (rc == OK && unlink(path) < 0 && errno != ENOENT)
		rc = err_fill_errno(e, __FILE__, __LINE__, "cannot replace %s", path);
	/* nobody connects before listen(), so the mode may follow bind() */
	if (rc == OK && (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
			 chmod(path, 0600) < 0 || listen(fd, BACKLOG) < 0))
		rc = err_fill_errno(e, __FILE__, __LINE__, "cannot listen on %s", path);
	if (rc != OK) {
		io_close(&fd);
		return rc;
	}
	*ret_fd = fd;
	return OK;
}
