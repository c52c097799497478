/* What one option alone cannot say. */
#include <stdio.h>
#include <string.h>

#include "spec/spec_internal.h"

enum { WORDS_MAX = 256 };

static bool has(const struct yaml_node *mapping, const char *key)
{
	return yaml_find(mapping, key) >= 0;
}

/* The entries of the list KEY have a NAME_KEY of their own each. */
static void check_unique(struct spec_parser *p, const struct yaml_node *node, const char *key,
			 const char *name_key)
{
	const struct yaml_node *list = yaml_get(node, key);
	if (!list || list->kind != YAML_SEQUENCE || list->count > 64)
		return;
	for (size_t i = 1; i < list->count; i++) {
		const struct yaml_node *name = yaml_get(&list->items[i], name_key);
		for (size_t k = 0; name && name->kind == YAML_SCALAR && k < i; k++) {
			const struct yaml_node *other = yaml_get(&list->items[k], name_key);
			if (!other || other->kind != YAML_SCALAR ||
			    !str_eq(name->text, other->text))
				continue;
			size_t mark = spec_path_push(p, str_c(key));
			spec_path_push_index(p, i);
			spec_path_push(p, str_c(name_key));
			spec_error(p, name, "", "%s is already the %s of %s[%zu]",
				   spec_shown(p, name->text), name_key, key, k);
			spec_path_pop(p, mark);
			break;
		}
	}
}

void spec_check_budget(struct spec_parser *p, const struct yaml_node *node, void *target)
{
	(void)target;
	if (!has(node, "size_max") && !has(node, "gzip_max") && !has(node, "brotli_max"))
		spec_error(p, node, "give size_max, gzip_max or brotli_max", "has no limit");
}

static bool list_has(const struct spec_list *list, str name)
{
	for (size_t i = 0; i < list->count; i++)
		if (str_eq_c(name, list->items[i]))
			return true;
	return false;
}

/* A step can only see what the build as a whole sees. */
static void check_step_variables(struct spec_parser *p, const struct yaml_node *node,
				 const struct spec_build *build)
{
	const struct yaml_node *steps = yaml_get(node, "steps");
	for (size_t i = 0; steps && steps->kind == YAML_SEQUENCE && i < steps->count; i++) {
		const struct yaml_node *names = yaml_get(&steps->items[i], "variables");
		for (size_t k = 0; names && names->kind == YAML_SEQUENCE && k < names->count; k++) {
			const struct yaml_node *name = &names->items[k];
			if (name->kind != YAML_SCALAR || list_has(&build->variables, name->text))
				continue;
			size_t mark = spec_path_push(p, STR("steps"));
			spec_path_push_index(p, i);
			spec_path_push(p, STR("variables"));
			spec_path_push_index(p, k);
			spec_error(p, name, "list it in build.variables too",
				   "the build does not see %s", spec_shown(p, name->text));
			spec_path_pop(p, mark);
		}
	}
}

void spec_check_build(struct spec_parser *p, const struct yaml_node *node, void *target)
{
	struct spec_build *build = target;
	const struct yaml_node *precompress = yaml_get(node, "precompress");
	if (!precompress) {
		build->precompress = build->public_folder != NULL;
	} else if (build->precompress && !has(node, "public")) {
		size_t mark = spec_path_push(p, STR("precompress"));
		spec_error(p, precompress, "give the folder in `public`",
			   "there is no public folder to precompress");
		spec_path_pop(p, mark);
	}
	check_unique(p, node, "steps", "name");
	check_step_variables(p, node, build);
}

void spec_check_canary(struct spec_parser *p, const struct yaml_node *node, void *target)
{
	(void)p, (void)node;
	struct spec_canary *canary = target;
	if (canary->weight_percent == 0)
		*canary = (struct spec_canary){ 0 };
}

void spec_check_deploy(struct spec_parser *p, const struct yaml_node *node, void *target)
{
	(void)target;
	check_unique(p, node, "smoke", "name");
}

void spec_check_hook(struct spec_parser *p, const struct yaml_node *node, void *target)
{
	struct spec_hook *hook = target;
	hook->after = has(node, "after");
	if (hook->after == has(node, "before"))
		spec_error(p, node, "", "needs %s of before and after",
			   hook->after ? "only one" : "one");
}

/* ---- Metrics. */

void spec_check_metrics(struct spec_parser *p, const struct yaml_node *node, void *target)
{
	(void)target;
	check_unique(p, node, "scrape", "job");
}

void spec_check_scrape(struct spec_parser *p, const struct yaml_node *node, void *target)
{
	struct spec_scrape *scrape = target;
	if (scrape->timeout_ms > scrape->interval_ms && has(node, "timeout"))
		spec_error(p, yaml_get(node, "timeout"), "",
			   "the timeout is longer than the interval");
	else if (scrape->timeout_ms > scrape->interval_ms)
		scrape->timeout_ms = scrape->interval_ms;
	if (scrape->basic_password && !scrape->basic_user)
		spec_error(p, node, "give basic_user", "there is a basic_password without a user");
	if (scrape->basic_user && scrape->bearer_token)
		spec_error(p, node, "remove one of them",
			   "has both a basic_user and a bearer_token");
}

void spec_check_relabel(struct spec_parser *p, const struct yaml_node *node, void *target)
{
	static const char *const need_target[] = { "replace",   "hashmod",   "keepequal",
						   "dropequal", "lowercase", "uppercase" };
	struct spec_relabel *rule = target;
	if (!rule->action)
		return;
	for (size_t i = 0; i < ARRAY_COUNT(need_target); i++)
		if (strcmp(rule->action, need_target[i]) == 0 && !rule->target)
			spec_error(p, node, "", "the action %s needs a target_label", rule->action);
	if (strcmp(rule->action, "hashmod") == 0 && !rule->modulus)
		spec_error(p, node, "", "the action hashmod needs a modulus");
}

/* ---- Services. */

static void check_ready(struct spec_parser *p, const struct yaml_node *node,
			const struct spec_service *service)
{
	if (!service->traffic || service->ready || has(node, "ready"))
		return;
	size_t mark = spec_path_push(p, STR("ready"));
	spec_error(p, node, "give a path such as /readyz",
		   "is required, because the service takes the traffic");
	spec_path_pop(p, mark);
}

void spec_check_services(struct spec_parser *p, const struct yaml_node *node,
			 struct spec_service *services, size_t count)
{
	size_t taking = 0;
	for (size_t i = 0; i < count; i++) {
		struct spec_service *service = &services[i];
		const struct yaml_node *own = yaml_get(node, service->name);
		if (count == 1 && node->count == 1 && own->kind == YAML_MAPPING &&
		    !has(own, "traffic"))
			service->traffic = true;
		size_t mark = spec_path_push(p, str_c(service->name));
		taking += service->traffic;
		if (service->traffic && taking == 2) {
			spec_path_push(p, STR("traffic"));
			spec_error(p, yaml_get(own, "traffic"), "exactly one service can",
				   "another service takes the traffic too");
			spec_path_pop(p, mark);
			spec_path_push(p, str_c(service->name));
		}
		if (own->kind == YAML_MAPPING)
			check_ready(p, own, service);
		spec_path_pop(p, mark);
	}
	if (count && count == node->count && !taking)
		spec_error(p, node, "set traffic: true for the one that serves users",
			   "no service takes the traffic");
}

/* Overrides may move the traffic to another service, but to one. */
static void check_overridden(struct spec_parser *p, const struct yaml_node *overrides,
			     const struct spec_environment *environment)
{
	if (!overrides || overrides->kind != YAML_MAPPING)
		return;
	size_t taking = 0, mark = spec_path_push(p, STR("services"));
	bool moved = false;
	for (size_t i = 0; i < environment->service_count; i++) {
		const struct spec_service *service = &environment->services[i];
		const struct yaml_node *own = yaml_get(overrides, service->name);
		taking += service->traffic;
		if (!own || !has(own, "traffic"))
			continue;
		moved = true;
		size_t inner = spec_path_push(p, str_c(service->name));
		check_ready(p, own, service);
		spec_path_pop(p, inner);
	}
	if (moved && taking != 1)
		spec_error(p, overrides, "exactly one service can",
			   taking ? "%zu services take the traffic here"
				  : "no service takes the traffic here",
			   taking);
	spec_path_pop(p, mark);
}

/* ---- Environments. */

static bool listed(const struct spec_list *list, const char *name)
{
	for (size_t i = 0; i < list->count; i++)
		if (strcmp(list->items[i], name) == 0)
			return true;
	return false;
}

static void check_secrets(struct spec_parser *p, const struct yaml_node *node,
			  const struct spec_environment *environment)
{
	const struct yaml_node *secrets = yaml_get(node, "secrets");
	for (size_t i = 0; secrets && secrets->kind == YAML_SEQUENCE && i < secrets->count; i++) {
		const struct yaml_node *item = &secrets->items[i];
		if (item->kind != YAML_SCALAR)
			continue;
		size_t mark = spec_path_push(p, STR("secrets"));
		spec_path_push_index(p, i);
		if (str_eq_c(item->text, "PORT") || str_starts(item->text, STR("HOLDFAST_")))
			spec_error(p, item, "choose another name", "%s is set by Holdfast",
				   spec_shown(p, item->text));
		if (spec_variable_find(&environment->variables, item->text.ptr))
			spec_error(p, item, "remove it from one of them",
				   "%s is also in `variables`", spec_shown(p, item->text));
		for (size_t s = 0; s < environment->service_count; s++)
			if (spec_variable_find(&environment->services[s].variables, item->text.ptr))
				spec_error(p, item, "remove it from one of them",
					   "%s is also in `variables` of the service %s",
					   spec_shown(p, item->text),
					   environment->services[s].name);
		spec_path_pop(p, mark);
	}
}

static bool secrets_known(const struct yaml_node *node, const struct spec_environment *environment)
{
	const struct yaml_node *secrets = yaml_get(node, "secrets");
	return !secrets ||
	       (secrets->kind == YAML_SEQUENCE && secrets->count == environment->secrets.count);
}

static void check_webhooks(struct spec_parser *p, const struct yaml_node *root,
			   const struct yaml_node *node, const struct spec_environment *environment)
{
	const struct yaml_node *own = yaml_get(yaml_get(node, "deploy"), "webhooks");
	const struct yaml_node *list = own ? own : yaml_get(yaml_get(root, "deploy"), "webhooks");
	if (!list || list->kind != YAML_SEQUENCE || !secrets_known(node, environment) ||
	    list->count != environment->deploy.webhook_count)
		return;
	size_t whole = p->path_len;
	char path[sizeof(p->path)];
	memcpy(path, p->path, sizeof(path));
	if (!own)
		spec_path_pop(p, 0);
	for (size_t i = 0; i < list->count; i++) {
		const char *secret = environment->deploy.webhooks[i].secret;
		const struct yaml_node *at = yaml_get(&list->items[i], "secret");
		if (!secret || !at || listed(&environment->secrets, secret))
			continue;
		size_t mark = spec_path_push(p, STR("deploy"));
		spec_path_push(p, STR("webhooks"));
		spec_path_push_index(p, i);
		spec_path_push(p, STR("secret"));
		spec_error(p, at, spec_did_you_mean(p, at->text, environment->secrets.items),
			   "%s is not among the secrets of the environment %s",
			   spec_shown(p, at->text), environment->name);
		spec_path_pop(p, mark);
	}
	memcpy(p->path, path, sizeof(path));
	p->path_len = whole;
}

/* A scrape may name secrets of the environment only. */
static void check_scrape_secrets(struct spec_parser *p, const struct yaml_node *root,
				 const struct yaml_node *node,
				 const struct spec_environment *environment)
{
	const struct yaml_node *own = yaml_get(yaml_get(node, "metrics"), "scrape");
	const struct yaml_node *list = own ? own : yaml_get(yaml_get(root, "metrics"), "scrape");
	if (!list || list->kind != YAML_SEQUENCE || !secrets_known(node, environment) ||
	    list->count != environment->metrics.scrape_count)
		return;
	for (size_t i = 0; i < list->count; i++) {
		const struct spec_scrape *scrape = &environment->metrics.scrape[i];
		const char *const names[] = { scrape->basic_password, scrape->bearer_token };
		const char *const keys[] = { "basic_password", "bearer_token" };
		for (size_t k = 0; k < ARRAY_COUNT(names); k++) {
			const struct yaml_node *at = yaml_get(&list->items[i], keys[k]);
			if (!names[k] || !at || listed(&environment->secrets, names[k]))
				continue;
			spec_error(p, at,
				   spec_did_you_mean(p, at->text, environment->secrets.items),
				   "%s is not among the secrets of the environment %s",
				   spec_shown(p, at->text), environment->name);
		}
	}
}

static void check_listen(struct spec_parser *p, const struct yaml_node *environments,
			 const struct spec_environment *environment)
{
	const struct yaml_node *at = yaml_get(yaml_get(environments, environment->name), "listen");
	for (size_t i = 0; environment->listen_port && i < p->spec->environment_count; i++) {
		const struct spec_environment *other = &p->spec->environments[i];
		const struct yaml_node *its = yaml_get(yaml_get(environments, other->name),
						       "listen");
		bool later = its && (its->line < at->line ||
				     (its->line == at->line && its->column < at->column));
		if (!later || other->listen_port != environment->listen_port)
			continue;
		bool any = !other->listen_host[0] || !environment->listen_host[0];
		if (!any && strcmp(other->listen_host, environment->listen_host) != 0)
			continue;
		size_t mark = spec_path_push(p, STR("listen"));
		spec_error(p, at, "choose another port",
			   "%s is already taken by the environment %s", spec_shown(p, at->text),
			   other->name);
		spec_path_pop(p, mark);
		return;
	}
}

/* Names that the build asks for are of variables that some environment has. */
static void check_build_variables(struct spec_parser *p, const struct yaml_node *root)
{
	const struct yaml_node *list = yaml_get(yaml_get(root, "build"), "variables");
	const char *words[WORDS_MAX] = { NULL };
	size_t word_count = 0;
	for (size_t e = 0; e < p->spec->environment_count; e++) {
		const struct spec_variables *v = &p->spec->environments[e].variables;
		for (size_t i = 0; i < v->count && word_count + 1 < WORDS_MAX; i++)
			words[word_count++] = v->items[i].name;
	}
	for (size_t i = 0; list && list->kind == YAML_SEQUENCE && i < list->count; i++) {
		const struct yaml_node *item = &list->items[i];
		bool found = item->kind != YAML_SCALAR || p->spec->environment_count == 0;
		bool secret = false;
		for (size_t e = 0; !found && e < p->spec->environment_count; e++) {
			const struct spec_environment *environment = &p->spec->environments[e];
			found = spec_variable_find(&environment->variables, item->text.ptr);
			secret |= listed(&environment->secrets, item->text.ptr);
		}
		if (found)
			continue;
		size_t mark = spec_path_push(p, STR("build"));
		spec_path_push(p, STR("variables"));
		spec_path_push_index(p, i);
		if (secret)
			spec_error(p, item, "remove it",
				   "%s is a secret, and no secret reaches a build",
				   spec_shown(p, item->text));
		else
			spec_error(p, item, spec_did_you_mean(p, item->text, words),
				   "%s is a variable of no environment", spec_shown(p, item->text));
		spec_path_pop(p, mark);
	}
}

void spec_check_whole(struct spec_parser *p, const struct yaml_node *root)
{
	const struct yaml_node *environments = yaml_get(root, "environments");
	size_t mark = spec_path_push(p, STR("environments"));
	for (size_t i = 0; i < p->spec->environment_count; i++) {
		const struct spec_environment *environment = &p->spec->environments[i];
		const struct yaml_node *node = yaml_get(environments, environment->name);
		size_t inner = spec_path_push(p, str_c(environment->name));
		check_overridden(p, yaml_get(node, "services"), environment);
		check_secrets(p, node, environment);
		check_webhooks(p, root, node, environment);
		check_scrape_secrets(p, root, node, environment);
		check_listen(p, environments, environment);
		spec_path_pop(p, inner);
	}
	spec_path_pop(p, mark);
	check_build_variables(p, root);
}
