/* build, deploy, rollback, cancel: ask the daemon for an operation and follow it. */
#include <stdio.h>
#include <string.h>

#include "base/checks.h"
#include "base/units.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "spec/spec.h"

/* Mistakes in the specification are said here, before the daemon is asked. */
static errc check_project(struct cli *cli, const struct client_project *project,
			  const struct spec **ret_spec, struct err *e)
{
	struct spec_problems problems = { 0 };
	errc rc = spec_parse(&cli->arena, project->text, project->file, ret_spec, &problems, e);
	for (size_t i = 0; i < problems.count && !cli->json; i++) {
		struct buf line CLEANUP(buf_done) = buf_init(4096);
		if (!problems.items[i].warning)
			continue;
		spec_problem_write(&problems, &problems.items[i], &line);
		fprintf(stderr, "%s\n", buf_cstr(&line));
	}
	return rc;
}

static errc take_wait(const struct cli *cli, int64_t *ret_ms, struct err *e)
{
	const char *text = cli_option(cli, "wait");
	*ret_ms = 0;
	if (text && !duration_parse(str_c(text), ret_ms))
		FAIL(e, ERR_USAGE, "--wait takes a duration such as 10m, not %s", text);
	return OK;
}

static errc submit_and_follow(struct cli *cli, const char *path, str body,
			      const struct json **ret_operation, struct err *e)
{
	const struct json *accepted = NULL;
	TRY(client_request(cli, "POST", path, body, &accepted, e));
	return client_follow(cli, json_cstr(json_get(accepted, "id")), ret_operation, e);
}

/* The exit status of an operation that ended; its failure was printed with its events. */
static int exit_status_of(const struct json *operation)
{
	const char *state = json_cstr(json_get(operation, "state"));
	if (strcmp(state, "succeeded") == 0)
		return 0;
	return strcmp(state, "cancelled") == 0 ? 2 : 1;
}

/* The body of a build or deploy. */
static errc write_wish(struct cli *cli, const char *artifact, struct buf *body, struct err *e)
{
	struct client_project project;
	const struct spec *spec = NULL;
	const struct spec_environment *environment = NULL;
	int64_t wait_ms = 0;
	TRY(client_project_read(cli, &project, e));
	TRY(check_project(cli, &project, &spec, e));
	TRY(spec_environment_find(spec, cli->arguments[0], &environment, e));
	struct json_writer w = json_writer_init(body, false);
	json_begin_object(&w);
	json_put_str(&w, "specification", project.text);
	json_put_cstr(&w, "file", project.file);
	json_put_cstr(&w, "environment", cli->arguments[0]);
	if (artifact)
		json_put_cstr(&w, "artifact", artifact);
	else
		json_put_cstr(&w, "source", project.folder);
	if (strcmp(cli->command->name, "deploy") == 0) {
		TRY(take_wait(cli, &wait_ms, e));
		json_put_i64(&w, "wait_ms", wait_ms);
		json_put_bool(&w, "dry_run", cli_option(cli, "dry-run") != NULL);
	}
	json_end_object(&w);
	return buf_check(body, "the request", e);
}

static int run_build(struct cli *cli)
{
	struct buf body CLEANUP(buf_done) = buf_init(CLIENT_BYTES_MAX);
	const struct json *operation = NULL;
	struct err e = { 0 };
	errc rc = write_wish(cli, NULL, &body, &e);
	if (rc == OK)
		rc = submit_and_follow(cli, "/holdfast/v1/builds", buf_str(&body), &operation, &e);
	if (rc != OK)
		return cli_fail(cli, &e);
	int status = exit_status_of(operation);
	if (status == 0 && !cli->json)
		printf("%s\n", json_cstr(json_get(json_get(operation, "result"), "artifact")));
	return status;
}

static void print_served(const struct cli *cli, const struct json *operation)
{
	const struct json *result = json_get(operation, "result");
	int64_t previous = json_i64(json_get(result, "previous"), 0);
	if (json_bool(json_get(result, "dry_run"), false))
		return;
	printf("Release %lld serves %s at %s\n",
	       (long long)json_i64(json_get(result, "release"), 0), cli->arguments[0],
	       json_cstr(json_get(result, "url")));
	bool back = strcmp(cli->command->name, "rollback") == 0;
	if (previous && back)
		printf("To undo this: holdfast rollback %s --to %lld\n", cli->arguments[0],
		       (long long)previous);
	else if (previous)
		printf("To go back to release %lld: holdfast rollback %s\n", (long long)previous,
		       cli->arguments[0]);
}

static int run_deploy(struct cli *cli)
{
	struct buf body CLEANUP(buf_done) = buf_init(CLIENT_BYTES_MAX);
	const struct json *operation = NULL;
	struct err e = { 0 };
	errc rc = write_wish(cli, cli_option(cli, "artifact"), &body, &e);
	if (rc == OK)
		rc = submit_and_follow(cli, "/holdfast/v1/deploys", buf_str(&body), &operation, &e);
	if (rc != OK)
		return cli_fail(cli, &e);
	int status = exit_status_of(operation);
	if (status == 0 && !cli->json)
		print_served(cli, operation);
	return status;
}

static errc write_rollback(struct cli *cli, struct buf *body, struct err *e)
{
	struct client_project project;
	const struct spec *spec = NULL;
	const char *to_text = cli_option(cli, "to");
	uint64_t to = 0;
	int64_t wait_ms = 0;
	TRY(client_project_read(cli, &project, e));
	TRY(spec_parse(&cli->arena, project.text, project.file, &spec, NULL, e));
	/* the environment may have left the file and still have releases: the daemon knows */
	if (to_text && to_text[0] == 'r')
		to_text++;
	if (to_text && (!str_to_u64(str_c(to_text), &to) || to == 0 || to > INT32_MAX))
		FAIL(e, ERR_USAGE,
		     "--to takes the number of a release; `holdfast releases` lists them");
	TRY(take_wait(cli, &wait_ms, e));
	struct json_writer w = json_writer_init(body, false);
	json_begin_object(&w);
	json_put_cstr(&w, "app", spec->app);
	json_put_cstr(&w, "environment", cli->arguments[0]);
	json_put_i64(&w, "to", (int64_t)to);
	json_put_i64(&w, "wait_ms", wait_ms);
	json_put_bool(&w, "dry_run", cli_option(cli, "dry-run") != NULL);
	json_end_object(&w);
	return OK;
}

static int run_rollback(struct cli *cli)
{
	struct buf body CLEANUP(buf_done) = buf_init(65536);
	const struct json *operation = NULL;
	struct err e = { 0 };
	errc rc = write_rollback(cli, &body, &e);
	if (rc == OK)
		rc = submit_and_follow(cli, "/holdfast/v1/rollbacks", buf_str(&body), &operation,
				       &e);
	if (rc != OK)
		return cli_fail(cli, &e);
	int status = exit_status_of(operation);
	if (status == 0 && !cli->json)
		print_served(cli, operation);
	return status;
}

static int run_cancel(struct cli *cli)
{
	const struct json *answer = NULL;
	struct err e = { 0 };
	char *path = arena_printf(&cli->arena, "/holdfast/v1/operations/%s/cancel",
				  cli->arguments[0]);
	if (client_request(cli, "POST", path, STR("{}"), &answer, &e) != OK)
		return cli_fail(cli, &e);
	if (!cli->json)
		printf("asked to cancel %s; `holdfast status` shows the outcome\n",
		       cli->arguments[0]);
	return 0;
}

static const char *const build_examples[] = { "holdfast build production",
					      "build what is in this folder", NULL };
const struct command build_command = {
	.name = "build",
	.arguments = "ENV",
	.argument_count_min = 1,
	.argument_count_max = 1,
	.summary = "Build the application for an environment",
	.description = "Runs the steps of holdfast.yml on a copy of the sources, validates what "
		       "they made and keeps\n"
		       "it as a signed artifact, whose digest is printed. What did not change is "
		       "not built again.",
	.examples = build_examples,
	.completes = "environment",
	.run = run_build,
};

static const struct command_option deploy_options[] = {
	{ "artifact", 'a', "DIGEST", "deploy this artifact instead of building", NULL },
	{ "wait", 'w', "TIME", "wait so long for another deploy to the same environment, e.g. 10m",
	  NULL },
	{ "dry-run", 'n', NULL, "print the plan and change nothing", NULL },
};
static const char *const deploy_examples[] = {
	"holdfast deploy staging",
	"build, deploy and switch without losing a request",
	"holdfast deploy production --artifact 3f9a0c12",
	"deploy what staging has tried",
	"holdfast deploy production --dry-run",
	"only print what would be done",
	NULL,
};
const struct command deploy_command = {
	.name = "deploy",
	.arguments = "ENV",
	.argument_count_min = 1,
	.argument_count_max = 1,
	.summary = "Deploy to an environment, blue-green",
	.description =
		"Starts the new colour beside the old one, waits until the proxy sees it ready, "
		"tests it, and\n"
		"only then switches. Any failure leaves the old colour serving and exits with 1.",
	.examples = deploy_examples,
	.options = deploy_options,
	.option_count = ARRAY_COUNT(deploy_options),
	.completes = "environment",
	.run = run_deploy,
};

static const struct command_option rollback_options[] = {
	{ "to", 't', "RELEASE", "the number of the release; default: the one that served before",
	  NULL },
	{ "wait", 'w', "TIME", "wait so long for a deploy to the same environment, e.g. 10m",
	  NULL },
	{ "dry-run", 'n', NULL, "print the plan and change nothing", NULL },
};
static const char *const rollback_examples[] = {
	"holdfast rollback production",
	"back to what served before, at once while it is warm",
	"holdfast rollback production --to 12",
	"back to release 12 with its configuration and secrets",
	NULL,
};
const struct command rollback_command = {
	.name = "rollback",
	.arguments = "ENV",
	.argument_count_min = 1,
	.argument_count_max = 1,
	.summary = "Go back to an earlier release",
	.description = "Brings back its artifact, its configuration and its secrets as they were.",
	.examples = rollback_examples,
	.options = rollback_options,
	.option_count = ARRAY_COUNT(rollback_options),
	.completes = "environment",
	.run = run_rollback,
};

const struct command cancel_command = {
	.name = "cancel",
	.arguments = "OPERATION",
	.argument_count_min = 1,
	.argument_count_max = 1,
	.summary = "Cancel a build, or a deploy before its switch",
	.run = run_cancel,
};
