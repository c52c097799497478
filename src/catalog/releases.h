/*
 * Releases and what they are made of: artifact, configuration version, secret version,
 * specification. A release is immutable but for its state.
 */
#pragma once

#include "catalog/instances.h"

enum {
	RELEASE_ARTIFACT_SIZE = 72, /* `sha256:` and 64 digits and NUL */
	RELEASE_NOTE_SIZE = 1024,
};

/*
 * NEW      being deployed
 * CURRENT  serves its environment
 * WARM     served before; its instances still run
 * RETIRED  served before; its instances are stopped
 * FAILED   never came to serve, or was taken back at once
 */
#define RELEASE_STATE(X)      \
	X(NEW, "new")         \
	X(CURRENT, "current") \
	X(WARM, "warm")       \
	X(RETIRED, "retired") \
	X(FAILED, "failed")

enum release_state {
#define X(name, text) RELEASE_##name,
	RELEASE_STATE(X)
#undef X
};

const char *release_state_text(enum release_state s);

struct release {
	char app[NAME_MAX_BYTES + 1];
	char environment[NAME_MAX_BYTES + 1];
	int64_t number; /* 1, 2, … within the environment */
	char artifact[RELEASE_ARTIFACT_SIZE];
	int64_t configuration_version;
	int64_t secret_version;
	const char *specification; /* text of holdfast.yml; in the arena it was read with */
	char colour[8];
	enum release_state state;
	time_ms created;
	time_ms warm_until; /* for WARM: when its instances are stopped */
	char actor[96];
	char operation[40];
	char note[RELEASE_NOTE_SIZE]; /* why it failed, or where it was rolled back from */
};

/* Insert with the next number of the environment (written to r->number). Announced: BUS_RELEASE. */
WARN_UNUSED errc releases_put(struct catalog *c, struct release *r, struct err *e);
WARN_UNUSED errc releases_get(struct catalog *c, const char *app, const char *environment,
			      int64_t number, struct arena *scratch, struct release *ret_release,
			      struct err *e);
/* The one in state CURRENT. Errors: ERR_NOT_FOUND. */
WARN_UNUSED errc releases_current(struct catalog *c, const char *app, const char *environment,
				  struct arena *scratch, struct release *ret_release,
				  struct err *e);
/* Newest first, at most LIMIT, with empty specifications; app and environment may be NULL for all.
 */
WARN_UNUSED errc releases_list(struct catalog *c, const char *app, const char *environment,
			       int limit, struct arena *scratch, struct release **ret_items,
			       size_t *ret_count, struct err *e);
/* Whether a release that is NEW, CURRENT or WARM has ARTIFACT, in any environment. */
WARN_UNUSED errc releases_serve_artifact(struct catalog *c, const char *artifact, bool *ret_serve,
					 struct err *e);
/* note NULL: keep; what is longer than a note can be is cut. Announced: BUS_RELEASE. */
WARN_UNUSED errc releases_set_state(struct catalog *c, const struct release *r,
				    enum release_state state, time_ms warm_until, const char *note,
				    struct err *e);

/* The resolved variables of an environment as one JSON object; a new version when the text differs
 * from the newest. */
WARN_UNUSED errc configuration_put(struct catalog *c, const char *app, const char *environment,
				   str json, const char *actor, int64_t *ret_version,
				   struct err *e);
WARN_UNUSED errc configuration_get(struct catalog *c, const char *app, const char *environment,
				   int64_t version, struct arena *scratch, str *ret_json,
				   struct err *e);
