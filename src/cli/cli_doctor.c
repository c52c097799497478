/* doctor: whether what is on the disk is whole, and its repair, while no daemon runs. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/checks.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "codec/json.h"
#include "metrics/metrics.h"

enum { REPORT_BYTES_MAX = 16 << 20 };

static void print_report(bool repair, uint64_t bad_count, str report)
{
	str line;
	struct buf text CLEANUP(buf_done) = buf_init(4 * REPORT_BYTES_MAX);
	struct json_writer w = json_writer_init(&text, false);
	json_begin_object(&w);
	json_put_i64(&w, "bad", (int64_t)bad_count);
	json_put_bool(&w, "repaired", repair && bad_count);
	json_key(&w, "findings");
	json_begin_array(&w);
	while (report.len && str_split(&report, '\n', &line))
		if (line.len)
			json_add_str(&w, line);
	json_end_array(&w);
	json_end_object(&w);
	printf("%.*s\n", (int)text.len, text.ptr);
}

static int run(struct cli *cli)
{
	char data[CLIENT_PATH_SIZE], folder[CLIENT_PATH_SIZE + 16];
	struct err e = { 0 };
	bool repair = cli_option(cli, "repair");
	uint64_t bad_count = 0;
	struct buf report CLEANUP(buf_done) = buf_init(REPORT_BYTES_MAX);
	snprintf(folder, sizeof(folder), "%s/metrics", client_data(cli, data));
	if (access(folder, F_OK) < 0) {
		(void)err_fill(&e, ERR_NOT_FOUND, 0, __FILE__, __LINE__,
			       "there is no %s: name the data folder of the daemon with --data",
			       folder);
		return cli_fail(cli, &e);
	}
	if (!cli->json)
		fprintf(stderr, "Reading everything in %s …\n", folder);
	if (metrics_doctor(folder, repair, &report, &bad_count, &e) != OK)
		return cli_fail(cli, &e);
	if (cli->json)
		print_report(repair, bad_count, buf_str(&report));
	else {
		printf("%.*s", (int)report.len, report.ptr ? report.ptr : "");
		if (!bad_count)
			printf("Everything is whole.\n");
		else if (repair)
			printf("Repaired; what could not be saved is in quarantine/ below %s.\n",
			       folder);
		else
			printf("Bad: %llu. `holdfast doctor --repair` saves what can be read and "
			       "sets "
			       "the rest aside.\n",
			       (unsigned long long)bad_count);
	}
	return bad_count && !repair ? 1 : 0;
}

static const struct command_option options[] = {
	{ "repair", 0, NULL,
	  "write anew what can be read, and set aside in quarantine/ what cannot", NULL },
};
static const char *const examples[] = {
	"holdfast doctor --data /var/lib/holdfast",
	"check every block of the metrics",
	"holdfast doctor --data /var/lib/holdfast --repair",
	"and mend what is bad",
	NULL,
};

const struct command doctor_command = {
	.name = "doctor",
	.arguments = "",
	.summary = "Check the data folder, and repair it",
	.description = "It reads every block, index and log of the metrics and checks each against "
		       "its checksum.\n"
		       "The daemon must not run. Exits 0 when everything is whole or was repaired, "
		       "else 1.",
	.examples = examples,
	.options = options,
	.option_count = ARRAY_COUNT(options),
	.run = run,
};
