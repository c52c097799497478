/* The list of features, in the order they start. */
#pragma once

#include "feature/feature.h"

extern const struct feature *const feature_list[];
extern const size_t feature_count;
