/*
 * Carts, for both forms of the module: cart.c has the function form, ../c-command/cart.c the command form.
 *
 * A cart is {"items":{"SKU":quantity,...}}. Merged, it has every SKU of any cart with its largest quantity,
 * in ascending order of the SKUs' bytes and without spaces: replicas compare bytes. What is no cart is
 * refused, and the store then keeps all versions.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXPORT(name) __attribute__((export_name(name)))

static const uint64_t MAX_QUANTITY = 9007199254740991; /* 2^53 - 1: every JSON reader holds it exactly */

/* --- memory: everything behind __heap_base, handed out once; every merge begins with fresh memory --- */

extern unsigned char __heap_base;
static uintptr_t heap;

/* allocate returns NULL when the store grants no more memory. */
static void *allocate(size_t size) {
	if (heap == 0)
		heap = ((uintptr_t)&__heap_base + 15) & ~(uintptr_t)15;
	uint64_t end = (uint64_t)heap + (((uint64_t)size + 15) & ~(uint64_t)15);
	uint64_t have = (uint64_t)__builtin_wasm_memory_size(0) << 16;
	if (end > have && __builtin_wasm_memory_grow(0, (size_t)((end - have + 65535) >> 16)) == (size_t)-1)
		return NULL;
	void *p = (void *)heap;
	heap = (uintptr_t)end;
	return p;
}

/* --- bytes --- */

/* load reads eight bytes at once: loops by the byte are what takes the time in a module that counts its steps. */
static uint64_t load(const uint8_t *p) {
	uint64_t v;
	__builtin_memcpy(&v, p, 8);
	return v;
}

static uint8_t *put_bytes(uint8_t *p, const void *from, size_t n) {
	const uint8_t *s = from;
	for (; n >= 8; n -= 8, p += 8, s += 8)
		__builtin_memcpy(p, s, 8);
	for (; n; n--)
		*p++ = *s++;
	return p;
}

static size_t length(const char *s) {
	size_t n = 0;
	while (s[n])
		n++;
	return n;
}

/* --- carts --- */

typedef struct {
	const uint8_t *sku; /* decoded, UTF-8 */
	uint32_t size;
	uint64_t quantity;
} item;

typedef struct {
	item *items;
	size_t count, room; /* room for so many */
	bool mixed;         /* not in ascending order, or with an item twice */
	size_t spelled;     /* what all strings take in the answer, at most */
} list;

/* parser reads one cart. The first fault sets why, and nothing moves any more. */
typedef struct {
	uint8_t *at, *end;
	const char *why;
} parser;

static bool refuse(parser *p, const char *why) {
	if (!p->why)
		p->why = why;
	return false;
}

static void skip_space(parser *p) {
	while (p->at < p->end && (*p->at == ' ' || *p->at == '\t' || *p->at == '\n' || *p->at == '\r'))
		p->at++;
}

static bool expect(parser *p, uint8_t c) {
	skip_space(p);
	if (p->why || p->at == p->end || *p->at != c)
		return refuse(p, "not a cart: want {\"items\":{\"SKU\":quantity}}");
	p->at++;
	return true;
}

/* next is whether c comes next. */
static bool next(parser *p, uint8_t c) {
	skip_space(p);
	return !p->why && p->at < p->end && *p->at == c;
}

/* rune_size is the length of the UTF-8 sequence at s, 0 if it is none. */
static size_t rune_size(const uint8_t *s, const uint8_t *end) {
	uint8_t low = 0x80, high = 0xbf; /* of the second byte: no overlong forms, no surrogates, no more than U+10FFFF */
	size_t n;
	if (s[0] < 0x80)
		return 1;
	if (s[0] >= 0xc2 && s[0] <= 0xdf)
		n = 2;
	else if (s[0] >= 0xe0 && s[0] <= 0xef)
		n = 3;
	else if (s[0] >= 0xf0 && s[0] <= 0xf4)
		n = 4;
	else
		return 0;
	if (s[0] == 0xe0)
		low = 0xa0;
	if (s[0] == 0xed)
		high = 0x9f;
	if (s[0] == 0xf0)
		low = 0x90;
	if (s[0] == 0xf4)
		high = 0x8f;
	if ((size_t)(end - s) < n || s[1] < low || s[1] > high)
		return 0;
	for (size_t i = 2; i < n; i++)
		if (s[i] < 0x80 || s[i] > 0xbf)
			return 0;
	return n;
}

/* hex4 reads the four digits of \uXXXX. */
static bool hex4(parser *p, uint32_t *v) {
	if (p->end - p->at < 4)
		return refuse(p, "an escape in a string is cut off");
	*v = 0;
	for (int i = 0; i < 4; i++) {
		uint8_t c = *p->at++;
		uint8_t lower = c | 0x20;
		if (c >= '0' && c <= '9')
			*v = *v << 4 | (uint32_t)(c - '0');
		else if (lower >= 'a' && lower <= 'f')
			*v = *v << 4 | (uint32_t)(lower - 'a' + 10);
		else
			return refuse(p, "an escape in a string is not hexadecimal");
	}
	return true;
}

/* unicode_escape reads what follows \u and appends it as UTF-8, which is never longer than the escape. */
static bool unicode_escape(parser *p, uint8_t **out) {
	uint32_t c, low;
	uint8_t *o = *out;
	if (!hex4(p, &c))
		return false;
	if (c >= 0xd800 && c <= 0xdfff) {
		if (c >= 0xdc00 || p->end - p->at < 2 || p->at[0] != '\\' || p->at[1] != 'u')
			return refuse(p, "a string is not proper text");
		p->at += 2;
		if (!hex4(p, &low))
			return false;
		if (low < 0xdc00 || low > 0xdfff)
			return refuse(p, "a string is not proper text");
		c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
	}
	if (c < 0x80) {
		*o++ = (uint8_t)c;
	} else if (c < 0x800) {
		*o++ = (uint8_t)(0xc0 | c >> 6);
		*o++ = (uint8_t)(0x80 | (c & 0x3f));
	} else if (c < 0x10000) {
		*o++ = (uint8_t)(0xe0 | c >> 12);
		*o++ = (uint8_t)(0x80 | (c >> 6 & 0x3f));
		*o++ = (uint8_t)(0x80 | (c & 0x3f));
	} else {
		*o++ = (uint8_t)(0xf0 | c >> 18);
		*o++ = (uint8_t)(0x80 | (c >> 12 & 0x3f));
		*o++ = (uint8_t)(0x80 | (c >> 6 & 0x3f));
		*o++ = (uint8_t)(0x80 | (c & 0x3f));
	}
	*out = o;
	return true;
}

static bool escape(parser *p, uint8_t **out) {
	static const char names[] = "\"\\/bfnrt", means[] = "\"\\/\b\f\n\r\t";
	p->at++; /* the backslash */
	if (p->at == p->end)
		return refuse(p, "an escape in a string is cut off");
	uint8_t c = *p->at++;
	if (c == 'u')
		return unicode_escape(p, out);
	for (size_t i = 0; names[i]; i++)
		if (c == (uint8_t)names[i]) {
			*(*out)++ = (uint8_t)means[i];
			return true;
		}
	return refuse(p, "an escape in a string is unknown");
}

/* plain goes over characters that mean themselves: ASCII without control characters, quotes and backslashes. */
static const uint8_t *plain(const uint8_t *s, const uint8_t *end) {
	const uint64_t ones = 0x0101010101010101, tops = 0x8080808080808080;
	while (end - s >= 8) {
		uint64_t v = load(s), quotes = v ^ ones * '"', slashes = v ^ ones * '\\';
		/* a top bit for each byte that is not plain; beyond the first one there may be more */
		uint64_t found = (v | (v - ones * 0x20) | (quotes - ones) | (slashes - ones)) & tops;
		if (found)
			return s + (__builtin_ctzll(found) >> 3);
		s += 8;
	}
	while (s < end && *s >= 0x20 && *s < 0x80 && *s != '"' && *s != '\\')
		s++;
	return s;
}

/* string reads a string and decodes it where it lies: decoded text is never longer. */
static bool string(parser *p, const uint8_t **text, uint32_t *size) {
	if (!expect(p, '"'))
		return false;
	uint8_t *out = p->at;
	*text = out;
	for (;;) {
		uint8_t *from = p->at;
		p->at = (uint8_t *)plain(from, p->end);
		if (out == from)
			out = p->at;
		else
			out = put_bytes(out, from, (size_t)(p->at - from));
		if (p->at == p->end || *p->at < 0x20)
			return refuse(p, "a string does not end");
		if (*p->at == '"')
			break;
		if (*p->at == '\\') {
			if (!escape(p, &out))
				return false;
			continue;
		}
		size_t n = rune_size(p->at, p->end);
		if (n == 0)
			return refuse(p, "not valid UTF-8");
		while (n--)
			*out++ = *p->at++;
	}
	p->at++;
	*size = (uint32_t)(out - *text);
	return true;
}

/* broken is whether U+FFFD is in a string, which decoders put where text was broken: two different SKUs could look
 * the same. */
static bool broken(const uint8_t *s, const uint8_t *end) {
	for (s = plain(s, end); s < end; s = plain(s + 1, end))
		if (end - s > 2 && s[0] == 0xef && s[1] == 0xbf && s[2] == 0xbd)
			return true;
	return false;
}

static bool quantity(parser *p, uint64_t *q) {
	static const char why[] = "a quantity must be an integer from 0 to 9007199254740991";
	skip_space(p);
	const uint8_t *first = p->at;
	*q = 0;
	for (; p->at < p->end && *p->at >= '0' && *p->at <= '9'; p->at++) {
		*q = *q * 10 + (uint64_t)(*p->at - '0');
		if (*q > MAX_QUANTITY)
			return refuse(p, why);
	}
	if (p->at == first || (*first == '0' && p->at - first > 1))
		return refuse(p, why);
	/* 1.0 and 1e2 end here, with something that is neither space nor comma nor brace. */
	if (!next(p, ',') && !next(p, '}'))
		return refuse(p, why);
	return true;
}

/* add needs no copying to grow: nothing else is allocated meanwhile, so the new room follows the old. */
static bool add(list *l, item it) {
	enum { STEP = 64 };
	if (l->count == l->room) {
		item *more = allocate(STEP * sizeof(item));
		if (!more)
			return false;
		if (!l->items)
			l->items = more;
		l->room += STEP;
	}
	l->items[l->count++] = it;
	return true;
}

static bool is_items(const uint8_t *s, uint32_t n) {
	return n == 5 && s[0] == 'i' && s[1] == 't' && s[2] == 'e' && s[3] == 'm' && s[4] == 's';
}

static int compare_sku(const item *a, const item *b) {
	uint32_t n = a->size < b->size ? a->size : b->size, i = 0;
	for (; n - i >= 8; i += 8) {
		uint64_t x = load(a->sku + i), y = load(b->sku + i);
		if (x != y)
			return __builtin_bswap64(x) < __builtin_bswap64(y) ? -1 : 1;
	}
	for (; i < n; i++)
		if (a->sku[i] != b->sku[i])
			return a->sku[i] < b->sku[i] ? -1 : 1;
	return a->size == b->size ? 0 : a->size < b->size ? -1 : 1;
}

static bool parse_items(parser *p, list *l) {
	const uint8_t *name;
	uint32_t size;
	if (!expect(p, '{') || !string(p, &name, &size))
		return false;
	if (!is_items(name, size))
		return refuse(p, "not a cart: want items");
	if (!expect(p, ':') || !expect(p, '{'))
		return false;
	bool more = !next(p, '}');
	while (more) {
		item it;
		if (!string(p, &it.sku, &it.size) || !expect(p, ':') || !quantity(p, &it.quantity))
			return false;
		if (broken(it.sku, it.sku + it.size))
			return refuse(p, "a string is not proper text");
		if (l->count && compare_sku(&l->items[l->count - 1], &it) >= 0)
			l->mixed = true;
		if (!add(l, it))
			return refuse(p, "out of memory");
		more = next(p, ',');
		if (more)
			p->at++;
	}
	if (!expect(p, '}') || !expect(p, '}'))
		return false;
	skip_space(p);
	return p->at == p->end || refuse(p, "something follows the cart");
}

/* --- sorting: a cart as this module spells it is sorted, so mostly there is nothing to do --- */

/* run_end is where the ascending run that begins at i ends. */
static size_t run_end(const list *l, size_t i) {
	if (i < l->count)
		i++;
	while (i < l->count && compare_sku(&l->items[i], &l->items[i - 1]) >= 0)
		i++;
	return i;
}

/*
 * sort merges neighbouring runs until there is one. No input is slow, since each round halves their number.
 * False: out of memory.
 */
static bool sort(list *l) {
	item *to = allocate(l->count * sizeof(item));
	if (!to)
		return false;
	while (run_end(l, 0) < l->count) {
		size_t n = 0;
		while (n < l->count) {
			size_t a = n, a_end = run_end(l, a), b = a_end, b_end = run_end(l, b);
			while (a < a_end || b < b_end) {
				bool first = b == b_end || (a < a_end && compare_sku(&l->items[b], &l->items[a]) >= 0);
				to[n++] = l->items[first ? a++ : b++];
			}
		}
		item *swap = l->items;
		l->items = to;
		to = swap;
	}
	return true;
}

/* unite puts the SKUs of two carts into the first, each with its larger quantity. */
static bool unite(list *l, const list *with) {
	item *to = allocate((l->count + with->count) * sizeof(item));
	if (!to)
		return false;
	size_t n = 0, a = 0, b = 0;
	while (a < l->count && b < with->count) {
		const item *x = &l->items[a], *y = &with->items[b];
		int c = compare_sku(x, y);
		to[n++] = c < 0 || (c == 0 && x->quantity > y->quantity) ? *x : *y;
		a += c <= 0;
		b += c >= 0;
	}
	while (a < l->count)
		to[n++] = l->items[a++];
	while (b < with->count)
		to[n++] = with->items[b++];
	l->items = to;
	l->count = l->room = n;
	return true;
}

/* parse_cart reads one more cart and unites it with those before. */
static bool parse_cart(parser *p, list *all) {
	list l = {0};
	/* A character takes up to twice its bytes, a quantity what it takes here, and what stands between them too. */
	all->spelled += 2 * (size_t)(p->end - p->at);
	if (!parse_items(p, &l))
		return false;
	if (l.mixed) {
		if (!sort(&l))
			return refuse(p, "out of memory");
		for (size_t i = 1; i < l.count; i++)
			if (compare_sku(&l.items[i - 1], &l.items[i]) == 0)
				return refuse(p, "a SKU is there twice");
	}
	if (!all->items) {
		l.spelled = all->spelled;
		*all = l;
		return true;
	}
	return unite(all, &l) || refuse(p, "out of memory");
}

/* --- spelling --- */

/*
 * spell_rune writes one character of a string, of n bytes, as Go's encoding/json does: the short escapes, \u
 * for other control characters and for U+2028 and U+2029 (line ends to old JavaScript), the rest as it is.
 */
static uint8_t *spell_rune(uint8_t *out, const uint8_t *s, size_t n) {
	static const char means[] = "\"\\\b\f\n\r\t", names[] = "\"\\bfnrt", digits[] = "0123456789abcdef";
	char text[6] = {'\\'};
	for (size_t i = 0; means[i]; i++)
		if (s[0] == (uint8_t)means[i]) {
			text[1] = names[i];
			return put_bytes(out, text, 2);
		}
	bool line_end = n == 3 && s[0] == 0xe2 && s[1] == 0x80 && (s[2] | 1) == 0xa9;
	if (s[0] >= 0x20 && !line_end)
		return put_bytes(out, s, n);
	text[1] = 'u';
	text[2] = line_end ? '2' : '0';
	text[3] = '0';
	text[4] = line_end ? '2' : digits[s[0] >> 4];
	text[5] = line_end ? digits[s[2] & 0xf] : digits[s[0] & 0xf];
	return put_bytes(out, text, 6);
}

static uint8_t *spell_string(uint8_t *out, const uint8_t *s, const uint8_t *end) {
	*out++ = '"';
	while (s < end) {
		const uint8_t *from = s;
		s = plain(s, end);
		out = put_bytes(out, from, (size_t)(s - from));
		if (s == end)
			break;
		size_t size = rune_size(s, end);
		out = spell_rune(out, s, size);
		s += size;
	}
	*out++ = '"';
	return out;
}

static uint8_t *spell_number(uint8_t *out, uint64_t v) {
	char text[20];
	size_t n = sizeof text;
	if (v < 10) {
		*out++ = (uint8_t)('0' + v);
		return out;
	}
	do
		text[--n] = (char)('0' + v % 10);
	while (v /= 10);
	return put_bytes(out, text + n, sizeof text - n);
}

/* spelled is the most that spell_cart writes. */
static size_t spelled(const list *l) { return 16 + l->spelled; }

static uint8_t *spell_cart(uint8_t *out, const list *l) {
	out = put_bytes(out, "{\"items\":{", 10);
	for (size_t i = 0; i < l->count; i++) {
		const item *it = &l->items[i];
		if (i > 0)
			*out++ = ',';
		out = spell_string(out, it->sku, it->sku + it->size);
		*out++ = ':';
		out = spell_number(out, it->quantity);
	}
	return put_bytes(out, "}}", 2);
}
