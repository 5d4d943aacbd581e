/* SPDX-License-Identifier: BSD-2-Clause */
/* Text to a tree, by recursive descent. */
#include "base/regex_prog.h"

#define DEPTH_MAX 100
#define REPEAT_MAX 1000

enum flag { FOLD = 1, DOT_ALL = 2, LINES = 4, SWAP = 8 };

struct parser {
	struct arena *arena;
	const char *p, *end;
	uint32_t flags, depth, group_nr;
	const char *error;
};

static struct regex_node *alt(struct parser *ps);

static struct regex_node *node_new(struct parser *ps, enum regex_kind kind)
{
	struct regex_node *n = arena_new(ps->arena, struct regex_node);

	n->kind = kind;
	return n;
}

static void fail(struct parser *ps, const char *why)
{
	if (!ps->error)
		ps->error = why;
	ps->p = ps->end;
}

static bool looking_at(const struct parser *ps, const char *z)
{
	size_t len = strlen(z);

	return (size_t)(ps->end - ps->p) >= len && !memcmp(ps->p, z, len);
}

/* ---- sets of bytes ---- */

static void set_add(struct regex_set *s, uint32_t from, uint32_t to)
{
	for (uint32_t c = from; c <= to; c++)
		s->bits[c >> 6] |= 1ull << (c & 63);
}

static void set_invert(struct regex_set *s)
{
	for (int i = 0; i < 4; i++)
		s->bits[i] = ~s->bits[i];
}

static void set_join(struct regex_set *s, const struct regex_set *other)
{
	for (int i = 0; i < 4; i++)
		s->bits[i] |= other->bits[i];
}

static void set_fold(struct regex_set *s)
{
	for (uint32_t c = 'a'; c <= 'z'; c++)
		if (regex_in(s, (uint8_t)c) || regex_in(s, (uint8_t)(c - 32))) {
			set_add(s, c, c);
			set_add(s, c - 32, c - 32);
		}
}

/* Perl's classes: \d \s \w and their opposites. */
static bool perl_class(char c, struct regex_set *ret)
{
	*ret = (struct regex_set){ 0 };
	switch (c | 0x20) {
	case 'd':
		set_add(ret, '0', '9');
		break;
	case 's':
		set_add(ret, '\t', '\n');
		set_add(ret, '\f', '\r');
		set_add(ret, ' ', ' ');
		break;
	case 'w':
		set_add(ret, '0', '9');
		set_add(ret, 'A', 'Z');
		set_add(ret, '_', '_');
		set_add(ret, 'a', 'z');
		break;
	default:
		return false;
	}
	if (!(c & 0x20))
		set_invert(ret);
	return true;
}

/* [:name:] within a class. */
static bool posix_class(struct parser *ps, struct regex_set *set)
{
	static const struct {
		const char *name;
		const char *ranges; /* pairs */
	} classes[] = {
		{ "alnum", "09AZaz" },
		{ "alpha", "AZaz" },
		{ "ascii", "\x01\x7f" },
		{ "blank", "\t\t  " },
		{ "cntrl", "\x01\x1f\x7f\x7f" },
		{ "digit", "09" },
		{ "graph", "!~" },
		{ "lower", "az" },
		{ "print", " ~" },
		{ "punct", "!/:@[`{~" },
		{ "space", "\t\r  " },
		{ "upper", "AZ" },
		{ "word", "09AZaz__" },
		{ "xdigit", "09AFaf" },
	};
	bool negated = looking_at(ps, "[:^");
	const char *name = ps->p + (negated ? 3 : 2);

	for (size_t i = 0; i < sizeof(classes) / sizeof(*classes); i++) {
		size_t len = strlen(classes[i].name);
		struct regex_set one = { 0 };

		if ((size_t)(ps->end - name) < len + 2 || memcmp(name, classes[i].name, len) ||
		    memcmp(name + len, ":]", 2))
			continue;
		for (const char *r = classes[i].ranges; *r; r += 2)
			set_add(&one, (uint8_t)r[0], (uint8_t)r[1]);
		if (!strcmp(classes[i].name, "ascii") || !strcmp(classes[i].name, "cntrl"))
			set_add(&one, 0, 0);
		if (negated)
			set_invert(&one);
		set_join(set, &one);
		ps->p = name + len + 2;
		return true;
	}
	return false;
}

/* ---- escapes ---- */

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Behind "\x": two digits, or any number in braces. */
static int hex_escape(struct parser *ps)
{
	bool braces = looking_at(ps, "{");
	int value = 0, digits = 0;

	ps->p += braces;
	while (ps->p < ps->end && (braces || digits < 2) && hex(*ps->p) >= 0 && value < 0x80) {
		value = value * 16 + hex(*ps->p++);
		digits++;
	}
	if (!digits || (!braces && digits < 2) || (braces && !looking_at(ps, "}")) || value > 0x7f) {
		fail(ps, "a hexadecimal escape is incomplete or beyond ASCII");
		return 0;
	}
	ps->p += braces;
	return value;
}

/* ps->p is behind the backslash: the byte that is meant. */
static int escaped_byte(struct parser *ps)
{
	static const char names[] = "afnrtv", values[] = "\a\f\n\r\t\v";
	char c;
	const char *at;
	int value = 0;

	if (ps->p == ps->end) {
		fail(ps, "it ends in a backslash");
		return 0;
	}
	c = *ps->p++;
	if (c == 'x')
		return hex_escape(ps);
	if (c >= '0' && c <= '7' && (c == '0' || (ps->p < ps->end && *ps->p >= '0' && *ps->p <= '7'))) {
		value = c - '0';
		for (int i = 0; i < 2 && ps->p < ps->end && *ps->p >= '0' && *ps->p <= '7'; i++)
			value = value * 8 + *ps->p++ - '0';
		if (value > 0x7f)
			fail(ps, "an octal escape is beyond ASCII");
		return value & 0x7f;
	}
	at = strchr(names, c);
	if (c && at)
		return values[at - names];
	if ((c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z')) {
		fail(ps, c >= '1' && c <= '9' ? "back references are no part of a regular language"
					      : "it has an escape that is not known");
		return 0;
	}
	return c;
}

/* ---- the grammar ---- */

static struct regex_node *set_node(struct parser *ps, const struct regex_set *set)
{
	struct regex_node *n = node_new(ps, NODE_SET);

	n->set = *set;
	if (ps->flags & FOLD)
		set_fold(&n->set);
	return n;
}

static struct regex_node *byte_node(struct parser *ps, int c)
{
	struct regex_set set = { 0 };

	set_add(&set, (uint32_t)c, (uint32_t)c);
	return set_node(ps, &set);
}

static struct regex_node *at_node(struct parser *ps, enum regex_at at)
{
	struct regex_node *n = node_new(ps, NODE_AT);

	n->at = at;
	return n;
}

static struct regex_node *cat(struct parser *ps, struct regex_node *a, struct regex_node *b)
{
	struct regex_node *n;

	if (!a || a->kind == NODE_EMPTY)
		return b;
	n = node_new(ps, NODE_CAT);
	n->a = a;
	n->b = b;
	return n;
}

/* One end of a range, or a class of its own (false). */
static bool class_member(struct parser *ps, struct regex_set *set, int *ret)
{
	struct regex_set perl;

	if (*ps->p != '\\') {
		*ret = (uint8_t)*ps->p++;
		return true;
	}
	ps->p++;
	if (ps->p < ps->end && perl_class(*ps->p, &perl)) {
		ps->p++;
		set_join(set, &perl);
		return false;
	}
	*ret = escaped_byte(ps);
	return true;
}

/* ps->p is behind "[". */
static struct regex_node *class(struct parser *ps)
{
	struct regex_set set = { 0 };
	bool negated = looking_at(ps, "^"), first = true;
	struct regex_node *n;

	ps->p += negated;
	while (ps->p < ps->end && (first || *ps->p != ']')) {
		int from, to;

		first = false;
		if (looking_at(ps, "[:") && posix_class(ps, &set))
			continue;
		if (!class_member(ps, &set, &from))
			continue;
		to = from;
		if (ps->end - ps->p >= 2 && ps->p[0] == '-' && ps->p[1] != ']') {
			ps->p++;
			if (!class_member(ps, &set, &to) || to < from) {
				fail(ps, "a range of a class is the wrong way round");
				return NULL;
			}
		}
		set_add(&set, (uint32_t)from, (uint32_t)to);
	}
	if (ps->p == ps->end) {
		fail(ps, "a class has no \"]\"");
		return NULL;
	}
	ps->p++;
	if (ps->flags & FOLD)
		set_fold(&set);
	if (negated)
		set_invert(&set);
	n = node_new(ps, NODE_SET);
	n->set = set;
	return n;
}

/* ps->p is behind "\Q". */
static struct regex_node *quoted(struct parser *ps)
{
	struct regex_node *n = node_new(ps, NODE_EMPTY);

	while (ps->p < ps->end && !looking_at(ps, "\\E"))
		n = cat(ps, n, byte_node(ps, (uint8_t)*ps->p++));
	if (ps->p < ps->end)
		ps->p += 2;
	return n;
}

/* ps->p is behind the backslash. */
static struct regex_node *escape(struct parser *ps)
{
	struct regex_set set;

	if (ps->p < ps->end) {
		if (perl_class(*ps->p, &set)) {
			ps->p++;
			return set_node(ps, &set);
		}
		switch (*ps->p) {
		case 'A':
			ps->p++;
			return at_node(ps, REGEX_TEXT_BEGIN);
		case 'z':
			ps->p++;
			return at_node(ps, REGEX_TEXT_END);
		case 'b':
			ps->p++;
			return at_node(ps, REGEX_WORD_EDGE);
		case 'B':
			ps->p++;
			return at_node(ps, REGEX_NO_WORD_EDGE);
		case 'Q':
			ps->p++;
			return quoted(ps);
		}
	}
	return byte_node(ps, escaped_byte(ps));
}

/* "flags)" or "flags:": true when a group follows. */
static bool group_flags(struct parser *ps)
{
	uint32_t flags = ps->flags;
	bool off = false;

	for (; ps->p < ps->end; ps->p++) {
		uint32_t f = 0;

		switch (*ps->p) {
		case 'i':
			f = FOLD;
			break;
		case 's':
			f = DOT_ALL;
			break;
		case 'm':
			f = LINES;
			break;
		case 'U':
			f = SWAP;
			break;
		case '-':
			if (off)
				fail(ps, "a group has flags that are not known");
			off = true;
			continue;
		case ':':
		case ')':
			ps->flags = flags;
			return *ps->p++ == ':';
		default:
			fail(ps, "it looks around, or has another kind of group that is no part of a regular language");
			return false;
		}
		flags = off ? flags & ~f : flags | f;
	}
	fail(ps, "a parenthesis is missing");
	return false;
}

/* Behind "(?P<" or "(?<": a name. */
static void group_name(struct parser *ps)
{
	const char *begin = ps->p;

	while (ps->p < ps->end && (*ps->p == '_' || (*ps->p >= '0' && *ps->p <= '9') ||
				   ((*ps->p | 0x20) >= 'a' && (*ps->p | 0x20) <= 'z')))
		ps->p++;
	if (ps->p == begin || !looking_at(ps, ">"))
		fail(ps, "it looks around, or a group has no name");
	else
		ps->p++;
}

/* ps->p is behind "(". */
static struct regex_node *group(struct parser *ps)
{
	struct regex_node *n = NULL, *inner;
	uint32_t flags = ps->flags;

	if (++ps->depth > DEPTH_MAX)
		fail(ps, "its groups are nested too deeply");
	if (looking_at(ps, "?") && !looking_at(ps, "?P<") && !looking_at(ps, "?<")) {
		ps->p++;
		if (!group_flags(ps)) {
			/* They hold until the group around ends. */
			ps->depth--;
			return node_new(ps, NODE_EMPTY);
		}
	} else {
		n = node_new(ps, NODE_GROUP);
		n->min = ++ps->group_nr;
		if (looking_at(ps, "?")) {
			ps->p += looking_at(ps, "?P") ? 3 : 2;
			group_name(ps);
		}
	}
	inner = alt(ps);
	if (!looking_at(ps, ")"))
		fail(ps, "a parenthesis is missing");
	else
		ps->p++;
	ps->flags = flags;
	ps->depth--;
	if (!n)
		return inner;
	n->a = inner;
	return n;
}

static struct regex_node *atom(struct parser *ps)
{
	struct regex_set set = { 0 };
	uint8_t c = (uint8_t)*ps->p++;

	switch (c) {
	case '(':
		return group(ps);
	case '[':
		return class(ps);
	case '\\':
		return escape(ps);
	case '^':
		return at_node(ps, ps->flags & LINES ? REGEX_LINE_BEGIN : REGEX_TEXT_BEGIN);
	case '$':
		return at_node(ps, ps->flags & LINES ? REGEX_LINE_END : REGEX_TEXT_END);
	case '.':
		if (!(ps->flags & DOT_ALL))
			set_add(&set, '\n', '\n');
		set_invert(&set);
		return set_node(ps, &set);
	}
	return byte_node(ps, c);
}

static bool number(struct parser *ps, uint32_t *ret)
{
	const char *begin = ps->p;

	for (*ret = 0; ps->p < ps->end && *ps->p >= '0' && *ps->p <= '9'; ps->p++)
		if (*ret <= REPEAT_MAX)
			*ret = *ret * 10 + (uint32_t)(*ps->p - '0');
	return ps->p > begin;
}

/* "*", "+", "?", "{n}", "{n,}", "{n,m}": false when none follows, and ps->p stays. */
static bool quantifier(struct parser *ps, uint32_t *ret_min, uint32_t *ret_max)
{
	const char *begin = ps->p;
	char c;

	if (ps->p == ps->end)
		return false;
	c = *ps->p++;
	*ret_min = c == '+';
	*ret_max = c == '?' ? 1 : REGEX_NO_LIMIT;
	if (c == '*' || c == '+' || c == '?')
		return true;
	if (c != '{' || !number(ps, ret_min))
		goto none;
	*ret_max = *ret_min;
	if (looking_at(ps, ",")) {
		ps->p++;
		if (!number(ps, ret_max))
			*ret_max = REGEX_NO_LIMIT;
	}
	if (!looking_at(ps, "}"))
		goto none;
	ps->p++;
	if (*ret_min > REPEAT_MAX || (*ret_max != REGEX_NO_LIMIT && (*ret_max > REPEAT_MAX || *ret_max < *ret_min)))
		fail(ps, "a repetition is more than a thousand times, or its bounds are the wrong way round");
	return true;
none:
	ps->p = begin;
	return false;
}

static struct regex_node *repeated(struct parser *ps)
{
	struct regex_node *n = atom(ps), *r;
	uint32_t min, max;
	bool lazy;

	if (ps->error || !quantifier(ps, &min, &max))
		return n;
	lazy = looking_at(ps, "?");
	ps->p += lazy;
	r = node_new(ps, NODE_REPEAT);
	r->a = n;
	r->min = min;
	r->max = max;
	r->lazy = lazy != !!(ps->flags & SWAP);
	if (quantifier(ps, &min, &max))
		fail(ps, "a repetition is repeated");
	return r;
}

static struct regex_node *sequence(struct parser *ps)
{
	struct regex_node *n = NULL;

	while (ps->p < ps->end && *ps->p != '|' && *ps->p != ')') {
		uint32_t min, max;

		if (quantifier(ps, &min, &max))
			fail(ps, "a repetition has nothing in front of it");
		else
			n = cat(ps, n, repeated(ps));
	}
	return n ? n : node_new(ps, NODE_EMPTY);
}

static struct regex_node *alt(struct parser *ps)
{
	struct regex_node *n = sequence(ps);

	while (looking_at(ps, "|")) {
		struct regex_node *a = node_new(ps, NODE_ALT);

		ps->p++;
		a->a = n;
		a->b = sequence(ps);
		n = a;
	}
	return n;
}

const char *regex_parse(struct arena *arena, struct str pattern, bool ignore_case, struct regex_node **ret,
			uint32_t *ret_groups)
{
	struct parser ps = {
		.arena = arena, .p = pattern.p, .end = pattern.p + pattern.len, .flags = ignore_case ? FOLD : 0
	};

	if (pattern.len > REGEX_PATTERN_MAX)
		return "it is too long";
	for (uint32_t i = 0; i < pattern.len; i++)
		if (!pattern.p[i] || (uint8_t)pattern.p[i] > 0x7f)
			return "it has a byte beyond ASCII";
	*ret = alt(&ps);
	if (!ps.error && ps.p < ps.end)
		return "a parenthesis closes nothing";
	*ret_groups = ps.group_nr;
	return ps.error;
}
