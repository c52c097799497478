#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checks.h"
#include "codec/digest.h"
#include "feature/runtime/runtime_internal.h"
#include "feature/workspace.h"
#include "os/io.h"

errc runtime_socket_path(const struct feature_context *context, const char *id,
			 char path[static RUNTIME_SOCKET_SIZE], struct err *e)
{
	/* a unix socket's path is short, an id is not: name the socket by a part of the id's digest
	 */
	struct digest digest = digest_of(str_c(id));
	char hex[DIGEST_HEX_SIZE];
	int n = snprintf(path, RUNTIME_SOCKET_SIZE, "%s/run/shims/%.16s.sock", context->data,
			 digest_hex(&digest, hex));
	if (n < 0 || n >= RUNTIME_SOCKET_SIZE)
		FAIL(e, ERR_LIMIT, "the path of the data folder is too long for unix sockets: %s",
		     context->data);
	return OK;
}

/* Everything of the start in one place, so that the steps below stay small. */
struct start {
	const struct feature_context *context;
	const struct instance *instance;
	struct arena scratch;
	struct release release;
	const struct spec *spec;
	const struct spec_environment *environment;
	const struct spec_service *service;
	char cwd[WORKSPACE_PATH_SIZE];
	char folder[WORKSPACE_PATH_SIZE];
	char home[WORKSPACE_PATH_SIZE + 8];
	struct process_user user;
};

static errc load_release(struct start *s, struct err *e)
{
	const struct instance *i = s->instance;
	TRY(releases_get(s->context->catalog, i->app, i->environment, i->release, &s->scratch,
			 &s->release, e));
	TRY(spec_parse(&s->scratch, str_c(s->release.specification), "holdfast.yml", &s->spec, NULL,
		       e));
	TRY(spec_environment_find(s->spec, i->environment, &s->environment, e));
	s->service = spec_service_find(s->environment, i->service);
	if (!s->service)
		FAIL(e, ERR_CORRUPT, "release %lld has no service %s", (long long)i->release,
		     i->service);
	s->user = s->context->account;
	return s->service->user ? process_user_find(s->service->user, &s->user, e) : OK;
}

/* The instance's own folder is the daemon's; HOME in it is the account's. */
static errc make_folders(struct start *s, struct err *e)
{
	int n = snprintf(s->folder, sizeof(s->folder), "%s/instances/%s", s->context->data,
			 s->instance->id);
	if (n < 0 || n >= (int)sizeof(s->folder))
		FAIL(e, ERR_LIMIT, "the path of the instance's folder is too long");
	snprintf(s->home, sizeof(s->home), "%s/home", s->folder);
	TRY(io_make_dirs(s->folder, 0711, e));
	if (chmod(s->folder, 0711) < 0)
		FAIL_ERRNO(e, "cannot set the mode of %s", s->folder);
	TRY(io_make_dirs(s->home, 0700, e));
	if (s->user.drop && chown(s->home, s->user.uid, s->user.gid) < 0)
		FAIL_ERRNO(e, "cannot give %s to the application's account", s->home);
	return OK;
}

static errc make_environment(struct start *s, const char *const **ret_envp, struct err *e)
{
	const struct instance *i = s->instance;
	const char *const extra[] = {
		"HOST=127.0.0.1",
		arena_printf(&s->scratch, "PORT=%d", i->port),
		arena_printf(&s->scratch, "HOME=%s", s->home),
		arena_printf(&s->scratch, "TMPDIR=%s", s->home),
		arena_printf(&s->scratch, "HOLDFAST_SERVICE=%s", i->service),
		arena_printf(&s->scratch, "HOLDFAST_INSTANCE=%s", i->id),
	};
	return workspace_environment(s->context, &s->release, s->environment, s->service,
				     &s->scratch, extra, ARRAY_COUNT(extra), ret_envp, e);
}

static errc start_shim(struct start *s, struct err *e)
{
	char socket[RUNTIME_SOCKET_SIZE], sockets[WORKSPACE_PATH_SIZE];
	const char *const *envp = NULL;
	pid_t shim_pid = 0;
	TRY(runtime_socket_path(s->context, s->instance->id, socket, e));
	snprintf(sockets, sizeof(sockets), "%s/run/shims", s->context->data);
	TRY(io_make_dirs(sockets, 0700, e));
	TRY(make_environment(s, &envp, e));
	struct shim_spec spec = {
		.id = s->instance->id,
		.argv = s->service->command.items,
		.envp = envp,
		.cwd = s->cwd,
		.folder = s->folder,
		.socket = socket,
		.user = s->user,
		.stop_signal = spec_signal_name(s->service->stop_signal),
		.drain_signal = s->service->drain_signal
					? spec_signal_name(s->service->drain_signal)
					: NULL,
		.stop_timeout_ms = s->service->stop_timeout_ms,
		.memory_bytes_max = s->service->memory_bytes_max,
		.restart_backoff_max_ms = s->service->restart_backoff_ms_max,
		.restart = SHIM_RESTART_ALWAYS,
	};
	errc rc = shim_start(&spec, s->context->executable, &shim_pid, e);
	return rc == ERR_CONFLICT ? OK : rc; /* it runs already: the reconciler connects to it */
}

errc runtime_start_instance(const struct feature_context *context, const struct instance *i,
			    struct err *e)
{
	struct start s = { .context = context,
			   .instance = i,
			   .scratch = arena_init(WORKSPACE_ARENA_BYTES) };
	errc rc = load_release(&s, e);
	if (rc == OK)
		rc = workspace_make(context, &s.release, s.spec, NULL, e);
	if (rc == OK)
		rc = workspace_path(context, &s.release, s.cwd, e);
	if (rc == OK)
		rc = make_folders(&s, e);
	if (rc == OK)
		rc = start_shim(&s, e);
	arena_done(&s.scratch);
	return rc;
}
