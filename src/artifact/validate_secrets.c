/* Secrets in what browsers may load: known values, well-known key forms, and strings that look so.
 */
#include <math.h>
#include <string.h>

#include "artifact/validate_internal.h"
#include "base/checks.h"

enum { SECRET_LEN_MIN = 8, GENERIC_LEN_MIN = 16, GENERIC_LEN_MAX = 512 };

#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define ALNUM UPPER "abcdefghijklmnopqrstuvwxyz0123456789"

/* A start that gives a key away, what may follow it, and how much of that. */
static const struct key_form {
	const char *start;
	const char *alphabet;
	size_t len_min;
	size_t len_max;
	const char *name;
} key_forms[] = {
	{ "AKIA", UPPER "0123456789", 16, 16, "an AWS access key" },
	{ "ASIA", UPPER "0123456789", 16, 16, "an AWS session key" },
	{ "ghp_", ALNUM, 36, 255, "a GitHub token" },
	{ "gho_", ALNUM, 36, 255, "a GitHub token" },
	{ "ghu_", ALNUM, 36, 255, "a GitHub token" },
	{ "ghs_", ALNUM, 36, 255, "a GitHub token" },
	{ "ghr_", ALNUM, 36, 255, "a GitHub token" },
	{ "github_pat_", ALNUM "_", 22, 255, "a GitHub token" },
	{ "glpat-", ALNUM "_-", 20, 64, "a GitLab token" },
	{ "npm_", ALNUM, 36, 36, "an npm token" },
	{ "xoxa-", ALNUM "-", 10, 255, "a Slack token" },
	{ "xoxb-", ALNUM "-", 10, 255, "a Slack token" },
	{ "xoxp-", ALNUM "-", 10, 255, "a Slack token" },
	{ "xoxr-", ALNUM "-", 10, 255, "a Slack token" },
	{ "xoxs-", ALNUM "-", 10, 255, "a Slack token" },
	{ "sk_live_", ALNUM, 16, 255, "a Stripe key" },
	{ "rk_live_", ALNUM, 16, 255, "a Stripe key" },
	{ "AIza", ALNUM "_-", 35, 35, "a Google API key" },
};

/* placeholders such as `xoxb-xxxxxxxxxxxx` are below, keys above */
static const double key_entropy_min = 2.5;
static const double generic_entropy_min = 3.5;

static const char *const generic_names[] = { "secret", "token",  "password",
					     "passwd", "apikey", "api_key" };

/* Bits a byte. */
static double entropy_of(str s)
{
	size_t counts[256] = { 0 };
	double bits = 0;
	for (size_t i = 0; i < s.len; i++)
		counts[(unsigned char)s.ptr[i]]++;
	for (size_t i = 0; i < ARRAY_COUNT(counts); i++)
		if (counts[i]) {
			double share = (double)counts[i] / (double)s.len;
			bits -= share * log2(share);
		}
	return bits;
}

static bool is_word(char c)
{
	return c && strchr(ALNUM "_", c);
}

static size_t span(str s, size_t from, const char *alphabet)
{
	size_t at = from;
	while (at < s.len && s.ptr[at] && strchr(alphabet, s.ptr[at]))
		at++;
	return at - from;
}

static ptrdiff_t find_from(str text, size_t from, str needle)
{
	ptrdiff_t at = str_find((str){ text.ptr + from, text.len - from }, needle);
	return at < 0 ? at : at + (ptrdiff_t)from;
}

#define ADVICE                                                                               \
	"; keep it on the server, issue a new one, and if it is public on purpose list the " \
	"file under build.allow in holdfast.yml"

static void find_form(struct validation *v, str file, str text, const struct key_form *form)
{
	str start = str_c(form->start);
	for (ptrdiff_t at = 0; (at = find_from(text, (size_t)at, start)) >= 0; at++) {
		size_t begin = (size_t)at + start.len;
		size_t len = span(text, begin, form->alphabet);
		if ((at > 0 && is_word(text.ptr[at - 1])) || len < form->len_min ||
		    len > form->len_max ||
		    (begin + len < text.len && is_word(text.ptr[begin + len])) ||
		    entropy_of((str){ text.ptr + begin, len }) < key_entropy_min)
			continue;
		validate_add(v, VALIDATE_SECRET, file, validate_line(text, (size_t)at),
			     "here stands %s (%s…)" ADVICE, form->name, form->start);
	}
}

static void find_private_keys(struct validation *v, str file, str text)
{
	static const str begin = { "-----BEGIN ", 11 };
	for (ptrdiff_t at = 0; (at = find_from(text, (size_t)at, begin)) >= 0; at++) {
		size_t rest = text.len - (size_t)at;
		str head = { text.ptr + at, rest < 64 ? rest : 64 };
		if (str_find(head, STR("PRIVATE KEY")) >= 0)
			validate_add(v, VALIDATE_SECRET, file, validate_line(text, (size_t)at),
				     "here begins a private key" ADVICE);
	}
}

static void find_values(struct validation *v, str file, str text)
{
	for (size_t i = 0; i < v->options->secret_count; i++) {
		const struct validate_secret *secret = &v->options->secrets[i];
		if (secret->value.len < SECRET_LEN_MIN)
			continue;
		ptrdiff_t at = str_find(text, secret->value);
		if (at >= 0)
			validate_add(v, VALIDATE_SECRET, file, validate_line(text, (size_t)at),
				     "here stands the value of the secret %.*s; browsers would get "
				     "it: read it on the server only, and issue a new one",
				     STR_ARG(secret->name));
	}
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool name_at(str text, size_t at, size_t *ret_len)
{
	for (size_t i = 0; i < ARRAY_COUNT(generic_names); i++) {
		size_t len = strlen(generic_names[i]), k = 0;
		while (k < len && at + k < text.len &&
		       lower(text.ptr[at + k]) == generic_names[i][k])
			k++;
		if (k == len) {
			*ret_len = len;
			return true;
		}
	}
	return false;
}

static bool looks_random(str s)
{
	bool digit = false, letter = false;
	for (size_t i = 0; i < s.len; i++) {
		digit |= s.ptr[i] >= '0' && s.ptr[i] <= '9';
		letter |= is_word(lower(s.ptr[i])) && (s.ptr[i] < '0' || s.ptr[i] > '9');
	}
	return digit && letter && entropy_of(s) >= generic_entropy_min;
}

/* `token: "…"`, `"api_key" = '…'`: an assignment of a long random string to a telling name. */
static void check_assignment(struct validation *v, str file, str text, size_t name, size_t after)
{
	size_t at = after;
	at += at < text.len && (text.ptr[at] == '"' || text.ptr[at] == '\'');
	at += span(text, at, " \t");
	if (at >= text.len || (text.ptr[at] != ':' && text.ptr[at] != '='))
		return;
	at++;
	at += span(text, at, " \t");
	if (at >= text.len || !strchr("\"'`", text.ptr[at]) || !text.ptr[at])
		return;
	size_t len = span(text, at + 1, ALNUM "+/_=.-");
	if (len < GENERIC_LEN_MIN || len > GENERIC_LEN_MAX || at + 1 + len >= text.len ||
	    text.ptr[at + 1 + len] != text.ptr[at] ||
	    !looks_random((str){ text.ptr + at + 1, len }))
		return;
	validate_add(v, VALIDATE_SECRET, file, validate_line(text, name),
		     "here a name like %.*s gets a long random value" ADVICE, (int)(after - name),
		     text.ptr + name);
}

static void find_assignments(struct validation *v, str file, str text)
{
	for (size_t i = 0; i < text.len; i++) {
		size_t len;
		if (!strchr("stpaSTPA", text.ptr[i]) || !name_at(text, i, &len))
			continue;
		check_assignment(v, file, text, i, i + len);
		i += len - 1;
	}
}

void validate_secrets(struct validation *v, str file, str text)
{
	find_values(v, file, text);
	find_private_keys(v, file, text);
	for (size_t i = 0; i < ARRAY_COUNT(key_forms); i++)
		find_form(v, file, text, &key_forms[i]);
	find_assignments(v, file, text);
}
