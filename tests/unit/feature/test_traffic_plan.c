/* What is rendered, read back and commanded, without a HAProxy. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/checks.h"
#include "feature/traffic/traffic_desired.h"
#include "feature/traffic/traffic_view.h"
#include "os/io.h"

static void occupy(struct traffic_environment *env, int index, const char *instance, int port,
		   enum instance_traffic traffic)
{
	struct traffic_slot *slot = &env->slots[index];
	snprintf(slot->instance, sizeof(slot->instance), "%s", instance);
	snprintf(slot->ready_path, sizeof(slot->ready_path), "/readyz?deep=1");
	slot->port = port;
	slot->traffic = traffic;
	slot->weight = 100;
}

static struct traffic_plan *example(void)
{
	struct traffic_plan *p = traffic_plan_new();
	p->thread_count = 2;
	p->connection_count_max = 8000;
	snprintf(p->user, sizeof(p->user), "haproxy");
	snprintf(p->group, sizeof(p->group), "haproxy");
	struct traffic_environment *env = traffic_plan_add(p, "shop.production");
	snprintf(env->binds[0].listen, sizeof(env->binds[0].listen), "0.0.0.0:8443");
	snprintf(env->binds[0].tls_certificate, sizeof(env->binds[0].tls_certificate),
		 "/etc/odd \"name\" $1/a.pem");
	env->bind_count = 1;
	env->check = TRAFFIC_CHECK_PATH;
	env->ready_interval_ms = 1000;
	env->retry_idempotent_posts = true;
	env->slot_count = 4;
	occupy(env, 0, "shop.production.r1.web.0", 20001, TRAFFIC_BACKUP);
	occupy(env, 2, "shop.production.r2.web.0", 20002, TRAFFIC_ACTIVE);
	env = traffic_plan_add(p, "blog.staging");
	snprintf(env->binds[0].listen, sizeof(env->binds[0].listen), "[::1]:8081");
	env->bind_count = 1;
	env->check = TRAFFIC_CHECK_PORT;
	env->ready_interval_ms = 250;
	env->slot_count = 4;
	return p;
}

static void test_golden(void **state)
{
	(void)state;
	struct traffic_plan *p = example();
	struct buf text = buf_init(TRAFFIC_CONFIG_MAX);
	struct buf golden = buf_init(TRAFFIC_CONFIG_MAX);
	struct err e;
	traffic_render(p, &text);
	assert_int_equal(io_read_file(TRAFFIC_GOLDEN, &golden, &e), OK);
	if (getenv("UPDATE_GOLDEN"))
		assert_int_equal(io_write_file(TRAFFIC_GOLDEN, buf_str(&text), 0644, &e), OK);
	else
		assert_string_equal(buf_cstr(&text), buf_cstr(&golden));
	buf_done(&text);
	buf_done(&golden);
	traffic_plan_free(p);
}

static void test_read_back(void **state)
{
	(void)state;
	struct traffic_plan *p = example();
	struct traffic_plan *back = traffic_plan_new();
	struct buf text = buf_init(TRAFFIC_CONFIG_MAX);
	traffic_render(p, &text);
	traffic_render_read(buf_str(&text), back);
	assert_int_equal(back->environment_count, 2);
	for (size_t i = 0; i < 2; i++) {
		const struct traffic_environment *a = p->environments[i];
		const struct traffic_environment *b = back->environments[i];
		assert_string_equal(a->name, b->name);
		assert_int_equal(a->slot_count, b->slot_count);
		assert_int_equal(b->bind_count, 1);
		assert_string_equal(a->binds[0].listen, b->binds[0].listen);
		for (int s = 0; s < a->slot_count; s++) {
			assert_string_equal(a->slots[s].instance, b->slots[s].instance);
			assert_int_equal(a->slots[s].port, b->slots[s].port);
		}
	}
	buf_done(&text);
	traffic_plan_free(p);
	traffic_plan_free(back);
}

/* The signature names what needs a reload, and nothing else. */
static void test_signature(void **state)
{
	(void)state;
	char before[17];
	char after[17];
	struct traffic_plan *p = example();
	traffic_render_signature(p, before);
	p->environments[1]->slots[2].traffic = TRAFFIC_DRAIN;
	occupy(p->environments[1], 3, "shop.production.r2.web.1", 20003, TRAFFIC_ACTIVE);
	traffic_render_signature(p, after);
	assert_string_equal(before, after);
	p->environments[1]->ready_interval_ms = 2000;
	traffic_render_signature(p, after);
	assert_string_not_equal(before, after);
	traffic_plan_free(p);
}

/* A worker that runs P as rendered, its slot INDEX excepted. */
static struct traffic_view view_of(const struct traffic_plan *p, struct arena *query)
{
	struct traffic_view view;
	struct err e;
	assert_int_equal(traffic_view_read(p, NULL, 0, query, &view, &e), OK);
	for (size_t i = 0; i < p->environment_count; i++)
		for (int s = 0; s < p->environments[i]->slot_count; s++) {
			const struct traffic_slot *slot = &p->environments[i]->slots[s];
			struct traffic_view_slot *seen = &view.environments[i][s];
			int weights[2];
			traffic_slot_weights(slot, &weights[0], &weights[1]);
			for (int k = 0; k < TRAFFIC_KIND_COUNT; k++) {
				struct traffic_entry entry = {
					.found = true,
					.maintenance = !slot->instance[0],
					.up = slot->instance[0],
					.port = slot->instance[0] ? slot->port : 1,
					.weight = weights[0],
				};
				seen->active[k] = entry;
				entry.weight = weights[1];
				seen->backup[k] = entry;
			}
		}
	return view;
}

static void expect_changes(const struct traffic_plan *p, const struct traffic_view *view,
			   const char *prepare, const char *raise, const char *lower,
			   const char *retire)
{
	struct traffic_changes changes;
	traffic_changes_init(&changes);
	traffic_view_changes(p, view, &changes);
	assert_string_equal(buf_cstr(&changes.prepare), prepare);
	assert_string_equal(buf_cstr(&changes.raise), raise);
	assert_string_equal(buf_cstr(&changes.lower), lower);
	assert_string_equal(buf_cstr(&changes.retire), retire);
	traffic_changes_done(&changes);
}

static void test_changes(void **state)
{
	(void)state;
	struct arena query = arena_init(1 << 20);
	struct traffic_plan *p = example();
	struct traffic_view view = view_of(p, &query);
	expect_changes(p, &view, "", "", "", "");

	/* back to the first release: raised before anything is lowered */
	struct traffic_environment *env = p->environments[1];
	env->slots[0].traffic = TRAFFIC_ACTIVE;
	env->slots[2].traffic = TRAFFIC_DRAIN;
	expect_changes(p, &view, "",
		       "set server shop.production.read/s1 weight 100;"
		       "set server shop.production.write/s1 weight 100;"
		       "set server shop.production.ws/s1 weight 100;",
		       "set server shop.production.read/b1 weight 0;"
		       "set server shop.production.write/b1 weight 0;"
		       "set server shop.production.ws/b1 weight 0;"
		       "set server shop.production.read/s3 weight 0;"
		       "set server shop.production.write/s3 weight 0;"
		       "set server shop.production.ws/s3 weight 0;",
		       "");
	assert_false(traffic_view_settled(env, 0, &view.environments[1][0]));

	/* an instance leaves, another comes to the free slot beside it */
	view = view_of(p, &query);
	memset(&env->slots[2], 0, sizeof(env->slots[2]));
	occupy(env, 1, "shop.production.r3.web.0", 20009, TRAFFIC_CHECKED);
	expect_changes(p, &view,
		       "set server shop.production.read/s2 addr 127.0.0.1 port 20009;"
		       "set server shop.production.read/b2 addr 127.0.0.1 port 20009;"
		       "set server shop.production.write/s2 addr 127.0.0.1 port 20009;"
		       "set server shop.production.write/b2 addr 127.0.0.1 port 20009;"
		       "set server shop.production.ws/s2 addr 127.0.0.1 port 20009;"
		       "set server shop.production.ws/b2 addr 127.0.0.1 port 20009;"
		       "set map ready-shop.production.map s2 /readyz?deep=1;"
		       "set server shop.production.read/s2 state ready;"
		       "set server shop.production.read/s2 health down;",
		       "", "", "set server shop.production.read/s3 state maint;");
	traffic_plan_free(p);
	arena_done(&query);
}

static errc port_is_taken(void *ctx, const char *listen, struct err *e)
{
	(void)ctx;
	if (!strcmp(listen, "127.0.0.1:9"))
		FAIL(e, ERR_BUSY, "cannot listen on 127.0.0.1:9: taken");
	return OK;
}

static void want(struct traffic_environment *env, const char *listen)
{
	snprintf(env->wanted[env->wanted_count++].listen, sizeof(env->wanted[0].listen), "%s",
		 listen);
}

static void test_addresses(void **state)
{
	(void)state;
	struct traffic_plan *before = example();
	struct traffic_plan *p = traffic_plan_new();
	/* sorts before the one that has the port, and still does not get it */
	want(traffic_plan_add(p, "another.one"), ":8443");
	want(traffic_plan_add(p, "shop.production"), "0.0.0.0:8443");
	want(traffic_plan_find(p, "shop.production"), "127.0.0.1:9");
	traffic_desired_bind(p, before, 1000, port_is_taken, NULL);
	assert_int_equal(traffic_plan_find(p, "another.one")->bind_count, 0);
	assert_non_null(strstr(traffic_plan_find(p, "another.one")->problem, "shop.production"));
	const struct traffic_environment *shop = traffic_plan_find(p, "shop.production");
	assert_int_equal(shop->bind_count, 1);
	assert_string_equal(shop->problem, "cannot listen on 127.0.0.1:9: taken");
	traffic_plan_free(p);
	traffic_plan_free(before);
}

static void collect(void *ctx, str id)
{
	buf_add(ctx, id);
	buf_add_byte(ctx, ' ');
}

static void test_sessions(void **state)
{
	(void)state;
	struct traffic_plan *p = example();
	struct buf ids = buf_init(256);
	str reply = STR(
		"0x1: proto=tcpv4 src=127.0.0.1:1 fe=f be=shop.production.ws srv=s1 ts=00\n"
		"0x2: proto=tcpv4 src=127.0.0.1:2 fe=f be=shop.production.ws srv=s10 ts=00\n"
		"0x3: proto=tcpv4 src=127.0.0.1:3 fe=f be=shop.production.ws srv=b1 ts=00\n"
		"0x4: proto=tcpv4 src=127.0.0.1:4 fe=f be=shop.production.read srv=s1 ts=0\n"
		"0x5: proto=tcpv4 src=127.0.0.1:5 fe=f be=shop.production.ws srv=s1 ts=00\n");
	traffic_view_sessions(reply, p->environments[1], 0, 2, collect, &ids);
	assert_string_equal(buf_cstr(&ids), "0x1 0x3 ");
	buf_done(&ids);
	traffic_plan_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_golden),    cmocka_unit_test(test_read_back),
		cmocka_unit_test(test_signature), cmocka_unit_test(test_changes),
		cmocka_unit_test(test_addresses), cmocka_unit_test(test_sessions),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
