/* A release's working copy and the environment of its processes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "artifact/provenance.h"
#include "artifact/signing.h"
#include "base/checks.h"
#include "catalog/secrets.h"
#include "feature/workspace.h"
#include "os/io.h"

static const char text[] = "app: shop\n"
			   "build: { public: public, include: [public, main.js] }\n"
			   "services:\n"
			   "  web:\n"
			   "    command: [node, main.js]\n"
			   "    traffic: true\n"
			   "    ready: /\n"
			   "    variables: { LEVEL: service, ONLY: service }\n"
			   "environments:\n"
			   "  production: { listen: 127.0.0.1:8080, secrets: [KEY],"
			   " variables: { LEVEL: configuration, PATH: /mine, A: '1' } }\n";

struct fixture {
	char root[64];
	struct feature_context context;
	struct arena scratch;
	const struct spec *spec;
	const struct spec_environment *environment;
	struct release release;
};

static int set_up(void **state)
{
	struct fixture *f = must_calloc(1, sizeof(*f));
	char path[128];
	struct err e;
	snprintf(f->root, sizeof(f->root), "/tmp/holdfast-workspace-XXXXXX");
	if (!mkdtemp(f->root))
		return -1;
	f->scratch = arena_init(WORKSPACE_ARENA_BYTES);
	f->context.data = f->root;
	f->context.account_home = "/nonexistent";
	snprintf(path, sizeof(path), "%s/artifacts", f->root);
	char keys[128];
	snprintf(keys, sizeof(keys), "%s/keys", f->root);
	if (catalog_open(f->root, &f->context.catalog, &e) != OK ||
	    signing_open(keys, &f->context.signing, &e) != OK ||
	    artifact_store_open(path, f->context.signing, &f->context.artifacts, &e) != OK ||
	    spec_parse(&f->scratch, STR(text), "holdfast.yml", &f->spec, NULL, &e) != OK ||
	    spec_environment_find(f->spec, "production", &f->environment, &e) != OK) {
		print_error("%s\n", e.message);
		return -1;
	}
	f->release = (struct release){ .app = "shop",
				       .environment = "production",
				       .number = 4,
				       .artifact = "sha256:none",
				       .colour = "green" };
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	artifact_store_close(f->context.artifacts);
	signing_close(f->context.signing);
	catalog_close(f->context.catalog);
	arena_done(&f->scratch);
	errc rc = io_remove_tree(f->root, NULL);
	free(f);
	return rc == OK ? 0 : -1;
}

/* ---- The environment. */

static const char *value_of(const char *const *envp, const char *name)
{
	const char *found = NULL;
	size_t len = strlen(name);
	for (; *envp; envp++) {
		if (strncmp(*envp, name, len) != 0 || (*envp)[len] != '=')
			continue;
		assert_null(found); /* none comes twice */
		found = *envp + len + 1;
	}
	return found ? found : "(unset)";
}

static void later_ones_stand_over_earlier_ones(void **state)
{
	struct fixture *f = *state;
	struct err e = { 0 };
	const char *const extra[] = { "PORT=20001", "HOME=/its/own" };
	const char *const *envp = NULL;
	const struct spec_service *web = spec_service_find(f->environment, "web");
	assert_int_equal(configuration_put(f->context.catalog, "shop", "production",
					   STR("{\"LEVEL\":\"configuration\",\"PATH\":\"/mine\","
					       "\"A\":\"1\",\"TEXT\":\"a=b\\nc\"}"),
					   "me", &f->release.configuration_version, &e),
			 OK);
	static const char *const secrets[][2] = { { "KEY", "k" },
						  { "UNNAMED", "u" },
						  { "HOLDFAST_APP", "forged" } };
	for (size_t i = 0; i < ARRAY_COUNT(secrets); i++)
		assert_int_equal(secrets_set(f->context.catalog, "shop", "production",
					     secrets[i][0], str_c(secrets[i][1]), "me",
					     &f->release.secret_version, &e),
				 OK);
	setenv("HOLDFAST_TEST_LEAK", "x", 1);
	if (workspace_environment(&f->context, &f->release, f->environment, web, &f->scratch, extra,
				  ARRAY_COUNT(extra), &envp, &e) != OK)
		fail_msg("%s", e.message);
	assert_string_equal(value_of(envp, "LEVEL"), "service");
	assert_string_equal(value_of(envp, "PATH"), "/mine");
	assert_string_equal(value_of(envp, "A"), "1");
	assert_string_equal(value_of(envp, "TEXT"), "a=b\nc");
	assert_string_equal(value_of(envp, "KEY"), "k");
	assert_string_equal(value_of(envp, "ONLY"), "service");
	assert_string_equal(value_of(envp, "HOLDFAST_RELEASE"), "4");
	assert_string_equal(value_of(envp, "HOLDFAST_APP"), "shop");
	assert_string_equal(value_of(envp, "HOLDFAST_ENVIRONMENT"), "production");
	assert_string_equal(value_of(envp, "HOLDFAST_COLOUR"), "green");
	assert_string_equal(value_of(envp, "PORT"), "20001");
	assert_string_equal(value_of(envp, "HOME"), "/its/own");
	assert_string_equal(value_of(envp, "LANG"), "C.UTF-8");
	/* a secret that the specification does not ask for, and the daemon's own environment */
	assert_string_equal(value_of(envp, "UNNAMED"), "(unset)");
	assert_string_equal(value_of(envp, "HOLDFAST_TEST_LEAK"), "(unset)");
	/* a hook has no service */
	assert_int_equal(workspace_environment(&f->context, &f->release, f->environment, NULL,
					       &f->scratch, NULL, 0, &envp, &e),
			 OK);
	assert_string_equal(value_of(envp, "LEVEL"), "configuration");
	assert_string_equal(value_of(envp, "PORT"), "(unset)");
}

static void the_versions_are_those_of_the_release(void **state)
{
	struct fixture *f = *state;
	struct err e = { 0 };
	const char *const *envp = NULL;
	int64_t version = 0;
	struct catalog *c = f->context.catalog;
	assert_int_equal(configuration_put(c, "shop", "production", STR("{\"A\":\"old\"}"), "me",
					   &f->release.configuration_version, &e),
			 OK);
	assert_int_equal(secrets_set(c, "shop", "production", "KEY", STR("old"), "me",
				     &f->release.secret_version, &e),
			 OK);
	assert_int_equal(configuration_put(c, "shop", "production", STR("{\"A\":\"new\"}"), "me",
					   &version, &e),
			 OK);
	assert_int_equal(
		secrets_set(c, "shop", "production", "KEY", STR("new"), "me", &version, &e), OK);
	assert_int_equal(workspace_environment(&f->context, &f->release, f->environment, NULL,
					       &f->scratch, NULL, 0, &envp, &e),
			 OK);
	assert_string_equal(value_of(envp, "A"), "old");
	assert_string_equal(value_of(envp, "KEY"), "old");
}

/* ---- The working copy. */

static void put(struct fixture *f, const char *path, const char *contents)
{
	char full[512], folder[512];
	snprintf(full, sizeof(full), "%s/source/%s", f->root, path);
	snprintf(folder, sizeof(folder), "%s", full);
	*strrchr(folder, '/') = '\0';
	assert_int_equal(io_make_dirs(folder, 0755, NULL), OK);
	assert_int_equal(io_write_file(full, str_c(contents), 0644, NULL), OK);
}

/* Pack what is in ROOT/source as release NUMBER, and empty it. */
static struct release pack(struct fixture *f, int64_t number)
{
	char folder[128], digest[DIGEST_TEXT_SIZE];
	struct artifact_packed packed;
	struct err e = { 0 };
	snprintf(folder, sizeof(folder), "%s/source", f->root);
	struct provenance provenance = { .application = STR("shop"),
					 .environment = STR("production"),
					 .invocation_id = STR("op-1"),
					 .started_at = 1,
					 .finished_at = 2 };
	struct artifact_pack what = { .folder = folder,
				      .application = STR("shop"),
				      .provenance = &provenance };
	if (artifact_pack(f->context.artifacts, &what, &packed, &e) != OK)
		fail_msg("%s", e.message);
	struct release r = f->release;
	r.number = number;
	snprintf(r.artifact, sizeof(r.artifact), "%s", digest_text(&packed.digest, digest));
	assert_int_equal(io_remove_tree(folder, NULL), OK);
	return r;
}

/* "" when there is no such file in the copy of release NUMBER. */
static const char *contents(struct fixture *f, int64_t number, const char *path)
{
	struct buf bytes CLEANUP(buf_done) = buf_init(1000);
	char *full = arena_printf(&f->scratch, "%s/releases/shop/production/r%lld/%s", f->root,
				  (long long)number, path);
	if (io_read_file(full, &bytes, NULL) != OK)
		return "";
	return arena_cstr(&f->scratch, buf_str(&bytes));
}

static void assets_of_the_release_before_are_kept_once(void **state)
{
	struct fixture *f = *state;
	struct err e = { 0 };
	struct stat st;
	put(f, "main.js", "one");
	put(f, "public/index.html", "page one");
	put(f, "public/assets/app-1111.js", "code one");
	struct release first = pack(f, 1);
	put(f, "main.js", "two");
	put(f, "public/index.html", "page two");
	put(f, "public/assets/app-2222.js", "code two");
	struct release second = pack(f, 2);
	put(f, "main.js", "three");
	put(f, "public/index.html", "page three");
	struct release third = pack(f, 3);
	assert_int_equal(workspace_make(&f->context, &first, f->spec, NULL, &e), OK);
	assert_int_equal(workspace_make(&f->context, &second, f->spec, &first, &e), OK);
	if (workspace_make(&f->context, &third, f->spec, &second, &e) != OK)
		fail_msg("%s", e.message);
	assert_string_equal(contents(f, 2, "public/assets/app-1111.js"), "code one");
	assert_string_equal(contents(f, 2, "public/assets/app-2222.js"), "code two");
	assert_string_equal(contents(f, 2, "public/index.html"), "page two");
	assert_string_equal(contents(f, 2, "main.js"), "two");
	/* of the release right before it, even where the new one has no such folder; not of all */
	assert_string_equal(contents(f, 3, "public/assets/app-2222.js"), "code two");
	assert_string_equal(contents(f, 3, "public/assets/app-1111.js"), "");
	/* once made it stays as it is */
	assert_int_equal(workspace_make(&f->context, &second, f->spec, NULL, &e), OK);
	assert_string_equal(contents(f, 2, "public/assets/app-1111.js"), "code one");
	assert_int_equal(workspace_remove(&f->context, &second, &e), OK);
	assert_int_equal(workspace_remove(&f->context, &second, &e), OK);
	assert_string_equal(contents(f, 2, "main.js"), "");
	assert_string_equal(contents(f, 1, "main.js"), "one");
	char *folder = arena_printf(&f->scratch, "%s/releases/shop/production", f->root);
	assert_int_equal(stat(folder, &st), 0);
}

static void an_artifact_that_is_gone_is_said_to_be(void **state)
{
	struct fixture *f = *state;
	struct err e = { 0 };
	assert_int_equal(workspace_make(&f->context, &f->release, f->spec, NULL, &e), ERR_CORRUPT);
	memcpy(f->release.artifact, "sha256:", 8);
	memset(f->release.artifact + 7, 'a', 64);
	f->release.artifact[71] = '\0';
	assert_int_equal(workspace_make(&f->context, &f->release, f->spec, NULL, &e),
			 ERR_NOT_FOUND);
	assert_string_equal(contents(f, 4, "main.js"), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(later_ones_stand_over_earlier_ones, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(the_versions_are_those_of_the_release, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(assets_of_the_release_before_are_kept_once, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(an_artifact_that_is_gone_is_said_to_be, set_up,
						tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
