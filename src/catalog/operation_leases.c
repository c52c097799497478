/* Leases: one row a name; the fencing token outlives holders, so a row is never deleted. */
#include <string.h>

#include "base/checks.h"
#include "catalog/operations.h"
#include "os/clock.h"

static errc read_lease(struct catalog *c, const char *name, struct lease *l, bool *ret_found,
		       struct err *e)
{
	struct catalog_query q CLEANUP(catalog_query_done) = { 0 };
	*l = (struct lease){ 0 };
	TRY(catalog_query(c, &q, e,
			  "SELECT name, operation, holder, fence, acquired, expires FROM lease "
			  "WHERE name = ?",
			  "t", name));
	TRY(catalog_step(&q, ret_found, e));
	if (!*ret_found)
		return OK;
	bool whole = str_copy(catalog_str(&q, 0), l->name, sizeof(l->name)) &&
		     str_copy(catalog_str(&q, 1), l->operation, sizeof(l->operation)) &&
		     str_copy(catalog_str(&q, 2), l->holder, sizeof(l->holder));
	if (!whole)
		FAIL(e, ERR_CORRUPT, "the catalog's row of lease %s is damaged", name);
	l->fence = catalog_i64(&q, 3);
	l->acquired = catalog_i64(&q, 4);
	l->expires = catalog_i64(&q, 5);
	return OK;
}

/* An operation that a daemon left at work is resumed by the next one and still holds its lease. */
static errc is_at_work(struct catalog *c, const char *operation, bool *ret_at_work, struct err *e)
{
	struct catalog_query q CLEANUP(catalog_query_done) = { 0 };
	TRY(catalog_query(c, &q, e, "SELECT 1 FROM operation WHERE id = ? AND state = ?", "ti",
			  operation, (int64_t)OPERATION_RUNNING));
	return catalog_step(&q, ret_at_work, e);
}

static errc acquire_in_transaction(struct catalog *c, const char *name, const char *operation,
				   const char *holder, struct lease *ret_lease, struct err *e)
{
	struct lease l;
	bool found = false, at_work = false;
	time_ms now = clock_now();
	TRY(read_lease(c, name, &l, &found, e));
	bool ours = found && strcmp(l.operation, operation) == 0;
	if (found && !ours && l.operation[0])
		TRY(is_at_work(c, l.operation, &at_work, e));
	if (found && !ours && l.operation[0] && (l.expires > now || at_work)) {
		char since[UNIT_TEXT_SIZE];
		FAIL(e, ERR_LOCKED, "%s is being changed by %s (operation %s, begun %s)", name,
		     l.holder, l.operation, time_ago(l.acquired, now, since));
	}
	if (!ours) {
		l.fence++;
		l.acquired = now;
	}
	l.expires = now + LEASE_MS;
	if (!str_copy(str_c(name), l.name, sizeof(l.name)) ||
	    !str_copy(str_c(operation), l.operation, sizeof(l.operation)) ||
	    !str_copy(str_c(holder), l.holder, sizeof(l.holder)))
		FAIL(e, ERR_LIMIT, "the name or holder of the lease %s is too long", name);
	TRY(catalog_exec(c, NULL, e,
			 "INSERT INTO lease (name, operation, holder, fence, acquired, expires)"
			 " VALUES (?1,?2,?3,?4,?5,?6) ON CONFLICT (name) DO UPDATE SET"
			 " operation = ?2, holder = ?3, fence = ?4, acquired = ?5, expires = ?6",
			 "tttiii", name, operation, holder, l.fence, l.acquired, l.expires));
	TRY(catalog_exec(c, NULL, e, "UPDATE operation SET fence = ? WHERE id = ?", "it", l.fence,
			 operation));
	*ret_lease = l;
	return OK;
}

errc leases_acquire(struct catalog *c, const char *name, const char *operation, const char *holder,
		    struct lease *ret_lease, struct err *e)
{
	TRY(catalog_begin(c, e));
	return catalog_end(c, acquire_in_transaction(c, name, operation, holder, ret_lease, e), e);
}

errc leases_renew(struct catalog *c, const struct lease *lease, struct err *e)
{
	int64_t changes = 0;
	TRY(catalog_exec(
		c, &changes, e,
		"UPDATE lease SET expires = ? WHERE name = ? AND operation = ? AND fence = ?",
		"itti", clock_now() + LEASE_MS, lease->name, lease->operation, lease->fence));
	if (changes != 1)
		FAIL(e, ERR_LOCKED, "the lease on %s was lost to another operation", lease->name);
	return OK;
}

errc leases_release(struct catalog *c, const char *name, const char *operation, struct err *e)
{
	TRY(catalog_exec(
		c, NULL, e,
		"UPDATE lease SET operation = '', expires = 0 WHERE name = ? AND operation = ?",
		"tt", name, operation));
	bus_publish(catalog_bus(c), BUS_OPERATION, str_c(operation));
	return OK;
}

errc leases_get(struct catalog *c, const char *name, struct lease *ret_lease, struct err *e)
{
	bool found = false;
	TRY(read_lease(c, name, ret_lease, &found, e));
	if (!found || !ret_lease->operation[0] || ret_lease->expires <= clock_now())
		FAIL(e, ERR_NOT_FOUND, "nobody holds the lease on %s", name);
	return OK;
}
