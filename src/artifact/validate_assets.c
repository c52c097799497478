/* Every file that a page, a style sheet or a script refers to must be there. */
#include <string.h>
#include <strings.h>

#include "artifact/validate_internal.h"
#include "base/glob.h"

enum { PATH_MAX_BYTES = 2048 };

struct references {
	struct validation *v;
	str file;
	str text;    /* of the whole file, for line numbers */
	size_t base; /* where the part that is scanned begins in it */
};

static str public_folder(const struct validation *v)
{
	str folder = str_c(v->options->public_folder);
	while (folder.len && folder.ptr[folder.len - 1] == '/')
		folder.len--;
	return str_eq(folder, STR(".")) ? STR("") : folder;
}

/* The path within REFERENCE; empty when it is no file of ours or only known at run time. */
static str path_of(str reference)
{
	str path = str_trim(reference);
	for (size_t i = 0; i < path.len; i++) {
		char c = path.ptr[i];
		if (c == '?' || c == '#')
			path.len = i;
		else if (c == ':' || strchr("{}<>$`|\\\"' \n", c))
			return STR(""); /* another scheme, or a template */
	}
	return str_starts(path, STR("//")) ? STR("") : path;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Append PATH to INTO name by name, `.` and `..` resolved, %XX decoded. */
static void append_path(struct buf *into, str path, size_t floor)
{
	str rest = path, name;
	while (str_split(&rest, '/', &name)) {
		if (name.len == 0 || str_eq(name, STR(".")))
			continue;
		if (str_eq(name, STR(".."))) {
			while (into->len > floor && into->ptr[--into->len] != '/')
				;
			continue;
		}
		if (into->len)
			buf_add_byte(into, '/');
		for (size_t i = 0; i < name.len; i++) {
			int high = name.ptr[i] == '%' && i + 2 < name.len
					   ? hex_digit(name.ptr[i + 1])
					   : -1;
			int low = high >= 0 ? hex_digit(name.ptr[i + 2]) : -1;
			buf_add_byte(into, (char)(low >= 0 ? high * 16 + low : name.ptr[i]));
			i += low >= 0 ? 2 : 0;
		}
	}
}

static str folder_of(str file)
{
	const char *slash = file.len ? memrchr(file.ptr, '/', file.len) : NULL;
	return (str){ file.ptr, slash ? (size_t)(slash - file.ptr) : 0 };
}

/* The file that PATH means, relative to the built folder; false when it is not served from there.
 */
static bool resolve(const struct references *r, str path, struct buf *into)
{
	const struct validate_options *o = r->v->options;
	str folder = public_folder(r->v);
	buf_add(into, folder);
	if (path.ptr[0] != '/') {
		str here = folder_of(r->file);
		str below = { here.ptr + folder.len, here.len - folder.len };
		append_path(into, below, folder.len);
		append_path(into, path, folder.len);
		return !into->overflow;
	}
	str base = o->base_path.len ? o->base_path : STR("/");
	while (base.len && base.ptr[base.len - 1] == '/')
		base.len--;
	if (!str_starts(path, base) || (path.len > base.len && path.ptr[base.len] != '/'))
		return false;
	append_path(into, (str){ path.ptr + base.len, path.len - base.len }, folder.len);
	return !into->overflow;
}

static bool is_external(const struct validation *v, str path)
{
	size_t skip = path.len && path.ptr[0] == '/';
	for (size_t i = 0; i < v->options->external_count; i++) {
		str glob = v->options->external[i];
		if (glob.len && glob.ptr[0] == '/')
			glob = (str){ glob.ptr + 1, glob.len - 1 };
		if (glob_match(glob, (str){ path.ptr + skip, path.len - skip }))
			return true;
	}
	return false;
}

static void check_reference(const struct references *r, str reference, size_t offset)
{
	struct buf name = buf_init(PATH_MAX_BYTES);
	str path = path_of(reference);
	bool ok = path.len == 0 || is_external(r->v, path) || !resolve(r, path, &name);
	if (!ok) {
		ok = validate_has_file(r->v, buf_str(&name));
		if (!ok && (path.ptr[path.len - 1] == '/')) {
			buf_add_c(&name, name.len ? "/index.html" : "index.html");
			ok = validate_has_file(r->v, buf_str(&name));
		}
	}
	if (!ok)
		validate_add(r->v, VALIDATE_MISSING_ASSET, r->file,
			     validate_line(r->text, r->base + offset),
			     "it refers to %.*s, and there is no file %s; add it, correct the "
			     "reference, or list the path under build.external in holdfast.yml "
			     "when the server makes it",
			     (int)(path.len < 200 ? path.len : 200), path.ptr, buf_cstr(&name));
	buf_done(&name);
}

static bool starts_nocase(str s, const char *start)
{
	size_t len = strlen(start);
	return s.len >= len && strncasecmp(s.ptr, start, len) == 0;
}

static str from(str s, size_t offset)
{
	return offset < s.len ? (str){ s.ptr + offset, s.len - offset } : (str){ "", 0 };
}

/* The quoted string at AT without its quotes; *AT moves behind it. */
static str quoted(str s, size_t *at)
{
	char quote = s.ptr[*at];
	size_t begin = ++*at;
	while (*at < s.len && s.ptr[*at] != quote)
		*at += s.ptr[*at] == '\\' ? 2 : 1;
	if (*at > s.len)
		*at = s.len;
	str content = { s.ptr + begin, *at - begin };
	*at += *at < s.len;
	return content;
}

static size_t skip_space(str s, size_t at)
{
	while (at < s.len && strchr(" \t\r\n\f", s.ptr[at]) && s.ptr[at])
		at++;
	return at;
}

static void check_url(const struct references *r, str css, size_t *at)
{
	*at = skip_space(css, *at + 4);
	if (*at >= css.len)
		return;
	size_t begin = *at;
	if (css.ptr[*at] == '"' || css.ptr[*at] == '\'') {
		check_reference(r, quoted(css, at), begin);
		return;
	}
	while (*at < css.len && css.ptr[*at] != ')')
		++*at;
	check_reference(r, (str){ css.ptr + begin, *at - begin }, begin);
}

static void scan_style(const struct references *r, str css)
{
	bool import = false;
	for (size_t at = 0; at < css.len;) {
		str rest = from(css, at);
		if (str_starts(rest, STR("/*"))) {
			ptrdiff_t end = str_find(from(rest, 2), STR("*/"));
			at = end < 0 ? css.len : at + (size_t)end + 4;
		} else if (starts_nocase(rest, "url(")) {
			check_url(r, css, &at);
			import = false;
		} else if (starts_nocase(rest, "@import")) {
			at = skip_space(css, at + 7);
			import = true;
		} else if (css.ptr[at] == '"' || css.ptr[at] == '\'') {
			size_t begin = at;
			str content = quoted(css, &at);
			if (import)
				check_reference(r, content, begin);
			import = false;
		} else {
			at++;
			import = false;
		}
	}
}

static void found_specifier(void *ctx, str specifier, size_t offset)
{
	check_reference(ctx, specifier, offset);
}

static void scan_script(struct references *r, str script)
{
	validate_scan_script(script, found_specifier, r);
}

struct attribute {
	str name;
	str value;
	size_t offset; /* of the value in the file */
};

struct tag {
	str name;
	struct attribute attributes[64]; /* more of them are not looked at */
	size_t attribute_count;
};

static bool is_name(str s, const char *name)
{
	return s.len == strlen(name) && strncasecmp(s.ptr, name, s.len) == 0;
}

static const struct attribute *attribute_of(const struct tag *tag, const char *name)
{
	for (size_t i = 0; i < tag->attribute_count; i++)
		if (is_name(tag->attributes[i].name, name))
			return &tag->attributes[i];
	return NULL;
}

static void read_attribute(str html, size_t *at, struct tag *tag)
{
	struct attribute a = { .name = { html.ptr + *at, 0 } };
	while (*at < html.len && !strchr(" \t\r\n\f=>/", html.ptr[*at]))
		++*at;
	a.name.len = (size_t)(html.ptr + *at - a.name.ptr);
	*at = skip_space(html, *at);
	if (*at < html.len && html.ptr[*at] == '=') {
		*at = skip_space(html, *at + 1);
		a.offset = *at;
		if (*at < html.len && (html.ptr[*at] == '"' || html.ptr[*at] == '\'')) {
			const char *end = memchr(html.ptr + *at + 1, html.ptr[*at],
						 html.len - *at - 1);
			size_t stop = end ? (size_t)(end - html.ptr) : html.len;
			a.value = (str){ html.ptr + *at + 1, stop - *at - 1 };
			*at = stop + (end != NULL);
		} else {
			while (*at < html.len && !strchr(" \t\r\n\f>", html.ptr[*at]))
				++*at;
			a.value = (str){ html.ptr + a.offset, *at - a.offset };
		}
	} else if (a.name.len == 0) {
		++*at; /* a stray `/` or `=` */
		return;
	}
	if (tag->attribute_count < sizeof(tag->attributes) / sizeof(tag->attributes[0]))
		tag->attributes[tag->attribute_count++] = a;
}

static void read_tag(str html, size_t *at, struct tag *tag)
{
	size_t begin = ++*at;
	tag->attribute_count = 0;
	while (*at < html.len && !strchr(" \t\r\n\f/>", html.ptr[*at]))
		++*at;
	tag->name = (str){ html.ptr + begin, *at - begin };
	for (*at = skip_space(html, *at); *at < html.len && html.ptr[*at] != '>';
	     *at = skip_space(html, *at))
		read_attribute(html, at, tag);
	*at += *at < html.len;
}

static const struct {
	const char *tag;
	const char *attribute;
} asset_attributes[] = {
	{ "script", "src" },     { "link", "href" },   { "img", "src" },
	{ "source", "src" },     { "video", "src" },   { "video", "poster" },
	{ "audio", "src" },      { "track", "src" },   { "embed", "src" },
	{ "input", "src" },      { "object", "data" }, { "use", "href" },
	{ "use", "xlink:href" }, { "image", "href" },  { "image", "xlink:href" },
};

/* Links to other pages and hosts are no assets. */
static bool is_asset_link(const struct tag *tag)
{
	static const char *const kinds[] = { "stylesheet",       "icon",      "modulepreload",
					     "preload",          "prefetch",  "manifest",
					     "apple-touch-icon", "mask-icon", "shortcut" };
	const struct attribute *rel = attribute_of(tag, "rel");
	str rest = rel ? rel->value : STR(""), word;
	while (str_split(&rest, ' ', &word))
		for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
			if (is_name(word, kinds[i]))
				return true;
	return false;
}

/* `a.png 1x, b.png 2x` */
static void check_set(const struct references *r, const struct attribute *set)
{
	str rest = set->value, candidate;
	if (str_starts(str_trim(rest), STR("data:")))
		return;
	while (str_split(&rest, ',', &candidate)) {
		candidate = str_trim(candidate);
		str url = candidate;
		for (size_t i = 0; i < url.len; i++)
			if (strchr(" \t\r\n", url.ptr[i]))
				url.len = i;
		check_reference(r, url, set->offset);
	}
}

static void check_tag(const struct references *r, const struct tag *tag)
{
	for (size_t i = 0; i < sizeof(asset_attributes) / sizeof(asset_attributes[0]); i++) {
		const struct attribute *a = attribute_of(tag, asset_attributes[i].attribute);
		if (a && is_name(tag->name, asset_attributes[i].tag) &&
		    (!is_name(tag->name, "link") || is_asset_link(tag)))
			check_reference(r, a->value, a->offset);
	}
	const struct attribute *set = attribute_of(tag, "srcset");
	if (set && (is_name(tag->name, "img") || is_name(tag->name, "source")))
		check_set(r, set);
	const struct attribute *style = attribute_of(tag, "style");
	if (style) {
		struct references inner = *r;
		inner.base = style->offset;
		scan_style(&inner, style->value);
	}
}

/* The text of a script or style element; *AT moves to its end tag. */
static str raw_text(str html, size_t *at, const char *end_tag)
{
	size_t begin = *at;
	while (*at < html.len && !starts_nocase(from(html, *at), end_tag))
		++*at;
	return (str){ html.ptr + begin, *at - begin };
}

static bool is_javascript(const struct tag *tag)
{
	const struct attribute *type = attribute_of(tag, "type");
	return !type || type->value.len == 0 || is_name(type->value, "module") ||
	       str_find(type->value, STR("javascript")) >= 0;
}

static void scan_page(const struct references *r, str html)
{
	struct tag tag;
	for (size_t at = 0; at < html.len;) {
		const char *open = memchr(html.ptr + at, '<', html.len - at);
		if (!open)
			return;
		at = (size_t)(open - html.ptr);
		if (str_starts(from(html, at), STR("<!--"))) {
			ptrdiff_t end = str_find(from(html, at), STR("-->"));
			at = end < 0 ? html.len : at + (size_t)end + 3;
			continue;
		}
		char c = at + 1 < html.len ? (char)(html.ptr[at + 1] | 0x20) : '\0';
		if (c < 'a' || c > 'z') {
			at++;
			continue;
		}
		read_tag(html, &at, &tag);
		check_tag(r, &tag);
		struct references inner = *r;
		inner.base = at;
		if (is_name(tag.name, "style")) {
			scan_style(&inner, raw_text(html, &at, "</style"));
		} else if (is_name(tag.name, "script")) {
			str script = raw_text(html, &at, "</script");
			if (is_javascript(&tag))
				scan_script(&inner, script);
		}
	}
}

void validate_assets(struct validation *v, str file, str text)
{
	struct references r = { .v = v, .file = file, .text = text };
	if (str_ends(file, STR(".html")) || str_ends(file, STR(".htm")) ||
	    str_ends(file, STR(".svg")))
		scan_page(&r, text);
	else if (str_ends(file, STR(".css")))
		scan_style(&r, text);
	else if (str_ends(file, STR(".js")) || str_ends(file, STR(".mjs")))
		scan_script(&r, text);
}
