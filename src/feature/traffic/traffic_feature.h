/* traffic in the list of features. */
#pragma once

#include "feature/feature.h"

extern const struct feature traffic_feature;
