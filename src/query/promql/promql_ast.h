/*
 * promql: the text of a PromQL expression to a checked syntax tree, and back.
 *
 * Uses base, codec, metrics (matchers only). Pure: no clock, no samples, no threads.
 * Shape: nodes are values in an arena, named after Prometheus's own (BinaryExpr is PROMQL_BINARY);
 *   a whole tree is type-checked, so an evaluator need not check types or argument counts again.
 * Units: durations and times are milliseconds, except number literals, which are seconds as written
 *   (`5m` is 300). Positions are byte offsets into the text.
 * Limits: PROMQL_TEXT_MAX bytes, PROMQL_DEPTH_MAX levels in the tree (parentheses, calls and the
 * left side of operator chains each count one), so recursion over a tree is safe on a usual stack.
 * Errors: ERR_INVALID whose message is Prometheus's, `1:5: parse error: unexpected …`.
 * Source: Prometheus 3.14.
 */
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "metrics/matcher.h"
#include "query/promql/promql_functions_table.h"

enum {
	PROMQL_TEXT_MAX = 1 << 20,
	PROMQL_DEPTH_MAX = 1000,
};

/* Tokens that stand between operands. The order is that of PROMQL_OPERATORS. */
#define PROMQL_OPERATORS(X)                         \
	/* token, text, precedence, right-assoc. */ \
	X(PROMQL_OR, "or", 1, false)                \
	X(PROMQL_AND, "and", 2, false)              \
	X(PROMQL_UNLESS, "unless", 2, false)        \
	X(PROMQL_EQL, "==", 3, false)               \
	X(PROMQL_NEQ, "!=", 3, false)               \
	X(PROMQL_LTE, "<=", 3, false)               \
	X(PROMQL_LSS, "<", 3, false)                \
	X(PROMQL_GTE, ">=", 3, false)               \
	X(PROMQL_GTR, ">", 3, false)                \
	X(PROMQL_TRIM_UPPER, "</", 3, false)        \
	X(PROMQL_TRIM_LOWER, ">/", 3, false)        \
	X(PROMQL_ADD, "+", 4, false)                \
	X(PROMQL_SUB, "-", 4, false)                \
	X(PROMQL_MUL, "*", 5, false)                \
	X(PROMQL_DIV, "/", 5, false)                \
	X(PROMQL_MOD, "%", 5, false)                \
	X(PROMQL_ATAN2, "atan2", 5, false)          \
	X(PROMQL_POW, "^", 6, true)

enum promql_operator {
	PROMQL_NO_OPERATOR,
#define X(token, text, precedence, right) token,
	PROMQL_OPERATORS(X)
#undef X
};

#define PROMQL_AGGREGATIONS(X)                              \
	/* token, text, has a parameter, experimental */    \
	X(PROMQL_SUM, "sum", false, false)                  \
	X(PROMQL_AVG, "avg", false, false)                  \
	X(PROMQL_MIN, "min", false, false)                  \
	X(PROMQL_MAX, "max", false, false)                  \
	X(PROMQL_COUNT, "count", false, false)              \
	X(PROMQL_GROUP, "group", false, false)              \
	X(PROMQL_STDDEV, "stddev", false, false)            \
	X(PROMQL_STDVAR, "stdvar", false, false)            \
	X(PROMQL_TOPK, "topk", true, false)                 \
	X(PROMQL_BOTTOMK, "bottomk", true, false)           \
	X(PROMQL_COUNT_VALUES, "count_values", true, false) \
	X(PROMQL_QUANTILE, "quantile", true, false)         \
	X(PROMQL_LIMITK, "limitk", true, true)              \
	X(PROMQL_LIMIT_RATIO, "limit_ratio", true, true)

enum promql_aggregation {
#define X(token, text, parameter, experimental) token,
	PROMQL_AGGREGATIONS(X)
#undef X
};

/* What kind of node it is, and which member of the union counts. */
enum promql_kind {
	PROMQL_NUMBER,    /* number */
	PROMQL_STRING,    /* string */
	PROMQL_VECTOR,    /* vector: an instant vector selector */
	PROMQL_MATRIX,    /* matrix: a range selector around a PROMQL_VECTOR */
	PROMQL_SUBQUERY,  /* subquery */
	PROMQL_UNARY,     /* unary */
	PROMQL_BINARY,    /* binary */
	PROMQL_AGGREGATE, /* aggregate */
	PROMQL_CALL,      /* call */
	PROMQL_PAREN,     /* paren */
};

struct promql_expr;

/* An expression that gives seconds, as in `[5m * 2]` and `offset (step() + 1m)`. */
enum promql_duration_kind {
	PROMQL_DURATION_NUMBER,
	PROMQL_DURATION_STEP,   /* step(): the query's step; of an instant query 0 */
	PROMQL_DURATION_RANGE,  /* range(): end − start of the query */
	PROMQL_DURATION_MIN_OF, /* of lhs and rhs */
	PROMQL_DURATION_MAX_OF,
	PROMQL_DURATION_NEGATE, /* of rhs; unary + leaves no node */
	PROMQL_DURATION_BINARY, /* op is PROMQL_ADD, SUB, MUL, DIV, MOD or POW */
};

struct promql_duration {
	enum promql_duration_kind kind;
	enum promql_operator op;
	bool wrapped;    /* in parentheses */
	bool as_written; /* of a number: was written `5m`, not `300` */
	int depth;
	double seconds; /* of a number */
	struct promql_duration *lhs, *rhs;
	uint32_t start, end;
};

enum promql_at { PROMQL_AT_NONE, PROMQL_AT_TIME, PROMQL_AT_START, PROMQL_AT_END };

/* When a selector or subquery looks. */
struct promql_time {
	int64_t offset_ms;                         /* positive: into the past */
	const struct promql_duration *offset_expr; /* NULL unless offset_ms waits for
						    * promql_resolve_durations() */
	enum promql_at at;
	int64_t at_ms; /* with PROMQL_AT_TIME */
};

struct promql_vector {
	str name; /* written before the braces; empty in `{"a.b"}` and `{__name__="a"}` */
	/* All conditions, in the order written, the one on `__name__` that NAME means last. Not
	 * compiled: copy and matcher_compile() what is to be used. Regular expressions are known to
	 * be valid. */
	const struct matcher *matchers;
	size_t matcher_count;
	struct promql_time time;
	bool anchored, smoothed; /* modifiers of extended range selectors */
	bool all_empty;          /* every condition holds for a missing label: info() only */
};

struct promql_matrix {
	/* Always a PROMQL_VECTOR; its `time`, `anchored` and `smoothed` are the range selector's.
	 */
	struct promql_expr *selector;
	int64_t range_ms;
	const struct promql_duration *range_expr; /* as promql_time.offset_expr */
};

struct promql_subquery {
	struct promql_expr *expr;
	int64_t range_ms, step_ms; /* step 0: the default resolution */
	const struct promql_duration *range_expr, *step_expr;
	struct promql_time time;
};

enum promql_card {
	PROMQL_ONE_TO_ONE,
	PROMQL_MANY_TO_ONE,  /* group_left */
	PROMQL_ONE_TO_MANY,  /* group_right */
	PROMQL_MANY_TO_MANY, /* set operators */
};

struct promql_labels {
	const str *items;
	size_t count;
};

struct promql_matching {
	enum promql_card card;
	bool on;                      /* else ignoring */
	struct promql_labels labels;  /* of on or ignoring */
	struct promql_labels include; /* of group_left or group_right */
	bool has_fill_left, has_fill_right;
	double fill_left, fill_right; /* stands in for a missing series of that side */
};

struct promql_expr {
	enum promql_kind kind;
	enum promql_type type; /* of its value */
	int depth;             /* 1 for a leaf */
	uint32_t start, end;   /* [start, end) in the text */
	union {
		struct {
			double value;
			bool is_duration; /* was written as one: `5m` */
		} number;
		struct {
			str value; /* unquoted; may hold any byte */
		} string;
		struct promql_vector vector;
		struct promql_matrix matrix;
		struct promql_subquery subquery;
		struct {
			enum promql_operator op; /* PROMQL_ADD or PROMQL_SUB */
			struct promql_expr *expr;
		} unary;
		struct {
			enum promql_operator op;
			bool is_bool; /* of a comparison: 0 and 1 instead of a filter */
			struct promql_expr *lhs, *rhs;
			struct promql_matching *matching; /* NULL unless both sides are vectors */
		} binary;
		struct {
			enum promql_aggregation op;
			bool without;
			struct promql_labels grouping;
			struct promql_expr *expr;
			struct promql_expr *param; /* NULL for those that have none */
		} aggregate;
		struct {
			const struct promql_function *function;
			struct promql_expr **args;
			size_t arg_count;
		} call;
		struct {
			struct promql_expr *expr;
		} paren;
	};
};

/* What is experimental in Prometheus and refused unless switched on. */
struct promql_options {
	bool experimental_functions;   /* functions and aggregations */
	bool extended_range_selectors; /* anchored, smoothed */
	bool fill_modifiers;           /* fill, fill_left, fill_right */
	bool no_duration_expressions;  /* on in Prometheus 3.14 */
};

/* Parse and check TEXT. OPTIONS may be NULL: nothing experimental. Nodes and strings are in ARENA;
 * TEXT is not referred to. Errors: ERR_INVALID with line and column; ERR_LIMIT for a text too long
 * or too deep, or an arena too small. */
WARN_UNUSED errc promql_parse(str text, const struct promql_options *options, struct arena *arena,
			      struct promql_expr **ret, struct err *e);

/* Parse TEXT as one instant vector selector without modifiers, as in `match[]`. Errors: as
 * promql_parse(). */
WARN_UNUSED errc promql_parse_selector(str text, struct arena *arena, struct promql_vector *ret,
				       struct err *e);

/* What duration expressions refer to. */
struct promql_span {
	int64_t step_ms;
	int64_t range_ms; /* end − start */
};

/* Give every range, step and offset that waits for it its value, in place. To be called once before
 * an evaluation; a tree without duration expressions is left as it is. Errors: ERR_FAILED, such as
 * `4:7: duration must be greater than 0`, with byte positions as Prometheus has them here. */
WARN_UNUSED errc promql_resolve_durations(struct promql_expr *expr, struct promql_span span,
					  struct err *e);

/* The line and column (in bytes), from 1, of the offset POS in TEXT. */
void promql_line_column(str text, size_t pos, unsigned *ret_line, unsigned *ret_column);

/* `or`, `==`, … */
const char *promql_operator_text(enum promql_operator op);
bool promql_operator_is_comparison(enum promql_operator op);
bool promql_operator_is_set(enum promql_operator op);
/* `sum`, … */
const char *promql_aggregation_text(enum promql_aggregation op);
bool promql_aggregation_has_parameter(enum promql_aggregation op);
bool promql_aggregation_is_experimental(enum promql_aggregation op);
/* Through parentheses to what they hold. */
const struct promql_expr *promql_unwrap(const struct promql_expr *expr);

/* ---- Out. Each appends to INTO. */

/* On one line, in the canonical form; parses back to an equal tree. */
void promql_print(struct buf *into, const struct promql_expr *expr);
/* As promql_print(), split and indented by two spaces where a part is longer than 100 columns. */
void promql_format(struct buf *into, const struct promql_expr *expr);
/* The tree as `/api/v1/parse_query` gives it. */
void promql_print_json(struct buf *into, const struct promql_expr *expr);
/* A duration as Prometheus prints it: `1h30m`, `0s`, `-5m`. */
void promql_print_duration(struct buf *into, int64_t ms);
/* STR in double quotes as Go's %q: the literal parses back to the same bytes. */
void promql_print_string(struct buf *into, str s);
/* A number without exponent: `0.001`, `+Inf`, `NaN`. */
void promql_print_number(struct buf *into, double v);
