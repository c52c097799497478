/*
 * release: the release machine. Carries out the operations `deploy` and `rollback` step by step,
 * each journaled before it begins, so that a daemon that dies at any point resumes or reverts when
 * it starts again; stops warm releases when their time is over; prunes.
 *
 * It writes what is desired into the catalog (instances.h, releases.h) and waits for what runtime
 * and traffic observe. docs/ARCHITECTURE.md has the state machine. Threads: a dispatcher, and one
 * for each operation at work.
 */
#pragma once

#include "feature/feature.h"

extern const struct feature release_feature;
