/* Sockets: addresses, deadlines, stale and living unix sockets, who is there. */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/clock.h"
#include "os/io.h"
#include "os/socket.h"

static int64_t soon(void)
{
	return clock_mono_ms() + 10000;
}

static void test_addresses(void **state)
{
	const char *const good[] = { "127.0.0.1:7070", "0.0.0.0:0", "[::1]:65535" };
	const char *const bad[] = { "",           "7070",        ":7070",         "localhost:7070",
				    "127.0.0.1:", "127.0.0.1:x", "1.2.3.4:65536", "::1:70",
				    "[::1]",      "[]:1",        "1.2.3:4" };
	struct sockaddr_storage a;
	socklen_t len;
	struct err e;
	char text[SOCKET_TEXT_SIZE];
	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(socket_address_parse(good[i], &a, &len, &e), OK);
		assert_string_equal(socket_address_format((struct sockaddr *)&a, text), good[i]);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(socket_address_parse(bad[i], &a, &len, &e), ERR_INVALID);
}

static void test_tcp(void **state)
{
	int listener, port, fd, peer;
	char address[40];
	struct err e;
	struct buf b = buf_init(5);
	(void)state;
	assert_int_equal(socket_listen_tcp("127.0.0.1:0", 5, &listener, &port, &e), OK);
	snprintf(address, sizeof(address), "127.0.0.1:%d", port);
	assert_int_equal(socket_listen_tcp(address, 5, &fd, NULL, &e), ERR_BUSY);
	assert_int_equal(socket_connect_tcp(address, soon(), &fd, &e), OK);
	do
		peer = accept(listener, NULL, NULL);
	while (peer < 0);
	/* nothing arrives: the deadline */
	assert_int_equal(socket_receive_all(fd, &b, clock_mono_ms() + 20, &e), ERR_TIMEOUT);
	assert_int_equal(socket_send_all(peer, STR("hello"), soon(), &e), OK);
	shutdown(peer, SHUT_WR);
	assert_int_equal(socket_receive_all(fd, &b, soon(), &e), OK);
	assert_string_equal(buf_cstr(&b), "hello");
	/* one byte more than the cap */
	buf_clear(&b);
	close(peer);
	close(fd);
	assert_int_equal(socket_connect_tcp(address, soon(), &fd, &e), OK);
	do
		peer = accept(listener, NULL, NULL);
	while (peer < 0);
	assert_int_equal(socket_send_all(peer, STR("hello!"), soon(), &e), OK);
	close(peer);
	assert_int_equal(socket_receive_all(fd, &b, soon(), &e), ERR_LIMIT);
	close(fd);
	close(listener);
	assert_int_equal(socket_connect_tcp(address, soon(), &fd, &e), ERR_UNAVAILABLE);
	assert_non_null(strstr(e.message, address));
	buf_done(&b);
}

static void test_unix(void **state)
{
	char dir[] = "/tmp/holdfast-socket-XXXXXX", path[64], plain[64], lost[200];
	int listener, fd, second;
	struct err e;
	struct stat st;
	struct ucred who;
	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/s", dir);
	snprintf(plain, sizeof(plain), "%s/plain", dir);
	umask(0);
	assert_int_equal(socket_listen_unix(path, 5, &listener, &e), OK);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	/* somebody answers: not taken; nobody does: replaced */
	assert_int_equal(socket_listen_unix(path, 5, &second, &e), ERR_BUSY);
	assert_int_equal(socket_connect_unix(path, soon(), &fd, &e), OK);
	assert_int_equal(socket_peer_credentials(fd, &who, &e), OK);
	assert_int_equal(who.pid, getpid());
	assert_int_equal(who.uid, getuid());
	close(fd);
	close(listener);
	assert_int_equal(socket_connect_unix(path, soon(), &fd, &e), ERR_UNAVAILABLE);
	assert_int_equal(socket_listen_unix(path, 5, &listener, &e), OK);
	close(listener);
	/* a file that is no socket is left alone */
	close(open(plain, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	assert_int_equal(socket_listen_unix(plain, 5, &listener, &e), ERR_CONFLICT);
	assert_int_equal(access(plain, F_OK), 0);
	memset(lost, 'x', sizeof(lost) - 1);
	lost[sizeof(lost) - 1] = 0;
	assert_int_equal(socket_listen_unix(lost, 5, &listener, &e), ERR_INVALID);
	assert_int_equal(io_remove_tree(dir, &e), OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_tcp),
		cmocka_unit_test(test_unix),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
