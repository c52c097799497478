/* Who is to be asked: what the specifications of releases say, and the instances that run. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "base/checks.h"
#include "base/log.h"
#include "catalog/instances.h"
#include "catalog/releases.h"
#include "catalog/secrets.h"
#include "codec/text.h"
#include "feature/scrape/scraper_internal.h"

enum {
	RELEASES_MAX = 10000,
	LIST_BYTES_MAX = 256 << 20,
	TARGET_BYTES_MAX = 128 * 1024,
	GROUP_BYTES_MAX = 256 * 1024,
	INTERVAL_MS = 15000,
	TIMEOUT_MS = 10000,
	BODY_BYTES_MAX = 64 << 20,
	LABEL_ROOM = LABELS_COUNT_MAX,
};

/* One release being looked at. */
struct looking {
	struct scrape *scrape;
	struct scrape_wanted *into;
	struct arena *scratch;
	const struct release *release;
	const struct spec_environment *environment;
	const struct instance *instances;
	size_t instance_count;
};

static uint64_t mix(uint64_t hash, const void *bytes, size_t len)
{
	unsigned char digest[crypto_shorthash_BYTES], key[crypto_shorthash_KEYBYTES] = { 0 };
	uint64_t out;
	memcpy(key, &hash, sizeof(hash));
	crypto_shorthash(digest, bytes, len, key);
	memcpy(&out, digest, sizeof(out));
	return out;
}

static uint64_t mix_text(uint64_t hash, const char *text)
{
	return mix(hash, text ? text : "", text ? strlen(text) + 1 : 0);
}

static uint64_t mix_str(uint64_t hash, str text)
{
	return mix(mix(hash, &text.len, sizeof(text.len)), text.ptr ? text.ptr : "", text.len);
}

/* ---- Groups. */

static struct scrape_group *group_new(void)
{
	struct scrape_group *g = must_calloc(1, sizeof(*g));
	g->refs = 1;
	g->arena = arena_init(GROUP_BYTES_MAX);
	g->interval_ms = INTERVAL_MS;
	g->timeout_ms = TIMEOUT_MS;
	g->honor_timestamps = true;
	g->body_bytes_max = BODY_BYTES_MAX;
	return g;
}

static void group_seal(struct scrape_group *g, uint64_t rules)
{
	const int64_t numbers[] = { g->interval_ms,         g->timeout_ms,
				    g->honor_labels,        g->honor_timestamps,
				    g->classic_histograms,  g->tls_insecure,
				    (int64_t)g->sample_max, (int64_t)g->body_bytes_max,
				    (int64_t)rules };
	uint64_t hash = mix(0, numbers, sizeof(numbers));
	hash = mix_text(hash, g->job);
	hash = mix_text(hash, g->tls_ca);
	g->fingerprint = mix_text(hash, g->authorization);
}

static errc make_rules(struct arena *scratch, const struct spec_relabel *from, size_t count,
		       struct relabel **ret, uint64_t *hash, struct err *e)
{
	struct relabel_rule rules[RELABEL_RULES_MAX];
	*ret = NULL;
	if (!count)
		return OK;
	must(count <= RELABEL_RULES_MAX);
	for (size_t i = 0; i < count; i++) {
		const struct spec_relabel *r = &from[i];
		str *sources = arena_array(scratch, r->source.count + 1, sizeof(str));
		TRY(arena_check(scratch, "relabel rules", e));
		for (size_t k = 0; k < r->source.count; k++) {
			sources[k] = str_c(r->source.items[k]);
			*hash = mix_str(*hash, sources[k]);
		}
		rules[i] = (struct relabel_rule){ .sources = sources,
						  .source_count = r->source.count,
						  .separator = str_c(r->separator),
						  .regex = str_c(r->regex),
						  .target = str_c(r->target ? r->target : ""),
						  .replacement = str_c(r->replacement),
						  .action = str_c(r->action),
						  .modulus = (uint64_t)r->modulus };
		const str parts[] = { rules[i].separator, rules[i].regex, rules[i].target,
				      rules[i].replacement, rules[i].action };
		for (size_t k = 0; k < ARRAY_COUNT(parts); k++)
			*hash = mix_str(*hash, parts[k]);
		*hash = mix(*hash, &rules[i].modulus, sizeof(rules[i].modulus));
	}
	return relabel_new(rules, count, ret, e);
}

static errc secret_of(struct looking *l, const char *name, const char **ret_value, struct err *e)
{
	struct secret *secrets = NULL;
	size_t count = 0;
	TRY(secrets_open(l->scrape->context->catalog, l->release->app, l->release->environment,
			 l->release->secret_version, l->scratch, &secrets, &count, e));
	for (size_t i = 0; i < count; i++) {
		if (strcmp(secrets[i].name, name) != 0)
			continue;
		*ret_value = secrets[i].value.ptr;
		return OK;
	}
	FAIL(e, ERR_NOT_FOUND, "the secret %s has no value; give it with `holdfast secret set`",
	     name);
}

/* `Basic …` or `Bearer …`. */
static errc make_authorization(struct looking *l, const struct spec_scrape *spec,
			       struct scrape_group *g, struct err *e)
{
	const char *secret = "";
	if (spec->bearer_token) {
		TRY(secret_of(l, spec->bearer_token, &secret, e));
		g->authorization = arena_printf(&g->arena, "Bearer %s", secret);
	} else if (spec->basic_user) {
		struct buf coded CLEANUP(buf_done) = buf_init(2 * SECRET_BYTES_MAX);
		if (spec->basic_password)
			TRY(secret_of(l, spec->basic_password, &secret, e));
		const char *pair = arena_printf(l->scratch, "%s:%s", spec->basic_user, secret);
		text_add_base64(&coded, str_c(pair), TEXT_BASE64);
		g->authorization = arena_printf(&g->arena, "Basic %s", buf_cstr(&coded));
	}
	return arena_check(&g->arena, "a scrape's secrets", e);
}

static errc group_of_spec(struct looking *l, const struct spec_scrape *spec, struct scrape_group *g,
			  struct err *e)
{
	uint64_t rules = 0;
	g->job = arena_cstr(&g->arena, str_c(spec->job));
	g->interval_ms = spec->interval_ms;
	g->timeout_ms = spec->timeout_ms;
	g->honor_labels = spec->honor_labels;
	g->honor_timestamps = spec->honor_timestamps;
	g->classic_histograms = spec->classic_histograms;
	g->tls_insecure = spec->tls_insecure;
	g->sample_max = (size_t)spec->sample_limit;
	g->body_bytes_max = (size_t)spec->body_bytes_max;
	if (spec->tls_ca)
		g->tls_ca = arena_cstr(&g->arena, str_c(spec->tls_ca));
	TRY(make_authorization(l, spec, g, e));
	TRY(make_rules(l->scratch, spec->metric_relabel, spec->metric_relabel_count,
		       &g->metric_relabel, &rules, e));
	group_seal(g, rules);
	return OK;
}

/* ---- Targets. */

static void add(struct scrape_wanted *w, struct scrape_target *t)
{
	if (w->count == w->room) {
		w->room = w->room ? w->room * 2 : 64;
		w->items = must_realloc(w->items, w->room * sizeof(w->items[0]));
	}
	w->items[w->count++] = t;
}

/* `host:port` of a URL, with the scheme's port when it names none. */
static const char *address_of(struct arena *scratch, const char *url)
{
	const char *begin = strstr(url, "://");
	bool secure = strncmp(url, "https:", 6) == 0;
	begin = begin ? begin + 3 : url;
	size_t len = strcspn(begin, "/?#");
	const char *host = arena_cstr(scratch, (str){ begin, len });
	const char *colon = strrchr(host, ':');
	if (colon && !strchr(colon, ']'))
		return host;
	return arena_printf(scratch, "%s:%d", host, secure ? 443 : 80);
}

/* LABELS (any order) name the target; those that begin with `__` are dropped at the end. */
static errc add_target(struct looking *l, struct scrape_group *g, const char *url,
		       const struct relabel *relabel, struct label *labels, size_t count,
		       struct err *e)
{
	bool keep = true;
	if (l->into->count == SCRAPE_TARGETS_MAX) {
		l->into->truncated = true;
		return OK;
	}
	if (relabel)
		TRY(relabel_apply(relabel, l->scratch, labels, &count, &keep, e));
	if (!keep)
		return OK;
	struct scrape_target *t = must_calloc(1, sizeof(*t));
	size_t kept = 0;
	t->owner = l->scrape;
	t->arena = arena_init(TARGET_BYTES_MAX);
	for (size_t i = 0; i < count; i++)
		if (!str_starts(labels[i].name, STR("__")))
			labels[kept++] = labels[i];
	struct labels sorted;
	errc rc = labels_normalize(labels, kept, &sorted, e);
	if (rc != OK) {
		scrape_target_free(t);
		return rc;
	}
	t->labels = labels_copy(&t->arena, &sorted);
	t->url = arena_cstr(&t->arena, str_c(url));
	t->group = g;
	g->refs++;
	t->key = mix_text(g->fingerprint, url);
	for (size_t i = 0; i < t->labels.count; i++)
		t->key = mix_str(mix_str(t->key, t->labels.items[i].name),
				 t->labels.items[i].value);
	/* of the address alone: the same moment for every release of a port */
	t->offset_ms = (int64_t)(mix_text(1, url) % (uint64_t)g->interval_ms);
	add(l->into, t);
	return arena_check(&t->arena, "a target's labels", e);
}

static errc add_static(struct looking *l, const struct spec_scrape *spec, struct scrape_group *g,
		       const struct relabel *relabel, struct err *e)
{
	for (size_t i = 0; i < spec->targets.count; i++) {
		const char *url = spec->targets.items[i], *address = address_of(l->scratch, url);
		struct label labels[LABEL_ROOM] = {
			{ STR("job"), str_c(g->job) },
			{ STR("instance"), str_c(address) },
			{ STR("app"), str_c(l->release->app) },
			{ STR("environment"), str_c(l->release->environment) },
			{ STR("__address__"), str_c(address) },
		};
		size_t count = 5;
		for (size_t k = 0; k < spec->labels.count; k++) {
			const struct spec_variable *v = &spec->labels.items[k];
			size_t at = 0;
			while (at < count && !str_eq_c(labels[at].name, v->name))
				at++;
			labels[at] = (struct label){ str_c(v->name), str_c(v->value) };
			count += at == count;
		}
		if (add_target(l, g, url, relabel, labels, count, e) != OK)
			return err_prepend(e, "target %s", address);
	}
	return OK;
}

static errc add_configured(struct looking *l, const struct spec_scrape *spec, struct err *e)
{
	struct scrape_group *g = group_new();
	struct relabel *relabel = NULL;
	uint64_t hash = 0;
	errc rc = group_of_spec(l, spec, g, e);
	if (rc == OK)
		rc = make_rules(l->scratch, spec->relabel, spec->relabel_count, &relabel, &hash, e);
	if (rc == OK)
		rc = add_static(l, spec, g, relabel, e);
	relabel_free(relabel);
	scrape_group_unref(g);
	return rc;
}

static bool is_of(const struct instance *i, const struct release *r)
{
	return i->release == r->number && strcmp(i->app, r->app) == 0 &&
	       strcmp(i->environment, r->environment) == 0;
}

static errc add_instances(struct looking *l, const struct spec_service *service, struct err *e)
{
	struct scrape_group *g = group_new();
	errc rc = OK;
	g->job = arena_printf(&g->arena, "%s/%s", l->release->app, service->name);
	group_seal(g, 0);
	for (size_t i = 0; i < l->instance_count && rc == OK; i++) {
		const struct instance *at = &l->instances[i];
		char address[32], release[32], url[64];
		if (!is_of(at, l->release) || strcmp(at->service, service->name) != 0 ||
		    at->desired != INSTANCE_RUNNING)
			continue;
		snprintf(address, sizeof(address), "127.0.0.1:%d", at->port);
		snprintf(release, sizeof(release), "%lld", (long long)at->release);
		snprintf(url, sizeof(url), "http://%s/metrics", address);
		struct label labels[LABEL_ROOM] = {
			{ STR("job"), str_c(g->job) },
			{ STR("instance"), str_c(address) },
			{ STR("app"), str_c(at->app) },
			{ STR("environment"), str_c(at->environment) },
			{ STR("service"), str_c(at->service) },
			{ STR("release"), str_c(release) },
		};
		rc = add_target(l, g, url, NULL, labels, 6, e);
	}
	scrape_group_unref(g);
	return rc;
}

static errc add_release(struct looking *l, struct err *e)
{
	const struct spec *spec = NULL;
	struct release whole;
	TRY(releases_get(l->scrape->context->catalog, l->release->app, l->release->environment,
			 l->release->number, l->scratch, &whole, e));
	TRY(spec_parse(l->scratch, str_c(whole.specification), "holdfast.yml", &spec, NULL, e));
	TRY(spec_environment_find(spec, l->release->environment, &l->environment, e));
	for (size_t i = 0; i < l->environment->service_count; i++)
		if (l->environment->services[i].prometheus)
			TRY(add_instances(l, &l->environment->services[i], e));
	if (l->release->state != RELEASE_CURRENT)
		return OK;
	for (size_t i = 0; i < l->environment->metrics.scrape_count; i++) {
		const struct spec_scrape *scrape = &l->environment->metrics.scrape[i];
		if (add_configured(l, scrape, e) != OK)
			return err_prepend(e, "metrics.scrape, job %s", scrape->job);
	}
	return OK;
}

static bool has_instances(const struct looking *l)
{
	for (size_t i = 0; i < l->instance_count; i++)
		if (is_of(&l->instances[i], l->release))
			return true;
	return false;
}

errc scrape_wanted_list(struct scrape *s, struct scrape_wanted *ret, struct err *e)
{
	struct arena listing CLEANUP(arena_done) = arena_init(LIST_BYTES_MAX);
	struct instance_filter all = { 0 };
	struct instance *instances = NULL;
	struct release *releases = NULL;
	size_t instance_count = 0, release_count = 0;
	TRY(instances_list(s->context->catalog, &all, &listing, &instances, &instance_count, e));
	TRY(releases_list(s->context->catalog, NULL, NULL, RELEASES_MAX, &listing, &releases,
			  &release_count, e));
	for (size_t i = 0; i < release_count; i++) {
		struct arena scratch CLEANUP(arena_done) = arena_init(SPEC_ARENA_BYTES);
		struct looking l = { .scrape = s,
				     .into = ret,
				     .scratch = &scratch,
				     .release = &releases[i],
				     .instances = instances,
				     .instance_count = instance_count };
		struct err why;
		if (releases[i].state != RELEASE_CURRENT && !has_instances(&l))
			continue;
		if (add_release(&l, &why) != OK)
			log_err(LOG_WARN, "not all metrics of a release are collected", &why);
	}
	return OK;
}
