/* Datagrams, flushed after each. */
#include "intake/statsd.h"

#include "intake_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct intake_input *x = intake_input_get();
	struct statsd_options options = { .series_max = 100, .set_values_max = 100 };
	struct statsd *s = statsd_new(&options);
	struct intake_result result = { 0 };
	struct err e = { 0 };
	statsd_add(s, (str){ (const char *)bytes, len }, INTAKE_INPUT_NOW, &result);
	statsd_flush(s, x->batch, INTAKE_INPUT_NOW, &result);
	intake_input_drop(x, OK, &e, &result);
	statsd_free(s);
	return 0;
}
