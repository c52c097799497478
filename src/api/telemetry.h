/*
 * telemetry: the engines of the daemon, what takes their data in, and the one thread that does
 * their due work: flushing, merging, retention, and exposing what was pushed.
 *
 * Used by: daemon.
 */
#pragma once

#include "feature/feature.h"

struct telemetry;

/* 0 takes the engine's default */
struct telemetry_options {
	int64_t memory_bytes_max;
	int64_t retention_ms;
	uint64_t series_count_max;
	bool sync_always;
	const char *statsd_listen; /* address for StatsD over UDP; NULL: none */
	const char *features; /* as in Prometheus's --enable-feature: words, with commas; or NULL */
};

/* Open what is below CONTEXT->data and set the telemetry members of CONTEXT. Owns: end with
 * telemetry_close(), after the server and the features. */
WARN_UNUSED errc telemetry_open(const struct telemetry_options *options,
				struct feature_context *context, struct telemetry **ret_telemetry,
				struct err *e);
/* Accepts NULL. */
void telemetry_close(struct telemetry *t);
