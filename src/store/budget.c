#include "store/budget.h"

#include "base/checks.h"
#include "base/units.h"

void budget_init(struct budget *b, const char *name, struct budget *parent, int64_t bytes_max)
{
	must(bytes_max >= 0 && (!parent || !parent->parent));
	*b = (struct budget){ .name = name, .parent = parent, .bytes_max = bytes_max };
}

static void note_peak(struct budget *b, int64_t bytes)
{
	int64_t peak = __atomic_load_n(&b->bytes_peak, __ATOMIC_RELAXED);
	while (bytes > peak && !__atomic_compare_exchange_n(&b->bytes_peak, &peak, bytes, true,
							    __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

/* Added before it is compared, so that two who race cannot both get the last bytes. */
static bool take(struct budget *b, int64_t bytes)
{
	int64_t max = __atomic_load_n(&b->bytes_max, __ATOMIC_RELAXED);
	int64_t held = __atomic_add_fetch(&b->bytes, bytes, __ATOMIC_RELAXED);
	if (max && held > max) {
		__atomic_sub_fetch(&b->bytes, bytes, __ATOMIC_RELAXED);
		__atomic_add_fetch(&b->refused_count, 1, __ATOMIC_RELAXED);
		return false;
	}
	note_peak(b, held);
	return true;
}

/* The budget that refuses; NULL when all gave. */
static const struct budget *take_all(struct budget *b, int64_t bytes)
{
	must(bytes >= 0 && bytes <= INT64_MAX / 4);
	if (!take(b, bytes))
		return b;
	if (b->parent && !take(b->parent, bytes)) {
		__atomic_sub_fetch(&b->bytes, bytes, __ATOMIC_RELAXED);
		return b->parent;
	}
	return NULL;
}

bool budget_try(struct budget *b, int64_t bytes)
{
	return take_all(b, bytes) == NULL;
}

errc budget_charge(struct budget *b, int64_t bytes, struct err *e)
{
	const struct budget *refused = take_all(b, bytes);
	if (!refused)
		return OK;
	char want[UNIT_TEXT_SIZE], held[UNIT_TEXT_SIZE], max[UNIT_TEXT_SIZE];
	FAIL(e, ERR_BUSY,
	     "no room for %s more in the %s: %s of %s are in use; try again later, or raise the "
	     "limit",
	     size_format(bytes, want), refused->name, size_format(budget_bytes(refused), held),
	     size_format(budget_bytes_max(refused), max));
}

void budget_force(struct budget *b, int64_t bytes)
{
	must(bytes >= 0);
	for (; b; b = b->parent)
		note_peak(b, __atomic_add_fetch(&b->bytes, bytes, __ATOMIC_RELAXED));
}

void budget_return(struct budget *b, int64_t bytes)
{
	must(bytes >= 0);
	for (; b; b = b->parent)
		must(__atomic_sub_fetch(&b->bytes, bytes, __ATOMIC_RELAXED) >= 0);
}

int64_t budget_bytes(const struct budget *b)
{
	return __atomic_load_n(&b->bytes, __ATOMIC_RELAXED);
}

int64_t budget_peak(const struct budget *b)
{
	return __atomic_load_n(&b->bytes_peak, __ATOMIC_RELAXED);
}

uint64_t budget_refused(const struct budget *b)
{
	return __atomic_load_n(&b->refused_count, __ATOMIC_RELAXED);
}

int64_t budget_bytes_max(const struct budget *b)
{
	return __atomic_load_n(&b->bytes_max, __ATOMIC_RELAXED);
}

int budget_percent(const struct budget *b)
{
	int percent = 0;
	for (; b; b = b->parent) {
		int64_t max = budget_bytes_max(b);
		double share = max ? (double)budget_bytes(b) * 100 / (double)max : 0;
		int rounded = share > 1000 ? 1000 : (int)share;
		if (rounded > percent)
			percent = rounded;
	}
	return percent;
}

void budget_set_max(struct budget *b, int64_t bytes_max)
{
	must(bytes_max >= 0);
	__atomic_store_n(&b->bytes_max, bytes_max, __ATOMIC_RELAXED);
}
