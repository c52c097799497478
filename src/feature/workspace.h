/*
 * A release on disk and in memory: its working copy, and the environment its processes see.
 *
 * Shape: DATA/releases/<app>/<environment>/r<number>/ is the release's working copy, owned by us
 * and readable for the application's account; DATA/instances/<id>/ is an instance's own folder.
 */
#pragma once

#include "catalog/releases.h"
#include "feature/feature.h"
#include "spec/spec.h"

enum { WORKSPACE_PATH_SIZE = 4096, WORKSPACE_ARENA_BYTES = 96 * 1024 * 1024 };

/* The working copy's path. Errors: ERR_LIMIT. */
WARN_UNUSED errc workspace_path(const struct feature_context *context, const struct release *r,
				char path[static WORKSPACE_PATH_SIZE], struct err *e);

/*
 * Make the working copy unless it is there: each file is verified on the way, see
 * artifact_checkout(). What a process of the release writes there is seen by nobody else, and lasts
 * until the machine starts anew or the release is pruned. Files of PREVIOUS (may be NULL) in its
 * public folder that this release lacks are added, so that a page loaded before a switch still
 * finds its hashed assets after it.
 */
WARN_UNUSED errc workspace_make(const struct feature_context *context, const struct release *r,
				const struct spec *spec, const struct release *previous,
				struct err *e);
WARN_UNUSED errc workspace_remove(const struct feature_context *context, const struct release *r,
				  struct err *e);

/*
 * `NAME=value` for a process of the release: what the system needs (PATH, HOME, LANG, TZ), the
 * pinned configuration and secrets, the service's own variables (SERVICE may be NULL: a hook), then
 * HOLDFAST_*. Ends in NULL. Holds secrets: it goes to a pipe, never to a file or a command line.
 */
WARN_UNUSED errc workspace_environment(const struct feature_context *context,
				       const struct release *r,
				       const struct spec_environment *environment,
				       const struct spec_service *service, struct arena *scratch,
				       const char *const *extra, size_t extra_count,
				       const char *const **ret_envp, struct err *e);

/* The path of what instance ID wrote: one JSON object a line, see shim_output.c. */
void workspace_output_path(const struct feature_context *context, const char *id,
			   char path[static WORKSPACE_PATH_SIZE]);
/* The last lines that the instance's application wrote, as text, at most TEXT_SIZE - 1 bytes; empty
 * when there are none. Cost: reads the last 64 KiB; waits a moment for what is on its way. */
void workspace_last_output(const struct feature_context *context, const char *id, char *text,
			   size_t text_size);
