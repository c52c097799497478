#include "codec/yaml.h"

#include <libfyaml.h>
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "codec/text.h"

/* A container that is open: its children lie on the builder's stack from FIRST on. */
struct frame {
	struct yaml_node node;
	size_t first;
	bool mapping;
};

struct builder {
	struct arena *into;
	struct fy_diag *diag;
	struct fy_parser *parser;
	str text;                /* the whole */
	struct yaml_node *stack; /* nodes done whose container is open */
	size_t stack_count;
	size_t stack_size;
	struct frame frames[YAML_DEPTH_MAX];
	size_t depth;
	size_t node_count;
	size_t document_count;
	struct yaml_node last; /* where the scan stands */
	struct yaml_problem problem;
};

/* Position POS bytes into TEXT; columns count characters. */
static void locate(str text, size_t pos, struct yaml_problem *problem)
{
	problem->line = problem->column = 1;
	for (size_t i = 0; i < pos; i++) {
		if (text.ptr[i] == '\n') {
			problem->line++;
			problem->column = 1;
		} else if ((text.ptr[i] & 0xc0) != 0x80) {
			problem->column++;
		}
	}
}

static bool refuse(struct builder *b, const struct yaml_node *at, const char *message)
{
	b->problem = (struct yaml_problem){ at->line, at->column, message };
	return false;
}

static void set_place(struct builder *b, struct yaml_node *n, const struct fy_mark *mark)
{
	if (mark) {
		b->last.line = (size_t)mark->line + 1;
		b->last.column = (size_t)mark->column + 1;
	}
	n->line = b->last.line;
	n->column = b->last.column;
}

static bool is_key_place(const struct builder *b)
{
	const struct frame *f = b->depth ? &b->frames[b->depth - 1] : NULL;
	return f && f->mapping && (b->stack_count - f->first) % 2 == 0;
}

static int by_text(const void *a, const void *b)
{
	const struct yaml_node *x = *(const struct yaml_node *const *)a;
	const struct yaml_node *y = *(const struct yaml_node *const *)b;
	int c = str_cmp(x->text, y->text);
	return c ? c : x < y ? -1 : x > y;
}

/* Of all keys that come twice the one written first is reported. */
static bool keys_differ(struct builder *b, const struct yaml_node *mapping)
{
	const struct yaml_node *again = NULL, *before = NULL;
	if (mapping->kind != YAML_MAPPING || mapping->count < 2)
		return true;
	const struct yaml_node **sorted = must_calloc(mapping->count, sizeof(const void *));
	for (size_t i = 0; i < mapping->count; i++)
		sorted[i] = &mapping->keys[i];
	qsort(sorted, mapping->count, sizeof(const void *), by_text);
	for (size_t i = 1; i < mapping->count; i++) {
		if (str_eq(sorted[i - 1]->text, sorted[i]->text) && (!again || sorted[i] < again)) {
			before = sorted[i - 1];
			again = sorted[i];
		}
	}
	free(sorted);
	if (!again)
		return true;
	return refuse(b, again,
		      arena_printf(b->into, "the key \"%.*s\" comes twice; the first is at %zu:%zu",
				   (int)(again->text.len > 80 ? 80 : again->text.len),
				   again->text.ptr, before->line, before->column));
}

static bool push(struct builder *b, const struct yaml_node *n)
{
	if (b->stack_count == b->stack_size) {
		b->stack_size = b->stack_size ? b->stack_size * 2 : 64;
		b->stack = must_realloc(b->stack, b->stack_size * sizeof(*b->stack));
	}
	b->stack[b->stack_count++] = *n;
	return true;
}

static bool count_node(struct builder *b, const struct yaml_node *n)
{
	if (++b->node_count > YAML_NODE_COUNT_MAX)
		return refuse(b, n, "there are more than 100,000 values");
	return true;
}

/*
 * The text of a single-quoted scalar, on which libfyaml 0.7.12 leaks memory when quotes are doubled
 * side by side: such a one is unquoted here. False when there is nothing to avoid.
 */
static bool unquote(struct builder *b, struct fy_token *value, str *ret_raw, str *ret_text)
{
	const struct fy_mark *start = fy_token_start_mark(value), *end = fy_token_end_mark(value);
	if (!start || !end || end->input_pos > b->text.len || start->input_pos > end->input_pos)
		return false;
	str raw = { b->text.ptr + start->input_pos, end->input_pos - start->input_pos };
	if (str_find(raw, STR("''''")) < 0)
		return false;
	char *text = arena_cstr(b->into, raw);
	size_t len = 0;
	if (b->into->overflow)
		return false;
	for (size_t i = 0; i < raw.len; i++) {
		text[len++] = raw.ptr[i];
		if (raw.ptr[i] == '\'')
			i++;
	}
	text[len] = '\0';
	*ret_raw = raw;
	*ret_text = (str){ text, len };
	return true;
}

static bool on_scalar(struct builder *b, struct fy_token *value, const struct fy_mark *mark)
{
	struct yaml_node n = { .kind = YAML_SCALAR };
	enum fy_scalar_style style = fy_token_scalar_style(value);
	str raw = { 0 };
	bool unquoted = style == FYSS_SINGLE_QUOTED && unquote(b, value, &raw, &n.text);
	n.plain = style == FYSS_PLAIN || style == FYSS_ANY;
	set_place(b, &n, mark);
	/* libfyaml's mark is behind the quote */
	if (mark && (style == FYSS_SINGLE_QUOTED || style == FYSS_DOUBLE_QUOTED) && n.column > 1)
		n.column--;
	if (unquoted && memchr(raw.ptr, '\n', raw.len))
		return refuse(b, &n,
			      "a text of several lines with '''' in it; write it in double quotes");
	if (b->into->overflow)
		return refuse(b, &n, "it needs too much memory");
	size_t len = n.text.len;
	const char *text = unquoted ? n.text.ptr : fy_token_get_text(value, &len);
	if (len && memchr(text, 0, len))
		return refuse(b, &n, "a value holds a NUL character");
	if (n.plain && is_key_place(b) && len == 2 && memcmp(text, "<<", 2) == 0)
		return refuse(b, &n,
			      "merge keys (<<) are not supported; repeat what they stand for");
	if (!unquoted)
		n.text = arena_str(b->into, (str){ text, len });
	return count_node(b, &n) && push(b, &n);
}

static bool on_open(struct builder *b, bool mapping, const struct fy_mark *mark)
{
	struct frame f = { .mapping = mapping, .first = b->stack_count };
	f.node.kind = mapping ? YAML_MAPPING : YAML_SEQUENCE;
	set_place(b, &f.node, mark);
	if (is_key_place(b))
		return refuse(b, &f.node, "a key must be a plain or quoted word");
	if (b->depth == YAML_DEPTH_MAX)
		return refuse(b, &f.node, "it is nested deeper than 32 levels");
	b->frames[b->depth++] = f;
	return count_node(b, &f.node);
}

static bool on_close(struct builder *b)
{
	must(b->depth > 0);
	struct frame *f = &b->frames[--b->depth];
	const struct yaml_node *children = b->stack ? b->stack + f->first : NULL;
	size_t child_count = b->stack_count - f->first;
	size_t per_item = f->mapping ? 2 : 1;
	must(child_count % per_item == 0);
	size_t count = child_count / per_item;
	struct yaml_node *items = arena_array(b->into, count, sizeof(*items));
	struct yaml_node *keys = f->mapping ? arena_array(b->into, count, sizeof(*keys)) : NULL;
	if (b->into->overflow)
		return refuse(b, &f->node, "it needs too much memory");
	for (size_t i = 0; i < count; i++) {
		items[i] = children[i * per_item + per_item - 1];
		if (f->mapping)
			keys[i] = children[i * 2];
	}
	b->stack_count = f->first;
	f->node.count = count;
	f->node.items = items;
	f->node.keys = keys;
	return keys_differ(b, &f->node) && push(b, &f->node);
}

static bool on_event(struct builder *b, struct fy_event *event)
{
	const struct fy_mark *mark = fy_event_start_mark(event);
	struct yaml_node at = { 0 };
	switch (event->type) {
	case FYET_DOCUMENT_START:
		set_place(b, &at, mark);
		if (b->document_count++)
			return refuse(b, &at, "a second document begins here; only one is allowed");
		return true;
	case FYET_ALIAS:
		set_place(b, &at, mark);
		return refuse(b, &at,
			      "aliases (*name) are not supported; repeat what they stand for");
	case FYET_SCALAR:
	case FYET_SEQUENCE_START:
	case FYET_MAPPING_START:
		break;
	case FYET_SEQUENCE_END:
	case FYET_MAPPING_END:
		set_place(b, &at, mark);
		return on_close(b);
	default:
		return true;
	}
	struct fy_token *anchor = fy_event_get_anchor_token(event);
	struct fy_token *tag = fy_event_get_tag_token(event);
	if (anchor || tag) {
		set_place(b, &at, fy_token_start_mark(anchor ? anchor : tag));
		at.column -= anchor != NULL; /* libfyaml's token begins behind the `&` */
		return refuse(
			b, &at,
			anchor ? "anchors (&name) are not supported; repeat the value instead"
			       : "tags (!name) are not supported; quote a value to make it text");
	}
	if (event->type == FYET_SCALAR)
		return on_scalar(b, event->scalar.value, mark);
	return on_open(b, event->type == FYET_MAPPING_START, mark);
}

/* libfyaml's own first complaint. */
static bool refuse_malformed(struct builder *b)
{
	void *iterator = NULL;
	struct fy_diag_error *error;
	while ((error = fy_diag_errors_iterate(b->diag, &iterator))) {
		if (error->type != FYET_ERROR || !error->msg)
			continue;
		struct yaml_node at = { .line = error->line > 0 ? (size_t)error->line : 1,
					.column = error->column > 0 ? (size_t)error->column : 1 };
		str message = str_trim(str_c(error->msg));
		return refuse(b, &at, arena_cstr(b->into, message));
	}
	return refuse(b, &b->last, "this is not YAML");
}

/* True when the root is the only node on the stack. */
static bool build(struct builder *b, str text)
{
	if (fy_parser_set_string(b->parser, text.len ? text.ptr : "\n", text.len ? text.len : 1) !=
	    0)
		return refuse_malformed(b);
	bool ended = false, ok = true;
	while (ok && !ended) {
		struct fy_event *event = fy_parser_parse(b->parser);
		if (!event)
			return refuse_malformed(b);
		ended = event->type == FYET_STREAM_END;
		ok = on_event(b, event);
		fy_parser_event_free(b->parser, event);
	}
	if (!ok)
		return false;
	if (fy_parser_get_stream_error(b->parser))
		return refuse_malformed(b);
	must(b->depth == 0 && b->stack_count <= 1);
	/* an empty document */
	return b->stack_count ||
	       push(b, &(struct yaml_node){ .plain = true,
					    .line = 1,
					    .column = 1,
					    .text = arena_str(b->into, STR("")) });
}

/* What libfyaml is not asked: it guesses encodings, and bytes must be what they seem. */
static bool check_bytes(struct builder *b, str text)
{
	for (size_t i = 0; i < text.len;) {
		size_t step = text_utf8_step((str){ text.ptr + i, text.len - i });
		unsigned char c = (unsigned char)text.ptr[i];
		bool control = (c < ' ' && c != '\t' && c != '\n' && c != '\r') || c == 0x7f;
		if (step && !control) {
			i += step;
			continue;
		}
		locate(text, i, &b->problem);
		b->problem.message = control ? arena_printf(b->into, "control character 0x%02x", c)
					     : "this is not UTF-8";
		return false;
	}
	return true;
}

static bool run(struct builder *b, str text)
{
	struct fy_diag_cfg diag_config;
	fy_diag_cfg_default(&diag_config);
	diag_config.fp = NULL;
	b->diag = fy_diag_create(&diag_config);
	must(b->diag != NULL);
	fy_diag_set_collect_errors(b->diag, true);
	struct fy_parse_cfg config = { .flags = FYPCF_QUIET | FYPCF_COLLECT_DIAG, .diag = b->diag };
	b->parser = fy_parser_create(&config);
	must(b->parser != NULL);
	bool ok = build(b, text);
	fy_parser_destroy(b->parser);
	fy_diag_destroy(b->diag);
	return ok;
}

errc yaml_parse(struct arena *into, str text, const char *file, const struct yaml_node **ret_root,
		struct yaml_problem *ret_problem, struct err *e)
{
	struct builder b = { .into = into, .text = text, .last = { .line = 1, .column = 1 } };
	struct yaml_node *root = arena_alloc(into, sizeof(*root));
	errc rc = OK;
	bool ok = false;
	if (text.len > YAML_BYTES_MAX) {
		b.problem.message = "the file is larger than 1 MiB";
		rc = err_fill(e, ERR_LIMIT, 0, __FILE__, __LINE__,
			      "%s: the file is larger than 1 MiB", file);
	} else {
		ok = check_bytes(&b, text) && run(&b, text);
	}
	if (rc == OK && into->overflow) {
		b.problem = (struct yaml_problem){ .message = "it needs too much memory" };
		rc = arena_check(into, file, e);
	} else if (rc == OK && !ok) {
		rc = err_fill(e, ERR_INVALID, 0, __FILE__, __LINE__, "%s:%zu:%zu: %s", file,
			      b.problem.line, b.problem.column, b.problem.message);
	}
	if (rc == OK) {
		*root = b.stack[0];
		*ret_root = root;
	} else if (ret_problem) {
		*ret_problem = b.problem;
	}
	free(b.stack);
	return rc;
}

ptrdiff_t yaml_find(const struct yaml_node *mapping, const char *key)
{
	if (!mapping || mapping->kind != YAML_MAPPING)
		return -1;
	for (size_t i = 0; i < mapping->count; i++)
		if (str_eq_c(mapping->keys[i].text, key))
			return (ptrdiff_t)i;
	return -1;
}

const struct yaml_node *yaml_get(const struct yaml_node *mapping, const char *key)
{
	ptrdiff_t i = yaml_find(mapping, key);
	return i < 0 ? NULL : &mapping->items[i];
}

bool yaml_is_null(const struct yaml_node *node)
{
	return node->kind == YAML_SCALAR && node->plain &&
	       (node->text.len == 0 || str_eq_c(node->text, "~") || str_eq_c(node->text, "null"));
}
