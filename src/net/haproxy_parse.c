/* Parsers of what HAProxy prints. Columns are found by name: releases add and move them. */
#include <stddef.h>
#include <string.h>

#include "base/checks.h"
#include "net/haproxy.h"

enum { COLUMN_COUNT_MAX = 256, ROW_COUNT_MAX = 20000 };

struct column {
	const char *name;
	size_t offset;
	bool text;
};

#define TEXT(name, member)                                        \
	{                                                         \
		name, offsetof(struct haproxy_stat, member), true \
	}
#define NUMBER(member)                                                \
	{                                                             \
#member, offsetof(struct haproxy_stat, member), false \
	}

static const struct column columns[] = {
	TEXT("pxname", proxy),
	TEXT("svname", server),
	TEXT("status", status),
	TEXT("check_status", check_status),
	TEXT("check_desc", check_desc),
	TEXT("last_chk", last_chk),
	TEXT("addr", addr),
	TEXT("cookie", cookie),
	NUMBER(check_code),
	NUMBER(check_rise),
	NUMBER(check_fall),
	NUMBER(check_health),
	NUMBER(check_duration),
	NUMBER(scur),
	NUMBER(smax),
	NUMBER(slim),
	NUMBER(stot),
	NUMBER(qcur),
	NUMBER(qmax),
	NUMBER(rate),
	NUMBER(req_tot),
	NUMBER(bin),
	NUMBER(bout),
	NUMBER(dreq),
	NUMBER(dresp),
	NUMBER(ereq),
	NUMBER(econ),
	NUMBER(eresp),
	NUMBER(wretr),
	NUMBER(wredis),
	NUMBER(cli_abrt),
	NUMBER(srv_abrt),
	NUMBER(hrsp_1xx),
	NUMBER(hrsp_2xx),
	NUMBER(hrsp_3xx),
	NUMBER(hrsp_4xx),
	NUMBER(hrsp_5xx),
	NUMBER(hrsp_other),
	NUMBER(weight),
	NUMBER(act),
	NUMBER(bck),
	NUMBER(chkfail),
	NUMBER(chkdown),
	NUMBER(lastchg),
	NUMBER(downtime),
	NUMBER(qtime),
	NUMBER(ctime),
	NUMBER(rtime),
	NUMBER(ttime),
	NUMBER(qtime_max),
	NUMBER(ctime_max),
	NUMBER(rtime_max),
	NUMBER(ttime_max),
	NUMBER(used_conn_cur),
	NUMBER(idle_conn_cur),
	NUMBER(need_conn_est),
};

/* Cut a field off *REST, quotes removed and doubled quotes halved (in QUERY). Sets *RET_LAST when
 * the record ended with it. */
static errc next_field(str *rest, struct arena *query, str *ret_field, bool *ret_last,
		       struct err *e)
{
	size_t i = 0;
	str field;
	if (rest->len && rest->ptr[0] == '"') {
		size_t n = 0;
		char *to = NULL;
		size_t end = 1;
		while (end < rest->len && (rest->ptr[end] != '"' ||
					   (end + 1 < rest->len && rest->ptr[end + 1] == '"')))
			end += rest->ptr[end] == '"' ? 2 : 1;
		if (end >= rest->len)
			FAIL(e, ERR_CORRUPT, "HAProxy's statistics end inside of a quoted field");
		to = arena_alloc(query, end);
		if (!to)
			return arena_check(query, "HAProxy's statistics", e);
		for (i = 1; i < end; i++) {
			to[n++] = rest->ptr[i];
			i += rest->ptr[i] == '"';
		}
		field = (str){ to, n };
		i = end + 1;
	} else {
		while (i < rest->len && rest->ptr[i] != ',' && rest->ptr[i] != '\n')
			i++;
		field = (str){ rest->ptr, i };
	}
	if (i < rest->len && rest->ptr[i] != ',' && rest->ptr[i] != '\n')
		FAIL(e, ERR_CORRUPT, "HAProxy's statistics have text behind a quoted field");
	*ret_last = i >= rest->len || rest->ptr[i] == '\n';
	i += i < rest->len;
	*rest = (str){ rest->ptr + i, rest->len - i };
	*ret_field = field;
	return OK;
}

static void set_field(struct haproxy_stat *s, const struct column *c, str value)
{
	uint64_t number = 0;
	if (c->text) {
		*(str *)((char *)s + c->offset) = value;
		return;
	}
	/* -1 means "not known" */
	if (!str_to_u64(value, &number))
		number = 0;
	*(uint64_t *)((char *)s + c->offset) = number;
}

struct layout {
	const struct column *columns[COLUMN_COUNT_MAX];
	size_t count;
	size_t type_index;
};

static errc read_layout(str *rest, struct arena *query, struct layout *ret_layout, struct err *e)
{
	bool last = false;
	size_t found = 0;
	*ret_layout = (struct layout){ .type_index = SIZE_MAX };
	while (!last && ret_layout->count < COLUMN_COUNT_MAX) {
		str name;
		TRY(next_field(rest, query, &name, &last, e));
		for (size_t i = 0; i < ARRAY_COUNT(columns); i++)
			if (str_eq_c(name, columns[i].name)) {
				ret_layout->columns[ret_layout->count] = &columns[i];
				found += i < 3;
			}
		if (str_eq_c(name, "type"))
			ret_layout->type_index = ret_layout->count;
		ret_layout->count++;
	}
	if (!last || found < 3 || ret_layout->type_index == SIZE_MAX)
		FAIL(e, ERR_CORRUPT,
		     "HAProxy's statistics lack pxname, svname, status or type, or have more than "
		     "%d columns",
		     COLUMN_COUNT_MAX);
	return OK;
}

static errc read_row(str *rest, const struct layout *layout, struct arena *query,
		     struct haproxy_stat *ret_stat, struct err *e)
{
	bool last = false;
	struct haproxy_stat s = { 0 };
	for (size_t i = 0; !last; i++) {
		str value;
		uint64_t type;
		TRY(next_field(rest, query, &value, &last, e));
		if (i >= layout->count)
			continue;
		if (layout->columns[i])
			set_field(&s, layout->columns[i], value);
		if (i == layout->type_index) {
			if (!str_to_u64(value, &type) || type > HAPROXY_LISTENER)
				FAIL(e, ERR_CORRUPT, "HAProxy's statistics: unknown type '%.*s'",
				     (int)(value.len < 20 ? value.len : 20), value.ptr);
			s.type = (enum haproxy_stat_type)type;
		}
	}
	*ret_stat = s;
	return OK;
}

errc haproxy_stat_parse(str csv, struct arena *query, struct haproxy_stat **ret_stats,
			size_t *ret_count, struct err *e)
{
	struct layout layout;
	size_t count = 0, rows = 0;
	if (!str_starts(csv, STR("# ")))
		FAIL(e, ERR_CORRUPT, "HAProxy answered with no statistics: %.*s",
		     (int)(csv.len < 200 ? csv.len : 200), csv.ptr ? csv.ptr : "");
	csv = (str){ csv.ptr + 2, csv.len - 2 };
	TRY(read_layout(&csv, query, &layout, e));
	for (size_t i = 0; i < csv.len; i++)
		rows += csv.ptr[i] == '\n';
	if (rows > ROW_COUNT_MAX)
		FAIL(e, ERR_LIMIT, "HAProxy's statistics have more than %d lines", ROW_COUNT_MAX);
	struct haproxy_stat *stats = arena_array(query, rows + 1, sizeof(stats[0]));
	if (!stats)
		return arena_check(query, "HAProxy's statistics", e);
	while (csv.len && csv.ptr[0] != '\n') {
		must(count <= rows);
		TRY(read_row(&csv, &layout, query, &stats[count], e));
		count++;
	}
	TRY(arena_check(query, "HAProxy's statistics", e));
	*ret_stats = stats;
	*ret_count = count;
	return OK;
}

const struct haproxy_stat *haproxy_stat_find(const struct haproxy_stat *stats, size_t count,
					     const char *proxy, const char *server)
{
	for (size_t i = 0; i < count; i++)
		if (str_eq_c(stats[i].proxy, proxy) && str_eq_c(stats[i].server, server))
			return &stats[i];
	return NULL;
}

/* The next word of *LINE; false when there is none. */
static bool next_word(str *line, str *ret_word)
{
	*line = str_trim(*line);
	if (line->len == 0)
		return false;
	const char *space = memchr(line->ptr, ' ', line->len);
	size_t len = space ? (size_t)(space - line->ptr) : line->len;
	*ret_word = (str){ line->ptr, len };
	*line = (str){ line->ptr + len, line->len - len };
	return true;
}

/* `# bkname/svname bkid/svid addr port - purge_delay used_cur used_max need_est unsafe_nb
 * safe_nb idle_lim idle_cur idle_per_thr[…]` */
errc haproxy_servers_conn_parse(str reply, struct arena *query,
				struct haproxy_server_conn **ret_servers, size_t *ret_count,
				struct err *e)
{
	size_t index_of[4] = { SIZE_MAX, SIZE_MAX, SIZE_MAX, SIZE_MAX };
	static const char *const names[] = { "addr", "port", "used_cur", "idle_cur" };
	str line, word, rest = reply;
	size_t count = 0, rows = 0, at = 0;
	if (!str_split(&rest, '\n', &line) || !str_starts(line, STR("# bkname/svname ")))
		FAIL(e, ERR_NOT_FOUND, "HAProxy: %.*s", (int)(line.len < 200 ? line.len : 200),
		     reply.len ? line.ptr : "no reply");
	line = (str){ line.ptr + 2, line.len - 2 };
	for (; next_word(&line, &word); at++)
		for (size_t i = 0; i < ARRAY_COUNT(names); i++)
			if (str_eq_c(word, names[i]))
				index_of[i] = at;
	for (size_t i = 0; i < rest.len; i++)
		rows += rest.ptr[i] == '\n';
	if (rows > ROW_COUNT_MAX)
		FAIL(e, ERR_LIMIT, "HAProxy lists more than %d servers", ROW_COUNT_MAX);
	struct haproxy_server_conn *servers = arena_array(query, rows + 1, sizeof(servers[0]));
	if (!servers)
		return arena_check(query, "HAProxy's servers", e);
	while (str_split(&rest, '\n', &line) && line.len) {
		struct haproxy_server_conn *s = &servers[count];
		for (at = 0; next_word(&line, &word); at++) {
			uint64_t number = 0;
			const char *slash = memchr(word.ptr, '/', word.len);
			bool is_number = str_to_u64(word, &number);
			if (at == 0 && slash) {
				size_t len = (size_t)(slash - word.ptr);
				s->proxy = (str){ word.ptr, len };
				s->server = (str){ slash + 1, word.len - len - 1 };
			} else if (at == index_of[0]) {
				s->addr = word;
			} else if (at == index_of[1] && is_number && number <= 65535) {
				s->port = (int)number;
			} else if (at == index_of[2] && is_number) {
				s->used_cur = number;
			} else if (at == index_of[3] && is_number) {
				s->idle_cur = number;
			}
		}
		if (s->server.len == 0)
			FAIL(e, ERR_CORRUPT, "HAProxy's list of servers has a line without a name");
		count++;
	}
	*ret_servers = servers;
	*ret_count = count;
	return OK;
}

errc haproxy_info_parse(str reply, struct haproxy_info *ret_info, struct err *e)
{
	struct haproxy_info info = { 0 };
	uint64_t pid = 0;
	str line;
	const struct {
		const char *name;
		uint64_t *value;
	} numbers[] = {
		{ "Pid", &pid },
		{ "Uptime_sec", &info.uptime_s },
		{ "CurrConns", &info.curr_conns },
		{ "CumReq", &info.cum_req },
		{ "Stopping", &info.stopping },
		{ "Maxconn", &info.max_conn },
	};
	while (str_split(&reply, '\n', &line)) {
		const char *colon = memchr(line.ptr, ':', line.len);
		if (!colon)
			continue;
		str name = { line.ptr, (size_t)(colon - line.ptr) };
		str value = str_trim((str){ colon + 1, line.len - name.len - 1 });
		if (str_eq_c(name, "Version") &&
		    !str_copy(value, info.version, sizeof(info.version)))
			FAIL(e, ERR_CORRUPT, "HAProxy: the version is too long");
		for (size_t i = 0; i < ARRAY_COUNT(numbers); i++)
			if (str_eq_c(name, numbers[i].name))
				(void)!str_to_u64(value, numbers[i].value);
	}
	if (!info.version[0] || pid > INT32_MAX)
		FAIL(e, ERR_CORRUPT, "HAProxy answered `show info` without its version");
	info.pid = (pid_t)pid;
	*ret_info = info;
	return OK;
}
