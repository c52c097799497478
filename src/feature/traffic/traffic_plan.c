#include "feature/traffic/traffic_plan.h"

#include <stdlib.h>
#include <string.h>

#include "base/checks.h"

struct traffic_plan *traffic_plan_new(void)
{
	return must_calloc(1, sizeof(struct traffic_plan));
}

void traffic_plan_free(struct traffic_plan *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->environment_count; i++)
		free(p->environments[i]);
	free(p->environments);
	free(p);
}

void traffic_plan_done(struct traffic_plan **p)
{
	traffic_plan_free(*p);
	*p = NULL;
}

struct traffic_environment *traffic_plan_find(const struct traffic_plan *p, const char *name)
{
	for (size_t i = 0; i < p->environment_count; i++)
		if (!strcmp(p->environments[i]->name, name))
			return p->environments[i];
	return NULL;
}

struct traffic_environment *traffic_plan_add(struct traffic_plan *p, const char *name)
{
	if (p->environment_count == TRAFFIC_ENVIRONMENT_MAX)
		return NULL;
	p->environments = must_realloc(p->environments,
				       (p->environment_count + 1) * sizeof(*p->environments));
	size_t at = p->environment_count;
	while (at && strcmp(p->environments[at - 1]->name, name) > 0) {
		p->environments[at] = p->environments[at - 1];
		at--;
	}
	struct traffic_environment *env = must_calloc(1, sizeof(*env));
	must(str_copy(str_c(name), env->name, sizeof(env->name)));
	p->environments[at] = env;
	p->environment_count++;
	return env;
}

void traffic_plan_drop(struct traffic_plan *p, const char *name)
{
	for (size_t i = 0; i < p->environment_count; i++) {
		if (strcmp(p->environments[i]->name, name) != 0)
			continue;
		free(p->environments[i]);
		memmove(p->environments + i, p->environments + i + 1,
			(p->environment_count - i - 1) * sizeof(*p->environments));
		p->environment_count--;
		return;
	}
}

struct traffic_plan *traffic_plan_copy(const struct traffic_plan *p)
{
	struct traffic_plan *copy = traffic_plan_new();
	*copy = *p;
	copy->environments = must_calloc(p->environment_count + 1, sizeof(*copy->environments));
	for (size_t i = 0; i < p->environment_count; i++) {
		copy->environments[i] = must_calloc(1, sizeof(struct traffic_environment));
		*copy->environments[i] = *p->environments[i];
	}
	return copy;
}

int traffic_slot_find(const struct traffic_environment *env, const char *instance)
{
	for (int i = 0; i < env->slot_count; i++)
		if (!strcmp(env->slots[i].instance, instance))
			return i;
	return -1;
}

void traffic_slot_weights(const struct traffic_slot *slot, int *ret_active, int *ret_backup)
{
	bool used = slot->instance[0] != '\0';
	*ret_active = used && slot->traffic == TRAFFIC_ACTIVE ? slot->weight : 0;
	*ret_backup = used && slot->traffic == TRAFFIC_BACKUP ? 100 : 0;
}

bool traffic_environment_differs(const struct traffic_environment *a,
				 const struct traffic_environment *b)
{
	if (a->bind_count != b->bind_count || a->slot_count != b->slot_count ||
	    a->retry_idempotent_posts != b->retry_idempotent_posts ||
	    a->ready_interval_ms != b->ready_interval_ms || a->check != b->check)
		return true;
	for (size_t i = 0; i < a->bind_count; i++)
		if (strcmp(a->binds[i].listen, b->binds[i].listen) != 0 ||
		    strcmp(a->binds[i].tls_certificate, b->binds[i].tls_certificate) != 0)
			return true;
	return false;
}

void traffic_environment_revert(struct traffic_environment *to,
				const struct traffic_environment *from)
{
	if (!from) {
		to->bind_count = 0;
		return;
	}
	memcpy(to->binds, from->binds, sizeof(to->binds));
	to->bind_count = from->bind_count;
	to->retry_idempotent_posts = from->retry_idempotent_posts;
	to->ready_interval_ms = from->ready_interval_ms;
	to->check = from->check;
	for (int i = from->slot_count; i < to->slot_count; i++)
		memset(&to->slots[i], 0, sizeof(to->slots[i]));
	to->slot_count = from->slot_count;
}

void traffic_environment_blame(struct traffic_environment *env, const char *problem, int64_t now_ms)
{
	str text = { problem, strnlen(problem, sizeof(env->problem) - 1) };
	(void)str_copy(text, env->problem, sizeof(env->problem));
	env->problem_ms = now_ms;
}
