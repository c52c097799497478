/* PromQL: what is parsed is printed and parsed again to the same; what is refused says why. */
#include <stdint.h>

#include "base/checks.h"
#include "query/promql/promql_ast.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	static const struct promql_options everything = { .experimental_functions = true,
							  .extended_range_selectors = true,
							  .fill_modifiers = true };
	struct arena scratch = arena_init(64 << 20);
	struct buf once = buf_init(32 << 20), twice = buf_init(32 << 20), json = buf_init(64 << 20),
		   pretty = buf_init(64 << 20);
	struct promql_expr *expr = NULL, *again = NULL, *formatted = NULL;
	struct err e = { 0 };
	str text = { (const char *)bytes, len };
	if (promql_parse(text, &everything, &scratch, &expr, &e) == OK) {
		promql_print(&once, expr);
		must(promql_parse(buf_str(&once), &everything, &scratch, &again, &e) == OK);
		promql_print(&twice, again);
		must(str_eq(buf_str(&once), buf_str(&twice)));
		promql_format(&pretty, expr);
		must(promql_parse(buf_str(&pretty), &everything, &scratch, &formatted, &e) == OK);
		promql_print_json(&json, expr);
		must(buf_check(&json, "the tree", &e) == OK);
	} else {
		must(e.message[0]);
	}
	buf_done(&pretty);
	buf_done(&json);
	buf_done(&twice);
	buf_done(&once);
	arena_done(&scratch);
	return 0;
}
