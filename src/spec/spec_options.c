/* Every option of holdfast.yml, once. Adding one is a row here and a member in spec.h. */
#include <signal.h>

#include "spec/spec_internal.h"

#define AT(type_, member) \
	.offset = offsetof(struct type_, member), .size = sizeof(((struct type_ *)NULL)->member)
#define GROUP(type_, options_) \
	.size = sizeof(struct type_), .options = (options_), .option_count = ARRAY_COUNT(options_)

enum {
	SECOND = 1000,
	MINUTE = 60 * SECOND,
	HOUR = 60 * MINUTE,
	DAY = 24 * HOUR,
	RUN_MAX = 32 * 1024,
};
#define MIB (INT64_C(1) << 20)
#define TIB (INT64_C(1) << 40)

static const char *const method_words[] = { "GET",   "HEAD",   "POST",    "PUT",
					    "PATCH", "DELETE", "OPTIONS", NULL };
static const char *const event_words[] = { "start", "success", "failure", NULL };
const char *const spec_phase_words[] = { "build",  "start", "ready",  "smoke", "canary",
					 "switch", "drain", "finish", NULL };
static_assert(ARRAY_COUNT(spec_phase_words) == SPEC_PHASE_COUNT + 1, "a word for every phase");

const struct spec_signal spec_signals[] = {
	{ "SIGTERM", SIGTERM },   { "SIGINT", SIGINT },   { "SIGQUIT", SIGQUIT },
	{ "SIGHUP", SIGHUP },     { "SIGUSR1", SIGUSR1 }, { "SIGUSR2", SIGUSR2 },
	{ "SIGWINCH", SIGWINCH },
};
const size_t spec_signal_count = ARRAY_COUNT(spec_signals);

/* ---- build */

static const struct spec_option step_options[] = {
	{ "name", SPEC_NAME, AT(spec_step, name), .required = true,
	  .meaning = "The step's name, unique in the build." },
	{ "run", SPEC_STRING, AT(spec_step, run), .required = true, .min = 1, .max = RUN_MAX,
	  .meaning = "The command line, run by `sh -c` in the build's folder." },
	{ "inputs", SPEC_LIST, AT(spec_step, inputs), .item = SPEC_GLOB, .max = 64,
	  .otherwise = "every input of the build",
	  .meaning = "What the step reads; with `outputs` too, its result is reused while that "
		     "stays the same." },
	{ "outputs", SPEC_LIST, AT(spec_step, outputs), .item = SPEC_GLOB, .max = 64,
	  .otherwise = "its result is not reused by itself", .meaning = "What the step writes." },
	{ "variables", SPEC_LIST, AT(spec_step, variables), .item = SPEC_VARIABLE, .max = 256,
	  .meaning =
		  "Which of `build.variables` a step with `inputs` and `outputs` sees; others see "
		  "all." },
};
static const struct spec_group step_group = {
	.name = "step",
	.place = "build.steps[]",
	GROUP(spec_step, step_options),
	.meaning = "A step of the build. Steps run in order; the first that fails ends the build.",
};

static const struct spec_option budget_options[] = {
	{ "files", SPEC_GLOB, AT(spec_budget, files), .required = true,
	  .meaning = "The files whose sizes are added up." },
	{ "size_max", SPEC_SIZE, AT(spec_budget, size_bytes_max), .min = 1, .max = TIB,
	  .otherwise = "no limit", .meaning = "Limit of the sum as they are." },
	{ "gzip_max", SPEC_SIZE, AT(spec_budget, gzip_bytes_max), .min = 1, .max = TIB,
	  .otherwise = "no limit", .meaning = "Limit of the sum, each compressed with gzip." },
	{ "brotli_max", SPEC_SIZE, AT(spec_budget, brotli_bytes_max), .min = 1, .max = TIB,
	  .otherwise = "no limit", .meaning = "Limit of the sum, each compressed with brotli." },
};
static const struct spec_group budget_group = {
	.name = "budget",
	.place = "build.budgets[]",
	GROUP(spec_budget, budget_options),
	.check = spec_check_budget,
	.meaning = "A limit on what was built; past it the build fails. It needs at least one of "
		   "the three limits.",
};

static const struct spec_option build_options[] = {
	{ "tools", SPEC_LIST, AT(spec_build, tools), .item = SPEC_PROGRAM, .max = 32,
	  .meaning = "Programs whose versions are part of the build's key." },
	{ "exclude", SPEC_LIST, AT(spec_build, exclude), .item = SPEC_GLOB, .max = 256,
	  .meaning = "What is neither hashed nor copied; `node_modules`, `dist` and `.git` never "
		     "are." },
	{ "variables", SPEC_LIST, AT(spec_build, variables), .item = SPEC_VARIABLE, .max = 256,
	  .meaning = "Names of the environment's variables that reach the build; no others do." },
	{ "memory", SPEC_SIZE, AT(spec_build, memory_bytes_max), .min = 64 * MIB, .max = TIB,
	  .initial = "2GiB", .meaning = "The most memory that a step may use." },
	{ "timeout", SPEC_DURATION, AT(spec_build, timeout_ms), .min = SECOND, .max = DAY,
	  .initial = "10m", .meaning = "The longest that the whole build may take." },
	{ "steps", SPEC_GROUP_LIST, AT(spec_build, steps), .max = 64, .group = &step_group,
	  .meaning = "What is run, in order." },
	{ "include", SPEC_LIST, AT(spec_build, include), .item = SPEC_GLOB, .max = 256,
	  .otherwise = "everything", .meaning = "What goes into the artifact." },
	{ "public", SPEC_FOLDER, AT(spec_build, public_folder), .otherwise = "none",
	  .meaning = "The folder that browsers are served from: validated and precompressed." },
	{ "precompress", SPEC_BOOL, AT(spec_build, precompress),
	  .otherwise = "`true` with `public`",
	  .meaning = "Whether the public folder's files get gzip and brotli siblings." },
	{ "budgets", SPEC_GROUP_LIST, AT(spec_build, budgets), .max = 64, .group = &budget_group,
	  .meaning = "Limits on the size of what was built." },
	{ "allow", SPEC_LIST, AT(spec_build, allow), .item = SPEC_GLOB, .max = 64,
	  .meaning = "Files of the public folder that are not validated: a secret or source map "
		     "found there is meant to be there." },
	{ "external", SPEC_LIST, AT(spec_build, external), .item = SPEC_GLOB, .max = 64,
	  .meaning = "URL paths without the leading `/` that exist only at run time, so that "
		     "references to them are right." },
};
static const struct spec_group build_group = {
	.name = "build",
	.place = "build",
	GROUP(spec_build, build_options),
	.check = spec_check_build,
	.meaning = "How an artifact is made of the source.",
};

/* ---- services */

static const struct spec_option service_options[] = {
	{ "command", SPEC_COMMAND, AT(spec_service, command), .required = true, .min = 1,
	  .max = 256,
	  .meaning = "The program and its arguments as a list, or a command line for `sh -c`." },
	{ "instances", SPEC_INT, AT(spec_service, instances), .min = 1, .max = 64, .initial = "1",
	  .meaning = "How many of it run at a time." },
	{ "traffic", SPEC_BOOL, AT(spec_service, traffic),
	  .otherwise = "`true` for the only service",
	  .meaning = "Whether it takes the requests; exactly one service does." },
	{ "ready", SPEC_URL_PATH, AT(spec_service, ready),
	  .otherwise = "none; required with `traffic`",
	  .meaning = "The path that is asked for readiness." },
	{ "ready_timeout", SPEC_DURATION, AT(spec_service, ready_timeout_ms), .min = 100,
	  .max = HOUR, .initial = "30s",
	  .meaning = "The longest an instance may take from its start to ready." },
	{ "ready_interval", SPEC_DURATION, AT(spec_service, ready_interval_ms), .min = 50,
	  .max = MINUTE, .initial = "250ms", .meaning = "How often readiness is asked for." },
	{ "stop_signal", SPEC_SIGNAL, AT(spec_service, stop_signal), .initial = "SIGTERM",
	  .meaning = "The signal that asks an instance to end." },
	{ "stop_timeout", SPEC_DURATION, AT(spec_service, stop_timeout_ms), .max = HOUR,
	  .initial = "20s", .meaning = "How long after that it is killed with SIGKILL." },
	{ "drain_signal", SPEC_SIGNAL, AT(spec_service, drain_signal), .none = true,
	  .initial = "none",
	  .meaning = "The signal that asks an instance to close its long-lived streams while it "
		     "still serves requests." },
	{ "memory", SPEC_SIZE, AT(spec_service, memory_bytes_max), .none = true, .min = 16 * MIB,
	  .max = TIB, .initial = "none", .meaning = "The most memory an instance may use." },
	{ "restart_backoff_max", SPEC_DURATION, AT(spec_service, restart_backoff_ms_max),
	  .min = 100, .max = HOUR, .initial = "30s",
	  .meaning = "The longest pause before an instance that keeps ending is started again." },
	{ "prometheus", SPEC_BOOL, AT(spec_service, prometheus), .initial = "false",
	  .meaning = "Whether its `/metrics` is scraped." },
	{ "user", SPEC_ACCOUNT, AT(spec_service, user), .min = 1, .max = 32,
	  .otherwise = "the daemon's application account",
	  .meaning = "The account that it runs as." },
	{ "variables", SPEC_VARIABLES, AT(spec_service, variables), .max = 512,
	  .meaning = "Variables of this service, over those of the environment." },
};
static const struct spec_group service_group = {
	.name = "service",
	.place = "services.<name>",
	GROUP(spec_service, service_options),
	.meaning = "A program of the application, run as one or more instances.",
};

/* ---- deploy */

static const struct spec_option smoke_options[] = {
	{ "name", SPEC_LINE, AT(spec_smoke, name), .required = true, .min = 1, .max = 100,
	  .meaning = "What is tested, unique among the smoke tests." },
	{ "method", SPEC_ENUM, AT(spec_smoke, method), .allowed = method_words, .initial = "GET",
	  .meaning = "The request's method." },
	{ "path", SPEC_URL_PATH, AT(spec_smoke, path), .required = true,
	  .meaning = "The request's path, with the query." },
	{ "headers", SPEC_HEADERS, AT(spec_smoke, headers), .max = 32,
	  .meaning = "The request's headers." },
	{ "body", SPEC_STRING, AT(spec_smoke, body), .max = 64 * 1024, .otherwise = "none",
	  .meaning = "The request's body." },
	{ "status", SPEC_INT, AT(spec_smoke, status), .min = 100, .max = 599, .initial = "200",
	  .meaning = "The status that the answer must have." },
	{ "contains", SPEC_STRING, AT(spec_smoke, contains), .min = 1, .max = 4096,
	  .otherwise = "not checked", .meaning = "Text that the answer's body must hold." },
	{ "header_contains", SPEC_HEADERS, AT(spec_smoke, header_contains), .max = 32,
	  .meaning = "Text that headers of the answer must hold, by header." },
	{ "timeout", SPEC_DURATION, AT(spec_smoke, timeout_ms), .min = 10, .max = 5 * MINUTE,
	  .initial = "3s", .meaning = "The longest an attempt may take." },
	{ "attempts", SPEC_INT, AT(spec_smoke, attempts), .min = 1, .max = 10, .initial = "1",
	  .meaning = "How often it is tried before it counts as failed." },
};
static const struct spec_group smoke_group = {
	.name = "smoke",
	.place = "deploy.smoke[]",
	GROUP(spec_smoke, smoke_options),
	.meaning = "A request to the new colour alone before it takes traffic; when one fails, the "
		   "old colour stays.",
};

static const struct spec_option canary_options[] = {
	{ "weight", SPEC_PERCENT, AT(spec_canary, weight_percent), .max = 99, .initial = "10%",
	  .meaning = "The share of new requests that goes to the new colour; `0%` leaves the "
		     "canary out." },
	{ "time", SPEC_DURATION, AT(spec_canary, time_ms), .max = HOUR, .initial = "2s",
	  .meaning = "How long, before all of them go there." },
};
static const struct spec_group canary_group = {
	.name = "canary",
	.place = "deploy.canary",
	GROUP(spec_canary, canary_options),
	.check = spec_check_canary,
	.meaning = "A share of the traffic goes to the new colour first and is watched for errors.",
};

static bool hook_is_before(const void *hook)
{
	return !((const struct spec_hook *)hook)->after;
}

static bool hook_is_after(const void *hook)
{
	return ((const struct spec_hook *)hook)->after;
}

static const struct spec_option hook_options[] = {
	{ "before", SPEC_PHASE_WORD, AT(spec_hook, phase), .allowed = spec_phase_words,
	  .otherwise = "`after` is given", .present = hook_is_before,
	  .meaning = "The phase that it runs before." },
	{ "after", SPEC_PHASE_WORD, AT(spec_hook, phase), .allowed = spec_phase_words,
	  .otherwise = "`before` is given", .present = hook_is_after,
	  .meaning = "The phase that it runs after." },
	{ "run", SPEC_STRING, AT(spec_hook, run), .required = true, .min = 1, .max = RUN_MAX,
	  .meaning = "The command line, run by `sh -c` in the new release's folder." },
	{ "timeout", SPEC_DURATION, AT(spec_hook, timeout_ms), .min = 100, .max = HOUR,
	  .initial = "30s", .meaning = "The longest it may take." },
};
static const struct spec_group hook_group = {
	.name = "hook",
	.place = "deploy.hooks[]",
	GROUP(spec_hook, hook_options),
	.check = spec_check_hook,
	.meaning = "A command around a phase of the deploy; it has exactly one of `before` and "
		   "`after`.",
};

static const struct spec_option webhook_options[] = {
	{ "url", SPEC_URL, AT(spec_webhook, url), .required = true,
	  .meaning = "Where it is sent by POST." },
	{ "secret", SPEC_VARIABLE, AT(spec_webhook, secret), .otherwise = "unsigned",
	  .meaning = "Name of a secret of the environment, which signs it." },
	{ "events", SPEC_EVENTS, AT(spec_webhook, events), .allowed = event_words, .min = 1,
	  .max = 3, .initial = "[start, success, failure]", .meaning = "What is announced." },
};
static const struct spec_group webhook_group = {
	.name = "webhook",
	.place = "deploy.webhooks[]",
	GROUP(spec_webhook, webhook_options),
	.meaning = "An announcement of deploys to another service.",
};

static const struct spec_option deploy_options[] = {
	{ "smoke", SPEC_GROUP_LIST, AT(spec_deploy, smoke), .max = 32, .group = &smoke_group,
	  .meaning = "Requests that the new colour must answer before it takes traffic." },
	{ "canary", SPEC_GROUP_SWITCHED, AT(spec_deploy, canary), .group = &canary_group,
	  .otherwise = "no canary", .meaning = "The share of the traffic that goes first." },
	{ "watch", SPEC_DURATION, AT(spec_deploy, watch_ms), .max = HOUR, .initial = "5s",
	  .meaning = "How long after the switch the old colour is a backup behind the new one." },
	{ "drain_timeout", SPEC_DURATION, AT(spec_deploy, drain_timeout_ms), .max = HOUR,
	  .initial = "30s",
	  .meaning = "The longest that requests on the old colour are waited for." },
	{ "websocket_grace", SPEC_DURATION, AT(spec_deploy, websocket_grace_ms), .max = HOUR,
	  .initial = "5s",
	  .meaning = "How long streams on the old colour stay before they are asked to move." },
	{ "close_spread", SPEC_DURATION, AT(spec_deploy, close_spread_ms), .max = HOUR,
	  .initial = "2s",
	  .meaning = "They are closed at random times within this, so that clients do not come "
		     "back all at once." },
	{ "keep_warm", SPEC_DURATION, AT(spec_deploy, keep_warm_ms), .max = 7 * DAY,
	  .initial = "10m",
	  .meaning = "How long the old colour stays up for an instant rollback." },
	{ "retain", SPEC_INT, AT(spec_deploy, retain), .min = 1, .max = 100, .initial = "5",
	  .meaning = "How many releases of an environment are kept." },
	{ "retry_idempotent_posts", SPEC_BOOL, AT(spec_deploy, retry_idempotent_posts),
	  .initial = "true",
	  .meaning = "Whether a request of any method that carries an `Idempotency-Key` is sent "
		     "again when its connection is lost." },
	{ "hooks", SPEC_GROUP_LIST, AT(spec_deploy, hooks), .max = 32, .group = &hook_group,
	  .meaning = "Commands around the phases." },
	{ "webhooks", SPEC_GROUP_LIST, AT(spec_deploy, webhooks), .max = 8, .group = &webhook_group,
	  .meaning = "Who is told of deploys." },
};
static const struct spec_group deploy_group = {
	.name = "deploy",
	.place = "deploy",
	GROUP(spec_deploy, deploy_options),
	.check = spec_check_deploy,
	.meaning = "How a new release takes over.",
};

/* ---- metrics */

static const char *const relabel_words[] = { "replace",   "keep",      "drop",      "keepequal",
					     "dropequal", "hashmod",   "labelmap",  "labeldrop",
					     "labelkeep", "lowercase", "uppercase", NULL };

static const struct spec_option relabel_options[] = {
	{ "source_labels", SPEC_LIST, AT(spec_relabel, source), .item = SPEC_VARIABLE, .max = 32,
	  .meaning = "The labels whose values are joined and matched." },
	{ "separator", SPEC_STRING, AT(spec_relabel, separator), .max = 64, .initial = ";",
	  .meaning = "What stands between the joined values." },
	{ "regex", SPEC_STRING, AT(spec_relabel, regex), .max = 4096, .initial = "(.*)",
	  .meaning = "The expression, in RE2's syntax, that the whole of them must match." },
	{ "target_label", SPEC_LINE, AT(spec_relabel, target), .min = 1, .max = 128,
	  .otherwise = "none; required by replace, hashmod, keepequal, dropequal and the case "
		       "actions",
	  .meaning = "The label that is written." },
	{ "replacement", SPEC_STRING, AT(spec_relabel, replacement), .max = 4096, .initial = "$1",
	  .meaning = "What is written; `$1` or `${name}` stand for groups of the expression." },
	{ "action", SPEC_ENUM, AT(spec_relabel, action), .allowed = relabel_words,
	  .initial = "replace", .meaning = "What is done, as in Prometheus." },
	{ "modulus", SPEC_INT, AT(spec_relabel, modulus), .min = 1, .max = 1 << 30,
	  .otherwise = "none; required by hashmod",
	  .meaning = "Of `hashmod`: the hash is taken modulo this." },
};
static const struct spec_group relabel_group = {
	.name = "relabel",
	.place = "metrics.scrape[].relabel[]",
	GROUP(spec_relabel, relabel_options),
	.check = spec_check_relabel,
	.meaning = "A rule that changes labels or drops what has them.",
};

static const struct spec_option scrape_options[] = {
	{ "job", SPEC_LINE, AT(spec_scrape, job), .required = true, .min = 1, .max = 100,
	  .meaning = "The label `job` of its series, unique in the list." },
	{ "targets", SPEC_LIST, AT(spec_scrape, targets), .item = SPEC_URL, .required = true,
	  .min = 1, .max = 10000,
	  .meaning = "URLs that answer with metrics: Prometheus text, OpenMetrics or protobuf." },
	{ "interval", SPEC_DURATION, AT(spec_scrape, interval_ms), .min = SECOND, .max = HOUR,
	  .initial = "15s", .meaning = "How often each target is asked." },
	{ "timeout", SPEC_DURATION, AT(spec_scrape, timeout_ms), .min = 100, .max = HOUR,
	  .initial = "10s", .meaning = "The longest an answer may take; at most the interval." },
	{ "labels", SPEC_VARIABLES, AT(spec_scrape, labels), .max = 32,
	  .meaning = "Labels of every series of these targets." },
	{ "honor_labels", SPEC_BOOL, AT(spec_scrape, honor_labels), .initial = "false",
	  .meaning = "Whether the target's own labels win over ours; else they become "
		     "`exported_…`." },
	{ "honor_timestamps", SPEC_BOOL, AT(spec_scrape, honor_timestamps), .initial = "true",
	  .meaning = "Whether times that the target gives are kept." },
	{ "classic_histograms", SPEC_BOOL, AT(spec_scrape, classic_histograms), .initial = "false",
	  .meaning = "Whether a native histogram's classic series are kept beside it." },
	{ "basic_user", SPEC_LINE, AT(spec_scrape, basic_user), .min = 1, .max = 256,
	  .otherwise = "none", .meaning = "The user of basic authentication." },
	{ "basic_password", SPEC_VARIABLE, AT(spec_scrape, basic_password), .otherwise = "none",
	  .meaning = "Name of a secret of the environment: the password." },
	{ "bearer_token", SPEC_VARIABLE, AT(spec_scrape, bearer_token), .otherwise = "none",
	  .meaning = "Name of a secret of the environment: the bearer token." },
	{ "tls_ca", SPEC_FILE, AT(spec_scrape, tls_ca), .otherwise = "the system's",
	  .meaning = "PEM file with the authorities that certificates are verified by." },
	{ "tls_insecure", SPEC_BOOL, AT(spec_scrape, tls_insecure), .initial = "false",
	  .meaning = "Whether certificates are not verified." },
	{ "sample_limit", SPEC_INT, AT(spec_scrape, sample_limit), .max = 10000000, .initial = "0",
	  .meaning = "A scrape with more samples than this fails; 0: no limit." },
	{ "body_max", SPEC_SIZE, AT(spec_scrape, body_bytes_max), .min = 1024, .max = 256 * MIB,
	  .initial = "64MiB", .meaning = "A longer answer fails." },
	{ "relabel", SPEC_GROUP_LIST, AT(spec_scrape, relabel), .max = 64, .group = &relabel_group,
	  .meaning = "Rules over a target's labels, before it is scraped." },
	{ "metric_relabel", SPEC_GROUP_LIST, AT(spec_scrape, metric_relabel), .max = 64,
	  .group = &relabel_group, .meaning = "Rules over the labels of each of its series." },
};
static const struct spec_group scrape_group = {
	.name = "scrape",
	.place = "metrics.scrape[]",
	GROUP(spec_scrape, scrape_options),
	.check = spec_check_scrape,
	.meaning = "Targets besides the application's own services that are asked for metrics.",
};

static const struct spec_option metrics_options[] = {
	{ "scrape", SPEC_GROUP_LIST, AT(spec_metrics, scrape), .max = 64, .group = &scrape_group,
	  .meaning = "Who is asked for metrics, besides the services with `prometheus`." },
};
static const struct spec_group metrics_group = {
	.name = "metrics",
	.place = "metrics",
	GROUP(spec_metrics, metrics_options),
	.check = spec_check_metrics,
	.meaning = "Which metrics are collected.",
};

/* ---- environments */

static const struct spec_option environment_options[] = {
	{ "listen", SPEC_LISTEN, AT(spec_environment, listen_host), .required = true,
	  .meaning = "Where users come in, unique in the file; `:8080` is every address." },
	{ "tls_certificate", SPEC_FILE, AT(spec_environment, tls_certificate),
	  .otherwise = "plain HTTP",
	  .meaning = "PEM file with the certificate, its chain and its key." },
	{ "variables", SPEC_VARIABLES, AT(spec_environment, variables), .max = 512,
	  .meaning = "Variables of every service." },
	{ "secrets", SPEC_LIST, AT(spec_environment, secrets), .item = SPEC_VARIABLE, .max = 256,
	  .meaning = "Names of variables whose values `holdfast secret set` gave." },
	{ "services", SPEC_OVERRIDE_MAP, AT(spec_environment, services), .max = 16,
	  .group = &service_group,
	  .meaning = "Options of services that differ here, by the service's name." },
	{ "deploy", SPEC_OVERRIDE, AT(spec_environment, deploy), .group = &deploy_group,
	  .meaning = "Options of `deploy` that differ here." },
	{ "metrics", SPEC_OVERRIDE, AT(spec_environment, metrics), .group = &metrics_group,
	  .meaning = "Options of `metrics` that differ here." },
};
static const struct spec_group environment_group = {
	.name = "environment",
	.place = "environments.<name>",
	GROUP(spec_environment, environment_options),
	.meaning = "A place where the application runs, with releases of its own.",
};

static const struct spec_option root_options[] = {
	{ "app", SPEC_NAME, AT(spec, app), .required = true, .meaning = "The application's name." },
	{ "build", SPEC_GROUP, AT(spec, build), .group = &build_group,
	  .meaning = "How an artifact is made of the source." },
	{ "services", SPEC_GROUP_MAP, AT(spec, services), .required = true, .min = 1, .max = 16,
	  .group = &service_group, .meaning = "What runs, by name." },
	{ "deploy", SPEC_GROUP, AT(spec, deploy), .group = &deploy_group,
	  .meaning = "How a new release takes over." },
	{ "metrics", SPEC_GROUP, AT(spec, metrics), .group = &metrics_group,
	  .meaning = "Which metrics are collected." },
	{ "environments", SPEC_GROUP_MAP, AT(spec, environments), .required = true, .min = 1,
	  .max = SPEC_ENVIRONMENT_COUNT_MAX, .group = &environment_group,
	  .meaning = "Where it runs, by name." },
};
const struct spec_group spec_root_group = {
	.name = "specification",
	.place = "",
	GROUP(spec, root_options),
	.meaning = "What stands at the left margin.",
};
