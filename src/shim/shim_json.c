#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/checks.h"
#include "base/suggest.h"
#include "codec/json.h"
#include "os/io.h"
#include "shim/shim_internal.h"

enum {
	DEFAULT_STOP_MS = 10 * 1000,
	DEFAULT_BACKOFF_MAX_MS = 30 * 1000,
	BACKOFF_MIN_MS = 100,
	DEFAULT_LOG_BYTES = 16 * 1024 * 1024,
	DEFAULT_UMASK = 027,
	/* a batch must fit */
	LOG_BYTES_MIN = 1024 * 1024,
	ARENA_BYTES_MAX = 256 * 1024,
	STATUS_ARENA_BYTES_MAX = 2 * 1024 * 1024,
};

static const int64_t DURATION_MS_MAX = INT64_C(7) * 24 * 3600 * 1000;

static const char *const verb_names[] = {
	[SHIM_DO_STATUS] = "status", [SHIM_DO_WATCH] = "watch", [SHIM_DO_STOP] = "stop",
	[SHIM_DO_SIGNAL] = "signal", [SHIM_DO_DRAIN] = "drain", [SHIM_DO_RESTART] = "restart",
	[SHIM_DO_EXIT] = "exit",
};

/* ---- The specification. */

static void put_user(struct json_writer *w, const struct process_user *user)
{
	json_key(w, "user");
	json_begin_object(w);
	json_put_i64(w, "uid", user->uid);
	json_put_i64(w, "gid", user->gid);
	json_key(w, "groups");
	json_begin_array(w);
	for (unsigned i = 0; i < user->group_count; i++)
		json_add_i64(w, user->groups[i]);
	json_end_array(w);
	json_end_object(w);
}

errc shim_spec_write(const struct shim_spec *spec, struct buf *b, struct err *e)
{
	struct json_writer w = json_writer_init(b, false);
	json_begin_object(&w);
	json_put_cstr(&w, "id", spec->id);
	json_key(&w, "argv");
	json_begin_array(&w);
	for (const char *const *arg = spec->argv; *arg; arg++)
		json_add_cstr(&w, *arg);
	json_end_array(&w);
	json_key(&w, "env");
	json_begin_object(&w);
	for (const char *const *entry = spec->envp; entry && *entry; entry++) {
		const char *equals = strchr(*entry, '=');
		if (!equals)
			FAIL(e, ERR_INVALID,
			     "an entry of the environment of %s is not written as NAME=value",
			     spec->id);
		json_key_str(&w, (str){ *entry, (size_t)(equals - *entry) });
		json_add_cstr(&w, equals + 1);
	}
	json_end_object(&w);
	if (spec->cwd)
		json_put_cstr(&w, "cwd", spec->cwd);
	if (spec->user.drop)
		put_user(&w, &spec->user);
	json_put_cstr(&w, "folder", spec->folder);
	json_put_cstr(&w, "socket", spec->socket);
	if (spec->stop_signal)
		json_put_cstr(&w, "stop_signal", spec->stop_signal);
	if (spec->drain_signal)
		json_put_cstr(&w, "drain_signal", spec->drain_signal);
	json_put_i64(&w, "stop_timeout_ms", spec->stop_timeout_ms);
	json_put_i64(&w, "memory_bytes_max", spec->memory_bytes_max);
	json_put_i64(&w, "restart_backoff_max_ms", spec->restart_backoff_max_ms);
	json_put_cstr(&w, "restart", spec->restart == SHIM_RESTART_NEVER ? "never" : "always");
	json_put_i64(&w, "log_bytes_max", spec->log_bytes_max);
	json_put_i64(&w, "umask", spec->umask);
	json_end_object(&w);
	return buf_check(b, "the specification of a shim", e);
}

/* A string that a system call can take; without REQUIRED it may be missing (NULL then). */
static errc take_cstr(const struct json *object, const char *key, size_t len_max, bool required,
		      const char **ret, struct err *e)
{
	const struct json *v = json_get(object, key);
	if (!v && !required) {
		*ret = NULL;
		return OK;
	}
	str s;
	TRY(json_need_str(object, key, &s, e));
	if (!s.len || s.len > len_max || memchr(s.ptr, '\0', s.len))
		FAIL(e, ERR_INVALID, "\"%s\" must have 1 to %zu bytes, none of them 0", key,
		     len_max);
	*ret = s.ptr;
	return OK;
}

/* Missing or 0: OTHERWISE. */
static errc take_number(const struct json *object, const char *key, int64_t min, int64_t max,
			int64_t otherwise, int64_t *ret, struct err *e)
{
	int64_t v = 0;
	if (json_get(object, key))
		TRY(json_need_i64(object, key, &v, e));
	if (v == 0)
		v = otherwise;
	else if (v < min || v > max)
		FAIL(e, ERR_INVALID, "\"%s\" must lie between %lld and %lld", key, (long long)min,
		     (long long)max);
	*ret = v;
	return OK;
}

static errc take_argv(const struct json *object, struct arena *config, struct shim_spec *spec,
		      struct err *e)
{
	const struct json *list = json_get(object, "argv");
	if (!list || list->kind != JSON_ARRAY || !list->count || list->count > SHIM_ARG_COUNT_MAX)
		FAIL(e, ERR_INVALID, "\"argv\" must be a list of 1 to %d strings",
		     SHIM_ARG_COUNT_MAX);
	const char **argv = arena_array(config, list->count + 1, sizeof(*argv));
	for (size_t i = 0; argv && i < list->count; i++) {
		const struct json *item = &list->items[i];
		if (item->kind != JSON_STRING || strlen(item->string.ptr) != item->string.len ||
		    (i == 0 && !item->string.len))
			FAIL(e, ERR_INVALID, "\"argv\" must hold strings without a byte 0");
		argv[i] = item->string.ptr;
	}
	spec->argv = argv;
	return OK;
}

static errc take_env(const struct json *object, struct arena *config, struct shim_spec *spec,
		     struct err *e)
{
	const struct json *map = json_get(object, "env");
	size_t count = map && map->kind == JSON_OBJECT ? map->count : 0;
	if ((map && map->kind != JSON_OBJECT) || count > SHIM_ENV_COUNT_MAX)
		FAIL(e, ERR_INVALID, "\"env\" must be an object of at most %d strings",
		     SHIM_ENV_COUNT_MAX);
	const char **envp = arena_array(config, count + 1, sizeof(*envp));
	for (size_t i = 0; envp && i < count; i++) {
		str key = map->keys[i], value = json_str(&map->items[i], (str){ 0 });
		if (map->items[i].kind != JSON_STRING || memchr(value.ptr, '\0', value.len) ||
		    !key.len || memchr(key.ptr, '\0', key.len) || memchr(key.ptr, '=', key.len))
			FAIL(e, ERR_INVALID,
			     "entry %zu of \"env\" must be a name and a string without a byte 0",
			     i + 1);
		char *entry = arena_alloc(config, key.len + value.len + 2);
		if (!entry)
			break;
		memcpy(entry, key.ptr, key.len);
		entry[key.len] = '=';
		memcpy(entry + key.len + 1, value.ptr, value.len);
		envp[i] = entry;
	}
	spec->envp = envp;
	return OK;
}

static errc take_id(int64_t v, uint32_t *ret, struct err *e)
{
	if (v < 0 || v >= UINT32_MAX)
		FAIL(e, ERR_INVALID, "\"user\" must hold user and group ids");
	*ret = (uint32_t)v;
	return OK;
}

static errc take_user(const struct json *object, struct process_user *user, struct err *e)
{
	const struct json *v = json_get(object, "user"), *groups = json_get(v, "groups");
	if (!v)
		return OK;
	if (!groups || groups->kind != JSON_ARRAY || groups->count > PROCESS_GROUP_COUNT_MAX)
		FAIL(e, ERR_INVALID, "\"user\" must hold uid, gid and at most %d groups",
		     PROCESS_GROUP_COUNT_MAX);
	TRY(take_id(json_i64(json_get(v, "uid"), -1), &user->uid, e));
	TRY(take_id(json_i64(json_get(v, "gid"), -1), &user->gid, e));
	for (size_t i = 0; i < groups->count; i++)
		TRY(take_id(json_i64(&groups->items[i], -1), &user->groups[i], e));
	user->group_count = (unsigned)groups->count;
	user->drop = true;
	return OK;
}

static errc take_signal(const struct json *object, const char *key, const char **ret, struct err *e)
{
	TRY(take_cstr(object, key, 16, false, ret, e));
	if (*ret && !process_signal_of_name(str_c(*ret)))
		FAIL(e, ERR_INVALID, "\"%s\": there is no signal %s; write it as SIGTERM", key,
		     *ret);
	return OK;
}

static errc take_limits(const struct json *object, struct shim_spec *spec, struct err *e)
{
	int64_t mask;
	TRY(take_number(object, "stop_timeout_ms", 1, DURATION_MS_MAX, DEFAULT_STOP_MS,
			&spec->stop_timeout_ms, e));
	TRY(take_number(object, "memory_bytes_max", 1 << 20, INT64_MAX, 0, &spec->memory_bytes_max,
			e));
	TRY(take_number(object, "restart_backoff_max_ms", BACKOFF_MIN_MS, DURATION_MS_MAX,
			DEFAULT_BACKOFF_MAX_MS, &spec->restart_backoff_max_ms, e));
	TRY(take_number(object, "log_bytes_max", LOG_BYTES_MIN, INT64_MAX / 2, DEFAULT_LOG_BYTES,
			&spec->log_bytes_max, e));
	TRY(take_number(object, "umask", 1, 0777, DEFAULT_UMASK, &mask, e));
	spec->umask = (mode_t)mask;
	return OK;
}

static bool is_id(const char *id)
{
	size_t len = strlen(id);
	bool good = len > 0 && len <= SHIM_ID_BYTES_MAX && id[0] != '-' && id[0] != '.';
	for (size_t i = 0; good && i < len; i++)
		good = (id[i] >= 'a' && id[i] <= 'z') || (id[i] >= '0' && id[i] <= '9') ||
		       id[i] == '-' || id[i] == '.';
	return good;
}

errc shim_spec_parse(str text, struct arena *config, struct shim_spec *ret_spec, struct err *e)
{
	struct shim_spec spec = { 0 };
	const struct json *object;
	str restart;
	TRY(json_parse(config, text, SHIM_SPEC_BYTES_MAX, &object, e));
	TRY(take_cstr(object, "id", SHIM_ID_BYTES_MAX, true, &spec.id, e));
	if (!is_id(spec.id))
		FAIL(e, ERR_INVALID, "\"id\" is made of a-z, 0-9, - and ., at most %d",
		     SHIM_ID_BYTES_MAX);
	TRY(take_argv(object, config, &spec, e));
	TRY(take_env(object, config, &spec, e));
	TRY(take_user(object, &spec.user, e));
	TRY(take_cstr(object, "cwd", IO_PATH_MAX - 1, false, &spec.cwd, e));
	TRY(take_cstr(object, "folder", IO_PATH_MAX / 2, true, &spec.folder, e));
	TRY(take_cstr(object, "socket", IO_PATH_MAX / 2, true, &spec.socket, e));
	TRY(take_signal(object, "stop_signal", &spec.stop_signal, e));
	if (!spec.stop_signal)
		spec.stop_signal = "SIGTERM";
	TRY(take_signal(object, "drain_signal", &spec.drain_signal, e));
	TRY(take_limits(object, &spec, e));
	restart = json_str(json_get(object, "restart"), STR("always"));
	if (!str_eq_c(restart, "always") && !str_eq_c(restart, "never"))
		FAIL(e, ERR_INVALID, "\"restart\" must be \"always\" or \"never\"");
	spec.restart = str_eq_c(restart, "never") ? SHIM_RESTART_NEVER : SHIM_RESTART_ALWAYS;
	/* the shim leaves the folder it was started in */
	if (spec.folder[0] != '/' || spec.socket[0] != '/' || (spec.cwd && spec.cwd[0] != '/'))
		FAIL(e, ERR_INVALID, "\"folder\", \"socket\" and \"cwd\" must be absolute paths");
	TRY(arena_check(config, "the specification of a shim", e));
	*ret_spec = spec;
	return OK;
}

/* ---- Commands. */

static errc verb_of_name(str name, enum shim_verb *ret_verb, struct err *e)
{
	for (size_t i = 0; i < ARRAY_COUNT(verb_names); i++) {
		if (str_eq_c(name, verb_names[i])) {
			*ret_verb = (enum shim_verb)i;
			return OK;
		}
	}
	const char *near = suggest(name, verb_names, ARRAY_COUNT(verb_names));
	FAIL(e, ERR_INVALID, "there is no command \"%.*s\"; %s %s",
	     (int)(name.len < 40 ? name.len : 40), name.ptr, near ? "did you mean" : "ask for",
	     near ? near : "status, watch, stop, signal, drain, restart or exit");
}

static errc command_of_json(const struct json *object, struct shim_command *ret_command,
			    struct err *e)
{
	struct shim_command command = { .timeout_ms = -1 };
	str name;
	TRY(json_need_str(object, "do", &name, e));
	TRY(verb_of_name(name, &command.verb, e));
	if (command.verb == SHIM_DO_STOP && json_get(object, "timeout_ms")) {
		TRY(json_need_i64(object, "timeout_ms", &command.timeout_ms, e));
		if (command.timeout_ms < 0 || command.timeout_ms > DURATION_MS_MAX)
			FAIL(e, ERR_INVALID, "\"timeout_ms\" must lie between 0 and %lld",
			     (long long)DURATION_MS_MAX);
	}
	if (command.verb == SHIM_DO_SIGNAL) {
		TRY(json_need_str(object, "signal", &name, e));
		command.signal_number = process_signal_of_name(name);
		if (!command.signal_number)
			FAIL(e, ERR_INVALID, "there is no such signal; write it as SIGUSR2");
	}
	*ret_command = command;
	return OK;
}

errc shim_command_parse(str text, struct shim_command *ret_command, struct err *e)
{
	struct arena scratch = arena_init(ARENA_BYTES_MAX);
	const struct json *object;
	errc rc = json_parse(&scratch, text, SHIM_COMMAND_BYTES_MAX, &object, e);
	if (rc == OK)
		rc = command_of_json(object, ret_command, e);
	arena_done(&scratch);
	return rc;
}

void shim_error_write(const struct err *error, struct buf *b)
{
	struct json_writer w = json_writer_init(b, false);
	json_begin_object(&w);
	json_key(&w, "error");
	json_begin_object(&w);
	json_put_cstr(&w, "code", errc_name(error->code));
	json_put_cstr(&w, "message", error->message);
	json_end_object(&w);
	json_end_object(&w);
}

/* ---- Status. */

void shim_status_write(const struct shim_app *app, struct buf *b)
{
	struct json_writer w = json_writer_init(b, false);
	str line;
	json_begin_object(&w);
	json_put_cstr(&w, "id", app->spec->id);
	json_put_i64(&w, "pid", app->pid);
	json_put_i64(&w, "shim_pid", getpid());
	json_put_cstr(&w, "state", shim_state_name(app->state));
	json_put_i64(&w, "restarts", app->restarts);
	json_put_i64(&w, "started_ms", app->started_ms);
	json_put_cstr(&w, "exit", app->exit);
	json_put_i64(&w, "exit_ms", app->exit_ms);
	json_put_i64(&w, "dropped_lines", shim_output_dropped(app->output));
	json_key(&w, "last_lines");
	json_begin_array(&w);
	for (size_t i = 0; shim_output_last(app->output, i, &line); i++)
		json_add_str(&w, line);
	json_end_array(&w);
	json_end_object(&w);
}

/* The failure that OBJECT tells of, as ours. */
static errc error_of_json(const struct json *object, struct err *e)
{
	const struct json *error = json_get(object, "error");
	if (!error)
		return OK;
	FAIL(e, errc_of_name(json_cstr(json_get(error, "code"))), "%s",
	     json_cstr(json_get(error, "message")));
}

/* Not cut within a character. */
static void copy_cut(const char *text, char *into, size_t size)
{
	size_t len = strlen(text);
	if (len >= size)
		for (len = size - 1; len && ((unsigned char)text[len] & 0xc0) == 0x80; len--)
			;
	memcpy(into, text, len);
	into[len] = '\0';
}

static errc state_of_json(const struct json *object, enum shim_state *ret_state, struct err *e)
{
	const char *name = json_cstr(json_get(object, "state"));
	for (int state = 0; state <= SHIM_FAILED; state++) {
		if (strcmp(name, shim_state_name((enum shim_state)state)) == 0) {
			*ret_state = (enum shim_state)state;
			return OK;
		}
	}
	FAIL(e, ERR_CORRUPT, "a shim told of an unknown state \"%.40s\"", name);
}

static errc status_of_json(const struct json *object, struct shim_status *status, struct err *e)
{
	const struct json *lines = json_get(object, "last_lines");
	memset(status, 0, sizeof(*status));
	TRY(state_of_json(object, &status->state, e));
	copy_cut(json_cstr(json_get(object, "id")), status->id, sizeof(status->id));
	copy_cut(json_cstr(json_get(object, "exit")), status->exit, sizeof(status->exit));
	status->pid = (pid_t)json_i64(json_get(object, "pid"), 0);
	status->shim_pid = (pid_t)json_i64(json_get(object, "shim_pid"), 0);
	status->restarts = json_i64(json_get(object, "restarts"), 0);
	status->started_ms = json_i64(json_get(object, "started_ms"), 0);
	status->exit_ms = json_i64(json_get(object, "exit_ms"), 0);
	status->dropped_lines = json_i64(json_get(object, "dropped_lines"), 0);
	for (size_t i = 0;
	     lines && lines->kind == JSON_ARRAY && i < lines->count && i < SHIM_LAST_LINE_COUNT;
	     i++) {
		copy_cut(json_cstr(&lines->items[i]), status->last_lines[i],
			 sizeof(status->last_lines[i]));
		status->last_line_count++;
	}
	return OK;
}

errc shim_status_parse(str line, struct shim_status *ret_status, struct err *e)
{
	struct arena scratch = arena_init(STATUS_ARENA_BYTES_MAX);
	const struct json *object;
	errc rc = json_parse(&scratch, line, SHIM_STATUS_BYTES_MAX, &object, e);
	if (rc == OK)
		rc = error_of_json(object, e);
	if (rc == OK)
		rc = status_of_json(object, ret_status, e);
	arena_done(&scratch);
	return rc;
}

errc shim_started_parse(str line, pid_t *ret_pid, struct err *e)
{
	struct arena scratch = arena_init(ARENA_BYTES_MAX);
	const struct json *object;
	int64_t pid = 0;
	errc rc = json_parse(&scratch, line, SHIM_COMMAND_BYTES_MAX, &object, e);
	if (rc == OK)
		rc = error_of_json(object, e);
	if (rc == OK)
		rc = json_need_i64(object, "pid", &pid, e);
	if (rc == OK)
		*ret_pid = (pid_t)pid;
	arena_done(&scratch);
	return rc;
}
