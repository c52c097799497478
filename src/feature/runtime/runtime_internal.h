/* What runtime.c (the reconciler) and runtime_start.c (starting one instance) share. */
#pragma once

#include "catalog/instances.h"
#include "feature/feature.h"
#include "shim/shim_client.h"

enum { RUNTIME_SOCKET_SIZE = 108 };

/* The control socket of an instance's shim. Errors: ERR_LIMIT when the path is too long. */
WARN_UNUSED errc runtime_socket_path(const struct feature_context *context, const char *id,
				     char path[static RUNTIME_SOCKET_SIZE], struct err *e);

/* Start the shim of I: working copy, environment, folder. Errors say what the release lacks. */
WARN_UNUSED errc runtime_start_instance(const struct feature_context *context,
					const struct instance *i, struct err *e);
