#include "catalog/outbox.h"

#include <string.h>

#include "base/checks.h"

enum { STATE_WAITING, STATE_SENT, STATE_GIVEN_UP };

errc outbox_put(struct catalog *c, const struct outbox_message *m, struct err *e)
{
	if (strlen(m->body) > OUTBOX_BODY_MAX)
		FAIL(e, ERR_LIMIT, "a message is at most %d bytes", OUTBOX_BODY_MAX);
	TRY(catalog_exec(
		c, NULL, e,
		"INSERT INTO outbox (message_id, app, environment, url, secret_name, body, next)"
		" VALUES (?,?,?,?,?,?,?)",
		"tttttti", m->message_id, m->app, m->environment, m->url, m->secret_name, m->body,
		m->next));
	bus_publish(catalog_bus(c), BUS_OUTBOX, str_c(m->message_id));
	return OK;
}

errc outbox_due(struct catalog *c, time_ms now, int limit, struct arena *scratch,
		struct outbox_message **ret_items, size_t *ret_count, time_ms *ret_next,
		struct err *e)
{
	struct catalog_query q CLEANUP(catalog_query_done) = { 0 };
	TRY(catalog_query(
		c, &q, e,
		"SELECT id, message_id, app, environment, url, secret_name, body, attempts, next"
		" FROM outbox WHERE state = ? ORDER BY next, id LIMIT ?",
		"ii", (int64_t)STATE_WAITING, (int64_t)limit + 1));
	struct outbox_message *items = arena_array(scratch, (size_t)limit, sizeof(items[0]));
	size_t count = 0;
	TRY(arena_check(scratch, "the outbox", e));
	*ret_next = 0;
	for (;;) {
		bool row = false;
		TRY(catalog_step(&q, &row, e));
		if (!row)
			break;
		time_ms next = catalog_i64(&q, 8);
		if (next > now || count == (size_t)limit) {
			*ret_next = next;
			break;
		}
		struct outbox_message *m = &items[count++];
		m->id = catalog_i64(&q, 0);
		m->message_id = arena_cstr(scratch, catalog_str(&q, 1));
		m->app = arena_cstr(scratch, catalog_str(&q, 2));
		m->environment = arena_cstr(scratch, catalog_str(&q, 3));
		m->url = arena_cstr(scratch, catalog_str(&q, 4));
		m->secret_name = arena_cstr(scratch, catalog_str(&q, 5));
		m->body = arena_cstr(scratch, catalog_str(&q, 6));
		m->attempts = (int)catalog_i64(&q, 7);
		m->next = next;
	}
	*ret_items = items;
	*ret_count = count;
	return arena_check(scratch, "the outbox", e);
}

errc outbox_sent(struct catalog *c, int64_t id, struct err *e)
{
	return catalog_exec(
		c, NULL, e,
		"UPDATE outbox SET state = ?, attempts = attempts + 1, error = '', body = ''"
		" WHERE id = ?",
		"ii", (int64_t)STATE_SENT, id);
}

errc outbox_failed(struct catalog *c, int64_t id, time_ms next, const char *why, struct err *e)
{
	return catalog_exec(
		c, NULL, e,
		"UPDATE outbox SET attempts = attempts + 1, next = ?, error = ?,"
		" state = CASE WHEN attempts + 1 >= ? THEN ? ELSE state END WHERE id = ?",
		"itiii", next, why, (int64_t)OUTBOX_ATTEMPTS_MAX, (int64_t)STATE_GIVEN_UP, id);
}
