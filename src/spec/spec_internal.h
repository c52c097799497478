/* Private to src/spec: the shape of the option table, and the state of one parse. */
#pragma once

#include <assert.h>
#include <stddef.h>

#include "base/checks.h"
#include "base/units.h"
#include "codec/yaml.h"
#include "spec/spec.h"

enum spec_type {
	SPEC_STRING,
	SPEC_LINE,    /* without control characters */
	SPEC_PROGRAM, /* name of a command */
	SPEC_ACCOUNT,
	SPEC_NAME,
	SPEC_VARIABLE,   /* name of an environment variable or secret */
	SPEC_PHASE_WORD, /* enum spec_phase */
	SPEC_ENUM,       /* a word of `allowed`, kept as text */
	SPEC_EVENTS,     /* a list of words of `allowed`, kept as bits */
	SPEC_BOOL,
	SPEC_INT, /* int or int64_t */
	SPEC_DURATION,
	SPEC_SIZE,
	SPEC_PERCENT,
	SPEC_SIGNAL,
	SPEC_FOLDER, /* relative path */
	SPEC_FILE,   /* absolute path */
	SPEC_GLOB,   /* relative */
	SPEC_URL_PATH,
	SPEC_URL,
	SPEC_LISTEN,         /* host here, port in the int behind it */
	SPEC_COMMAND,        /* struct spec_list */
	SPEC_LIST,           /* struct spec_list of `item` */
	SPEC_VARIABLES,      /* struct spec_variables: name to text */
	SPEC_HEADERS,        /* struct spec_variables: header to text */
	SPEC_GROUP,          /* a struct of `group` */
	SPEC_GROUP_SWITCHED, /* as SPEC_GROUP; begins with a bool: whether it was given */
	SPEC_GROUP_LIST,     /* pointer and count of structs of `group` */
	SPEC_GROUP_MAP,      /* as SPEC_GROUP_LIST, by name; the name is the first member */
	SPEC_OVERRIDE,       /* as SPEC_GROUP over values that are there */
	SPEC_OVERRIDE_MAP,   /* as SPEC_GROUP_MAP over entries that are there */
	SPEC_TYPE_COUNT
};

struct spec_parser;
struct spec_option;

struct spec_group {
	const char *name;  /* in the schema: `service` */
	const char *place; /* in the reference: `services.<name>` */
	const char *meaning;
	const struct spec_option *options;
	size_t option_count;
	size_t size; /* of its struct */
	/* What one option alone cannot say; TARGET has every value. May be NULL. */
	void (*check)(struct spec_parser *p, const struct yaml_node *node, void *target);
};

struct spec_option {
	const char *name;
	enum spec_type type;
	size_t offset; /* in the group's struct */
	size_t size;   /* of the member */
	bool required;
	bool none; /* `none` is allowed and means zero */
	enum spec_type item;
	int64_t min; /* of a number; of the count of a list or map; of the length of text */
	int64_t max;
	const char *initial;        /* as it would be written; NULL: none */
	const char *otherwise;      /* what holds without it, when `initial` cannot say it */
	const char *const *allowed; /* ends in NULL */
	const struct spec_group *group;
	const char *meaning;
	/* Whether it is part of TARGET's canonical form; NULL: always. */
	bool (*present)(const void *target);
};

/* Whether option AT of G has a group of its own that no option before it has: to describe each
 * group once. */
static inline bool spec_introduces_group(const struct spec_group *g, size_t at)
{
	const struct spec_group *group = g->options[at].group;
	for (size_t i = 0; group && i < at; i++)
		if (g->options[i].group == group)
			return false;
	return group != NULL;
}

struct spec_parser {
	struct arena *config;
	const char *file;
	struct spec_problems *problems;
	bool failed; /* an error was found, kept or not */
	char path[512];
	size_t path_len;
	struct spec *spec;
};

struct spec_signal {
	const char *name;
	int number;
};

extern const struct spec_group spec_root_group;
extern const struct spec_signal spec_signals[];
extern const size_t spec_signal_count;
extern const char *const spec_phase_words[];

/* ---- spec_problems.c */

/* At NODE, for the present path. `; SUGGESTION` follows the message unless it is "". */
void spec_error(struct spec_parser *p, const struct yaml_node *node, const char *suggestion,
		const char *fmt, ...) __attribute__((format(printf, 4, 5)));
void spec_warn(struct spec_parser *p, const struct yaml_node *node, const char *suggestion,
	       const char *fmt, ...) __attribute__((format(printf, 4, 5)));
void spec_problem_add(struct spec_parser *p, bool warning, size_t line, size_t column,
		      const char *suggestion, const char *message);
/* Extend the present path; gives what spec_path_pop() wants. */
size_t spec_path_push(struct spec_parser *p, str name);
size_t spec_path_push_index(struct spec_parser *p, size_t index);
void spec_path_pop(struct spec_parser *p, size_t mark);
/* What a person typed, short and printable, for a message. */
const char *spec_shown(struct spec_parser *p, str s);
/* `did you mean x?`, or "". WORDS ends in NULL. */
const char *spec_did_you_mean(struct spec_parser *p, str typed, const char *const *words);
void spec_problems_sort(struct spec_problems *problems);
errc spec_problems_fail(const struct spec_problems *problems, struct err *e);

/* ---- spec_values.c */

/* Read a scalar into its member. Reports what is wrong and leaves the member then. */
void spec_read_scalar(struct spec_parser *p, const struct spec_option *o,
		      const struct yaml_node *node, void *member);
/* The text of NODE when it is one that TYPE takes; NULL when it was reported. SECRET: its value is
 * not shown. */
const char *spec_read_text(struct spec_parser *p, const struct spec_option *o, enum spec_type type,
			   const struct yaml_node *node, bool secret);
/* Set a member to a default of the table. */
void spec_set_text(const struct spec_option *o, str text, void *member);
/* The value as it would be written, canonically: `30s`, `512MiB`, `SIGTERM`. */
void spec_value_format(const struct spec_option *o, int64_t value, struct buf *into);
/* Kept as a number: in bool, int or int64_t. */
bool spec_is_number(enum spec_type type);
/* Kept as a pointer to text. */
bool spec_is_text(enum spec_type type);
int64_t spec_load(const struct spec_option *o, const void *member);
/* What is allowed, for a person: `1 to 64`; nothing when there is no range. */
void spec_range_write(const struct spec_option *o, struct buf *into);
/* For a person: `a duration such as 30s`. */
const char *spec_type_meaning(enum spec_type type);

/* ---- spec_parse.c */

void spec_parse_group(struct spec_parser *p, const struct spec_group *g,
		      const struct yaml_node *node, void *target, bool overriding);
void spec_set_defaults(const struct spec_group *g, void *target);

/* ---- spec_check.c: of a group, given its values and its mapping */

void spec_check_budget(struct spec_parser *p, const struct yaml_node *node, void *target);
void spec_check_build(struct spec_parser *p, const struct yaml_node *node, void *target);
void spec_check_canary(struct spec_parser *p, const struct yaml_node *node, void *target);
void spec_check_deploy(struct spec_parser *p, const struct yaml_node *node, void *target);
void spec_check_hook(struct spec_parser *p, const struct yaml_node *node, void *target);
void spec_check_metrics(struct spec_parser *p, const struct yaml_node *node, void *target);
void spec_check_relabel(struct spec_parser *p, const struct yaml_node *node, void *target);
void spec_check_scrape(struct spec_parser *p, const struct yaml_node *node, void *target);
/* The services without overrides, before any environment takes them over. */
void spec_check_services(struct spec_parser *p, const struct yaml_node *node,
			 struct spec_service *services, size_t count);
/* What holds between environments, secrets, variables and listening addresses. */
void spec_check_whole(struct spec_parser *p, const struct yaml_node *root);

/* ---- spec_json.c */

void spec_write_group(const struct spec_group *g, const void *target, struct json_writer *into);
