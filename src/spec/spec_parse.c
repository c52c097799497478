/* From the tree of YAML to structs, by the table. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "spec/spec_internal.h"

enum { WORDS_MAX = 32 };

/* A member that is an array: pointer and count, side by side in every struct of spec.h. */
struct array {
	void *items;
	size_t count;
};
static_assert(sizeof(struct array) == sizeof(struct spec_list), "arrays of spec.h");
static_assert(offsetof(struct spec_variables, count) == offsetof(struct array, count), "same");
static_assert(offsetof(struct spec, service_count) ==
		      offsetof(struct spec, services) + offsetof(struct array, count),
	      "a count stands behind its pointer");

static struct array load_array(const void *member)
{
	struct array a;
	memcpy(&a, member, sizeof(a));
	return a;
}

static void store_array(void *member, void *items, size_t count)
{
	struct array a = { items, count };
	memcpy(member, &a, sizeof(a));
}

static bool want(struct spec_parser *p, const struct yaml_node *node, enum yaml_kind kind)
{
	if (node->kind == kind)
		return true;
	const char *wanted = kind == YAML_MAPPING    ? "a mapping"
			     : kind == YAML_SEQUENCE ? "a list"
						     : "text";
	if (yaml_is_null(node))
		spec_error(p, node, "remove the key to leave it out", "has no value; it must be %s",
			   wanted);
	else
		spec_error(p, node,
			   kind == YAML_SEQUENCE && node->kind == YAML_SCALAR ? "write it in []"
									      : "",
			   "must be %s", wanted);
	return false;
}

static bool count_fits(struct spec_parser *p, const struct spec_option *o,
		       const struct yaml_node *node)
{
	if (node->count < (size_t)o->min)
		spec_error(p, node, "", "needs at least %lld", (long long)o->min);
	else if (node->count > (size_t)o->max)
		spec_error(p, node, "", "has %zu entries, more than %lld", node->count,
			   (long long)o->max);
	else
		return true;
	return false;
}

/* ---- Lists of words. */

static void read_list(struct spec_parser *p, const struct spec_option *o,
		      const struct yaml_node *node, void *member)
{
	if (!want(p, node, YAML_SEQUENCE) || !count_fits(p, o, node))
		return;
	const char **items = arena_array(p->config, node->count + 1, sizeof(*items));
	if (!items)
		return;
	size_t n = 0;
	for (size_t i = 0; i < node->count; i++) {
		size_t mark = spec_path_push_index(p, i);
		const char *text = spec_read_text(p, o, o->item, &node->items[i], false);
		bool again = false;
		for (size_t k = 0; text && k < n; k++)
			again = again || strcmp(items[k], text) == 0;
		if (again)
			spec_error(p, &node->items[i], "", "%s comes twice",
				   spec_shown(p, node->items[i].text));
		else if (text)
			items[n++] = text;
		spec_path_pop(p, mark);
	}
	store_array(member, items, n);
}

static int compare_words(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The order of names that are a set means nothing. */
static void sort_list(void *member)
{
	struct array a = load_array(member);
	if (a.count > 1)
		qsort(a.items, a.count, sizeof(const char *), compare_words);
}

static void read_command(struct spec_parser *p, const struct spec_option *o,
			 const struct yaml_node *node, void *member)
{
	bool shell = node->kind == YAML_SCALAR;
	if (!shell && (!want(p, node, YAML_SEQUENCE) || !count_fits(p, o, node)))
		return;
	size_t count = shell ? 3 : node->count;
	const char **argv = arena_array(p->config, count + 1, sizeof(*argv));
	if (!argv)
		return;
	if (shell) {
		argv[0] = "/bin/sh";
		argv[1] = "-c";
		argv[2] = spec_read_text(p, o, SPEC_STRING, node, false);
		if (argv[2] && !*argv[2])
			spec_error(p, node, "", "must not be empty");
	}
	for (size_t i = 0; !shell && i < count; i++) {
		size_t mark = spec_path_push_index(p, i);
		argv[i] = spec_read_text(p, o, SPEC_STRING, &node->items[i], false);
		if (i == 0 && argv[0] && !*argv[0])
			spec_error(p, &node->items[0], "", "must not be empty");
		spec_path_pop(p, mark);
		if (!argv[i])
			return;
	}
	if (argv[0] && argv[count - 1])
		store_array(member, argv, count);
}

static void read_events(struct spec_parser *p, const struct spec_option *o,
			const struct yaml_node *node, void *member)
{
	if (!want(p, node, YAML_SEQUENCE) || !count_fits(p, o, node))
		return;
	unsigned events = 0;
	for (size_t i = 0; i < node->count; i++) {
		size_t mark = spec_path_push_index(p, i);
		const char *text = spec_read_text(p, o, SPEC_ENUM, &node->items[i], false);
		for (unsigned w = 0; text && o->allowed[w]; w++)
			if (strcmp(text, o->allowed[w]) == 0)
				events |= 1u << w;
		spec_path_pop(p, mark);
	}
	memcpy(member, &events, sizeof(events));
}

/* ---- Maps of name to text. */

static int compare_variables(const void *a, const void *b)
{
	const struct spec_variable *x = a, *y = b;
	return strcmp(x->name, y->name);
}

static bool is_header_name(str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.ptr[i] <= 0x20 || s.ptr[i] >= 0x7f || strchr("\"(),/:;<=>?@[\\]{}", s.ptr[i]))
			return false;
	return s.len > 0 && s.len <= 64;
}

static bool looks_secret(const char *name)
{
	static const char *const words[] = { "TOKEN",    "TOKENS",    "SECRET", "SECRETS",
					     "PASSWORD", "PASSWORDS", "KEY",    "KEYS" };
	str rest = str_c(name), word;
	bool found = false;
	while (str_split(&rest, '_', &word)) {
		if (str_eq_c(word, "PUBLIC"))
			return false;
		for (size_t i = 0; i < ARRAY_COUNT(words); i++)
			found |= word.len == strlen(words[i]) &&
				 strncasecmp(word.ptr, words[i], word.len) == 0;
	}
	return found;
}

static bool check_variable_name(struct spec_parser *p, const struct yaml_node *key)
{
	if (!spec_read_text(p, NULL, SPEC_VARIABLE, key, false))
		return false;
	if (str_eq_c(key->text, "PORT") || str_starts(key->text, STR("HOLDFAST_"))) {
		spec_error(p, key, "choose another name", "is set by Holdfast");
		return false;
	}
	if (looks_secret(key->text.ptr))
		spec_warn(p, key,
			  "give its value with `holdfast secret set` and list it in `secrets`",
			  "looks like a secret, and this file is not secret");
	return true;
}

/* The name as it is kept; NULL when it was reported. */
static const char *read_key(struct spec_parser *p, const struct spec_option *o,
			    const struct yaml_node *key)
{
	if (o->type == SPEC_VARIABLES)
		return check_variable_name(p, key) ? arena_cstr(p->config, key->text) : NULL;
	if (!is_header_name(key->text)) {
		spec_error(p, key, "", "is no name of a header");
		return NULL;
	}
	char *name = arena_cstr(p->config, key->text);
	for (char *c = name; c && *c; c++)
		if (*c >= 'A' && *c <= 'Z')
			*c = (char)(*c + 32);
	return name;
}

/* Merged by name over what is there. */
static void read_variables(struct spec_parser *p, const struct spec_option *o,
			   const struct yaml_node *node, void *member)
{
	if (!want(p, node, YAML_MAPPING) || !count_fits(p, o, node))
		return;
	struct array before = load_array(member);
	struct spec_variable *all = arena_array(p->config, before.count + node->count,
						sizeof(*all));
	if (!all)
		return;
	if (before.count)
		memcpy(all, before.items, before.count * sizeof(*all));
	size_t count = before.count;
	for (size_t i = 0; i < node->count; i++) {
		size_t mark = spec_path_push(p, node->keys[i].text);
		bool header = o->type == SPEC_HEADERS;
		const char *name = read_key(p, o, &node->keys[i]);
		const char *value = spec_read_text(p, o, header ? SPEC_LINE : SPEC_STRING,
						   &node->items[i], true);
		if (value && node->items[i].text.len > 32 * 1024)
			spec_error(p, &node->items[i], "", "is longer than 32 KiB");
		size_t at = 0;
		while (name && at < count && strcmp(all[at].name, name) != 0)
			at++;
		if (name && at < count && at >= before.count)
			spec_error(p, &node->keys[i], "", "comes twice");
		else if (name && value)
			all[at] = (struct spec_variable){ name, value };
		count += name && value && at == count;
		spec_path_pop(p, mark);
	}
	if (count > 1)
		qsort(all, count, sizeof(*all), compare_variables);
	if (count > (size_t)o->max)
		spec_error(p, node, "", "there are more than %lld with what it is merged with",
			   (long long)o->max);
	store_array(member, all, count);
}

/* ---- Groups. */

void spec_set_defaults(const struct spec_group *g, void *target)
{
	static const char *const nothing[1] = { NULL };
	for (size_t i = 0; i < g->option_count; i++) {
		const struct spec_option *o = &g->options[i];
		char *member = (char *)target + o->offset;
		if (o->initial)
			spec_set_text(o, str_c(o->initial), member);
		else if (o->type == SPEC_GROUP)
			spec_set_defaults(o->group, member);
		else if (o->type == SPEC_LIST || o->type == SPEC_COMMAND)
			memcpy(member, &(struct spec_list){ nothing, 0 }, sizeof(struct spec_list));
	}
}

static void read_group_list(struct spec_parser *p, const struct spec_option *o,
			    const struct yaml_node *node, void *member)
{
	if (!want(p, node, YAML_SEQUENCE) || !count_fits(p, o, node))
		return;
	char *items = arena_array(p->config, node->count, o->group->size);
	if (!items)
		return;
	for (size_t i = 0; i < node->count; i++) {
		size_t mark = spec_path_push_index(p, i);
		void *target = items + i * o->group->size;
		spec_set_defaults(o->group, target);
		spec_parse_group(p, o->group, &node->items[i], target, false);
		spec_path_pop(p, mark);
	}
	store_array(member, items, node->count);
}

/* The name is the first member of every struct that stands in a map. */
static const char *name_of(const void *target)
{
	const char *name;
	memcpy(&name, target, sizeof(name));
	return name;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(name_of(a), name_of(b));
}

static bool check_name(struct spec_parser *p, const struct yaml_node *key)
{
	if (str_is_name(key->text, SPEC_NAME_BYTES_MAX))
		return true;
	spec_error(p, key, "", "must be %s", spec_type_meaning(SPEC_NAME));
	return false;
}

/* Every environment has every service, deploy and metrics as they are without it. */
static void start_environment(struct spec_parser *p, struct spec_environment *environment)
{
	struct spec_service *services = arena_array(p->config, p->spec->service_count,
						    sizeof(*services));
	environment->deploy = p->spec->deploy;
	environment->metrics = p->spec->metrics;
	if (!services || !p->spec->service_count)
		return;
	memcpy(services, p->spec->services, p->spec->service_count * sizeof(*services));
	environment->services = services;
	environment->service_count = p->spec->service_count;
}

static bool is_root(const struct spec_option *o, size_t offset)
{
	return o >= spec_root_group.options &&
	       o < spec_root_group.options + spec_root_group.option_count && o->offset == offset;
}

static void read_group_map(struct spec_parser *p, const struct spec_option *o,
			   const struct yaml_node *node, void *member)
{
	if (!want(p, node, YAML_MAPPING) || !count_fits(p, o, node))
		return;
	char *items = arena_array(p->config, node->count, o->group->size);
	size_t count = 0;
	for (size_t i = 0; items && i < node->count; i++) {
		size_t mark = spec_path_push(p, node->keys[i].text);
		const char *name = arena_cstr(p->config, node->keys[i].text);
		if (name && check_name(p, &node->keys[i])) {
			void *target = items + count++ * o->group->size;
			memcpy(target, &name, sizeof(name));
			if (is_root(o, offsetof(struct spec, environments)))
				start_environment(p, target);
			spec_set_defaults(o->group, target);
			spec_parse_group(p, o->group, &node->items[i], target, false);
		}
		spec_path_pop(p, mark);
	}
	if (count > 1)
		qsort(items, count, o->group->size, compare_names);
	if (items && is_root(o, offsetof(struct spec, services)))
		spec_check_services(p, node, (struct spec_service *)(void *)items, count);
	if (items)
		store_array(member, items, count);
}

static void read_override_map(struct spec_parser *p, const struct spec_option *o,
			      const struct yaml_node *node, void *member)
{
	if (!want(p, node, YAML_MAPPING) || !count_fits(p, o, node))
		return;
	struct array present = load_array(member);
	const char *words[WORDS_MAX] = { NULL };
	for (size_t i = 0; i < present.count && i + 1 < WORDS_MAX; i++)
		words[i] = name_of((char *)present.items + i * o->group->size);
	for (size_t i = 0; i < node->count; i++) {
		const struct yaml_node *key = &node->keys[i];
		size_t mark = spec_path_push(p, key->text);
		size_t at = 0;
		while (words[at] && !str_eq_c(key->text, words[at]))
			at++;
		if (words[at])
			spec_parse_group(p, o->group, &node->items[i],
					 (char *)present.items + at * o->group->size, true);
		else
			spec_error(p, key, spec_did_you_mean(p, key->text, words),
				   "there is no such service in `services`");
		spec_path_pop(p, mark);
	}
}

static void read_option(struct spec_parser *p, const struct spec_option *o,
			const struct yaml_node *node, void *member, bool overriding)
{
	switch (o->type) {
	case SPEC_COMMAND:
		read_command(p, o, node, member);
		break;
	case SPEC_LIST:
		read_list(p, o, node, member);
		if (o->item == SPEC_VARIABLE || o->item == SPEC_PROGRAM)
			sort_list(member);
		break;
	case SPEC_EVENTS:
		read_events(p, o, node, member);
		break;
	case SPEC_VARIABLES:
	case SPEC_HEADERS:
		read_variables(p, o, node, member);
		break;
	case SPEC_GROUP_SWITCHED:
		if (!*(bool *)member)
			spec_set_defaults(o->group, member);
		*(bool *)member = true;
		spec_parse_group(p, o->group, node, member, overriding);
		break;
	case SPEC_GROUP:
		spec_parse_group(p, o->group, node, member, overriding);
		break;
	case SPEC_OVERRIDE:
		spec_parse_group(p, o->group, node, member, true);
		break;
	case SPEC_GROUP_LIST:
		read_group_list(p, o, node, member);
		break;
	case SPEC_GROUP_MAP:
		read_group_map(p, o, node, member);
		break;
	case SPEC_OVERRIDE_MAP:
		read_override_map(p, o, node, member);
		break;
	default:
		spec_read_scalar(p, o, node, member);
	}
}

static void report_unknown(struct spec_parser *p, const struct spec_group *g,
			   const struct yaml_node *node)
{
	const char *words[WORDS_MAX] = { NULL };
	must(g->option_count < WORDS_MAX);
	for (size_t i = 0; i < g->option_count; i++)
		words[i] = g->options[i].name;
	for (size_t i = 0; i < node->count; i++) {
		str key = node->keys[i].text;
		size_t known = 0;
		while (words[known] && !str_eq_c(key, words[known]))
			known++;
		if (words[known])
			continue;
		size_t mark = spec_path_push(p, key);
		spec_error(p, &node->keys[i], spec_did_you_mean(p, key, words), "unknown option");
		spec_path_pop(p, mark);
	}
}

void spec_parse_group(struct spec_parser *p, const struct spec_group *g,
		      const struct yaml_node *node, void *target, bool overriding)
{
	if (!want(p, node, YAML_MAPPING))
		return;
	report_unknown(p, g, node);
	for (size_t i = 0; i < g->option_count; i++) {
		const struct spec_option *o = &g->options[i];
		const struct yaml_node *value = yaml_get(node, o->name);
		size_t mark = spec_path_push(p, str_c(o->name));
		if (value)
			read_option(p, o, value, (char *)target + o->offset, overriding);
		else if (o->required && !overriding)
			spec_error(p, node, "", "is required");
		spec_path_pop(p, mark);
	}
	if (g->check)
		g->check(p, node, target);
}
