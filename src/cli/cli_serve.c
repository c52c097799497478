#include <stdio.h>

#include "api/daemon.h"
#include "base/checks.h"
#include "base/log.h"
#include "base/units.h"
#include "cli/client.h"
#include "cli/commands.h"

enum { HOUR_MS = 3600 * 1000, MEMORY_MIN = 64 << 20 };

static errc read_telemetry(struct cli *cli, struct telemetry_options *telemetry, struct err *e)
{
	const char *retention = cli_option(cli, "retention"), *memory = cli_option(cli, "memory"),
		   *series = cli_option(cli, "series-max");
	if (retention && (!duration_parse(str_c(retention), &telemetry->retention_ms) ||
			  telemetry->retention_ms < HOUR_MS))
		FAIL(e, ERR_USAGE, "--retention must be a duration of at least 1h, such as 90d: %s",
		     retention);
	if (memory && (!size_parse(str_c(memory), &telemetry->memory_bytes_max) ||
		       telemetry->memory_bytes_max < MEMORY_MIN))
		FAIL(e, ERR_USAGE, "--memory must be a size of at least 64MiB: %s", memory);
	if (series && (!str_to_u64(str_c(series), &telemetry->series_count_max) ||
		       !telemetry->series_count_max))
		FAIL(e, ERR_USAGE, "--series-max must be a number: %s", series);
	return OK;
}

static int run(struct cli *cli)
{
	char data[CLIENT_PATH_SIZE];
	struct err e = { 0 };
	const char *listen = cli_option(cli, "listen");
	struct telemetry_options telemetry = { .statsd_listen = cli_option(cli, "statsd"),
					       .features = cli_option(cli, "enable-feature"),
					       .sync_always = cli_option(cli, "sync-always") };
	if (cli_option(cli, "verbose"))
		log_set_level(LOG_DEBUG);
	if (read_telemetry(cli, &telemetry, &e) != OK)
		return cli_fail(cli, &e);
	struct daemon_options options = { .data = client_data(cli, data),
					  .listen = listen ? listen : "127.0.0.1:7070",
					  .account = cli_option(cli, "account"),
					  .executable = "/proc/self/exe",
					  .telemetry = telemetry };
	return daemon_run(&options, &e) == OK ? 0 : cli_fail(cli, &e);
}

static const struct command_option options[] = {
	{ "listen", 'l', "ADDRESS",
	  "where the API listens; default 127.0.0.1:7070; none: only the unix socket", NULL },
	{ "account", 0, "NAME",
	  "ordinary account that instances, builds and hooks run as; default: holdfast, else "
	  "nobody",
	  NULL },
	{ "statsd", 0, "ADDRESS",
	  "receive StatsD over UDP there, such as 127.0.0.1:8125; default: not", NULL },
	{ "retention", 0, "DURATION", "how long metrics are kept as they came; default: 31d",
	  NULL },
	{ "memory", 0, "SIZE",
	  "the most memory that metrics and queries take; default: a quarter of the machine's",
	  NULL },
	{ "series-max", 0, "N", "active series of metrics beyond which new ones are refused",
	  NULL },
	{ "sync-always", 0, NULL, "an acknowledged sample survives a power cut, not only kill -9",
	  NULL },
	{ "enable-feature", 0, "WORDS",
	  "parts of PromQL that are off as in Prometheus, with commas between: "
	  "promql-experimental-functions",
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
