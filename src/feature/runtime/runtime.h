/*
 * runtime: makes the processes what the catalog desires. Each instance runs under a `holdfast
 * shim`, which outlives the daemon; a starting daemon finds its shims again by their sockets.
 *
 * Reads `desired`, `restart_generation` and `drain_signalled` of instances.h; reports their state.
 * Threads: one of its own; slow starts go to the worker pool.
 */
#pragma once

#include "feature/feature.h"

extern const struct feature runtime_feature;
