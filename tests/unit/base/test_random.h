/* Seeded numbers for randomized tests: a failing case comes back in every run. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct test_random {
	uint64_t state;
};

/* splitmix64 */
static inline uint64_t test_random_u64(struct test_random *r)
{
	uint64_t z = (r->state += 0x9e3779b97f4a7c15u);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static inline size_t test_random_below(struct test_random *r, size_t below)
{
	return (size_t)(test_random_u64(r) % below);
}

/* LEN characters of ALPHABET and a NUL. */
static inline void test_random_text(struct test_random *r, const char *alphabet,
				    size_t alphabet_len, char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		text[i] = alphabet[test_random_below(r, alphabet_len)];
	text[len] = '\0';
}
