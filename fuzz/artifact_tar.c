/* Whatever the packed contents are: they are the manifest's, or the artifact is corrupt. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "artifact/artifact.h"
#include "base/checks.h"
#include "os/io.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static char root[64], tar_path[256];
static struct signing *keys;
static struct artifact_store *store;
static struct artifact_packed packed;

static void clean_up(void)
{
	artifact_store_close(store);
	signing_close(keys);
	must(io_remove_tree(root, NULL) == OK);
}

static const char *in_root(const char *name)
{
	static char paths[4][128];
	static size_t next;
	char *path = paths[next++ % 4];
	snprintf(path, sizeof(paths[0]), "%s/%s", root, name);
	return path;
}

static void set_up(void)
{
	struct err e;
	struct provenance provenance = { .application = STR("shop") };
	char hex[DIGEST_HEX_SIZE];
	snprintf(root, sizeof(root), "/tmp/holdfast-fuzz-XXXXXX");
	must(mkdtemp(root) != NULL);
	atexit(clean_up);
	must(io_make_dirs(in_root("in/d"), 0755, &e) == OK);
	must(io_write_file(in_root("in/a"), STR("first\n"), 0644, &e) == OK);
	must(io_write_file(in_root("in/d/b"), STR("second\n"), 0755, &e) == OK);
	must(signing_open(in_root("keys"), &keys, &e) == OK);
	must(artifact_store_open(in_root("store"), keys, &store, &e) == OK);
	struct artifact_pack options = { .folder = in_root("in"),
					 .application = STR("shop"),
					 .provenance = &provenance };
	must(artifact_pack(store, &options, &packed, &e) == OK);
	snprintf(tar_path, sizeof(tar_path), "%s/store/sha256-%s.tar.zst", root,
		 digest_hex(&packed.digest, hex));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct err e;
	if (!store)
		set_up();
	FILE *file = fopen(tar_path, "wb");
	must(file != NULL);
	must(fwrite(bytes, 1, len, file) == len);
	must(fclose(file) == 0);
	errc rc = artifact_verify(store, &packed.digest, &e);
	must(rc == OK || rc == ERR_CORRUPT);
	return 0;
}
