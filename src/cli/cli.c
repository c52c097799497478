#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checks.h"
#include "base/suggest.h"
#include "cli/command.h"

enum { WORDS_MAX = 64, ARENA_BYTES_MAX = 64 * 1024 * 1024 };

const struct command_option global_options[] = {
	{ "json", 0, NULL, "print JSON (a line an event where there is progress)", NULL },
	{ "directory", 'C', "FOLDER", "the application's folder; default: this one", NULL },
	{ "file", 'f', "FILE", "its specification; default: holdfast.yml in that folder", NULL },
	{ "data", 0, "FOLDER", "the data folder of the daemon; default: $HOLDFAST_DATA", NULL },
	{ "server", 's', "URL", "a daemon elsewhere; default: $HOLDFAST_SERVER", NULL },
	{ "token-file", 0, "FILE", "file that holds the token for it; default: $HOLDFAST_TOKEN",
	  NULL },
	{ "help", 'h', NULL, "show help; nothing is carried out", NULL },
};
const size_t global_option_count = ARRAY_COUNT(global_options);

static int usage_error(const char *fmt, const char *word, const char *meant, const char *command)
{
	fprintf(stderr, "holdfast: ");
	fprintf(stderr, "%s %s", fmt, word);
	if (meant)
		fprintf(stderr, "; did you mean %s?", meant);
	fprintf(stderr, "\nTry `holdfast %s%s--help`.\n", command ? command : "",
		command ? " " : "");
	return errc_exit_status(ERR_USAGE);
}

/* The command that ARGV names by one word or two; *ret_used is how many. */
static const struct command *find_command(int argc, char **argv, int *ret_used)
{
	for (int words = 2; words >= 1; words--) {
		char name[64] = "";
		if (argc < words)
			continue;
		snprintf(name, sizeof(name), words == 2 ? "%s %s" : "%s", argv[0], argv[1]);
		for (size_t i = 0; i < command_count; i++) {
			if (strcmp(command_table[i]->name, name) != 0)
				continue;
			*ret_used = words;
			return command_table[i];
		}
	}
	return NULL;
}

/* A word that begins commands of two words: list them. */
static bool is_group(const char *word)
{
	size_t len = strlen(word);
	for (size_t i = 0; i < command_count; i++)
		if (strncmp(command_table[i]->name, word, len) == 0 &&
		    command_table[i]->name[len] == ' ')
			return true;
	return false;
}

static void list_group(const char *word, FILE *into)
{
	size_t len = strlen(word);
	for (size_t i = 0; i < command_count; i++)
		if (strncmp(command_table[i]->name, word, len) == 0 &&
		    command_table[i]->name[len] == ' ')
			fprintf(into, "  holdfast %-19s %s\n", command_table[i]->name,
				command_table[i]->summary);
}

static int unknown_command(const char *word, const char *second)
{
	const char *words[WORDS_MAX];
	size_t count = 0;
	char typed[128];
	if (is_group(word) && !second) {
		fprintf(stderr, "holdfast: `%s` needs one of:\n", word);
		list_group(word, stderr);
		return errc_exit_status(ERR_USAGE);
	}
	snprintf(typed, sizeof(typed), is_group(word) ? "%s %s" : "%s", word, second ? second : "");
	for (size_t i = 0; i < command_count && count < WORDS_MAX; i++)
		if (!command_table[i]->hidden)
			words[count++] = command_table[i]->name;
	return usage_error("there is no command", typed, suggest(str_c(typed), words, count), NULL);
}

struct parse {
	struct cli *cli;
	const char *arguments[WORDS_MAX];
};

/* Which option NAME (or LETTER) is: its row and the slot for its value. */
static const struct command_option *find_option(struct cli *cli, str name, char letter,
						const char ***ret_slot)
{
	const struct command *command = cli->command;
	for (size_t i = 0; i < command->option_count; i++) {
		const struct command_option *o = &command->options[i];
		if (letter ? o->letter == letter : str_eq_c(name, o->name)) {
			*ret_slot = &cli->values[i];
			return o;
		}
	}
	for (size_t i = 0; i < global_option_count; i++) {
		const struct command_option *o = &global_options[i];
		if (letter ? o->letter == letter : str_eq_c(name, o->name)) {
			*ret_slot = &cli->global_values[i];
			return o;
		}
	}
	return NULL;
}

static int unknown_option(const struct cli *cli, const char *word)
{
	const char *names[WORDS_MAX];
	char meant[80];
	size_t count = 0;
	for (size_t i = 0; i < cli->command->option_count; i++)
		names[count++] = cli->command->options[i].name;
	for (size_t i = 0; i < global_option_count; i++)
		names[count++] = global_options[i].name;
	str typed = str_c(word);
	while (typed.len && typed.ptr[0] == '-')
		typed = (str){ typed.ptr + 1, typed.len - 1 };
	const char *near = suggest(typed, names, count);
	if (near)
		snprintf(meant, sizeof(meant), "--%s", near);
	return usage_error("there is no option", word, near ? meant : NULL, cli->command->name);
}

/* One word that begins with a dash, and its value, which may be the next word. */
static int parse_option(struct cli *cli, char **argv, int *at, int argc)
{
	const char *word = argv[*at];
	const char *value = NULL, **slot = NULL;
	const struct command_option *o = NULL;
	if (word[1] == '-') {
		const char *equals = strchr(word, '=');
		size_t len = equals ? (size_t)(equals - word) - 2 : strlen(word) - 2;
		value = equals ? equals + 1 : NULL;
		o = find_option(cli, (str){ word + 2, len }, 0, &slot);
	} else {
		o = find_option(cli, STR(""), word[1], &slot);
		value = word[1] && word[2] ? word + 2 : NULL;
	}
	if (!o)
		return unknown_option(cli, word);
	if (!o->value && value)
		return usage_error("no value can be given to", word, NULL, cli->command->name);
	if (o->value && !value) {
		if (*at + 1 >= argc)
			return usage_error("a value is needed after", word, NULL,
					   cli->command->name);
		value = argv[++*at];
	}
	*slot = o->value ? value : "";
	return 0;
}

static int parse_words(struct parse *p, int argc, char **argv)
{
	struct cli *cli = p->cli;
	bool options_end = false;
	for (int i = 0; i < argc; i++) {
		if (!options_end && strcmp(argv[i], "--") == 0) {
			options_end = true;
		} else if (!options_end && argv[i][0] == '-' && argv[i][1]) {
			int status = parse_option(cli, argv, &i, argc);
			if (status)
				return status;
		} else {
			if (cli->argument_count >= cli->command->argument_count_max ||
			    cli->argument_count >= WORDS_MAX)
				return usage_error("there is one argument too many:", argv[i], NULL,
						   cli->command->name);
			p->arguments[cli->argument_count++] = argv[i];
		}
	}
	cli->arguments = p->arguments;
	return 0;
}

/* `-h` and `--help` anywhere show help and never execute. */
static bool wants_help(int argc, char **argv)
{
	for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "-h") == 0 || strcmp(argv[i], "--help") == 0)
			return true;
	return false;
}

static int print_help(const struct command *command)
{
	struct buf text CLEANUP(buf_done) = buf_init(256 * 1024);
	help_write(command, &text);
	fwrite(text.ptr, 1, text.len, stdout);
	return 0;
}

/* `help`, `help COMMAND`, `help GROUP`. */
static int show_help(int argc, char **argv)
{
	int used = 0;
	const struct command *command = find_command(argc, argv, &used);
	if (command || argc == 0 || argv[0][0] == '-')
		return print_help(command);
	bool second = argc > 1 && argv[1][0] != '-';
	if (!is_group(argv[0]) || second)
		return unknown_command(argv[0], second ? argv[1] : NULL);
	printf("Commands:\n");
	list_group(argv[0], stdout);
	printf("\n`holdfast help %s ...` tells more about one.\n", argv[0]);
	return 0;
}

const char *cli_option(const struct cli *cli, const char *name)
{
	for (size_t i = 0; i < cli->command->option_count; i++)
		if (strcmp(cli->command->options[i].name, name) == 0)
			return cli->values[i];
	for (size_t i = 0; i < global_option_count; i++)
		if (strcmp(global_options[i].name, name) == 0)
			return cli->global_values[i];
	must(!"an option of the table");
	return NULL;
}

static void look_at_terminal(struct cli *cli)
{
	const char *term = getenv("TERM");
	const char *no_colour = getenv("NO_COLOR");
	cli->terminal = isatty(STDOUT_FILENO) == 1;
	cli->colour = cli->terminal && !(no_colour && no_colour[0]) && term &&
		      strcmp(term, "dumb") != 0;
}

static int run_command(const struct command *command, int argc, char **argv)
{
	struct cli cli = { .command = command, .arena = arena_init(ARENA_BYTES_MAX) };
	struct parse parse = { .cli = &cli };
	must(command->option_count <= ARRAY_COUNT(cli.values) &&
	     global_option_count <= ARRAY_COUNT(cli.global_values));
	look_at_terminal(&cli);
	int status = parse_words(&parse, argc, argv);
	if (status == 0 && cli.argument_count < command->argument_count_min)
		status = usage_error("an argument is missing:", command->arguments, NULL,
				     command->name);
	if (status == 0) {
		cli.json = cli_option(&cli, "json") != NULL;
		status = command->run(&cli);
	}
	if (status == 0 && (fflush(stdout) != 0 || ferror(stdout))) {
		fprintf(stderr, "holdfast: standard output cannot be written\n");
		status = 1;
	}
	arena_done(&cli.arena);
	return status;
}

int cli_main(int argc, char **argv)
{
	int used = 0;
	argc--;
	argv++;
	/* global options may stand before the command */
	int skip = 0;
	while (skip < argc && argv[skip][0] == '-' && argv[skip][1]) {
		if (strcmp(argv[skip], "--version") == 0) {
			printf("holdfast %s\n", HOLDFAST_VERSION);
			return 0;
		}
		bool takes_value = strchr(argv[skip], '=') == NULL &&
				   strcmp(argv[skip], "--json") != 0 &&
				   strcmp(argv[skip], "-h") != 0 &&
				   strcmp(argv[skip], "--help") != 0 &&
				   !(argv[skip][1] != '-' && argv[skip][2]);
		skip += takes_value ? 2 : 1;
	}
	if (skip >= argc) {
		print_help(NULL);
		return argc == 0 ? errc_exit_status(ERR_USAGE) : 0;
	}
	const struct command *command = find_command(argc - skip, argv + skip, &used);
	if (strcmp(argv[skip], "help") == 0)
		return show_help(argc - skip - 1, argv + skip + 1);
	if (!command && wants_help(argc - skip, argv + skip))
		return show_help(is_group(argv[skip]) ? 1 : 0, argv + skip);
	if (!command)
		return unknown_command(argv[skip], argc - skip > 1 && argv[skip + 1][0] != '-'
							   ? argv[skip + 1]
							   : NULL);
	if (wants_help(argc, argv))
		return print_help(command);
	/* the words without the command's own */
	char *rest[256];
	int rest_count = 0;
	if (argc > (int)ARRAY_COUNT(rest))
		return usage_error("there are too many words after", command->name, NULL,
				   command->name);
	for (int i = 0; i < argc; i++)
		if (i < skip || i >= skip + used)
			rest[rest_count++] = argv[i];
	return run_command(command, rest_count, rest);
}
