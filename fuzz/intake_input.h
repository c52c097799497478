/* An engine with an intake in front of it, for bodies that are taken and then forgotten. */
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/checks.h"
#include "intake/intake.h"
#include "os/io.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

enum { INTAKE_INPUT_SERIES_MAX = 1000 };
#define INTAKE_INPUT_NOW INT64_C(1790000000000)

struct intake_input {
	char folder[64];
	struct metrics *m;
	struct intake *in;
	struct metrics_batch *batch;
};

static struct intake_input intake_input;

static time_ms intake_input_now(void)
{
	return INTAKE_INPUT_NOW;
}

static inline void intake_input_close(void)
{
	struct err e;
	metrics_batch_free(intake_input.batch);
	intake_free(intake_input.in);
	metrics_close(intake_input.m);
	(void)!io_remove_tree(intake_input.folder, &e);
}

static inline struct intake_input *intake_input_get(void)
{
	struct intake_input *x = &intake_input;
	struct err e;
	if (x->m)
		return x;
	snprintf(x->folder, sizeof(x->folder), "/tmp/hf-fuzz-XXXXXX");
	must(mkdtemp(x->folder));
	struct metrics_options options = { .folder = x->folder,
					   .now = intake_input_now,
					   .disk_reserve_bytes = 1,
					   .memory_bytes_max = (size_t)256 << 20 };
	must(metrics_open(&options, &x->m, &e) == OK);
	struct intake_options intake_options = { .metrics = x->m, .now = intake_input_now };
	x->in = intake_new(&intake_options);
	x->batch = metrics_batch_new(x->m, STR("fuzz"), INTAKE_INPUT_SERIES_MAX);
	atexit(intake_input_close);
	return x;
}

/* What the intake said of a body hangs together; drop what it gave to the batch. */
static inline void intake_input_drop(struct intake_input *x, errc rc, const struct err *e,
				     const struct intake_result *r)
{
	must(rc == OK || ((rc == ERR_INVALID || rc == ERR_LIMIT) && e->message[0]));
	must(!r->rejected_count || r->refusal[0]);
	metrics_batch_abort(x->batch);
}
