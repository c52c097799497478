/* Signatures as the reference library in JavaScript (npm standardwebhooks 1.0.0) makes them. */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <stdio.h>
#include <string.h>

#include "net/webhook.h"

#define SECRET STR("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")

static void test_reference_vectors(void **state)
{
	(void)state;
	const struct {
		str secret, id;
		int64_t timestamp_s;
		str body;
		const char *signature;
	} all[] = {
		{ SECRET, STR("msg_p5jXN8AQM9LWM0D4loKWxJek"), 1614265330,
		  STR("{\"test\": 2432232314}"),
		  "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" },
		{ STR("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="), STR("evt_0001"),
		  1795485695,
		  STR("{\"type\":\"deploy.succeeded\",\"data\":{\"app\":\"caf\xc3\xa9\"}}"),
		  "v1,1YkOb4NInpJkCntyp1EJx0UFYKZ95xe9mS/DH8K2HNQ=" },
		{ STR("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="), STR("e"), 1, STR(""),
		  "v1,xstN0DeyNJezfPx/3tTNe2BhFTKk4zPKIxQNBqZyWP0=" },
	};
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		char got[WEBHOOK_SIGNATURE_SIZE];
		struct err e;
		assert_int_equal(webhook_sign(all[i].secret, all[i].id, all[i].timestamp_s,
					      all[i].body, got, &e),
				 OK);
		assert_string_equal(got, all[i].signature);
	}
}

static errc verify(str secret, const char *id, int64_t t, const char *body, const char *signatures,
		   int64_t now)
{
	struct err e;
	errc rc = webhook_verify(secret, str_c(id), t, str_c(body), str_c(signatures), now, 300,
				 &e);
	if (rc != OK)
		assert_null(strstr(e.message, "MfKQ9r8"));
	return rc;
}

static void test_verify(void **state)
{
	char s[WEBHOOK_SIGNATURE_SIZE], two[120], secret[WEBHOOK_SECRET_SIZE];
	struct err e;
	(void)state;
	assert_int_equal(webhook_sign(SECRET, STR("id"), 1000, STR("body"), s, &e), OK);
	snprintf(two, sizeof(two), "v1,AAAA v2,x %s", s);
	assert_int_equal(verify(SECRET, "id", 1000, "body", s, 1300), OK);
	assert_int_equal(verify(SECRET, "id", 1000, "body", two, 700), OK);
	assert_int_equal(verify(SECRET, "id", 1000, "body", s, 1301), ERR_UNAUTHENTICATED);
	assert_int_equal(verify(SECRET, "id", 1000, "body", s, 699), ERR_UNAUTHENTICATED);
	assert_int_equal(verify(SECRET, "id", 1001, "body", s, 1000), ERR_UNAUTHENTICATED);
	assert_int_equal(verify(SECRET, "ie", 1000, "body", s, 1000), ERR_UNAUTHENTICATED);
	assert_int_equal(verify(SECRET, "id", 1000, "bodz", s, 1000), ERR_UNAUTHENTICATED);
	assert_int_equal(verify(SECRET, "id", 1000, "body", "", 1000), ERR_UNAUTHENTICATED);
	webhook_secret_new(secret);
	assert_int_equal(verify(str_c(secret), "id", 1000, "body", s, 1000), ERR_UNAUTHENTICATED);
	assert_int_equal(webhook_sign(str_c(secret), STR("id"), 1000, STR("body"), s, &e), OK);
	assert_int_equal(verify(str_c(secret), "id", 1000, "body", s, 1000), OK);
}

static void test_bad_secrets(void **state)
{
	(void)state;
	assert_int_equal(verify(STR("whsec_"), "id", 1, "b", "v1,x", 1), ERR_INVALID);
	assert_int_equal(verify(STR("whsec_c2hvcnQ="), "id", 1, "b", "v1,x", 1), ERR_INVALID);
	assert_int_equal(
		verify(STR("whsec_MfKQ9r8!KYqrTwjUPD8ILPZIo2LaLaSw"), "id", 1, "b", "v1,x", 1),
		ERR_INVALID);
	assert_int_equal(verify(SECRET, "i.d", 1, "b", "v1,x", 1), ERR_INVALID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reference_vectors),
		cmocka_unit_test(test_verify),
		cmocka_unit_test(test_bad_secrets),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
