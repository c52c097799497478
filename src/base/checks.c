#include "base/checks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Noreturn void must_failed(const char *cond, const char *file, int line, const char *func)
{
	fprintf(stderr,
		"level=fatal msg=\"broken invariant\" condition=\"%s\" at=%s:%d function=%s\n",
		cond, file, line, func);
	abort();
}

void *must_calloc(unsigned long count, unsigned long size)
{
	void *p = calloc(count ? count : 1, size ? size : 1);
	must(p != NULL);
	return p;
}

void *must_realloc(void *p, unsigned long size)
{
	p = realloc(p, size ? size : 1);
	must(p != NULL);
	return p;
}

char *must_strdup(const char *s)
{
	char *copy = strdup(s);
	must(copy != NULL);
	return copy;
}
