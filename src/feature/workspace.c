#include "feature/workspace.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checks.h"
#include "base/log.h"
#include "catalog/secrets.h"
#include "os/clock.h"
#include "os/io.h"

enum {
	OUTPUT_END_BYTES = 64 * 1024,
	OUTPUT_LINES_MAX = 16,
	OUTPUT_FLUSH_MS = 120, /* a shim writes at most 100 ms later */
};
enum { JSON_BYTES_MAX = 4 * 1024 * 1024, VARIABLES_MAX = 2048 };

errc workspace_path(const struct feature_context *context, const struct release *r,
		    char path[static WORKSPACE_PATH_SIZE], struct err *e)
{
	int n = snprintf(path, WORKSPACE_PATH_SIZE, "%s/releases/%s/%s/r%lld", context->data,
			 r->app, r->environment, (long long)r->number);
	if (n < 0 || n >= WORKSPACE_PATH_SIZE)
		FAIL(e, ERR_LIMIT, "the path of the working copy is too long");
	return OK;
}

/*
 * Whether no process of the release can write a file that belongs to us: then its copy may share
 * files with others. A process of our own user could, and root can whatever the mode.
 */
static bool may_share(const struct feature_context *context, const struct release *r,
		      const struct spec *spec)
{
	const struct spec_environment *environment = NULL;
	if (geteuid() != 0 || !context->account.drop || context->account.uid == 0 ||
	    spec_environment_find(spec, r->environment, &environment, NULL) != OK)
		return false;
	for (size_t i = 0; i < environment->service_count; i++) {
		const char *name = environment->services[i].user;
		struct process_user user;
		if (name && (process_user_find(name, &user, NULL) != OK || user.uid == 0))
			return false;
	}
	return true;
}

errc workspace_make(const struct feature_context *context, const struct release *r,
		    const struct spec *spec, const struct release *previous, struct err *e)
{
	char path[WORKSPACE_PATH_SIZE], parent[WORKSPACE_PATH_SIZE], start[CLOCK_BOOT_ID_SIZE];
	struct digest digest, carried;
	bool repaired = false;
	TRY(workspace_path(context, r, path, e));
	if (!digest_parse(str_c(r->artifact), &digest))
		FAIL(e, ERR_CORRUPT, "release %lld names no artifact: %s", (long long)r->number,
		     r->artifact);
	snprintf(parent, sizeof(parent), "%s", path);
	*strrchr(parent, '/') = '\0';
	TRY(io_make_dirs(parent, 0711, e));
	clock_boot_id(start);
	struct artifact_checkout how = { .artifact = &digest,
					 .destination = path,
					 .start = start,
					 .link = may_share(context, r, spec) };
	/* only what the previous artifact itself holds, so that nothing is carried on for ever */
	if (previous && spec->build.public_folder &&
	    digest_parse(str_c(previous->artifact), &carried)) {
		how.carried = &carried;
		how.carried_folder = str_c(spec->build.public_folder);
	}
	TRY(artifact_checkout(context->artifacts, &how, &repaired, e));
	if (repaired)
		log_warn("files of an unpacked artifact had changed; it was unpacked again",
			 "artifact=%s release=%lld; check the disk", r->artifact,
			 (long long)r->number);
	return OK;
}

errc workspace_remove(const struct feature_context *context, const struct release *r, struct err *e)
{
	char path[WORKSPACE_PATH_SIZE];
	TRY(workspace_path(context, r, path, e));
	return artifact_checkout_remove(path, e);
}

/* The environment being made; a later value replaces an earlier one of the same name. */
struct environ_list {
	struct arena *scratch;
	const char **items;
	size_t count;
};

static void put(struct environ_list *list, const char *name, const char *value)
{
	char *item = arena_printf(list->scratch, "%s=%s", name, value);
	size_t name_len = strlen(name) + 1;
	for (size_t i = 0; i < list->count; i++) {
		if (strncmp(list->items[i], item, name_len) != 0)
			continue;
		list->items[i] = item;
		return;
	}
	if (list->count < VARIABLES_MAX)
		list->items[list->count++] = item;
	else
		list->scratch->overflow = true;
}

static void put_system(struct environ_list *list, const struct feature_context *context)
{
	const char *path = getenv("PATH"), *zone = getenv("TZ");
	put(list, "PATH", path && path[0] ? path : "/usr/local/bin:/usr/bin:/bin");
	put(list, "LANG", "C.UTF-8");
	put(list, "HOME", context->account_home);
	if (zone)
		put(list, "TZ", zone);
}

static errc put_configuration(struct environ_list *list, const struct feature_context *context,
			      const struct release *r, struct err *e)
{
	str text;
	const struct json *json = NULL;
	TRY(configuration_get(context->catalog, r->app, r->environment, r->configuration_version,
			      list->scratch, &text, e));
	TRY(json_parse(list->scratch, text, JSON_BYTES_MAX, &json, e));
	for (size_t i = 0; json->kind == JSON_OBJECT && i < json->count; i++)
		put(list, arena_cstr(list->scratch, json->keys[i]), json_cstr(&json->items[i]));
	return OK;
}

/* Only those that the specification asks for. */
static errc put_secrets(struct environ_list *list, const struct feature_context *context,
			const struct release *r, const struct spec_environment *environment,
			struct err *e)
{
	struct secret *secrets = NULL;
	size_t count = 0;
	TRY(secrets_open(context->catalog, r->app, r->environment, r->secret_version, list->scratch,
			 &secrets, &count, e));
	for (size_t i = 0; i < count; i++)
		for (size_t k = 0; k < environment->secrets.count; k++)
			if (strcmp(environment->secrets.items[k], secrets[i].name) == 0)
				put(list, secrets[i].name, secrets[i].value.ptr);
	return OK;
}

errc workspace_environment(const struct feature_context *context, const struct release *r,
			   const struct spec_environment *environment,
			   const struct spec_service *service, struct arena *scratch,
			   const char *const *extra, size_t extra_count,
			   const char *const **ret_envp, struct err *e)
{
	struct environ_list list = { scratch,
				     arena_array(scratch, VARIABLES_MAX + 1, sizeof(char *)), 0 };
	TRY(arena_check(scratch, "the environment", e));
	put_system(&list, context);
	TRY(put_configuration(&list, context, r, e));
	TRY(put_secrets(&list, context, r, environment, e));
	for (size_t i = 0; service && i < service->variables.count; i++)
		put(&list, service->variables.items[i].name, service->variables.items[i].value);
	put(&list, "HOLDFAST_APP", r->app);
	put(&list, "HOLDFAST_ENVIRONMENT", r->environment);
	put(&list, "HOLDFAST_RELEASE", arena_printf(scratch, "%lld", (long long)r->number));
	put(&list, "HOLDFAST_ARTIFACT", r->artifact);
	put(&list, "HOLDFAST_COLOUR", r->colour);
	put(&list, "HOLDFAST_CLOSE_SPREAD_MS",
	    arena_printf(scratch, "%lld", (long long)environment->deploy.close_spread_ms));
	for (size_t i = 0; i < extra_count; i++) {
		const char *equals = strchr(extra[i], '=');
		must(equals != NULL);
		put(&list, arena_cstr(scratch, (str){ extra[i], (size_t)(equals - extra[i]) }),
		    equals + 1);
	}
	TRY(arena_check(scratch, "the environment", e));
	*ret_envp = list.items;
	return OK;
}

void workspace_output_path(const struct feature_context *context, const char *id,
			   char path[static WORKSPACE_PATH_SIZE])
{
	snprintf(path, WORKSPACE_PATH_SIZE, "%s/instances/%s/output.ndjson", context->data, id);
}

/* The end of a file, from the beginning of a line. */
static bool read_end(const char *path, struct buf *end)
{
	int fd CLEANUP(io_close) = io->open(path, O_RDONLY, 0);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return false;
	off_t from = st.st_size > OUTPUT_END_BYTES ? st.st_size - OUTPUT_END_BYTES : 0;
	char *bytes = buf_reserve(end, OUTPUT_END_BYTES);
	ssize_t n = bytes ? pread(fd, bytes, OUTPUT_END_BYTES, from) : -1;
	if (n <= 0)
		return false;
	end->len = (size_t)n;
	const char *newline = from ? memchr(end->ptr, '\n', end->len) : NULL;
	if (from)
		buf_consume(end, newline ? (size_t)(newline - end->ptr) + 1 : end->len);
	return true;
}

/* The application's lines of END; those of its supervisor are left out. */
static size_t take_lines(const struct buf *end, struct arena *scratch, str *lines, size_t room)
{
	str rest = buf_str(end), line;
	size_t count = 0;
	while (rest.len && str_split(&rest, '\n', &line)) {
		const struct json *entry = NULL;
		if (!line.len || json_parse(scratch, line, line.len, &entry, NULL) != OK ||
		    strcmp(json_cstr(json_get(entry, "s")), "shim") == 0)
			continue;
		lines[count++ % room] = json_str(json_get(entry, "l"), STR(""));
	}
	return count;
}

void workspace_last_output(const struct feature_context *context, const char *id, char *text,
			   size_t text_size)
{
	struct arena scratch CLEANUP(arena_done) = arena_init(64 * OUTPUT_END_BYTES);
	struct buf end CLEANUP(buf_done) = buf_init(OUTPUT_END_BYTES);
	char path[WORKSPACE_PATH_SIZE];
	str lines[OUTPUT_LINES_MAX];
	text[0] = '\0';
	workspace_output_path(context, id, path);
	clock_sleep_ms(OUTPUT_FLUSH_MS);
	if (!read_end(path, &end))
		return;
	size_t count = take_lines(&end, &scratch, lines, OUTPUT_LINES_MAX);
	/* the newest lines that fit, the newest cut when it alone does not */
	size_t first = count, room = text_size - 1,
	       oldest = count > OUTPUT_LINES_MAX ? count - OUTPUT_LINES_MAX : 0;
	while (first > oldest && lines[(first - 1) % OUTPUT_LINES_MAX].len + 1 <= room)
		room -= lines[--first % OUTPUT_LINES_MAX].len + 1;
	if (first == count && count > oldest)
		first--;
	for (size_t i = first, used = 0; i < count && used < text_size - 1; i++)
		used += (size_t)snprintf(text + used, text_size - used, "%s%.*s", used ? "\n" : "",
					 STR_ARG(lines[i % OUTPUT_LINES_MAX]));
}
