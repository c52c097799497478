/* config …, completion, manual: what needs no daemon. */
#include <stdio.h>
#include <string.h>

#include "base/checks.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/print.h"
#include "spec/spec.h"

static void print_problems(const struct spec_problems *problems)
{
	for (size_t i = 0; i < problems->count; i++) {
		struct buf line CLEANUP(buf_done) = buf_init(8192);
		spec_problem_write(problems, &problems->items[i], &line);
		fprintf(stderr, "%s\n", buf_cstr(&line));
	}
	if (problems->truncated)
		fprintf(stderr, "there are more problems\n");
}

static void print_problems_json(const struct spec_problems *problems)
{
	struct buf text CLEANUP(buf_done) = buf_init(CLIENT_BYTES_MAX);
	struct json_writer w = json_writer_init(&text, false);
	json_begin_object(&w);
	json_put_bool(&w, "ok", problems->error_count == 0);
	json_key(&w, "problems");
	json_begin_array(&w);
	for (size_t i = 0; i < problems->count; i++) {
		const struct spec_problem *p = &problems->items[i];
		json_begin_object(&w);
		json_put_cstr(&w, "severity", p->warning ? "warning" : "error");
		json_put_i64(&w, "line", (int64_t)p->line);
		json_put_i64(&w, "column", (int64_t)p->column);
		json_put_cstr(&w, "path", p->path);
		json_put_cstr(&w, "message", p->message);
		json_put_cstr(&w, "suggestion", p->suggestion);
		json_end_object(&w);
	}
	json_end_array(&w);
	json_end_object(&w);
	printf("%s\n", buf_cstr(&text));
}

static int run_check(struct cli *cli)
{
	struct client_project project;
	const struct spec *spec = NULL;
	struct spec_problems problems = { 0 };
	struct err e = { 0 };
	if (client_project_read(cli, &project, &e) != OK)
		return cli_fail(cli, &e);
	errc rc = spec_parse(&cli->arena, project.text, project.file, &spec, &problems, &e);
	if (cli->json)
		print_problems_json(&problems);
	else
		print_problems(&problems);
	if (rc != OK && problems.error_count == 0)
		return cli_fail(cli, &e);
	if (rc == OK && !cli->json)
		printf("%s is right: %s with %zu environment%s\n", project.file, spec->app,
		       spec->environment_count, spec->environment_count == 1 ? "" : "s");
	return rc == OK ? 0 : 1;
}

static int run_environments(struct cli *cli)
{
	struct client_project project;
	const struct spec *spec = NULL;
	struct err e = { 0 };
	errc rc = client_project_read(cli, &project, &e);
	if (rc == OK)
		rc = spec_parse(&cli->arena, project.text, project.file, &spec, NULL, &e);
	if (rc != OK)
		return cli_fail(cli, &e);
	for (size_t i = 0; i < spec->environment_count; i++)
		printf("%s\n", spec->environments[i].name);
	return 0;
}

static int print_text(void (*write)(struct buf *into))
{
	struct buf text CLEANUP(buf_done) = buf_init(CLIENT_BYTES_MAX);
	write(&text);
	fwrite(text.ptr, 1, text.len, stdout);
	return 0;
}

static int run_schema(struct cli *cli)
{
	(void)cli;
	return print_text(spec_write_schema);
}

static int run_reference(struct cli *cli)
{
	(void)cli;
	return print_text(spec_write_reference);
}

static int run_manual(struct cli *cli)
{
	(void)cli;
	return print_text(manual_write);
}

static int run_completion(struct cli *cli)
{
	struct buf text CLEANUP(buf_done) = buf_init(CLIENT_BYTES_MAX);
	struct err e;
	const char *shell = cli->arguments[0];
	if (strcmp(shell, "bash") != 0 && strcmp(shell, "zsh") != 0) {
		err_fill(&e, ERR_USAGE, 0, __FILE__, __LINE__,
			 "there are completions for bash and zsh, not %s", shell);
		return cli_fail(cli, &e);
	}
	completion_write(shell, &text);
	fwrite(text.ptr, 1, text.len, stdout);
	return 0;
}

const struct command config_check_command = {
	.name = "config check",
	.arguments = "",
	.summary = "Check holdfast.yml",
	.description = "Every mistake with its line, column and a suggestion; nothing is changed.",
	.run = run_check,
};
const struct command config_environments_command = {
	.name = "config environments",
	.arguments = "",
	.summary = "List the environments of holdfast.yml",
	.run = run_environments,
};
const struct command config_schema_command = {
	.name = "config schema",
	.arguments = "",
	.summary = "Print the JSON Schema of holdfast.yml, for editors",
	.run = run_schema,
};
const struct command config_reference_command = {
	.name = "config reference",
	.arguments = "",
	.summary = "Print the reference of holdfast.yml",
	.run = run_reference,
};

static const char *const completion_examples[] = {
	"source <(holdfast completion bash)",
	"for this shell",
	"holdfast completion zsh > ~/.zfunc/_holdfast",
	"for every zsh",
	NULL,
};
const struct command completion_command = {
	.name = "completion",
	.arguments = "bash|zsh",
	.argument_count_min = 1,
	.argument_count_max = 1,
	.summary = "Print completions for a shell",
	.examples = completion_examples,
	.run = run_completion,
};
const struct command manual_command = {
	.name = "manual",
	.arguments = "",
	.summary = "Print the man page",
	.hidden = true,
	.run = run_manual,
};
