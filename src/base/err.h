/*
 * Errors: a code, the errno behind it, where it happened and a bounded message for a person.
 *
 * A function that can fail returns `errc`, puts its results into `ret_` outputs (untouched on
 * failure) and takes a `struct err *` last. The first failure fills it; callers may prepend
 * context.
 */
#pragma once

#include <stddef.h>

/* name, HTTP status, exit status of the command line, meaning */
#define ERR_TABLE(X)                                                       \
	X(ERR_INVALID, 400, 1, "the input is wrong")                       \
	X(ERR_USAGE, 400, 2, "the command line is wrong")                  \
	X(ERR_UNAUTHENTICATED, 401, 4, "who asks is not known")            \
	X(ERR_FORBIDDEN, 403, 4, "who asks may not do this")               \
	X(ERR_NOT_FOUND, 404, 1, "what was asked for does not exist")      \
	X(ERR_METHOD, 405, 1, "this resource does not take that method")   \
	X(ERR_TIMEOUT, 504, 1, "it took longer than allowed")              \
	X(ERR_CONFLICT, 409, 1, "the present state does not allow it")     \
	X(ERR_LOCKED, 423, 1, "somebody else holds the lock")              \
	X(ERR_LIMIT, 413, 1, "a limit was reached")                        \
	X(ERR_BUSY, 429, 1, "too much at once; try again later")           \
	X(ERR_FAILED, 422, 1, "it was carried out and failed")             \
	X(ERR_CANCELLED, 409, 1, "it was cancelled")                       \
	X(ERR_CORRUPT, 500, 1, "stored bytes are not what was written")    \
	X(ERR_IO, 500, 1, "the operating system refused")                  \
	X(ERR_UNAVAILABLE, 503, 1, "a component it needs does not answer") \
	X(ERR_INTERNAL, 500, 1, "a mistake in Holdfast")

typedef enum errc {
	OK = 0,
#define X(name, http, status, meaning) name,
	ERR_TABLE(X)
#undef X
} errc;

struct err {
	errc code;
	int sys_errno; /* 0 when no system call was behind it */
	int line;
	const char *file;
	char message[2048];
};

#define WARN_UNUSED __attribute__((warn_unused_result))

/* Return the failure of EXPR to the caller. */
#define TRY(expr)                       \
	do {                            \
		errc try_rc_ = (expr);  \
		if (try_rc_ != OK)      \
			return try_rc_; \
	} while (0)

/* Fail with CODE and a printf-like message: what failed, why, what to do next. */
#define FAIL(e, code, ...) return err_fill((e), (code), 0, __FILE__, __LINE__, __VA_ARGS__)

/* As FAIL, with `: strerror(errno)` appended; errno is read before the arguments are formatted. */
#define FAIL_ERRNO(e, ...) return err_fill_errno((e), __FILE__, __LINE__, __VA_ARGS__)

/* Fill E (may be NULL) and return CODE. */
errc err_fill(struct err *e, errc code, int sys_errno, const char *file, int line, const char *fmt,
	      ...) __attribute__((format(printf, 6, 7)));

/* Fill E from errno: ENOENT is ERR_NOT_FOUND, ETIMEDOUT is ERR_TIMEOUT, anything else ERR_IO. */
errc err_fill_errno(struct err *e, const char *file, int line, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* Put `context: ` before the message of E (may be NULL); return its code, for `return
 * err_prepend(…)`. */
errc err_prepend(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The code's name in lower case without its prefix, as it stands in JSON: `not_found`. */
const char *errc_name(errc code);
/* The code of that name; ERR_INTERNAL when there is none. */
errc errc_of_name(const char *name);
int errc_http_status(errc code);
int errc_exit_status(errc code);
const char *errc_meaning(errc code);
