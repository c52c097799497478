/* The catalog's records as the API writes them. */
#pragma once

#include "catalog/access.h"
#include "catalog/operations.h"
#include "catalog/releases.h"
#include "codec/json.h"

/* Without the request, which holds the whole specification. */
void api_write_operation(struct json_writer *w, const struct operation *o);
void api_write_event(struct json_writer *w, const struct operation_event *event);
void api_write_release(struct json_writer *w, const struct release *r);
void api_write_instance(struct json_writer *w, const struct instance *i);
void api_write_token(struct json_writer *w, const struct token *t);
void api_write_audit(struct json_writer *w, const struct audit_entry *entry);
/* `"key":"2026-…Z"`, or null for 0. */
void api_put_time(struct json_writer *w, const char *key, time_ms t);
