#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "artifact/digest_file.h"
#include "base/checks.h"
#include "base/glob.h"
#include "feature/build/build_internal.h"
#include "os/io.h"

struct collector {
	struct build_run *run;
	size_t room;
	size_t seen_count;
};

/* Left out wherever they are: made by builds, or of no meaning to them. */
static bool is_always_excluded(const char *path)
{
	static const char *const names[] = { "node_modules", "dist", ".git" };
	const char *name = strrchr(path, '/');
	name = name ? name + 1 : path;
	for (size_t i = 0; i < ARRAY_COUNT(names); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

static bool any_matches(const struct spec_list *globs, const char *path)
{
	for (size_t i = 0; i < globs->count; i++)
		if (glob_match(str_c(globs->items[i]), str_c(path)))
			return true;
	return false;
}

static bool is_excluded(const struct build_run *run, const char *path)
{
	const struct spec_build *build = &run->spec->build;
	/* the specification takes part by its meaning: see build_key.c */
	if (is_always_excluded(path) || strcmp(path, run->file) == 0 ||
	    any_matches(&build->exclude, path))
		return true;
	for (size_t i = 0; i < build->step_count; i++)
		if (any_matches(&build->steps[i].outputs, path))
			return true;
	return false;
}

static errc digest_input(const struct build_run *run, const struct io_entry *entry,
			 struct digest *ret_digest, struct err *e)
{
	char full[BUILD_PATH_SIZE];
	uint64_t size = 0;
	if (snprintf(full, sizeof(full), "%s/%s", run->source, entry->path) >= (int)sizeof(full))
		FAIL(e, ERR_LIMIT, "the path of %s is too long", entry->path);
	if (S_ISDIR(entry->st.st_mode))
		return OK;
	if (S_ISREG(entry->st.st_mode))
		return digest_of_file(full, ret_digest, &size, e);
	if (!S_ISLNK(entry->st.st_mode))
		FAIL(e, ERR_INVALID,
		     "%s is neither a file nor a folder nor a link; name it in build.exclude or "
		     "remove it",
		     entry->path);
	char target[BUILD_PATH_SIZE];
	ssize_t n = readlink(full, target, sizeof(target));
	if (n < 0)
		FAIL_ERRNO(e, "cannot read the link %s", full);
	*ret_digest = digest_of((str){ target, (size_t)n });
	return OK;
}

static errc take_input(void *ctx, const struct io_entry *entry, enum io_walk *ret_walk,
		       struct err *e)
{
	struct collector *c = ctx;
	struct build_run *run = c->run;
	if (is_excluded(run, entry->path)) {
		*ret_walk = IO_WALK_SKIP;
		return OK;
	}
	if (++c->seen_count % 256 == 0 && build_cancelled(run))
		FAIL(e, ERR_CANCELLED, "it was cancelled");
	if (run->input_count == BUILD_INPUT_COUNT_MAX)
		FAIL(e, ERR_LIMIT,
		     "there are more than %d source files; name what is none in build.exclude",
		     BUILD_INPUT_COUNT_MAX);
	if (run->input_count == c->room) {
		size_t room = c->room ? c->room * 2 : 256;
		struct build_input *grown = arena_array(&run->arena, room, sizeof(*grown));
		TRY(arena_check(&run->arena, "the list of source files", e));
		if (run->input_count)
			memcpy(grown, run->inputs, run->input_count * sizeof(*grown));
		run->inputs = grown;
		c->room = room;
	}
	struct build_input *input = &run->inputs[run->input_count];
	TRY(digest_input(run, entry, &input->digest, e));
	input->path = arena_cstr(&run->arena, str_c(entry->path));
	/* of the permissions only the execution bit reaches an artifact */
	input->mode = (entry->st.st_mode & S_IFMT) | (entry->st.st_mode & 0100 ? 0755 : 0644);
	run->input_count++;
	return arena_check(&run->arena, "the list of source files", e);
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct build_input *)a)->path, ((const struct build_input *)b)->path);
}

errc build_find_inputs(struct build_run *run, struct err *e)
{
	struct collector c = { .run = run };
	struct stat st;
	if (stat(run->source, &st) < 0 || !S_ISDIR(st.st_mode))
		FAIL(e, ERR_NOT_FOUND, "there is no source folder %s that the daemon can read",
		     run->source);
	TRY(io_walk(run->source, take_input, &c, e));
	if (run->input_count)
		qsort(run->inputs, run->input_count, sizeof(*run->inputs), by_path);
	return OK;
}
