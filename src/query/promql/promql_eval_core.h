/*
 * The evaluator's own: runs, sources, operands. Function bodies need only promql_eval_internal.h.
 */
#pragma once

#include "query/promql/promql_eval_internal.h"

struct promql_block;
struct promql_annotations;

/* One evaluation. What its nodes make belongs to it and is freed with it at the latest. */
struct promql_run {
	struct metrics *metrics;
	struct promql_query query; /* with defaults filled in */
	struct metrics_budget no_budget;
	struct metrics_budget *budget; /* of the query, or no_budget */
	unsigned worker_count;
	struct arena labels;         /* made by nodes; main thread only */
	size_t labels_charged;       /* of its bytes */
	struct arena *scratch;       /* one a worker: histograms of the series in work */
	struct promql_block *blocks; /* of promql_alloc(); under a lock */
	struct promql_source *sources;
	struct promql_table *tables;
	struct metrics_selection **selections;
	size_t selection_count;
	struct promql_annotations *annotations;
	void *lock;                /* pthread_mutex_t */
	int64_t bytes, bytes_peak; /* charged; atomic */
	int64_t select_us;
};

struct promql_run *promql_run_new(struct metrics *m, const struct promql_query *query);
/* Frees all that was made in it. Accepts NULL. */
void promql_run_free(struct promql_run *run);
/* Charge (or with a negative count give back) bytes of the query. Threads: any. */
WARN_UNUSED errc promql_charge(struct promql_run *run, int64_t bytes, struct err *e);
void promql_uncharge(struct promql_run *run, int64_t bytes);
/* Charge what promql_labels_arena() took since the last time; the end of every node. */
WARN_UNUSED errc promql_charge_labels(struct promql_run *run, struct err *e);

/* Takes the selection, which lives as long as the run, for labels point into it. */
void promql_run_keep_selection(struct promql_run *run, struct metrics_selection *s);

/* Carry out WORK for [begin, end) pieces of [0, COUNT), GRAIN at a time, by all workers. Errors:
 * the one of the lowest piece that failed. Main thread only; WORK may not call it. */
typedef errc (*promql_work)(void *ctx, unsigned worker, size_t begin, size_t end, struct err *e);
WARN_UNUSED errc promql_parallel(struct promql_run *run, size_t count, size_t grain,
				 promql_work work, void *ctx, struct err *e);

/* ---- Annotations. */

struct promql_annotations *promql_annotations_new(void);
void promql_annotations_free(struct promql_annotations *a);
/* Distinct texts of KIND, sorted, at most MAX and then a line that counts the rest; in ARENA. */
size_t promql_annotations_list(struct promql_annotations *a, enum promql_annotation kind,
			       size_t max, struct arena *arena, const str **ret_texts);

/* ---- Labels. */

/* What of a series counts: the labels of NAMES (sorted), or all but these and the metric's name. */
struct promql_label_choice {
	const str *names;
	size_t count;
	bool keep;
	bool keep_name; /* with keep false: the metric's name stays */
};

/* NAMES sorted and unique, in ARENA. */
WARN_UNUSED errc promql_choice_init(struct arena *arena, const struct promql_labels *names,
				    bool keep, struct promql_label_choice *ret, struct err *e);
struct labels promql_choice_labels(struct arena *arena, const struct promql_label_choice *choice,
				   const struct labels *labels);

/* Numbers for distinct sets of labels, in the order of their first appearance. They are told apart
 * by 128 bits of hash. ROOM is how many are expected; there may be more. */
struct promql_index;
WARN_UNUSED errc promql_index_new(struct promql_run *run, size_t room,
				  struct promql_index **ret_index, struct err *e);
void promql_index_free(struct promql_index *x);
/* The number of what CHOICE (NULL: everything) leaves of LABELS; given when it is new. */
WARN_UNUSED errc promql_index_put(struct promql_index *x, const struct promql_label_choice *choice,
				  const struct labels *labels, uint32_t *ret_number, struct err *e);
/* UINT32_MAX when it is not in there. */
uint32_t promql_index_find(struct promql_index *x, const struct promql_label_choice *choice,
			   const struct labels *labels);
size_t promql_index_count(const struct promql_index *x);

/* ---- Sources: columns on demand. */

struct promql_source {
	struct promql_run *run;
	struct promql_source *prev, *next; /* in the run's list */
	struct promql_grid grid;
	const struct labels *labels;
	const bool *drop_name; /* NULL: of none */
	size_t count;
	bool same_name; /* all have one metric name or none: labels stay distinct without it */
	bool ordered;   /* as in a table */
	bool costly;    /* a column costs more than a copy of it */
	/* View on series I. RET is valid until the next call by this worker on this source, its
	 * histograms until promql_scratch_clear(). Threads: any, each with its own WORKER. */
	errc (*column)(struct promql_source *s, unsigned worker, size_t i,
		       struct promql_column *ret, struct err *e);
	void (*done)(struct promql_source *s); /* may be NULL */
	struct promql_table *table;            /* what it is a view of, or NULL */
	struct promql_source *inputs[2];       /* freed with it; or NULL */
};

/* SIZE bytes that begin with a promql_source. */
WARN_UNUSED errc promql_source_new(struct promql_run *run, const struct promql_grid *grid,
				   size_t size, void *ret_source, struct err *e);
/* With its inputs and its table. Accepts NULL. */
void promql_source_free(struct promql_source *s);
/* Forget the histograms that columns of this worker gave. */
void promql_scratch_clear(struct promql_run *run, unsigned worker);
/* Takes the table. */
WARN_UNUSED errc promql_source_of_table(struct promql_table *t, struct promql_source **ret_source,
					struct err *e);
/* Compute all columns; takes the source. */
WARN_UNUSED errc promql_table_of(struct promql_source *s, struct promql_table **ret_table,
				 struct err *e);
/* Give S labels without names (or mark them). Where two become equal the columns are computed and
 * joined; STRICT: then it is an error even when their points are at different steps. */
WARN_UNUSED errc promql_source_drop_names(struct promql_source **s, bool strict, struct err *e);
/* As promql_source_drop_names() when labels were already changed. */
WARN_UNUSED errc promql_source_unique(struct promql_source **s, bool strict, struct err *e);
/* Whether two of COUNT labels are equal. */
WARN_UNUSED errc promql_labels_have_equal(struct promql_run *run, const struct labels *labels,
					  size_t count, bool *ret_equal, struct err *e);
/* MESSAGE is for the points of two equal series at one step; STRICT as above. */
WARN_UNUSED errc promql_table_join(struct promql_table *t, bool strict, const char *message,
				   struct err *e);

/* Buffers for one column a worker. */
struct promql_buffers {
	double *values;
	uint64_t *present;
	const struct histogram **histograms; /* made at first use by promql_buffers_histograms() */
	size_t steps;
};

WARN_UNUSED errc promql_buffers_new(struct promql_run *run, size_t steps,
				    struct promql_buffers **ret_buffers, struct err *e);
void promql_buffers_free(struct promql_run *run, struct promql_buffers *b);
/* A column on the worker's buffers, no point present, no histograms. */
struct promql_column promql_buffers_clear(struct promql_buffers *b);
/* Let C, made of B, have histograms: an array of NULLs. */
WARN_UNUSED errc promql_buffers_histograms(struct promql_run *run, struct promql_buffers *b,
					   struct promql_column *c, struct err *e);

/* ---- Nodes. */

struct promql_operand {
	enum { PROMQL_OPERAND_SCALAR, PROMQL_OPERAND_STRING, PROMQL_OPERAND_SOURCE } kind;
	double *scalar; /* one a step */
	str string;
	struct promql_source *source;
};

WARN_UNUSED errc promql_node(struct promql_run *run, const struct promql_grid *grid,
			     const struct promql_expr *expr, struct promql_operand *ret,
			     struct err *e);
/* -x */
WARN_UNUSED errc promql_negate(struct promql_source **s, struct err *e);
/* Whether its value is the same at all steps. */
bool promql_is_invariant(const struct promql_expr *expr);

/* When a selector or subquery looks: at step i, first + i * step. */
struct promql_reference {
	time_ms first;
	int64_t step; /* 0 with @ */
};
struct promql_reference promql_reference_of(const struct promql_run *run,
					    const struct promql_grid *grid,
					    const struct promql_time *time);

/* promql_eval_select.c. TIMES: the value is the sample's time in seconds. */
WARN_UNUSED errc promql_select_node(struct promql_run *run, const struct promql_grid *grid,
				    const struct promql_vector *selector, bool times,
				    struct promql_source **ret_source, struct err *e);

/* Where range functions get samples: of a selector, or of a subquery. */
struct promql_input {
	struct promql_run *run;
	struct promql_reference reference; /* of the windows' ends */
	int64_t range_ms;
	bool anchored, smoothed;
	struct metrics_selection *selection; /* or */
	struct promql_source *source;        /* of the subquery's own grid */
	const struct labels *labels;
	const bool *drop_name;
	size_t count;
	bool same_name;
	time_ms from, to; /* to be read */
	struct promql_input_worker *workers;
};

/* Samples of one series without stale markers; of the worker, until it asks for the next. */
struct promql_input_samples {
	const time_ms *times;
	const double *values;
	const struct histogram *const *histograms; /* NULL: all floats */
	size_t count;
	uint64_t times_key; /* as in metrics_samples */
};

/* EXPR is a PROMQL_MATRIX or a PROMQL_SUBQUERY. */
WARN_UNUSED errc promql_input_open(struct promql_run *run, const struct promql_grid *grid,
				   const struct promql_expr *expr, struct promql_input *ret,
				   struct err *e);
void promql_input_close(struct promql_input *in);
WARN_UNUSED errc promql_input_read(struct promql_input *in, unsigned worker, size_t i,
				   struct promql_input_samples *ret, struct err *e);

WARN_UNUSED errc promql_call_node(struct promql_run *run, const struct promql_grid *grid,
				  const struct promql_expr *expr, struct promql_operand *ret,
				  struct err *e);
WARN_UNUSED errc promql_binary_node(struct promql_run *run, const struct promql_grid *grid,
				    const struct promql_expr *expr, struct promql_operand *ret,
				    struct err *e);
WARN_UNUSED errc promql_aggregate_node(struct promql_run *run, const struct promql_grid *grid,
				       const struct promql_expr *expr, struct promql_operand *ret,
				       struct err *e);

/* ---- Results (promql_eval_result.c). They refer to nothing of the run in the end. */

WARN_UNUSED errc promql_result_new(struct promql_run *run, struct promql_result **ret_result,
				   struct err *e);
/* Annotations and statistics. */
WARN_UNUSED errc promql_result_finish(struct promql_run *run, struct promql_result *ret,
				      struct err *e);
WARN_UNUSED errc promql_result_of_operand(struct promql_run *run, struct promql_operand *operand,
					  struct promql_result *ret, struct err *e);
/* A range selector or subquery on its own, in an instant query. */
WARN_UNUSED errc promql_result_of_input(struct promql_run *run, struct promql_input *in,
					struct promql_result *ret, struct err *e);
