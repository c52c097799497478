/*
 * YAML in, by libfyaml: a tree whose every key and value knows where it was written.
 *
 * What configuration does not need is refused with a clear message: anchors, aliases, merge keys,
 * tags, several documents, keys that are not scalars, a key that comes twice.
 * Limits: 1 MiB, 32 levels, 100,000 nodes.
 * Threads: any; nothing is kept between calls and nothing is printed.
 * Source: YAML 1.2.
 */
#pragma once

#include "base/arena.h"

enum { YAML_BYTES_MAX = 1024 * 1024, YAML_DEPTH_MAX = 32, YAML_NODE_COUNT_MAX = 100000 };

enum yaml_kind { YAML_SCALAR, YAML_SEQUENCE, YAML_MAPPING };

struct yaml_node {
	enum yaml_kind kind;
	bool plain;                    /* a scalar without quotes: `true`, not `"true"` */
	size_t line;                   /* 1-based, in both */
	size_t column;                 /* in characters */
	str text;                      /* of a scalar, with a NUL behind it; holds no NUL */
	size_t count;                  /* of a sequence or mapping */
	const struct yaml_node *items; /* COUNT values */
	const struct yaml_node *keys;  /* COUNT scalars of a mapping, in the order written */
};

/* Where and why a text was refused. */
struct yaml_problem {
	size_t line; /* 0: the text as a whole */
	size_t column;
	const char *message; /* in the arena */
};

/*
 * Parse TEXT; FILE stands in messages. An empty text is an empty plain scalar.
 * Errors: ERR_INVALID with `file:line:column: message`, ERR_LIMIT; *RET_PROBLEM (may be NULL) is
 * filled then too.
 */
WARN_UNUSED errc yaml_parse(struct arena *into, str text, const char *file,
			    const struct yaml_node **ret_root, struct yaml_problem *ret_problem,
			    struct err *e);

/* Index of KEY in a mapping, or -1; -1 too when MAPPING is none. */
ptrdiff_t yaml_find(const struct yaml_node *mapping, const char *key);
/* The value of KEY, or NULL. */
const struct yaml_node *yaml_get(const struct yaml_node *mapping, const char *key);
/* What stands for nothing: a plain scalar that is empty, `~` or `null`. */
bool yaml_is_null(const struct yaml_node *node);
