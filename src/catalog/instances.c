#include "catalog/instances.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/checks.h"
#include "catalog/catalog_internal.h"
#include "os/clock.h"

enum { PORT_FIRST = 20000, PORT_COUNT = 10000 };

/* Sorted by id. The durable part mirrors the database; the lock orders database writes too, since
 * each change holds it from the statement to the copy. */
struct instance_table {
	pthread_mutex_t lock;
	struct instance *items;
	size_t count;
	uint64_t incarnation; /* of the last one inserted */
};

static const char *const desired_texts[] = {
#define X(name, text) text,
	INSTANCE_DESIRED(X)
#undef X
};
static const char *const state_texts[] = {
#define X(name, text) text,
	INSTANCE_STATE(X)
#undef X
};
static const char *const traffic_texts[] = {
#define X(name, text) text,
	INSTANCE_TRAFFIC(X)
#undef X
};

const char *instance_desired_text(enum instance_desired d)
{
	return desired_texts[d];
}

const char *instance_state_text(enum instance_state s)
{
	return state_texts[s];
}

const char *instance_traffic_text(enum instance_traffic t)
{
	return traffic_texts[t];
}

void instance_set_id(struct instance *i)
{
	snprintf(i->id, sizeof(i->id), "%s.%s.r%lld.%s.%d", i->app, i->environment,
		 (long long)i->release, i->service, i->ordinal);
}

struct instance_table *instance_table_new(void)
{
	struct instance_table *t = must_calloc(1, sizeof(*t));
	pthread_mutex_init(&t->lock, NULL);
	return t;
}

void instance_table_free(struct instance_table *t)
{
	if (!t)
		return;
	pthread_mutex_destroy(&t->lock);
	free(t->items);
	free(t);
}

static struct instance_table *lock_table(struct catalog *c)
{
	struct instance_table *t = catalog_instances(c);
	catalog_must_not_hold();
	pthread_mutex_lock(&t->lock);
	return t;
}

static struct instance *find(struct instance_table *t, const char *id)
{
	size_t low = 0, high = t->count;
	while (low < high) {
		size_t middle = (low + high) / 2;
		int order = strcmp(t->items[middle].id, id);
		if (order == 0)
			return &t->items[middle];
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

static void insert(struct instance_table *t, const struct instance *i)
{
	size_t at = 0;
	while (at < t->count && strcmp(t->items[at].id, i->id) < 0)
		at++;
	t->items = must_realloc(t->items, (t->count + 1) * sizeof(t->items[0]));
	memmove(&t->items[at + 1], &t->items[at], (t->count - at) * sizeof(t->items[0]));
	t->items[at] = *i;
	t->items[at].incarnation = ++t->incarnation;
	t->count++;
}

errc instance_table_load(struct catalog *c, struct err *e)
{
	struct instance_table *t = catalog_instances(c);
	struct catalog_query q CLEANUP(catalog_query_done) = { 0 };
	TRY(catalog_query(
		c, &q, e,
		"SELECT id, app, environment, service, release, ordinal, colour, in_proxy, port,"
		" desired, traffic, weight, traffic_generation, restart_generation,"
		" drain_signalled FROM instance ORDER BY id",
		""));
	for (;;) {
		bool row = false;
		TRY(catalog_step(&q, &row, e));
		if (!row)
			return OK;
		struct instance i = { 0 };
		bool whole = str_copy(catalog_str(&q, 0), i.id, sizeof(i.id)) &&
			     str_copy(catalog_str(&q, 1), i.app, sizeof(i.app)) &&
			     str_copy(catalog_str(&q, 2), i.environment, sizeof(i.environment)) &&
			     str_copy(catalog_str(&q, 3), i.service, sizeof(i.service)) &&
			     str_copy(catalog_str(&q, 6), i.colour, sizeof(i.colour));
		i.release = catalog_i64(&q, 4);
		i.ordinal = (int)catalog_i64(&q, 5);
		i.in_proxy = catalog_i64(&q, 7) != 0;
		i.port = (int)catalog_i64(&q, 8);
		i.desired = (enum instance_desired)catalog_i64(&q, 9);
		i.traffic = (enum instance_traffic)catalog_i64(&q, 10);
		i.weight = (int)catalog_i64(&q, 11);
		i.traffic_generation = catalog_i64(&q, 12);
		i.restart_generation = catalog_i64(&q, 13);
		i.drain_signalled = catalog_i64(&q, 14) != 0;
		if (!whole || i.desired >= ARRAY_COUNT(desired_texts) ||
		    i.traffic >= ARRAY_COUNT(traffic_texts))
			FAIL(e, ERR_CORRUPT, "the catalog's row of instance %.*s is damaged",
			     STR_ARG(catalog_str(&q, 0)));
		insert(t, &i);
	}
}

errc instances_put(struct catalog *c, const struct instance *i, struct err *e)
{
	struct instance_table *t = lock_table(c);
	errc rc = OK;
	if (t->count >= INSTANCE_COUNT_MAX)
		rc = err_fill(e, ERR_LIMIT, 0, __FILE__, __LINE__, "there are %d instances already",
			      INSTANCE_COUNT_MAX);
	if (rc == OK)
		rc = catalog_exec(c, NULL, e,
				  "INSERT INTO instance (id, app, environment, service, release, "
				  "ordinal, colour,"
				  " in_proxy, port, desired, traffic, weight, traffic_generation,"
				  " restart_generation, drain_signalled) VALUES "
				  "(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
				  "ttttiitiiiiiiii", i->id, i->app, i->environment, i->service,
				  i->release, (int64_t)i->ordinal, i->colour, (int64_t)i->in_proxy,
				  (int64_t)i->port, (int64_t)i->desired, (int64_t)i->traffic,
				  (int64_t)i->weight, i->traffic_generation, i->restart_generation,
				  (int64_t)i->drain_signalled);
	if (rc == OK)
		insert(t, i);
	pthread_mutex_unlock(&t->lock);
	if (rc == OK)
		bus_publish(catalog_bus(c), BUS_INSTANCE_DESIRED, str_c(i->id));
	return rc;
}

/* The instance ID with the table locked; NULL with the lock released and E filled. */
static struct instance *lock_one(struct catalog *c, const char *id, struct err *e)
{
	struct instance_table *t = lock_table(c);
	struct instance *i = find(t, id);
	if (!i) {
		pthread_mutex_unlock(&t->lock);
		err_fill(e, ERR_NOT_FOUND, 0, __FILE__, __LINE__, "there is no instance %s", id);
	}
	return i;
}

static errc unlock_and_announce(struct catalog *c, errc rc, enum bus_topic topic,
				const char *subject)
{
	pthread_mutex_unlock(&catalog_instances(c)->lock);
	if (rc == OK)
		bus_publish(catalog_bus(c), topic, str_c(subject));
	return rc;
}

errc instances_set_desired(struct catalog *c, const char *id, enum instance_desired d,
			   struct err *e)
{
	struct instance *i = lock_one(c, id, e);
	if (!i)
		return ERR_NOT_FOUND;
	errc rc = catalog_exec(c, NULL, e, "UPDATE instance SET desired = ? WHERE id = ?", "it",
			       (int64_t)d, id);
	if (rc == OK)
		i->desired = d;
	return unlock_and_announce(c, rc, BUS_INSTANCE_DESIRED, id);
}

errc instances_restart(struct catalog *c, const char *id, struct err *e)
{
	struct instance *i = lock_one(c, id, e);
	if (!i)
		return ERR_NOT_FOUND;
	errc rc = catalog_exec(
		c, NULL, e,
		"UPDATE instance SET restart_generation = restart_generation + 1 WHERE id = ?", "t",
		id);
	if (rc == OK)
		i->restart_generation++;
	return unlock_and_announce(c, rc, BUS_INSTANCE_DESIRED, id);
}

errc instances_signal_drain(struct catalog *c, const char *id, struct err *e)
{
	struct instance *i = lock_one(c, id, e);
	if (!i)
		return ERR_NOT_FOUND;
	errc rc = catalog_exec(c, NULL, e, "UPDATE instance SET drain_signalled = 1 WHERE id = ?",
			       "t", id);
	if (rc == OK)
		i->drain_signalled = true;
	return unlock_and_announce(c, rc, BUS_INSTANCE_DESIRED, id);
}

static errc write_traffic(struct catalog *c, const struct instance_traffic_change *change,
			  struct err *e)
{
	const struct instance *i = find(catalog_instances(c), change->id);
	if (!i)
		FAIL(e, ERR_NOT_FOUND, "there is no instance %s", change->id);
	if (i->traffic == change->traffic && i->weight == change->weight)
		return OK;
	/* an instance that takes requests again has not been drained */
	bool serves = change->traffic == TRAFFIC_ACTIVE || change->traffic == TRAFFIC_BACKUP;
	return catalog_exec(
		c, NULL, e,
		"UPDATE instance SET traffic = ?, weight = ?,"
		" traffic_generation = traffic_generation + 1,"
		" drain_signalled = CASE WHEN ? THEN 0 ELSE drain_signalled END WHERE id = ?",
		"iiit", (int64_t)change->traffic, (int64_t)change->weight, (int64_t)serves,
		change->id);
}

static void copy_traffic(struct instance *i, const struct instance_traffic_change *change)
{
	if (i->traffic == change->traffic && i->weight == change->weight)
		return;
	i->traffic = change->traffic;
	i->weight = change->weight;
	i->traffic_generation++;
	if (change->traffic == TRAFFIC_ACTIVE || change->traffic == TRAFFIC_BACKUP) {
		i->drain_signalled = false;
		i->runtime.drain_signal_sent = false;
	}
}

errc instances_set_traffic(struct catalog *c, const struct instance_traffic_change *changes,
			   size_t change_count, struct err *e)
{
	char place[2 * NAME_MAX_BYTES + 2] = "";
	for (size_t k = 0; k < change_count; k++)
		for (size_t n = 0; n < k; n++)
			must(strcmp(changes[k].id, changes[n].id) != 0);
	struct instance_table *t = lock_table(c);
	errc rc = catalog_begin(c, e);
	if (rc == OK) {
		for (size_t k = 0; rc == OK && k < change_count; k++)
			rc = write_traffic(c, &changes[k], e);
		rc = catalog_end(c, rc, e);
	}
	for (size_t k = 0; rc == OK && k < change_count; k++) {
		struct instance *i = find(t, changes[k].id);
		copy_traffic(i, &changes[k]);
		snprintf(place, sizeof(place), "%s/%s", i->app, i->environment);
	}
	return unlock_and_announce(c, rc, BUS_TRAFFIC_DESIRED, place);
}

errc instances_remove(struct catalog *c, const char *id, struct err *e)
{
	struct instance_table *t = catalog_instances(c);
	struct instance *i = lock_one(c, id, e);
	if (!i)
		return ERR_NOT_FOUND;
	char place[2 * NAME_MAX_BYTES + 2];
	snprintf(place, sizeof(place), "%s/%s", i->app, i->environment);
	errc rc = catalog_exec(c, NULL, e, "DELETE FROM instance WHERE id = ?", "t", id);
	if (rc == OK) {
		size_t at = (size_t)(i - t->items);
		memmove(i, i + 1, (t->count - at - 1) * sizeof(*i));
		t->count--;
	}
	rc = unlock_and_announce(c, rc, BUS_TRAFFIC_DESIRED, place);
	if (rc == OK)
		bus_publish(catalog_bus(c), BUS_INSTANCE_OBSERVED, str_c(place));
	return rc;
}

/* What was seen of an instance that is gone says nothing of a new one of the same id. */
static struct instance *find_same(struct instance_table *t, const struct instance *seen)
{
	struct instance *i = find(t, seen->id);
	return i && i->incarnation == seen->incarnation ? i : NULL;
}

void instances_observe_runtime(struct catalog *c, const struct instance *seen)
{
	struct instance_table *t = lock_table(c);
	struct instance *i = find_same(t, seen);
	bool changed = i && memcmp(&i->runtime, &seen->runtime, sizeof(i->runtime)) != 0;
	if (changed)
		i->runtime = seen->runtime;
	pthread_mutex_unlock(&t->lock);
	if (changed)
		bus_publish(catalog_bus(c), BUS_INSTANCE_OBSERVED, str_c(seen->id));
}

void instances_observe_proxy(struct catalog *c, const struct instance *seen)
{
	bool changed = false;
	struct instance_table *t = lock_table(c);
	struct instance *i = find_same(t, seen);
	if (i) {
		/* a release waits for these three; the counters only when they reach nothing */
		changed = i->proxy.generation != seen->proxy.generation ||
			  i->proxy.up != seen->proxy.up ||
			  strcmp(i->proxy.check, seen->proxy.check) != 0 ||
			  (i->proxy.in_flight == 0) != (seen->proxy.in_flight == 0) ||
			  (i->proxy.websockets == 0) != (seen->proxy.websockets == 0) ||
			  i->traffic == TRAFFIC_DRAIN;
		i->proxy = seen->proxy;
	}
	pthread_mutex_unlock(&t->lock);
	if (changed)
		bus_publish(catalog_bus(c), BUS_INSTANCE_OBSERVED, str_c(seen->id));
}

static bool matches(const struct instance *i, const struct instance_filter *filter)
{
	return (!filter->app || strcmp(filter->app, i->app) == 0) &&
	       (!filter->environment || strcmp(filter->environment, i->environment) == 0) &&
	       (!filter->release || filter->release == i->release);
}

errc instances_list(struct catalog *c, const struct instance_filter *filter, struct arena *scratch,
		    struct instance **ret_items, size_t *ret_count, struct err *e)
{
	size_t count = 0;
	struct instance_table *t = lock_table(c);
	for (size_t k = 0; k < t->count; k++)
		count += matches(&t->items[k], filter);
	struct instance *items = arena_array(scratch, count, sizeof(items[0]));
	for (size_t k = 0, n = 0; items && k < t->count; k++)
		if (matches(&t->items[k], filter))
			items[n++] = t->items[k];
	pthread_mutex_unlock(&t->lock);
	TRY(arena_check(scratch, "the list of instances", e));
	*ret_items = items;
	*ret_count = count;
	return OK;
}

errc instances_get(struct catalog *c, const char *id, struct instance *ret_instance, struct err *e)
{
	const struct instance *i = lock_one(c, id, e);
	if (!i)
		return ERR_NOT_FOUND;
	*ret_instance = *i;
	pthread_mutex_unlock(&catalog_instances(c)->lock);
	return OK;
}

static bool nothing_listens(int port)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_port = htons((uint16_t)port),
				       .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	bool free_port = bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
	close(fd);
	return free_port;
}

static bool nobody_has(struct instance_table *t, int port)
{
	for (size_t k = 0; k < t->count; k++)
		if (t->items[k].port == port)
			return false;
	return true;
}

errc instances_pick_port(struct catalog *c, int *ret_port, struct err *e)
{
	/* a random start keeps two installations on one machine apart */
	int start = (int)entropy_below(PORT_COUNT);
	int found = 0;
	struct instance_table *t = lock_table(c);
	for (int k = 0; k < PORT_COUNT && !found; k++) {
		int port = PORT_FIRST + (start + k) % PORT_COUNT;
		if (nobody_has(t, port) && nothing_listens(port))
			found = port;
	}
	pthread_mutex_unlock(&t->lock);
	if (!found)
		FAIL(e, ERR_LIMIT, "no port of 127.0.0.1 between %d and %d is free", PORT_FIRST,
		     PORT_FIRST + PORT_COUNT - 1);
	*ret_port = found;
	return OK;
}
