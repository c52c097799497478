/* Every command; see command_table.c for the order they are shown in. */
#pragma once

#include "cli/command.h"

extern const struct command serve_command;
extern const struct command build_command;
extern const struct command deploy_command;
extern const struct command rollback_command;
extern const struct command releases_command;
extern const struct command status_command;
extern const struct command cancel_command;
extern const struct command query_command;
extern const struct command cardinality_command;
extern const struct command doctor_command;
extern const struct command artifact_command;
extern const struct command secret_set_command;
extern const struct command secret_list_command;
extern const struct command secret_remove_command;
extern const struct command token_create_command;
extern const struct command token_list_command;
extern const struct command token_revoke_command;
extern const struct command audit_command;
extern const struct command config_check_command;
extern const struct command config_environments_command;
extern const struct command config_schema_command;
extern const struct command config_reference_command;
extern const struct command completion_command;
extern const struct command manual_command;
