/* The first byte says which version the rest is. Each body comes twice: of series that are not
 * known, then of known ones. */
#include "intake/remote_write.h"

#include "intake_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct intake_input *x = intake_input_get();
	if (!len)
		return 0;
	enum remote_write_version version = bytes[0] == '2' ? REMOTE_WRITE_2 : REMOTE_WRITE_1;
	struct intake_result results[2] = { 0 };
	for (int i = 0; i < 2; i++) {
		struct err e = { 0 };
		errc rc = intake_remote_write(x->in, x->batch,
					      (str){ (const char *)bytes + 1, len - 1 }, version,
					      &results[i], &e);
		intake_input_drop(x, rc, &e, &results[i]);
	}
	must(results[0].sample_count == results[1].sample_count || results[0].busy ||
	     results[1].busy);
	return 0;
}
