#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "base/checks.h"
#include "base/err.h"
#include "base/str.h"

static errc divide(int a, int b, int *ret_quotient, struct err *e)
{
	if (b == 0)
		FAIL(e, ERR_INVALID, "cannot divide %d by zero; give another divisor", a);
	*ret_quotient = a / b;
	return OK;
}

static errc twice(int a, int b, int *ret_quotient, struct err *e)
{
	int q = 0;
	TRY(divide(a, b, &q, e));
	*ret_quotient = 2 * q;
	return OK;
}

static errc open_nothing(int sys_errno, struct err *e)
{
	errno = sys_errno;
	FAIL_ERRNO(e, "cannot open %s", "x");
}

static void failure_is_passed_on_untouched(void **state)
{
	(void)state;
	struct err e;
	int q = 7;
	assert_int_equal(twice(1, 0, &q, &e), ERR_INVALID);
	assert_int_equal(q, 7);
	assert_int_equal(e.code, ERR_INVALID);
	assert_int_equal(e.sys_errno, 0);
	assert_string_equal(e.message, "cannot divide 1 by zero; give another divisor");
	assert_non_null(strstr(e.file, "test_err.c"));
	assert_true(e.line > 0);
	assert_int_equal(twice(9, 3, &q, &e), OK);
	assert_int_equal(q, 6);
}

static void nobody_need_listen(void **state)
{
	(void)state;
	int q = 0;
	assert_int_equal(divide(1, 0, &q, NULL), ERR_INVALID);
	assert_int_equal(open_nothing(ENOENT, NULL), ERR_NOT_FOUND);
	assert_int_equal(err_prepend(NULL, "context"), ERR_INTERNAL);
}

static void errno_gives_code_and_reason(void **state)
{
	(void)state;
	struct err e;
	assert_int_equal(open_nothing(ENOENT, &e), ERR_NOT_FOUND);
	assert_string_equal(e.message, "cannot open x: No such file or directory");
	assert_int_equal(e.sys_errno, ENOENT);
	assert_int_equal(open_nothing(ETIMEDOUT, &e), ERR_TIMEOUT);
	assert_int_equal(open_nothing(EACCES, &e), ERR_IO);
	assert_string_equal(e.message, "cannot open x: Permission denied");
}

static void context_comes_before(void **state)
{
	(void)state;
	struct err e;
	int q = 0;
	assert_int_equal(divide(1, 0, &q, &e), ERR_INVALID);
	assert_int_equal(err_prepend(&e, "in %s", "holdfast.yml"), ERR_INVALID);
	assert_string_equal(e.message,
			    "in holdfast.yml: cannot divide 1 by zero; give another divisor");
}

static void long_messages_are_cut(void **state)
{
	(void)state;
	struct err e;
	char text[3000];
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(err_fill(&e, ERR_IO, EIO, "f", 1, "%s", text), ERR_IO);
	assert_int_equal(strlen(e.message), sizeof(e.message) - 1);
	for (int i = 0; i < 100; i++)
		assert_int_equal(err_prepend(&e, "layer %d", i), ERR_IO);
	assert_int_equal(strlen(e.message), sizeof(e.message) - 1);
	assert_memory_equal(e.message, "layer 99: layer 98: ", 20);
}

static void a_cut_message_is_whole_characters(void **state)
{
	(void)state;
	struct err e;
	char text[2048];
	for (size_t shift = 0; shift < 3; shift++) {
		memset(text, 'x', shift);
		for (size_t i = shift; i + 3 < sizeof(text); i += 3)
			memcpy(text + i, "\xe2\x80\xa6", 4); /* … */
		assert_int_equal(err_fill(&e, ERR_IO, 0, "f", 1, "%s", text), ERR_IO);
		size_t len = strlen(e.message);
		assert_int_equal((len - shift) % 3, 0);
		assert_true(len > sizeof(e.message) - 4);
		assert_int_equal(err_prepend(&e, "ab"), ERR_IO);
		assert_int_equal((strlen(e.message) - shift - 4) % 3, 0);
	}
}

static void names_go_there_and_back(void **state)
{
	(void)state;
#define X(name, http, status, meaning)                                      \
	do {                                                                \
		assert_int_equal(errc_of_name(errc_name(name)), name);      \
		assert_int_equal(errc_http_status(name), http);             \
		assert_int_equal(errc_exit_status(name), status);           \
		assert_true(http >= 400 && http < 600 && status > 0);       \
		assert_string_equal(errc_meaning(name), meaning);           \
		for (const char *c = errc_name(name); *c; c++)              \
			assert_true((*c >= 'a' && *c <= 'z') || *c == '_'); \
	} while (0);
	ERR_TABLE(X)
#undef X
	assert_string_equal(errc_name(ERR_NOT_FOUND), "not_found");
	assert_string_equal(errc_name(OK), "ok");
	assert_int_equal(errc_http_status(OK), 200);
	assert_int_equal(errc_exit_status(OK), 0);
	assert_int_equal(errc_exit_status(ERR_USAGE), 2);
	assert_int_equal(errc_exit_status(ERR_UNAUTHENTICATED), 4);
	assert_int_equal(errc_of_name("no_such_code"), ERR_INTERNAL);
	assert_int_equal(errc_of_name(""), ERR_INTERNAL);
	assert_string_equal(errc_name((errc)9999), "internal");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(failure_is_passed_on_untouched),
		cmocka_unit_test(nobody_need_listen),
		cmocka_unit_test(errno_gives_code_and_reason),
		cmocka_unit_test(context_comes_before),
		cmocka_unit_test(long_messages_are_cut),
		cmocka_unit_test(a_cut_message_is_whole_characters),
		cmocka_unit_test(names_go_there_and_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
