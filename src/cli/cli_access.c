/* secret, token, audit. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/checks.h"
#include "catalog/access.h"
#include "catalog/secrets.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/print.h"
#include "spec/spec.h"

/* `/holdfast/v1/secrets/APP/ENV`, with the environment checked against the specification. */
static errc secrets_path(struct cli *cli, const char **ret_path, struct err *e)
{
	struct client_project project;
	const struct spec *spec = NULL;
	const struct spec_environment *environment = NULL;
	TRY(client_project_read(cli, &project, e));
	TRY(spec_parse(&cli->arena, project.text, project.file, &spec, NULL, e));
	TRY(spec_environment_find(spec, cli->arguments[0], &environment, e));
	*ret_path = arena_printf(&cli->arena, "/holdfast/v1/secrets/%s/%s", spec->app,
				 cli->arguments[0]);
	return OK;
}

/* All of standard input without one final newline, which editors and echo add. */
static errc read_value(struct buf *value, struct err *e)
{
	char chunk[4096];
	size_t n;
	if (isatty(STDIN_FILENO))
		fprintf(stderr,
			"Type the value, then end with Ctrl-D (it is shown; better: < file)\n");
	while ((n = fread(chunk, 1, sizeof(chunk), stdin)) > 0)
		buf_add(value, (str){ chunk, n });
	TRY(buf_check(value, "the secret", e));
	if (value->len && value->ptr[value->len - 1] == '\n')
		value->len--;
	if (value->len == 0)
		FAIL(e, ERR_USAGE, "no value came on standard input");
	return OK;
}

static int run_secret_set(struct cli *cli)
{
	struct buf value CLEANUP(buf_done) = buf_init(SECRET_BYTES_MAX);
	const struct json *answer = NULL;
	const char *path = NULL;
	struct err e = { 0 };
	errc rc = secrets_path(cli, &path, &e);
	if (rc == OK)
		rc = read_value(&value, &e);
	if (rc == OK)
		rc = client_request(cli, "PUT",
				    arena_printf(&cli->arena, "%s/%s", path, cli->arguments[1]),
				    buf_str(&value), &answer, &e);
	if (rc != OK)
		return cli_fail(cli, &e);
	if (cli->json)
		print_json(answer);
	else
		printf("%s is set (version %lld); the next deploy to %s uses it\n",
		       cli->arguments[1], (long long)json_i64(json_get(answer, "version"), 0),
		       cli->arguments[0]);
	return 0;
}

static int run_secret_remove(struct cli *cli)
{
	const struct json *answer = NULL;
	const char *path = NULL;
	struct err e = { 0 };
	errc rc = secrets_path(cli, &path, &e);
	if (rc == OK)
		rc = client_request(cli, "DELETE",
				    arena_printf(&cli->arena, "%s/%s", path, cli->arguments[1]),
				    STR(""), &answer, &e);
	return rc == OK ? 0 : cli_fail(cli, &e);
}

static int run_secret_list(struct cli *cli)
{
	const struct json *answer = NULL;
	const char *path = NULL;
	struct err e = { 0 };
	errc rc = secrets_path(cli, &path, &e);
	if (rc == OK)
		rc = client_request(cli, "GET", path, STR(""), &answer, &e);
	if (rc != OK)
		return cli_fail(cli, &e);
	if (cli->json) {
		print_json(answer);
		return 0;
	}
	const char *const headings[] = { "NAME", "VERSION", "SET", "BY" };
	struct print_table t = print_table_init(&cli->arena, ARRAY_COUNT(headings), headings);
	const struct json *secrets = json_get(answer, "secrets");
	for (size_t i = 0; secrets && i < secrets->count; i++) {
		const struct json *s = &secrets->items[i];
		const char *const cells[] = {
			json_cstr(json_get(s, "name")),
			arena_printf(&cli->arena, "%lld",
				     (long long)json_i64(json_get(s, "version"), 0)),
			print_ago(&cli->arena, json_get(s, "created")),
			json_cstr(json_get(s, "actor")),
		};
		print_table_row(&t, cells);
	}
	print_table_write(&t);
	return 0;
}

static int run_token_create(struct cli *cli)
{
	struct buf body CLEANUP(buf_done) = buf_init(4096);
	const struct json *answer = NULL;
	const char *role = cli_option(cli, "role"), *days = cli_option(cli, "days");
	uint64_t day_count = TOKEN_DAYS_DEFAULT;
	struct err e = { 0 };
	if (days && (!str_to_u64(str_c(days), &day_count) || day_count > TOKEN_DAYS_MAX)) {
		err_fill(&e, ERR_USAGE, 0, __FILE__, __LINE__, "--days takes 1 to %d",
			 TOKEN_DAYS_MAX);
		return cli_fail(cli, &e);
	}
	struct json_writer w = json_writer_init(&body, false);
	json_begin_object(&w);
	json_put_cstr(&w, "name", cli->arguments[0]);
	json_put_cstr(&w, "role", role ? role : "viewer");
	json_put_i64(&w, "days", (int64_t)day_count);
	json_end_object(&w);
	if (client_request(cli, "POST", "/holdfast/v1/tokens", buf_str(&body), &answer, &e) != OK)
		return cli_fail(cli, &e);
	if (cli->json) {
		print_json(answer);
		return 0;
	}
	fprintf(stderr, "This is shown once; `holdfast token revoke %s` ends it.\n",
		json_cstr(json_get(json_get(answer, "token"), "id")));
	printf("%s\n", json_cstr(json_get(answer, "text")));
	return 0;
}

static int run_token_list(struct cli *cli)
{
	const struct json *answer = NULL;
	struct err e = { 0 };
	if (client_request(cli, "GET", "/holdfast/v1/tokens", STR(""), &answer, &e) != OK)
		return cli_fail(cli, &e);
	if (cli->json) {
		print_json(answer);
		return 0;
	}
	const char *const headings[] = { "ID",      "NAME",    "ROLE", "CREATED",
					 "EXPIRES", "REVOKED", "USED" };
	struct print_table t = print_table_init(&cli->arena, ARRAY_COUNT(headings), headings);
	const struct json *tokens = json_get(answer, "tokens");
	for (size_t i = 0; tokens && i < tokens->count; i++) {
		const struct json *k = &tokens->items[i];
		const char *const cells[] = {
			json_cstr(json_get(k, "id")),
			json_cstr(json_get(k, "name")),
			json_cstr(json_get(k, "role")),
			print_ago(&cli->arena, json_get(k, "created")),
			arena_cstr(&cli->arena, (str){ json_cstr(json_get(k, "expires")), 10 }),
			print_ago(&cli->arena, json_get(k, "revoked")),
			print_ago(&cli->arena, json_get(k, "used")),
		};
		print_table_row(&t, cells);
	}
	print_table_write(&t);
	return 0;
}

static int run_token_revoke(struct cli *cli)
{
	const struct json *answer = NULL;
	struct err e = { 0 };
	char *path = arena_printf(&cli->arena, "/holdfast/v1/tokens/%s", cli->arguments[0]);
	if (client_request(cli, "DELETE", path, STR(""), &answer, &e) != OK)
		return cli_fail(cli, &e);
	return 0;
}

static int run_audit(struct cli *cli)
{
	const struct json *answer = NULL;
	const char *limit = cli_option(cli, "limit");
	uint64_t count = 50;
	struct err e = { 0 };
	if (limit && (!str_to_u64(str_c(limit), &count) || count < 1 || count > 10000)) {
		err_fill(&e, ERR_USAGE, 0, __FILE__, __LINE__, "--limit takes 1 to 10000");
		return cli_fail(cli, &e);
	}
	char *path = arena_printf(&cli->arena, "/holdfast/v1/audit?limit=%llu",
				  (unsigned long long)count);
	if (client_request(cli, "GET", path, STR(""), &answer, &e) != OK)
		return cli_fail(cli, &e);
	if (cli->json) {
		print_json(answer);
		return 0;
	}
	const char *const headings[] = { "TIME",   "ACTOR",  "ROLE",   "FROM",
					 "ACTION", "TARGET", "OUTCOME" };
	struct print_table t = print_table_init(&cli->arena, ARRAY_COUNT(headings), headings);
	const struct json *entries = json_get(answer, "audit");
	for (size_t i = 0; entries && i < entries->count; i++) {
		const struct json *a = &entries->items[i];
		const char *const cells[] = {
			json_cstr(json_get(a, "time")),    json_cstr(json_get(a, "actor")),
			json_cstr(json_get(a, "role")),    json_cstr(json_get(a, "peer")),
			json_cstr(json_get(a, "action")),  json_cstr(json_get(a, "target")),
			json_cstr(json_get(a, "outcome")),
		};
		print_table_row(&t, cells);
	}
	print_table_write(&t);
	return 0;
}

static const char *const secret_examples[] = {
	"holdfast secret set production DATABASE_URL < url.txt",
	"the value comes from standard input",
	NULL,
};
const struct command secret_set_command = {
	.name = "secret set",
	.arguments = "ENV NAME",
	.argument_count_min = 2,
	.argument_count_max = 2,
	.summary = "Set a secret of an environment from standard input",
	.description = "It is stored sealed, reaches the instances of the next deploy, and is "
		       "never shown again.",
	.examples = secret_examples,
	.completes = "environment",
	.run = run_secret_set,
};
const struct command secret_list_command = {
	.name = "secret list",
	.arguments = "ENV",
	.argument_count_min = 1,
	.argument_count_max = 1,
	.summary = "List the secrets of an environment, without values",
	.completes = "environment",
	.run = run_secret_list,
};
const struct command secret_remove_command = {
	.name = "secret remove",
	.arguments = "ENV NAME",
	.argument_count_min = 2,
	.argument_count_max = 2,
	.summary = "Remove a secret; earlier releases keep it",
	.completes = "environment",
	.run = run_secret_remove,
};

static const char *const roles[] = { "viewer", "operator", "admin", "sender", NULL };
static const struct command_option token_options[] = {
	{ "role", 'r', "ROLE",
	  "viewer (default), operator, admin, or sender: only hands in telemetry", roles },
	{ "days", 'd', "DAYS", "how long it is valid; default 90", NULL },
};
static const char *const token_examples[] = {
	"holdfast token create ci --role operator --days 30",
	"for a pipeline that deploys",
	NULL,
};
const struct command token_create_command = {
	.name = "token create",
	.arguments = "NAME",
	.argument_count_min = 1,
	.argument_count_max = 1,
	.summary = "Make an access token",
	.examples = token_examples,
	.options = token_options,
	.option_count = ARRAY_COUNT(token_options),
	.run = run_token_create,
};
const struct command token_list_command = {
	.name = "token list",
	.arguments = "",
	.summary = "List access tokens",
	.run = run_token_list,
};
const struct command token_revoke_command = {
	.name = "token revoke",
	.arguments = "ID",
	.argument_count_min = 1,
	.argument_count_max = 1,
	.summary = "Revoke an access token",
	.run = run_token_revoke,
};

static const struct command_option audit_options[] = {
	{ "limit", 'n', "COUNT", "how many entries, newest first; default 50", NULL },
};
const struct command audit_command = {
	.name = "audit",
	.arguments = "",
	.summary = "Show who did what",
	.options = audit_options,
	.option_count = ARRAY_COUNT(audit_options),
	.run = run_audit,
};
