/*
 * id_set: ascending, unique series ids. What matchers select is computed with these.
 *
 * Sorted arrays, not bitmaps: most sets are small, a set of one costs what it holds, and a set read
 * from a file is checked by looking at its order.
 */
#pragma once

#include "base/str.h"

struct id_set {
	uint32_t *ids;
	size_t count, room;
};

void id_set_done(struct id_set *s);
/* Room for COUNT more. */
void id_set_reserve(struct id_set *s, size_t count);
/* ID is larger than all that are in it. */
void id_set_push(struct id_set *s, uint32_t id);
/* Wherever its place is; nothing when it is there. */
void id_set_insert(struct id_set *s, uint32_t id);
void id_set_copy(struct id_set *into, const uint32_t *ids, size_t count);
bool id_set_has(const struct id_set *s, uint32_t id);
/* A becomes A ∩ B, A \ B. Cost: by the smaller where they differ much. */
void id_set_intersect(struct id_set *a, const uint32_t *ids, size_t count);
void id_set_subtract(struct id_set *a, const uint32_t *ids, size_t count);
void id_set_unite(struct id_set *a, const uint32_t *ids, size_t count);
/* Sort what was appended to ids in any order, and drop doubles. */
void id_set_normalize(struct id_set *s);
