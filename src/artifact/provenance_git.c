#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "artifact/provenance.h"
#include "artifact/url_internal.h"
#include "base/checks.h"
#include "os/io.h"
#include "os/process.h"

enum { GIT_TIME_MS_MAX = 10000, LINE_MAX_BYTES = 2048 };

struct first_line {
	char text[LINE_MAX_BYTES];
	bool seen;
};

static void keep_first(void *ctx, str line)
{
	struct first_line *first = ctx;
	if (!first->seen && !str_copy(str_trim(line), first->text, sizeof(first->text)))
		first->text[0] = '\0';
	first->seen = true;
}

/* No configuration but the checkout's own, and nothing that could run a hook or ask a question. */
static errc run_git(const char *const *argv, const char *folder, struct first_line *ret_line,
		    struct err *e)
{
	static const char *const environment[] = {
		"PATH=/usr/local/bin:/usr/bin:/bin",
		"HOME=/nonexistent",
		"LC_ALL=C",
		"GIT_CONFIG_NOSYSTEM=1",
		"GIT_OPTIONAL_LOCKS=0",
		"GIT_TERMINAL_PROMPT=0",
		NULL,
	};
	struct process_run run = {
		.process = { .argv = argv, .envp = environment, .cwd = folder, .fd_stdin = -1 },
		.time_ms_max = GIT_TIME_MS_MAX,
		.line = keep_first,
		.ctx = ret_line,
	};
	return process_run(&run, e);
}

static bool is_commit(str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (!memchr("0123456789abcdef", s.ptr[i], 16))
			return false;
	return s.len == 40 || s.len == 64;
}

errc provenance_git(const char *folder, struct arena *into, str *ret_commit, str *ret_remote,
		    struct err *e)
{
	static const char *const head[] = { "git",       "-c",       "safe.directory=*",
					    "rev-parse", "--verify", "HEAD",
					    NULL };
	static const char *const remote[] = { "git",     "-c",    "safe.directory=*",  "config",
					      "--local", "--get", "remote.origin.url", NULL };
	struct first_line line = { .seen = false };
	char path[IO_PATH_MAX];
	*ret_commit = STR("");
	*ret_remote = STR("");
	if (snprintf(path, sizeof(path), "%s/.git", folder) >= (int)sizeof(path))
		FAIL(e, ERR_LIMIT, "the path %.60s… is too long", folder);
	/* no checkout, no commit yet, or no git: a build needs none of them */
	if (access(path, F_OK) < 0 || run_git(head, folder, &line, NULL) != OK ||
	    !is_commit(str_c(line.text)))
		return OK;
	str commit = arena_str(into, str_c(line.text));
	line = (struct first_line){ .seen = false };
	if (run_git(remote, folder, &line, NULL) == OK)
		*ret_remote = url_without_credentials(str_c(line.text), into);
	*ret_commit = commit;
	return arena_check(into, "the git commit", e);
}
