/* Path patterns: `*` and `?` within a name, `**` over folders, `[a-z]` classes, `{a,b}`
 * alternatives. */
#pragma once

#include "base/str.h"

/* Whether PATH (relative, `/` between names) matches PATTERN wholly. A pattern that names a folder
 * also matches everything below it. Cost: bounded; a pattern over 256 bytes matches nothing. */
bool glob_match(str pattern, str path);
