#include "feature/host/host.h"

#include <string.h>

#include "os/io.h"

void host_family(struct buf *into, const char *name, const char *kind, const char *help)
{
	buf_printf(into, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind);
}

static void add_escaped(struct buf *into, str value)
{
	for (size_t i = 0; i < value.len; i++) {
		char c = value.ptr[i];
		if (c == '\n') {
			buf_add_c(into, "\\n");
			continue;
		}
		if (c == '"' || c == '\\')
			buf_add_byte(into, '\\');
		buf_add_byte(into, c);
	}
}

void host_sample(struct buf *into, const char *name, const struct host_label *labels, size_t count)
{
	buf_add_c(into, name);
	for (size_t i = 0; i < count; i++) {
		buf_printf(into, "%c%s=\"", i ? ',' : '{', labels[i].name);
		add_escaped(into, labels[i].value);
		buf_add_byte(into, '"');
	}
	buf_add_c(into, count ? "} " : " ");
}

bool host_read(const char *path, struct buf *text)
{
	buf_clear(text);
	return io_read_file(path, text, NULL) == OK;
}

str host_word(str *rest)
{
	size_t at = 0;
	while (at < rest->len && (rest->ptr[at] == ' ' || rest->ptr[at] == '\t'))
		at++;
	size_t end = at;
	while (end < rest->len && rest->ptr[end] != ' ' && rest->ptr[end] != '\t')
		end++;
	str word = { rest->ptr + at, end - at };
	*rest = (str){ rest->ptr + end, rest->len - end };
	return word;
}

static errc start(const struct feature_context *context, void **ret_state, struct err *e)
{
	(void)e;
	*ret_state = context->catalog;
	return OK;
}

static void stop(void *state)
{
	(void)state;
}

static void expose_host(void *state, struct buf *into)
{
	(void)state;
	host_system(into);
	host_devices(into);
	host_network(into);
}

static void expose_processes(void *state, struct buf *into)
{
	host_processes(state, into);
}

static const struct feature_exposition expositions[] = {
	{ "node", expose_host },
	{ "process", expose_processes },
};

const struct feature host_feature = {
	.name = "host",
	.start = start,
	.stop = stop,
	.expositions = expositions,
	.exposition_count = 2,
};
