#include "api/api_json.h"

void api_put_time(struct json_writer *w, const char *key, time_ms t)
{
	char text[UNIT_TEXT_SIZE];
	json_key(w, key);
	if (t)
		json_add_cstr(w, time_format(t, text));
	else
		json_add_null(w);
}

void api_write_operation(struct json_writer *w, const struct operation *o)
{
	json_begin_object(w);
	json_put_cstr(w, "id", o->id);
	json_put_cstr(w, "kind", o->kind);
	json_put_cstr(w, "app", o->app);
	json_put_cstr(w, "environment", o->environment);
	json_put_cstr(w, "state", operation_state_text(o->state));
	json_put_cstr(w, "step", o->step);
	json_put_cstr(w, "actor", o->actor);
	api_put_time(w, "created", o->created);
	api_put_time(w, "ended", o->ended);
	if (o->state >= OPERATION_SUCCEEDED)
		json_put_raw(w, "result", str_c(o->result));
	if (o->error && o->error[0]) {
		json_key(w, "error");
		json_begin_object(w);
		json_put_cstr(w, "code", errc_name(o->error_code));
		json_put_cstr(w, "message", o->error);
		json_end_object(w);
	}
	json_end_object(w);
}

void api_write_event(struct json_writer *w, const struct operation_event *event)
{
	json_begin_object(w);
	json_put_i64(w, "sequence", event->sequence);
	api_put_time(w, "time", event->time);
	json_put_cstr(w, "event", operation_event_kind_text(event->kind));
	json_put_cstr(w, "step", event->step);
	json_put_cstr(w, "message", event->message);
	if (event->data && event->data[0])
		json_put_raw(w, "data", str_c(event->data));
	json_end_object(w);
}

void api_write_release(struct json_writer *w, const struct release *r)
{
	json_begin_object(w);
	json_put_cstr(w, "app", r->app);
	json_put_cstr(w, "environment", r->environment);
	json_put_i64(w, "release", r->number);
	json_put_cstr(w, "state", release_state_text(r->state));
	json_put_cstr(w, "colour", r->colour);
	json_put_cstr(w, "artifact", r->artifact);
	json_put_i64(w, "configuration_version", r->configuration_version);
	json_put_i64(w, "secret_version", r->secret_version);
	api_put_time(w, "created", r->created);
	if (r->state == RELEASE_WARM)
		api_put_time(w, "warm_until", r->warm_until);
	json_put_cstr(w, "actor", r->actor);
	json_put_cstr(w, "operation", r->operation);
	json_put_cstr(w, "note", r->note);
	json_end_object(w);
}

void api_write_instance(struct json_writer *w, const struct instance *i)
{
	json_begin_object(w);
	json_put_cstr(w, "id", i->id);
	json_put_cstr(w, "service", i->service);
	json_put_i64(w, "release", i->release);
	json_put_cstr(w, "colour", i->colour);
	json_put_i64(w, "port", i->port);
	json_put_cstr(w, "desired", instance_desired_text(i->desired));
	json_put_cstr(w, "state", instance_state_text(i->runtime.state));
	json_put_i64(w, "pid", i->runtime.pid);
	json_put_i64(w, "shim_pid", i->runtime.shim_pid);
	json_put_i64(w, "restarts", i->runtime.restarts);
	api_put_time(w, "started", i->runtime.started);
	json_put_cstr(w, "exit", i->runtime.exit);
	if (i->in_proxy) {
		json_put_cstr(w, "traffic", instance_traffic_text(i->traffic));
		json_put_i64(w, "weight", i->weight);
		json_put_bool(w, "in_force", i->proxy.generation == i->traffic_generation);
		json_put_bool(w, "up", i->proxy.up);
		json_put_cstr(w, "check", i->proxy.check);
		json_put_i64(w, "in_flight", i->proxy.in_flight);
		json_put_i64(w, "websockets", i->proxy.websockets);
	}
	json_end_object(w);
}

void api_write_token(struct json_writer *w, const struct token *t)
{
	json_begin_object(w);
	json_put_cstr(w, "id", t->id);
	json_put_cstr(w, "name", t->name);
	json_put_cstr(w, "role", access_role_text(t->role));
	api_put_time(w, "created", t->created);
	api_put_time(w, "expires", t->expires);
	api_put_time(w, "revoked", t->revoked);
	api_put_time(w, "used", t->used);
	json_end_object(w);
}

void api_write_audit(struct json_writer *w, const struct audit_entry *entry)
{
	json_begin_object(w);
	json_put_i64(w, "sequence", entry->sequence);
	api_put_time(w, "time", entry->time);
	json_put_cstr(w, "actor", entry->actor);
	json_put_cstr(w, "role", entry->role);
	json_put_cstr(w, "peer", entry->peer);
	json_put_cstr(w, "action", entry->action);
	json_put_cstr(w, "target", entry->target);
	json_put_cstr(w, "outcome", entry->outcome);
	if (entry->detail && entry->detail[0])
		json_put_raw(w, "detail", str_c(entry->detail));
	json_end_object(w);
}
