/* A line with the path, then the body, pushed twice and exposed. */
#include "intake/pushgateway.h"

#include "intake_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct intake_input *x = intake_input_get();
	struct pushgateway *g = pushgateway_new();
	struct intake_result result = { 0 };
	struct err e = { 0 };
	str body = { (const char *)bytes, len }, path = STR("");
	(void)str_split(&body, '\n', &path);
	for (int i = 0; i < 2; i++) {
		errc rc = pushgateway_push(g, i ? PUSHGATEWAY_POST : PUSHGATEWAY_PUT, path,
					   SCRAPE_TEXT, body, INTAKE_INPUT_NOW, &e);
		must(rc == OK || e.message[0]);
	}
	errc rc = pushgateway_expose(g, x->batch, INTAKE_INPUT_NOW, &result, &e);
	intake_input_drop(x, rc, &e, &result);
	pushgateway_free(g);
	return 0;
}
