#include "catalog/migrations.h"

#include <stdio.h>

#include "base/checks.h"

/* Step i brings user_version from i to i + 1. */
static const char *const steps[] = {
	/* 1: operations, releases, instances, access */
	"CREATE TABLE token (id TEXT PRIMARY KEY, name TEXT NOT NULL, role INTEGER NOT NULL,"
	"  hash TEXT NOT NULL UNIQUE, created INTEGER NOT NULL, expires INTEGER NOT NULL,"
	"  revoked INTEGER NOT NULL DEFAULT 0, used INTEGER NOT NULL DEFAULT 0) STRICT;"

	"CREATE TABLE audit (sequence INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL,"
	"  actor TEXT NOT NULL, role TEXT NOT NULL, peer TEXT NOT NULL, action TEXT NOT NULL,"
	"  target TEXT NOT NULL, outcome TEXT NOT NULL, detail TEXT NOT NULL) STRICT;"

	"CREATE TABLE operation (id TEXT PRIMARY KEY, kind TEXT NOT NULL, app TEXT NOT NULL,"
	"  environment TEXT NOT NULL, state INTEGER NOT NULL, step TEXT NOT NULL DEFAULT '',"
	"  actor TEXT NOT NULL, created INTEGER NOT NULL, ended INTEGER NOT NULL DEFAULT 0,"
	"  cancel_wanted INTEGER NOT NULL DEFAULT 0, fence INTEGER NOT NULL DEFAULT 0,"
	"  request TEXT NOT NULL, journal TEXT NOT NULL DEFAULT '{}',"
	"  result TEXT NOT NULL DEFAULT '{}', error_code TEXT NOT NULL DEFAULT 'ok',"
	"  error TEXT NOT NULL DEFAULT '') STRICT;"
	"CREATE INDEX operation_unfinished ON operation (created) WHERE state < 2;"
	"CREATE INDEX operation_place ON operation (app, environment, created);"

	"CREATE TABLE operation_event (sequence INTEGER PRIMARY KEY AUTOINCREMENT,"
	"  operation TEXT NOT NULL REFERENCES operation (id) ON DELETE CASCADE,"
	"  time INTEGER NOT NULL, kind INTEGER NOT NULL, step TEXT NOT NULL, message TEXT NOT NULL,"
	"  data TEXT NOT NULL) STRICT;"
	"CREATE INDEX operation_event_of ON operation_event (operation, sequence);"

	"CREATE TABLE lease (name TEXT PRIMARY KEY, operation TEXT NOT NULL, holder TEXT NOT NULL,"
	"  fence INTEGER NOT NULL, acquired INTEGER NOT NULL, expires INTEGER NOT NULL) STRICT;"

	"CREATE TABLE release (app TEXT NOT NULL, environment TEXT NOT NULL, number INTEGER NOT "
	"NULL,"
	"  artifact TEXT NOT NULL, configuration_version INTEGER NOT NULL,"
	"  secret_version INTEGER NOT NULL, specification TEXT NOT NULL, colour TEXT NOT NULL,"
	"  state INTEGER NOT NULL, created INTEGER NOT NULL, warm_until INTEGER NOT NULL DEFAULT 0,"
	"  actor TEXT NOT NULL, operation TEXT NOT NULL, note TEXT NOT NULL DEFAULT '',"
	"  PRIMARY KEY (app, environment, number)) STRICT;"

	"CREATE TABLE configuration (app TEXT NOT NULL, environment TEXT NOT NULL,"
	"  version INTEGER NOT NULL, json TEXT NOT NULL, created INTEGER NOT NULL,"
	"  actor TEXT NOT NULL, PRIMARY KEY (app, environment, version)) STRICT;"

	"CREATE TABLE secret (app TEXT NOT NULL, environment TEXT NOT NULL, name TEXT NOT NULL,"
	"  version INTEGER NOT NULL, sealed BLOB, created INTEGER NOT NULL, actor TEXT NOT NULL,"
	"  PRIMARY KEY (app, environment, version)) STRICT;"

	"CREATE TABLE instance (id TEXT PRIMARY KEY, app TEXT NOT NULL, environment TEXT NOT NULL,"
	"  service TEXT NOT NULL, release INTEGER NOT NULL, ordinal INTEGER NOT NULL,"
	"  colour TEXT NOT NULL, in_proxy INTEGER NOT NULL, port INTEGER NOT NULL UNIQUE,"
	"  desired INTEGER NOT NULL, traffic INTEGER NOT NULL, weight INTEGER NOT NULL,"
	"  traffic_generation INTEGER NOT NULL, restart_generation INTEGER NOT NULL,"
	"  drain_signalled INTEGER NOT NULL) STRICT;"

	"CREATE TABLE build (key TEXT PRIMARY KEY, app TEXT NOT NULL, environment TEXT NOT NULL,"
	"  digest TEXT NOT NULL, created INTEGER NOT NULL, used INTEGER NOT NULL) STRICT;"

	"CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, message_id TEXT NOT NULL "
	"UNIQUE,"
	"  app TEXT NOT NULL, environment TEXT NOT NULL, url TEXT NOT NULL, secret_name TEXT NOT "
	"NULL,"
	"  body TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, next INTEGER NOT NULL,"
	"  state INTEGER NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '') STRICT;"
	"CREATE INDEX outbox_due ON outbox (next) WHERE state = 0;",
};

static errc schema_version(struct catalog *c, int64_t *ret_version, struct err *e)
{
	struct catalog_query q CLEANUP(catalog_query_done) = { 0 };
	bool row = false;
	TRY(catalog_query(c, &q, e, "PRAGMA user_version", ""));
	TRY(catalog_step(&q, &row, e));
	must(row);
	*ret_version = catalog_i64(&q, 0);
	return OK;
}

static errc run_step(struct catalog *c, int64_t step, struct err *e)
{
	char set_version[64];
	snprintf(set_version, sizeof(set_version), "PRAGMA user_version = %d", (int)step + 1);
	TRY(catalog_begin(c, e));
	errc rc = catalog_exec(c, NULL, e, steps[step], "");
	if (rc == OK)
		rc = catalog_exec(c, NULL, e, set_version, "");
	return catalog_end(c, rc, e);
}

errc migrations_run(struct catalog *c, struct err *e)
{
	int64_t version = 0;
	TRY(schema_version(c, &version, e));
	if (version > (int64_t)ARRAY_COUNT(steps))
		FAIL(e, ERR_CONFLICT,
		     "the catalog has schema %d, made by a newer Holdfast (this one knows %zu); "
		     "start that version, or restore the data folder from before its first start",
		     (int)version, ARRAY_COUNT(steps));
	for (int64_t step = version; step < (int64_t)ARRAY_COUNT(steps); step++)
		TRY(run_step(c, step, e));
	return OK;
}
