#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/checks.h"
#include "codec/json.h"
#include "os/clock.h"
#include "os/io.h"
#include "shim/shim.h"
#include "shim_support.h"

enum { AWAIT_MS_MAX = 20000, FILE_BYTES_MAX = 128 * 1024 * 1024 };

int shim_support_main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "shim") == 0)
		exit(shim_main(argc, argv));
	return 0;
}

struct instance *instance_new(const char *script)
{
	struct instance *x = must_calloc(1, sizeof(*x));
	snprintf(x->root, sizeof(x->root), "/tmp/shim-test-XXXXXX");
	must(mkdtemp(x->root));
	must(chmod(x->root, 0755) == 0);
	snprintf(x->folder, sizeof(x->folder), "%s/instance", x->root);
	snprintf(x->socket, sizeof(x->socket), "%s/control", x->root);
	x->argv[0] = "/bin/sh";
	x->argv[1] = "-c";
	x->argv[2] = script;
	x->envp[0] = "PATH=/usr/local/bin:/usr/bin:/bin";
	x->spec = (struct shim_spec){
		.id = "web-1",
		.argv = x->argv,
		.envp = x->envp,
		.cwd = "/",
		.folder = x->folder,
		.socket = x->socket,
	};
	return x;
}

void instance_start(struct instance *x)
{
	struct err e = { 0 };
	if (shim_start(&x->spec, "/proc/self/exe", &x->shim_pid, &e) != OK)
		fail_msg("%s", e.message);
	if (shim_connect(x->socket, &x->client, &e) != OK)
		fail_msg("%s", e.message);
}

void instance_free(struct instance *x)
{
	struct err e;
	shim_client_free(x->client);
	if (x->shim_pid > 0) {
		kill(x->shim_pid, SIGKILL);
		await_gone(x->shim_pid);
	}
	if (io_remove_tree(x->root, &e) != OK)
		fail_msg("%s", e.message);
	free(x);
}

void instance_await(struct instance *x, bool (*wanted)(const struct shim_status *))
{
	int64_t deadline = clock_mono_ms() + AWAIT_MS_MAX;
	struct err e = { 0 };
	do {
		if (shim_status(x->client, &x->status, &e) != OK)
			fail_msg("%s", e.message);
		if (wanted(&x->status))
			return;
		clock_sleep_ms(5);
	} while (clock_mono_ms() < deadline);
	fail_msg("waited in vain; state %s, exit %s", shim_state_name(x->status.state),
		 x->status.exit);
}

static const char *find_line(const struct shim_status *status, const char *prefix)
{
	for (size_t i = status->last_line_count; i > 0; i--)
		if (strncmp(status->last_lines[i - 1], prefix, strlen(prefix)) == 0)
			return status->last_lines[i - 1];
	return NULL;
}

static const char *line_wanted;

static bool has_line(const struct shim_status *status)
{
	return find_line(status, line_wanted) != NULL;
}

void instance_await_line(struct instance *x, const char *line)
{
	line_wanted = line;
	instance_await(x, has_line);
}

long instance_number(struct instance *x, const char *prefix)
{
	instance_await_line(x, prefix);
	return strtol(find_line(&x->status, prefix) + strlen(prefix), NULL, 10);
}

void instance_stop(struct instance *x)
{
	struct err e = { 0 };
	if (shim_stop(x->client, -1, &e) != OK ||
	    shim_wait_final(x->socket, AWAIT_MS_MAX, &x->status, &e) != OK)
		fail_msg("%s", e.message);
}

struct joined {
	struct buf text[2];
	void (*line)(void *ctx, str stream, str text);
	void *ctx;
};

static void take_line(struct joined *j, str line)
{
	struct arena scratch = arena_init(4 << 20);
	const struct json *object;
	struct err e = { 0 };
	if (json_parse(&scratch, line, 1 << 20, &object, &e) != OK)
		fail_msg("%s in %.*s", e.message, STR_ARG(line));
	str stream = json_str(json_get(object, "s"), STR("?"));
	str text = json_str(json_get(object, "l"), STR("?"));
	assert_true(json_i64(json_get(object, "t"), 0) > 1700000000000);
	struct buf *held = &j->text[str_eq_c(stream, "err")];
	if (json_bool(json_get(object, "more"), false)) {
		buf_add(held, text);
	} else if (held->len && !str_eq_c(stream, "shim")) {
		buf_add(held, text);
		j->line(j->ctx, stream, buf_str(held));
		buf_clear(held);
	} else {
		j->line(j->ctx, stream, text);
	}
	arena_done(&scratch);
}

void instance_output(const struct instance *x, void (*line)(void *ctx, str stream, str text),
		     void *ctx)
{
	struct joined j = { { buf_init(8 << 20), buf_init(8 << 20) }, line, ctx };
	for (int number = SHIM_LOG_FILE_COUNT - 1; number >= 0; number--) {
		char path[256], suffix[8] = "";
		struct buf text = buf_init(FILE_BYTES_MAX);
		struct err e = { 0 };
		if (number)
			snprintf(suffix, sizeof(suffix), ".%d", number);
		snprintf(path, sizeof(path), "%s/output.ndjson%s", x->folder, suffix);
		errc rc = io_read_file(path, &text, &e);
		if (rc != OK && !(rc == ERR_NOT_FOUND && number))
			fail_msg("%s", e.message);
		str rest = buf_str(&text), at;
		while (rest.len && str_split(&rest, '\n', &at))
			if (at.len)
				take_line(&j, at);
		buf_done(&text);
	}
	buf_done(&j.text[0]);
	buf_done(&j.text[1]);
}

bool process_is_alive(pid_t pid)
{
	char path[64], text[512] = "";
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	FILE *f = fopen(path, "r");
	if (!f)
		return false;
	char *got = fgets(text, sizeof(text), f);
	fclose(f);
	const char *end = got ? strrchr(text, ')') : NULL;
	return end && end[2] != 'Z' && end[2] != 'X';
}

void await_gone(pid_t pid)
{
	int64_t deadline = clock_mono_ms() + AWAIT_MS_MAX;
	while (process_is_alive(pid)) {
		if (clock_mono_ms() > deadline)
			fail_msg("process %d is still there", (int)pid);
		clock_sleep_ms(5);
	}
}
