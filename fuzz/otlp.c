/* The first byte says the encoding: `{` begins JSON, `p` stands before protobuf. */
#include "intake/otlp.h"

#include "intake_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct intake_input *x = intake_input_get();
	struct intake_result result = { 0 };
	struct err e = { 0 };
	bool protobuf = len && bytes[0] == 'p';
	str body = { (const char *)bytes + protobuf, len - protobuf };
	errc rc = intake_otlp(x->in, x->batch, body, protobuf ? OTLP_PROTOBUF : OTLP_JSON, NULL,
			      &result, &e);
	intake_input_drop(x, rc, &e, &result);
	return 0;
}
