/* What a release's specification says about traffic. */
#include <string.h>

#include "base/checks.h"
#include "feature/traffic/traffic_desired.h"
#include "spec/spec.h"

static errc copy(const char *from, char *to, size_t size, const char *what, struct err *e)
{
	if (!str_copy(str_c(from), to, size))
		FAIL(e, ERR_LIMIT, "%s is longer than %zu bytes", what, size - 1);
	return OK;
}

static errc read_listen(const struct spec_environment *environment, struct traffic_bind *bind,
			struct err *e)
{
	struct buf listen CLEANUP(buf_done) = buf_init(sizeof(bind->listen) - 1);
	bool v6 = strchr(environment->listen_host, ':') != NULL;
	buf_printf(&listen, v6 ? "[%s]:%d" : "%s:%d", environment->listen_host,
		   environment->listen_port);
	TRY(buf_check(&listen, "the address to listen on", e));
	must(str_copy(buf_str(&listen), bind->listen, sizeof(bind->listen)));
	if (!environment->tls_certificate)
		return OK;
	return copy(environment->tls_certificate, bind->tls_certificate,
		    sizeof(bind->tls_certificate), "the path of the TLS certificate", e);
}

errc traffic_settings_read(const char *specification, const char *environment,
			   struct traffic_settings *ret_settings, struct err *e)
{
	struct arena config CLEANUP(arena_done) = arena_init(SPEC_ARENA_BYTES);
	const struct spec *spec;
	const struct spec_environment *env;
	struct traffic_settings settings = { 0 };
	TRY(spec_parse(&config, str_c(specification), "holdfast.yml", &spec, NULL, e));
	TRY(spec_environment_find(spec, environment, &env, e));
	const struct spec_service *service = spec_traffic_service(env);
	TRY(read_listen(env, &settings.bind, e));
	if (service->ready)
		TRY(copy(service->ready, settings.ready_path, sizeof(settings.ready_path),
			 "the readiness path", e));
	settings.ready_interval_ms = service->ready_interval_ms < 50 ? 50
								     : service->ready_interval_ms;
	settings.close_spread_ms = env->deploy.close_spread_ms;
	settings.retry_idempotent_posts = env->deploy.retry_idempotent_posts;
	settings.replicas = service->instances > TRAFFIC_SLOT_MAX / 2 ? TRAFFIC_SLOT_MAX / 2
								      : (int)service->instances;
	*ret_settings = settings;
	return OK;
}
