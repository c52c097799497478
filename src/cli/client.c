#include "cli/client.h"

#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/daemon.h"
#include "base/checks.h"
#include "net/http_client.h"
#include "os/clock.h"
#include "os/io.h"

enum { AWAY_MS_MAX = 60000, REQUEST_MS_MAX = 60000, TOKEN_BYTES_MAX = 256 };

const char *client_data(const struct cli *cli, char path[static CLIENT_PATH_SIZE])
{
	const char *given = cli_option(cli, "data");
	const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	if (!given)
		given = getenv("HOLDFAST_DATA");
	if (given && given[0])
		snprintf(path, CLIENT_PATH_SIZE, "%s", given);
	else if (geteuid() == 0)
		snprintf(path, CLIENT_PATH_SIZE, "/var/lib/holdfast");
	else if (state && state[0])
		snprintf(path, CLIENT_PATH_SIZE, "%s/holdfast", state);
	else
		snprintf(path, CLIENT_PATH_SIZE, "%s/.local/state/holdfast", home ? home : "");
	return path;
}

/* Where requests go, and with what. */
struct address {
	const char *base; /* `http://holdfast` or the --server URL */
	const char *unix_path;
	const char *authorization; /* NULL: none */
};

static errc read_token(struct cli *cli, const char **ret_token, struct err *e)
{
	const char *file = cli_option(cli, "token-file"), *token = getenv("HOLDFAST_TOKEN");
	struct buf text CLEANUP(buf_done) = buf_init(TOKEN_BYTES_MAX);
	if (file) {
		TRY(io_read_file(file, &text, e));
		token = arena_cstr(&cli->arena, str_trim(buf_str(&text)));
	}
	if (!token || !token[0])
		FAIL(e, ERR_UNAUTHENTICATED,
		     "a daemon elsewhere wants a token: set HOLDFAST_TOKEN or give --token-file");
	*ret_token = token;
	return OK;
}

static errc find_address(struct cli *cli, struct address *a, struct err *e)
{
	const char *server = cli_option(cli, "server"), *token = NULL;
	char data[CLIENT_PATH_SIZE], socket[DAEMON_SOCKET_SIZE];
	*a = (struct address){ 0 };
	if (!server)
		server = getenv("HOLDFAST_SERVER");
	if (server && server[0]) {
		TRY(read_token(cli, &token, e));
		size_t len = strlen(server);
		while (len && server[len - 1] == '/')
			len--;
		a->base = arena_cstr(&cli->arena, (str){ server, len });
		a->authorization = arena_printf(&cli->arena, "Bearer %s", token);
		return OK;
	}
	TRY(daemon_socket_path(client_data(cli, data), socket, e));
	a->base = "http://holdfast";
	a->unix_path = arena_cstr(&cli->arena, str_c(socket));
	return OK;
}

/* Connection problems of the local daemon are told in its terms. */
static errc explain(struct cli *cli, const struct address *a, errc rc, struct err *e)
{
	char data[CLIENT_PATH_SIZE];
	if (rc == ERR_UNAVAILABLE && a->unix_path && access(a->unix_path, F_OK) != 0)
		FAIL(e, ERR_UNAVAILABLE,
		     "no daemon serves %s. Start it with `holdfast serve`, or name its folder with "
		     "--data",
		     client_data(cli, data));
	if (rc == ERR_UNAVAILABLE && a->unix_path && access(a->unix_path, W_OK) != 0)
		FAIL(e, ERR_FORBIDDEN, "the daemon's socket %s is for another user", a->unix_path);
	return rc;
}

/* The daemon's `{"error":{code,message}}` as our own error; Prometheus's API has a text there. */
static errc take_error(struct cli *cli, const struct http_fetch_response *response, struct err *e)
{
	const struct json *json = NULL;
	if (json_parse(&cli->arena, buf_str(&response->body), CLIENT_BYTES_MAX, &json, NULL) ==
	    OK) {
		const struct json *error = json_get(json, "error");
		const char *message = json_cstr(json_get(error, "message"));
		if (json_cstr(error)[0])
			FAIL(e, response->status == 503 ? ERR_UNAVAILABLE : ERR_INVALID, "%s",
			     json_cstr(error));
		if (message[0])
			return err_fill(e, errc_of_name(json_cstr(json_get(error, "code"))), 0,
					__FILE__, __LINE__, "%s", message);
	}
	FAIL(e, ERR_UNAVAILABLE, "the daemon answered with status %d", response->status);
}

static size_t fill_headers(const struct address *a, struct http_fetch_header headers[2], str body)
{
	size_t count = 0;
	if (a->authorization)
		headers[count++] = (struct http_fetch_header){ "authorization", a->authorization };
	if (body.len)
		headers[count++] = (struct http_fetch_header){ "content-type", "application/json" };
	return count;
}

errc client_request(struct cli *cli, const char *method, const char *path, str body,
		    const struct json **ret_json, struct err *e)
{
	struct address a;
	struct http_fetch_header headers[2];
	struct http_fetch_response response;
	TRY(find_address(cli, &a, e));
	struct http_fetch_request request = { .method = method,
					      .url = arena_printf(&cli->arena, "%s%s", a.base,
								  path),
					      .unix_path = a.unix_path,
					      .headers = headers,
					      .header_count = fill_headers(&a, headers, body),
					      .body = body,
					      .total_ms_max = REQUEST_MS_MAX,
					      .response_bytes_max = CLIENT_BYTES_MAX };
	errc rc = http_fetch(&request, &response, e);
	if (rc != OK)
		return explain(cli, &a, rc, e);
	if (response.status < 200 || response.status > 299)
		rc = take_error(cli, &response, e);
	else
		rc = json_parse(&cli->arena, buf_str(&response.body), CLIENT_BYTES_MAX, ret_json,
				e);
	http_fetch_response_done(&response);
	return rc;
}

/* ---- Following. */

static volatile sig_atomic_t interrupt_count;

static void on_interrupt(int signal_number)
{
	(void)signal_number;
	if (++interrupt_count > 1)
		_exit(errc_exit_status(ERR_USAGE)); /* the operation goes on in the daemon */
}

struct follow {
	struct cli *cli;
	int64_t sequence;             /* of the last event seen */
	const struct json *operation; /* set by the last line */
	sig_atomic_t interrupts_heard;
	char open_step[32]; /* a line on the terminal waits for its end */
};

static const char *colour(const struct cli *cli, const char *code)
{
	return isatty(STDERR_FILENO) && cli->colour ? code : "";
}

/* Each further line of a message is indented below the first. */
static void print_lines(const char *indent, const char *message)
{
	str rest = str_c(message), line;
	bool first = true;
	while (str_split(&rest, '\n', &line)) {
		fprintf(stderr, "%s%.*s\n", first ? "" : indent, STR_ARG(line));
		first = false;
	}
}

static void print_event(struct follow *f, const struct json *event)
{
	const char *kind = json_cstr(json_get(event, "event"));
	const char *message = json_cstr(json_get(event, "message"));
	const char *step = json_cstr(json_get(event, "step"));
	const char *plain = colour(f->cli, "\033[0m");
	if (strcmp(kind, "started") == 0) {
		fprintf(stderr, "%s•%s %s\n", colour(f->cli, "\033[36m"), plain, step);
	} else if (strcmp(kind, "done") == 0) {
		int64_t ms = json_i64(json_get(json_get(event, "data"), "duration_ms"), 0);
		char took[UNIT_TEXT_SIZE];
		fprintf(stderr, "%s✓%s %s %s%s%s\n", colour(f->cli, "\033[32m"), plain, step,
			colour(f->cli, "\033[2m"), duration_format(ms, took), plain);
	} else if (strcmp(kind, "output") == 0) {
		if (str_trim(str_c(message)).len == 0)
			return; /* what tools print to space themselves out */
		fprintf(stderr, "    %s| %s%s\n", colour(f->cli, "\033[2m"), message, plain);
	} else if (strcmp(kind, "warning") == 0) {
		fprintf(stderr, "  %s!%s ", colour(f->cli, "\033[33m"), plain);
		print_lines("    ", message);
	} else if (strcmp(kind, "failure") == 0) {
		fprintf(stderr, "%s✗%s %s failed: ", colour(f->cli, "\033[31m"), plain, step);
		print_lines("    ", message);
	} else if (message[0]) {
		fprintf(stderr, "    ");
		print_lines("    ", message);
	}
}

static bool take_line(void *ctx, str line)
{
	struct follow *f = ctx;
	const struct json *event = NULL;
	if (json_parse(&f->cli->arena, line, CLIENT_BYTES_MAX, &event, NULL) != OK)
		return true;
	const struct json *operation = json_get(event, "operation");
	if (operation)
		f->operation = operation;
	f->sequence = json_i64(json_get(event, "sequence"), f->sequence);
	if (f->cli->json) {
		printf("%.*s\n", STR_ARG(line));
		fflush(stdout);
	} else if (!operation) {
		print_event(f, event);
	}
	return true;
}

static bool was_interrupted(void *ctx)
{
	const struct follow *f = ctx;
	return interrupt_count > f->interrupts_heard;
}

static errc follow_once(struct follow *f, const struct address *a, const char *id, struct err *e)
{
	struct http_fetch_header headers[2];
	struct http_fetch_response response;
	char *url = arena_printf(&f->cli->arena, "%s/holdfast/v1/operations/%s/events?after=%lld",
				 a->base, id, (long long)f->sequence);
	struct http_fetch_request request = { .url = url,
					      .unix_path = a->unix_path,
					      .headers = headers,
					      .header_count = fill_headers(a, headers, STR("")),
					      .response_bytes_max = CLIENT_BYTES_MAX,
					      .line = take_line,
					      .cancelled = was_interrupted,
					      .ctx = f };
	TRY(http_fetch(&request, &response, e));
	errc rc = response.status == 200 ? OK : take_error(f->cli, &response, e);
	http_fetch_response_done(&response);
	return rc;
}

static void ask_to_cancel(struct follow *f, const char *id)
{
	const struct json *answer = NULL;
	struct err e;
	char *path = arena_printf(&f->cli->arena, "/holdfast/v1/operations/%s/cancel", id);
	f->interrupts_heard = interrupt_count;
	fprintf(stderr, "  asking the daemon to cancel; interrupt again to leave it running\n");
	if (client_request(f->cli, "POST", path, STR("{}"), &answer, &e) != OK)
		fprintf(stderr, "  %s\n", e.message);
}

errc client_follow(struct cli *cli, const char *id, const struct json **ret_operation,
		   struct err *e)
{
	struct follow f = { .cli = cli };
	struct address a;
	struct sigaction on_int = { .sa_handler = on_interrupt };
	int64_t away_since = 0;
	TRY(find_address(cli, &a, e));
	sigaction(SIGINT, &on_int, NULL);
	while (!f.operation) {
		int64_t sequence_before = f.sequence;
		errc rc = follow_once(&f, &a, id, e);
		if (f.operation)
			break;
		if (was_interrupted(&f)) {
			ask_to_cancel(&f, id);
			continue;
		}
		bool away = rc == OK || rc == ERR_UNAVAILABLE || rc == ERR_TIMEOUT;
		if (!away)
			return rc;
		if (f.sequence != sequence_before)
			away_since = 0;
		if (!away_since) {
			away_since = clock_mono_ms();
			if (!cli->json)
				fprintf(stderr, "  the daemon went away; the operation goes on "
						"when it is back\n");
		}
		if (clock_mono_ms() - away_since > AWAY_MS_MAX)
			return rc == OK ? err_fill(e, ERR_UNAVAILABLE, 0, __FILE__, __LINE__,
						   "the daemon does not come back")
					: explain(cli, &a, rc, e);
		clock_sleep_ms(200);
	}
	*ret_operation = f.operation;
	return OK;
}

/* ---- The project. */

errc client_project_read(struct cli *cli, struct client_project *ret_project, struct err *e)
{
	const char *folder = cli_option(cli, "directory"), *file = cli_option(cli, "file");
	struct buf text CLEANUP(buf_done) = buf_init(1024 * 1024);
	char resolved[CLIENT_PATH_SIZE];
	if (!realpath(folder ? folder : ".", resolved))
		FAIL_ERRNO(e, "cannot find the folder %s", folder ? folder : ".");
	const char *path = file && file[0] == '/' ? file
						  : arena_printf(&cli->arena, "%s/%s", resolved,
								 file ? file : "holdfast.yml");
	errc rc = io_read_file(path, &text, e);
	if (rc == ERR_NOT_FOUND)
		FAIL(e, ERR_NOT_FOUND,
		     "there is no %s; go to the application's folder, or name it with -C FOLDER",
		     path);
	TRY(rc);
	*ret_project = (struct client_project){ .folder = arena_cstr(&cli->arena, str_c(resolved)),
						.file = file ? file : "holdfast.yml",
						.text = arena_str(&cli->arena, buf_str(&text)) };
	return arena_check(&cli->arena, "the specification", e);
}
