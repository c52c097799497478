/*
 * remote_write: Prometheus remote write 1.0 and 2.0.
 *
 * Source: prometheus.io/docs/specs/prw/remote_write_spec and remote_write_spec_2_0.
 */
#pragma once

#include "intake/intake.h"

enum remote_write_version { REMOTE_WRITE_1, REMOTE_WRITE_2 };

/*
 * The version in a Content-Type: `application/x-protobuf` alone or with
 * `proto=prometheus.WriteRequest` is 1.0, with `proto=io.prometheus.write.v2.Request` 2.0.
 * Errors: ERR_INVALID (415) naming what is taken.
 */
WARN_UNUSED errc remote_write_version_of(str content_type, enum remote_write_version *ret_version,
					 struct err *e);

/*
 * A write request into BATCH. After the commit: 1.0 answers 204, or 400 (429 when busy) with the
 * refusal when anything was rejected or left out; 2.0 does so too and always sends the counts of
 * what was written as X-Prometheus-Remote-Write-{Samples,Histograms,Exemplars}-Written.
 * Cost: about 100 ns a sample of a series that was seen before.
 * Errors: ERR_INVALID when it is no such message, and for 2.0 when symbols[0] is not empty;
 *   ERR_LIMIT past 1,048,576 symbols.
 */
WARN_UNUSED errc intake_remote_write(struct intake *in, struct metrics_batch *batch, str body,
				     enum remote_write_version version, struct intake_result *ret,
				     struct err *e);
