/*
 * build: carries out the operations `build`, one at a time: runs the declared steps on a copy of
 * the sources, validates what they made, and packs it into the artifact store. What did not change
 * is not built again; a step with inputs and outputs of its own is cached by itself.
 *
 * Shape: DATA/builds/work/<operation>/ while it runs, DATA/builds/steps/<key>/ cached outputs of
 *   steps, DATA/builds/compressed/ cached siblings, DATA/builds/home/ of the account (npm's cache).
 * Threads: a dispatcher; the steps are child processes, niced and capped.
 */
#pragma once

#include "feature/feature.h"

extern const struct feature build_feature;
