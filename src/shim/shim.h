/*
 * shim: one small process per application instance that holds its pipes, exit status and restarts,
 * and outlives the daemon. `holdfast shim` is never typed by a person; shim_start() runs it.
 *
 * Layers: may use base, os, codec; feature/runtime and main use it.
 */
#pragma once

/* `holdfast shim`: reads its specification (see shim_client.h) from standard input, detaches and
 * writes `{"pid":…}` or `{"error":…}` as one line once the control socket listens. */
int shim_main(int argc, char **argv);
