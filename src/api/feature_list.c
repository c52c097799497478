#include "api/feature_list.h"

#include "base/checks.h"
#include "feature/build/build.h"
#include "feature/host/host.h"
#include "feature/notify/notify.h"
#include "feature/release/release.h"
#include "feature/runtime/runtime.h"
#include "feature/scrape/scraper.h"
#include "feature/traffic/traffic_feature.h"

/* Runtime and traffic come first: a release that resumes needs to see what is there. */
const struct feature *const feature_list[] = {
	&runtime_feature, &traffic_feature, &build_feature,  &release_feature,
	&notify_feature,  &host_feature,    &scrape_feature,
};
const size_t feature_count = ARRAY_COUNT(feature_list);
