#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/checks.h"
#include "base/units.h"
#include "net/http_client_internal.h"
#include "os/clock.h"

enum {
	CONNECT_MS = 5 * 1000,
	TOTAL_MS = 30 * 1000,
	LINE_IDLE_MS = 60 * 1000,
	RESPONSE_BYTES = 1024 * 1024,
	HEADER_BYTES = 64 * 1024,
	ASK_MS = 150,
};

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;

static void init_curl(void)
{
	/* without CURL_GLOBAL_SSL: OpenSSL initialises itself at the first https request, and costs
	 * a daemon that makes none nothing */
	must(curl_global_init(CURL_GLOBAL_NOTHING) == CURLE_OK);
}

void http_transfer_global_init(void)
{
	pthread_once(&curl_once, init_curl);
}

/* `GET http://host/path`: neither user information nor query may get into a message. */
static char *make_label(const char *method, const char *url, const char *unix_path)
{
	struct buf b = buf_init(600);
	const char *scheme_end = strstr(url, "://");
	const char *host = scheme_end ? scheme_end + 3 : url;
	size_t authority_len = strcspn(host, "/?#");
	const char *at = memrchr(host, '@', authority_len);
	size_t scheme_len = scheme_end && host - url < 16 ? (size_t)(host - url) : 0;
	if (at) {
		authority_len -= (size_t)(at + 1 - host);
		host = at + 1;
	}
	size_t len = authority_len + strcspn(host + authority_len, "?#");
	buf_printf(&b, "%.15s %.*s%.*s", method, (int)scheme_len, url, (int)(len < 200 ? len : 200),
		   host);
	if (unix_path)
		buf_printf(&b, " (at %.150s)", unix_path);
	return b.ptr;
}

static size_t on_header(char *data, size_t size, size_t count, void *ctx)
{
	struct http_transfer *t = ctx;
	size_t len = size * count;
	str line = str_trim((str){ data, len });
	t->moved_ms = clock_mono_ms();
	if (str_starts(line, STR("HTTP/"))) {
		/* a further response: after 100-continue or a redirect */
		buf_clear(&t->response.headers);
		return len;
	}
	if (line.len) {
		buf_add(&t->response.headers, line);
		buf_add_byte(&t->response.headers, '\n');
	}
	if (t->response.headers.overflow) {
		t->too_large = true;
		return 0;
	}
	return len;
}

/* Hand complete lines over; false to stop. */
static bool feed_lines(struct http_transfer *t, str data)
{
	while (data.len) {
		const char *end = memchr(data.ptr, '\n', data.len);
		size_t len = end ? (size_t)(end - data.ptr) : data.len;
		buf_add(&t->line, (str){ data.ptr, len });
		if (t->line.overflow) {
			t->too_large = true;
			return false;
		}
		if (!end)
			return true;
		str line = buf_str(&t->line);
		if (line.len && line.ptr[line.len - 1] == '\r')
			line.len--;
		if (line.len && !t->request.line(t->request.ctx, line)) {
			t->cancelled = true;
			return false;
		}
		buf_clear(&t->line);
		data = (str){ end + 1, data.len - len - 1 };
	}
	return true;
}

static size_t on_body(char *data, size_t size, size_t count, void *ctx)
{
	struct http_transfer *t = ctx;
	size_t len = size * count;
	long status = 0;
	t->moved_ms = clock_mono_ms();
	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
	if (t->request.line && status >= 200 && status < 300)
		return feed_lines(t, (str){ data, len }) ? len : 0;
	buf_add(&t->response.body, (str){ data, len });
	if (t->response.body.overflow) {
		t->too_large = true;
		return 0;
	}
	return len;
}

static size_t on_upload(char *to, size_t size, size_t count, void *ctx)
{
	struct http_transfer *t = ctx;
	size_t max = size * count;
	if (max > t->fd_left)
		max = (size_t)t->fd_left;
	ssize_t n = max ? read(t->request.body_fd, to, max) : 0;
	if (n < 0 || (n == 0 && t->fd_left))
		return CURL_READFUNC_ABORT;
	t->fd_left -= (uint64_t)n;
	t->moved_ms = clock_mono_ms();
	return (size_t)n;
}

static int on_progress(void *ctx, curl_off_t down_total, curl_off_t down, curl_off_t up_total,
		       curl_off_t up)
{
	struct http_transfer *t = ctx;
	(void)down_total;
	(void)down;
	(void)up_total;
	(void)up;
	return t->cancelled || t->idle;
}

static errc add_fields(struct http_transfer *t, struct err *e)
{
	const struct http_fetch_request *q = &t->request;
	for (size_t i = 0; i < q->header_count; i++) {
		const char *name = q->headers[i].name, *value = q->headers[i].value;
		/* `name;` is curl's way to write a field without a value */
		struct buf b = buf_init(16 * 1024);
		buf_printf(&b, "%s%s%s", name, value[0] ? ": " : ";", value);
		bool good = name[0] && !strpbrk(name, ": \t\r\n;") && !strpbrk(value, "\r\n") &&
			    !b.overflow;
		struct curl_slist *more = good ? curl_slist_append(t->fields, b.ptr) : NULL;
		buf_done(&b);
		if (!more)
			FAIL(e, ERR_INVALID, "%s: header field '%.60s' cannot be sent", t->label,
			     name);
		t->fields = more;
	}
	/* ask before large bodies only: a refusal then costs nothing */
	if (q->body_fd_len == 0)
		t->fields = curl_slist_append(t->fields, "Expect:");
	return OK;
}

static void set_body(struct http_transfer *t)
{
	const struct http_fetch_request *q = &t->request;
	CURL *c = t->easy;
	if (q->body_fd_len) {
		t->fd_left = q->body_fd_len;
		curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(c, CURLOPT_READFUNCTION, on_upload);
		curl_easy_setopt(c, CURLOPT_READDATA, t);
		curl_easy_setopt(c, CURLOPT_INFILESIZE_LARGE, (curl_off_t)q->body_fd_len);
	} else if (q->body.len || (q->method && strcmp(q->method, "POST") == 0)) {
		curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)q->body.len);
		curl_easy_setopt(c, CURLOPT_POSTFIELDS, q->body.len ? q->body.ptr : "");
	}
	if (q->method && strcmp(q->method, "HEAD") == 0)
		curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
	else if (q->method)
		curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, q->method);
	else if (q->body_fd_len)
		curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, "POST");
}

static errc set_options(struct http_transfer *t, struct err *e)
{
	const struct http_fetch_request *q = &t->request;
	CURL *c = t->easy;
	curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
	if (curl_easy_setopt(c, CURLOPT_URL, q->url) != CURLE_OK)
		FAIL(e, ERR_INVALID, "%s: the URL is wrong", t->label);
	curl_easy_setopt(c, CURLOPT_PRIVATE, t);
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_PROXY, "");
	curl_easy_setopt(c, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	curl_easy_setopt(c, CURLOPT_USERAGENT, "holdfast/" HOLDFAST_VERSION);
	curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)q->connect_ms_max);
	curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)q->total_ms_max);
	curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, q->redirect_count_max ? 1L : 0L);
	curl_easy_setopt(c, CURLOPT_MAXREDIRS, (long)q->redirect_count_max);
	if (q->unix_path)
		curl_easy_setopt(c, CURLOPT_UNIX_SOCKET_PATH, q->unix_path);
	if (q->compressed)
		curl_easy_setopt(c, CURLOPT_ACCEPT_ENCODING, "gzip");
	if (q->tls_ca_path)
		curl_easy_setopt(c, CURLOPT_CAINFO, q->tls_ca_path);
	if (q->tls_insecure) {
		curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 0L);
		curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 0L);
	}
	curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(c, CURLOPT_HEADERDATA, t);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
	curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(c, CURLOPT_XFERINFODATA, t);
	curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
	set_body(t);
	TRY(add_fields(t, e));
	curl_easy_setopt(c, CURLOPT_HTTPHEADER, t->fields);
	return OK;
}

errc http_transfer_init(struct http_transfer *t, const struct http_fetch_request *request,
			struct err *e)
{
	*t = (struct http_transfer){ .request = *request };
	struct http_fetch_request *q = &t->request;
	bool sends = q->body.len || q->body_fd_len;
	http_transfer_global_init();
	t->label = make_label(q->method ? q->method : sends ? "POST" : "GET", q->url, q->unix_path);
	q->connect_ms_max = q->connect_ms_max ? q->connect_ms_max : CONNECT_MS;
	if (!q->total_ms_max && !q->line)
		q->total_ms_max = TOTAL_MS;
	if (!q->idle_ms_max && q->line)
		q->idle_ms_max = LINE_IDLE_MS;
	if (!q->response_bytes_max)
		q->response_bytes_max = RESPONSE_BYTES;
	t->response.body = buf_init(q->response_bytes_max);
	t->response.headers = buf_init(HEADER_BYTES);
	t->line = buf_init(q->response_bytes_max);
	t->begin_ms = t->moved_ms = clock_mono_ms();
	t->easy = curl_easy_init();
	if (!t->easy)
		FAIL(e, ERR_IO, "%s: out of memory", t->label);
	return set_options(t, e);
}

void http_transfer_done(struct http_transfer *t)
{
	if (t->easy)
		curl_easy_cleanup(t->easy);
	curl_slist_free_all(t->fields);
	http_fetch_response_done(&t->response);
	buf_done(&t->line);
	free(t->label);
	t->label = NULL;
}

bool http_transfer_is_over(struct http_transfer *t, int64_t now)
{
	const struct http_fetch_request *q = &t->request;
	if (q->idle_ms_max && now - t->moved_ms > q->idle_ms_max)
		t->idle = true;
	if (q->cancelled && q->cancelled(q->ctx))
		t->cancelled = true;
	return t->idle || t->cancelled;
}

int http_transfer_wait_ms(const struct http_transfer *t)
{
	return t->request.cancelled || t->request.idle_ms_max ? ASK_MS : 1000;
}

static errc fail_as(struct http_transfer *t, CURLcode code, struct err *e)
{
	const struct http_fetch_request *q = &t->request;
	char text[UNIT_TEXT_SIZE];
	long os_errno = 0;
	long connected = 0;
	curl_easy_getinfo(t->easy, CURLINFO_OS_ERRNO, &os_errno);
	curl_easy_getinfo(t->easy, CURLINFO_NUM_CONNECTS, &connected);
	switch ((int)code) {
	case CURLE_OPERATION_TIMEDOUT:
		if (q->total_ms_max && clock_mono_ms() - t->begin_ms >= q->total_ms_max)
			FAIL(e, ERR_TIMEOUT, "%s: no complete answer within %s", t->label,
			     duration_format(q->total_ms_max, text));
		FAIL(e, ERR_TIMEOUT, "%s: could not connect within %s", t->label,
		     duration_format(q->connect_ms_max, text));
	case CURLE_COULDNT_CONNECT:
		if (os_errno == ECONNREFUSED)
			FAIL(e, ERR_UNAVAILABLE, "%s: connection refused", t->label);
		if (os_errno == ENOENT)
			FAIL(e, ERR_UNAVAILABLE, "%s: nobody listens there", t->label);
		FAIL(e, ERR_UNAVAILABLE, "%s: cannot connect%s%s", t->label, os_errno ? ": " : "",
		     os_errno ? strerror((int)os_errno) : "");
	case CURLE_URL_MALFORMAT:
	case CURLE_UNSUPPORTED_PROTOCOL:
		FAIL(e, ERR_INVALID, "%s: not an http:// or https:// URL", t->label);
	case CURLE_GOT_NOTHING:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
	case CURLE_PARTIAL_FILE:
		FAIL(e, ERR_UNAVAILABLE, "%s: the connection broke before the answer was complete",
		     t->label);
	case CURLE_ABORTED_BY_CALLBACK:
		FAIL(e, ERR_IO, "%s: the body could not be read", t->label);
	default:
		FAIL(e, ERR_UNAVAILABLE, "%s: %s", t->label, curl_easy_strerror(code));
	}
}

errc http_transfer_finish(struct http_transfer *t, CURLcode code, struct err *e)
{
	const struct http_fetch_request *q = &t->request;
	char text[UNIT_TEXT_SIZE];
	long status = 0;
	t->response.elapsed_ms = clock_mono_ms() - t->begin_ms;
	if (t->cancelled)
		FAIL(e, ERR_CANCELLED, "%s: cancelled", t->label);
	if (t->idle)
		FAIL(e, ERR_TIMEOUT, "%s: nothing arrived for %s", t->label,
		     duration_format(q->idle_ms_max, text));
	if (t->too_large)
		FAIL(e, ERR_LIMIT, "%s: the answer%s has more than %s", t->label,
		     t->line.overflow ? "'s line" : "",
		     t->response.headers.overflow
			     ? "64KiB of headers"
			     : size_format((int64_t)q->response_bytes_max, text));
	if (code != CURLE_OK)
		return fail_as(t, code, e);
	/* a last line without its end */
	if (q->line && t->line.len && !q->line(q->ctx, buf_str(&t->line)))
		FAIL(e, ERR_CANCELLED, "%s: cancelled", t->label);
	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
	t->response.status = (int)status;
	return OK;
}

/* Drive one transfer in this thread. */
static CURLcode run(struct http_transfer *t, CURLM *multi)
{
	int running = 1;
	while (running) {
		if (curl_multi_perform(multi, &running) != CURLM_OK)
			return CURLE_OUT_OF_MEMORY;
		if (!running || http_transfer_is_over(t, clock_mono_ms()))
			break;
		curl_multi_poll(multi, NULL, 0, http_transfer_wait_ms(t), NULL);
	}
	int left;
	CURLMsg *m;
	while ((m = curl_multi_info_read(multi, &left)))
		if (m->msg == CURLMSG_DONE)
			return m->data.result;
	return CURLE_ABORTED_BY_CALLBACK;
}

errc http_fetch(const struct http_fetch_request *request, struct http_fetch_response *ret_response,
		struct err *e)
{
	struct http_transfer t;
	errc rc = http_transfer_init(&t, request, e);
	CURLM *multi = rc == OK ? curl_multi_init() : NULL;
	if (rc == OK && !multi)
		rc = err_fill(e, ERR_IO, 0, __FILE__, __LINE__, "%s: out of memory", t.label);
	if (rc == OK) {
		curl_multi_add_handle(multi, t.easy);
		CURLcode code = run(&t, multi);
		rc = http_transfer_finish(&t, code, e);
		curl_multi_remove_handle(multi, t.easy);
	}
	if (rc == OK) {
		*ret_response = t.response;
		t.response = (struct http_fetch_response){ 0 };
	}
	http_transfer_done(&t);
	if (multi)
		curl_multi_cleanup(multi);
	return rc;
}

void http_fetch_response_done(struct http_fetch_response *response)
{
	buf_done(&response->body);
	buf_done(&response->headers);
}

str http_fetch_response_header(const struct http_fetch_response *response, const char *name)
{
	str all = buf_str(&response->headers);
	str line, found = { 0 };
	size_t name_len = strlen(name);
	while (str_split(&all, '\n', &line))
		if (line.len > name_len && line.ptr[name_len] == ':' &&
		    strncasecmp(line.ptr, name, name_len) == 0)
			found = str_trim((str){ line.ptr + name_len + 1, line.len - name_len - 1 });
	return found;
}
