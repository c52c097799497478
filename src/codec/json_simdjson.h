/* The seam between json.c and the C++ of simdjson: one call that walks a document. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a walk meets; each returns false to end it. */
struct json_events {
	bool (*open)(void *ctx, bool object, size_t count);
	bool (*close)(void *ctx);
	bool (*key)(void *ctx, const char *bytes, size_t len);
	bool (*string)(void *ctx, const char *bytes, size_t len);
	bool (*integer)(void *ctx, int64_t v);
	bool (*unsigned_integer)(void *ctx, uint64_t v);
	bool (*number)(void *ctx, double v);
	bool (*boolean)(void *ctx, bool v);
	bool (*null)(void *ctx);
};

/* 0, or simdjson's error code; -1 when an event ended the walk. *ret_message is static text. */
int json_simdjson_walk(const char *text, size_t len, size_t depth_max,
		       const struct json_events *events, void *ctx, const char **ret_message);

enum { JSON_SHORTEST_SIZE = 40 };

/* The shortest decimal of a finite V as `d.ddde±dd`, with a NUL. */
void json_simdjson_shortest(double v, char text[JSON_SHORTEST_SIZE]);

#ifdef __cplusplus
}
#endif
