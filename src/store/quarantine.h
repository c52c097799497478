/*
 * The list of what was found bad on disk: what was not served, where, and why. One list serves the
 * log, the parts and the manifest of an engine, which shows it (health, doctor).
 *
 * store uses base, os, codec; the engines use store.
 * Threads: any.
 * Limits: QUARANTINE_ENTRIES_MAX entries are kept, the rest only counted. The same span of the same
 * file is one entry.
 */
#pragma once

#include "base/str.h"

enum { QUARANTINE_ENTRIES_MAX = 1000, QUARANTINE_FILE_MAX = 256, QUARANTINE_WHY_MAX = 160 };

struct quarantine_entry {
	char file[QUARANTINE_FILE_MAX]; /* its end, when the path is longer */
	uint64_t offset, len;           /* len 0: the file as a whole */
	char why[QUARANTINE_WHY_MAX];
};

struct quarantine;

struct quarantine *quarantine_new(void);
/* Accepts NULL. */
void quarantine_free(struct quarantine *q);
/* Note a bad span; Q may be NULL: then nothing happens. */
void quarantine_add(struct quarantine *q, const char *file, uint64_t offset, uint64_t len,
		    const char *why);
/* Distinct spans so far, those past the limit included. */
uint64_t quarantine_count(struct quarantine *q);
/* The entry at INDEX, oldest first; false past the end. */
bool quarantine_get(struct quarantine *q, size_t index, struct quarantine_entry *ret_entry);

/*
 * Move PATH into the folder `quarantine` beside it (made when missing), under its name, or with a
 * number behind it when that is taken; for a person or the doctor to look at. Durable: when OK.
 * Errors: ERR_NOT_FOUND, ERR_IO; the file is where it was then.
 */
WARN_UNUSED errc quarantine_move(const char *path, struct err *e);
