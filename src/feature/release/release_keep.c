/* What comes after the switch: warm releases and their end, pruning. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/checks.h"
#include "base/log.h"
#include "feature/release/release_internal.h"
#include "feature/workspace.h"
#include "os/clock.h"
#include "os/io.h"

enum {
	SCRATCH_BYTES = 64 * 1024 * 1024,
	LIST_MAX = 1000,
	GONE_SLACK_MS = 30000,      /* beyond the stop deadline of the shim */
	FAILED_KEPT = 10,           /* of the newest releases, failed ones keep their files */
	RETRY_MS = 1000,            /* while the environment is being changed */
	OPERATIONS_DAYS = 90,       /* an ended operation and its events are kept so long */
	ARTIFACT_AGE_MS = 86400000, /* one that no release has yet is kept so long */
};

/* ---- Stopping. */

static errc forget(const struct feature_context *context, const struct instance *i, struct err *e)
{
	struct instance_traffic_change out = { i->id, TRAFFIC_NONE, 1 };
	char folder[WORKSPACE_PATH_SIZE];
	if (i->in_proxy && i->traffic != TRAFFIC_NONE)
		TRY(instances_set_traffic(context->catalog, &out, 1, e));
	TRY(instances_remove(context->catalog, i->id, e));
	snprintf(folder, sizeof(folder), "%s/instances/%s/home", context->data, i->id);
	return io_remove_tree(folder, e); /* its output stays until the release is pruned */
}

errc release_retire_instances(struct release_run *run, int64_t number, struct err *e)
{
	const struct feature_context *context = run->context;
	int64_t begun = clock_mono_ms();
	for (;;) {
		struct arena scratch CLEANUP(arena_done) = arena_init(SCRATCH_BYTES);
		struct instance *items = NULL;
		size_t count = 0;
		uint64_t sequence = release_sequence(run);
		TRY(release_instances(run, number, &scratch, &items, &count, e));
		if (count == 0)
			return OK;
		for (size_t k = 0; k < count; k++) {
			if (items[k].desired != INSTANCE_STOPPED)
				TRY(instances_set_desired(context->catalog, items[k].id,
							  INSTANCE_STOPPED, e));
			else if (items[k].runtime.state == INSTANCE_STATE_GONE)
				TRY(forget(context, &items[k], e));
		}
		/* the longest stop_timeout that a specification may ask for is an hour */
		if (clock_mono_ms() - begun > 3600000 + GONE_SLACK_MS)
			FAIL(e, ERR_TIMEOUT, "the instances of release %lld do not end",
			     (long long)number);
		TRY(release_pause(run, sequence, 250, e));
	}
}

static errc retire(struct release_run *run, const struct release *r, struct err *e)
{
	TRY(release_retire_instances(run, r->number, e));
	TRY(workspace_remove(run->context, r, e));
	return releases_set_state(run->context->catalog, r, RELEASE_RETIRED, 0, NULL, e);
}

/* ---- Pruning. */

/* Whether NAME is the folder of an instance of a release in PRUNED: `app.environment.rN.…`. */
static bool belongs_to(const char *name, const struct release *pruned, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		char prefix[INSTANCE_ID_SIZE];
		int n = snprintf(prefix, sizeof(prefix), "%s.%s.r%lld.", pruned[i].app,
				 pruned[i].environment, (long long)pruned[i].number);
		if (strncmp(name, prefix, (size_t)n) == 0)
			return true;
	}
	return false;
}

static errc remove_instance_folders(const struct feature_context *context,
				    const struct release *pruned, size_t count, struct err *e)
{
	char root[WORKSPACE_PATH_SIZE], folder[WORKSPACE_PATH_SIZE + NAME_MAX];
	snprintf(root, sizeof(root), "%s/instances", context->data);
	DIR *names = opendir(root);
	if (!names && errno != ENOENT)
		FAIL_ERRNO(e, "cannot list %s", root);
	errc rc = OK;
	for (struct dirent *entry; names && rc == OK && (entry = readdir(names));) {
		if (!belongs_to(entry->d_name, pruned, count))
			continue;
		snprintf(folder, sizeof(folder), "%s/%s", root, entry->d_name);
		rc = io_remove_tree(folder, e);
	}
	if (names)
		closedir(names);
	return rc;
}

/* Beyond the newest RETAIN that can be gone back to, a release keeps its row and loses its files.
 */
static errc prune_releases(struct release_run *run, struct err *e)
{
	struct arena scratch CLEANUP(arena_done) = arena_init(SCRATCH_BYTES);
	struct release *items = NULL;
	size_t count = 0, pruned = 0;
	int64_t kept = 0;
	TRY(releases_list(run->context->catalog, run->operation.app, run->operation.environment,
			  LIST_MAX, &scratch, &items, &count, e));
	for (size_t i = 0; i < count; i++) {
		bool alive = items[i].state == RELEASE_CURRENT || items[i].state == RELEASE_WARM ||
			     items[i].state == RELEASE_NEW;
		if (alive ||
		    (items[i].state == RELEASE_RETIRED && kept < run->environment->deploy.retain)) {
			kept += !alive || items[i].state == RELEASE_CURRENT;
			continue;
		}
		if (items[i].state == RELEASE_FAILED && i < FAILED_KEPT)
			continue; /* for whoever looks into it */
		TRY(workspace_remove(run->context, &items[i], e));
		items[pruned++] = items[i];
	}
	return remove_instance_folders(run->context, items, pruned, e);
}

static bool same_place(const struct release *a, const struct release *b)
{
	return strcmp(a->app, b->app) == 0 && strcmp(a->environment, b->environment) == 0;
}

/* Whether a release may still be gone back to: its environment's newest few, or one that runs. */
static bool is_needed(const struct release *items, size_t at, int64_t retain)
{
	const struct release *r = &items[at];
	int64_t newer = 0;
	if (r->state == RELEASE_FAILED)
		return false;
	if (r->state != RELEASE_RETIRED)
		return true;
	for (size_t i = 0; i < at; i++)
		newer += same_place(&items[i], r) && items[i].state != RELEASE_FAILED;
	return newer < retain;
}

/* An artifact goes when no environment of any application needs it; other environments keep as many
 * as they may have asked for at most, so that a deploy here never takes what belongs there. */
static errc prune_artifacts(struct release_run *run, struct err *e)
{
	enum { RETAIN_ELSEWHERE = 100 };
	struct arena scratch CLEANUP(arena_done) = arena_init(SCRATCH_BYTES);
	struct artifact_info *artifacts = NULL;
	struct release *items = NULL;
	size_t artifact_count = 0, count = 0;
	TRY(artifact_list(run->context->artifacts, &scratch, &artifacts, &artifact_count, e));
	TRY(releases_list(run->context->catalog, NULL, NULL, 10000, &scratch, &items, &count, e));
	for (size_t a = 0; a < artifact_count; a++) {
		char text[DIGEST_TEXT_SIZE];
		bool needed = clock_now() - artifacts[a].stored_at < ARTIFACT_AGE_MS, ever = false;
		digest_text(&artifacts[a].digest, text);
		for (size_t i = 0; i < count; i++) {
			if (strcmp(items[i].artifact, text) != 0)
				continue;
			bool here = strcmp(items[i].app, run->operation.app) == 0 &&
				    strcmp(items[i].environment, run->operation.environment) == 0;
			ever = true;
			needed |= !here && is_needed(items, i, RETAIN_ELSEWHERE);
		}
		for (size_t i = 0; ever && i < count && !needed; i++)
			needed = strcmp(items[i].artifact, text) == 0 &&
				 is_needed(items, i, run->environment->deploy.retain);
		/* one that has served for very long may be beyond the list */
		if (!needed)
			TRY(releases_serve_artifact(run->context->catalog, text, &needed, e));
		if (!needed)
			TRY(artifact_remove(run->context->artifacts, &artifacts[a].digest, e));
	}
	return OK;
}

/* What is unpacked for no working copy any more takes room for nothing. */
static errc prune_unpacked(struct release_run *run, struct err *e)
{
	struct arena scratch CLEANUP(arena_done) = arena_init(SCRATCH_BYTES);
	struct artifact_info *artifacts = NULL;
	struct release *items = NULL;
	size_t artifact_count = 0, count = 0;
	char path[WORKSPACE_PATH_SIZE];
	TRY(artifact_list(run->context->artifacts, &scratch, &artifacts, &artifact_count, e));
	TRY(releases_list(run->context->catalog, NULL, NULL, 10000, &scratch, &items, &count, e));
	for (size_t a = 0; a < artifact_count; a++) {
		char text[DIGEST_TEXT_SIZE];
		struct stat st;
		bool used = false;
		digest_text(&artifacts[a].digest, text);
		for (size_t i = 0; i < count && !used; i++)
			used = strcmp(items[i].artifact, text) == 0 &&
			       (items[i].state == RELEASE_NEW ||
				(workspace_path(run->context, &items[i], path, NULL) == OK &&
				 stat(path, &st) == 0));
		if (!used)
			TRY(artifact_forget_unpacked(run->context->artifacts, &artifacts[a].digest,
						     e));
	}
	return OK;
}

/* ---- finish */

/* One warm release is enough: the one that served last. */
static errc retire_others(struct release_run *run, struct err *e)
{
	struct arena scratch CLEANUP(arena_done) = arena_init(SCRATCH_BYTES);
	struct release *items = NULL;
	size_t count = 0;
	bool keep_previous = run->environment->deploy.keep_warm_ms > 0;
	TRY(releases_list(run->context->catalog, run->operation.app, run->operation.environment,
			  LIST_MAX, &scratch, &items, &count, e));
	for (size_t i = 0; i < count; i++) {
		bool previous = items[i].number == run->previous.number && keep_previous;
		if (items[i].state == RELEASE_WARM && !previous)
			TRY(retire(run, &items[i], e));
	}
	return OK;
}

errc release_step_finish(struct release_run *run, struct err *e)
{
	TRY(retire_others(run, e));
	TRY(prune_releases(run, e));
	TRY(operations_prune(run->context->catalog,
			     clock_now() - (int64_t)OPERATIONS_DAYS * 86400000, e));
	TRY(prune_artifacts(run, e));
	return prune_unpacked(run, e);
}

/* ---- The keeper. */

/*
 * As an operation would, under the environment's lease: a rollback to this release that begins at
 * the same moment either comes first, and then it is not warm any more, or waits.
 */
static errc retire_in_time(struct release_run *run, const struct release *r, bool *ret_retired,
			   struct err *e)
{
	struct catalog *c = run->context->catalog;
	char place[2 * NAME_MAX_BYTES + 2], tag[9];
	struct release now;
	entropy_hex(tag, 8);
	snprintf(place, sizeof(place), "%s/%s", r->app, r->environment);
	snprintf(run->operation.id, sizeof(run->operation.id), RELEASE_KEEPER "%s", tag);
	memcpy(run->operation.app, r->app, sizeof(r->app));
	memcpy(run->operation.environment, r->environment, sizeof(r->environment));
	TRY(leases_acquire(c, place, run->operation.id, "holdfast", &run->lease, e));
	run->has_lease = true;
	run->renewed_ms = clock_mono_ms();
	errc rc = releases_get(c, r->app, r->environment, r->number, &run->arena, &now, e);
	if (rc == OK && now.state == RELEASE_WARM && now.warm_until <= clock_now()) {
		rc = retire(run, &now, e);
		*ret_retired = rc == OK;
	}
	errc released = leases_release(c, place, run->operation.id, rc == OK ? e : NULL);
	return rc == OK ? released : rc;
}

/* Ms until R is to be looked at again; 0: it is done. */
static int64_t keep_one(const struct feature_context *context, const bool *stopping,
			const struct release *r)
{
	int64_t left = r->warm_until - clock_now();
	bool retired = false;
	struct err e;
	if (left > 0)
		return left;
	struct release_run run = { .context = context,
				   .stopping = stopping,
				   .arena = arena_init(SPEC_ARENA_BYTES) };
	errc rc = retire_in_time(&run, r, &retired, &e);
	arena_done(&run.arena);
	if (retired)
		log_info("stopped a release that was kept warm",
			 "app=%s environment=%s release=%lld", r->app, r->environment,
			 (long long)r->number);
	if (rc == OK || __atomic_load_n(stopping, __ATOMIC_ACQUIRE))
		return 0;
	if (rc != ERR_LOCKED)
		log_err(LOG_ERROR, "a warm release cannot be stopped", &e);
	return RETRY_MS;
}

int64_t release_keep_warm(const struct feature_context *context, const bool *stopping,
			  int64_t ms_max)
{
	struct arena scratch CLEANUP(arena_done) = arena_init(SCRATCH_BYTES);
	struct release *items = NULL;
	size_t count = 0;
	struct err e;
	int64_t next = ms_max;
	if (releases_list(context->catalog, NULL, NULL, LIST_MAX, &scratch, &items, &count, &e) !=
	    OK) {
		log_err(LOG_ERROR, "the releases cannot be listed", &e);
		return ms_max;
	}
	for (size_t i = 0; i < count && !__atomic_load_n(stopping, __ATOMIC_ACQUIRE); i++) {
		int64_t left = items[i].state == RELEASE_WARM
				       ? keep_one(context, stopping, &items[i])
				       : 0;
		if (left)
			next = left < next ? left : next;
	}
	return next;
}
