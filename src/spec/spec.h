/*
 * spec: an application's specification, `holdfast.yml`.
 *
 * Used by: features, api, cli. Uses: base, os, codec.
 * Shape: one table of options (spec_options.c) yields the parser, the defaults, the JSON Schema and
 *   docs/reference/holdfast-yml.md. The overrides of an environment are merged: what is read here
 *   is what holds. In an override a map of variables or headers is merged by name, every other
 *   value replaces the whole one.
 * Units: the last word of a name: _ms, _bytes_max, _percent.
 * Limits: those of codec/yaml.h for the file; a count_max for every list and map, in the table.
 * Threads: any; the result is never changed. Valid until: arena_done() of the arena it was parsed
 *   into. Every string ends in NUL.
 */
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "codec/json.h"

enum {
	SPEC_BYTES_MAX = 1024 * 1024,
	SPEC_NAME_BYTES_MAX = 40,
	SPEC_ENVIRONMENT_COUNT_MAX = 16,
	SPEC_PROBLEM_COUNT_MAX = 50,
	SPEC_ARENA_BYTES = 64 * 1024 * 1024, /* a cap that suffices for every file within limits */
};

/* Strings; items[count] is NULL, so that it serves as an argv. items is never NULL. */
struct spec_list {
	const char *const *items;
	size_t count;
};

struct spec_variable {
	const char *name;
	const char *value;
};

/* Sorted by name (byte order; headers in lower case). */
struct spec_variables {
	const struct spec_variable *items;
	size_t count;
};

struct spec_step {
	const char *name;
	const char *run;            /* for `sh -c` */
	struct spec_list inputs;    /* globs; none: all inputs of the build */
	struct spec_list outputs;   /* with inputs and outputs the step is cached by itself */
	struct spec_list variables; /* of build.variables: all that a step cached by itself sees */
};

struct spec_budget {
	const char *files;      /* glob */
	int64_t size_bytes_max; /* of the sum of the files; 0: no limit, in all three */
	int64_t gzip_bytes_max;
	int64_t brotli_bytes_max;
};

struct spec_build {
	struct spec_list tools;
	struct spec_list exclude;   /* globs, besides node_modules, dist and .git */
	struct spec_list variables; /* names of variables of the environment */
	int64_t memory_bytes_max;
	int64_t timeout_ms;
	const struct spec_step *steps;
	size_t step_count;
	struct spec_list include;  /* globs; none: everything */
	const char *public_folder; /* NULL: none */
	bool precompress;          /* false without a public folder */
	const struct spec_budget *budgets;
	size_t budget_count;
	struct spec_list allow;    /* globs of public files that are not validated */
	struct spec_list external; /* globs of URL paths that exist only at run time */
};

struct spec_service {
	const char *name;
	struct spec_list command; /* argv; {"/bin/sh", "-c", text} when it was given as text */
	int64_t instances;
	bool traffic;
	const char *ready; /* path with a leading `/`; NULL: a started process counts as ready */
	int64_t ready_timeout_ms;
	int64_t ready_interval_ms;
	int stop_signal;
	int64_t stop_timeout_ms;
	int drain_signal;         /* 0: none */
	int64_t memory_bytes_max; /* 0: none */
	int64_t restart_backoff_ms_max;
	bool prometheus;
	const char *user;                /* NULL: the daemon's application account */
	struct spec_variables variables; /* over those of the environment */
};

struct spec_smoke {
	const char *name;
	const char *method;
	const char *path; /* with the query */
	struct spec_variables headers;
	const char *body; /* NULL: none */
	int status;
	const char *contains; /* NULL: not checked */
	struct spec_variables header_contains;
	int64_t timeout_ms;
	int64_t attempts;
};

struct spec_canary {
	bool enabled;
	int64_t weight_percent;
	int64_t time_ms;
};

enum spec_phase {
	SPEC_PHASE_BUILD,
	SPEC_PHASE_START,
	SPEC_PHASE_READY,
	SPEC_PHASE_SMOKE,
	SPEC_PHASE_CANARY,
	SPEC_PHASE_SWITCH,
	SPEC_PHASE_DRAIN,
	SPEC_PHASE_FINISH,
	SPEC_PHASE_COUNT
};

struct spec_hook {
	bool after; /* false: before */
	enum spec_phase phase;
	const char *run; /* for `sh -c` */
	int64_t timeout_ms;
};

enum spec_event {
	SPEC_EVENT_START = 1,
	SPEC_EVENT_SUCCESS = 2,
	SPEC_EVENT_FAILURE = 4,
};

struct spec_webhook {
	const char *url;
	const char *secret; /* name of a secret of the environment that signs; NULL: unsigned */
	unsigned events;    /* of enum spec_event */
};

struct spec_deploy {
	const struct spec_smoke *smoke;
	size_t smoke_count;
	struct spec_canary canary;
	int64_t watch_ms;
	int64_t drain_timeout_ms;
	int64_t websocket_grace_ms;
	int64_t close_spread_ms;
	int64_t keep_warm_ms;
	int64_t retain;
	bool retry_idempotent_posts;
	const struct spec_hook *hooks;
	size_t hook_count;
	const struct spec_webhook *webhooks;
	size_t webhook_count;
};

/* How labels are changed; the rules run in order, as Prometheus's do. */
struct spec_relabel {
	struct spec_list source; /* labels whose values are joined */
	const char *separator;
	const char *regex;  /* anchored at both ends */
	const char *target; /* NULL: none */
	const char *replacement;
	const char *action; /* of relabel.h: `replace`, `keep`, … */
	int64_t modulus;
};

struct spec_scrape {
	const char *job;
	struct spec_list targets; /* URLs */
	int64_t interval_ms, timeout_ms;
	struct spec_variables labels; /* of every series */
	bool honor_labels, honor_timestamps, classic_histograms;
	const char *basic_user;     /* NULL: none */
	const char *basic_password; /* name of a secret of the environment; NULL: none */
	const char *bearer_token;   /* the same */
	const char *tls_ca;         /* absolute path; NULL: the system's */
	bool tls_insecure;          /* certificates are not verified */
	int64_t sample_limit, body_bytes_max;
	const struct spec_relabel *relabel; /* of the target's labels */
	size_t relabel_count;
	const struct spec_relabel *metric_relabel; /* of each series' */
	size_t metric_relabel_count;
};

struct spec_metrics {
	const struct spec_scrape *scrape;
	size_t scrape_count;
};

struct spec_environment {
	const char *name;
	const char *listen_host; /* an address without brackets, or a host name; "": every one */
	int listen_port;
	const char *tls_certificate; /* absolute path; NULL: plain HTTP */
	struct spec_variables variables;
	struct spec_list secrets;            /* names, sorted */
	const struct spec_service *services; /* merged; sorted by name; every one of the file's */
	size_t service_count;
	struct spec_deploy deploy;   /* merged */
	struct spec_metrics metrics; /* merged */
};

struct spec {
	const char *app;
	struct spec_build build;
	const struct spec_service *services; /* without overrides, as deploy; for display */
	size_t service_count;
	struct spec_deploy deploy;
	struct spec_metrics metrics;
	const struct spec_environment *environments; /* sorted by name */
	size_t environment_count;
};

struct spec_problem {
	bool warning; /* false: an error */
	size_t line;  /* 1-based; 0: the file as a whole */
	size_t column;
	const char *path;    /* `services.web.instances`, `deploy.smoke[1].path`; "" for the file */
	const char *message; /* what is wrong */
	const char *suggestion; /* what to write; "" when there is none */
};

struct spec_problems {
	const char *file;
	size_t count;
	size_t error_count; /* of those kept */
	bool truncated;     /* there were more than SPEC_PROBLEM_COUNT_MAX */
	struct spec_problem items[SPEC_PROBLEM_COUNT_MAX]; /* by line and column */
};

/*
 * Read TEXT. FILE stands in messages. PROBLEMS (may be NULL) is always filled, also on success:
 * then it has warnings only.
 * Errors: ERR_INVALID with the first problems as lines, ERR_LIMIT.
 */
WARN_UNUSED errc spec_parse(struct arena *config, str text, const char *file,
			    const struct spec **ret_spec, struct spec_problems *ret_problems,
			    struct err *e);

/* `holdfast.yml:12:5: services.web.instnces: unknown option; did you mean instances?`, without an
 * end of line; a warning has `warning: ` before its path. */
void spec_problem_write(const struct spec_problems *problems, const struct spec_problem *problem,
			struct buf *into);

/* Errors: ERR_NOT_FOUND with a suggestion. */
WARN_UNUSED errc spec_environment_find(const struct spec *spec, const char *name,
				       const struct spec_environment **ret_environment,
				       struct err *e);
/* NULL when there is none of that name. */
const struct spec_service *spec_service_find(const struct spec_environment *environment,
					     const char *name);
/* The one that takes the listen port; there always is one. */
const struct spec_service *spec_traffic_service(const struct spec_environment *environment);
/* The value, or NULL. */
const char *spec_variable_find(const struct spec_variables *variables, const char *name);

/* `build`, `start`, … */
const char *spec_phase_name(enum spec_phase phase);
/* `SIGTERM`; NULL when it is none of those an option takes. */
const char *spec_signal_name(int signal);

/* JSON Schema, draft 2020-12. */
void spec_write_schema(struct buf *into);
/* Markdown. */
void spec_write_reference(struct buf *into);
/* Canonical: the same specification gives the same bytes, however the file was written. Reads back
 * by spec_parse() as an equal specification. Holds no secret values. */
void spec_write_json(const struct spec *spec, struct json_writer *into);
/* One environment, as in spec_write_json(): what a release is made of besides its artifact. */
void spec_write_environment_json(const struct spec_environment *environment,
				 struct json_writer *into);
