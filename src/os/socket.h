/*
 * Stream sockets, unix and TCP, listening and connecting with deadlines; datagram sockets that
 * receive.
 *
 * All descriptors are close-on-exec. Errors: messages name the address; a refused or missing peer
 * is ERR_UNAVAILABLE, a passed deadline ERR_TIMEOUT, an address in use ERR_BUSY.
 */
#pragma once

#include <sys/socket.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

enum { SOCKET_TEXT_SIZE = 64 };

/* `127.0.0.1:7070` or `[::1]:7070`, numbers only. Errors: ERR_INVALID. */
WARN_UNUSED errc socket_address_parse(const char *text, struct sockaddr_storage *ret_address,
				      socklen_t *ret_len, struct err *e);
/* The same text from an address; `unix` for a unix one. */
const char *socket_address_format(const struct sockaddr *address,
				  char text[static SOCKET_TEXT_SIZE]);

/* Listen without blocking; port 0 takes a free one. RET_PORT may be NULL. */
WARN_UNUSED errc socket_listen_tcp(const char *address, int backlog, int *ret_fd, int *ret_port,
				   struct err *e);
/* Listen without blocking on a socket file of mode 0600 from its first moment. A socket file that
 * nobody answers on is replaced; ERR_BUSY when somebody does, ERR_CONFLICT when PATH is not a
 * socket. */
WARN_UNUSED errc socket_listen_unix(const char *path, int backlog, int *ret_fd, struct err *e);

/* A datagram socket at PATH, non-blocking, that only our user and, when we are root, the user UID
 * may send to. A file left there by an earlier process is replaced. */
WARN_UNUSED errc socket_bind_unix_datagram(const char *path, uid_t uid, int *ret_fd, struct err *e);
/* A UDP socket, non-blocking. ADDRESS as socket_listen_tcp() takes it. */
WARN_UNUSED errc socket_bind_udp(const char *address, int *ret_fd, int *ret_port, struct err *e);

/* Connected, non-blocking. DEADLINE_MS is a time of clock_mono_ms(). */
WARN_UNUSED errc socket_connect_tcp(const char *address, int64_t deadline_ms, int *ret_fd,
				    struct err *e);
WARN_UNUSED errc socket_connect_unix(const char *path, int64_t deadline_ms, int *ret_fd,
				     struct err *e);
/* All of BYTES to a non-blocking socket. */
WARN_UNUSED errc socket_send_all(int fd, str bytes, int64_t deadline_ms, struct err *e);
/* Append until the peer closes; ERR_LIMIT past the buf's cap. */
WARN_UNUSED errc socket_receive_all(int fd, struct buf *into, int64_t deadline_ms, struct err *e);
/* What is there, waiting for the first byte: 0 bytes when the peer closed. */
WARN_UNUSED errc socket_receive_some(int fd, struct buf *into, int64_t deadline_ms, size_t *ret_len,
				     struct err *e);

/* Who is at the other end of a unix socket, as the kernel says. */
WARN_UNUSED errc socket_peer_credentials(int fd, struct ucred *ret_credentials, struct err *e);
