/* The messages of both versions: labels, symbols, histograms. */
#include <stdlib.h>

#include "base/checks.h"
#include "codec/text.h"
#include "intake/remote_write_internal.h"

enum { SYMBOLS_MAX = 1 << 20, REFS_MAX = LABELS_COUNT_MAX * 2 };

static errc bad_series(struct err *e)
{
	FAIL(e, ERR_INVALID,
	     "the body is not a write request: a time series is malformed; check the sender's "
	     "protocol version and compression");
}

static errc too_many_labels(struct err *e)
{
	FAIL(e, ERR_INVALID, "a time series has more than %d labels: send fewer", LABELS_COUNT_MAX);
}

/* Count what of the fields from R on is samples; whether a label is among them. */
static errc scan_rest(struct reader r, struct remote_series *s, bool *ret_scattered, struct err *e)
{
	struct wire_field f;
	*ret_scattered = false;
	while (wire_next(&r, &f)) {
		if (f.key == WIRE_KEY(1, WIRE_BYTES))
			*ret_scattered = true;
		else
			s->sample_count += f.key == WIRE_KEY(2, WIRE_BYTES) ||
					   f.key == WIRE_KEY(4, WIRE_BYTES);
	}
	return r.failed ? bad_series(e) : OK;
}

errc remote_scan_v1(str message, struct remote_series *s, struct err *e)
{
	const uint8_t *at = (const uint8_t *)message.ptr, *end = at + message.len;
	bool scattered;
	/* labels come first and are short: a key, a length of one byte, so many bytes */
	while (end - at >= 2 && at[0] == WIRE_KEY(1, WIRE_BYTES)) {
		size_t len = at[1], head = 2;
		if (len >= 0x80) {
			if (end - at < 3 || at[2] >= 0x80)
				break;
			len = (len & 0x7f) | (size_t)at[2] << 7;
			head = 3;
		}
		if (len > (size_t)(end - at) - head)
			return bad_series(e);
		at += head + len;
	}
	size_t label_bytes = (size_t)((const char *)at - message.ptr);
	*s = (struct remote_series){ .message = message };
	/* one float sample and nothing else is what is nearly always sent */
	if (end - at >= 2 && at[0] == WIRE_KEY(2, WIRE_BYTES) && at[1] < 0x80 &&
	    at[1] == end - at - 2) {
		s->sample_count = 1;
		scattered = false;
	} else {
		TRY(scan_rest((struct reader){ .at = at, .end = end }, s, &scattered, e));
	}
	s->has_hash = !scattered && label_bytes;
	if (s->has_hash)
		s->hash = series_hash_of(message.ptr, label_bytes);
	return OK;
}

static bool read_label(str message, struct label *l)
{
	struct reader r = reader_init(message);
	struct wire_field f;
	*l = (struct label){ 0 };
	while (wire_next(&r, &f)) {
		if (f.key == WIRE_KEY(1, WIRE_BYTES))
			l->name = f.bytes;
		else if (f.key == WIRE_KEY(2, WIRE_BYTES))
			l->value = f.bytes;
	}
	return !r.failed;
}

errc remote_labels_v1(str message, struct label *items, size_t *ret_count, struct err *e)
{
	struct reader r = reader_init(message);
	struct wire_field f;
	size_t count = 0;
	while (wire_next(&r, &f)) {
		if (f.key != WIRE_KEY(1, WIRE_BYTES))
			continue;
		if (count == LABELS_COUNT_MAX)
			return too_many_labels(e);
		if (!read_label(f.bytes, &items[count++]))
			return bad_series(e);
	}
	if (r.failed)
		return bad_series(e);
	*ret_count = count;
	return OK;
}

/* ---- 2.0 */

static errc add_symbol(struct remote_write *w, size_t *room, str symbol, struct err *e)
{
	if (w->symbol_count == SYMBOLS_MAX)
		FAIL(e, ERR_LIMIT,
		     "the request has more than %d symbols: send fewer series at once",
		     SYMBOLS_MAX);
	if (w->symbol_count == 0 && symbol.len)
		FAIL(e, ERR_INVALID,
		     "the first symbol must be the empty string, as remote write 2.0 has it");
	if (w->symbol_count == *room) {
		*room = *room ? *room * 2 : 1024;
		w->symbols = must_realloc(w->symbols, *room * sizeof(*w->symbols));
	}
	w->symbols[w->symbol_count++] = symbol;
	return OK;
}

errc remote_symbols_v2(struct remote_write *w, str body, struct err *e)
{
	struct reader r = reader_init(body);
	struct wire_field f;
	size_t room = 0;
	/* they come first from every sender, but a message may have its fields in any order */
	while (wire_next(&r, &f))
		if (f.key == WIRE_KEY(4, WIRE_BYTES))
			TRY(add_symbol(w, &room, f.bytes, e));
	if (w->symbol_count == 0 && body.len)
		FAIL(e, ERR_INVALID,
		     "the request has no symbols: is it remote write 1.0, sent as 2.0?");
	w->symbol_hashes = must_calloc(w->symbol_count + 1, sizeof(*w->symbol_hashes));
	return OK;
}

static struct series_hash symbol_hash(struct remote_write *w, uint64_t ref)
{
	struct series_hash *h = &w->symbol_hashes[ref];
	if (!h->low && !h->high)
		*h = series_hash_of(w->symbols[ref].ptr, w->symbols[ref].len);
	return *h;
}

/* What a Metadata message refers to. */
struct metadata_refs {
	uint64_t type, help, unit;
};

static bool read_metadata(str message, struct metadata_refs *m)
{
	struct reader r = reader_init(message);
	struct wire_field f;
	*m = (struct metadata_refs){ 0 };
	while (wire_next(&r, &f)) {
		if (f.key == WIRE_KEY(1, WIRE_VARINT))
			m->type = f.value;
		else if (f.key == WIRE_KEY(3, WIRE_VARINT))
			m->help = f.value;
		else if (f.key == WIRE_KEY(4, WIRE_VARINT))
			m->unit = f.value;
	}
	return !r.failed;
}

/* The symbols' numbers differ from body to body: the hash is over the hashes of what they stand
 * for, and over the metadata, so that a change of that is seen. */
errc remote_scan_v2(struct remote_write *w, str message, struct remote_series *s, struct err *e)
{
	__attribute__((uninitialized)) struct series_hash parts[REFS_MAX + 3];
	struct metadata_refs m = { 0 };
	struct reader r = reader_init(message);
	struct wire_field f;
	size_t count = 0;
	uint64_t ref;
	bool wrong = false;
	*s = (struct remote_series){ .message = message };
	while (wire_next(&r, &f)) {
		switch (f.key) {
		case WIRE_KEY(1, WIRE_BYTES):
		case WIRE_KEY(1, WIRE_VARINT):
			while (wire_next_varint(&r, &f, &ref)) {
				wrong |= ref >= w->symbol_count || count == REFS_MAX;
				if (!wrong)
					parts[count++] = symbol_hash(w, ref);
			}
			break;
		case WIRE_KEY(2, WIRE_BYTES):
		case WIRE_KEY(3, WIRE_BYTES):
			s->sample_count++;
			break;
		case WIRE_KEY(5, WIRE_BYTES):
			wrong |= !read_metadata(f.bytes, &m);
			break;
		}
	}
	if (r.failed)
		return bad_series(e);
	wrong |= m.help >= w->symbol_count || m.unit >= w->symbol_count;
	/* what is wrong is said when its labels are read */
	if (wrong || !count)
		return OK;
	parts[count] = (struct series_hash){ m.type, count };
	count++;
	if (m.help)
		parts[count++] = symbol_hash(w, m.help);
	if (m.unit)
		parts[count++] = symbol_hash(w, m.unit);
	s->has_hash = true;
	s->hash = series_hash_of(parts, count * sizeof(parts[0]));
	return OK;
}

errc remote_labels_v2(const struct remote_write *w, str message, struct label *items,
		      size_t *ret_count, struct err *e)
{
	struct reader r = reader_init(message);
	struct wire_field f;
	size_t count = 0;
	uint64_t ref;
	while (wire_next(&r, &f)) {
		if (wire_number(&f) != 1)
			continue;
		while (wire_next_varint(&r, &f, &ref)) {
			if (ref >= w->symbol_count)
				FAIL(e, ERR_INVALID,
				     "a label refers to symbol %llu, but there are only %zu",
				     (unsigned long long)ref, w->symbol_count);
			if (count == REFS_MAX)
				return too_many_labels(e);
			struct label *l = &items[count / 2];
			*(count % 2 ? &l->value : &l->name) = w->symbols[ref];
			count++;
		}
	}
	if (r.failed)
		return bad_series(e);
	if (count % 2)
		FAIL(e, ERR_INVALID, "a time series has a label name without a value");
	*ret_count = count / 2;
	return OK;
}

void remote_metadata_v2(struct remote_write *w, str message, str name)
{
	struct reader r = reader_init(message);
	struct wire_field f;
	struct metadata_refs m = { 0 };
	while (wire_next(&r, &f))
		if (f.key == WIRE_KEY(5, WIRE_BYTES) && !read_metadata(f.bytes, &m))
			return;
	if (r.failed || (!m.type && !m.help && !m.unit) || m.help >= w->symbol_count ||
	    m.unit >= w->symbol_count)
		return;
	struct metrics_metadata metadata = {
		.name = name,
		.type = m.type <= METRICS_TYPE_STATESET ? (enum metrics_type)m.type
							: METRICS_TYPE_UNKNOWN,
		.help = w->symbols[m.help],
		.unit = w->symbols[m.unit],
	};
	metadata.name = intake_family_name(name, metadata.type);
	if (intake_metadata(w->batch, &metadata))
		w->result->metadata_count++;
}

/* ---- histograms, numbered alike in both */

errc remote_histogram(str message, struct intake_histogram *into, time_ms *ret_time,
		      time_ms *ret_start, struct err *e)
{
	struct reader r = reader_init(message);
	struct wire_field f;
	struct histogram *h = &into->h;
	intake_histogram_reset(into);
	while (wire_next(&r, &f)) {
		uint32_t number = wire_number(&f);
		int side = number < 11 ? INTAKE_NEGATIVE : INTAKE_POSITIVE;
		bool bytes = wire_type(&f) == WIRE_BYTES;
		if (number == 1)
			h->count = (double)f.value;
		else if (f.key == WIRE_KEY(2, WIRE_FIXED64))
			h->count = wire_double(&f);
		else if (f.key == WIRE_KEY(3, WIRE_FIXED64))
			h->sum = wire_double(&f);
		else if (f.key == WIRE_KEY(4, WIRE_VARINT))
			h->schema = (int32_t)wire_sint(&f);
		else if (f.key == WIRE_KEY(5, WIRE_FIXED64))
			h->zero_threshold = wire_double(&f);
		else if (f.key == WIRE_KEY(6, WIRE_VARINT))
			h->zero_count = (double)f.value;
		else if (f.key == WIRE_KEY(7, WIRE_FIXED64))
			h->zero_count = wire_double(&f);
		else if ((number == 8 || number == 11) && bytes)
			intake_histogram_span(into, side, f.bytes);
		else if (number == 9 || number == 12)
			intake_histogram_deltas(into, side, &r, &f);
		else if (number == 10 || number == 13)
			intake_histogram_counts(into, side, &r, &f);
		else if (f.key == WIRE_KEY(14, WIRE_VARINT) && f.value <= HISTOGRAM_RESET_GAUGE)
			h->reset = (enum histogram_reset)f.value;
		else if (f.key == WIRE_KEY(15, WIRE_VARINT))
			*ret_time = wire_int(&f);
		else if (number == 16)
			intake_histogram_bounds(into, &r, &f);
		else if (f.key == WIRE_KEY(17, WIRE_VARINT))
			*ret_start = wire_int(&f);
	}
	if (r.failed)
		FAIL(e, ERR_INVALID, "a histogram is malformed");
	return intake_histogram_finish(into, e);
}
