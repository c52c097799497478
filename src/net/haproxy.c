#include "net/haproxy.h"

#include <string.h>

#include "base/checks.h"
#include "os/clock.h"
#include "os/io.h"
#include "os/socket.h"

enum { REPLY_BYTES_MAX = 4 * 1024 * 1024, COMMAND_BYTES_MAX = 15000, TIME_MS = 5000 };

errc haproxy_command(const struct haproxy *h, str command, struct buf *reply, struct err *e)
{
	CLEANUP(io_close) int fd = -1;
	int64_t deadline_ms = clock_mono_ms() + (h->time_ms_max ? h->time_ms_max : TIME_MS);
	struct buf line = buf_init(COMMAND_BYTES_MAX + 1);
	command = str_trim(command);
	if (command.len == 0 || command.len > COMMAND_BYTES_MAX ||
	    memchr(command.ptr, '\n', command.len) || memchr(command.ptr, 0, command.len))
		FAIL(e, ERR_INVALID, "HAProxy: a command has 1 to %d bytes on one line",
		     COMMAND_BYTES_MAX);
	if (socket_connect_unix(h->socket_path, deadline_ms, &fd, e) != OK)
		return err_prepend(e, "HAProxy");
	buf_add(&line, command);
	buf_add_byte(&line, '\n');
	errc rc = socket_send_all(fd, buf_str(&line), deadline_ms, e);
	buf_done(&line);
	if (rc != OK)
		return err_prepend(e, "HAProxy");
	/* without `prompt` HAProxy closes after the last reply */
	size_t before = reply->len, n = 1;
	while (n) {
		if (reply->len - before > REPLY_BYTES_MAX)
			FAIL(e, ERR_LIMIT, "HAProxy: the reply has more than 4MiB");
		if (socket_receive_some(fd, reply, deadline_ms, &n, e) != OK)
			return err_prepend(e, "HAProxy");
	}
	return OK;
}

/* What a line says when a change was carried out; every other text is a complaint. */
static bool is_confirmation(str line)
{
	static const char *const confirmations[] = {
		"New server registered.", "Server deleted.", "Done.",
		"Closed sessions: ",      "Success!",        "Transaction created",
		"Transaction updated",    "Commit",          "maxconn updated",
	};
	for (size_t i = 0; i < ARRAY_COUNT(confirmations); i++)
		if (str_starts(line, str_c(confirmations[i])))
			return true;
	/* `set server … addr`: "IP changed from '…' to '…' by 'stats socket command'", and
	 * "no need to change …" when it is so already */
	if (str_starts(line, STR("no need to change")) || str_find(line, STR("changed from ")) >= 0)
		return true;
	return false;
}

static bool contains(str line, const char *part)
{
	return str_find(line, str_c(part)) >= 0;
}

static errc code_of(str line)
{
	if (contains(line, "No such") || contains(line, "Can't find") ||
	    contains(line, "not found") || contains(line, "unable to find"))
		return ERR_NOT_FOUND;
	if (contains(line, "Permission denied"))
		return ERR_FORBIDDEN;
	if (contains(line, "already exists") || contains(line, "Already exists") ||
	    contains(line, "maintenance mode") || contains(line, "still has connections") ||
	    contains(line, "cannot be removed") || contains(line, "cannot be deleted"))
		return ERR_CONFLICT;
	return ERR_INVALID;
}

/* The command without what follows its object: `set server be/s1`. */
static str head_of(str command)
{
	size_t words = 0;
	for (size_t i = 0; i < command.len; i++)
		if (command.ptr[i] == ';' || (command.ptr[i] == ' ' && ++words == 3))
			return (str){ command.ptr, i };
	return command.len < 120 ? command : (str){ command.ptr, 120 };
}

errc haproxy_change(const struct haproxy *h, str command, struct err *e)
{
	struct buf reply = buf_init(64 * 1024);
	errc rc = haproxy_command(h, command, &reply, e);
	str rest = buf_str(&reply), line;
	while (rc == OK && str_split(&rest, '\n', &line)) {
		line = str_trim(line);
		if (line.len == 0 || is_confirmation(line))
			continue;
		str head = head_of(str_trim(command));
		rc = err_fill(e, code_of(line), 0, __FILE__, __LINE__, "HAProxy: %.*s: %.*s",
			      STR_ARG(head), (int)(line.len < 400 ? line.len : 400), line.ptr);
	}
	buf_done(&reply);
	return rc;
}

/* Ask, and let PARSE work on the reply, a copy of which lives in QUERY. */
static errc ask(const struct haproxy *h, const char *command, struct arena *query, str *ret_reply,
		struct err *e)
{
	struct buf reply = buf_init(REPLY_BYTES_MAX);
	errc rc = haproxy_command(h, str_c(command), &reply, e);
	if (rc == OK) {
		*ret_reply = arena_str(query, buf_str(&reply));
		rc = arena_check(query, "HAProxy's reply", e);
	}
	buf_done(&reply);
	return rc;
}

errc haproxy_show_stat(const struct haproxy *h, const char *proxy, const char *server,
		       struct arena *query, struct haproxy_stat **ret_stats, size_t *ret_count,
		       struct err *e)
{
	struct haproxy_stat *stats;
	size_t count, kept = 0;
	str reply;
	TRY(ask(h, "show stat", query, &reply, e));
	TRY(haproxy_stat_parse(reply, query, &stats, &count, e));
	for (size_t i = 0; i < count; i++)
		if ((!proxy || str_eq_c(stats[i].proxy, proxy)) &&
		    (!server || str_eq_c(stats[i].server, server)))
			stats[kept++] = stats[i];
	*ret_stats = stats;
	*ret_count = kept;
	return OK;
}

errc haproxy_show_servers_conn(const struct haproxy *h, const char *proxy, struct arena *query,
			       struct haproxy_server_conn **ret_servers, size_t *ret_count,
			       struct err *e)
{
	str reply;
	char *command = arena_printf(query, "show servers conn%s%s", proxy ? " " : "",
				     proxy ? proxy : "");
	TRY(arena_check(query, "HAProxy's reply", e));
	TRY(ask(h, command, query, &reply, e));
	return haproxy_servers_conn_parse(reply, query, ret_servers, ret_count, e);
}

errc haproxy_show_info(const struct haproxy *h, struct haproxy_info *ret_info, struct err *e)
{
	struct buf reply = buf_init(256 * 1024);
	errc rc = haproxy_command(h, STR("show info"), &reply, e);
	if (rc == OK)
		rc = haproxy_info_parse(buf_str(&reply), ret_info, e);
	buf_done(&reply);
	return rc;
}
