/* Help, completions and the man page, all from the command table. */
#include <stdio.h>
#include <string.h>

#include "cli/command.h"

static void write_option(const struct command_option *o, struct buf *into)
{
	char left[64];
	snprintf(left, sizeof(left), "%c%c%c --%s%s%s", o->letter ? '-' : ' ',
		 o->letter ? o->letter : ' ', o->letter ? ',' : ' ', o->name, o->value ? " " : "",
		 o->value ? o->value : "");
	buf_printf(into, "  %-28s %s\n", left, o->meaning);
}

static void write_all(struct buf *into)
{
	buf_add_c(into, "Holdfast takes a web application to production and keeps it there.\n\n"
			"Usage: holdfast COMMAND [ARGUMENTS] [OPTIONS]\n\nCommands:\n");
	for (size_t i = 0; i < command_count; i++)
		if (!command_table[i]->hidden)
			buf_printf(into, "  %-19s %s\n", command_table[i]->name,
				   command_table[i]->summary);
	buf_add_c(into, "\nOptions of every command:\n");
	for (size_t i = 0; i < global_option_count; i++)
		write_option(&global_options[i], into);
	buf_add_c(into,
		  "\nExit status: 0 done, 1 failed, 2 wrong usage or cancelled, 4 not allowed.\n"
		  "`holdfast help COMMAND` tells more about one, `holdfast --version` the "
		  "version.\n");
}

static void write_one(const struct command *c, struct buf *into)
{
	buf_printf(into, "%s.\n\n", c->summary);
	if (c->examples && c->examples[0]) {
		buf_add_c(into, "Examples:\n");
		for (const char *const *x = c->examples; x[0]; x += 2)
			buf_printf(into, "  %-44s # %s\n", x[0], x[1]);
		buf_add_c(into, "\n");
	}
	buf_printf(into, "Usage: holdfast %s%s%s [OPTIONS]\n", c->name, c->arguments[0] ? " " : "",
		   c->arguments);
	if (c->description)
		buf_printf(into, "\n%s\n", c->description);
	if (c->option_count)
		buf_add_c(into, "\nOptions:\n");
	for (size_t i = 0; i < c->option_count; i++)
		write_option(&c->options[i], into);
	buf_add_c(into, "\nOptions of every command:\n");
	for (size_t i = 0; i < global_option_count; i++)
		write_option(&global_options[i], into);
}

void help_write(const struct command *command, struct buf *into)
{
	if (command)
		write_one(command, into);
	else
		write_all(into);
}

/* The distinct first words, and for each group its second words. */
static void write_bash(struct buf *into)
{
	buf_add_c(into, "# bash completion for holdfast; from `holdfast completion bash`\n"
			"_holdfast() {\n"
			"\tlocal cur=${COMP_WORDS[COMP_CWORD]} "
			"words=\"${COMP_WORDS[*]:1:COMP_CWORD-1}\" w=\n"
			"\tlocal -a names=()\n"
			"\tfor w in ${words}; do [[ $w == -* ]] || names+=(\"$w\"); done\n"
			"\tcase \"${names[*]}\" in\n\t'') w='");
	const char *before = "";
	for (size_t i = 0; i < command_count; i++) {
		const char *name = command_table[i]->name;
		size_t len = strcspn(name, " ");
		if (command_table[i]->hidden)
			continue;
		if (strncmp(before, name, len) != 0 || (before[len] != ' ' && before[len] != '\0'))
			buf_printf(into, "%.*s ", (int)len, name);
		before = name;
	}
	buf_add_c(into, "' ;;\n");
	for (size_t i = 0; i < command_count; i++) {
		const char *name = command_table[i]->name;
		size_t len = strcspn(name, " ");
		bool first = name[len] &&
			     (i == 0 || strncmp(command_table[i - 1]->name, name, len + 1) != 0);
		if (!first || command_table[i]->hidden)
			continue;
		buf_printf(into, "\t'%.*s') w='", (int)len, name);
		for (size_t k = i;
		     k < command_count && strncmp(command_table[k]->name, name, len + 1) == 0; k++)
			buf_printf(into, "%s ", command_table[k]->name + len + 1);
		buf_add_c(into, "' ;;\n");
	}
	for (size_t i = 0; i < command_count; i++)
		if (command_table[i]->completes && !command_table[i]->hidden)
			buf_printf(into,
				   "\t'%s') w=$(holdfast config environments 2>/dev/null) ;;\n",
				   command_table[i]->name);
	buf_add_c(into, "\tesac\n\tif [[ $cur == -* ]]; then\n\t\tw='");
	for (size_t i = 0; i < global_option_count; i++)
		buf_printf(into, "--%s ", global_options[i].name);
	buf_add_c(into, "'\n\t\tcase \"${names[*]}\" in\n");
	for (size_t i = 0; i < command_count; i++) {
		const struct command *c = command_table[i];
		if (!c->option_count || c->hidden)
			continue;
		buf_printf(into, "\t\t'%s'*) w+='", c->name);
		for (size_t k = 0; k < c->option_count; k++)
			buf_printf(into, "--%s ", c->options[k].name);
		buf_add_c(into, "' ;;\n");
	}
	buf_add_c(into, "\t\tesac\n\tfi\n\tCOMPREPLY=($(compgen -W \"$w\" -- \"$cur\"))\n}\n"
			"complete -F _holdfast holdfast\n");
}

/* zsh wants `word:description`; quotes inside a description are doubled out. */
static void add_zsh_text(struct buf *into, const char *text)
{
	for (; *text; text++) {
		if (*text == '\'')
			buf_add_c(into, "'\\''");
		else if (strchr(":[]\\", *text))
			buf_printf(into, "\\%c", *text);
		else
			buf_add_byte(into, *text);
	}
}

static void write_zsh(struct buf *into)
{
	buf_add_c(
		into,
		"#compdef holdfast\n# zsh completion for holdfast; from `holdfast completion zsh`\n"
		"_holdfast() {\n\tlocal -a commands options\n\tcommands=(\n");
	for (size_t i = 0; i < command_count; i++) {
		if (command_table[i]->hidden)
			continue;
		buf_printf(into, "\t\t'%s:", command_table[i]->name);
		add_zsh_text(into, command_table[i]->summary);
		buf_add_c(into, "'\n");
	}
	buf_add_c(into, "\t)\n\toptions=(\n");
	for (size_t i = 0; i < global_option_count; i++) {
		buf_printf(into, "\t\t'--%s[", global_options[i].name);
		add_zsh_text(into, global_options[i].meaning);
		buf_printf(into, "]%s'\n", global_options[i].value ? ":value:_files" : "");
	}
	buf_add_c(into, "\t)\n\tcase \"${words[2]}\" in\n");
	for (size_t i = 0; i < command_count; i++) {
		const struct command *c = command_table[i];
		if (c->hidden || !c->option_count || strchr(c->name, ' '))
			continue;
		buf_printf(into, "\t%s) options+=(", c->name);
		for (size_t k = 0; k < c->option_count; k++) {
			buf_printf(into, " '--%s[", c->options[k].name);
			add_zsh_text(into, c->options[k].meaning);
			buf_printf(into, "]%s'", c->options[k].value ? ":value:" : "");
		}
		buf_add_c(into, " ) ;;\n");
	}
	buf_add_c(into, "\tesac\n\tif (( CURRENT == 2 )); then\n\t\t_describe command commands\n"
			"\telse\n\t\t_arguments \"$options[@]\" "
			"'*:environment:($(holdfast config environments 2>/dev/null))'\n\tfi\n}\n"
			"_holdfast \"$@\"\n");
}

void completion_write(const char *shell, struct buf *into)
{
	if (strcmp(shell, "zsh") == 0)
		write_zsh(into);
	else
		write_bash(into);
}

/* troff: a backslash and a leading dot or quote mean something. */
static void add_troff(struct buf *into, const char *text)
{
	bool line_start = true;
	for (; *text; text++) {
		if (line_start && (*text == '.' || *text == '\''))
			buf_add_c(into, "\\&");
		if (*text == '\\')
			buf_add_c(into, "\\e");
		else if (*text == '-')
			buf_add_c(into, "\\-");
		else
			buf_add_byte(into, *text);
		line_start = *text == '\n';
	}
}

static void write_manual_option(const struct command_option *o, struct buf *into)
{
	buf_add_c(into, ".TP\n");
	if (o->letter)
		buf_printf(into, "\\fB\\-%c\\fR, ", o->letter);
	buf_add_c(into, "\\fB\\-\\-");
	add_troff(into, o->name);
	buf_printf(into, "\\fR%s%s\n", o->value ? " " : "", o->value ? o->value : "");
	add_troff(into, o->meaning);
	buf_add_c(into, ".\n");
}

static void write_manual_command(const struct command *c, struct buf *into)
{
	buf_printf(into, ".SS holdfast %s%s%s\n", c->name, c->arguments[0] ? " " : "",
		   c->arguments);
	add_troff(into, c->summary);
	buf_add_c(into, ".\n");
	if (c->description) {
		buf_add_c(into, ".PP\n");
		add_troff(into, c->description);
		buf_add_c(into, "\n");
	}
	for (size_t i = 0; i < c->option_count; i++)
		write_manual_option(&c->options[i], into);
	for (const char *const *x = c->examples; x && x[0]; x += 2) {
		buf_add_c(into, ".TP\nExample: \\fB");
		add_troff(into, x[0]);
		buf_add_c(into, "\\fR\n");
		add_troff(into, x[1]);
		buf_add_c(into, ".\n");
	}
}

void manual_write(struct buf *into)
{
	buf_add_c(
		into,
		".\\\" from `holdfast manual`\n.TH HOLDFAST 1 \"\" \"holdfast " HOLDFAST_VERSION
		"\" \"User Commands\"\n.SH NAME\nholdfast \\- take a web application to production "
		"and keep it there\n.SH SYNOPSIS\n.B holdfast\nCOMMAND [ARGUMENTS] [OPTIONS]\n"
		".SH DESCRIPTION\nThe daemon\n.RB ( \"holdfast serve\" )\nbuilds, deploys and "
		"watches "
		"applications; the other commands speak to it over its unix socket, or with\n"
		".B \\-\\-server\nover the network.\n.SH COMMANDS\n");
	for (size_t i = 0; i < command_count; i++)
		if (!command_table[i]->hidden)
			write_manual_command(command_table[i], into);
	buf_add_c(into, ".SH OPTIONS\nOf every command:\n");
	for (size_t i = 0; i < global_option_count; i++)
		write_manual_option(&global_options[i], into);
	buf_add_c(into,
		  ".SH EXIT STATUS\n0 done, 1 failed, 2 wrong usage or cancelled, 4 not allowed.\n"
		  ".SH ENVIRONMENT\n.TP\n.B HOLDFAST_DATA\nThe data folder; default "
		  "/var/lib/holdfast for root, $XDG_STATE_HOME/holdfast for others.\n.TP\n"
		  ".B HOLDFAST_SERVER\nA daemon elsewhere, as\n.BR \\-\\-server .\n.TP\n"
		  ".B HOLDFAST_TOKEN\nThe token for it.\n.TP\n.B NO_COLOR\nNo colours.\n");
}
