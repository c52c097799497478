/*
 * One build at work.
 *
 * build.c        dispatcher and the life of an operation
 * build_inputs.c which files are inputs, and their digests
 * build_key.c    keys: of the whole build and of single steps; tool versions
 * build_steps.c  the working copy, the step cache, running the steps
 * build_result.c validation, precompression, bill of materials, provenance, packing
 */
#pragma once

#include <pthread.h>

#include "catalog/operations.h"
#include "codec/digest.h"
#include "feature/feature.h"
#include "spec/spec.h"

enum {
	BUILD_PATH_SIZE = 4096,
	BUILD_ARENA_BYTES = 512 * 1024 * 1024,
	BUILD_INPUT_COUNT_MAX = 200000
};

struct build_input {
	const char *path;     /* relative to the source folder */
	mode_t mode;          /* type and permission bits */
	struct digest digest; /* of the contents, or of a link's target; zero for a folder */
};

struct build_tool {
	const char *name;
	const char *version;
};

/* Versions of tools by the file that provides them, so that asking again costs a stat(). */
struct build_tool_cache;
struct build_tool_cache *build_tool_cache_new(void);
void build_tool_cache_free(struct build_tool_cache *c);

struct build_run {
	const struct feature_context *context;
	struct build_tool_cache *tool_cache;
	const bool *stopping;
	struct operation operation;
	struct arena arena; /* lives as long as the run */
	/* of the request */
	const char *source;
	const char *file;
	const struct spec *spec;
	const struct spec_environment *environment;
	/* found out */
	struct build_input *inputs; /* by path */
	size_t input_count;
	struct build_tool *tools; /* as many as spec->build.tools */
	struct digest tree;       /* of all inputs */
	struct digest key;
	char work[BUILD_PATH_SIZE]; /* the working copy */
	char home[BUILD_PATH_SIZE];
	time_ms started_at;
	const char *step; /* for events */
	struct digest artifact;
	bool reused;
	uint64_t packed_bytes;
};

void build_say(struct build_run *run, enum operation_event_kind kind, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Cancelled by a person, or the daemon stops. ctx: struct build_run. */
bool build_cancelled(void *ctx);

/* Errors: ERR_NOT_FOUND when there is no source folder; ERR_CANCELLED. */
WARN_UNUSED errc build_find_inputs(struct build_run *run, struct err *e);
WARN_UNUSED errc build_find_tools(struct build_run *run, struct err *e);
/* The key of the whole build, from definition, tools, variables and inputs. */
WARN_UNUSED errc build_make_key(struct build_run *run, struct err *e);
/* The key of a step with inputs and outputs of its own; false when it has none. */
bool build_step_key(const struct build_run *run, size_t step, struct digest *ret_key);

/* Copy the inputs, run the steps, leave the result in run->work. */
WARN_UNUSED errc build_run_steps(struct build_run *run, struct err *e);
/* The names of the variables that STEP sees: all of the build's, unless it is cached by itself. */
const struct spec_list *build_step_variables(const struct build_run *run,
					     const struct spec_step *step);
/* What STEP (NULL: a tool) sees: a fixed environment and its variables. Ends in NULL. */
WARN_UNUSED errc build_environment(struct build_run *run, const struct spec_step *step,
				   const char *const **ret_envp, struct err *e);

/* Validate run->work and pack it: run->artifact. */
WARN_UNUSED errc build_make_artifact(struct build_run *run, struct err *e);
