/* What the files of pushgateway share. */
#pragma once

#include <pthread.h>

#include "intake/pushgateway.h"

/* A family of one push. Names that a later push of the group has, too, are replaced. */
struct pushed_family {
	char *name;
	enum metrics_type type;
	bool replaced;
};

/* A body as it came; it goes when all its families are replaced. */
struct push {
	enum scrape_format format;
	char *body;
	size_t len;
	struct pushed_family *families; /* by name */
	size_t family_count;
};

struct push_group {
	struct label *labels; /* sorted by name; of the heap */
	size_t label_count;
	struct push *pushes; /* the oldest first */
	size_t push_count;
	double pushed_at, failed_at; /* seconds; 0: never */
};

struct pushgateway {
	pthread_mutex_t lock;
	struct push_group *groups;
	size_t group_count;
	size_t bytes; /* of all bodies */
	bool dirty;
	metrics_ref *exposed; /* sorted; of the last time */
	size_t exposed_count;
};

/* ---- pushgateway_group.c */

/* The labels of a path such as `/job/nightly/instance@base64/…`, in PATH_LABELS. Errors:
 * ERR_INVALID. */
WARN_UNUSED errc push_labels_of(str path, struct arena *scratch, struct label *items,
				size_t *ret_count, struct err *e);
struct push_group *push_group_find(struct pushgateway *g, const struct label *items, size_t count);
/* Find or make. Errors: ERR_LIMIT past PUSHGATEWAY_GROUPS_MAX. */
WARN_UNUSED errc push_group_get(struct pushgateway *g, const struct label *items, size_t count,
				struct push_group **ret_group, struct err *e);
void push_group_remove(struct pushgateway *g, struct push_group *group);
void push_group_clear(struct pushgateway *g, struct push_group *group);
/* Read and check BODY as one more push of the group ITEMS. Errors: ERR_INVALID with the line,
 * ERR_LIMIT. Owns: *RET is the caller's. */
WARN_UNUSED errc push_read(const struct label *items, size_t count, enum scrape_format format,
			   str body, struct push *ret, struct err *e);
/* Whether P, of the group OWN or of a new one, NULL, may stand beside the other groups. Errors:
 * ERR_INVALID for a family whose type is another there. */
WARN_UNUSED errc push_check_types(const struct pushgateway *g, const struct push_group *own,
				  const struct push *p, struct err *e);
void push_done(struct push *p);
/* Add P behind the pushes of GROUP, which takes it over. */
void push_group_add(struct pushgateway *g, struct push_group *group, const struct push *p);
/* The family a sample called NAME belongs to. */
str push_family_of(const struct scrape_parser *p, str name);
const struct pushed_family *push_family_find(const struct push *p, str name);
/* The labels of a sample with those of its group over them. */
WARN_UNUSED errc push_series(struct scrape_parser *p, const struct label *group, size_t group_count,
			     struct arena *scratch, struct label *items, size_t *ret_count,
			     str *ret_name, struct err *e);
