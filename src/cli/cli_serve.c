#include <stdio.h>

#include "api/daemon.h"
#include "base/checks.h"
#include "base/log.h"
#include "cli/client.h"
#include "cli/commands.h"

static int run(struct cli *cli)
{
	char data[CLIENT_PATH_SIZE];
	struct err e = { 0 };
	const char *listen = cli_option(cli, "listen");
	if (cli_option(cli, "verbose"))
		log_set_level(LOG_DEBUG);
	struct daemon_options options = { .data = client_data(cli, data),
					  .listen = listen ? listen : "127.0.0.1:7070",
					  .account = cli_option(cli, "account"),
					  .executable = "/proc/self/exe" };
	return daemon_run(&options, &e) == OK ? 0 : cli_fail(cli, &e);
}

static const struct command_option options[] = {
	{ "listen", 'l', "ADDRESS",
	  "where the API listens; default 127.0.0.1:7070; none: only the unix socket", NULL },
	{ "account", 0, "NAME",
	  "ordinary account that instances, builds and hooks run as; default: holdfast, else "
	  "nobody",
	  NULL },
	{ "verbose", 'v', NULL, "log more", NULL },
};
static const char *const examples[] = {
	"holdfast serve",
	"serve /var/lib/holdfast (root) or ~/.local/state/holdfast",
	"holdfast serve --data ./data -l 127.0.0.1:7171",
	"another data folder and port",
	NULL,
};

const struct command serve_command = {
	.name = "serve",
	.arguments = "",
	.summary = "Run the daemon",
	.description = "It builds, deploys and watches applications for the other commands. The "
		       "first start makes\n"
		       "the keys and an admin token in the data folder's keys/. Stopping or "
		       "killing it leaves\n"
		       "applications and proxy running; starting it again takes them over.",
	.examples = examples,
	.options = options,
	.option_count = ARRAY_COUNT(options),
	.run = run,
};
