#include "base/checks.h"
#include "cli/commands.h"

const struct command *const command_table[] = {
	&serve_command,
	&build_command,
	&deploy_command,
	&rollback_command,
	&status_command,
	&releases_command,
	&cancel_command,
	&query_command,
	&cardinality_command,
	&doctor_command,
	&artifact_command,
	&secret_set_command,
	&secret_list_command,
	&secret_remove_command,
	&token_create_command,
	&token_list_command,
	&token_revoke_command,
	&audit_command,
	&config_check_command,
	&config_environments_command,
	&config_schema_command,
	&config_reference_command,
	&completion_command,
	&manual_command,
};
const size_t command_count = ARRAY_COUNT(command_table);
