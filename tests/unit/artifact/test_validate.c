#include "artifact/validate.h"

#include "artifact/precompress.h"
#include "artifact_fixture.h"
#include "codec/compress.h"

static struct arena memory;

/* Findings of ROOT/NAME, with dist as its public folder. */
static struct validate_result examine(const char *name, struct validate_options options)
{
	struct err e;
	struct validate_result r;
	options.folder = in_root(name);
	if (!options.public_folder)
		options.public_folder = "dist";
	assert_ok(validate_build(&options, &memory, &r, &e));
	return r;
}

static void check_one(const char *name, enum validate_rule rule, const char *file, size_t line,
		      const char *part)
{
	struct validate_result r = examine(name, (struct validate_options){ 0 });
	if (r.finding_count != 1)
		fail_msg("%s: %zu findings: %s", name, r.finding_count,
			 r.finding_count ? r.findings[1].message.ptr : "");
	assert_int_equal(r.findings[0].rule, rule);
	assert_true(str_eq_c(r.findings[0].file, file));
	assert_int_equal(r.findings[0].line, line);
	assert_contains(r.findings[0].message.ptr, part);
}

static void check_none(const char *name)
{
	struct validate_result r = examine(name, (struct validate_options){ 0 });
	if (r.finding_count)
		fail_msg("%.*s:%zu %s", STR_ARG(r.findings[0].file), r.findings[0].line,
			 r.findings[0].message.ptr);
}

static void a_good_build_has_no_finding(void **state)
{
	(void)state;
	put_text("good/dist/index.html",
		 "<!doctype html><html><head><base-x><link rel=\"stylesheet\" "
		 "href=\"/assets/a.css?v=1\">\n"
		 "<link rel=canonical href=/nowhere><link rel='icon' "
		 "href='data:image/png;base64,AA=='>\n"
		 "<!-- <script src=\"/gone.js\"></script> -->\n"
		 "<script type=module src=./assets/a%20b.js></script></head>\n"
		 "<body><a href=\"/watch-list\">page</a><img src=\"https://example.org/x.png\">\n"
		 "<img srcset=\"assets/p.svg 1x, /assets/p.svg 2x\" src={{logo}}></body></html>");
	put_text("good/dist/assets/a.css", "@import \"b.css\";\n/* url(gone.png) */ "
					   "a{content:\"url(gone)\";background:url( 'p.svg#x' )}"
					   "b{src:url(data:font/woff2;base64,AAAA)}");
	put_text("good/dist/assets/b.css", "a{background:url(../assets/p.svg)}");
	put_text("good/dist/assets/p.svg", "<svg><use href=\"#x\"/></svg>");
	put_text("good/dist/assets/a b.js",
		 "import{a as b}from\"./c.js\";import \"./c.js\";export*from'./c.js';"
		 "const t=`import \"./gone.js\" ${b(`x${'}'}`)} from \"./gone.js\"`;\n"
		 "// import \"./gone.js\"\n/* from \"./gone.js\" */\n"
		 "const r=/[/\"]from \"\\.\\/gone/g, s=\"import './gone.js'\";\n"
		 "import(\"./c.js\").then(x=>x/2);const u=new "
		 "URL(\"/assets/p.svg\",import.meta.url);"
		 "new URL(\"/api/quotes\",location.href);import react from \"react\";"
		 "o.from(\"./gone.js\");rx.import(\"./gone\");const "
		 "f={from:\"./gone.js\"};from(\"./gone.js\")");
	put_text("good/dist/assets/c.js",
		 "const password=\"current-password\",token='xxxxxxxxxxxxxxxxxxxxxxxxxxx',"
		 "k=\"xoxb-xxxxxxxxxxxxxxxxx\";a.AKIA=1");
	put_text("good/server/main.js", "const secret='kX92lmQpZ01aBvC8dEwR5tYu';");
	put_text("good/server/main.js.map", "{}");
	check_none("good");
}

static void each_missing_asset_is_found_with_its_line(void **state)
{
	(void)state;
	static const struct {
		const char *file;
		const char *text;
		size_t line;
		const char *part;
	} cases[] = {
		{ "index.html", "<p>\n\n<script src=\"/gone.js\"></script>", 3, "/gone.js" },
		{ "index.html", "<link\nrel=modulepreload\nhref=gone.js>", 3, "gone.js" },
		{ "index.html", "<img srcset='gone.png 2x'>", 1, "gone.png" },
		{ "index.html", "<p style=\"background:url(gone.png)\">", 1, "gone.png" },
		{ "index.html", "<style>\na{background:url(gone.png)}</style>", 2, "gone.png" },
		{ "index.html", "<script type=\"module\">\nimport \"/gone.js\"</script>", 2,
		  "gone.js" },
		{ "sub/p.html", "<video poster=../gone.png>", 1, "dist/gone.png" },
		{ "a/b.css", "a{}\n@import 'gone.css';", 2, "dist/a/gone.css" },
		{ "a/b.css", "a{}\nb{c:URL(../gone.woff2?x#y)}", 2, "dist/gone.woff2" },
		{ "a/b.js", "x\nimport{a}from\"./gone.js\"", 2, "dist/a/gone.js" },
		{ "a/b.js", "const a=`${`x`}`;import(\"./gone.js\")", 1, "dist/a/gone.js" },
		{ "a/b.js", "a=b/c;d=/\"/;new URL('gone.png', import.meta.url)", 1, "gone.png" },
		{ "a/b.mjs", "export {a} from '../gone.js'", 1, "dist/gone.js" },
		{ "a/b.svg", "<svg><image href=\"gone.png\"/></svg>", 1, "dist/a/gone.png" },
		{ "a/b.js", "if(a){}\nimport('../../../gone.js')", 2, "dist/gone.js" },
	};
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		char name[64], path[128], file[64];
		snprintf(name, sizeof(name), "missing-%zu", i);
		snprintf(file, sizeof(file), "dist/%s", cases[i].file);
		snprintf(path, sizeof(path), "%s/%s", name, file);
		put_text(path, cases[i].text);
		check_one(name, VALIDATE_MISSING_ASSET, file, cases[i].line, cases[i].part);
	}
}

static void what_the_server_makes_is_no_missing_asset(void **state)
{
	(void)state;
	const str external[] = { STR("/api/**"), STR("config.js") };
	put_text("served/dist/index.html",
		 "<script src=/app/config.js></script><script src=\"/app/a.js\"></script>"
		 "<img src=/elsewhere.png>");
	put_text("served/dist/a.js", "new URL('/api/x',import.meta.url)");
	struct validate_result r = examine("served",
					   (struct validate_options){ .external = external,
								      .external_count = 2,
								      .base_path = STR("/app/") });
	assert_int_equal(r.finding_count, 1); /* config.js is below the base path */
	put_text("served/dist/config.js", "");
	r = examine("served", (struct validate_options){ .external = external,
							 .external_count = 2,
							 .base_path = STR("/app/") });
	assert_int_equal(r.finding_count, 0);
}

static void source_maps_are_found(void **state)
{
	(void)state;
	put_text("map1/dist/a.js.map", "{\"version\":3,\"mappings\":\"\"}");
	check_one("map1", VALIDATE_SOURCE_MAP, "dist/a.js.map", 0, "build.sourcemap");
	put_text("map2/dist/a.js", "x\n//# sourceMappingURL=a.js.map");
	check_one("map2", VALIDATE_SOURCE_MAP, "dist/a.js", 2, "source map");
	put_text("map3/dist/a.css", "x{}/*# sourceMappingURL=a.css.map */");
	check_one("map3", VALIDATE_SOURCE_MAP, "dist/a.css", 1, "source map");
}

static void each_secret_is_found_and_not_shown(void **state)
{
	(void)state;
	/* made up, and in pieces so that this file holds none */
	static const struct {
		const char *start;
		const char *rest;
	} cases[] = {
		{ "AKIA", "QX7ZP2M4N8R1T5W9" },
		{ "ghp_", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8" },
		{ "gho_", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8" },
		{ "xoxb-", "123456789012-abcdefGHIJKL" },
		{ "sk_live_", "4eC39HqLyjWDarjtT1zdp7dc" },
		{ "AIza", "SyD3x9Q7w2E5r8T1y4U6i0O3p7A9s2D5f8G" },
		{ "-----BEGIN RSA ", "PRIVATE KEY-----" },
		{ "const apiToken=\"", "q9X2mZ7vB4nL8kJ1\"" },
		{ "{\"client_secret\": '", "q9X2mZ7vB4nL8kJ1pW3r'" },
		{ "DB_PASSWORD = `", "q9X2mZ7vB4nL8kJ1pW3r`" },
	};
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		char name[64], path[128], text[256];
		snprintf(name, sizeof(name), "secret-%zu", i);
		snprintf(path, sizeof(path), "%s/dist/a.js", name);
		snprintf(text, sizeof(text), "\n\n%s%s;", cases[i].start, cases[i].rest);
		put_text(path, text);
		check_one(name, VALIDATE_SECRET, "dist/a.js", 3, "issue a new one");
		struct validate_result r = examine(name, (struct validate_options){ 0 });
		assert_null(strstr(r.findings[0].message.ptr, cases[i].rest));
	}
}

static void a_secret_of_the_environment_is_found_in_any_file(void **state)
{
	(void)state;
	const struct validate_secret secrets[] = { { STR("DATABASE_URL"), STR("hunter2hunter2") },
						   { STR("SHORT"), STR("abc") } };
	const str allow[] = { STR("dist/*.bin") };
	put_bytes("env/dist/logo.bin", STR("\0\1\2abc hunter2hunter2\0"), 0644);
	struct validate_options o = { .secrets = secrets, .secret_count = 2 };
	struct validate_result r = examine("env", o);
	assert_int_equal(r.finding_count, 1);
	assert_contains(r.findings[0].message.ptr, "DATABASE_URL");
	assert_null(strstr(r.findings[0].message.ptr, "hunter2"));
	o.allow = allow;
	o.allow_count = 1;
	assert_int_equal(examine("env", o).finding_count, 0);
}

static void budgets_are_sums_of_what_is_served(void **state)
{
	(void)state;
	char text[20001];
	memset(text, 'a', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	put_text("budget/dist/a.js", text);
	put_text("budget/dist/b.js", text);
	put_text("budget/dist/b.js.gz", text);
	const struct validate_budget budgets[] = {
		{ STR("fits"), STR("dist/*.js"), 40000, 1000, 1000 },
		{ STR("raw"), STR("dist/**"), 39999, 0, 0 },
		{ STR("gzip"), STR("dist/**"), 0, 10, 0 },
		{ STR("brotli"), STR("dist/**"), 0, 0, 10 },
		{ STR("nothing"), STR("out/**"), 1, 0, 0 },
	};
	struct validate_result r = examine(
		"budget", (struct validate_options){ .budgets = budgets, .budget_count = 5 });
	assert_int_equal(r.finding_count, 4);
	assert_int_equal(r.sizes[0].raw_bytes, 40000);
	assert_int_equal(r.sizes[0].file_count, 2);
	assert_int_equal(r.sizes[1].raw_bytes, 40000);
	assert_int_equal(r.sizes[1].gzip_bytes, -1);
	assert_true(r.sizes[0].gzip_bytes > 0 && r.sizes[0].gzip_bytes < 1000);
}

static void a_missing_public_folder_is_an_error(void **state)
{
	(void)state;
	struct err e;
	struct validate_result r;
	put_text("nopublic/x", "");
	struct validate_options o = { .folder = in_root("nopublic"), .public_folder = "dist" };
	assert_int_equal(validate_build(&o, &memory, &r, &e), ERR_INVALID);
	assert_contains(e.message, "dist");
}

static void check_sibling(const char *name, const char *ending, enum compress_format format)
{
	struct err e;
	char sibling[128];
	snprintf(sibling, sizeof(sibling), "%s%s", name, ending);
	struct buf original = get_bytes(name), packed = get_bytes(sibling);
	struct buf back = buf_init(1 << 24);
	assert_ok(decompress_bytes(format, buf_str(&packed), &back, &e));
	assert_true(str_eq(buf_str(&original), buf_str(&back)));
	assert_true(packed.len < original.len);
	buf_done(&original);
	buf_done(&packed);
	buf_done(&back);
}

static errc damage(void *ctx, const struct io_entry *entry, enum io_walk *ret_walk, struct err *e)
{
	char name[256];
	(void)ctx;
	(void)e;
	snprintf(name, sizeof(name), "cache/%s", entry->path);
	*ret_walk = IO_WALK_INTO;
	struct buf bytes = get_bytes(name);
	bytes.ptr[bytes.len - 1] = (char)(bytes.ptr[bytes.len - 1] ^ 1);
	put_bytes(name, buf_str(&bytes), 0600);
	buf_done(&bytes);
	return OK;
}

static void damage_cache(void)
{
	struct err e;
	assert_ok(io_walk(in_root("cache"), damage, NULL, &e));
}

static void siblings_are_right_and_cached(void **state)
{
	(void)state;
	struct err e;
	struct precompress_result r;
	static char text[200000], noise[5000];
	uint32_t x = 1;
	for (size_t i = 0; i < sizeof(text) - 1; i++)
		text[i] = (char)('a' + (x = x * 1664525 + 1013904223) / 1000 % 17);
	for (size_t i = 0; i < sizeof(noise); i++)
		noise[i] = (char)((x = x * 1664525 + 1013904223) >> 24);
	put_text("press/a.js", text);
	put_text("press/sub/b.css", text + 1000);
	put_text("press/small.css", "a{}");
	put_text("press/small.css.gz", "stale");
	put_text("press/photo.png", text);
	put_bytes("press/noise.txt", (str){ noise, sizeof(noise) }, 0644);
	struct precompress_options o = { .folder = in_root("press"),
					 .cache_folder = in_root("cache") };
	assert_ok(precompress_folder(&o, &r, &e));
	assert_int_equal(r.file_count, 4);
	assert_int_equal(r.sibling_count, 4);
	assert_int_equal(r.cached_count, 0);
	check_sibling("press/a.js", ".gz", COMPRESS_GZIP);
	check_sibling("press/a.js", ".br", COMPRESS_BROTLI);
	check_sibling("press/sub/b.css", ".br", COMPRESS_BROTLI);
	assert_int_equal(access(in_root("press/small.css.gz"), F_OK), -1);
	assert_int_equal(access(in_root("press/photo.png.gz"), F_OK), -1);
	assert_int_equal(access(in_root("press/noise.txt.br"), F_OK), -1);
	struct buf first = get_bytes("press/a.js.br");
	assert_ok(precompress_folder(&o, &r, &e));
	assert_int_equal(r.cached_count, 4);
	struct buf second = get_bytes("press/a.js.br");
	assert_true(str_eq(buf_str(&first), buf_str(&second)));
	/* a damaged cache is noticed */
	damage_cache();
	o.folder = in_root("press");
	o.cache_folder = in_root("cache");
	assert_ok(precompress_folder(&o, &r, &e));
	check_sibling("press/a.js", ".br", COMPRESS_BROTLI);
	check_sibling("press/sub/b.css", ".gz", COMPRESS_GZIP);
	buf_done(&first);
	buf_done(&second);
}

static int set_up(void **state)
{
	memory = arena_init(256 << 20);
	return fixture_set_up(state);
}

static int tear_down(void **state)
{
	arena_done(&memory);
	return fixture_tear_down(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_good_build_has_no_finding),
		cmocka_unit_test(each_missing_asset_is_found_with_its_line),
		cmocka_unit_test(what_the_server_makes_is_no_missing_asset),
		cmocka_unit_test(source_maps_are_found),
		cmocka_unit_test(each_secret_is_found_and_not_shown),
		cmocka_unit_test(a_secret_of_the_environment_is_found_in_any_file),
		cmocka_unit_test(budgets_are_sums_of_what_is_served),
		cmocka_unit_test(a_missing_public_folder_is_an_error),
		cmocka_unit_test(siblings_are_right_and_cached),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
