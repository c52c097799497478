/* releases, status, artifact: what there is. */
#include <stdio.h>
#include <string.h>

#include "base/checks.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/print.h"
#include "spec/spec.h"

/* `?app=…&environment=…`: the application of this folder when there is one, the environment asked
 * for. */
static const char *place_query(struct cli *cli)
{
	struct client_project project;
	const struct spec *spec = NULL;
	const char *environment = cli->argument_count ? cli->arguments[0] : NULL;
	bool all = cli_option(cli, "all") != NULL;
	if (!all && client_project_read(cli, &project, NULL) == OK)
		if (spec_parse(&cli->arena, project.text, project.file, &spec, NULL, NULL) != OK)
			spec = NULL;
	return arena_printf(&cli->arena, "?%s%s%s%s", spec ? "app=" : "", spec ? spec->app : "",
			    environment ? "&environment=" : "", environment ? environment : "");
}

static const char *cell_i64(struct cli *cli, const struct json *v)
{
	return v && v->kind == JSON_INT ? arena_printf(&cli->arena, "%lld", (long long)v->integer)
					: "";
}

static const char *short_digest(struct cli *cli, const struct json *v)
{
	str s = json_str(v, STR(""));
	if (str_starts(s, STR("sha256:")))
		s = (str){ s.ptr + 7, s.len - 7 };
	return arena_cstr(&cli->arena, (str){ s.ptr, s.len < 12 ? s.len : 12 });
}

static int run_releases(struct cli *cli)
{
	const struct json *answer = NULL;
	struct err e = { 0 };
	char *path = arena_printf(&cli->arena, "/holdfast/v1/releases%s", place_query(cli));
	if (client_request(cli, "GET", path, STR(""), &answer, &e) != OK)
		return cli_fail(cli, &e);
	const struct json *releases = json_get(answer, "releases");
	if (cli->json) {
		print_json(answer);
		return 0;
	}
	if (!releases || releases->count == 0) {
		printf("No release yet. `holdfast deploy ENV` makes the first.\n");
		return 0;
	}
	const char *const headings[] = { "APP",    "ENVIRONMENT", "RELEASE", "STATE", "ARTIFACT",
					 "CONFIG", "SECRETS",     "CREATED", "BY",    "NOTE" };
	struct print_table t = print_table_init(&cli->arena, ARRAY_COUNT(headings), headings);
	for (size_t i = 0; i < releases->count; i++) {
		const struct json *r = &releases->items[i];
		const char *note = json_cstr(json_get(r, "note"));
		const char *const cells[] = {
			json_cstr(json_get(r, "app")),
			json_cstr(json_get(r, "environment")),
			cell_i64(cli, json_get(r, "release")),
			json_cstr(json_get(r, "state")),
			short_digest(cli, json_get(r, "artifact")),
			cell_i64(cli, json_get(r, "configuration_version")),
			cell_i64(cli, json_get(r, "secret_version")),
			print_ago(&cli->arena, json_get(r, "created")),
			json_cstr(json_get(r, "actor")),
			arena_cstr(
				&cli->arena,
				(str){ note, strcspn(note, "\n") < 80 ? strcspn(note, "\n") : 80 }),
		};
		print_table_row(&t, cells);
	}
	print_table_write(&t);
	return 0;
}

static void add_instance(struct cli *cli, struct print_table *t, const struct json *i)
{
	bool in_proxy = json_get(i, "traffic") != NULL;
	const char *ready = !in_proxy ? "" : json_bool(json_get(i, "up"), false) ? "yes" : "no";
	const char *const cells[] = {
		json_cstr(json_get(i, "id")),
		json_cstr(json_get(i, "state")),
		cell_i64(cli, json_get(i, "pid")),
		cell_i64(cli, json_get(i, "port")),
		cell_i64(cli, json_get(i, "restarts")),
		ready,
		json_cstr(json_get(i, "traffic")),
		cell_i64(cli, json_get(i, "in_flight")),
		cell_i64(cli, json_get(i, "websockets")),
		print_ago(&cli->arena, json_get(i, "started")),
	};
	print_table_row(t, cells);
}

static void print_environment(struct cli *cli, const struct json *environment)
{
	const struct json *current = json_get(environment, "current"),
			  *lease = json_get(environment, "lease");
	const struct json *instances = json_get(environment, "instances");
	printf("%s %s: ", json_cstr(json_get(environment, "app")),
	       json_cstr(json_get(environment, "environment")));
	if (current && current->kind == JSON_OBJECT)
		printf("release %lld (%s), artifact %s, created %s by %s\n",
		       (long long)json_i64(json_get(current, "release"), 0),
		       json_cstr(json_get(current, "colour")),
		       short_digest(cli, json_get(current, "artifact")),
		       print_ago(&cli->arena, json_get(current, "created")),
		       json_cstr(json_get(current, "actor")));
	else
		printf("nothing serves\n");
	if (lease && lease->kind == JSON_OBJECT)
		printf("being changed by %s since %s (%s)\n", json_cstr(json_get(lease, "holder")),
		       print_ago(&cli->arena, json_get(lease, "acquired")),
		       json_cstr(json_get(lease, "operation")));
	if (!instances || !instances->count)
		return;
	const char *const headings[] = { "INSTANCE",   "STATE",  "PID",     "PORT",
					 "RESTARTS",   "READY",  "TRAFFIC", "REQUESTS",
					 "WEBSOCKETS", "STARTED" };
	struct print_table t = print_table_init(&cli->arena, ARRAY_COUNT(headings), headings);
	for (size_t i = 0; i < instances->count; i++)
		add_instance(cli, &t, &instances->items[i]);
	print_table_write(&t);
}

static int run_status(struct cli *cli)
{
	const struct json *answer = NULL;
	struct err e = { 0 };
	char *path = arena_printf(&cli->arena, "/holdfast/v1/status%s", place_query(cli));
	if (client_request(cli, "GET", path, STR(""), &answer, &e) != OK)
		return cli_fail(cli, &e);
	const struct json *environments = json_get(answer, "environments");
	if (cli->json) {
		print_json(answer);
		return 0;
	}
	printf("holdfast %s, started %s\n", json_cstr(json_get(answer, "version")),
	       print_ago(&cli->arena, json_get(answer, "started")));
	for (size_t i = 0; environments && i < environments->count; i++) {
		printf("\n");
		print_environment(cli, &environments->items[i]);
	}
	return 0;
}

static int run_artifact(struct cli *cli)
{
	const struct json *answer = NULL;
	struct err e = { 0 };
	char *path = arena_printf(&cli->arena, "/holdfast/v1/artifacts/%s/%s", cli->arguments[0],
				  cli->arguments[1]);
	if (client_request(cli, "GET", path, STR(""), &answer, &e) != OK)
		return cli_fail(cli, &e);
	print_json(answer);
	return 0;
}

static const struct command_option options[] = {
	{ "all", 'A', NULL, "every application, not only the one of this folder", NULL },
};

const struct command releases_command = {
	.name = "releases",
	.arguments = "[ENV]",
	.argument_count_max = 1,
	.summary = "List releases, newest first",
	.options = options,
	.option_count = ARRAY_COUNT(options),
	.completes = "environment",
	.run = run_releases,
};

const struct command status_command = {
	.name = "status",
	.arguments = "[ENV]",
	.argument_count_max = 1,
	.summary = "Show what serves, its instances and who changes it",
	.options = options,
	.option_count = ARRAY_COUNT(options),
	.completes = "environment",
	.run = run_status,
};

static const char *const artifact_examples[] = {
	"holdfast artifact 3f9a0c12 sbom",
	"its bill of materials (CycloneDX)",
	"holdfast artifact 3f9a0c12 provenance",
	"how it was built (SLSA)",
	NULL,
};
const struct command artifact_command = {
	.name = "artifact",
	.arguments = "DIGEST sbom|provenance",
	.argument_count_min = 2,
	.argument_count_max = 2,
	.summary = "Print a document of an artifact",
	.examples = artifact_examples,
	.run = run_artifact,
};
