/* Opening: the manifest's parts, the log behind them; and one bit for each series id. */
#pragma once

#include "metrics/metrics_internal.h"

/* A bit for every id, all 0; address space that becomes memory where it is written to. */
uint64_t *bits_new(void);
/* Accepts NULL. */
void bits_free(uint64_t *bits);
