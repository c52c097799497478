/* What the table modules share with catalog.c. */
#pragma once

#include "catalog/catalog.h"

struct instance_table;

/* The in-memory table of instances, loaded when the catalog is opened. */
struct instance_table *catalog_instances(struct catalog *c);
struct instance_table *instance_table_new(void);
void instance_table_free(struct instance_table *t);
WARN_UNUSED errc instance_table_load(struct catalog *c, struct err *e);

/* The instance table's lock is taken before the catalog's: who takes it may hold no transaction and
 * no open query. Stops the process otherwise. */
void catalog_must_not_hold(void);

/* The key that secrets are sealed with (32 bytes), from DATA/keys/secret.key; made when missing. */
const unsigned char *catalog_secret_key(const struct catalog *c);
WARN_UNUSED errc secret_key_load(const char *data, unsigned char ret_key[static 32], struct err *e);
