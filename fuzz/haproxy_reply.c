/* HAProxy's replies: whatever the socket says, the parsers stay inside of it. */
#include <stddef.h>
#include <stdint.h>

#include "base/checks.h"
#include "net/haproxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena query = arena_init(4 << 20);
	str text = { (const char *)data, size };
	struct haproxy_stat *stats;
	struct haproxy_server_conn *servers;
	struct haproxy_info info;
	struct err e;
	size_t count;
	if (haproxy_stat_parse(text, &query, &stats, &count, &e) == OK)
		for (size_t i = 0; i < count; i++) {
			must(stats[i].type <= HAPROXY_LISTENER);
			must(haproxy_stat_find(stats, count, "app", "blue") != stats + count);
		}
	if (haproxy_servers_conn_parse(text, &query, &servers, &count, &e) == OK)
		for (size_t i = 0; i < count; i++)
			must(servers[i].server.len <= size && servers[i].port <= 65535);
	if (haproxy_info_parse(text, &info, &e) == OK)
		must(info.version[0]);
	arena_done(&query);
	return 0;
}
