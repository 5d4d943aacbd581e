/* SPDX-License-Identifier: BSD-2-Clause */
/* Line by line: a line is read once it is complete, and the framing is judged when all of them are. */
#include "l7/head.h"

/* Classes of bytes: of a token, of a field's value, of a target, of a host. */
enum { TOKEN = 1, VALUE = 2, TARGET = 4, HOST = 8 };

#define T (TOKEN | VALUE | TARGET | HOST)
#define N (TOKEN | VALUE | TARGET) /* in a token and a target, and in no host */
#define O (TOKEN | VALUE)	   /* in no target */
#define U (VALUE | TARGET | HOST)  /* in no token */
#define V VALUE

static const uint8_t class_of[256] = {
	['\t'] = V, [' '] = V,	['!'] = T,	     ['"'] = V,		 ['#'] = O,	    ['$'] = T, ['%'] = T,
	['&'] = T,  ['\''] = T, ['('] = U,	     [')'] = U,		 ['*'] = T,	    ['+'] = T, [','] = U,
	['-'] = T,  ['.'] = T,	['/'] = V | TARGET,  ['0' ... '9'] = T,	 [':'] = U,	    [';'] = U, ['<'] = V,
	['='] = U,  ['>'] = V,	['?'] = V | TARGET,  ['@'] = V | TARGET, ['A' ... 'Z'] = T, ['['] = U, ['\\'] = V,
	[']'] = U,  ['^'] = O,	['_'] = T,	     ['`'] = O,		 ['a' ... 'z'] = T, ['{'] = V, ['|'] = N,
	['}'] = V,  ['~'] = T,	[0x80 ... 0xff] = V,
};
#undef T
#undef N
#undef O
#undef U
#undef V

static bool all_of(struct str s, uint8_t class)
{
	for (uint32_t i = 0; i < s.len; i++)
		if (!(class_of[(uint8_t)s.p[i]] & class))
			return false;
	return true;
}

bool head_token(struct str s)
{
	return s.len && all_of(s, TOKEN);
}

bool head_value(struct str s)
{
	return all_of(s, VALUE);
}

bool head_target(struct str s)
{
	return all_of(s, TARGET);
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

bool head_same(struct str a, struct str b)
{
	if (a.len != b.len)
		return false;
	for (uint32_t i = 0; i < a.len; i++)
		if (lower(a.p[i]) != lower(b.p[i]))
			return false;
	return true;
}

static struct str trimmed(struct str s)
{
	while (s.len && (*s.p == ' ' || *s.p == '\t'))
		s.p++, s.len--;
	while (s.len && (s.p[s.len - 1] == ' ' || s.p[s.len - 1] == '\t'))
		s.len--;
	return s;
}

bool head_list_next(struct str *list, struct str *ret)
{
	while (list->len) {
		int comma = str_find(*list, ',');
		uint32_t len = comma < 0 ? list->len : (uint32_t)comma;

		*ret = trimmed((struct str){ list->p, len });
		if (comma >= 0)
			len++;
		list->p += len;
		list->len -= len;
		if (ret->len)
			return true;
	}
	return false;
}

void head_begin(struct head *h, enum head_kind kind, const struct head_limits *limits)
{
	memset(h, 0, offsetof(struct head, fields));
	h->kind = (uint8_t)kind;
	h->limits = limits;
}

static struct head_span span_of(const char *p, struct str s)
{
	return (struct head_span){ (uint32_t)(s.p - p), s.len };
}

/* ---- first lines ---- */

/* "HTTP/1.x": 0 with h->minor, else the status. */
static int version(struct head *h, struct str s)
{
	if (s.len != 8 || memcmp(s.p, "HTTP/", 5) || s.p[5] < '0' || s.p[5] > '9' || s.p[6] != '.' || s.p[7] < '0' ||
	    s.p[7] > '9')
		return 400;
	if (s.p[5] != '1' || s.p[7] > '1')
		return 505;
	h->minor = (uint8_t)(s.p[7] - '0');
	return 0;
}

/* host [":" port]: a name, an IPv4 address, or an IPv6 address in brackets. */
bool head_host(struct str s)
{
	uint32_t end = s.len;

	if (!all_of(s, HOST))
		return false;
	if (s.len && *s.p == '[') {
		int close = str_find(s, ']');

		if (close < 2)
			return false;
		for (int i = 1; i < close; i++)
			if (!memchr("0123456789abcdefABCDEF:.", s.p[i], 24))
				return false;
		end = (uint32_t)close + 1;
	} else {
		int colon = str_find(s, ':');

		if (colon >= 0)
			end = (uint32_t)colon;
		for (uint32_t i = 0; i < end; i++)
			if (s.p[i] == '[' || s.p[i] == ']' || s.p[i] == ',')
				return false;
	}
	if (end == s.len)
		return true;
	if (s.p[end] != ':' || s.len - end > 6)
		return false;
	for (uint32_t i = end + 1; i < s.len; i++)
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
	return true;
}

/* "http://authority[/path][?query]". */
static bool absolute(struct head *h, const char *p, struct str target)
{
	struct str rest;
	uint32_t i;

	if (target.len > 7 && head_same(str_sub(target, 0, 7), STR("http://")))
		rest = str_sub(target, 7, target.len);
	else if (target.len > 8 && head_same(str_sub(target, 0, 8), STR("https://")))
		rest = str_sub(target, 8, target.len);
	else
		return false;
	for (i = 0; i < rest.len && rest.p[i] != '/' && rest.p[i] != '?'; i++)
		if (rest.p[i] == '@')
			return false;
	if (!i || !head_host(str_sub(rest, 0, i)))
		return false;
	h->form = HEAD_ABSOLUTE;
	h->authority = span_of(p, str_sub(rest, 0, i));
	h->path = span_of(p, str_sub(rest, i, rest.len));
	return true;
}

static bool target_ok(struct head *h, const char *p, struct str method, struct str target)
{
	if (!target.len || !all_of(target, TARGET))
		return false;
	if (str_is(method, "CONNECT")) {
		h->form = HEAD_AUTHORITY;
		h->authority = h->target;
		return str_find(target, ':') > 0 && target.p[target.len - 1] != ':' && head_host(target);
	}
	if (*target.p == '/') {
		h->form = HEAD_ORIGIN;
		h->path = h->target;
		return true;
	}
	if (str_is(target, "*")) {
		h->form = HEAD_ASTERISK;
		return str_is(method, "OPTIONS");
	}
	return absolute(h, p, target);
}

static int request_line(struct head *h, const char *p, struct str line)
{
	int first = str_find(line, ' ');
	struct str method, rest, target;
	int second, status;

	if (first <= 0)
		return 400;
	method = str_sub(line, 0, (uint32_t)first);
	rest = str_sub(line, (uint32_t)first + 1, line.len);
	second = str_find(rest, ' ');
	if (!head_token(method) || second <= 0)
		return 400;
	target = str_sub(rest, 0, (uint32_t)second);
	status = version(h, str_sub(rest, (uint32_t)second + 1, rest.len));
	if (status)
		return status;
	h->method = span_of(p, method);
	h->target = span_of(p, target);
	return target_ok(h, p, method, target) ? 0 : 400;
}

static int status_line(struct head *h, const char *p, struct str line)
{
	if (line.len < 12 || version(h, str_sub(line, 0, 8)) || line.p[8] != ' ')
		return 502;
	for (int i = 9; i < 12; i++) {
		if (line.p[i] < '0' || line.p[i] > '9')
			return 502;
		h->status = (uint16_t)(h->status * 10 + line.p[i] - '0');
	}
	if (h->status < 100 || (line.len > 12 && line.p[12] != ' '))
		return 502;
	h->reason = span_of(p, str_sub(line, 13, line.len));
	return all_of(head_str(p, h->reason), VALUE) ? 0 : 502;
}

/* ---- fields ---- */

enum head_known head_known_of(struct str name)
{
	static const struct str names[HEAD_KNOWN_NR] = {
#define X(name, text) [HEAD_##name] = { text, sizeof(text) - 1 },
		HEAD_KNOWN(X)
#undef X
	};

	for (enum head_known i = 1; i < HEAD_KNOWN_NR; i++)
		if (names[i].len == name.len && head_same(names[i], name))
			return i;
	return HEAD_OTHER;
}

bool head_field_line(const char *p, uint32_t base, uint32_t len, struct head_field *f)
{
	struct str line = { p, len }, value;
	int colon = str_find(line, ':');

	if (colon <= 0 || !head_token(str_sub(line, 0, (uint32_t)colon)))
		return false;
	value = trimmed(str_sub(line, (uint32_t)colon + 1, len));
	if (!all_of(value, VALUE))
		return false;
	f->name = (struct head_span){ base, (uint32_t)colon };
	f->value = (struct head_span){ base + (uint32_t)(value.p - p), value.len };
	f->known = (uint16_t)head_known_of(str_sub(line, 0, (uint32_t)colon));
	f->nominated = false;
	return true;
}

const struct head_field *head_find(const struct head *h, const char *p, struct str name)
{
	for (uint32_t i = 0; i < h->field_nr; i++)
		if (head_same(head_str(p, h->fields[i].name), name))
			return &h->fields[i];
	return NULL;
}

bool head_hop_by_hop(const struct head_field *f)
{
	switch (f->known) {
	case HEAD_CONNECTION:
	case HEAD_KEEP_ALIVE:
	case HEAD_PROXY_CONNECTION:
	case HEAD_TE:
	case HEAD_TRAILER:
	case HEAD_TRANSFER_ENCODING:
	case HEAD_UPGRADE:
		return true;
	}
	return f->nominated;
}

static const struct head_field *known_field(const struct head *h, enum head_known known)
{
	for (uint32_t i = 0; i < h->field_nr; i++)
		if (h->fields[i].known == known)
			return &h->fields[i];
	return NULL;
}

/* ---- what the fields say together ---- */

/* Options of all Connection fields. What the framing or the route depends on cannot be taken away by them. */
static bool connection(struct head *h, const char *p, bool *ret_close, bool *ret_keep)
{
	for (uint32_t i = 0; i < h->field_nr; i++) {
		struct str list, option;

		if (h->fields[i].known != HEAD_CONNECTION)
			continue;
		list = head_str(p, h->fields[i].value);
		while (head_list_next(&list, &option)) {
			if (!head_token(option))
				return false;
			*ret_close |= head_same(option, STR("close"));
			*ret_keep |= head_same(option, STR("keep-alive"));
			for (uint32_t k = 0; k < h->field_nr; k++) {
				struct head_field *f = &h->fields[k];

				if (!head_same(head_str(p, f->name), option))
					continue;
				if (f->known == HEAD_HOST || f->known == HEAD_CONTENT_LENGTH)
					return false;
				f->nominated = true;
				h->upgrade |= f->known == HEAD_UPGRADE;
			}
		}
	}
	return true;
}

/* Where the body ends: 0, or the status. */
static int framing(struct head *h, const char *p)
{
	const struct head_field *f;

	if (h->has[HEAD_TRANSFER_ENCODING]) {
		if (h->has[HEAD_TRANSFER_ENCODING] > 1 || h->has[HEAD_CONTENT_LENGTH] || !h->minor)
			return 400;
		f = known_field(h, HEAD_TRANSFER_ENCODING);
		if (!head_same(head_str(p, f->value), STR("chunked")))
			return head_token(head_str(p, f->value)) ? 501 : 400;
		h->body = HEAD_BODY_CHUNKED;
		return 0;
	}
	if (!h->has[HEAD_CONTENT_LENGTH])
		return 0;
	f = known_field(h, HEAD_CONTENT_LENGTH);
	if (h->has[HEAD_CONTENT_LENGTH] > 1 || !str_to_u64(head_str(p, f->value), INT64_MAX, &h->length))
		return 400;
	h->body = HEAD_BODY_LENGTH;
	return 0;
}

static int host(struct head *h, const char *p)
{
	const struct head_field *f = known_field(h, HEAD_HOST);

	if (h->has[HEAD_HOST] > 1 || (!f && h->minor))
		return 400;
	if (!f)
		return 0;
	if (!head_host(head_str(p, f->value)))
		return 400;
	/* RFC 9112, section 3.2.2: the target's own wins. */
	if (!h->authority.len)
		h->authority = f->value;
	return 0;
}

static int expect(struct head *h, const char *p)
{
	const struct head_field *f = known_field(h, HEAD_EXPECT);

	if (!f || !h->minor)
		return 0;
	if (h->has[HEAD_EXPECT] > 1 || !head_same(head_str(p, f->value), STR("100-continue")))
		return 417;
	h->expect_continue = true;
	return 0;
}

/* Has no body by its status. One that announces a body all the same has one for some readers (RFC 9112, section 6.3). */
static bool bodiless(const struct head *h)
{
	return h->status / 100 == 1 || h->status == 204;
}

static int finish(struct head *h, const char *p)
{
	bool close = false, keep = false;
	int status = connection(h, p, &close, &keep) ? framing(h, p) : 400;

	h->persistent = h->minor ? !close : keep && !close;
	if (!status && h->kind == HEAD_RESPONSE)
		return bodiless(h) && (h->body == HEAD_BODY_CHUNKED || h->length) ? 502 : 0;
	if (status)
		return status;
	status = host(h, p);
	if (!status)
		status = expect(h, p);
	if (!status && str_is(head_str(p, h->method), "CONNECT")) {
		if (h->body != HEAD_BODY_NONE)
			status = 400;
		h->body = HEAD_BODY_TUNNEL;
	}
	return status;
}

void head_answers(struct head *h, enum head_asked asked)
{
	if (h->status == 101 || (asked == HEAD_ASKED_CONNECT && h->status / 100 == 2)) {
		h->body = HEAD_BODY_TUNNEL;
	} else if (asked == HEAD_ASKED_HEAD || bodiless(h) || h->status == 304) {
		h->body = HEAD_BODY_NONE;
	} else if (h->body == HEAD_BODY_NONE) {
		h->body = HEAD_BODY_CLOSE;
		h->persistent = false;
	}
}

/* ---- lines ---- */

/* The complete line p[at .. at + len): 0 or the status. */
static int line(struct head *h, const char *p, uint32_t at, uint32_t len)
{
	struct head_field *f = &h->fields[h->field_nr];

	if (!h->first) {
		h->first = 1;
		return h->kind == HEAD_REQUEST ? request_line(h, p, (struct str){ p + at, len })
					       : status_line(h, p, (struct str){ p + at, len });
	}
	if (h->field_nr == h->limits->field_max || h->field_nr == HEAD_FIELDS_MAX)
		return 431;
	if (!head_field_line(p + at, at, len, f))
		return 400;
	if (h->has[f->known] < 255)
		h->has[f->known]++;
	h->field_nr++;
	return 0;
}

static int refused(const struct head *h, int status)
{
	return h->kind == HEAD_RESPONSE ? -502 : -status;
}

int head_scan(struct head *h, const char *p, uint32_t len)
{
	while (h->seen < len) {
		const char *cr = memchr(p + h->seen, '\r', len - h->seen);
		uint32_t end = cr ? (uint32_t)(cr - p) : len, at = h->at;
		int status;

		/* A bare LF ends a line for some, and not for others. */
		if (memchr(p + h->seen, '\n', end - h->seen))
			return refused(h, 400);
		if (!h->first && end - at > h->limits->line_max)
			return refused(h, 414);
		if (end + 2 > h->limits->bytes_max)
			return refused(h, 431);
		h->seen = end;
		if (end + 1 >= len)
			return 0;
		if (p[end + 1] != '\n')
			return refused(h, 400);
		h->seen = h->at = end + 2;
		if (end == at) {
			if (h->first) {
				status = finish(h, p);
				return status ? refused(h, status) : (int)h->at;
			}
			/* RFC 9112, section 2.2: one empty line in front of a request is passed over. */
			if (at || h->kind == HEAD_RESPONSE)
				return refused(h, 400);
			continue;
		}
		status = line(h, p, at, end - at);
		if (status)
			return refused(h, status);
	}
	return 0;
}
