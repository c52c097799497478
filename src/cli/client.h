/*
 * The command line's way to the daemon: its unix socket, or --server with a token.
 */
#pragma once

#include "cli/command.h"
#include "codec/json.h"

enum { CLIENT_PATH_SIZE = 4096, CLIENT_BYTES_MAX = 32 * 1024 * 1024 };

/* One request; the response's JSON in the command's arena. An error of the daemon becomes E, as it
 * was there. BODY empty: none. */
WARN_UNUSED errc client_request(struct cli *cli, const char *method, const char *path, str body,
				const struct json **ret_json, struct err *e);

/*
 * Follow an operation's events to its end, printing them as people (standard error) or programs
 * (--json: standard output) want them; a daemon that goes away is waited for. Interrupting once
 * asks the daemon to cancel it. *ret_operation is its final record.
 */
WARN_UNUSED errc client_follow(struct cli *cli, const char *id, const struct json **ret_operation,
			       struct err *e);

/* The data folder that --data, $HOLDFAST_DATA or the account's default names. */
const char *client_data(const struct cli *cli, char path[static CLIENT_PATH_SIZE]);

/* The application's folder (absolute) and its specification's text. Errors: ERR_NOT_FOUND saying
 * where it was looked for. */
struct client_project {
	const char *folder;
	const char *file; /* as shown in messages */
	str text;
};
WARN_UNUSED errc client_project_read(struct cli *cli, struct client_project *ret_project,
				     struct err *e);
