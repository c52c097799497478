/* The digest of a file. */
#pragma once

#include "codec/digest.h"

/* Of a regular file's bytes; a symbolic link is refused. */
WARN_UNUSED errc digest_of_file(const char *path, struct digest *ret_digest, uint64_t *ret_size,
				struct err *e);
