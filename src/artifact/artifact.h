/*
 * The artifact store: folders packed into tar + zstd, addressed by content and signed.
 *
 * Used by: the features build, release and backup. Uses: base, os, codec.
 * Shape: FOLDER/sha256-<hex> with the endings .tar.zst (contents), .json (manifest, whose SHA-256
 *   is the name), .sig (minisign signature of the manifest), .sbom.json, .provenance.json and
 *   .provenance.sig; docs/format/artifact.md. The manifest is written last and removed first: an
 *   artifact exists exactly when its manifest does. The folder .unpacked is a cache.
 * Limits: those of manifest.h.
 * Durable: artifact_pack() when OK. What an interrupted one left is removed
 * at the next open that finds nobody else using the store. Threads: any.
 */
#pragma once

#include "artifact/manifest.h"
#include "artifact/provenance.h"
#include "artifact/signing.h"
#include "codec/digest.h"

struct artifact_store;

/* SIGNING outlives the store. Creates FOLDER (0700) when missing. Owns: artifact_store_close(). */
WARN_UNUSED errc artifact_store_open(const char *folder, const struct signing *signing,
				     struct artifact_store **ret_store, struct err *e);
void artifact_store_close(struct artifact_store *s);

struct artifact_pack {
	const char *folder;
	const str *include; /* globs (base/glob.h) of what goes in; none: everything */
	size_t include_count;
	const str *exclude; /* globs of what stays out nevertheless */
	size_t exclude_count;
	str application;
	str sbom;                            /* CycloneDX JSON; empty: none */
	const struct provenance *provenance; /* never NULL */
	bool (*cancelled)(void *ctx);        /* asked before every file; may be NULL */
	void *cancelled_ctx;
};

struct artifact_packed {
	struct digest digest;
	bool existed; /* the same content was there already, and whole; its provenance is kept */
	uint64_t file_count;
	uint64_t byte_count;
	uint64_t packed_byte_count;
};

/*
 * Pack what is selected of a folder into the store. Hard links become files, empty folders are kept
 * when selected.
 * Errors: ERR_INVALID naming the path for sockets, devices, links that leave the folder, and names
 * that are not UTF-8; ERR_CONFLICT when a file changes meanwhile; ERR_LIMIT; ERR_CANCELLED.
 */
WARN_UNUSED errc artifact_pack(struct artifact_store *s, const struct artifact_pack *pack,
			       struct artifact_packed *ret_packed, struct err *e);

/*
 * Verify and unpack into DESTINATION, which must not exist; it appears whole or not at all (through
 * DESTINATION.partial, which is replaced when it exists), but is not synced to the disk.
 * Errors: ERR_NOT_FOUND, ERR_CONFLICT when DESTINATION exists, ERR_CORRUPT naming the file.
 */
WARN_UNUSED errc artifact_unpack(struct artifact_store *s, const struct digest *digest,
				 const char *destination, struct err *e);

enum { CHECKOUT_START_MAX = 64 };

struct artifact_checkout {
	const struct digest *artifact;
	const char *destination;
	const char *start; /* names this start of the machine: clock_boot_id() */
	/* Hard links. Only where nobody who may write the copy's files owns them: all copies share
	 * them. Without it they are clones where the file system has them, else copies. */
	bool link;
	/* Files below this folder of another artifact that ARTIFACT lacks are added; NULL: none. */
	const struct digest *carried;
	str carried_folder;
};

/*
 * Make DESTINATION a working copy of an artifact, unless it is one that was made since the last
 * start of the machine: verified, whole or not at all, in place of whatever is there. The artifact
 * is unpacked once for all of its working copies. *ret_repaired: files of that unpacked copy had
 * changed, which was noticed, and it was unpacked again.
 * Durable: not; after a power cut the next call makes it again. Errors: as artifact_unpack().
 */
WARN_UNUSED errc artifact_checkout(struct artifact_store *s, const struct artifact_checkout *how,
				   bool *ret_repaired, struct err *e);
/* Remove a working copy; OK when there is none. */
WARN_UNUSED errc artifact_checkout_remove(const char *destination, struct err *e);
/* Free the unpacked copy of an artifact that no working copy is of any more; the next checkout
 * makes it again. */
WARN_UNUSED errc artifact_forget_unpacked(struct artifact_store *s, const struct digest *digest,
					  struct err *e);

/* As artifact_unpack() without writing: signatures, digests of the files, SBOM, provenance. */
WARN_UNUSED errc artifact_verify(struct artifact_store *s, const struct digest *digest,
				 struct err *e);

/* The manifest, its digest and signature verified. */
WARN_UNUSED errc artifact_manifest(struct artifact_store *s, const struct digest *digest,
				   struct arena *into, struct manifest *ret_manifest,
				   struct err *e);

enum artifact_document { ARTIFACT_SBOM, ARTIFACT_PROVENANCE };

/* One of its documents, verified, appended to INTO. Errors: ERR_NOT_FOUND when it has none. */
WARN_UNUSED errc artifact_document(struct artifact_store *s, const struct digest *digest,
				   enum artifact_document which, struct buf *into, struct err *e);

struct artifact_info {
	struct digest digest;
	uint64_t packed_byte_count;
	time_ms stored_at;
};

/* Every artifact, latest first; nothing is verified. */
WARN_UNUSED errc artifact_list(struct artifact_store *s, struct arena *into,
			       struct artifact_info **ret_infos, size_t *ret_count, struct err *e);

/*
 * The artifact meant by TEXT: `sha256:` and at least 8 digits, or those digits alone.
 * Errors: ERR_INVALID, ERR_NOT_FOUND, ERR_CONFLICT when several begin so.
 */
WARN_UNUSED errc artifact_find(struct artifact_store *s, str text, struct digest *ret_digest,
			       struct err *e);

/* Remove it with its documents; OK when there is none. Durable: when OK. */
WARN_UNUSED errc artifact_remove(struct artifact_store *s, const struct digest *digest,
				 struct err *e);
