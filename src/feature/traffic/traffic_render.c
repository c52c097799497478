/*
 * The configuration of HAProxy as text.
 *
 * Paths are relative to the working folder, so that a long or odd data folder never has to be
 * quoted inside an expression. Values from specifications stand in double quotes.
 */
#include <string.h>

#include "base/checks.h"
#include "feature/traffic/traffic_plan.h"

/* HAProxy's strong escape: within double quotes only these three are special. */
static void add_quoted(struct buf *b, const char *s)
{
	buf_add_byte(b, '"');
	for (; *s; s++) {
		if (*s == '"' || *s == '\\' || *s == '$')
			buf_add_byte(b, '\\');
		buf_add_byte(b, *s);
	}
	buf_add_byte(b, '"');
}

void traffic_map_name(const struct traffic_environment *env, char *text, size_t size)
{
	struct buf b CLEANUP(buf_done) = buf_init(256);
	buf_printf(&b, "ready-%s.map", env->name);
	must(str_copy(buf_str(&b), text, size));
}

static void add_global(const struct traffic_plan *p, const char *signature, struct buf *b)
{
	buf_add_c(b, "# Written by Holdfast, always equal to what HAProxy runs; do not edit.\n"
		     "global\n");
	if (signature)
		buf_printf(b, "\tdescription holdfast-%s\n", signature);
	if (p->user[0])
		buf_printf(b, "\tuser %s\n\tgroup %s\n", p->user, p->group);
	/* hard-stop-after bounds a worker that was replaced but still holds WebSockets */
	buf_printf(b,
		   "\tstats socket unix@stats.sock mode 600 level admin expose-fd listeners\n"
		   "\tstats timeout 1m\n"
		   "\tstats maxconn 20\n"
		   "\tlog unix@access.sock len 1024 format raw local0\n"
		   "\thard-stop-after 30m\n"
		   "\tnbthread %d\n"
		   "\tmaxconn %d\n"
		   "\tno strict-limits\n" /* fewer connections are better than none */
		   "\ttune.bufsize 16384\n"
		   "\ttune.ssl.default-dh-param 2048\n"
		   "\n",
		   p->thread_count, p->connection_count_max);
	/* client-fin and server-fin end half-closed WebSockets, whose own timeout is an hour */
	buf_add_c(b, "defaults\n"
		     "\tmode http\n"
		     "\ttimeout connect 2s\n"
		     "\ttimeout client 60s\n"
		     "\ttimeout server 60s\n"
		     "\ttimeout tunnel 1h\n"
		     "\ttimeout client-fin 10s\n"
		     "\ttimeout server-fin 10s\n"
		     "\ttimeout http-request 10s\n"
		     "\ttimeout http-keep-alive 75s\n"
		     "\ttimeout queue 10s\n"
		     "\tretries 10\n"
		     "\toption redispatch 1\n"
		     "\toption http-keep-alive\n"
		     "\toption idle-close-on-response\n"
		     "\toption allbackups\n"
		     "\thttp-reuse safe\n");
}

/* What traffic_access.c reads: a line a request. Relayed ones are logged where they end. */
static void add_log(struct buf *b)
{
	buf_add_c(b, "\tlog global\n"
		     "\tlog-format \"%ft %b %sp %ST %ts %Tw %Tc %Ta %U %B %rc %HM\"\n");
}

static void add_choice(const struct traffic_environment *env, struct buf *b)
{
	buf_printf(b,
		   "\tuse_backend %s.ws if { req.hdr(Upgrade) -i websocket }\n"
		   "\tuse_backend %s.read if { method GET HEAD OPTIONS }\n"
		   "\tdefault_backend %s.write\n",
		   env->name, env->name, env->name);
}

static void add_frontend(const struct traffic_environment *env, struct buf *b)
{
	buf_printf(b, "\nfrontend %s\n", env->name);
	for (size_t i = 0; i < env->bind_count; i++) {
		buf_add_c(b, "\tbind ");
		add_quoted(b, env->binds[i].listen);
		if (env->binds[i].tls_certificate[0]) {
			buf_add_c(b, " ssl crt ");
			add_quoted(b, env->binds[i].tls_certificate);
			buf_add_c(b, " alpn h2,http/1.1 ssl-min-ver TLSv1.2");
		}
		buf_add_byte(b, '\n');
	}
	add_log(b);
	buf_add_c(b, "\thttp-request del-header Forwarded\n"
		     "\thttp-request del-header X-Forwarded- -m beg\n"
		     "\thttp-request set-header X-Forwarded-For %[src]\n"
		     "\thttp-request set-header X-Forwarded-Host %[req.hdr(Host)]\n"
		     "\thttp-request set-header X-Forwarded-Proto https if { ssl_fc }\n"
		     "\thttp-request set-header X-Forwarded-Proto http unless { ssl_fc }\n"
		     "\thttp-request set-header X-Request-Id %[uuid()] unless "
		     "{ req.hdr(X-Request-Id) -m reg ^[A-Za-z0-9._:/+=-]{1,128}$ }\n"
		     /* it speaks of the application's connection to us, not of the client's */
		     "\thttp-response del-header Keep-Alive\n");
	buf_printf(b,
		   "\tuse_backend %s.relay if { stopping } "
		   "{ str(requests),map(relay.map,direct) -m str relay }\n",
		   env->name);
	add_choice(env, b);
}

/* Where a worker that was replaced sends what still comes to it. Its requests had their headers
 * set already. */
static void add_relay(const struct traffic_plan *p, const struct traffic_environment *env,
		      struct buf *b)
{
	buf_printf(b, "\nfrontend %s.inner\n\tbind unix@inner-%s.sock mode 600", env->name,
		   env->name);
	if (p->user[0])
		buf_printf(b, " user %s group %s", p->user, p->group);
	buf_add_byte(b, '\n');
	add_log(b);
	add_choice(env, b);
	buf_printf(b,
		   "\nbackend %s.relay\n"
		   "\toption http-server-close\n"
		   "\tserver present unix@inner-%s.sock\n",
		   env->name, env->name);
}

static void add_entry(const struct traffic_environment *env, const char *backend, int index,
		      bool backup, struct buf *b)
{
	const struct traffic_slot *slot = &env->slots[index];
	bool checked = !strcmp(backend, "read") && !backup;
	int active;
	int spare;
	traffic_slot_weights(slot, &active, &spare);
	/* a free slot needs some address; port 1 is never asked since the entry is in maintenance
	 */
	buf_printf(b, "\tserver %c%d 127.0.0.1:%d weight %d", backup ? 'b' : 's', index + 1,
		   slot->instance[0] ? slot->port : 1, backup ? spare : active);
	if (backup)
		buf_add_c(b, " backup");
	if (checked)
		buf_printf(b, " check%s", slot->instance[0] ? "" : " disabled");
	else
		buf_printf(b, " track %s.read/s%d", env->name, index + 1);
	if (checked && slot->instance[0])
		buf_printf(b, " # %s", slot->instance);
	buf_add_byte(b, '\n');
}

static int64_t at_most(int64_t value, int64_t max)
{
	return value < max ? value : max;
}

static void add_check(const struct traffic_environment *env, struct buf *b)
{
	char map[TRAFFIC_NAME_SIZE + 16];
	traffic_map_name(env, map, sizeof(map));
	int64_t interval = env->ready_interval_ms;
	if (env->check != TRAFFIC_CHECK_PORT)
		buf_printf(b,
			   "\toption httpchk\n"
			   "\thttp-check send meth GET uri-lf %%[srv_name,map(%s,/)] ver HTTP/1.1 "
			   "hdr Host localhost hdr User-Agent holdfast-proxy\n"
			   "\thttp-check expect status %s\n",
			   map, env->check == TRAFFIC_CHECK_MIXED ? "200-499" : "200-299");
	buf_printf(b, "\ttimeout check %lldms\n",
		   (long long)(interval < 1000 ? 1000 : at_most(interval, 5000)));
	/* one failed connection takes an instance out until its next good check */
	buf_printf(b,
		   "\tdefault-server inter %lldms fastinter %lldms downinter %lldms fall 2 rise 1 "
		   "observe layer4 error-limit 1 on-error mark-down\n",
		   (long long)interval, (long long)at_most(interval, 500),
		   (long long)at_most(interval, 500));
}

static void add_backend(const struct traffic_environment *env, const char *kind, struct buf *b)
{
	buf_printf(b, "\nbackend %s.%s\n", env->name, kind);
	if (!strcmp(kind, "read")) {
		buf_add_c(b, "\tbalance roundrobin\n"
			     "\tretry-on conn-failure empty-response\n");
		add_check(env, b);
	} else if (!strcmp(kind, "write")) {
		buf_add_c(b, "\tbalance roundrobin\n"
			     "\toption http-server-close\n");
		if (env->retry_idempotent_posts)
			buf_add_c(b, "\tretry-on conn-failure empty-response\n"
				     "\thttp-request disable-l7-retry unless "
				     "{ req.hdr(Idempotency-Key) -m found }\n");
	} else {
		buf_add_c(b, "\tbalance leastconn\n");
	}
	for (int i = 0; i < env->slot_count; i++)
		add_entry(env, kind, i, false, b);
	for (int i = 0; i < env->slot_count; i++)
		add_entry(env, kind, i, true, b);
}

static void render(const struct traffic_plan *p, const char *signature, struct buf *b)
{
	add_global(p, signature, b);
	for (size_t i = 0; i < p->environment_count; i++) {
		const struct traffic_environment *env = p->environments[i];
		if (!env->bind_count)
			continue;
		add_frontend(env, b);
		add_relay(p, env, b);
		add_backend(env, "read", b);
		add_backend(env, "write", b);
		add_backend(env, "ws", b);
	}
}

void traffic_render_signature(const struct traffic_plan *p, char ret_signature[static 17])
{
	struct traffic_plan *bare CLEANUP(traffic_plan_done) = traffic_plan_copy(p);
	for (size_t i = 0; i < bare->environment_count; i++)
		memset(bare->environments[i]->slots, 0, sizeof(bare->environments[i]->slots));
	struct buf text CLEANUP(buf_done) = buf_init(TRAFFIC_CONFIG_MAX);
	render(bare, NULL, &text);
	uint64_t hash = 14695981039346656037U; /* FNV-1a */
	for (size_t i = 0; i < text.len; i++)
		hash = (hash ^ (unsigned char)text.ptr[i]) * 1099511628211U;
	for (int i = 15; i >= 0; i--, hash >>= 4)
		ret_signature[i] = "0123456789abcdef"[hash & 15];
	ret_signature[16] = '\0';
}

void traffic_render(const struct traffic_plan *p, struct buf *into)
{
	char signature[17];
	traffic_render_signature(p, signature);
	render(p, signature, into);
}

void traffic_render_map(const struct traffic_environment *env, struct buf *into)
{
	for (int i = 0; i < env->slot_count; i++)
		buf_printf(into, "s%d %s\n", i + 1,
			   env->slots[i].ready_path[0] ? env->slots[i].ready_path : "/");
}

/* The number in `s12` or `127.0.0.1:9001` behind PREFIX; -1 when it is something else. */
static int number_behind(str word, const char *prefix)
{
	uint64_t n;
	str p = str_c(prefix);
	if (!str_starts(word, p) || !str_to_u64((str){ word.ptr + p.len, word.len - p.len }, &n) ||
	    n > 65535)
		return -1;
	return (int)n;
}

/* `\tbind "…"` */
static void read_bind(str line, struct traffic_environment *env)
{
	struct buf b CLEANUP(buf_done) = buf_init(sizeof(env->binds[0].listen) - 1);
	str quote = STR("\tbind \"");
	if (!env || !str_starts(line, quote) || env->bind_count == TRAFFIC_BIND_MAX)
		return;
	for (size_t i = quote.len; i < line.len && line.ptr[i] != '"'; i++) {
		if (line.ptr[i] == '\\' && i + 1 < line.len)
			i++;
		buf_add_byte(&b, line.ptr[i]);
	}
	if (!b.overflow &&
	    str_copy(buf_str(&b), env->binds[env->bind_count].listen, sizeof(env->binds[0].listen)))
		env->bind_count++;
}

/* `\tserver s3 127.0.0.1:20007 … # <instance>` of a backend `read`: its own comment when used. */
static void read_slot(str line, struct traffic_environment *env)
{
	str word;
	str words = line;
	if (!env || !str_starts(line, STR("\tserver s")) || !str_split(&words, ' ', &word) ||
	    !str_split(&words, ' ', &word))
		return;
	int number = number_behind(word, "s");
	if (number < 1 || number > TRAFFIC_SLOT_MAX)
		return;
	if (number > env->slot_count)
		env->slot_count = number;
	struct traffic_slot *slot = &env->slots[number - 1];
	int port = str_split(&words, ' ', &word) ? number_behind(word, "127.0.0.1:") : -1;
	ptrdiff_t mark = str_find(line, STR(" # "));
	if (mark < 0 || port < 1)
		return;
	str instance = { line.ptr + mark + 3, line.len - (size_t)mark - 3 };
	if (str_copy(instance, slot->instance, sizeof(slot->instance)))
		slot->port = port;
}

void traffic_render_read(str config, struct traffic_plan *into)
{
	str line;
	struct traffic_environment *env = NULL;
	bool in_read = false;
	while (str_split(&config, '\n', &line)) {
		str frontend = STR("frontend ");
		if (str_starts(line, frontend)) {
			char name[TRAFFIC_NAME_SIZE];
			str text = { line.ptr + frontend.len, line.len - frontend.len };
			if (str_ends(line, STR(".inner")))
				continue;
			env = NULL;
			if (str_copy(text, name, sizeof(name)) && !traffic_plan_find(into, name))
				env = traffic_plan_add(into, name);
		}
		if (str_starts(line, STR("backend ")))
			in_read = str_ends(line, STR(".read"));
		read_bind(line, env);
		if (in_read)
			read_slot(line, env);
	}
}
