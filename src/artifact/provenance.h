/*
 * How an artifact came to be: an in-toto Statement v1 with a SLSA provenance v1 predicate.
 *
 * It is kept beside the artifact and signed, but is not part of the artifact's digest: times differ
 * between two builds of the same content.
 * Source: https://in-toto.io/Statement/v1, https://slsa.dev/provenance/v1.
 */
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "base/units.h"
#include "codec/digest.h"

#define PROVENANCE_BUILD_TYPE "urn:holdfast:build:v1"

struct provenance_tool {
	str name;
	str version;
};

struct provenance {
	/* external parameters: what the person asked for */
	str application;
	str environment;
	const str *steps; /* command lines as declared; no secret stands in them */
	size_t step_count;
	/* internal parameters: what Holdfast added */
	const str *variables; /* names only of the variables the steps saw */
	size_t variable_count;
	str cache_key; /* empty: none */
	/* resolved dependencies */
	struct digest source; /* of the tree that was built */
	bool has_lock_file;
	str lock_file_path;
	struct digest lock_file;
	const struct provenance_tool *tools;
	size_t tool_count;
	str git_commit; /* empty: the source is no git checkout */
	str git_remote; /* empty: none */
	/* run details */
	str invocation_id;
	time_ms started_at;
	time_ms finished_at;
};

enum { PROVENANCE_TEXT_MAX = 1024 * 1024 };

/* The statement about the artifact NAME with digest SUBJECT, appended to INTO. */
WARN_UNUSED errc provenance_write(const struct provenance *p, const struct digest *subject,
				  struct buf *into, struct err *e);
/* Errors: ERR_CORRUPT when TEXT is no such statement or is about another artifact. */
WARN_UNUSED errc provenance_check(str text, const struct digest *subject, struct err *e);
/*
 * The commit and remote of the git checkout at FOLDER; both empty when it is none or git is not
 * installed. A remote's user and password are dropped.
 */
WARN_UNUSED errc provenance_git(const char *folder, struct arena *into, str *ret_commit,
				str *ret_remote, struct err *e);
