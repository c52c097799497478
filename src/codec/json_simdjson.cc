/* simdjson's DOM, walked into C callbacks. No exception leaves this file: none is used. */
#include <simdjson.h>

#include <charconv>
#include <memory>

#include "codec/json_simdjson.h"

namespace dom = simdjson::dom;

static bool walk(dom::element value, const json_events *on, void *ctx);

static bool walk_array(dom::array array, const json_events *on, void *ctx)
{
	size_t count = 0;
	for (dom::element item : array) {
		(void)item;
		count++;
	}
	if (!on->open(ctx, false, count))
		return false;
	for (dom::element item : array)
		if (!walk(item, on, ctx))
			return false;
	return on->close(ctx);
}

static bool walk_object(dom::object object, const json_events *on, void *ctx)
{
	size_t count = 0;
	for (dom::key_value_pair member : object) {
		(void)member;
		count++;
	}
	if (!on->open(ctx, true, count))
		return false;
	for (dom::key_value_pair member : object)
		if (!on->key(ctx, member.key.data(), member.key.size()) || !walk(member.value, on, ctx))
			return false;
	return on->close(ctx);
}

static bool walk(dom::element value, const json_events *on, void *ctx)
{
	switch (value.type()) {
	case dom::element_type::ARRAY:
		return walk_array(dom::array(value.get_array().value_unsafe()), on, ctx);
	case dom::element_type::OBJECT:
		return walk_object(dom::object(value.get_object().value_unsafe()), on, ctx);
	case dom::element_type::STRING: {
		std::string_view s = value.get_string().value_unsafe();
		return on->string(ctx, s.data(), s.size());
	}
	case dom::element_type::INT64:
		return on->integer(ctx, value.get_int64().value_unsafe());
	case dom::element_type::UINT64:
		return on->unsigned_integer(ctx, value.get_uint64().value_unsafe());
	case dom::element_type::DOUBLE:
		return on->number(ctx, value.get_double().value_unsafe());
	case dom::element_type::BOOL:
		return on->boolean(ctx, value.get_bool().value_unsafe());
	default:
		return on->null(ctx);
	}
}

extern "C" int json_simdjson_walk(const char *text, size_t len, size_t depth_max,
				  const struct json_events *events, void *ctx, const char **ret_message)
{
	/* A parser holds buffers as large as its largest document: it lives only for this call. */
	std::unique_ptr<dom::parser> parser(new (std::nothrow) dom::parser());
	*ret_message = "";
	if (!parser || parser->allocate(len, depth_max) != simdjson::SUCCESS) {
		*ret_message = "out of memory";
		return 1;
	}
	dom::element root;
	simdjson::error_code error = parser->parse(text, len).get(root);
	if (error) {
		*ret_message = simdjson::error_message(error);
		return (int)error;
	}
	return walk(root, events, ctx) ? 0 : -1;
}

extern "C" void json_simdjson_shortest(double v, char text[JSON_SHORTEST_SIZE])
{
	std::to_chars_result end = std::to_chars(text, text + JSON_SHORTEST_SIZE - 1, v,
						 std::chars_format::scientific);
	*end.ptr = '\0';
}
