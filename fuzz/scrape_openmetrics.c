#include "scrape_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	str body = { (const char *)bytes, len };
	scrape_input_run(SCRAPE_OPENMETRICS, body, false);
	return scrape_input_run(SCRAPE_OPENMETRICS, body, true);
}
