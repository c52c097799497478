#include "base/suggest.h"

#include <string.h>

enum { WORD_MAX = 64 };

static size_t min3(size_t a, size_t b, size_t c)
{
	size_t m = a < b ? a : b;
	return m < c ? m : c;
}

/* Optimal string alignment distance over three rolling rows. */
static size_t distance(str a, str b)
{
	size_t rows[3][WORD_MAX + 1];
	size_t *before = rows[0], *last = rows[1], *row = rows[2];
	for (size_t j = 0; j <= b.len; j++)
		last[j] = j;
	for (size_t i = 1; i <= a.len; i++) {
		row[0] = i;
		for (size_t j = 1; j <= b.len; j++) {
			size_t differs = a.ptr[i - 1] != b.ptr[j - 1];
			row[j] = min3(last[j] + 1, row[j - 1] + 1, last[j - 1] + differs);
			if (i > 1 && j > 1 && a.ptr[i - 1] == b.ptr[j - 2] &&
			    a.ptr[i - 2] == b.ptr[j - 1] && before[j - 2] + 1 < row[j])
				row[j] = before[j - 2] + 1;
		}
		size_t *spare = before;
		before = last;
		last = row;
		row = spare;
	}
	return last[b.len];
}

const char *suggest(str typed, const char *const *words, size_t word_count)
{
	const char *best = NULL;
	if (typed.len == 0 || typed.len > WORD_MAX)
		return NULL;
	size_t best_distance = typed.len / 3 + 2;
	for (size_t i = 0; i < word_count; i++) {
		str word = str_c(words[i]);
		if (word.len > WORD_MAX)
			continue;
		size_t d = distance(typed, word);
		/* more than half of the word wrong is another word */
		if (d < best_distance && d * 2 <= word.len) {
			best_distance = d;
			best = words[i];
		}
	}
	return best;
}
