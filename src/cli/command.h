/*
 * The command table: one entry a command gives its parsing, its help, the completions of bash and
 * zsh, and its section of the man page.
 *
 * Exit status: 0 done, 1 failed, 2 wrong usage or cancelled, 4 not allowed.
 */
#pragma once

#include "base/arena.h"
#include "base/buf.h"

struct cli;

struct command_option {
	const char *name;  /* long, without dashes */
	char letter;       /* 0 none */
	const char *value; /* what its argument is called; NULL: a switch */
	const char *meaning;
	const char *const *choices; /* for completion; ends in NULL; may be NULL */
};

struct command {
	const char *name;      /* `token create` for a subcommand */
	const char *arguments; /* for the usage line: `ENV [--to RELEASE]` is written by the table:
				  `ENV` */
	int argument_count_min;
	int argument_count_max;
	const char *summary;         /* one line, no full stop */
	const char *description;     /* sentences; may be NULL */
	const char *const *examples; /* pairs of command line and what it does; ends in NULL */
	const struct command_option *options;
	size_t option_count;
	bool hidden;
	/* What the first argument names, for completion: "environment" or NULL. */
	const char *completes;
	int (*run)(struct cli *cli);
};

extern const struct command *const command_table[];
extern const size_t command_count;
extern const struct command_option global_options[];
extern const size_t global_option_count;

/* What a command gets. */
struct cli {
	const struct command *command;
	int argument_count;
	const char *const *arguments;
	/* parallel to the command's options and to the global ones: the value, "" for a switch,
	 * NULL */
	const char *values[32];
	const char *global_values[16];
	struct arena arena; /* lives as long as the command */
	bool json;
	bool terminal; /* standard output is one */
	bool colour;
};

/* The value of an option of this command or a global one, or NULL. */
const char *cli_option(const struct cli *cli, const char *name);
/* The exit status for a failed E, after saying it on standard error (as JSON with --json). */
int cli_fail(const struct cli *cli, const struct err *e);

int cli_main(int argc, char **argv);

/* Help of one command, or of all with NULL. */
void help_write(const struct command *command, struct buf *into);
void completion_write(const char *shell, struct buf *into);
/* The man page holdfast(1) as troff. */
void manual_write(struct buf *into);
