#include "feature/traffic/traffic_view.h"

#include <string.h>

#include "base/checks.h"

static const char *const kind_names[TRAFFIC_KIND_COUNT] = { "read", "write", "ws" };

static int port_of(str address)
{
	uint64_t port = 0;
	for (size_t i = address.len; i > 0; i--)
		if (address.ptr[i - 1] == ':') {
			str digits = { address.ptr + i, address.len - i };
			return str_to_u64(digits, &port) && port <= 65535 ? (int)port : -1;
		}
	return -1;
}

static int clamp(uint64_t n)
{
	return n > INT32_MAX ? INT32_MAX : (int)n;
}

/* `<environment>.<kind>`: the place of the environment in the plan, or -1. */
static int backend_of(const struct traffic_plan *p, str proxy, enum traffic_kind *ret_kind)
{
	for (int k = 0; k < TRAFFIC_KIND_COUNT; k++) {
		str kind = str_c(kind_names[k]);
		if (!str_ends(proxy, kind) || proxy.len < kind.len + 2 ||
		    proxy.ptr[proxy.len - kind.len - 1] != '.')
			continue;
		str name = { proxy.ptr, proxy.len - kind.len - 1 };
		*ret_kind = (enum traffic_kind)k;
		for (size_t i = 0; i < p->environment_count; i++)
			if (str_eq_c(name, p->environments[i]->name))
				return (int)i;
	}
	return -1;
}

static void read_entry(const struct haproxy_stat *stat, struct traffic_entry *entry)
{
	entry->found = true;
	entry->maintenance = str_starts(stat->status, STR("MAINT"));
	entry->up = str_starts(stat->status, STR("UP"));
	entry->port = port_of(stat->addr);
	entry->weight = clamp(stat->weight);
	entry->current = clamp(stat->scur);
	entry->queued = clamp(stat->qcur);
}

static void read_check(const struct haproxy_stat *stat, struct traffic_view_slot *slot)
{
	str status = stat->check_status;
	if (str_starts(status, STR("* "))) /* one runs at this moment; this is the last result */
		status = (str){ status.ptr + 2, status.len - 2 };
	slot->check_passed = str_starts(status, STR("L7OK")) || str_starts(status, STR("L4OK"));
	slot->check_pending = status.len == 0 || str_eq_c(status, "INI");
	struct buf text CLEANUP(buf_done) = buf_init(sizeof(slot->check) - 1);
	if (slot->check_pending) {
		buf_add_c(&text, "not checked yet");
	} else {
		buf_add(&text, status);
		if (stat->check_code)
			buf_printf(&text, " %llu", (unsigned long long)stat->check_code);
		struct buf words CLEANUP(buf_done) = buf_init(256);
		buf_printf(&words, ": %.*s",
			   STR_ARG(stat->check_desc.len ? stat->check_desc : stat->last_chk));
		size_t room = sizeof(slot->check) - 1 - text.len;
		buf_add(&text, (str){ buf_cstr(&words), words.len < room ? words.len : room });
	}
	(void)str_copy(buf_str(&text), slot->check, sizeof(slot->check));
}

errc traffic_view_read(const struct traffic_plan *p, const struct haproxy_stat *stats,
		       size_t stat_count, struct arena *query, struct traffic_view *ret_view,
		       struct err *e)
{
	struct traffic_view view = { 0 };
	view.environments = arena_array(query, p->environment_count + 1,
					sizeof(*view.environments));
	for (size_t i = 0; view.environments && i < p->environment_count; i++)
		view.environments[i] = arena_array(query, (size_t)p->environments[i]->slot_count,
						   sizeof(struct traffic_view_slot));
	TRY(arena_check(query, "HAProxy's server list", e));
	for (size_t i = 0; i < stat_count; i++) {
		const struct haproxy_stat *stat = &stats[i];
		enum traffic_kind kind;
		uint64_t number;
		if (stat->type != HAPROXY_SERVER || stat->server.len < 2 ||
		    (stat->server.ptr[0] != 's' && stat->server.ptr[0] != 'b') ||
		    !str_to_u64((str){ stat->server.ptr + 1, stat->server.len - 1 }, &number))
			continue;
		int at = backend_of(p, stat->proxy, &kind);
		if (at < 0 || number < 1 || number > (uint64_t)p->environments[at]->slot_count)
			continue;
		struct traffic_view_slot *slot = &view.environments[at][number - 1];
		bool active = stat->server.ptr[0] == 's';
		read_entry(stat, active ? &slot->active[kind] : &slot->backup[kind]);
		if (active && kind == TRAFFIC_READ)
			read_check(stat, slot);
	}
	*ret_view = view;
	return OK;
}

void traffic_changes_init(struct traffic_changes *c)
{
	c->prepare = buf_init(TRAFFIC_CONFIG_MAX);
	c->raise = buf_init(TRAFFIC_CONFIG_MAX);
	c->lower = buf_init(TRAFFIC_CONFIG_MAX);
	c->retire = buf_init(TRAFFIC_CONFIG_MAX);
}

void traffic_changes_done(struct traffic_changes *c)
{
	buf_done(&c->prepare);
	buf_done(&c->raise);
	buf_done(&c->lower);
	buf_done(&c->retire);
}

size_t traffic_changes_size(const struct traffic_changes *c)
{
	return c->prepare.len + c->raise.len + c->lower.len + c->retire.len;
}

/* `set server <entry> `; the caller adds what, and `;`. */
static void set_server(struct buf *b, const struct traffic_environment *env, int kind, bool backup,
		       int index)
{
	buf_printf(b, "set server %s.%s/%c%d ", env->name, kind_names[kind], backup ? 'b' : 's',
		   index + 1);
}

/* The checked entry; the others follow it. */
static void set_state(struct buf *b, const struct traffic_environment *env, int index,
		      const char *state)
{
	set_server(b, env, TRAFFIC_READ, false, index);
	buf_printf(b, "%s;", state);
}

static void change_weights(const struct traffic_environment *env, int index,
			   const struct traffic_view_slot *seen, struct traffic_changes *into)
{
	int wanted[2];
	traffic_slot_weights(&env->slots[index], &wanted[0], &wanted[1]);
	for (int k = 0; k < TRAFFIC_KIND_COUNT; k++)
		for (int backup = 0; backup < 2; backup++) {
			const struct traffic_entry *entry = backup ? &seen->backup[k]
								   : &seen->active[k];
			if (!entry->found || entry->weight == wanted[backup])
				continue;
			struct buf *b = wanted[backup] > entry->weight ? &into->raise
								       : &into->lower;
			set_server(b, env, k, backup, index);
			buf_printf(b, "weight %d;", wanted[backup]);
		}
}

static bool entries_at_port(const struct traffic_view_slot *seen, int port)
{
	for (int k = 0; k < TRAFFIC_KIND_COUNT; k++)
		if ((seen->active[k].found && seen->active[k].port != port) ||
		    (seen->backup[k].found && seen->backup[k].port != port))
			return false;
	return true;
}

/*
 * Put an instance into a slot that is free or holds another one. Maintenance first: it ends the
 * checks; changing the address drops pooled connections to the former one. Leaving maintenance,
 * HAProxy would call the server up before any check, hence `health down`.
 */
static void prepare_slot(const struct traffic_environment *env, int index,
			 const struct traffic_view_slot *seen, struct buf *b)
{
	const struct traffic_slot *slot = &env->slots[index];
	if (!seen->active[TRAFFIC_READ].maintenance)
		set_state(b, env, index, "state maint");
	for (int k = 0; k < TRAFFIC_KIND_COUNT; k++)
		for (int backup = 0; backup < 2; backup++) {
			const struct traffic_entry *entry = backup ? &seen->backup[k]
								   : &seen->active[k];
			if (!entry->found)
				continue;
			set_server(b, env, k, backup, index);
			buf_printf(b, "addr 127.0.0.1 port %d;", slot->port);
			if (!entry->weight)
				continue;
			set_server(b, env, k, backup, index);
			buf_add_c(b, "weight 0;");
		}
	char map[TRAFFIC_NAME_SIZE + 16];
	traffic_map_name(env, map, sizeof(map));
	if (env->check != TRAFFIC_CHECK_PORT)
		buf_printf(b, "set map %s s%d %s;", map, index + 1,
			   slot->ready_path[0] ? slot->ready_path : "/");
	set_state(b, env, index, "state ready");
	set_state(b, env, index, "health down");
}

void traffic_view_changes(const struct traffic_plan *p, const struct traffic_view *view,
			  struct traffic_changes *into)
{
	for (size_t i = 0; i < p->environment_count; i++) {
		const struct traffic_environment *env = p->environments[i];
		for (int s = 0; s < env->slot_count; s++) {
			struct traffic_view_slot seen = view->environments[i][s];
			const struct traffic_entry *first = &seen.active[TRAFFIC_READ];
			if (!first->found)
				continue;
			bool used = env->slots[s].instance[0] != '\0';
			if (used &&
			    (first->maintenance || !entries_at_port(&seen, env->slots[s].port))) {
				prepare_slot(env, s, &seen, &into->prepare);
				for (int k = 0; k < TRAFFIC_KIND_COUNT; k++)
					seen.active[k].weight = seen.backup[k].weight = 0;
			}
			change_weights(env, s, &seen, into);
			if (!used && !first->maintenance)
				set_state(&into->retire, env, s, "state maint");
		}
	}
}

bool traffic_view_settled(const struct traffic_environment *env, int index,
			  const struct traffic_view_slot *slot)
{
	int wanted[2];
	traffic_slot_weights(&env->slots[index], &wanted[0], &wanted[1]);
	for (int k = 0; k < TRAFFIC_KIND_COUNT; k++)
		if (!slot->active[k].found || !slot->backup[k].found ||
		    slot->active[k].weight != wanted[0] || slot->backup[k].weight != wanted[1])
			return false;
	return !slot->active[TRAFFIC_READ].maintenance &&
	       entries_at_port(slot, env->slots[index].port);
}

int traffic_view_requests(const struct traffic_view_slot *slot)
{
	return slot->active[TRAFFIC_READ].current + slot->backup[TRAFFIC_READ].current +
	       slot->active[TRAFFIC_WRITE].current + slot->backup[TRAFFIC_WRITE].current;
}

int traffic_view_websockets(const struct traffic_view_slot *slot)
{
	return slot->active[TRAFFIC_WS].current + slot->backup[TRAFFIC_WS].current;
}

int traffic_view_queued(const struct traffic_view_slot *slot)
{
	int queued = 0;
	for (int k = 0; k < TRAFFIC_KIND_COUNT; k++)
		queued += slot->active[k].queued + slot->backup[k].queued;
	return queued;
}

bool traffic_view_up(const struct traffic_slot *planned, const struct traffic_view_slot *slot)
{
	/* after a reload nothing is checked yet; what served before still does */
	bool served = planned->traffic == TRAFFIC_ACTIVE || planned->traffic == TRAFFIC_BACKUP;
	return slot->active[TRAFFIC_READ].up &&
	       (slot->check_passed || (slot->check_pending && served));
}

void traffic_view_sessions(str reply, const struct traffic_environment *env, int index,
			   int session_count_max, void (*websocket)(void *ctx, str id), void *ctx)
{
	struct buf active CLEANUP(buf_done) = buf_init(256);
	struct buf backup CLEANUP(buf_done) = buf_init(256);
	buf_printf(&active, " be=%s.ws srv=s%d ", env->name, index + 1);
	buf_printf(&backup, " be=%s.ws srv=b%d ", env->name, index + 1);
	str line;
	while (session_count_max > 0 && str_split(&reply, '\n', &line)) {
		str id;
		str rest = line;
		if (!str_starts(line, STR("0x")) || !str_split(&rest, ':', &id))
			continue;
		if (str_find(rest, buf_str(&active)) < 0 && str_find(rest, buf_str(&backup)) < 0)
			continue;
		websocket(ctx, id);
		session_count_max--;
	}
}
