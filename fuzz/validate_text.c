/* Pages, styles and scripts of any bytes are examined to their end. The first byte says which. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "artifact/validate.h"
#include "base/checks.h"
#include "os/io.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static char root[64];

static void clean_up(void)
{
	must(io_remove_tree(root, NULL) == OK);
}

static void set_up(void)
{
	snprintf(root, sizeof(root), "/tmp/holdfast-fuzz-XXXXXX");
	must(mkdtemp(root) != NULL);
	atexit(clean_up);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	static const char *const endings[] = { "html", "css", "js" };
	const struct validate_secret secret = { STR("KEY"), STR("hunter2hunter2") };
	struct arena arena CLEANUP(arena_done) = arena_init(16 << 20);
	struct validate_options options = {
		.folder = root, .public_folder = ".", .secrets = &secret, .secret_count = 1
	};
	struct validate_result result;
	struct err e;
	char path[128];
	if (len == 0)
		return 0;
	if (!root[0])
		set_up();
	snprintf(path, sizeof(path), "%s/file.%s", root, endings[bytes[0] % 3]);
	FILE *file = fopen(path, "wb");
	must(file != NULL);
	must(fwrite(bytes + 1, 1, len - 1, file) == len - 1);
	must(fclose(file) == 0);
	errc rc = validate_build(&options, &arena, &result, &e);
	must(rc == OK || rc == ERR_LIMIT);
	must(unlink(path) == 0);
	for (size_t i = 0; rc == OK && i < result.finding_count; i++)
		must(str_find(result.findings[i].message, secret.value) < 0 ||
		     result.findings[i].rule == VALIDATE_MISSING_ASSET);
	return 0;
}
