// memory.h: one heap, one place for what went wrong, and texts as ranges of bytes.
#ifndef MEMORY_H
#define MEMORY_H

typedef unsigned char u8;
typedef unsigned int u32;
typedef int i32;
typedef unsigned long long u64;
typedef long long i64;

#define NULL ((void *)0)
#define NOINLINE __attribute__((noinline)) // what runs seldom is not worth its size twice
#define EXPORT(name) __attribute__((export_name(name), used))

// --- Memory: one heap that only grows, empty again at each request. ---

#define PAGE 65536u
#define SLACK 8u // load may read this far beyond what it is asked for

extern u8 __heap_base;

static u8 *top;           // first free byte
static u32 limit;         // end of the heap; SLACK bytes of memory follow
static const char *wrong; // the first failure, or NULL
static i32 wrong_sibling; // the sibling that is wrong, or -1
static u32 wrong_byte;    // where in its value

static void fail(const char *why) {
  if (!wrong) {
    wrong = why;
    wrong_sibling = -1;
  }
}

// grow makes room for n bytes that are not free.
static NOINLINE int grow(u32 n) {
  u32 at = (u32)top;
  u32 missing = n - (limit - at);
  u32 pages = missing / PAGE + (missing % PAGE != 0);
  // At least a quarter more, so that a growing output does not ask for each page.
  u32 more = limit / PAGE / 4;
  if (more > pages && __builtin_wasm_memory_grow(0, more) != (u32)-1) {
    limit += more * PAGE;
    return 1;
  }
  if (__builtin_wasm_memory_grow(0, pages) == (u32)-1) {
    fail("out of memory");
    return 0;
  }
  limit += pages * PAGE;
  return 1;
}

// room makes sure that n bytes are free. It fails when the host gives no more memory.
static int room(u32 n) { return limit - (u32)top >= n || grow(n); }

// alloc returns n bytes, aligned to 4, or NULL after a failure.
static void *alloc(u32 n) {
  if (n > 0x40000000u) {
    fail("out of memory");
    return NULL;
  }
  u32 at = ((u32)top + 3) & ~3u;
  if (!room(at - (u32)top + n)) return NULL;
  top = (u8 *)at + n;
  return (u8 *)at;
}

static void copy(u8 *to, const u8 *from, u32 n) { __builtin_memcpy(to, from, n); }

// The store may stop a module at each turn of a loop, which takes far longer than the turn: texts are gone through
// in words of 8 bytes.

static u64 load(const u8 *p) {
  u64 word;
  __builtin_memcpy(&word, p, 8);
  return word;
}

// compare orders bytes; of two of which one begins with the other, the longer is greater.
static i32 compare(const u8 *a, u32 an, const u8 *b, u32 bn) {
  u32 n = an < bn ? an : bn;
  while (n >= 8) {
    u64 x = load(a), y = load(b);
    if (x != y) return __builtin_bswap64(x) < __builtin_bswap64(y) ? -1 : 1;
    a += 8;
    b += 8;
    n -= 8;
  }
  if (n) {
    u32 beyond = 64 - 8 * n;
    u64 x = load(a) << beyond, y = load(b) << beyond;
    if (x != y) return __builtin_bswap64(x) < __builtin_bswap64(y) ? -1 : 1;
  }
  return an < bn ? -1 : an > bn;
}

#define EACH 0x0101010101010101ull // times a byte: a word of it
#define HIGH 0x8080808080808080ull

// marks sets the high bits of the bytes of a word that a JSON string must escape. Only the lowest mark is exact. (Warren,
// "Hacker's Delight", 2nd edition, section 6-1.)
static u64 marks(u64 word) {
  u64 quote = word ^ EACH * '"', slash = word ^ EACH * '\\';
  return (((word - EACH * 0x20) & ~word) | ((quote - EACH) & ~quote) | ((slash - EACH) & ~slash)) & HIGH;
}

// unmarked counts the bytes before the first mark, at most n.
static u32 unmarked(u64 marks, u32 n) {
  u32 k = marks ? (u32)__builtin_ctzll(marks) / 8 : 8;
  return k < n ? k : n;
}

static int equal_text(const u8 *a, u32 n, const char *text) {
  u32 i = 0;
  for (; i < n && text[i]; i++)
    if (a[i] != (u8)text[i]) return 0;
  return i == n && !text[i];
}

#endif
