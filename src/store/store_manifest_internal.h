/* The bytes of a manifest, for the one who writes it. */
#pragma once

#include "base/buf.h"
#include "store/part_internal.h"
#include "store/store_manifest.h"

WARN_UNUSED errc store_manifest_encode(const char *engine, uint64_t generation,
				       const struct store_manifest_content *content,
				       struct buf *into, struct err *e);
