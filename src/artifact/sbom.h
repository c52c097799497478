/*
 * Software bill of materials: CycloneDX 1.5 JSON from an npm lock file.
 *
 * Deterministic: the same lock file gives the same bytes. The serial number derives from the
 * contents, and there is no time in it.
 * Source: https://cyclonedx.org/docs/1.5/json/, package-lock.json of lockfileVersion 2 and 3,
 *   https://github.com/package-url/purl-spec (npm).
 * Limits: a lock file of 64 MiB, 50,000 packages.
 */
#pragma once

#include "base/arena.h"
#include "base/buf.h"

enum { SBOM_LOCK_FILE_MAX = 64 * 1024 * 1024, SBOM_PACKAGE_COUNT_MAX = 50000 };

/*
 * The bill for LOCK (the bytes of package-lock.json), appended to INTO.
 * Errors: ERR_INVALID when it is no lock file of version 2 or 3, ERR_LIMIT.
 */
WARN_UNUSED errc sbom_from_npm_lock(str lock, struct buf *into, struct err *e);
