/* Each body comes twice: of series that are not known, then of known ones. */
#include "intake/import_text.h"
#include "intake_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct intake_input *x = intake_input_get();
	str body = { (const char *)bytes, len };
	struct intake_result results[2] = { 0 };
	for (int i = 0; i < 2; i++) {
		struct err e = { 0 };
		errc rc = intake_influx(x->in, x->batch, body, NULL, &results[i], &e);
		intake_input_drop(x, rc, &e, &results[i]);
		must(rc == OK);
	}
	must(results[0].sample_count == results[1].sample_count || results[0].busy ||
	     results[1].busy);
	return 0;
}
