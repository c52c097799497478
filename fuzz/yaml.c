/* YAML in: no text crashes it, and every refusal says where. */
#include <stdint.h>

#include "base/checks.h"
#include "codec/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void visit(const struct yaml_node *node, unsigned depth)
{
	must(depth <= YAML_DEPTH_MAX + 1 && node->line >= 1 && node->column >= 1);
	for (size_t i = 0; i < node->count; i++) {
		visit(&node->items[i], depth + 1);
		if (node->kind == YAML_MAPPING)
			must(yaml_find(node, node->keys[i].text.ptr) == (ptrdiff_t)i);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct arena scratch = arena_init(64 << 20);
	const struct yaml_node *root = NULL;
	struct yaml_problem problem = { 0 };
	struct err e = { 0 };
	errc rc = yaml_parse(&scratch, (str){ (const char *)bytes, len }, "x", &root, &problem, &e);
	if (rc == OK)
		visit(root, 0);
	else
		must(e.message[0] && problem.message && problem.message[0]);
	arena_done(&scratch);
	return 0;
}
