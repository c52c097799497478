/* What the tests of the shim share: instances in a folder of their own, and waiting for events. */
#pragma once

#include <stdio.h>

#include "base/buf.h"
#include "shim/shim_client.h"

struct instance {
	char root[64];
	char folder[128];
	char socket[160];
	const char *argv[8];
	const char *envp[8];
	struct shim_spec spec;
	pid_t shim_pid;
	struct shim_client *client;
	struct shim_status status;
};

/* Runs `holdfast shim` when the test program was started as such, else 0 and the tests go on. */
int shim_support_main(int argc, char **argv);

/* An instance of `sh -c SCRIPT` that is not started yet. */
struct instance *instance_new(const char *script);
/* Start it and connect; everything is asserted. */
void instance_start(struct instance *x);
/* Kill what is left and remove the folder. */
void instance_free(struct instance *x);

/* Ask for the status until WANTED holds; fails the test after 20 s. */
void instance_await(struct instance *x, bool (*wanted)(const struct shim_status *));
void instance_await_line(struct instance *x, const char *line);
/* The last line that starts with PREFIX, as the number behind it. */
long instance_number(struct instance *x, const char *prefix);
void instance_stop(struct instance *x);

/* Every line of output in order over all rotated files: `out`, `err` or `shim`, and its text with
 * pieces joined. Asserts that each is valid JSON. */
void instance_output(const struct instance *x, void (*line)(void *ctx, str stream, str text),
		     void *ctx);

bool process_is_alive(pid_t pid);
void await_gone(pid_t pid);
