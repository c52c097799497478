#include "query/promql/promql_functions_table.h"

#include <assert.h>

#include "base/checks.h"

#define TYPE_OF(c)                         \
	((c) == 'S'   ? PROMQL_TYPE_SCALAR \
	 : (c) == 'M' ? PROMQL_TYPE_MATRIX \
	 : (c) == 'T' ? PROMQL_TYPE_STRING \
		      : PROMQL_TYPE_VECTOR)
/* The type at INDEX of a literal that may be shorter. */
#define ARG_TYPE(args, index) \
	TYPE_OF((args)[sizeof(args) - 1 > (index) ? (index) : sizeof(args) - 1])

/* Sorted by name, which is the order of the enumeration; a test sees to it. */
static const struct promql_function functions[] = {
#define X(fn, fn_name, args, fn_variadic, returns, fn_experimental)                      \
	[fn] = { .id = fn,                                                               \
		 .name = fn_name,                                                        \
		 .arg_types = { ARG_TYPE(args, 0), ARG_TYPE(args, 1), ARG_TYPE(args, 2), \
				ARG_TYPE(args, 3), ARG_TYPE(args, 4) },                  \
		 .arg_count = sizeof(args) - 1,                                          \
		 .variadic = fn_variadic,                                                \
		 .return_type = TYPE_OF(returns),                                        \
		 .experimental = fn_experimental },
	PROMQL_FUNCTIONS(X)
#undef X
};
static_assert(ARRAY_COUNT(functions) == PROMQL_FUNCTION_COUNT, "a row for every function");

const struct promql_function *promql_function_find(str name)
{
	size_t low = 0, high = ARRAY_COUNT(functions);
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = str_cmp(name, str_c(functions[middle].name));
		if (!order)
			return &functions[middle];
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

const struct promql_function *promql_function_of(enum promql_function_id id)
{
	must((size_t)id < ARRAY_COUNT(functions));
	return &functions[id];
}

const char *promql_type_name(enum promql_type type)
{
	static const char *const names[] = { "scalar", "vector", "matrix", "string" };
	must((size_t)type < ARRAY_COUNT(names));
	return names[type];
}

const char *promql_type_text(enum promql_type type)
{
	static const char *const texts[] = { "scalar", "instant vector", "range vector", "string" };
	must((size_t)type < ARRAY_COUNT(texts));
	return texts[type];
}
