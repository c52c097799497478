#include "codec/vector.h"

#include <stdlib.h>

#include "base/checks.h"
#include "codec/vector_internal.h"

struct vector_scratch *vector_scratch_new(void)
{
	return must_calloc(1, sizeof(struct vector_scratch));
}

void vector_scratch_free(struct vector_scratch *scratch)
{
	free(scratch);
}
