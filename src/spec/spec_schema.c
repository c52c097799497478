/* The table as JSON Schema, draft 2020-12, for editors. */
#include <stdio.h>
#include <string.h>

#include "spec/spec_internal.h"

static void put_pattern(struct json_writer *w, const char *pattern)
{
	json_put_cstr(w, "type", "string");
	if (pattern)
		json_put_cstr(w, "pattern", pattern);
}

static void put_reference(struct json_writer *w, const struct spec_group *g, bool overriding)
{
	char reference[80];
	snprintf(reference, sizeof(reference), "#/$defs/%s%s", g->name,
		 overriding ? "_override" : "");
	json_put_cstr(w, "$ref", reference);
}

static const char *pattern_of(enum spec_type type)
{
	switch (type) {
	case SPEC_NAME:
		return "^[a-z0-9][a-z0-9-]{0,39}$";
	case SPEC_VARIABLE:
		return "^[A-Za-z_][A-Za-z0-9_]{0,127}$";
	case SPEC_PROGRAM:
		return "^[A-Za-z0-9_+][A-Za-z0-9._+-]{0,63}$";
	case SPEC_ACCOUNT:
		return "^[a-z_][A-Za-z0-9_-]*$";
	case SPEC_DURATION:
		return "^(0|([0-9]+(\\.[0-9]+)?(ms|s|m|h|d))+)$";
	case SPEC_SIZE:
		return "^[0-9]+(\\.[0-9]+)?(B|KiB|MiB|GiB|TiB|kB|MB|GB)?$";
	case SPEC_PERCENT:
		return "^[0-9]{1,6}%$";
	case SPEC_FILE:
	case SPEC_URL_PATH:
		return "^/";
	case SPEC_FOLDER:
	case SPEC_GLOB:
		return "^[^/]";
	case SPEC_URL:
		return "^https?://";
	case SPEC_LISTEN:
		return "^.*:[0-9]{1,5}$";
	default:
		return NULL;
	}
}

static void put_words(struct json_writer *w, const char *const *words)
{
	json_key(w, "enum");
	json_begin_array(w);
	for (size_t i = 0; words[i]; i++)
		json_add_cstr(w, words[i]);
	json_end_array(w);
}

static void put_signals(struct json_writer *w, bool none)
{
	json_key(w, "enum");
	json_begin_array(w);
	for (size_t i = 0; i < spec_signal_count; i++)
		json_add_cstr(w, spec_signals[i].name);
	if (none)
		json_add_cstr(w, "none");
	json_end_array(w);
}

static void put_items(struct json_writer *w, enum spec_type item, const char *const *words)
{
	json_key(w, "items");
	json_begin_object(w);
	if (words)
		put_words(w, words);
	else
		put_pattern(w, pattern_of(item));
	json_end_object(w);
}

/* Text that looks like a number or a word of YAML need not be quoted. */
static void put_text_map(struct json_writer *w, const struct spec_option *o)
{
	json_put_cstr(w, "type", "object");
	json_put_i64(w, "maxProperties", o->max);
	if (o->type == SPEC_VARIABLES) {
		json_key(w, "propertyNames");
		json_begin_object(w);
		put_pattern(w, pattern_of(SPEC_VARIABLE));
		json_end_object(w);
	}
	json_put_raw(w, "additionalProperties",
		     STR("{\"type\":[\"string\",\"number\",\"boolean\"]}"));
}

static void put_group_map(struct json_writer *w, const struct spec_option *o)
{
	bool overriding = o->type == SPEC_OVERRIDE_MAP;
	json_put_cstr(w, "type", "object");
	json_put_i64(w, "minProperties", o->min);
	json_put_i64(w, "maxProperties", o->max);
	json_key(w, "propertyNames");
	json_begin_object(w);
	put_pattern(w, pattern_of(SPEC_NAME));
	json_end_object(w);
	json_key(w, "additionalProperties");
	json_begin_object(w);
	put_reference(w, o->group, overriding);
	json_end_object(w);
}

static void put_list(struct json_writer *w, const struct spec_option *o)
{
	json_put_cstr(w, "type", "array");
	if (o->min)
		json_put_i64(w, "minItems", o->min);
	json_put_i64(w, "maxItems", o->max);
	if (o->type != SPEC_GROUP_LIST) {
		put_items(w, o->item, o->type == SPEC_EVENTS ? o->allowed : NULL);
		return;
	}
	json_key(w, "items");
	json_begin_object(w);
	put_reference(w, o->group, false);
	json_end_object(w);
}

static void put_scalar(struct json_writer *w, const struct spec_option *o)
{
	switch (o->type) {
	case SPEC_BOOL:
		json_put_cstr(w, "type", "boolean");
		break;
	case SPEC_INT:
		json_put_cstr(w, "type", "integer");
		json_put_i64(w, "minimum", o->min);
		json_put_i64(w, "maximum", o->max);
		break;
	case SPEC_SIGNAL:
		put_signals(w, o->none);
		break;
	case SPEC_ENUM:
	case SPEC_PHASE_WORD:
		put_words(w, o->allowed);
		break;
	case SPEC_DURATION: /* `0` and a plain number of bytes are numbers to YAML */
	case SPEC_SIZE:
		json_put_raw(w, "type", STR("[\"string\",\"integer\"]"));
		if (!o->none)
			json_put_cstr(w, "pattern", pattern_of(o->type));
		break;
	case SPEC_STRING:
		json_put_raw(w, "type", STR("[\"string\",\"number\",\"boolean\"]"));
		break;
	default:
		put_pattern(w, pattern_of(o->type));
	}
}

static void put_type(struct json_writer *w, const struct spec_option *o)
{
	switch (o->type) {
	case SPEC_GROUP:
	case SPEC_GROUP_SWITCHED:
	case SPEC_OVERRIDE:
		put_reference(w, o->group, o->type == SPEC_OVERRIDE);
		break;
	case SPEC_GROUP_MAP:
	case SPEC_OVERRIDE_MAP:
		put_group_map(w, o);
		break;
	case SPEC_GROUP_LIST:
	case SPEC_LIST:
	case SPEC_EVENTS:
		put_list(w, o);
		break;
	case SPEC_VARIABLES:
	case SPEC_HEADERS:
		put_text_map(w, o);
		break;
	case SPEC_COMMAND:
		json_put_raw(w, "anyOf",
			     STR("[{\"type\":\"string\",\"minLength\":1},{\"type\":\"array\","
				 "\"minItems\":1,\"items\":{\"type\":[\"string\",\"number\","
				 "\"boolean\"]}}]"));
		break;
	default:
		put_scalar(w, o);
	}
}

static void put_default(struct json_writer *w, const struct spec_option *o)
{
	str text = str_c(o->initial);
	if (o->type == SPEC_BOOL || o->type == SPEC_INT) {
		json_put_raw(w, "default", text);
	} else if (o->type == SPEC_EVENTS) {
		json_key(w, "default");
		json_begin_array(w);
		for (size_t i = 0; o->allowed[i]; i++)
			json_add_cstr(w, o->allowed[i]);
		json_end_array(w);
	} else {
		json_put_str(w, "default", text);
	}
}

/* In an override nothing is required, and what is left out is as without it. */
static void put_group(struct json_writer *w, const struct spec_group *g, bool overriding)
{
	json_put_cstr(w, "type", "object");
	json_put_cstr(w, "description", g->meaning);
	json_put_bool(w, "additionalProperties", false);
	json_key(w, "required");
	json_begin_array(w);
	for (size_t i = 0; !overriding && i < g->option_count; i++)
		if (g->options[i].required)
			json_add_cstr(w, g->options[i].name);
	json_end_array(w);
	json_key(w, "properties");
	json_begin_object(w);
	for (size_t i = 0; i < g->option_count; i++) {
		const struct spec_option *o = &g->options[i];
		json_key(w, o->name);
		json_begin_object(w);
		json_put_cstr(w, "description", o->meaning);
		put_type(w, o);
		if (o->initial && !overriding)
			put_default(w, o);
		json_end_object(w);
	}
	json_end_object(w);
}

static void put_definition(struct json_writer *w, const struct spec_group *g, bool overriding)
{
	char name[64];
	snprintf(name, sizeof(name), "%s%s", g->name, overriding ? "_override" : "");
	json_key(w, name);
	json_begin_object(w);
	put_group(w, g, overriding);
	json_end_object(w);
}

/* Every group below G, each once: but for the overridden, only options of one group share one. */
static void put_definitions(struct json_writer *w, const struct spec_group *g)
{
	for (size_t i = 0; i < g->option_count; i++) {
		const struct spec_option *o = &g->options[i];
		if (!spec_introduces_group(g, i))
			continue;
		bool overriding = o->type == SPEC_OVERRIDE || o->type == SPEC_OVERRIDE_MAP;
		put_definition(w, o->group, overriding);
		if (!overriding)
			put_definitions(w, o->group);
	}
}

void spec_write_schema(struct buf *into)
{
	struct json_writer w = json_writer_init(into, true);
	json_begin_object(&w);
	json_put_cstr(&w, "$schema", "https://json-schema.org/draft/2020-12/schema");
	json_put_cstr(&w, "title", "holdfast.yml");
	put_group(&w, &spec_root_group, false);
	json_key(&w, "$defs");
	json_begin_object(&w);
	put_definitions(&w, &spec_root_group);
	json_end_object(&w);
	json_end_object(&w);
	buf_add_byte(into, '\n');
}
