/*
 * The cart merge as a module of the function form, in C without a library:
 *
 *   clang --target=wasm32 -std=c11 -O2 -ffreestanding -nostdlib -fno-builtin -Wall -Wextra -Werror \
 *     -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=65536 -o cart.wasm cart.c
 *
 * The carts themselves are in cart.h.
 */
#include "cart.h"

enum { REQUEST_MAGIC = 0x314d5944, FLAG_ANCESTOR = 2 };
enum { STATUS_VALUE = 0, STATUS_ERROR = 3 };

/* --- frames: little-endian integers, and bytes after their length --- */

typedef struct {
	uint8_t *at;
	size_t left;
	bool bad; /* something was not there; all that follows is empty */
} reader;

static uint8_t *take(reader *r, size_t n) {
	if (r->bad || r->left < n) {
		r->bad = true;
		return NULL;
	}
	uint8_t *p = r->at;
	r->at += n;
	r->left -= n;
	return p;
}

static uint32_t take_u32(reader *r) {
	const uint8_t *p = take(r, 4);
	return p ? p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24 : 0;
}

static uint8_t *take_bytes(reader *r, size_t *n) {
	*n = take_u32(r);
	return take(r, *n);
}

static uint8_t *put_u32(uint8_t *p, uint32_t v) {
	__builtin_memcpy(p, &v, 4);
	return p + 4;
}

/* packed is what dynamo_resolve_v1 returns: address and length. */
static uint64_t packed(const uint8_t *p, size_t n) { return (uint64_t)(uintptr_t)p << 32 | n; }

static uint64_t fail(const char *message) {
	static uint8_t answer[256];
	uint8_t *p = put_u32(answer, STATUS_ERROR);
	p = put_u32(p, 0); /* no content type */
	p = put_u32(p, (uint32_t)length(message));
	p = put_bytes(p, message, length(message));
	return packed(answer, (size_t)(p - answer));
}

/* --- what the store calls --- */

/* Room for a request of size bytes. */
EXPORT("dynamo_alloc") void *dynamo_alloc(uint32_t size) {
	void *p = allocate(size);
	if (!p)
		__builtin_trap();
	return p;
}

/*
 * request = u32 magic, u32 flags, bytes keyspace, bytes key, u32 count, count * sibling
 * sibling = u32 flags, u64 time, bytes content type, bytes value
 * answer  = u32 status, bytes content type, bytes value
 */
EXPORT("dynamo_resolve_v1") uint64_t dynamo_resolve_v1(uint8_t *request, uint32_t size) {
	static const char content_type[] = "application/json";
	reader r = {request, size, false};
	size_t n;
	if (take_u32(&r) != REQUEST_MAGIC)
		return fail("malformed request frame");
	take_u32(&r);
	take_bytes(&r, &n); /* keyspace */
	take_bytes(&r, &n); /* key */
	uint32_t count = take_u32(&r);
	list l = {0};
	for (uint32_t i = 0; i < count && !r.bad; i++) {
		uint32_t flags = take_u32(&r);
		take(&r, 8); /* time */
		take_bytes(&r, &n); /* content type */
		uint8_t *value = take_bytes(&r, &n);
		if (r.bad || flags & FLAG_ANCESTOR) /* which tells nothing that a maximum needs */
			continue;
		parser p = {value, value + n, NULL};
		if (!parse_cart(&p, &l))
			return fail(p.why);
	}
	if (r.bad || r.left)
		return fail("malformed request frame");
	uint8_t *answer = allocate(12 + sizeof content_type - 1 + spelled(&l));
	if (!answer)
		return fail("out of memory");
	uint8_t *p = put_u32(answer, STATUS_VALUE);
	p = put_u32(p, sizeof content_type - 1);
	p = put_bytes(p, content_type, sizeof content_type - 1);
	uint8_t *value = p + 4, *end = spell_cart(value, &l);
	put_u32(p, (uint32_t)(end - value));
	return packed(answer, (size_t)(end - answer));
}
