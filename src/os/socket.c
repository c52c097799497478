#include "os/socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/checks.h"
#include "os/clock.h"
#include "os/io.h"

enum { PROBE_MS = 1000 };

static void close_fd(int fd)
{
	io_close(&fd);
}

errc socket_address_parse(const char *text, struct sockaddr_storage *ret_address,
			  socklen_t *ret_len, struct err *e)
{
	char host[INET6_ADDRSTRLEN];
	str all = str_c(text);
	ptrdiff_t colon = -1;
	for (size_t i = 0; i < all.len; i++)
		if (all.ptr[i] == ':')
			colon = (ptrdiff_t)i;
	uint64_t port;
	if (colon < 0 ||
	    !str_to_u64((str){ all.ptr + colon + 1, all.len - (size_t)colon - 1 }, &port) ||
	    port > 65535)
		FAIL(e, ERR_INVALID, "'%.80s' is not an address; write it as 127.0.0.1:7070", text);
	str name = { all.ptr, (size_t)colon };
	bool six = name.len > 2 && name.ptr[0] == '[' && name.ptr[name.len - 1] == ']';
	if (six)
		name = (str){ name.ptr + 1, name.len - 2 };
	struct sockaddr_storage address = { 0 };
	struct sockaddr_in *in4 = (struct sockaddr_in *)&address;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&address;
	bool good = str_copy(name, host, sizeof(host));
	if (good && six) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons((uint16_t)port);
		good = inet_pton(AF_INET6, host, &in6->sin6_addr) == 1;
	} else if (good) {
		in4->sin_family = AF_INET;
		in4->sin_port = htons((uint16_t)port);
		good = inet_pton(AF_INET, host, &in4->sin_addr) == 1;
	}
	if (!good)
		FAIL(e, ERR_INVALID,
		     "'%.80s' is not a numeric address; write it as 127.0.0.1:7070 or [::1]:7070",
		     text);
	*ret_address = address;
	*ret_len = six ? (socklen_t)sizeof(*in6) : (socklen_t)sizeof(*in4);
	return OK;
}

const char *socket_address_format(const struct sockaddr *address,
				  char text[static SOCKET_TEXT_SIZE])
{
	char host[INET6_ADDRSTRLEN] = "";
	if (address->sa_family == AF_INET) {
		const struct sockaddr_in *in4 = (const struct sockaddr_in *)address;
		inet_ntop(AF_INET, &in4->sin_addr, host, sizeof(host));
		snprintf(text, SOCKET_TEXT_SIZE, "%s:%d", host, ntohs(in4->sin_port));
	} else if (address->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;
		inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
		snprintf(text, SOCKET_TEXT_SIZE, "[%s]:%d", host, ntohs(in6->sin6_port));
	} else {
		snprintf(text, SOCKET_TEXT_SIZE, "unix");
	}
	return text;
}

static errc new_socket(int family, int type, const char *name, int *ret_fd, struct err *e)
{
	int fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		FAIL_ERRNO(e, "%s: cannot make a socket", name);
	*ret_fd = fd;
	return OK;
}

static int port_of(const struct sockaddr_storage *where)
{
	return ntohs(where->ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)where)->sin6_port
						  : ((const struct sockaddr_in *)where)->sin_port);
}

errc socket_listen_tcp(const char *address, int backlog, int *ret_fd, int *ret_port, struct err *e)
{
	struct sockaddr_storage where;
	socklen_t len;
	CLEANUP(io_close) int fd = -1;
	int on = 1;
	TRY(socket_address_parse(address, &where, &len, e));
	TRY(new_socket(where.ss_family, SOCK_STREAM, address, &fd, e));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (where.ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&where, len) != 0 || listen(fd, backlog) != 0) {
		if (errno == EADDRINUSE)
			FAIL(e, ERR_BUSY,
			     "cannot listen on %s: another program listens there; stop it or "
			     "choose "
			     "another port",
			     address);
		FAIL_ERRNO(e, "cannot listen on %s", address);
	}
	len = sizeof(where);
	if (getsockname(fd, (struct sockaddr *)&where, &len) != 0)
		FAIL_ERRNO(e, "cannot listen on %s", address);
	if (ret_port)
		*ret_port = port_of(&where);
	*ret_fd = fd;
	fd = -1;
	return OK;
}

static errc unix_address(const char *path, struct sockaddr_un *ret_address, struct err *e)
{
	*ret_address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (!path[0] ||
	    !str_copy(str_c(path), ret_address->sun_path, sizeof(ret_address->sun_path)))
		FAIL(e, ERR_INVALID,
		     "socket path %s must have 1 to %zu bytes; use a shorter folder", path,
		     sizeof(ret_address->sun_path) - 1);
	return OK;
}

/* Remove a socket file that nobody answers on. */
static errc clear_stale(const char *path, struct err *e)
{
	struct stat st;
	int fd;
	struct err why;
	if (lstat(path, &st) != 0) {
		if (errno == ENOENT)
			return OK;
		FAIL_ERRNO(e, "cannot listen on %s", path);
	}
	if (!S_ISSOCK(st.st_mode))
		FAIL(e, ERR_CONFLICT,
		     "cannot listen on %s: a file that is not a socket is there; move it away",
		     path);
	errc rc = socket_connect_unix(path, clock_mono_ms() + PROBE_MS, &fd, &why);
	if (rc == OK)
		close_fd(fd);
	else if (why.sys_errno == ENOENT)
		return OK;
	/* only a refusal proves that nobody has it open */
	if (rc == OK || why.sys_errno != ECONNREFUSED)
		FAIL(e, ERR_BUSY,
		     "cannot listen on %s: another process answers there; is it running already?",
		     path);
	if (unlink(path) != 0 && errno != ENOENT)
		FAIL_ERRNO(e, "cannot replace the stale socket %s", path);
	return OK;
}

errc socket_listen_unix(const char *path, int backlog, int *ret_fd, struct err *e)
{
	struct sockaddr_un where;
	CLEANUP(io_close) int fd = -1;
	TRY(unix_address(path, &where, e));
	TRY(new_socket(AF_UNIX, SOCK_STREAM, path, &fd, e));
	TRY(clear_stale(path, e));
	/* bind() gives the file the mode of the socket, so it never exists with a wider one */
	if (fchmod(fd, 0600) != 0)
		FAIL_ERRNO(e, "cannot listen on %s", path);
	if (bind(fd, (struct sockaddr *)&where, sizeof(where)) != 0) {
		if (errno == EADDRINUSE)
			FAIL(e, ERR_BUSY, "cannot listen on %s: another process took it just now",
			     path);
		FAIL_ERRNO(e, "cannot listen on %s", path);
	}
	if (chmod(path, 0600) != 0 || listen(fd, backlog) != 0) {
		int saved = errno;
		unlink(path);
		errno = saved;
		FAIL_ERRNO(e, "cannot listen on %s", path);
	}
	*ret_fd = fd;
	fd = -1;
	return OK;
}

errc socket_bind_unix_datagram(const char *path, uid_t uid, int *ret_fd, struct err *e)
{
	struct sockaddr_un where;
	struct stat st;
	CLEANUP(io_close) int fd = -1;
	TRY(unix_address(path, &where, e));
	TRY(new_socket(AF_UNIX, SOCK_DGRAM, path, &fd, e));
	if (lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode))
		FAIL(e, ERR_CONFLICT,
		     "cannot listen on %s: a file that is not a socket is there; move it away",
		     path);
	if ((unlink(path) != 0 && errno != ENOENT) || fchmod(fd, 0600) != 0 ||
	    bind(fd, (struct sockaddr *)&where, sizeof(where)) != 0)
		FAIL_ERRNO(e, "cannot listen on %s", path);
	if (chmod(path, 0600) != 0 || (geteuid() == 0 && chown(path, uid, (gid_t)-1) != 0))
		FAIL_ERRNO(e, "cannot give %s to user %u", path, uid);
	*ret_fd = fd;
	fd = -1;
	return OK;
}

errc socket_bind_udp(const char *address, int *ret_fd, int *ret_port, struct err *e)
{
	struct sockaddr_storage where;
	socklen_t len;
	CLEANUP(io_close) int fd = -1;
	TRY(socket_address_parse(address, &where, &len, e));
	TRY(new_socket(where.ss_family, SOCK_DGRAM, address, &fd, e));
	if (bind(fd, (struct sockaddr *)&where, len) != 0) {
		if (errno == EADDRINUSE)
			FAIL(e, ERR_BUSY,
			     "cannot receive on %s: another program has it; choose another port",
			     address);
		FAIL_ERRNO(e, "cannot receive on %s", address);
	}
	len = sizeof(where);
	if (getsockname(fd, (struct sockaddr *)&where, &len) != 0)
		FAIL_ERRNO(e, "cannot receive on %s", address);
	if (ret_port)
		*ret_port = port_of(&where);
	*ret_fd = fd;
	fd = -1;
	return OK;
}

/* Wait for EVENTS until the deadline. */
static errc wait_for(int fd, short events, int64_t deadline_ms, const char *what, struct err *e)
{
	for (;;) {
		int64_t left = deadline_ms - clock_mono_ms();
		if (left < 0)
			left = 0;
		struct pollfd p = { .fd = fd, .events = events };
		int n = poll(&p, 1, left > INT32_MAX ? INT32_MAX : (int)left);
		if (n > 0)
			return OK;
		if (n == 0)
			FAIL(e, ERR_TIMEOUT, "%s: no answer in time", what);
		if (errno != EINTR)
			FAIL_ERRNO(e, "%s", what);
	}
}

static errc connect_failed(int code, const char *name, struct err *e)
{
	errno = code;
	errc rc = err_fill_errno(e, __FILE__, __LINE__, "cannot connect to %s", name);
	if (rc == ERR_IO && (code == ECONNREFUSED || code == ENETUNREACH || code == EHOSTUNREACH ||
			     code == EAGAIN || code == ECONNRESET))
		rc = ERR_UNAVAILABLE;
	if (rc == ERR_NOT_FOUND)
		rc = ERR_UNAVAILABLE;
	if (e)
		e->code = rc;
	return rc;
}

static errc connect_to(const struct sockaddr *where, socklen_t len, const char *name,
		       int64_t deadline_ms, int *ret_fd, struct err *e)
{
	CLEANUP(io_close) int fd = -1;
	TRY(new_socket(where->sa_family, SOCK_STREAM, name, &fd, e));
	while (connect(fd, where, len) != 0) {
		if (errno == EAGAIN && clock_mono_ms() < deadline_ms) {
			/* a unix listener's queue is full; there is no event for its space */
			clock_sleep_ms(2);
			continue;
		}
		if (errno != EINPROGRESS && errno != EINTR)
			return connect_failed(errno, name, e);
		int code = 0;
		socklen_t size = sizeof(code);
		TRY(wait_for(fd, POLLOUT, deadline_ms, name, e));
		getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &size);
		if (code)
			return connect_failed(code, name, e);
		break;
	}
	*ret_fd = fd;
	fd = -1;
	return OK;
}

errc socket_connect_tcp(const char *address, int64_t deadline_ms, int *ret_fd, struct err *e)
{
	struct sockaddr_storage where;
	socklen_t len;
	int on = 1;
	TRY(socket_address_parse(address, &where, &len, e));
	TRY(connect_to((struct sockaddr *)&where, len, address, deadline_ms, ret_fd, e));
	setsockopt(*ret_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return OK;
}

errc socket_connect_unix(const char *path, int64_t deadline_ms, int *ret_fd, struct err *e)
{
	struct sockaddr_un where;
	TRY(unix_address(path, &where, e));
	return connect_to((struct sockaddr *)&where, sizeof(where), path, deadline_ms, ret_fd, e);
}

errc socket_send_all(int fd, str bytes, int64_t deadline_ms, struct err *e)
{
	while (bytes.len) {
		ssize_t n = send(fd, bytes.ptr, bytes.len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n >= 0) {
			bytes.ptr += n;
			bytes.len -= (size_t)n;
		} else if (errno == EAGAIN) {
			TRY(wait_for(fd, POLLOUT, deadline_ms, "sending", e));
		} else if (errno == EPIPE || errno == ECONNRESET) {
			FAIL(e, ERR_UNAVAILABLE, "sending: the peer closed the connection");
		} else if (errno != EINTR) {
			FAIL_ERRNO(e, "sending");
		}
	}
	return OK;
}

errc socket_receive_some(int fd, struct buf *into, int64_t deadline_ms, size_t *ret_len,
			 struct err *e)
{
	enum { PIECE = 16 * 1024 };
	size_t room = into->cap - into->len;
	if (room == 0)
		FAIL(e, ERR_LIMIT, "the peer sends more than %zu bytes", into->cap);
	size_t want = room < PIECE ? room : PIECE;
	char *to = buf_reserve(into, want);
	must(to);
	for (;;) {
		ssize_t n = recv(fd, to, want, MSG_DONTWAIT);
		if (n >= 0) {
			into->len += (size_t)n;
			into->ptr[into->len] = 0;
			*ret_len = (size_t)n;
			return OK;
		}
		if (errno == EAGAIN)
			TRY(wait_for(fd, POLLIN, deadline_ms, "receiving", e));
		else if (errno == ECONNRESET)
			FAIL(e, ERR_UNAVAILABLE, "receiving: the peer reset the connection");
		else if (errno != EINTR)
			FAIL_ERRNO(e, "receiving");
	}
}

errc socket_receive_all(int fd, struct buf *into, int64_t deadline_ms, struct err *e)
{
	size_t n = 1;
	while (n) {
		if (into->len == into->cap) {
			/* full is fine when nothing more comes */
			char more;
			TRY(wait_for(fd, POLLIN, deadline_ms, "receiving", e));
			if (recv(fd, &more, 1, MSG_DONTWAIT | MSG_PEEK) == 0)
				return OK;
		}
		TRY(socket_receive_some(fd, into, deadline_ms, &n, e));
	}
	return OK;
}

errc socket_peer_credentials(int fd, struct ucred *ret_credentials, struct err *e)
{
	struct ucred who;
	socklen_t len = sizeof(who);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) != 0)
		FAIL_ERRNO(e, "cannot tell who connected");
	*ret_credentials = who;
	return OK;
}
