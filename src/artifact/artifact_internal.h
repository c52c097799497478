/* What the files of the artifact store share. Used by artifact_*.c alone. */
#pragma once

#include <pthread.h>

#include "artifact/artifact.h"
#include "os/io.h"

struct artifact_store {
	char folder[IO_PATH_MAX];
	const struct signing *signing;
	int lock_fd; /* flock on the folder: shared while open, exclusive while cleaning */
	pthread_mutex_t commit_lock;   /* one change of the set of artifacts at a time */
	pthread_mutex_t unpacked_lock; /* of the unpacked copies; taken after commit_lock */
};

#define ARTIFACT_TAR ".tar.zst"
#define ARTIFACT_MANIFEST ".json"
#define ARTIFACT_SIGNATURE ".sig"
#define ARTIFACT_SBOM_FILE ".sbom.json"
#define ARTIFACT_PROVENANCE_FILE ".provenance.json"
#define ARTIFACT_PROVENANCE_SIGNATURE ".provenance.sig"
/* a folder: the contents, of which working copies are made; artifact_checkout.c */
#define ARTIFACT_UNPACKED ".unpacked"
/* of io_write_file(), and of folders; removed at open */
#define ARTIFACT_TEMPORARY ".tmp"
#define ARTIFACT_PARTIAL ".partial"

enum {
	ARTIFACT_DOCUMENT_MAX = 256 * 1024 * 1024,
	/* 200,000 entries with their strings, parsed */
	ARTIFACT_MANIFEST_ARENA_MAX = 512 * 1024 * 1024,
	ARTIFACT_TAR_BLOCK = 10240,
};

/* FOLDER/sha256-<hex>ENDING */
WARN_UNUSED errc artifact_path(const struct artifact_store *s, const struct digest *digest,
			       const char *ending, char path[IO_PATH_MAX], struct err *e);

/* Make E say ERR_CORRUPT and that artifact DIGEST is damaged; for `return`. */
errc artifact_corrupt(const struct digest *digest, struct err *e);

/* Sign BYTES as the KIND (`manifest`, `provenance`) of DIGEST. */
WARN_UNUSED errc artifact_sign(const struct artifact_store *s, const struct digest *digest,
			       const char *kind, str application, str bytes, struct buf *into,
			       struct err *e);
/* Check the signature file with ENDING over BYTES and that it speaks of KIND and DIGEST. */
WARN_UNUSED errc artifact_check_signature(const struct artifact_store *s,
					  const struct digest *digest, const char *kind,
					  const char *ending, str bytes, struct err *e);

bool artifact_exists(const struct artifact_store *s, const struct digest *digest);

/* Remove whatever files of DIGEST there are, the manifest first. */
WARN_UNUSED errc artifact_remove_files(struct artifact_store *s, const struct digest *digest,
				       struct err *e);

/* Compare the packed contents with M, file by file, and write them below ROOT unless it is NULL. */
WARN_UNUSED errc artifact_read_contents(struct artifact_store *s, const struct digest *digest,
					const struct manifest *m, const char *root, struct err *e);

/* As artifact_unpack(), of an artifact whose verified manifest is at hand. */
WARN_UNUSED errc artifact_unpack_manifest(struct artifact_store *s, const struct digest *digest,
					  const struct manifest *m, const char *destination,
					  struct err *e);

/* The selected entries of a folder, sorted as in a manifest; files have no digest yet. */
WARN_UNUSED errc artifact_select(const struct artifact_pack *pack, struct arena *into,
				 struct manifest *ret_manifest, struct err *e);
