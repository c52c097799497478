/*
 * A feature: one capability, in one folder of src/feature/. The daemon starts the features in the
 * order of the list in api/features.c and stops them in reverse.
 *
 * feature/x never includes feature/y: they meet in the catalog (what is desired, what is observed)
 * and on its bus.
 */
#pragma once

#include "artifact/artifact.h"
#include "catalog/catalog.h"
#include "net/http_server.h"
#include "os/process.h"

/* What every feature is given. Valid until: the last feature has stopped. */
struct feature_context {
	struct catalog *catalog;
	struct artifact_store *artifacts;
	struct signing *signing;
	struct executor *executor;   /* the worker pool: slow work that is not an operation */
	const char *data;            /* the data folder, absolute */
	const char *executable;      /* this program, for `holdfast shim` */
	struct process_user account; /* that instances, builds and hooks run as */
	const char *account_home;
	int64_t memory_bytes_total; /* of the machine */
	struct metrics *metrics;
	const struct promql_options *promql; /* what of PromQL is switched on */
	struct intake *intake;
	struct pushgateway *pushgateway;
};

/* What a feature knows in numbers. EXPOSE appends them as Prometheus text 0.0.4, any time between
 * start and stop, in a thread of the daemon; JOB is the label `job` that they are stored with. */
struct feature_exposition {
	const char *job;
	void (*expose)(void *state, struct buf *into);
};

struct feature {
	const char *name;
	/* ret_state: the feature's own; given to the other functions. */
	errc (*start)(const struct feature_context *context, void **ret_state, struct err *e);
	/* Stop threads; what must outlive the daemon (instances, proxy) goes on. Accepts NULL. */
	void (*stop)(void *state);
	const struct feature_exposition *expositions;
	size_t exposition_count;
};
