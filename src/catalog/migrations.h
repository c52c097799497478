/* The catalog's schema, as the steps that lead to it. A released step is never edited; add one. */
#pragma once

#include "catalog/catalog.h"

/* Bring the database up to this program's schema, all steps in one transaction each.
 * Errors: ERR_CONFLICT when it was made by a newer Holdfast. */
WARN_UNUSED errc migrations_run(struct catalog *c, struct err *e);
