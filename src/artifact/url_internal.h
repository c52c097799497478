/* Addresses that go into documents others read. */
#pragma once

#include "base/arena.h"

/* URL without what may be a secret before its host; the user of an ssh address is none. */
str url_without_credentials(str url, struct arena *into);
