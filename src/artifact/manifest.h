/*
 * The manifest of an artifact: what it holds, and nothing about when, where or by whom it was made.
 *
 * Shape: canonical JSON, docs/format/artifact.md. The artifact's digest is the SHA-256 of exactly
 *   these bytes; there is one encoding of a given content.
 * Limits: 200,000 entries, 4 GiB of contents, paths of 1,024 bytes, 64 levels; 128 MiB as text.
 */
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "codec/digest.h"

enum {
	MANIFEST_ENTRY_COUNT_MAX = 200000,
	MANIFEST_PATH_MAX = 1024,
	MANIFEST_DEPTH_MAX = 64,
	MANIFEST_TEXT_MAX = 128 * 1024 * 1024,
	MANIFEST_APPLICATION_MAX = 63,
};
#define MANIFEST_BYTES_MAX ((uint64_t)4 << 30)

enum manifest_type { MANIFEST_FILE, MANIFEST_FOLDER, MANIFEST_LINK };

struct manifest_entry {
	str path; /* relative, `/` between names, UTF-8 without control characters */
	enum manifest_type type;
	bool executable;      /* files: mode 0755 rather than 0644 */
	uint64_t size;        /* files */
	struct digest sha256; /* files */
	str target;           /* links */
};

struct manifest {
	str application;
	bool has_sbom;
	struct digest sbom;
	const struct manifest_entry *entries; /* by path in byte order, each once */
	size_t entry_count;
	uint64_t file_count;
	uint64_t folder_count;
	uint64_t link_count;
	uint64_t byte_count;
};

/* Whether PATH may stand in a manifest; what is wrong with it in *RET_REASON otherwise. */
bool manifest_path_ok(str path, const char **ret_reason);
/* Whether a link at PATH to TARGET stays inside the artifact, whatever other links there are. */
bool manifest_link_ok(str path, str target, const char **ret_reason);
/* Every rule of the format: order, parents, totals, limits. Errors: ERR_INVALID naming the entry.
 */
WARN_UNUSED errc manifest_check(const struct manifest *m, struct err *e);

/* The canonical bytes appended to INTO. */
void manifest_write(const struct manifest *m, struct buf *into);
/* Errors: ERR_CORRUPT when TEXT is not the canonical encoding of a valid manifest. */
WARN_UNUSED errc manifest_parse(str text, struct arena *into, struct manifest *ret_manifest,
				struct err *e);
/* The entry at PATH, or NULL. */
const struct manifest_entry *manifest_find(const struct manifest *m, str path);
