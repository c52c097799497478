/* "Did you mean": the known word nearest to a mistyped one. */
#pragma once

#include "base/str.h"

/* The word of WORDS nearest to TYPED by edits (transpositions count one), or NULL when none is near
 * enough to be meant. Cost: words longer than 64 bytes are skipped. */
const char *suggest(str typed, const char *const *words, size_t word_count);
