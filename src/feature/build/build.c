/* The dispatcher: one thread, one build at a time, so that builds never starve what serves. */
#include "feature/build/build.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "base/log.h"
#include "feature/build/build_internal.h"
#include "os/clock.h"
#include "os/io.h"

enum { REQUEST_BYTES_MAX = 4 * 1024 * 1024, LIST_ARENA_BYTES = 256 * 1024 * 1024 };

struct builder {
	const struct feature_context *context;
	struct build_tool_cache *tools;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool news;
	bool stopping;
};

void build_say(struct build_run *run, enum operation_event_kind kind, const char *fmt, ...)
{
	char message[2048];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	operations_event(run->context->catalog, run->operation.id, kind, run->step, NULL, "%s",
			 message);
}

bool build_cancelled(void *ctx)
{
	struct build_run *run = ctx;
	return __atomic_load_n(run->stopping, __ATOMIC_ACQUIRE) ||
	       operations_cancel_wanted(run->context->catalog, run->operation.id);
}

static errc load_request(struct build_run *run, struct err *e)
{
	const struct json *json = NULL;
	TRY(json_parse(&run->arena, str_c(run->operation.request), REQUEST_BYTES_MAX, &json, e));
	run->source = json_cstr(json_get(json, "source"));
	run->file = json_cstr(json_get(json, "file"));
	TRY(spec_parse(&run->arena, json_str(json_get(json, "specification"), STR("")), run->file,
		       &run->spec, NULL, e));
	return spec_environment_find(run->spec, run->operation.environment, &run->environment, e);
}

/* ---- The cache of whole builds: key to artifact. */

static errc find_built(struct build_run *run, bool *ret_found, struct err *e)
{
	struct catalog *c = run->context->catalog;
	struct arena scratch CLEANUP(arena_done) = arena_init(64 * 1024 * 1024);
	struct catalog_query q CLEANUP(catalog_query_done) = { 0 };
	char key[DIGEST_HEX_SIZE];
	bool row = false;
	*ret_found = false;
	TRY(catalog_query(c, &q, e, "SELECT digest FROM build WHERE key = ?", "t",
			  digest_hex(&run->key, key)));
	TRY(catalog_step(&q, &row, e));
	if (!row || !digest_parse(catalog_str(&q, 0), &run->artifact))
		return OK;
	catalog_query_done(&q);
	/* an artifact that was pruned or damaged is built again */
	struct manifest manifest;
	*ret_found = artifact_manifest(run->context->artifacts, &run->artifact, &scratch, &manifest,
				       NULL) == OK;
	if (*ret_found)
		TRY(catalog_exec_relaxed(c, e, "UPDATE build SET used = ? WHERE key = ?", "it",
					 clock_now(), key));
	return OK;
}

static errc remember_built(struct build_run *run, struct err *e)
{
	char key[DIGEST_HEX_SIZE], digest[DIGEST_TEXT_SIZE];
	return catalog_exec(run->context->catalog, NULL, e,
			    "INSERT INTO build (key, app, environment, digest, created, used)"
			    " VALUES (?1,?2,?3,?4,?5,?5) ON CONFLICT (key) DO UPDATE SET digest = "
			    "?4, used = ?5",
			    "tttti", digest_hex(&run->key, key), run->operation.app,
			    run->operation.environment, digest_text(&run->artifact, digest),
			    clock_now());
}

/* ---- One build. */

static errc build(struct build_run *run, struct err *e)
{
	TRY(load_request(run, e));
	TRY(build_find_inputs(run, e));
	TRY(build_find_tools(run, e));
	TRY(build_make_key(run, e));
	TRY(find_built(run, &run->reused, e));
	if (run->reused) {
		build_say(run, EVENT_PROGRESS, "nothing changed since it was built: reused");
		return OK;
	}
	build_say(run, EVENT_PROGRESS, "%zu source files", run->input_count);
	TRY(build_run_steps(run, e));
	TRY(build_make_artifact(run, e));
	return remember_built(run, e);
}

static const char *write_result(struct build_run *run, struct buf *text)
{
	char digest[DIGEST_TEXT_SIZE], key[DIGEST_HEX_SIZE];
	struct json_writer w = json_writer_init(text, false);
	json_begin_object(&w);
	json_put_cstr(&w, "artifact", digest_text(&run->artifact, digest));
	json_put_cstr(&w, "key", digest_hex(&run->key, key));
	json_put_bool(&w, "reused", run->reused);
	json_put_i64(&w, "packed_bytes", (int64_t)run->packed_bytes);
	json_put_i64(&w, "duration_ms", clock_now() - run->started_at);
	json_end_object(&w);
	return buf_cstr(text);
}

static void finish(struct build_run *run, errc rc, const struct err *error)
{
	struct buf text CLEANUP(buf_done) = buf_init(65536);
	struct err e;
	enum operation_state state = rc == OK              ? OPERATION_SUCCEEDED
				     : rc == ERR_CANCELLED ? OPERATION_CANCELLED
							   : OPERATION_FAILED;
	char took[UNIT_TEXT_SIZE];
	duration_format(clock_now() - run->started_at, took);
	if (rc == OK)
		build_say(run, EVENT_DONE, "build (%s)", took);
	else
		build_say(run, EVENT_FAILURE, "%s", error->message);
	if (operations_finish(run->context->catalog, run->operation.id, state,
			      rc == OK ? NULL : error, rc == OK ? write_result(run, &text) : "{}",
			      &e) != OK)
		log_err(LOG_ERROR, "a build cannot be finished", &e);
	log_info("operation ended",
		 "operation=%s kind=build app=%s environment=%s state=%s reused=%d",
		 run->operation.id, run->operation.app, run->operation.environment,
		 operation_state_text(state), run->reused);
}

static void run_build(struct builder *b, const char *id)
{
	struct build_run run = { .context = b->context,
				 .tool_cache = b->tools,
				 .stopping = &b->stopping,
				 .arena = arena_init(BUILD_ARENA_BYTES),
				 .started_at = clock_now(),
				 .step = "build" };
	struct err e = { 0 };
	snprintf(run.home, sizeof(run.home), "%s/builds/home", b->context->data);
	errc rc = operations_get(b->context->catalog, id, &run.arena, &run.operation, &e);
	if (rc == OK) {
		build_say(&run, EVENT_STARTED, "build");
		rc = build(&run, &e);
	}
	if (run.work[0] && io_remove_tree(run.work, NULL) != OK)
		log_warn("a build's working copy cannot be removed", "folder=%s", run.work);
	/* a daemon that stops leaves the build to the next one, which begins it anew */
	bool later = rc == ERR_CANCELLED && __atomic_load_n(&b->stopping, __ATOMIC_ACQUIRE) &&
		     !operations_cancel_wanted(b->context->catalog, id);
	if (!later)
		finish(&run, rc, &e);
	arena_done(&run.arena);
}

/* ---- The thread. */

static void note(void *ctx, enum bus_topic topic, str subject)
{
	struct builder *b = ctx;
	(void)topic, (void)subject;
	pthread_mutex_lock(&b->lock);
	b->news = true;
	pthread_cond_signal(&b->changed);
	pthread_mutex_unlock(&b->lock);
}

/* The oldest that waits, or (RESUME) that a former daemon left at work; false when there is none.
 */
static bool take_next(struct builder *b, bool resume, char id[static OPERATION_ID_SIZE])
{
	struct arena scratch CLEANUP(arena_done) = arena_init(LIST_ARENA_BYTES);
	struct operation_filter filter = { .kind = "build", .unfinished = true, .limit = 10 };
	struct operation *items = NULL;
	size_t count = 0;
	struct err e;
	if (operations_list(b->context->catalog, &filter, &scratch, &items, &count, &e) != OK) {
		log_err(LOG_ERROR, "the builds cannot be listed", &e);
		return false;
	}
	for (size_t i = 0; i < count; i++) {
		bool taken = items[i].state == OPERATION_RUNNING && resume;
		if (items[i].state == OPERATION_QUEUED &&
		    operations_begin(b->context->catalog, items[i].id, &taken, &e) != OK)
			log_err(LOG_ERROR, "a build cannot be begun", &e);
		if (!taken)
			continue;
		memcpy(id, items[i].id, OPERATION_ID_SIZE);
		return true;
	}
	return false;
}

static void remove_stale_work(struct builder *b)
{
	char path[BUILD_PATH_SIZE];
	struct err e;
	snprintf(path, sizeof(path), "%s/builds/work", b->context->data);
	if (io_remove_tree(path, &e) != OK)
		log_err(LOG_WARN, "old working copies cannot be removed", &e);
}

static void *run(void *arg)
{
	struct builder *b = arg;
	char id[OPERATION_ID_SIZE];
	pthread_setname_np(pthread_self(), "build");
	remove_stale_work(b);
	while (!__atomic_load_n(&b->stopping, __ATOMIC_ACQUIRE) && take_next(b, true, id))
		run_build(b, id);
	for (;;) {
		pthread_mutex_lock(&b->lock);
		while (!b->news && !b->stopping)
			pthread_cond_wait(&b->changed, &b->lock);
		b->news = false;
		bool stopping = b->stopping;
		pthread_mutex_unlock(&b->lock);
		if (stopping)
			return NULL;
		while (!__atomic_load_n(&b->stopping, __ATOMIC_ACQUIRE) && take_next(b, false, id))
			run_build(b, id);
	}
}

static errc start(const struct feature_context *context, void **ret_state, struct err *e)
{
	struct builder *b = must_calloc(1, sizeof(*b));
	b->context = context;
	b->tools = build_tool_cache_new();
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->changed, NULL);
	bool subscribed = bus_subscribe(catalog_bus(context->catalog), BUS_OPERATION, note, b);
	must(subscribed);
	if (pthread_create(&b->thread, NULL, run, b) != 0)
		FAIL(e, ERR_IO, "cannot start a thread");
	*ret_state = b;
	return OK;
}

static void stop(void *state)
{
	struct builder *b = state;
	if (!b)
		return;
	bus_unsubscribe(catalog_bus(b->context->catalog), note, b);
	pthread_mutex_lock(&b->lock);
	__atomic_store_n(&b->stopping, true, __ATOMIC_RELEASE);
	pthread_cond_signal(&b->changed);
	pthread_mutex_unlock(&b->lock);
	pthread_join(b->thread, NULL);
	build_tool_cache_free(b->tools);
	pthread_mutex_destroy(&b->lock);
	pthread_cond_destroy(&b->changed);
	free(b);
}

const struct feature build_feature = { .name = "build", .start = start, .stop = stop };
