/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a plain scalar is: the rules of YAML 1.1 as sigs.k8s.io/yaml applies them (`yes`, `on` and
 * `y` are booleans, 017 is octal, 1_000 is a number, time stamps stay strings), because that is
 * what the API server sees of the same file.
 */
#include "config/yaml.h"

#include <math.h>
#include <stdlib.h>

/* Numbers longer than this are no 64-bit integers, and no float that anybody writes. */
#define NUMBER_LEN_MAX 63

static bool is_word(struct str s, const char *const *words)
{
	for (; *words; words++)
		if (str_is(s, *words))
			return true;
	return false;
}

static bool is_true(struct str s)
{
	static const char *const words[] = { "true", "True", "TRUE", "y",  "Y",	 "yes",
					     "Yes",  "YES",  "on",   "On", "ON", NULL };

	return is_word(s, words);
}

static bool is_false(struct str s)
{
	static const char *const words[] = { "false", "False", "FALSE", "n",   "N",   "no",
					     "No",    "NO",    "off",	"Off", "OFF", NULL };

	return is_word(s, words);
}

static bool is_null(struct str s)
{
	static const char *const words[] = { "", "~", "null", "Null", "NULL", NULL };

	return is_word(s, words);
}

/* Not a number, infinity. */
static bool is_special_float(struct str s)
{
	static const char *const words[] = { ".nan",  ".NaN",  ".NAN",	".inf",	 ".Inf",  ".INF", "+.inf",
					     "+.Inf", "+.INF", "-.inf", "-.Inf", "-.INF", NULL };

	return is_word(s, words);
}

/* Copies without underscores; the length, or 0 when it is too long. */
static uint32_t plain_digits(struct str s, char out[NUMBER_LEN_MAX + 1])
{
	uint32_t len = 0;

	for (uint32_t i = 0; i < s.len; i++) {
		if (s.p[i] == '_')
			continue;
		if (len == NUMBER_LEN_MAX)
			return 0;
		out[len++] = s.p[i];
	}
	out[len] = '\0';
	return len;
}

static int digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return 99;
}

/* Sign, then decimal, 0x, 0o, 0b, or octal after a plain 0. *ret_big: digits are right, the value
 * has more than 64 bits. */
static bool parse_int(const char *p, bool *ret_negative, uint64_t *ret, bool *ret_big)
{
	uint64_t v = 0;
	int base = 10;

	*ret_negative = *p == '-';
	*ret_big = false;
	if (*p == '-' || *p == '+')
		p++;
	if (p[0] == '0' && p[1]) {
		char c = (char)(p[1] | 0x20);

		base = c == 'x' ? 16 : c == 'b' ? 2 : 8;
		p += c == 'x' || c == 'o' || c == 'b' ? 2 : 1;
	}
	if (!*p)
		return false;
	for (; *p; p++) {
		int digit = digit_value(*p);

		if (digit >= base)
			return false;
		if (__builtin_mul_overflow(v, (uint64_t)base, &v) || __builtin_add_overflow(v, (uint64_t)digit, &v))
			*ret_big = true;
	}
	*ret = v;
	return true;
}

/* [-+]? ( . digits | digits [ . digits? ] ) [ e [-+]? digits ] */
static bool looks_float(const char *p)
{
	bool digits = false;

	if (*p == '-' || *p == '+')
		p++;
	for (; *p >= '0' && *p <= '9'; p++)
		digits = true;
	if (*p == '.')
		for (p++; *p >= '0' && *p <= '9'; p++)
			digits = true;
	if (!digits)
		return false;
	if (*p == 'e' || *p == 'E') {
		p++;
		if (*p == '-' || *p == '+')
			p++;
		if (*p < '0' || *p > '9')
			return false;
		while (*p >= '0' && *p <= '9')
			p++;
	}
	return !*p;
}

static enum ytype number_type(struct str text)
{
	char digits[NUMBER_LEN_MAX + 1];
	bool negative, big;
	uint64_t v;

	if (!plain_digits(text, digits))
		return YTYPE_STR;
	if (parse_int(digits, &negative, &v, &big))
		return YTYPE_INT;
	return looks_float(digits) ? YTYPE_FLOAT : YTYPE_STR;
}

enum ytype yscalar_type(struct str text)
{
	switch (text.len ? text.p[0] : '~') {
	case 'y':
	case 'Y':
	case 'n':
	case 'N':
	case 't':
	case 'T':
	case 'f':
	case 'F':
	case 'o':
	case 'O':
	case '~':
		/* The longest of the words is "false". */
		if (text.len > 5)
			return YTYPE_STR;
		if (is_null(text))
			return YTYPE_NULL;
		return is_true(text) || is_false(text) ? YTYPE_BOOL : YTYPE_STR;
	case '.':
	case '+':
	case '-':
		if (is_special_float(text))
			return YTYPE_FLOAT;
		return number_type(text);
	case '0' ... '9':
		return number_type(text);
	}
	return YTYPE_STR;
}

enum ytype ynode_type(const struct ynode *n)
{
	switch ((enum ynode_kind)n->kind) {
	case YNODE_NULL:
		return YTYPE_NULL;
	case YNODE_SEQ:
		return YTYPE_SEQ;
	case YNODE_MAP:
		return YTYPE_MAP;
	case YNODE_SCALAR:
		break;
	}
	return n->quoted ? YTYPE_STR : yscalar_type(n->scalar);
}

const char *ytype_text(enum ytype t)
{
	static const char *const texts[] = {
		[YTYPE_NULL] = "null",	    [YTYPE_BOOL] = "a boolean", [YTYPE_INT] = "a number",
		[YTYPE_FLOAT] = "a number", [YTYPE_STR] = "a string",	[YTYPE_SEQ] = "a list",
		[YTYPE_MAP] = "an object",
	};

	return texts[t];
}

bool ynode_is_string(const struct ynode *n)
{
	return ynode_type(n) == YTYPE_STR;
}

bool ynode_bool(const struct ynode *n, bool *ret)
{
	if (ynode_type(n) != YTYPE_BOOL)
		return false;
	*ret = is_true(n->scalar);
	return true;
}

bool ynode_double(const struct ynode *n, double *ret)
{
	enum ytype type = ynode_type(n);
	char digits[NUMBER_LEN_MAX + 1];
	bool negative, big;
	uint64_t v;
	double d;

	if (type != YTYPE_INT && type != YTYPE_FLOAT)
		return false;
	if (is_special_float(n->scalar)) {
		*ret = str_find(n->scalar, 'n') == 1 || str_find(n->scalar, 'N') == 1 ? NAN
		       : n->scalar.p[0] == '-'					      ? -INFINITY
										      : INFINITY;
		return true;
	}
	plain_digits(n->scalar, digits);
	if (type == YTYPE_INT && parse_int(digits, &negative, &v, &big) && !big)
		d = negative ? -(double)v : (double)v;
	else
		d = strtod(digits, NULL);
	*ret = d;
	return true;
}

bool ynode_int(const struct ynode *n, int64_t *ret)
{
	enum ytype type = ynode_type(n);
	char digits[NUMBER_LEN_MAX + 1];
	bool negative, big;
	uint64_t v;
	double d;

	if (type == YTYPE_INT) {
		plain_digits(n->scalar, digits);
		if (!parse_int(digits, &negative, &v, &big) || big)
			return false;
		if (v > (uint64_t)INT64_MAX + negative)
			return false;
		*ret = negative ? (int64_t)(0 - v) : (int64_t)v;
		return true;
	}
	/* 80.0 and 8e1 become 80 on their way through JSON. */
	if (type != YTYPE_FLOAT || !ynode_double(n, &d) || !(fabs(d) < 9e15) || d != floor(d))
		return false;
	*ret = (int64_t)d;
	return true;
}
