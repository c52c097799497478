/* The canonical form: every option in the table's order, every value as it holds. */
#include <string.h>

#include "spec/spec_internal.h"

static void write_variables(const struct spec_variables *v, struct json_writer *into)
{
	json_begin_object(into);
	for (size_t i = 0; i < v->count; i++)
		json_put_cstr(into, v->items[i].name, v->items[i].value);
	json_end_object(into);
}

static void write_array(const struct spec_option *o, const void *member, struct json_writer *into)
{
	struct {
		const char *items;
		size_t count;
	} array;
	memcpy(&array, member, sizeof(array));
	bool map = o->type == SPEC_GROUP_MAP || o->type == SPEC_OVERRIDE_MAP;
	map ? json_begin_object(into) : json_begin_array(into);
	for (size_t i = 0; i < array.count; i++) {
		const char *item = array.items + i * o->group->size, *name = NULL;
		if (map) {
			memcpy(&name, item, sizeof(name));
			json_key(into, name);
		}
		spec_write_group(o->group, item, into);
	}
	map ? json_end_object(into) : json_end_array(into);
}

static void write_number(const struct spec_option *o, const void *member, struct json_writer *into)
{
	int64_t value = spec_load(o, member);
	if (o->type == SPEC_BOOL) {
		json_add_bool(into, value != 0);
	} else if (o->type == SPEC_INT) {
		json_add_i64(into, value);
	} else {
		struct buf text = buf_init(UNIT_TEXT_SIZE);
		spec_value_format(o, value, &text);
		json_add_str(into, buf_str(&text));
		buf_done(&text);
	}
}

static void write_listen(const void *member, struct json_writer *into)
{
	const char *host;
	int port;
	memcpy(&host, member, sizeof(host));
	memcpy(&port, (const char *)member + sizeof(host), sizeof(port));
	struct buf text = buf_init(512);
	buf_printf(&text, strchr(host, ':') ? "[%s]:%d" : "%s:%d", host, port);
	json_add_str(into, buf_str(&text));
	buf_done(&text);
}

static void write_words(const struct spec_option *o, const void *member, struct json_writer *into)
{
	json_begin_array(into);
	if (o->type == SPEC_EVENTS) {
		unsigned events;
		memcpy(&events, member, sizeof(events));
		for (unsigned i = 0; o->allowed[i]; i++)
			if (events & 1u << i)
				json_add_cstr(into, o->allowed[i]);
	} else {
		struct spec_list list;
		memcpy(&list, member, sizeof(list));
		for (size_t i = 0; i < list.count; i++)
			json_add_cstr(into, list.items[i]);
	}
	json_end_array(into);
}

/* A limit that was not given has no value that could be written. */
static bool is_absent(const struct spec_option *o, const void *member)
{
	if (spec_is_number(o->type))
		return !o->initial && o->type != SPEC_BOOL && spec_load(o, member) == 0;
	const char *value = "";
	if (spec_is_text(o->type))
		memcpy(&value, member, sizeof(value));
	return !value;
}

static void write_option(const struct spec_option *o, const void *member, struct json_writer *into)
{
	const char *text;
	switch (o->type) {
	case SPEC_LISTEN:
		write_listen(member, into);
		break;
	case SPEC_COMMAND:
	case SPEC_LIST:
	case SPEC_EVENTS:
		write_words(o, member, into);
		break;
	case SPEC_VARIABLES:
	case SPEC_HEADERS:
		write_variables(member, into);
		break;
	case SPEC_GROUP:
	case SPEC_GROUP_SWITCHED:
	case SPEC_OVERRIDE:
		spec_write_group(o->group, member, into);
		break;
	case SPEC_GROUP_LIST:
	case SPEC_GROUP_MAP:
	case SPEC_OVERRIDE_MAP:
		write_array(o, member, into);
		break;
	case SPEC_PHASE_WORD:
		json_add_cstr(into, o->allowed[spec_load(o, member)]);
		break;
	default:
		if (spec_is_number(o->type)) {
			write_number(o, member, into);
		} else {
			memcpy(&text, member, sizeof(text));
			json_add_cstr(into, text);
		}
	}
}

void spec_write_group(const struct spec_group *g, const void *target, struct json_writer *into)
{
	json_begin_object(into);
	for (size_t i = 0; i < g->option_count; i++) {
		const struct spec_option *o = &g->options[i];
		const char *member = (const char *)target + o->offset;
		if ((o->present && !o->present(target)) || is_absent(o, member))
			continue;
		json_key(into, o->name);
		write_option(o, member, into);
	}
	json_end_object(into);
}

void spec_write_json(const struct spec *spec, struct json_writer *into)
{
	spec_write_group(&spec_root_group, spec, into);
}

void spec_write_environment_json(const struct spec_environment *environment,
				 struct json_writer *into)
{
	const struct spec_option *o = &spec_root_group.options[spec_root_group.option_count - 1];
	must(o->offset == offsetof(struct spec, environments));
	spec_write_group(o->group, environment, into);
}
