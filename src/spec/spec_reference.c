/* The table as a page of Markdown: docs/reference/holdfast-yml.md. */
#include <stdio.h>
#include <string.h>

#include "spec/spec_internal.h"

static const char introduction[] =
	"# holdfast.yml\n"
	"\n"
	"What Holdfast is told about an application: how it is built, what runs, how a new "
	"release\n"
	"takes over, and where. The file is YAML, stands in the application's folder and belongs "
	"in\n"
	"its repository; it holds no secrets. Anchors, aliases, tags and merge keys are refused.\n"
	"\n"
	"- A *duration* is `500ms`, `3s`, `10m`, `2h`, `7d`, or a sum such as `1h30m`.\n"
	"- A *size* is `400KiB`, `512MiB`, `2GiB`, or a number of bytes.\n"
	"- A *glob* is a path below the application's folder with `*`, `**`, `?`, `[a-z]` or\n"
	"  `{a,b}`; one that names a folder means everything in it.\n"
	"- A *name* is made of `a-z`, `0-9` and `-`, and has at most 40 characters.\n"
	"- In `services`, `deploy` and `metrics` of an environment any option of these\n"
	"  can be given again. Variables and headers are merged by name; any other value replaces\n"
	"  the whole one.\n";

static const char *type_word(enum spec_type type)
{
	static const char *const words[SPEC_TYPE_COUNT] = {
		[SPEC_STRING] = "text",
		[SPEC_LINE] = "text",
		[SPEC_PROGRAM] = "program",
		[SPEC_ACCOUNT] = "account",
		[SPEC_NAME] = "name",
		[SPEC_VARIABLE] = "variable name",
		[SPEC_PHASE_WORD] = "phase",
		[SPEC_ENUM] = "word",
		[SPEC_EVENTS] = "list of words",
		[SPEC_BOOL] = "true or false",
		[SPEC_INT] = "number",
		[SPEC_DURATION] = "duration",
		[SPEC_SIZE] = "size",
		[SPEC_PERCENT] = "percentage",
		[SPEC_SIGNAL] = "signal",
		[SPEC_FOLDER] = "folder",
		[SPEC_FILE] = "absolute path",
		[SPEC_GLOB] = "glob",
		[SPEC_URL_PATH] = "URL path",
		[SPEC_URL] = "URL",
		[SPEC_LISTEN] = "address:port",
		[SPEC_COMMAND] = "list or text",
		[SPEC_LIST] = "list",
		[SPEC_VARIABLES] = "map of name to text",
		[SPEC_HEADERS] = "map of header to text",
		[SPEC_GROUP] = "options",
		[SPEC_GROUP_SWITCHED] = "options",
		[SPEC_GROUP_LIST] = "list of options",
		[SPEC_GROUP_MAP] = "map of name to options",
		[SPEC_OVERRIDE] = "options",
		[SPEC_OVERRIDE_MAP] = "map of name to options",
	};
	return words[type];
}

static void add_allowed(const struct spec_option *o, struct buf *into)
{
	size_t before = into->len;
	if (o->type == SPEC_SIGNAL) {
		for (size_t i = 0; i < spec_signal_count; i++)
			buf_printf(into, "%s`%s`", i ? ", " : "", spec_signals[i].name);
	} else if (o->allowed) {
		for (size_t i = 0; o->allowed[i]; i++)
			buf_printf(into, "%s`%s`", i ? ", " : "", o->allowed[i]);
	} else if (spec_is_number(o->type)) {
		spec_range_write(o, into);
	} else if (o->type >= SPEC_COMMAND && o->max) {
		if (o->min)
			buf_printf(into, "%lld to %lld entries", (long long)o->min,
				   (long long)o->max);
		else
			buf_printf(into, "at most %lld entries", (long long)o->max);
	} else if (o->max) {
		buf_printf(into, "at most %lld bytes", (long long)o->max);
	}
	if (o->none)
		buf_add_c(into, ", or `none`");
	if (into->len == before)
		buf_add_c(into, " ");
}

static void add_default(const struct spec_option *o, struct buf *into)
{
	if (o->required)
		buf_add_c(into, "**required**");
	else if (o->initial)
		buf_printf(into, "`%s`", o->initial);
	else if (o->otherwise)
		buf_add_c(into, o->otherwise);
	else if (o->type == SPEC_GROUP || o->type == SPEC_OVERRIDE || o->type == SPEC_OVERRIDE_MAP)
		buf_add_c(into, "its options' defaults");
	else
		buf_add_c(into, "none");
}

static void add_group(const struct spec_group *g, struct buf *into)
{
	if (g->place[0])
		buf_printf(into, "\n## `%s`\n\n%s\n\n", g->place, g->meaning);
	else
		buf_printf(into, "\n## The whole file\n\n%s\n\n", g->meaning);
	buf_add_c(into, "| Option | Kind | Default | Allowed | Meaning |\n"
			"|---|---|---|---|---|\n");
	for (size_t i = 0; i < g->option_count; i++) {
		const struct spec_option *o = &g->options[i];
		buf_printf(into, "| `%s` | %s", o->name, type_word(o->type));
		if (o->type == SPEC_LIST)
			buf_printf(into, " of %ss", type_word(o->item));
		buf_add_c(into, " | ");
		add_default(o, into);
		buf_add_c(into, " | ");
		add_allowed(o, into);
		buf_printf(into, " | %s |\n", o->meaning);
	}
	for (size_t i = 0; i < g->option_count; i++) {
		const struct spec_option *o = &g->options[i];
		if (spec_introduces_group(g, i) && o->type != SPEC_OVERRIDE &&
		    o->type != SPEC_OVERRIDE_MAP)
			add_group(o->group, into);
	}
}

void spec_write_reference(struct buf *into)
{
	buf_add_c(into, introduction);
	add_group(&spec_root_group, into);
}
