/* SPDX-License-Identifier: BSD-2-Clause */
#include "l7/hello.h"

#define RECORD_MAX 16384u
#define CLIENT_HELLO 1
#define SERVER_NAME 0
#define HOST_NAME 0

/* In the order in which they come; those behind EXTENSIONS_LEN as often as there are extensions. */
enum hello_field {
	TYPE,
	LENGTH,
	VERSION,
	RANDOM,
	SESSION_LEN,
	SESSION,
	CIPHERS_LEN,
	CIPHERS,
	COMPRESSIONS_LEN,
	COMPRESSIONS,
	EXTENSIONS_LEN,
	EXTENSION,
	EXTENSION_LEN,
	EXTENSION_BODY,
	NAMES_LEN,
	NAME_KIND,
	NAME_LEN,
	NAME,
	END,
};

void hello_begin(struct hello *h)
{
	*h = (struct hello){ .field = TYPE, .need = 1 };
}

/* The field that comes next; false: it does not fit into the message. */
static bool expect(struct hello *h, enum hello_field field, uint32_t len)
{
	h->field = (uint8_t)field;
	h->need = len;
	h->value = 0;
	return field <= LENGTH || len <= h->left;
}

static bool next_extension(struct hello *h)
{
	return h->left ? expect(h, EXTENSION, 2) : expect(h, END, 0);
}

static bool extension_begins(struct hello *h)
{
	if (h->extension != SERVER_NAME)
		return expect(h, EXTENSION_BODY, h->value);
	if (h->named || h->value > h->left)
		return false;
	h->named = true;
	h->inner = h->value;
	return h->inner > 2 && expect(h, NAMES_LEN, 2);
}

/* The field at hand is there. */
static bool field_end(struct hello *h)
{
	uint32_t v = h->value;

	switch ((enum hello_field)h->field) {
	case TYPE:
		return v == CLIENT_HELLO && expect(h, LENGTH, 3);
	case LENGTH:
		h->left = v;
		return v <= HELLO_MAX && expect(h, VERSION, 2);
	case VERSION:
		return v > 0x300 && v < 0x400 && expect(h, RANDOM, 32);
	case RANDOM:
		return expect(h, SESSION_LEN, 1);
	case SESSION_LEN:
		return v <= 32 && expect(h, SESSION, v);
	case SESSION:
		return expect(h, CIPHERS_LEN, 2);
	case CIPHERS_LEN:
		return v && !(v & 1) && expect(h, CIPHERS, v);
	case CIPHERS:
		return expect(h, COMPRESSIONS_LEN, 1);
	case COMPRESSIONS_LEN:
		return v && expect(h, COMPRESSIONS, v);
	case COMPRESSIONS:
		return h->left ? expect(h, EXTENSIONS_LEN, 2) : expect(h, END, 0);
	case EXTENSIONS_LEN:
		return v == h->left && next_extension(h);
	case EXTENSION:
		h->extension = (uint16_t)v;
		return expect(h, EXTENSION_LEN, 2);
	case EXTENSION_LEN:
		return extension_begins(h);
	case NAMES_LEN:
		return v == h->inner - 2 && expect(h, NAME_KIND, 1);
	case NAME_KIND:
		return v == HOST_NAME && expect(h, NAME_LEN, 2);
	case NAME_LEN:
		return v && v <= HELLO_NAME_MAX && v + 5 == h->inner && expect(h, NAME, v);
	case EXTENSION_BODY:
	case NAME:
		return next_extension(h);
	case END:
		break;
	}
	return false;
}

/* false: no name has it; what came of this one is nobody's, neither a rule's nor a log's. */
static bool name_byte(struct hello *h, uint8_t c)
{
	if (c >= 'A' && c <= 'Z')
		c |= 0x20;
	if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_')) {
		h->name_len = 0;
		return false;
	}
	h->name[h->name_len++] = (char)c;
	return true;
}

static bool message_byte(struct hello *h, uint8_t c)
{
	if (h->field > LENGTH)
		h->left--;
	if (h->field == NAME && !name_byte(h, c))
		return false;
	h->value = h->value << 8 | c;
	h->need--;
	/* Fields of no length are over before they begin. */
	while (!h->need && h->field != END)
		if (!field_end(h))
			return false;
	return true;
}

/* Type, version and length of a record. */
static bool head_byte(struct hello *h, uint8_t c)
{
	switch (h->head++) {
	case 0:
		return c == TLS_HANDSHAKE;
	case 1:
		return c == 3;
	case 2:
		return true;
	case 3:
		h->record = (uint32_t)c << 8;
		return true;
	default:
		h->record |= c;
		h->head = 0;
		return h->record && h->record <= RECORD_MAX;
	}
}

enum hello_result hello_scan(struct hello *h, const char *p, uint32_t len)
{
	while (h->at < len) {
		uint8_t c = (uint8_t)p[h->at++];

		if (!h->record || h->head) {
			if (!head_byte(h, c))
				return HELLO_BAD;
			continue;
		}
		h->record--;
		if (!message_byte(h, c))
			return HELLO_BAD;
		if (h->field == END)
			return h->record ? HELLO_BAD : HELLO_WHOLE;
	}
	return HELLO_MORE;
}
