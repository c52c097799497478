/* traffic as one of the daemon's features. */
#include "feature/traffic/traffic_feature.h"
#include "feature/feature.h"
#include "feature/traffic/traffic.h"

static errc start(const struct feature_context *context, void **ret_state, struct err *e)
{
	struct traffic_options options = { .executable = context->executable };
	struct traffic *traffic = NULL;
	TRY(traffic_start(context->catalog, &options, &traffic, e));
	*ret_state = traffic;
	return OK;
}

static void stop(void *state)
{
	traffic_stop(state);
}

static void expose(void *state, struct buf *into)
{
	traffic_expose(state, into);
}

static const struct feature_exposition exposition = { "proxy", expose };

const struct feature traffic_feature = {
	.name = "traffic",
	.start = start,
	.stop = stop,
	.expositions = &exposition,
	.exposition_count = 1,
};
