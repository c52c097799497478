/* The file of what was pushed, as it is and with its checksum set right: refused, or loaded,
 * exposed, saved and loaded again. */
#include <string.h>

#include "codec/crc32c.h"
#include "intake/pushgateway.h"

#include "intake_input.h"

static void save_again(struct pushgateway *g, const char *path)
{
	struct pushgateway *again = pushgateway_new();
	struct buf lists[2] = { buf_init(16 << 20), buf_init(16 << 20) };
	struct err e = { 0 };
	must(pushgateway_save(g, path, &e) == OK);
	must(pushgateway_load(again, path, &e) == OK);
	pushgateway_print(g, &lists[0]);
	pushgateway_print(again, &lists[1]);
	must(str_eq(buf_str(&lists[0]), buf_str(&lists[1])));
	buf_done(&lists[0]);
	buf_done(&lists[1]);
	pushgateway_free(again);
}

static void load(struct intake_input *x, str file)
{
	struct pushgateway *g = pushgateway_new();
	struct intake_result result = { 0 };
	struct err e = { 0 };
	char path[sizeof(x->folder) + 16];
	snprintf(path, sizeof(path), "%s/pushed", x->folder);
	must(io_write_file(path, file, 0600, &e) == OK);
	errc rc = pushgateway_load(g, path, &e);
	must(rc == OK || e.message[0]);
	if (rc == OK) {
		rc = pushgateway_expose(g, x->batch, INTAKE_INPUT_NOW, &result, &e);
		intake_input_drop(x, rc, &e, &result);
		save_again(g, path);
	}
	pushgateway_free(g);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct intake_input *x = intake_input_get();
	uint32_t sum;
	load(x, (str){ (const char *)bytes, len });
	if (len < sizeof(sum))
		return 0;
	char *copy = must_realloc(NULL, len);
	memcpy(copy, bytes, len);
	sum = crc32c(0, (str){ copy, len - sizeof(sum) });
	memcpy(copy + len - sizeof(sum), &sum, sizeof(sum));
	load(x, (str){ copy, len });
	free(copy);
	return 0;
}
