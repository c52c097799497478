#include "spec/spec.h"

#include <stdlib.h>
#include <string.h>

#include "base/suggest.h"
#include "spec/spec_internal.h"

/* Of the tree of YAML, which is gone when the structs are made. */
enum { SCRATCH_BYTES_MAX = 64 * 1024 * 1024 };

static errc read_text(struct spec_parser *p, struct arena *scratch, str text, struct err *e)
{
	const struct yaml_node *root = NULL;
	struct yaml_problem problem = { 0 };
	errc rc = yaml_parse(scratch, text, p->file, &root, &problem, e);
	if (rc != OK) {
		spec_problem_add(p, false, problem.line, problem.column, "", problem.message);
		return rc;
	}
	if (yaml_is_null(root)) {
		spec_problem_add(p, false, 1, 1, "begin with `app: NAME`", "the file is empty");
		return OK;
	}
	spec_set_defaults(&spec_root_group, p->spec);
	spec_parse_group(p, &spec_root_group, root, p->spec, false);
	spec_check_whole(p, root);
	return OK;
}

errc spec_parse(struct arena *config, str text, const char *file, const struct spec **ret_spec,
		struct spec_problems *ret_problems, struct err *e)
{
	struct spec_problems *problems = must_calloc(1, sizeof(*problems));
	struct arena scratch = arena_init(SCRATCH_BYTES_MAX);
	struct spec_parser p = {
		.config = config,
		.file = arena_cstr(config, str_c(file)),
		.problems = problems,
		.spec = arena_alloc(config, sizeof(*p.spec)),
	};
	problems->file = p.file ? p.file : "";
	errc rc = arena_check(config, "the specification", e);
	if (rc == OK)
		rc = read_text(&p, &scratch, text, e);
	/* what did not fit shows as missing values, so this comes first */
	if (rc == OK)
		rc = arena_check(config, "the specification", e);
	spec_problems_sort(problems);
	if (rc == OK && p.failed)
		rc = spec_problems_fail(problems, e);
	if (rc == OK)
		*ret_spec = p.spec;
	if (ret_problems)
		*ret_problems = *problems;
	arena_done(&scratch);
	free(problems);
	return rc;
}

errc spec_environment_find(const struct spec *spec, const char *name,
			   const struct spec_environment **ret_environment, struct err *e)
{
	const char *words[SPEC_ENVIRONMENT_COUNT_MAX] = { NULL };
	struct buf all = buf_init(1024);
	for (size_t i = 0; i < spec->environment_count; i++) {
		const struct spec_environment *environment = &spec->environments[i];
		if (strcmp(environment->name, name) == 0) {
			*ret_environment = environment;
			buf_done(&all);
			return OK;
		}
		words[i] = environment->name;
		buf_printf(&all, "%s%s", i ? ", " : "", environment->name);
	}
	const char *near = suggest(str_c(name), words, spec->environment_count);
	errc rc = near ? err_fill(e, ERR_NOT_FOUND, 0, __FILE__, __LINE__,
				  "%s has no environment \"%.60s\"; did you mean %s?", spec->app,
				  name, near)
		       : err_fill(e, ERR_NOT_FOUND, 0, __FILE__, __LINE__,
				  "%s has no environment \"%.60s\"; it has %s", spec->app, name,
				  buf_cstr(&all));
	buf_done(&all);
	return rc;
}

const struct spec_service *spec_service_find(const struct spec_environment *environment,
					     const char *name)
{
	for (size_t i = 0; i < environment->service_count; i++)
		if (strcmp(environment->services[i].name, name) == 0)
			return &environment->services[i];
	return NULL;
}

const struct spec_service *spec_traffic_service(const struct spec_environment *environment)
{
	const struct spec_service *found = NULL;
	for (size_t i = 0; !found && i < environment->service_count; i++)
		if (environment->services[i].traffic)
			found = &environment->services[i];
	must(found != NULL);
	return found;
}

const char *spec_variable_find(const struct spec_variables *variables, const char *name)
{
	size_t low = 0, high = variables->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(variables->items[middle].name, name);
		if (order == 0)
			return variables->items[middle].value;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

const char *spec_phase_name(enum spec_phase phase)
{
	must(phase < SPEC_PHASE_COUNT);
	return spec_phase_words[phase];
}

const char *spec_signal_name(int signal)
{
	for (size_t i = 0; i < spec_signal_count; i++)
		if (spec_signals[i].number == signal)
			return spec_signals[i].name;
	return NULL;
}
