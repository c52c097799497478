/* What comes from outside a shim: commands on its socket, its specification on standard input, and
 * for the daemon the status lines of a shim. */
#include <stdint.h>
#include <stdlib.h>

#include "base/checks.h"
#include "shim/shim_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	static struct shim_status status;
	struct arena config = arena_init(4 * SHIM_SPEC_BYTES_MAX);
	str text = { (const char *)bytes, len };
	struct shim_command command;
	struct shim_spec spec;
	struct err e = { 0 };
	pid_t pid;
	if (shim_command_parse(text, &command, &e) == OK) {
		must(command.verb >= SHIM_DO_STATUS && command.verb <= SHIM_DO_EXIT);
		must(command.verb != SHIM_DO_SIGNAL || command.signal_number > 0);
		must(command.timeout_ms >= -1);
	} else {
		must(e.message[0]);
	}
	if (shim_status_parse(text, &status, &e) == OK)
		must(status.last_line_count <= SHIM_LAST_LINE_COUNT);
	if (shim_started_parse(text, &pid, &e) == OK)
		must(len > 0);
	if (shim_spec_parse(text, &config, &spec, &e) == OK) {
		/* what was read is written and read again as the same */
		struct buf again = buf_init(4 * SHIM_SPEC_BYTES_MAX);
		struct shim_spec second;
		must(shim_spec_write(&spec, &again, &e) == OK);
		must(shim_spec_parse(buf_str(&again), &config, &second, &e) == OK);
		must(str_eq(str_c(spec.id), str_c(second.id)));
		must(spec.umask == second.umask && spec.user.uid == second.user.uid);
		must(spec.stop_timeout_ms == second.stop_timeout_ms);
		buf_done(&again);
	}
	arena_done(&config);
	return 0;
}
