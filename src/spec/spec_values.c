/* Scalar options: from text, and back to the text a person would write. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "spec/spec_internal.h"

static const char name_alphabet[] = "abcdefghijklmnopqrstuvwxyz";
static const char capital_alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
static const char digits[] = "0123456789";

static bool in_set(char c, const char *set)
{
	return c && strchr(set, c);
}

static bool is_word(str s, const char *more)
{
	for (size_t i = 0; i < s.len; i++)
		if (!in_set(s.ptr[i], name_alphabet) && !in_set(s.ptr[i], capital_alphabet) &&
		    !in_set(s.ptr[i], digits) && !in_set(s.ptr[i], more))
			return false;
	return s.len > 0;
}

static bool has_control(str s)
{
	for (size_t i = 0; i < s.len; i++)
		if ((unsigned char)s.ptr[i] < 0x20 || s.ptr[i] == 0x7f)
			return true;
	return false;
}

bool spec_is_number(enum spec_type type)
{
	return type == SPEC_BOOL || type == SPEC_INT || type == SPEC_DURATION ||
	       type == SPEC_SIZE || type == SPEC_PERCENT || type == SPEC_SIGNAL;
}

bool spec_is_text(enum spec_type type)
{
	return type == SPEC_STRING || type == SPEC_LINE || type == SPEC_PROGRAM ||
	       type == SPEC_ACCOUNT || type == SPEC_NAME || type == SPEC_VARIABLE ||
	       type == SPEC_ENUM || type == SPEC_FOLDER || type == SPEC_FILE || type == SPEC_GLOB ||
	       type == SPEC_URL_PATH || type == SPEC_URL;
}

const char *spec_type_meaning(enum spec_type type)
{
	static const char *const meanings[SPEC_TYPE_COUNT] = {
		[SPEC_STRING] = "text",
		[SPEC_LINE] = "one line of text",
		[SPEC_PROGRAM] = "the name of a program, such as node",
		[SPEC_ACCOUNT] = "the name of an account",
		[SPEC_NAME] = "a name: a-z, 0-9 and -, beginning with a letter or digit, at most "
			      "40",
		[SPEC_VARIABLE] = "a variable's name: A-Z, a-z, 0-9 and _, not beginning with a "
				  "digit",
		[SPEC_PHASE_WORD] = "the name of a phase",
		[SPEC_ENUM] = "one of the words allowed",
		[SPEC_BOOL] = "true or false, without quotes",
		[SPEC_INT] = "a whole number, without quotes",
		[SPEC_DURATION] = "a duration such as 500ms, 30s or 10m",
		[SPEC_SIZE] = "a size such as 400KiB, 512MiB or 2GiB",
		[SPEC_PERCENT] = "a whole percentage such as 10%",
		[SPEC_SIGNAL] = "a signal such as SIGTERM",
		[SPEC_FOLDER] = "a path within the application's folder, without .. or a leading /",
		[SPEC_FILE] = "an absolute path, without ..",
		[SPEC_GLOB] = "a path or glob within the application's folder, without .. or a "
			      "leading /, at most 256 bytes",
		[SPEC_URL_PATH] = "a path with a leading / and without spaces or #",
		[SPEC_URL] = "a URL that begins with https:// or http://",
		[SPEC_LISTEN] = "an address and port such as 127.0.0.1:8080, [::1]:8080 or :8080",
		[SPEC_COMMAND] = "a command: a list of words, or text",
		[SPEC_LIST] = "a list",
		[SPEC_EVENTS] = "a list",
		[SPEC_VARIABLES] = "a mapping of names to text",
		[SPEC_HEADERS] = "a mapping of header names to text",
		[SPEC_GROUP] = "a mapping of options",
		[SPEC_GROUP_SWITCHED] = "a mapping of options",
		[SPEC_GROUP_LIST] = "a list",
		[SPEC_GROUP_MAP] = "a mapping by name",
		[SPEC_OVERRIDE] = "a mapping of options",
		[SPEC_OVERRIDE_MAP] = "a mapping by name",
	};
	return meanings[type];
}

/* ---- Numbers. */

static bool parse_signal(str text, int64_t *ret)
{
	for (size_t i = 0; i < spec_signal_count; i++) {
		if (!str_eq_c(text, spec_signals[i].name))
			continue;
		*ret = spec_signals[i].number;
		return true;
	}
	return false;
}

static bool parse_number(enum spec_type type, str text, int64_t *ret)
{
	switch (type) {
	case SPEC_BOOL:
		*ret = str_eq_c(text, "true");
		return *ret || str_eq_c(text, "false");
	case SPEC_INT:
		return text.len > 0 && text.len < 16 && str_to_i64(text, ret);
	case SPEC_DURATION:
		return duration_parse(text, ret);
	case SPEC_SIZE:
		return size_parse(text, ret);
	case SPEC_PERCENT:
		return text.len > 1 && text.len < 8 && str_ends(text, STR("%")) &&
		       in_set(text.ptr[0], digits) &&
		       str_to_i64((str){ text.ptr, text.len - 1 }, ret);
	case SPEC_SIGNAL:
		return parse_signal(text, ret);
	default:
		return false;
	}
}

int64_t spec_load(const struct spec_option *o, const void *member)
{
	if (o->size == sizeof(int64_t)) {
		int64_t value;
		memcpy(&value, member, sizeof(value));
		return value;
	}
	if (o->size == sizeof(int)) {
		int value;
		memcpy(&value, member, sizeof(value));
		return value;
	}
	must(o->size == sizeof(bool));
	return *(const bool *)member;
}

static void store(const struct spec_option *o, void *member, int64_t value)
{
	if (o->size == sizeof(int64_t)) {
		memcpy(member, &value, sizeof(value));
	} else if (o->size == sizeof(int)) {
		int narrow = (int)value;
		memcpy(member, &narrow, sizeof(narrow));
	} else {
		must(o->size == sizeof(bool));
		*(bool *)member = value != 0;
	}
}

/* The largest unit that divides VALUE, so that the text is exact. */
static void format_scaled(int64_t value, const char *const *units, const int64_t *scales,
			  size_t count, struct buf *into)
{
	size_t u = count - 1;
	while (u > 0 && (value == 0 || value % scales[u] != 0))
		u--;
	buf_printf(into, "%lld%s", (long long)(value / scales[u]), units[u]);
}

void spec_value_format(const struct spec_option *o, int64_t value, struct buf *into)
{
	static const char *const times[] = { "ms", "s", "m", "h", "d" };
	static const int64_t time_scales[] = { 1, 1000, 60000, 3600000, 86400000 };
	static const char *const sizes[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	static const int64_t size_scales[] = { 1, 1LL << 10, 1LL << 20, 1LL << 30, 1LL << 40 };
	if (o->none && value == 0)
		buf_add_c(into, "none");
	else if (o->type == SPEC_BOOL)
		buf_add_c(into, value ? "true" : "false");
	else if (o->type == SPEC_DURATION)
		format_scaled(value, times, time_scales, ARRAY_COUNT(times), into);
	else if (o->type == SPEC_SIZE)
		format_scaled(value, sizes, size_scales, ARRAY_COUNT(sizes), into);
	else if (o->type == SPEC_PERCENT)
		buf_printf(into, "%lld%%", (long long)value);
	else if (o->type == SPEC_SIGNAL)
		buf_add_c(into, spec_signal_name((int)value));
	else
		buf_printf(into, "%lld", (long long)value);
}

void spec_range_write(const struct spec_option *o, struct buf *into)
{
	if (o->type != SPEC_INT && o->type != SPEC_DURATION && o->type != SPEC_SIZE &&
	    o->type != SPEC_PERCENT)
		return;
	struct spec_option bound = { .type = o->type };
	spec_value_format(&bound, o->min, into);
	buf_add_c(into, " to ");
	spec_value_format(&bound, o->max, into);
}

static void read_number(struct spec_parser *p, const struct spec_option *o,
			const struct yaml_node *node, void *member)
{
	str text = node->text;
	int64_t value = 0;
	bool strict = o->type == SPEC_BOOL || o->type == SPEC_INT;
	if (o->none && str_eq_c(text, "none")) {
		store(o, member, 0);
		return;
	}
	if ((strict && !node->plain) || !parse_number(o->type, text, &value)) {
		const char *hint = "";
		if (o->type == SPEC_SIGNAL) {
			const char *words[16] = { NULL };
			must(spec_signal_count < ARRAY_COUNT(words));
			for (size_t i = 0; i < spec_signal_count; i++)
				words[i] = spec_signals[i].name;
			hint = spec_did_you_mean(p, text, words);
		}
		spec_error(p, node, hint, "must be %s%s, not %s", spec_type_meaning(o->type),
			   o->none ? ", or none" : "", spec_shown(p, text));
		return;
	}
	bool ranged = o->type != SPEC_BOOL && o->type != SPEC_SIGNAL;
	if (ranged && (value < o->min || value > o->max)) {
		struct buf range = buf_init(80);
		spec_range_write(o, &range);
		char hint[120];
		snprintf(hint, sizeof(hint), "allowed: %s%s", buf_cstr(&range),
			 o->none ? ", or none" : "");
		buf_done(&range);
		spec_error(p, node, hint, "%s is too %s", spec_shown(p, text),
			   value < o->min ? "small" : "large");
		return;
	}
	store(o, member, value);
}

/* ---- Text. */

/* No empty, `.` or `..` part. */
static bool is_clean_path(str path)
{
	str rest = path, part;
	bool folder = str_ends(path, STR("/"));
	if (folder)
		rest.len--;
	if (rest.len == 0)
		return false;
	while (str_split(&rest, '/', &part))
		if (part.len == 0 || str_eq_c(part, ".."))
			return false;
	return true;
}

static bool is_url(str s)
{
	str rest = s;
	if (str_starts(s, STR("https://")))
		rest = (str){ s.ptr + 8, s.len - 8 };
	else if (str_starts(s, STR("http://")))
		rest = (str){ s.ptr + 7, s.len - 7 };
	else
		return false;
	size_t n = 0;
	while (n < rest.len && !in_set(rest.ptr[n], "/?#"))
		n++;
	str authority = { rest.ptr, n }, port = { 0 };
	ptrdiff_t colon = str_find(authority, STR(":"));
	str host = authority;
	if (str_starts(authority, STR("["))) {
		ptrdiff_t close = str_find(authority, STR("]"));
		if (close < 0)
			return false;
		host = (str){ authority.ptr + 1, (size_t)close - 1 };
		port = (str){ authority.ptr + close + 1, authority.len - (size_t)close - 1 };
		char address[64];
		struct in6_addr parsed;
		if (!str_copy(host, address, sizeof(address)) ||
		    inet_pton(AF_INET6, address, &parsed) != 1)
			return false;
	} else {
		if (colon >= 0) {
			host = (str){ authority.ptr, (size_t)colon };
			port = (str){ authority.ptr + colon, authority.len - (size_t)colon };
		}
		if (!is_word(host, ".-_"))
			return false;
	}
	uint64_t number = 0;
	if (port.len && (port.ptr[0] != ':' || port.len > 6 ||
			 !str_to_u64((str){ port.ptr + 1, port.len - 1 }, &number) || number < 1 ||
			 number > 65535))
		return false;
	for (size_t i = 0; i < s.len; i++)
		if ((unsigned char)s.ptr[i] <= 0x20 || (unsigned char)s.ptr[i] >= 0x7f)
			return false;
	return true;
}

static bool is_url_path(str s)
{
	for (size_t i = 0; i < s.len; i++)
		if ((unsigned char)s.ptr[i] <= 0x20 || (unsigned char)s.ptr[i] >= 0x7f ||
		    in_set(s.ptr[i], "#\"<>\\^`{|}"))
			return false;
	return s.len && s.ptr[0] == '/' && !str_starts(s, STR("//"));
}

static bool is_right(enum spec_type type, str s)
{
	switch (type) {
	case SPEC_NAME:
		return str_is_name(s, SPEC_NAME_BYTES_MAX);
	case SPEC_VARIABLE:
		return s.len <= 128 && is_word(s, "_") && !in_set(s.ptr[0], digits);
	case SPEC_PROGRAM:
		return s.len <= 64 && is_word(s, "._+-") && s.ptr[0] != '-' && s.ptr[0] != '.';
	case SPEC_ACCOUNT:
		return is_word(s, "_-") && (in_set(s.ptr[0], name_alphabet) || s.ptr[0] == '_');
	case SPEC_LINE:
		return !has_control(s);
	case SPEC_FOLDER:
		return !has_control(s) && s.len < 256 && is_clean_path(s);
	case SPEC_GLOB:
		return !has_control(s) && s.len <= 256 && is_clean_path(s);
	case SPEC_FILE:
		return !has_control(s) && s.len > 1 && s.len < 512 && s.ptr[0] == '/' &&
		       is_clean_path((str){ s.ptr + 1, s.len - 1 }) && !str_ends(s, STR("/"));
	case SPEC_URL_PATH:
		return s.len < 256 && is_url_path(s);
	case SPEC_URL:
		return s.len < 2048 && is_url(s);
	default:
		return true;
	}
}

static size_t word_index(const char *const *words, str s)
{
	size_t i = 0;
	while (words[i] && !str_eq_c(s, words[i]))
		i++;
	return i;
}

static const char *one_of(struct spec_parser *p, const char *const *words, str typed)
{
	const char *near = spec_did_you_mean(p, typed, words);
	if (near[0])
		return near;
	struct buf all = buf_init(256);
	buf_add_c(&all, "allowed: ");
	for (size_t i = 0; words[i]; i++)
		buf_printf(&all, "%s%s", i ? ", " : "", words[i]);
	const char *text = arena_cstr(p->config, buf_str(&all));
	buf_done(&all);
	return text ? text : "";
}

const char *spec_read_text(struct spec_parser *p, const struct spec_option *o, enum spec_type type,
			   const struct yaml_node *node, bool secret)
{
	if (node->kind != YAML_SCALAR) {
		spec_error(p, node, "", "must be %s, not a %s", spec_type_meaning(type),
			   node->kind == YAML_MAPPING ? "mapping" : "list");
		return NULL;
	}
	str s = node->text;
	if (yaml_is_null(node)) {
		spec_error(p, node, "remove the key to leave it out", "has no value; it must be %s",
			   spec_type_meaning(type));
		return NULL;
	}
	if (memchr(s.ptr, '\0', s.len)) {
		spec_error(p, node, "", "must not hold a NUL character");
		return NULL;
	}
	if (type == SPEC_ENUM && !o->allowed[word_index(o->allowed, s)]) {
		spec_error(p, node, one_of(p, o->allowed, s), "%s is not known", spec_shown(p, s));
		return NULL;
	}
	if (!is_right(type, s)) {
		if (secret)
			spec_error(p, node, "", "must be %s", spec_type_meaning(type));
		else
			spec_error(p, node, "", "must be %s, not %s", spec_type_meaning(type),
				   spec_shown(p, s));
		return NULL;
	}
	return arena_cstr(p->config, s);
}

static void read_listen(struct spec_parser *p, const struct spec_option *o,
			const struct yaml_node *node, void *member)
{
	if (!spec_read_text(p, o, SPEC_LISTEN, node, false))
		return;
	str s = node->text;
	size_t colon = s.len;
	while (colon > 0 && s.ptr[colon - 1] != ':')
		colon--;
	uint64_t port = 0;
	str port_text = { s.ptr + colon, s.len - colon };
	bool right = colon > 0 && port_text.len <= 5 && str_to_u64(port_text, &port) && port >= 1 &&
		     port <= 65535;
	str host = { s.ptr, colon ? colon - 1 : 0 };
	char address[64] = "";
	unsigned char parsed[sizeof(struct in6_addr)];
	if (host.len >= 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']') {
		host = (str){ host.ptr + 1, host.len - 2 };
		right = right && str_copy(host, address, sizeof(address)) &&
			inet_pton(AF_INET6, address, parsed) == 1;
	} else if (str_eq_c(host, "*")) {
		host.len = 0;
	} else if (host.len && str_copy(host, address, sizeof(address))) {
		/* digits and dots alone are an address or a slip, never a name */
		bool numeric = strspn(address, "0123456789.") == host.len;
		right = right && (numeric ? inet_pton(AF_INET, address, parsed) == 1
					  : is_word(host, ".-") && address[0] != '-');
	} else if (host.len) {
		right = false;
	}
	if (!right) {
		spec_error(p, node, "", "must be %s, not %s", spec_type_meaning(SPEC_LISTEN),
			   spec_shown(p, s));
		return;
	}
	const char *copy = arena_cstr(p->config, host);
	int number = (int)port;
	memcpy(member, &copy, sizeof(copy));
	memcpy((char *)member + sizeof(copy), &number, sizeof(number));
}

void spec_read_scalar(struct spec_parser *p, const struct spec_option *o,
		      const struct yaml_node *node, void *member)
{
	if (o->type == SPEC_LISTEN) {
		read_listen(p, o, node, member);
		return;
	}
	const char *text = spec_read_text(p, o, o->type, node, false);
	if (!text)
		return;
	if (spec_is_number(o->type)) {
		read_number(p, o, node, member);
	} else if (o->type == SPEC_PHASE_WORD) {
		size_t index = word_index(o->allowed, node->text);
		if (o->allowed[index])
			store(o, member, (int64_t)index);
		else
			spec_error(p, node, one_of(p, o->allowed, node->text), "%s is no phase",
				   spec_shown(p, node->text));
	} else {
		bool sized = o->type == SPEC_STRING || o->type == SPEC_LINE ||
			     o->type == SPEC_ACCOUNT;
		if (sized && node->text.len < (size_t)o->min)
			spec_error(p, node, "", "must not be empty");
		else if (sized && node->text.len > (size_t)o->max)
			spec_error(p, node, "", "is longer than %lld bytes", (long long)o->max);
		else
			memcpy(member, &text, sizeof(text));
	}
}

void spec_set_text(const struct spec_option *o, str text, void *member)
{
	int64_t value = 0;
	if (o->type == SPEC_ENUM) {
		const char *word = o->allowed[word_index(o->allowed, text)];
		must(word);
		memcpy(member, &word, sizeof(word));
	} else if (o->type == SPEC_EVENTS) {
		store(o, member, SPEC_EVENT_START | SPEC_EVENT_SUCCESS | SPEC_EVENT_FAILURE);
	} else {
		bool none = o->none && str_eq_c(text, "none");
		must(none || parse_number(o->type, text, &value));
		store(o, member, value);
	}
}
