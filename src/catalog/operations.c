#include "catalog/operations.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/checks.h"
#include "codec/text.h"
#include "os/clock.h"

enum { EVENTS_MAX = 10000, EVENT_MESSAGE_MAX = 4096, LIST_MAX = 1000 };

static const char *const state_texts[] = {
#define X(name, text) text,
	OPERATION_STATE(X)
#undef X
};
static const char *const event_texts[] = {
#define X(name, text) text,
	OPERATION_EVENT(X)
#undef X
};

const char *operation_state_text(enum operation_state s)
{
	return state_texts[s];
}

const char *operation_event_kind_text(enum operation_event_kind k)
{
	return event_texts[k];
}

#define OPERATION_COLUMNS                                                                       \
	"id, kind, app, environment, state, step, actor, created, ended, cancel_wanted, fence," \
	" request, journal, result, error_code, error"

/* A list tells what there is; the texts, which may be large, are read one at a time. */
#define OPERATION_LIST_COLUMNS                                                                  \
	"id, kind, app, environment, state, step, actor, created, ended, cancel_wanted, fence," \
	" '', '', result, error_code, error"

errc operations_put(struct catalog *c, struct operation *o, struct err *e)
{
	char tag[9];
	entropy_hex(tag, 8);
	o->created = clock_now();
	o->state = OPERATION_QUEUED;
	/* sorts by time */
	snprintf(o->id, sizeof(o->id), "op-%011llx-%s", (unsigned long long)o->created, tag);
	TRY(catalog_exec(
		c, NULL, e,
		"INSERT INTO operation (id, kind, app, environment, state, actor, created, request)"
		" VALUES (?,?,?,?,?,?,?,?)",
		"ttttitit", o->id, o->kind, o->app, o->environment, (int64_t)o->state, o->actor,
		o->created, o->request));
	bus_publish(catalog_bus(c), BUS_OPERATION, str_c(o->id));
	return OK;
}

static errc read_row(struct catalog_query *q, struct arena *scratch, struct operation *o,
		     struct err *e)
{
	bool whole = str_copy(catalog_str(q, 0), o->id, sizeof(o->id)) &&
		     str_copy(catalog_str(q, 1), o->kind, sizeof(o->kind)) &&
		     str_copy(catalog_str(q, 2), o->app, sizeof(o->app)) &&
		     str_copy(catalog_str(q, 3), o->environment, sizeof(o->environment)) &&
		     str_copy(catalog_str(q, 5), o->step, sizeof(o->step)) &&
		     str_copy(catalog_str(q, 6), o->actor, sizeof(o->actor));
	o->state = (enum operation_state)catalog_i64(q, 4);
	if (!whole || o->state >= ARRAY_COUNT(state_texts))
		FAIL(e, ERR_CORRUPT, "the catalog's row of operation %.*s is damaged",
		     STR_ARG(catalog_str(q, 0)));
	o->created = catalog_i64(q, 7);
	o->ended = catalog_i64(q, 8);
	o->cancel_wanted = catalog_i64(q, 9) != 0;
	o->fence = catalog_i64(q, 10);
	o->request = arena_cstr(scratch, catalog_str(q, 11));
	o->journal = arena_cstr(scratch, catalog_str(q, 12));
	o->result = arena_cstr(scratch, catalog_str(q, 13));
	o->error_code = errc_of_name(arena_cstr(scratch, catalog_str(q, 14)));
	o->error = arena_cstr(scratch, catalog_str(q, 15));
	return arena_check(scratch, "the operation", e);
}

errc operations_get(struct catalog *c, const char *id, struct arena *scratch,
		    struct operation *ret_operation, struct err *e)
{
	struct catalog_query q CLEANUP(catalog_query_done) = { 0 };
	bool row = false;
	TRY(catalog_query(c, &q, e, "SELECT " OPERATION_COLUMNS " FROM operation WHERE id = ?", "t",
			  id));
	TRY(catalog_step(&q, &row, e));
	if (!row)
		FAIL(e, ERR_NOT_FOUND, "there is no operation %s", id);
	return read_row(&q, scratch, ret_operation, e);
}

errc operations_list(struct catalog *c, const struct operation_filter *filter,
		     struct arena *scratch, struct operation **ret_items, size_t *ret_count,
		     struct err *e)
{
	struct catalog_query q CLEANUP(catalog_query_done) = { 0 };
	const char *sql =
		filter->unfinished
			? "SELECT " OPERATION_LIST_COLUMNS " FROM operation WHERE state < 2"
			  " AND (?1 IS NULL OR kind = ?1) AND (?2 IS NULL OR app = ?2)"
			  " AND (?3 IS NULL OR environment = ?3) ORDER BY created, id LIMIT ?4"
			: "SELECT " OPERATION_LIST_COLUMNS " FROM operation"
			  " WHERE (?1 IS NULL OR kind = ?1) AND (?2 IS NULL OR app = ?2)"
			  " AND (?3 IS NULL OR environment = ?3)"
			  " ORDER BY created DESC, id DESC LIMIT ?4";
	size_t limit = (size_t)(filter->limit > 0 && filter->limit < LIST_MAX ? filter->limit
									      : LIST_MAX);
	TRY(catalog_query(c, &q, e, sql, "ttti", filter->kind, filter->app, filter->environment,
			  (int64_t)limit));
	struct operation *items = arena_array(scratch, limit, sizeof(items[0]));
	size_t count = 0;
	TRY(arena_check(scratch, "the list of operations", e));
	for (bool row = true; count < limit; count++) {
		TRY(catalog_step(&q, &row, e));
		if (!row)
			break;
		TRY(read_row(&q, scratch, &items[count], e));
	}
	*ret_items = items;
	*ret_count = count;
	return OK;
}

errc operations_begin(struct catalog *c, const char *id, bool *ret_taken, struct err *e)
{
	int64_t changes = 0;
	TRY(catalog_exec(c, &changes, e,
			 "UPDATE operation SET state = ? WHERE id = ? AND state = ?", "iti",
			 (int64_t)OPERATION_RUNNING, id, (int64_t)OPERATION_QUEUED));
	*ret_taken = changes == 1;
	if (*ret_taken)
		bus_publish(catalog_bus(c), BUS_OPERATION, str_c(id));
	return OK;
}

errc operations_step(struct catalog *c, const char *id, const char *step, const char *journal,
		     struct err *e)
{
	TRY(catalog_exec(c, NULL, e, "UPDATE operation SET step = ?, journal = ? WHERE id = ?",
			 "ttt", step, journal, id));
	bus_publish(catalog_bus(c), BUS_OPERATION, str_c(id));
	return OK;
}

errc operations_finish(struct catalog *c, const char *id, enum operation_state state,
		       const struct err *error, const char *result, struct err *e)
{
	TRY(catalog_exec(c, NULL, e,
			 "UPDATE operation SET state = ?, ended = ?, error_code = ?, error = ?,"
			 " result = ? WHERE id = ?",
			 "iitttt", (int64_t)state, clock_now(), errc_name(error ? error->code : OK),
			 error ? error->message : "", result, id));
	bus_publish(catalog_bus(c), BUS_OPERATION, str_c(id));
	return OK;
}

errc operations_cancel(struct catalog *c, const char *id, struct err *e)
{
	int64_t changes = 0;
	TRY(catalog_exec(c, &changes, e,
			 "UPDATE operation SET cancel_wanted = 1 WHERE id = ? AND state IN (?, ?)",
			 "tii", id, (int64_t)OPERATION_QUEUED, (int64_t)OPERATION_RUNNING));
	if (changes == 0)
		FAIL(e, ERR_CONFLICT, "the operation %s is not running", id);
	bus_publish(catalog_bus(c), BUS_OPERATION, str_c(id));
	return OK;
}

errc operations_prune(struct catalog *c, time_ms time, struct err *e)
{
	return catalog_exec(c, NULL, e,
			    "DELETE FROM operation WHERE ended > 0 AND ended < ? AND state >= ?",
			    "ii", time, (int64_t)OPERATION_SUCCEEDED);
}

bool operations_cancel_wanted(struct catalog *c, const char *id)
{
	struct catalog_query q CLEANUP(catalog_query_done) = { 0 };
	bool row = false;
	if (catalog_query(c, &q, NULL, "SELECT cancel_wanted FROM operation WHERE id = ?", "t",
			  id) != OK ||
	    catalog_step(&q, &row, NULL) != OK || !row)
		return false;
	return catalog_i64(&q, 0) != 0;
}

/* Events tell what happened; losing the last ones with the power harms nothing, so they do not
 * wait for the disk. */
static errc insert_event(struct catalog *c, const char *id, enum operation_event_kind kind,
			 const char *step, const char *data, const char *message, struct err *e)
{
	bool droppable = kind == EVENT_OUTPUT || kind == EVENT_PROGRESS;
	return catalog_exec_relaxed(
		c, e,
		"INSERT INTO operation_event (operation, time, kind, step, message, data)"
		" SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE ?7 = 0 OR"
		" (SELECT count(*) FROM operation_event WHERE operation = ?1) < ?8",
		"tiitttii", id, clock_now(), (int64_t)kind, step, message, data, (int64_t)droppable,
		(int64_t)EVENTS_MAX);
}

/* What was cut may end within a character: go back to its start. */
static void cut_at_character(char *text)
{
	size_t len = strlen(text), start = len;
	while (start > 0 && len - start < 4 && ((unsigned char)text[start - 1] & 0xc0) == 0x80)
		start--;
	if (start > 0 && (unsigned char)text[start - 1] >= 0xc0)
		start--;
	if (start < len && text_utf8_step((str){ text + start, len - start }) == 0)
		text[start] = '\0';
}

void operations_event(struct catalog *c, const char *id, enum operation_event_kind kind,
		      const char *step, const char *data, const char *fmt, ...)
{
	char message[EVENT_MESSAGE_MAX];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	cut_at_character(message);
	if (insert_event(c, id, kind, step ? step : "", data ? data : "", message, NULL) == OK)
		bus_publish(catalog_bus(c), BUS_OPERATION, str_c(id));
}

errc operations_events(struct catalog *c, const char *id, int64_t after_sequence, int limit,
		       struct arena *scratch, struct operation_event **ret_items, size_t *ret_count,
		       struct err *e)
{
	struct catalog_query q CLEANUP(catalog_query_done) = { 0 };
	must(limit > 0);
	TRY(catalog_query(c, &q, e,
			  "SELECT sequence, time, kind, step, message, data FROM operation_event"
			  " WHERE operation = ? AND sequence > ? ORDER BY sequence LIMIT ?",
			  "tii", id, after_sequence, (int64_t)limit));
	struct operation_event *items = arena_array(scratch, (size_t)limit, sizeof(items[0]));
	size_t count = 0;
	TRY(arena_check(scratch, "the list of events", e));
	for (bool row = true; count < (size_t)limit; count++) {
		TRY(catalog_step(&q, &row, e));
		if (!row)
			break;
		struct operation_event *event = &items[count];
		event->sequence = catalog_i64(&q, 0);
		event->time = catalog_i64(&q, 1);
		event->kind = (enum operation_event_kind)catalog_i64(&q, 2);
		if (event->kind >= ARRAY_COUNT(event_texts))
			FAIL(e, ERR_CORRUPT, "an event of operation %s is damaged", id);
		event->step = arena_cstr(scratch, catalog_str(&q, 3));
		event->message = arena_cstr(scratch, catalog_str(&q, 4));
		event->data = arena_cstr(scratch, catalog_str(&q, 5));
	}
	*ret_items = items;
	*ret_count = count;
	return arena_check(scratch, "the list of events", e);
}
