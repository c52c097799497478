#include "artifact/signing.h"

#include "artifact_fixture.h"

static const char message[] = "what is signed\n";

static bool have_minisign(void)
{
	return access("/usr/bin/minisign", X_OK) == 0;
}

static int run(const char *command)
{
	char text[2048];
	snprintf(text, sizeof(text), "cd %s && (%s) >/dev/null 2>&1", fixture_root, command);
	FILE *p = popen(text, "r");
	assert_non_null(p);
	return pclose(p);
}

static struct buf sign(struct signing *s)
{
	struct err e;
	struct buf file = buf_init(SIGNATURE_FILE_MAX);
	assert_ok(signing_sign(s, STR(message), STR("digest d\tat noon"), &file, &e));
	return file;
}

static void a_signature_is_accepted_and_any_change_refused(void **state)
{
	(void)state;
	struct err e;
	struct signing *s;
	str comment;
	assert_ok(signing_open(in_root("keys"), &s, &e));
	struct buf file = sign(s);
	assert_ok(signing_verify(s, STR(message), buf_str(&file), &comment, &e));
	assert_true(str_eq(comment, STR("digest d\tat noon")));
	assert_int_equal(signing_verify(s, STR("what is signed"), buf_str(&file), &comment, &e),
			 ERR_CORRUPT);
	size_t comment_end = strcspn(buf_cstr(&file), "\n");
	for (size_t i = 0; i < file.len; i++)
		for (int bit = 0; bit < 8; bit++) {
			file.ptr[i] = (char)(file.ptr[i] ^ (1 << bit));
			if (signing_verify(s, STR(message), buf_str(&file), &comment, NULL) == OK) {
				/* only the untrusted comment's text is free */
				assert_in_range(i, 19, comment_end - 1);
				assert_true(str_eq(comment, STR("digest d\tat noon")));
			}
			file.ptr[i] = (char)(file.ptr[i] ^ (1 << bit));
		}
	buf_done(&file);
	signing_close(s);
}

static void the_key_is_private_and_kept(void **state)
{
	(void)state;
	struct err e;
	struct signing *s;
	struct stat st;
	char id[SIGNING_KEY_ID_SIZE], again[SIGNING_KEY_ID_SIZE];
	assert_ok(signing_open(in_root("keys"), &s, &e));
	signing_key_id(s, id);
	signing_close(s);
	assert_int_equal(stat(in_root("keys"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	assert_int_equal(stat(in_root("keys/artifact.key"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_ok(signing_open(in_root("keys"), &s, &e));
	assert_string_equal(signing_key_id(s, again), id);
	signing_close(s);
	assert_int_equal(chmod(in_root("keys/artifact.key"), 0640), 0);
	assert_int_equal(signing_open(in_root("keys"), &s, &e), ERR_FORBIDDEN);
	assert_contains(e.message, "chmod 600");
	assert_int_equal(chmod(in_root("keys/artifact.key"), 0600), 0);
}

static void a_damaged_key_is_told(void **state)
{
	(void)state;
	struct err e;
	struct signing *s;
	assert_ok(signing_open(in_root("damaged"), &s, &e));
	signing_close(s);
	struct buf key = get_bytes("damaged/artifact.key");
	key.ptr[key.len - 60] = key.ptr[key.len - 60] == 'A' ? 'B' : 'A';
	put_bytes("damaged/artifact.key", buf_str(&key), 0600);
	buf_done(&key);
	assert_int_equal(signing_open(in_root("damaged"), &s, &e), ERR_CORRUPT);
}

static void a_rotated_key_stays_trusted_and_a_foreign_one_is_not(void **state)
{
	(void)state;
	struct err e;
	struct signing *s, *other;
	str comment;
	char id[SIGNING_KEY_ID_SIZE], new_id[SIGNING_KEY_ID_SIZE];
	assert_ok(signing_open(in_root("rotated"), &s, &e));
	struct buf old = sign(s);
	signing_key_id(s, id);
	assert_ok(signing_rotate(s, &e));
	assert_string_not_equal(signing_key_id(s, new_id), id);
	assert_ok(signing_verify(s, STR(message), buf_str(&old), &comment, &e));
	signing_close(s);
	assert_ok(signing_open(in_root("rotated"), &s, &e));
	assert_ok(signing_verify(s, STR(message), buf_str(&old), &comment, &e));

	assert_ok(signing_open(in_root("foreign"), &other, &e));
	struct buf foreign = sign(other), key = buf_init(4096);
	assert_int_equal(signing_verify(s, STR(message), buf_str(&foreign), &comment, &e),
			 ERR_FORBIDDEN);
	signing_public_key(other, &key);
	assert_ok(signing_trust(s, buf_str(&key), &e));
	assert_ok(signing_verify(s, STR(message), buf_str(&foreign), &comment, &e));
	assert_int_equal(signing_trust(s, STR("nonsense\n"), &e), ERR_INVALID);
	buf_done(&old);
	buf_done(&foreign);
	buf_done(&key);
	signing_close(other);
	signing_close(s);
}

static void minisign_accepts_ours(void **state)
{
	(void)state;
	struct err e;
	struct signing *s;
	if (!have_minisign())
		skip();
	assert_ok(signing_open(in_root("mini"), &s, &e));
	struct buf file = sign(s);
	put_text("message", message);
	put_bytes("message.sig", buf_str(&file), 0644);
	assert_int_equal(run("minisign -V -p mini/artifact.pub -m message -x message.sig"), 0);
	put_text("message", "what is not signed\n");
	assert_int_not_equal(run("minisign -V -p mini/artifact.pub -m message -x message.sig"), 0);
	buf_done(&file);
	signing_close(s);
}

static void we_accept_minisigns(void **state)
{
	(void)state;
	struct err e;
	struct signing *s;
	str comment;
	if (!have_minisign())
		skip();
	assert_ok(signing_open(in_root("mini"), &s, &e));
	put_text("message", message);
	/* with our secret key, and with one of its own that we trust */
	assert_int_equal(run("minisign -S -W -s mini/artifact.key -m message -x a.sig -t hello"),
			 0);
	struct buf a = get_bytes("a.sig");
	assert_ok(signing_verify(s, STR(message), buf_str(&a), &comment, &e));
	assert_true(str_eq(comment, STR("hello")));
	assert_int_equal(run("minisign -G -W -f -p own.pub -s own.key"), 0);
	assert_int_equal(run("minisign -S -W -s own.key -m message -x b.sig"), 0);
	struct buf b = get_bytes("b.sig"), key = get_bytes("own.pub");
	assert_int_equal(signing_verify(s, STR(message), buf_str(&b), &comment, &e), ERR_FORBIDDEN);
	assert_ok(signing_trust(s, buf_str(&key), &e));
	assert_ok(signing_verify(s, STR(message), buf_str(&b), &comment, &e));
	buf_done(&a);
	buf_done(&b);
	buf_done(&key);
	signing_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_signature_is_accepted_and_any_change_refused),
		cmocka_unit_test(the_key_is_private_and_kept),
		cmocka_unit_test(a_damaged_key_is_told),
		cmocka_unit_test(a_rotated_key_stays_trusted_and_a_foreign_one_is_not),
		cmocka_unit_test(minisign_accepts_ours),
		cmocka_unit_test(we_accept_minisigns),
	};
	return cmocka_run_group_tests(tests, fixture_set_up, fixture_tear_down);
}
