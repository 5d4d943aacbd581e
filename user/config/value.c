/* SPDX-License-Identifier: BSD-2-Clause */
/* Durations and times as text. Reports nothing: the caller knows the place. */
#include "config/schema.h"

#define SECOND 1000000000ull

struct unit_name {
	struct str name;
	uint64_t ns;
};

/* Longer names first where one begins another. */
static const struct unit_name units[] = {
	{ { "ns", 2 }, 1 },	      { { "us", 2 }, 1000 },
	{ { "\xc2\xb5s", 3 }, 1000 }, /* micro sign */
	{ { "\xce\xbcs", 3 }, 1000 }, /* Greek mu */
	{ { "ms", 2 }, 1000000 },     { { "s", 1 }, SECOND },
	{ { "m", 1 }, 60 * SECOND },  { { "h", 1 }, 3600 * SECOND },
};

static uint32_t digits_at(struct str s, uint32_t at)
{
	uint32_t from = at;

	while (at < s.len && s.p[at] >= '0' && s.p[at] <= '9')
		at++;
	return at - from;
}

static const struct unit_name *unit_at(struct str s, uint32_t at)
{
	struct str rest = str_sub(s, at, UINT32_MAX);

	for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++)
		if (str_starts(rest, units[i].name))
			return &units[i];
	return NULL;
}

/* One "12.5h" at *at. Durations have 63 bits; so has what is added up. */
static bool term(struct str s, uint32_t *at, uint64_t *sum)
{
	uint32_t whole_len = digits_at(s, *at), fraction_len = 0, fraction_at;
	const struct unit_name *unit;
	uint64_t whole = 0, part, scale = 1, fraction = 0;

	if (whole_len && !str_to_u64(str_sub(s, *at, whole_len), INT64_MAX, &whole))
		return false;
	*at += whole_len;
	fraction_at = *at + 1;
	if (*at < s.len && s.p[*at] == '.') {
		fraction_len = digits_at(s, fraction_at);
		*at += 1 + fraction_len;
	}
	unit = unit_at(s, *at);
	if (!unit || (!whole_len && !fraction_len))
		return false;
	*at += unit->name.len;
	/* More digits than nanoseconds have say nothing. */
	for (uint32_t i = 0; i < fraction_len && i < 15; i++) {
		fraction = fraction * 10 + (uint64_t)(s.p[fraction_at + i] - '0');
		scale *= 10;
	}
	part = (uint64_t)((unsigned __int128)fraction * unit->ns / scale);
	return !__builtin_mul_overflow(whole, unit->ns, &whole) && !__builtin_add_overflow(*sum, whole, sum) &&
	       !__builtin_add_overflow(*sum, part, sum) && *sum <= INT64_MAX;
}

static bool is_gep2257(struct str s)
{
	uint32_t at = 0, terms = 0;

	while (at < s.len) {
		uint32_t len = digits_at(s, at);

		if (!len || len > 5 || ++terms > 4)
			return false;
		at += len;
		if (str_starts(str_sub(s, at, 2), STR("ms")))
			at += 2;
		else if (at < s.len && (s.p[at] == 'h' || s.p[at] == 'm' || s.p[at] == 's'))
			at++;
		else
			return false;
	}
	return terms > 0;
}

bool duration_parse(struct str text, bool gep2257, int64_t *ret_ns)
{
	uint64_t sum = 0;
	bool negative = false;
	uint32_t at = 0;

	if (gep2257 && !is_gep2257(text))
		return false;
	if (text.len && (text.p[0] == '-' || text.p[0] == '+')) {
		negative = text.p[0] == '-';
		at = 1;
	}
	if (text.len - at == 1 && text.p[at] == '0') {
		*ret_ns = 0;
		return true;
	}
	if (at == text.len)
		return false;
	while (at < text.len)
		if (!term(text, &at, &sum))
			return false;
	*ret_ns = negative ? -(int64_t)sum : (int64_t)sum;
	return true;
}

/* `len` digits at *at, and the separator behind them when it is not NUL. */
static bool number_at(struct str s, uint32_t *at, uint32_t len, char separator, uint64_t max, int64_t *ret)
{
	uint64_t v;

	if (digits_at(s, *at) < len || !str_to_u64(str_sub(s, *at, len), max, &v))
		return false;
	*at += len;
	if (separator) {
		/* The T may be small. */
		if (*at >= s.len || (s.p[*at] != separator && (separator != 'T' || s.p[*at] != 't')))
			return false;
		(*at)++;
	}
	*ret = (int64_t)v;
	return true;
}

/* Days from 1970-01-01 of the proleptic Gregorian calendar; years begin in March, so that the leap day is the last. */
static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
	int64_t y = month > 2 ? year : year - 1;
	int64_t m = month > 2 ? month - 3 : month + 9;

	return y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1 - 719468;
}

static bool is_day(int64_t year, int64_t month, int64_t day)
{
	static const uint8_t days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

	return month >= 1 && month <= 12 && day >= 1 && day <= days[month - 1] + (leap && month == 2);
}

bool time_parse(struct str text, int64_t *ret_s)
{
	int64_t year, month, day, hour, minute, second, zone_hour = 0, zone_minute = 0;
	uint32_t at = 0;
	char sign;

	if (!number_at(text, &at, 4, '-', 9999, &year) || !number_at(text, &at, 2, '-', 12, &month) ||
	    !number_at(text, &at, 2, 'T', 31, &day) || !number_at(text, &at, 2, ':', 23, &hour) ||
	    !number_at(text, &at, 2, ':', 59, &minute) || !number_at(text, &at, 2, '\0', 59, &second) || year < 1 ||
	    !is_day(year, month, day))
		return false;
	if (at < text.len && text.p[at] == '.') {
		uint32_t len = digits_at(text, at + 1);

		if (!len)
			return false;
		at += 1 + len;
	}
	if (at == text.len)
		return false;
	sign = text.p[at++];
	if (sign == '+' || sign == '-') {
		if (!number_at(text, &at, 2, ':', 23, &zone_hour) || !number_at(text, &at, 2, '\0', 59, &zone_minute))
			return false;
	} else if (sign != 'Z' && sign != 'z') {
		return false;
	}
	if (at != text.len)
		return false;
	*ret_s = days_of(year, month, day) * 86400 + hour * 3600 + minute * 60 + second -
		 (sign == '-' ? -1 : 1) * (zone_hour * 3600 + zone_minute * 60);
	return true;
}
