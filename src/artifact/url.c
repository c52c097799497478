#include "artifact/url_internal.h"

str url_without_credentials(str url, struct arena *into)
{
	ptrdiff_t scheme = str_find(url, STR("://"));
	if (scheme < 0)
		return arena_str(into, url);
	size_t begin = (size_t)scheme + 3, cut = begin;
	bool has_password = false;
	for (size_t i = begin; i < url.len && url.ptr[i] != '/'; i++) {
		if (url.ptr[i] == '@')
			cut = i + 1;
		has_password |= url.ptr[i] == ':' && cut == begin;
	}
	bool is_ssh = str_find((str){ url.ptr, (size_t)scheme }, STR("ssh")) >= 0;
	if (cut == begin || (is_ssh && !has_password))
		return arena_str(into, url);
	return str_c(arena_printf(into, "%.*s%.*s", (int)begin, url.ptr, (int)(url.len - cut),
				  url.ptr + cut));
}
