/*
 * The cart merge as a program, in C without a library: a request in JSON on standard input, the answer in JSON on
 * standard output.
 *
 *   clang --target=wasm32 -std=c11 -O2 -ffreestanding -nostdlib -fno-builtin -Wall -Wextra -Werror \
 *     -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=65536 -o cart.wasm cart.c
 *
 * The carts themselves are in ../c/cart.h.
 */
#include "../c/cart.h"

/* --- standard input and output, as WASI has them --- */

#define WASI(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(name)))

typedef struct {
	const void *at;
	size_t size;
} vector;

WASI("fd_read") int fd_read(int fd, const vector *list, size_t count, size_t *got);
WASI("fd_write") int fd_write(int fd, const vector *list, size_t count, size_t *written);

/* read_all returns standard input. Nothing else is allocated meanwhile, so the pieces lie side by side. */
static parser read_all(void) {
	enum { PIECE = 4096 };
	parser p = {NULL, NULL, NULL};
	size_t size = 0, room = 0, got;
	do {
		if (size == room) {
			uint8_t *more = allocate(PIECE);
			if (!more)
				__builtin_trap();
			if (!p.at)
				p.at = more;
			room += PIECE;
		}
		vector v = {p.at + size, room - size};
		if (fd_read(0, &v, 1, &got))
			__builtin_trap();
		size += got;
	} while (got);
	p.end = p.at + size;
	return p;
}

static void print(const uint8_t *text, size_t size) {
	vector v = {text, size};
	size_t written;
	if (fd_write(1, &v, 1, &written) || written != size)
		__builtin_trap();
}

/* --- the request, which the store has written: it is proper JSON --- */

static void skip_string(parser *p) {
	for (p->at++; p->at < p->end && *p->at != '"'; p->at++) {
		p->at = (uint8_t *)plain(p->at, p->end);
		if (p->at == p->end || *p->at == '"')
			break;
		if (*p->at == '\\')
			p->at++;
	}
	p->at++;
}

/* skip_value skips anything up to the comma or brace behind it. */
static void skip_value(parser *p) {
	for (int depth = 0; p->at < p->end; p->at++) {
		while (p->at < p->end && *p->at == '"')
			skip_string(p);
		if (p->at >= p->end || (depth == 0 && (*p->at == ',' || *p->at == '}' || *p->at == ']')))
			return;
		if (*p->at == '{' || *p->at == '[')
			depth++;
		if (*p->at == '}' || *p->at == ']')
			depth--;
	}
}

static uint32_t digit(uint8_t c) {
	return c >= 'a' ? c - 'a' + 26u : c >= 'A' ? c - 'A' + 0u : c >= '0' ? c - '0' + 52u : c == '+' ? 62u : 63u;
}

/* base64 decodes size characters where they lie and returns how many bytes they were. */
static size_t base64(uint8_t *text, size_t size) {
	uint8_t *out = text;
	for (const uint8_t *s = text, *end = text + size; end - s >= 4; s += 4, out += 3) {
		uint32_t bits = digit(s[0]) << 18 | digit(s[1]) << 12 | digit(s[2]) << 6 | digit(s[3]);
		bool two = s[3] == '=', one = s[2] == '=';
		out[0] = (uint8_t)(bits >> 16);
		out[1] = (uint8_t)(bits >> 8);
		out[2] = (uint8_t)bits;
		if (two)
			return (size_t)(out - text) + (one ? 1 : 2);
	}
	return (size_t)(out - text);
}

static bool is(const uint8_t *text, size_t size, const char *name) {
	if (size != length(name))
		return false;
	for (size_t i = 0; i < size; i++)
		if (text[i] != (uint8_t)name[i])
			return false;
	return true;
}

/* field goes to the value of an object's next field. */
static bool field(parser *p, bool first, const uint8_t **name, uint32_t *size) {
	if (first ? next(p, '}') : !next(p, ','))
		return false;
	if (!first)
		p->at++;
	return string(p, name, size) && expect(p, ':');
}

/* parse_sibling reads one of the siblings; of its fields, only the value matters. */
static bool parse_sibling(parser *p, list *l) {
	const uint8_t *name;
	uint32_t size;
	bool is_value;
	if (!expect(p, '{'))
		return false;
	for (bool first = true; field(p, first, &name, &size); first = false) {
		is_value = is(name, size, "value_base64");
		if (!is_value) {
			skip_value(p);
			continue;
		}
		if (!expect(p, '"'))
			return false;
		uint8_t *text = p->at;
		p->at = (uint8_t *)plain(text, p->end);
		parser value = {text, text + base64(text, (size_t)(p->at - text)), NULL};
		if (!parse_cart(&value, l))
			return refuse(p, value.why);
		if (!expect(p, '"'))
			return false;
	}
	return expect(p, '}');
}

static bool parse_request(parser *p, list *l) {
	const uint8_t *name;
	uint32_t size;
	if (!expect(p, '{'))
		return false;
	for (bool first = true; field(p, first, &name, &size); first = false) {
		if (!is(name, size, "siblings")) { /* the ancestor tells nothing that a maximum needs */
			skip_value(p);
			continue;
		}
		if (!expect(p, '['))
			return false;
		for (bool more = !next(p, ']'); more;) {
			if (!parse_sibling(p, l))
				return false;
			more = next(p, ',');
			if (more)
				p->at++;
		}
		if (!expect(p, ']'))
			return false;
	}
	return expect(p, '}');
}

/* --- the answer --- */

static void fail(const char *message) {
	static uint8_t answer[512];
	const uint8_t *text = (const uint8_t *)message;
	uint8_t *p = put_bytes(answer, "{\"status\":\"error\",\"message\":", 28);
	p = spell_string(p, text, text + length(message));
	p = put_bytes(p, "}\n", 2);
	print(answer, (size_t)(p - answer));
}

static uint8_t *put_base64(uint8_t *out, const uint8_t *s, size_t n) {
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	for (; n >= 3; n -= 3, s += 3, out += 4) {
		uint32_t bits = (uint32_t)s[0] << 16 | (uint32_t)s[1] << 8 | s[2];
		out[0] = (uint8_t)digits[bits >> 18];
		out[1] = (uint8_t)digits[bits >> 12 & 63];
		out[2] = (uint8_t)digits[bits >> 6 & 63];
		out[3] = (uint8_t)digits[bits & 63];
	}
	if (n > 0) {
		uint32_t bits = (uint32_t)s[0] << 16 | (n > 1 ? (uint32_t)s[1] << 8 : 0);
		*out++ = (uint8_t)digits[bits >> 18];
		*out++ = (uint8_t)digits[bits >> 12 & 63];
		*out++ = n > 1 ? (uint8_t)digits[bits >> 6 & 63] : '=';
		*out++ = '=';
	}
	return out;
}

EXPORT("_start") void start(void) {
	static const char head[] = "{\"status\":\"value\",\"content_type\":\"application/json\",\"value_base64\":\"";
	parser p = read_all();
	list l = {0};
	if (!parse_request(&p, &l)) {
		fail(p.why);
		return;
	}
	uint8_t *value = allocate(spelled(&l));
	if (!value) {
		fail("out of memory");
		return;
	}
	size_t size = (size_t)(spell_cart(value, &l) - value);
	uint8_t *answer = allocate(sizeof head + (size + 2) / 3 * 4 + 3);
	if (!answer) {
		fail("out of memory");
		return;
	}
	uint8_t *end = put_bytes(answer, head, sizeof head - 1);
	end = put_base64(end, value, size);
	end = put_bytes(end, "\"}\n", 3);
	print(answer, (size_t)(end - answer));
}
