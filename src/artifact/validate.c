#include "artifact/validate.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "artifact/validate_internal.h"
#include "base/checks.h"
#include "base/glob.h"
#include "base/units.h"
#include "codec/compress.h"
#include "os/io.h"

enum { FILE_COUNT_MAX = 200000 };

const char *validate_rule_name(enum validate_rule rule)
{
	static const char *const names[] = { [VALIDATE_BUDGET] = "budget",
					     [VALIDATE_SOURCE_MAP] = "source_map",
					     [VALIDATE_SECRET] = "secret",
					     [VALIDATE_MISSING_ASSET] = "missing_asset" };
	must((size_t)rule < ARRAY_COUNT(names));
	return names[rule];
}

void validate_add(struct validation *v, enum validate_rule rule, str file, size_t line,
		  const char *fmt, ...)
{
	v->finding_count_total++;
	if (v->finding_count == VALIDATE_FINDING_COUNT_MAX)
		return;
	va_list ap;
	va_start(ap, fmt);
	v->findings[v->finding_count++] =
		(struct validate_finding){ .rule = rule,
					   .file = arena_str(v->into, file),
					   .line = line,
					   .message = str_c(arena_vprintf(v->into, fmt, ap)) };
	va_end(ap);
}

size_t validate_line(str text, size_t offset)
{
	size_t line = 1;
	const char *at = text.ptr, *end = text.ptr + offset;
	while ((at = memchr(at, '\n', (size_t)(end - at)))) {
		line++;
		at++;
	}
	return line;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

bool validate_has_file(const struct validation *v, str path)
{
	char name[IO_PATH_MAX];
	const char *key = name;
	return str_copy(path, name, sizeof(name)) &&
	       bsearch(&key, v->files, v->file_count, sizeof(*v->files), by_name);
}

static errc visit(void *ctx, const struct io_entry *entry, enum io_walk *ret_walk, struct err *e)
{
	struct validation *v = ctx;
	*ret_walk = IO_WALK_INTO;
	if (!S_ISREG(entry->st.st_mode))
		return OK;
	if (v->file_count == FILE_COUNT_MAX)
		FAIL(e, ERR_LIMIT, "%s holds more than %d files", v->options->folder,
		     FILE_COUNT_MAX);
	if (v->file_count == v->file_size) {
		v->file_size = v->file_size ? v->file_size * 2 : 256;
		v->files = must_realloc(v->files, v->file_size * sizeof(*v->files));
	}
	v->files[v->file_count++] = arena_cstr(v->into, str_c(entry->path));
	return arena_check(v->into, "the list of files", e);
}

static errc read_file(const struct validation *v, const char *name, struct buf *into, struct err *e)
{
	char path[IO_PATH_MAX];
	if (snprintf(path, sizeof(path), "%s/%s", v->options->folder, name) >= (int)sizeof(path))
		FAIL(e, ERR_LIMIT, "a path below %s is too long", v->options->folder);
	return io_read_file(path, into, e);
}

static errc compressed_size(enum compress_format format, int level, str bytes, int64_t *size,
			    struct err *e)
{
	struct buf packed CLEANUP(buf_done) = buf_init(bytes.len + bytes.len / 8 + 65536);
	TRY(compress_bytes(format, level, bytes, &packed, e));
	*size += (int64_t)packed.len;
	return OK;
}

static errc measure_file(const struct validation *v, const char *name,
			 const struct validate_budget *budget, struct validate_size *size,
			 struct err *e)
{
	struct buf bytes CLEANUP(buf_done) = buf_init((size_t)1 << 30);
	TRY(read_file(v, name, &bytes, e));
	size->file_count++;
	size->raw_bytes += (int64_t)bytes.len;
	/* the levels of precompress.h: what browsers will get */
	if (budget->gzip_bytes_max)
		TRY(compressed_size(COMPRESS_GZIP, 9, buf_str(&bytes), &size->gzip_bytes, e));
	if (budget->brotli_bytes_max)
		TRY(compressed_size(COMPRESS_BROTLI, 11, buf_str(&bytes), &size->brotli_bytes, e));
	return OK;
}

static void check_budget(struct validation *v, const struct validate_budget *budget,
			 const char *kind, int64_t size, int64_t size_max)
{
	char is[UNIT_TEXT_SIZE], may[UNIT_TEXT_SIZE];
	if (size_max == 0 || size <= size_max)
		return;
	validate_add(
		v, VALIDATE_BUDGET, budget->glob, 0,
		"the budget %.*s allows %s%s and the files take %s (%lld bytes too many); make "
		"them smaller or raise the budget in holdfast.yml",
		STR_ARG(budget->name), size_format(size_max, may), kind, size_format(size, is),
		(long long)(size - size_max));
}

static bool is_sibling(const struct validation *v, str name)
{
	if (!str_ends(name, STR(".gz")) && !str_ends(name, STR(".br")))
		return false;
	return validate_has_file(v, (str){ name.ptr, name.len - 3 });
}

static errc measure(struct validation *v, const struct validate_budget *budget,
		    struct validate_size *ret_size, struct err *e)
{
	struct validate_size size = { .name = budget->name };
	for (size_t i = 0; i < v->file_count; i++) {
		str name = str_c(v->files[i]);
		/* compressed siblings are the same file in another form */
		if (glob_match(budget->glob, name) && !is_sibling(v, name))
			TRY(measure_file(v, v->files[i], budget, &size, e));
	}
	if (size.file_count == 0)
		validate_add(v, VALIDATE_BUDGET, budget->glob, 0,
			     "no file matches the budget %.*s; did the build write its output "
			     "elsewhere?",
			     STR_ARG(budget->name));
	check_budget(v, budget, "", size.raw_bytes, budget->raw_bytes_max);
	check_budget(v, budget, " with gzip", size.gzip_bytes, budget->gzip_bytes_max);
	check_budget(v, budget, " with brotli", size.brotli_bytes, budget->brotli_bytes_max);
	if (!budget->gzip_bytes_max)
		size.gzip_bytes = -1;
	if (!budget->brotli_bytes_max)
		size.brotli_bytes = -1;
	*ret_size = size;
	return OK;
}

static bool is_script_or_style(str name)
{
	return str_ends(name, STR(".js")) || str_ends(name, STR(".mjs")) ||
	       str_ends(name, STR(".cjs")) || str_ends(name, STR(".css"));
}

static void check_source_map(struct validation *v, str name, str text)
{
	static const char *const marks[] = { "//# sourceMappingURL=", "//@ sourceMappingURL=",
					     "/*# sourceMappingURL=" };
	if (str_ends(name, STR(".map")))
		validate_add(v, VALIDATE_SOURCE_MAP, name, 0,
			     "this source map would show the sources to everybody; do not write "
			     "it (vite: build.sourcemap false or 'hidden') or keep it out of the "
			     "public folder");
	if (!is_script_or_style(name))
		return;
	for (size_t i = 0; i < ARRAY_COUNT(marks); i++) {
		ptrdiff_t at = str_find(text, str_c(marks[i]));
		if (at >= 0)
			validate_add(
				v, VALIDATE_SOURCE_MAP, name, validate_line(text, (size_t)at),
				"it refers to a source map; build without source maps, or with "
				"hidden ones (vite: build.sourcemap false or 'hidden')");
	}
}

static errc examine(struct validation *v, const char *name, struct err *e)
{
	struct buf text CLEANUP(buf_done) = buf_init(VALIDATE_TEXT_MAX);
	str file = str_c(name);
	for (size_t i = 0; i < v->options->allow_count; i++)
		if (glob_match(v->options->allow[i], file))
			return OK;
	errc rc = read_file(v, name, &text, e);
	if (rc == ERR_LIMIT)
		FAIL(e, ERR_LIMIT,
		     "%s is larger than %d bytes and cannot be examined for secrets; list it "
		     "under build.allow in holdfast.yml if it holds none",
		     name, VALIDATE_TEXT_MAX);
	TRY(rc);
	check_source_map(v, file, buf_str(&text));
	validate_secrets(v, file, buf_str(&text));
	validate_assets(v, file, buf_str(&text));
	return OK;
}

static errc examine_public(struct validation *v, struct err *e)
{
	str folder = str_c(v->options->public_folder);
	size_t examined = 0;
	while (folder.len && folder.ptr[folder.len - 1] == '/')
		folder.len--;
	for (size_t i = 0; i < v->file_count; i++) {
		str name = str_c(v->files[i]);
		bool inside = folder.len == 0 || str_eq(folder, STR(".")) ||
			      (str_starts(name, folder) && name.ptr[folder.len] == '/');
		if (!inside)
			continue;
		examined++;
		if (!is_sibling(v, name))
			TRY(examine(v, v->files[i], e));
	}
	if (!examined)
		FAIL(e, ERR_INVALID,
		     "the public folder %s is empty or missing in %s; did the build write its "
		     "output elsewhere?",
		     v->options->public_folder, v->options->folder);
	return OK;
}

static int by_place(const void *a, const void *b)
{
	const struct validate_finding *x = a, *y = b;
	int order = str_cmp(x->file, y->file);
	if (order == 0 && x->line != y->line)
		order = x->line < y->line ? -1 : 1;
	return order ? order : str_cmp(x->message, y->message);
}

static errc run(struct validation *v, struct validate_result *ret_result, struct err *e)
{
	const struct validate_options *o = v->options;
	v->findings = arena_array(v->into, VALIDATE_FINDING_COUNT_MAX, sizeof(*v->findings));
	struct validate_size *sizes = arena_array(v->into, o->budget_count, sizeof(*sizes));
	TRY(arena_check(v->into, "the validation", e));
	TRY(io_walk(o->folder, visit, v, e));
	if (v->file_count)
		qsort(v->files, v->file_count, sizeof(*v->files), by_name);
	for (size_t i = 0; i < o->budget_count; i++)
		TRY(measure(v, &o->budgets[i], &sizes[i], e));
	if (o->public_folder)
		TRY(examine_public(v, e));
	TRY(arena_check(v->into, "the findings", e));
	if (v->finding_count)
		qsort(v->findings, v->finding_count, sizeof(*v->findings), by_place);
	*ret_result = (struct validate_result){ .findings = v->findings,
						.finding_count = v->finding_count,
						.finding_count_total = v->finding_count_total,
						.sizes = sizes };
	return OK;
}

errc validate_build(const struct validate_options *options, struct arena *into,
		    struct validate_result *ret_result, struct err *e)
{
	struct validation v = { .options = options, .into = into };
	errc rc = run(&v, ret_result, e);
	free(v.files);
	return rc;
}
