/* The texts that the command table gives. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/checks.h"
#include "cli/command.h"
#include "codec/text.h"

/* A program reads TEXT; its exit status, or -1 when there is no such program. What it prints on
 * standard output comes into OUT (may be NULL). */
static int feed(const char *const *argv, const char *text, char *out, size_t out_size)
{
	int in[2], back[2], status = 0;
	size_t used = 0;
	assert_int_equal(pipe(in), 0);
	assert_int_equal(pipe(back), 0);
	pid_t pid = fork();
	if (pid == 0) {
		dup2(in[0], 0);
		dup2(back[1], 1);
		close(in[1]);
		close(back[0]);
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	close(in[0]);
	close(back[1]);
	size_t len = strlen(text); /* a pipe holds 64 KiB */
	ssize_t written_len = write(in[1], text, len);
	/* A program that is not there, or ends early, leaves nobody to read. */
	assert_true(written_len == (ssize_t)len || (written_len < 0 && errno == EPIPE));
	close(in[1]);
	for (ssize_t n = 1; n > 0;) {
		char rest[4096];
		n = read(back[0], rest, sizeof(rest));
		for (ssize_t i = 0; i < n; i++)
			if (out && used + 1 < out_size)
				out[used++] = rest[i];
	}
	close(back[0]);
	if (out)
		out[used] = '\0';
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status) == 127 ? -1 : WEXITSTATUS(status);
}

static struct buf written(void (*write_text)(struct buf *into))
{
	struct buf b = buf_init(60000);
	write_text(&b);
	assert_false(b.overflow);
	assert_true(b.len > 100 && text_is_utf8(buf_str(&b)));
	return b;
}

static void write_help(struct buf *into)
{
	help_write(NULL, into);
}

static void write_bash(struct buf *into)
{
	completion_write("bash", into);
}

static void write_zsh(struct buf *into)
{
	completion_write("zsh", into);
}

static void every_command_is_everywhere(void **state)
{
	(void)state;
	void (*const writers[])(struct buf *) = { write_help, manual_write, write_zsh };
	for (size_t w = 0; w < ARRAY_COUNT(writers); w++) {
		struct buf b = written(writers[w]);
		for (size_t i = 0; i < command_count; i++)
			if (!command_table[i]->hidden &&
			    !strstr(buf_cstr(&b), command_table[i]->name))
				fail_msg("%s is missing in text %zu", command_table[i]->name, w);
		buf_done(&b);
	}
}

static void the_help_of_each_names_all_its_options(void **state)
{
	(void)state;
	for (size_t i = 0; i < command_count; i++) {
		const struct command *c = command_table[i];
		struct buf b = buf_init(20000);
		help_write(c, &b);
		assert_false(b.overflow);
		assert_non_null(strstr(buf_cstr(&b), c->summary));
		for (size_t k = 0; k < c->option_count; k++) {
			char option[80];
			snprintf(option, sizeof(option), "--%s", c->options[k].name);
			if (!strstr(buf_cstr(&b), option))
				fail_msg("%s: %s is missing", c->name, option);
		}
		buf_done(&b);
	}
}

/* The parser keeps values by the place of their option in the table. */
static void the_table_fits_the_parser(void **state)
{
	(void)state;
	struct cli cli;
	assert_true(global_option_count <= ARRAY_COUNT(cli.global_values));
	for (size_t i = 0; i < command_count; i++) {
		const struct command *c = command_table[i];
		assert_true(c->option_count <= ARRAY_COUNT(cli.values));
		assert_non_null(c->run);
		assert_true(c->argument_count_min >= 0 &&
			    c->argument_count_min <= c->argument_count_max);
		assert_true(c->summary[strlen(c->summary) - 1] != '.');
		for (size_t n = 0; n < i; n++)
			assert_string_not_equal(c->name, command_table[n]->name);
		for (size_t k = 0; k < c->option_count; k++) {
			for (size_t g = 0; g < global_option_count; g++) {
				const struct command_option *o = &global_options[g];
				assert_string_not_equal(c->options[k].name, o->name);
				assert_true(!o->letter || c->options[k].letter != o->letter);
			}
			for (size_t n = 0; n < k; n++) {
				assert_string_not_equal(c->options[k].name, c->options[n].name);
				assert_true(!c->options[k].letter ||
					    c->options[k].letter != c->options[n].letter);
			}
		}
	}
}

/* What bash offers for WORDS, the last of which is being typed, separated by blanks. */
static void complete(const char *const *words, size_t count, char *out, size_t out_size)
{
	struct buf script = written(write_bash);
	buf_add_c(&script, "holdfast() { echo production staging; }\nCOMP_WORDS=(holdfast");
	for (size_t i = 0; i < count; i++)
		buf_printf(&script, " '%s'", words[i]);
	buf_printf(&script, ")\nCOMP_CWORD=%zu\n_holdfast\necho \" ${COMPREPLY[*]} \"\n", count);
	const char *const argv[] = { "bash", "--norc", "-s", NULL };
	if (feed(argv, buf_cstr(&script), out, out_size) != 0)
		out[0] = '\0';
	buf_done(&script);
}

static void bash_completes(void **state)
{
	(void)state;
	static const struct {
		const char *words[4];
		const char *offered;
		const char *not_offered;
	} cases[] = {
		{ { "" }, " deploy ", " set " },
		{ { "dep" }, " deploy ", " rollback " },
		{ { "to" }, " token ", " deploy " },
		{ { "secret", "" }, " set ", " deploy " },
		{ { "token", "cr" }, " create ", " list " },
		{ { "deploy", "" }, " production staging ", " deploy " },
		{ { "deploy", "st" }, " staging ", " production " },
		{ { "deploy", "--d" }, " --dry-run ", " --to " },
		{ { "deploy", "production", "--dr" }, " --dry-run ", " --json " },
		{ { "status", "--js" }, " --json ", " --dry-run " },
		{ { "--json", "dep" }, " deploy ", " rollback " },
	};
	struct buf script = written(write_bash);
	const char *const check[] = { "bash", "-n", NULL };
	int rc = feed(check, buf_cstr(&script), NULL, 0);
	buf_done(&script);
	if (rc < 0)
		skip();
	assert_int_equal(rc, 0);
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		char out[4096];
		size_t count = 0;
		while (count < 4 && cases[i].words[count])
			count++;
		complete(cases[i].words, count, out, sizeof(out));
		if (!strstr(out, cases[i].offered) || strstr(out, cases[i].not_offered))
			fail_msg("case %zu: %s", i, out);
	}
}

static void zsh_reads_its_script(void **state)
{
	(void)state;
	struct buf script = written(write_zsh);
	const char *const check[] = { "zsh", "-n", NULL };
	int rc = feed(check, buf_cstr(&script), NULL, 0);
	buf_done(&script);
	if (rc < 0)
		skip();
	assert_int_equal(rc, 0);
}

/* man itself is not installed everywhere; groff's warnings are what it would say. */
static void the_manual_is_troff(void **state)
{
	(void)state;
	struct buf b = written(manual_write);
	str rest = buf_str(&b), line;
	while (str_split(&rest, '\n', &line)) {
		/* a line that begins with a dot is a request: one that we wrote */
		static const char *const requests[] = { ".\\\"", ".TH", ".SH", ".SS", ".TP",
							".PP",   ".B",  ".BR", ".RB" };
		bool known = !str_starts(line, STR(".")) && !str_starts(line, STR("'"));
		for (size_t i = 0; i < ARRAY_COUNT(requests); i++)
			known |= str_starts(line, str_c(requests[i]));
		if (!known)
			fail_msg("%.*s", STR_ARG(line));
	}
	const char *const groff[] = { "groff", "-man", "-Tutf8", "-ww", NULL };
	int rc = feed(groff, buf_cstr(&b), NULL, 0);
	assert_true(rc <= 0);
	buf_done(&b);
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_command_is_everywhere),
		cmocka_unit_test(the_help_of_each_names_all_its_options),
		cmocka_unit_test(the_table_fits_the_parser),
		cmocka_unit_test(bash_completes),
		cmocka_unit_test(zsh_reads_its_script),
		cmocka_unit_test(the_manual_is_troff),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
