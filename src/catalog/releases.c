#include "catalog/releases.h"

#include <stdio.h>
#include <string.h>

#include "base/checks.h"
#include "codec/text.h"
#include "os/clock.h"

static const char *const state_texts[] = {
#define X(name, text) text,
	RELEASE_STATE(X)
#undef X
};

const char *release_state_text(enum release_state s)
{
	return state_texts[s];
}

#define RELEASE_COLUMNS                                                              \
	"app, environment, number, artifact, configuration_version, secret_version," \
	" specification, colour, state, created, warm_until, actor, operation, note"

/* A list tells what there is; the texts, which may be large, are read one at a time. */
#define RELEASE_LIST_COLUMNS                                                         \
	"app, environment, number, artifact, configuration_version, secret_version," \
	" '', colour, state, created, warm_until, actor, operation, note"

static void announce(struct catalog *c, const struct release *r)
{
	char place[2 * NAME_MAX_BYTES + 2];
	snprintf(place, sizeof(place), "%s/%s", r->app, r->environment);
	bus_publish(catalog_bus(c), BUS_RELEASE, str_c(place));
}

static errc next_number(struct catalog *c, const struct release *r, int64_t *ret_number,
			struct err *e)
{
	struct catalog_query q CLEANUP(catalog_query_done) = { 0 };
	bool row = false;
	TRY(catalog_query(c, &q, e,
			  "SELECT coalesce(max(number), 0) + 1 FROM release WHERE app = ? AND "
			  "environment = ?",
			  "tt", r->app, r->environment));
	TRY(catalog_step(&q, &row, e));
	must(row);
	*ret_number = catalog_i64(&q, 0);
	return OK;
}

static errc put_in_transaction(struct catalog *c, struct release *r, struct err *e)
{
	TRY(next_number(c, r, &r->number, e));
	return catalog_exec(c, NULL, e,
			    "INSERT INTO release (" RELEASE_COLUMNS ")"
			    " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
			    "ttitiittiiittt", r->app, r->environment, r->number, r->artifact,
			    r->configuration_version, r->secret_version, r->specification,
			    r->colour, (int64_t)r->state, r->created, r->warm_until, r->actor,
			    r->operation, r->note);
}

errc releases_put(struct catalog *c, struct release *r, struct err *e)
{
	r->created = clock_now();
	TRY(catalog_begin(c, e));
	TRY(catalog_end(c, put_in_transaction(c, r, e), e));
	announce(c, r);
	return OK;
}

/* A note is for people: what does not fit is cut at a character. */
static bool take_note(str note, struct release *r)
{
	size_t len = 0;
	for (size_t step; len < note.len; len += step) {
		step = text_utf8_step((str){ note.ptr + len, note.len - len });
		if (step == 0 || len + step >= sizeof(r->note))
			break;
	}
	return str_copy((str){ note.ptr, len }, r->note, sizeof(r->note));
}

static errc read_row(struct catalog_query *q, struct arena *scratch, struct release *r,
		     struct err *e)
{
	bool whole = str_copy(catalog_str(q, 0), r->app, sizeof(r->app)) &&
		     str_copy(catalog_str(q, 1), r->environment, sizeof(r->environment)) &&
		     str_copy(catalog_str(q, 3), r->artifact, sizeof(r->artifact)) &&
		     str_copy(catalog_str(q, 7), r->colour, sizeof(r->colour)) &&
		     str_copy(catalog_str(q, 11), r->actor, sizeof(r->actor)) &&
		     str_copy(catalog_str(q, 12), r->operation, sizeof(r->operation)) &&
		     take_note(catalog_str(q, 13), r);
	r->number = catalog_i64(q, 2);
	r->state = (enum release_state)catalog_i64(q, 8);
	if (!whole || r->state >= ARRAY_COUNT(state_texts))
		FAIL(e, ERR_CORRUPT, "the catalog's row of a release of %.*s is damaged",
		     STR_ARG(catalog_str(q, 0)));
	r->configuration_version = catalog_i64(q, 4);
	r->secret_version = catalog_i64(q, 5);
	r->specification = arena_cstr(scratch, catalog_str(q, 6));
	r->created = catalog_i64(q, 9);
	r->warm_until = catalog_i64(q, 10);
	return arena_check(scratch, "the release", e);
}

errc releases_get(struct catalog *c, const char *app, const char *environment, int64_t number,
		  struct arena *scratch, struct release *ret_release, struct err *e)
{
	struct catalog_query q CLEANUP(catalog_query_done) = { 0 };
	bool row = false;
	TRY(catalog_query(c, &q, e,
			  "SELECT " RELEASE_COLUMNS
			  " FROM release WHERE app = ? AND environment = ? AND number = ?",
			  "tti", app, environment, number));
	TRY(catalog_step(&q, &row, e));
	if (!row)
		FAIL(e, ERR_NOT_FOUND,
		     "%s has no release %lld in %s; `holdfast releases` lists what there is", app,
		     (long long)number, environment);
	return read_row(&q, scratch, ret_release, e);
}

errc releases_current(struct catalog *c, const char *app, const char *environment,
		      struct arena *scratch, struct release *ret_release, struct err *e)
{
	struct catalog_query q CLEANUP(catalog_query_done) = { 0 };
	bool row = false;
	TRY(catalog_query(c, &q, e,
			  "SELECT " RELEASE_COLUMNS
			  " FROM release WHERE app = ? AND environment = ?"
			  " AND state = ? ORDER BY number DESC LIMIT 1",
			  "tti", app, environment, (int64_t)RELEASE_CURRENT));
	TRY(catalog_step(&q, &row, e));
	if (!row)
		FAIL(e, ERR_NOT_FOUND, "%s has no release that serves %s", app, environment);
	return read_row(&q, scratch, ret_release, e);
}

errc releases_list(struct catalog *c, const char *app, const char *environment, int limit,
		   struct arena *scratch, struct release **ret_items, size_t *ret_count,
		   struct err *e)
{
	struct catalog_query q CLEANUP(catalog_query_done) = { 0 };
	must(limit > 0 && limit <= 10000);
	TRY(catalog_query(c, &q, e,
			  "SELECT " RELEASE_LIST_COLUMNS
			  " FROM release WHERE (?1 IS NULL OR app = ?1)"
			  " AND (?2 IS NULL OR environment = ?2)"
			  " ORDER BY created DESC, number DESC LIMIT ?3",
			  "tti", app, environment, (int64_t)limit));
	struct release *items = arena_array(scratch, (size_t)limit, sizeof(items[0]));
	size_t count = 0;
	TRY(arena_check(scratch, "the list of releases", e));
	for (bool row = true; count < (size_t)limit; count++) {
		TRY(catalog_step(&q, &row, e));
		if (!row)
			break;
		TRY(read_row(&q, scratch, &items[count], e));
	}
	*ret_items = items;
	*ret_count = count;
	return OK;
}

/* What does not fit the row is cut between two characters. */
static void cut_note(const char *note, char cut[static RELEASE_NOTE_SIZE])
{
	size_t len = strlen(note);
	if (len >= RELEASE_NOTE_SIZE) {
		len = RELEASE_NOTE_SIZE - 1;
		while (len && ((unsigned char)note[len] & 0xc0) == 0x80)
			len--;
	}
	memcpy(cut, note, len);
	cut[len] = '\0';
}

errc releases_serve_artifact(struct catalog *c, const char *artifact, bool *ret_serve,
			     struct err *e)
{
	struct catalog_query q CLEANUP(catalog_query_done) = { 0 };
	TRY(catalog_query(c, &q, e,
			  "SELECT 1 FROM release WHERE artifact = ? AND state IN (?, ?, ?) LIMIT 1",
			  "tiii", artifact, (int64_t)RELEASE_NEW, (int64_t)RELEASE_CURRENT,
			  (int64_t)RELEASE_WARM));
	return catalog_step(&q, ret_serve, e);
}

errc releases_set_state(struct catalog *c, const struct release *r, enum release_state state,
			time_ms warm_until, const char *note, struct err *e)
{
	char cut[RELEASE_NOTE_SIZE];
	if (note)
		cut_note(note, cut);
	TRY(catalog_exec(c, NULL, e,
			 "UPDATE release SET state = ?, warm_until = ?, note = coalesce(?, note)"
			 " WHERE app = ? AND environment = ? AND number = ?",
			 "iittti", (int64_t)state, warm_until, note ? cut : NULL, r->app,
			 r->environment, r->number));
	announce(c, r);
	return OK;
}

static errc newest_configuration(struct catalog *c, const char *app, const char *environment,
				 str json, int64_t *ret_version, bool *ret_same, struct err *e)
{
	struct catalog_query q CLEANUP(catalog_query_done) = { 0 };
	bool row = false;
	*ret_version = 0;
	*ret_same = false;
	TRY(catalog_query(
		c, &q, e,
		"SELECT version, json FROM configuration WHERE app = ? AND environment = ?"
		" ORDER BY version DESC LIMIT 1",
		"tt", app, environment));
	TRY(catalog_step(&q, &row, e));
	if (row) {
		*ret_version = catalog_i64(&q, 0);
		*ret_same = str_eq(catalog_str(&q, 1), json);
	}
	return OK;
}

static errc put_configuration(struct catalog *c, const char *app, const char *environment, str json,
			      const char *actor, int64_t *ret_version, struct err *e)
{
	bool same = false;
	int64_t version = 0;
	TRY(newest_configuration(c, app, environment, json, &version, &same, e));
	if (!same)
		TRY(catalog_exec(c, NULL, e,
				 "INSERT INTO configuration (app, environment, version, json, "
				 "created, actor)"
				 " VALUES (?,?,?,?,?,?)",
				 "ttisit", app, environment, ++version, json, clock_now(), actor));
	*ret_version = version;
	return OK;
}

errc configuration_put(struct catalog *c, const char *app, const char *environment, str json,
		       const char *actor, int64_t *ret_version, struct err *e)
{
	TRY(catalog_begin(c, e));
	return catalog_end(c, put_configuration(c, app, environment, json, actor, ret_version, e),
			   e);
}

errc configuration_get(struct catalog *c, const char *app, const char *environment, int64_t version,
		       struct arena *scratch, str *ret_json, struct err *e)
{
	struct catalog_query q CLEANUP(catalog_query_done) = { 0 };
	bool row = false;
	TRY(catalog_query(
		c, &q, e,
		"SELECT json FROM configuration WHERE app = ? AND environment = ? AND version = ?",
		"tti", app, environment, version));
	TRY(catalog_step(&q, &row, e));
	if (!row)
		FAIL(e, ERR_NOT_FOUND, "%s has no configuration version %lld in %s", app,
		     (long long)version, environment);
	*ret_json = arena_str(scratch, catalog_str(&q, 0));
	return arena_check(scratch, "the configuration", e);
}
