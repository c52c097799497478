/* Interfaces, sockets, protocols. */
#include <string.h>

#include "base/checks.h"
#include "feature/host/host.h"

enum { TEXT_MAX = 1 << 20, INTERFACE_FIELDS = 16 };

struct interface {
	str name;
	uint64_t fields[INTERFACE_FIELDS];
};

static const char *const interface_columns[INTERFACE_FIELDS] = {
	"receive_bytes",  "receive_packets",  "receive_errs",       "receive_drop",
	"receive_fifo",   "receive_frame",    "receive_compressed", "receive_multicast",
	"transmit_bytes", "transmit_packets", "transmit_errs",      "transmit_drop",
	"transmit_fifo",  "transmit_colls",   "transmit_carrier",   "transmit_compressed",
};

/* `  eth0: 1 2 3 …`; two lines of headings have no colon. */
static size_t read_interfaces(str text, struct interface *items)
{
	size_t count = 0;
	str line;
	while (count < HOST_DEVICES_MAX && text.len && str_split(&text, '\n', &line)) {
		struct interface *n = &items[count];
		const char *colon = line.len ? memchr(line.ptr, ':', line.len) : NULL;
		if (!colon)
			continue;
		n->name = str_trim((str){ line.ptr, (size_t)(colon - line.ptr) });
		str rest = { colon + 1, (size_t)(line.ptr + line.len - colon - 1) };
		size_t field = 0;
		while (field < INTERFACE_FIELDS && str_to_u64(host_word(&rest), &n->fields[field]))
			field++;
		count += field == INTERFACE_FIELDS;
	}
	return count;
}

static void add_interfaces(struct buf *into, struct buf *text)
{
	struct interface items[HOST_DEVICES_MAX];
	if (!host_read("/proc/net/dev", text))
		return;
	size_t count = read_interfaces(buf_str(text), items);
	for (size_t c = 0; c < INTERFACE_FIELDS; c++) {
		char name[64];
		struct buf b CLEANUP(buf_done) = buf_init(sizeof(name));
		buf_printf(&b, "node_network_%s_total", interface_columns[c]);
		host_family(into, buf_cstr(&b), "counter", "Of /proc/net/dev.");
		for (size_t i = 0; i < count; i++) {
			struct host_label label = { "device", items[i].name };
			host_sample(into, buf_cstr(&b), &label, 1);
			buf_printf(into, "%llu\n", (unsigned long long)items[i].fields[c]);
		}
	}
}

/* Pairs of lines, `Tcp: RtoAlgorithm …` over `Tcp: 1 …`, of which the fields of KEEP count. */
static void add_protocol(struct buf *into, str text, const char *const *keep, size_t keep_count)
{
	str names, values;
	while (text.len && str_split(&text, '\n', &names) && str_split(&text, '\n', &values)) {
		str protocol = host_word(&names), same = host_word(&values);
		if (!str_eq(protocol, same) || protocol.len < 2)
			continue;
		protocol.len--; /* the colon */
		for (str name; (name = host_word(&names)).len;) {
			int64_t number;
			char key[96];
			struct buf b CLEANUP(buf_done) = buf_init(sizeof(key));
			if (!str_to_i64(host_word(&values), &number))
				continue;
			buf_printf(&b, "%.*s_%.*s", STR_ARG(protocol), STR_ARG(name));
			for (size_t i = 0; i < keep_count; i++) {
				if (strcmp(buf_cstr(&b), keep[i]) != 0)
					continue;
				buf_printf(into,
					   "# HELP node_netstat_%s Of /proc/net.\n"
					   "# TYPE node_netstat_%s untyped\nnode_netstat_%s %lld\n",
					   keep[i], keep[i], keep[i], (long long)number);
			}
		}
	}
}

static void add_protocols(struct buf *into, struct buf *text)
{
	static const char *const keep[] = {
		"Icmp_InErrors",
		"Icmp_InMsgs",
		"Icmp_OutMsgs",
		"Ip_Forwarding",
		"IpExt_InOctets",
		"IpExt_OutOctets",
		"Tcp_ActiveOpens",
		"Tcp_CurrEstab",
		"Tcp_InErrs",
		"Tcp_InSegs",
		"Tcp_OutRsts",
		"Tcp_OutSegs",
		"Tcp_PassiveOpens",
		"Tcp_RetransSegs",
		"TcpExt_ListenDrops",
		"TcpExt_ListenOverflows",
		"TcpExt_SyncookiesFailed",
		"TcpExt_SyncookiesRecv",
		"TcpExt_SyncookiesSent",
		"TcpExt_TCPSynRetrans",
		"TcpExt_TCPTimeouts",
		"TcpExt_TCPOFOQueue",
		"Udp_InDatagrams",
		"Udp_InErrors",
		"Udp_NoPorts",
		"Udp_OutDatagrams",
		"Udp_RcvbufErrors",
		"Udp_SndbufErrors",
	};
	static const char *const paths[] = { "/proc/net/netstat", "/proc/net/snmp" };
	for (size_t i = 0; i < ARRAY_COUNT(paths); i++)
		if (host_read(paths[i], text))
			add_protocol(into, buf_str(text), keep, ARRAY_COUNT(keep));
}

/* `TCP: inuse 27 orphan 0 …` */
static void add_sockets(struct buf *into, struct buf *text)
{
	if (!host_read("/proc/net/sockstat", text))
		return;
	str rest = buf_str(text), line;
	while (rest.len && str_split(&rest, '\n', &line)) {
		str protocol = host_word(&line), key;
		if (protocol.len < 2)
			continue;
		protocol.len--;
		while ((key = host_word(&line)).len) {
			uint64_t number;
			if (!str_to_u64(host_word(&line), &number))
				break;
			buf_printf(into,
				   "# TYPE node_sockstat_%.*s_%.*s gauge\n"
				   "node_sockstat_%.*s_%.*s %llu\n",
				   STR_ARG(protocol), STR_ARG(key), STR_ARG(protocol), STR_ARG(key),
				   (unsigned long long)number);
		}
	}
}

void host_network(struct buf *into)
{
	struct buf text CLEANUP(buf_done) = buf_init(TEXT_MAX);
	add_interfaces(into, &text);
	add_protocols(into, &text);
	add_sockets(into, &text);
}
