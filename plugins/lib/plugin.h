// plugin.h is all that a ready-made resolver needs beside its rule: memory, the frames of the resolver ABI,
// JSON in and canonical JSON out. A plugin includes it once, defines merge() and is complete.
//
// Nothing here traps. Whatever goes wrong calls fail(), of which the first message counts; everybody then returns
// early, and the answer is an error (status 3), upon which the store keeps the siblings as they are.
#ifndef PLUGIN_H
#define PLUGIN_H

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

// --- Values: a JSON tree. Strings and digits stay in the request, where they are decoded in place. ---

enum kind { NUL, FALSE, TRUE, NUMBER, STRING, ARRAY, OBJECT };

// A number is ±0.DIGITS * 10^exp, digits without zeros at either end; zero has no digits. It is exact.
struct node {
  struct node *next; // in its array or object
  u8 kind, negative;
  u8 plain;     // a number that was written in digits alone
  u32 len;      // of text
  u8 *text;     // of a string, or the digits of a number
  union {
    struct node *child; // of an array or an object; an object's are sorted by key, each key once
    i32 exp;
  };
  // Members of objects only; elements of arrays are allocated without, unless a plugin needs a sort key.
  u8 *key;
  u32 key_len;
};

#define MAX_DEPTH 64      // of arrays and objects within each other
#define MAX_DIGITS 1000   // significant digits of a number
#define MAX_EXP 100000    // of a number in scientific notation, either way

static i32 compare_keys(const struct node *a, const struct node *b) { return compare(a->key, a->key_len, b->key, b->key_len); }

static struct node *merge_lists(struct node *a, struct node *b) {
  struct node *head = NULL, **tail = &head;
  while (a && b) {
    struct node **less = compare_keys(a, b) <= 0 ? &a : &b;
    *tail = *less;
    tail = &(*less)->next;
    *less = *tail;
  }
  *tail = a ? a : b;
  return head;
}

// sort is a stable merge sort by key. It takes the runs that are sorted already as they are: lists that were
// merged before cost one pass.
static struct node *sort(struct node *list) {
  struct node *bins[32]; // bins[i] holds 2^i runs
  u32 used = 0;
  while (list) {
    struct node *run = list, *last = list;
    while (last->next && compare_keys(last, last->next) <= 0) last = last->next;
    list = last->next;
    last->next = NULL;
    u32 i = 0;
    for (; i < used && bins[i]; i++) {
      run = merge_lists(bins[i], run);
      bins[i] = NULL;
    }
    if (i == used) used++;
    bins[i] = run;
  }
  for (u32 i = 0; i < used; i++)
    if (bins[i]) list = list ? merge_lists(bins[i], list) : bins[i];
  return list;
}

// member finds a key of a sorted object.
static struct node *member(struct node *object, const char *key) {
  for (struct node *m = object->child; m; m = m->next)
    if (equal_text(m->key, m->key_len, key)) return m;
  return NULL;
}

static i32 compare_numbers(const struct node *a, const struct node *b) {
  i32 sa = a->len ? (a->negative ? -1 : 1) : 0, sb = b->len ? (b->negative ? -1 : 1) : 0;
  if (sa != sb) return sa < sb ? -1 : 1;
  if (!sa) return 0;
  if (a->exp != b->exp) return (a->exp < b->exp ? -1 : 1) * sa;
  return compare(a->text, a->len, b->text, b->len) * sa;
}

// is_count tells whether a number is an integer from 0 to 2^53-1, written in digits alone: what every reader of
// JSON holds exactly.
static int is_count(const struct node *n) {
  static const u8 most[] = "9007199254740991";
  if (n->kind != NUMBER || !n->plain) return 0;
  return n->exp < 16 || (n->exp == 16 && compare(n->text, n->len, most, 16) <= 0);
}

// --- Reading JSON (RFC 8259, UTF-8), each key once. ---

struct reader {
  u8 *start, *at, *end;
  u32 depth;
  i32 sibling;
};

static NOINLINE struct node *bad(struct reader *r, const char *why) {
  if (!wrong) {
    wrong = why;
    wrong_sibling = r->sibling;
    wrong_byte = (u32)(r->at - r->start);
  }
  return NULL;
}

static void skip_space(struct reader *r) {
  while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\r' || *r->at == '\t')) r->at++;
}

static int skip(struct reader *r, u8 c) {
  if (r->at == r->end || *r->at != c) return 0;
  r->at++;
  return 1;
}

static int is_digit(struct reader *r) { return r->at < r->end && *r->at >= '0' && *r->at <= '9'; }

static struct node *new_node(enum kind kind, int member) {
  u32 size = member ? sizeof(struct node) : __builtin_offsetof(struct node, key);
  struct node *n = alloc(size);
  if (!n) return NULL;
  n->next = NULL;
  n->kind = (u8)kind;
  n->negative = n->plain = 0;
  n->len = 0;
  n->text = NULL;
  n->child = NULL;
  return n;
}

static struct node *read_number(struct reader *r, int is_member) {
  struct node *n = new_node(NUMBER, is_member);
  if (!n) return NULL;
  n->plain = 1;
  if (skip(r, '-')) n->negative = 1, n->plain = 0;
  u8 *digits = r->at, *to = r->at;
  if (!is_digit(r)) return bad(r, "a digit is missing");
  if (*r->at == '0') {
    r->at++;
    if (is_digit(r)) return bad(r, "a number begins with a needless 0");
  } else {
    while (is_digit(r)) r->at++;
    to = r->at;
  }
  // The digits, without zeros in front, are digits..to; the point stands exp places after their beginning.
  i64 exp = to - digits;
  if (skip(r, '.')) {
    n->plain = 0;
    if (!is_digit(r)) return bad(r, "a digit is missing");
    for (; is_digit(r); r->at++) {
      if (to == digits && *r->at == '0')
        exp--;
      else
        *to++ = *r->at;
    }
  }
  if (skip(r, 'e') || skip(r, 'E')) {
    n->plain = 0;
    int minus = skip(r, '-');
    if (!minus) skip(r, '+');
    if (!is_digit(r)) return bad(r, "a digit is missing");
    i64 e = 0;
    for (; is_digit(r); r->at++)
      if (e < 1000000000) e = e * 10 + (*r->at - '0');
    exp += minus ? -e : e;
  }
  while (to > digits && to[-1] == '0') to--;
  n->text = digits;
  n->len = (u32)(to - digits);
  if (!n->len) {
    n->negative = 0;
    return n;
  }
  if (n->len > MAX_DIGITS) return bad(r, "a number has more than 1000 digits");
  if (exp - 1 > MAX_EXP || exp - 1 < -MAX_EXP) return bad(r, "a number is beyond 1e100000, or closer to 0 than 1e-100000");
  n->exp = (i32)exp;
  return n;
}

// hex4 reads four hexadecimal digits, -1 if there are none.
static i32 hex4(struct reader *r) {
  i32 v = 0;
  if (r->end - r->at < 4) return -1;
  for (u32 i = 0; i < 4; i++) {
    u8 c = *r->at++;
    i32 d = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
    if (d < 0) return -1;
    v = v << 4 | d;
  }
  return v;
}

// put_rune writes a code point as UTF-8.
static u8 *put_rune(u8 *to, u32 c) {
  if (c < 0x80) {
    *to++ = (u8)c;
    return to;
  }
  if (c < 0x800) {
    *to++ = (u8)(0xc0 | c >> 6);
  } else {
    if (c < 0x10000) {
      *to++ = (u8)(0xe0 | c >> 12);
    } else {
      *to++ = (u8)(0xf0 | c >> 18);
      *to++ = (u8)(0x80 | (c >> 12 & 0x3f));
    }
    *to++ = (u8)(0x80 | (c >> 6 & 0x3f));
  }
  *to++ = (u8)(0x80 | (c & 0x3f));
  return to;
}

// read_escape decodes what follows a backslash, to where there is always room: an escape is longer than its text.
static u8 *read_escape(struct reader *r, u8 *to) {
  u8 c = r->at < r->end ? *r->at++ : 0;
  switch (c) {
  case '"': case '\\': case '/': *to++ = c; return to;
  case 'b': *to++ = '\b'; return to;
  case 'f': *to++ = '\f'; return to;
  case 'n': *to++ = '\n'; return to;
  case 'r': *to++ = '\r'; return to;
  case 't': *to++ = '\t'; return to;
  case 'u': break;
  default: bad(r, "an unknown escape"); return NULL;
  }
  i32 high = hex4(r);
  if (high < 0) {
    bad(r, "an escape without four hexadecimal digits");
    return NULL;
  }
  if (high < 0xd800 || high > 0xdfff) return put_rune(to, (u32)high);
  i32 low = -1;
  if (high < 0xdc00 && skip(r, '\\') && skip(r, 'u')) low = hex4(r);
  if (low < 0xdc00 || low > 0xdfff) {
    bad(r, "half a surrogate pair");
    return NULL;
  }
  return put_rune(to, 0x10000 + ((u32)(high - 0xd800) << 10) + (u32)(low - 0xdc00));
}

// rune_length checks one multi-byte sequence of UTF-8 (RFC 3629) and returns its length, 0 if it is malformed.
static u32 rune_length(const u8 *p, const u8 *end) {
  u32 n = *p >= 0xf0 ? 4 : *p >= 0xe0 ? 3 : 2;
  if (*p < 0xc2 || *p > 0xf4 || (u32)(end - p) < n) return 0;
  u8 from = *p == 0xe0 ? 0xa0 : *p == 0xf0 ? 0x90 : 0x80, to = *p == 0xed ? 0x9f : *p == 0xf4 ? 0x8f : 0xbf;
  if (p[1] < from || p[1] > to) return 0;
  for (u32 i = 2; i < n; i++)
    if ((p[i] & 0xc0) != 0x80) return 0;
  return n;
}

// read_string decodes a string in place, its opening quote being consumed; its length goes to len.
static u8 *read_string(struct reader *r, u32 *len) {
  u8 *from = r->at, *to = r->at;
  while (r->at < r->end) {
    if (to == r->at) {
      u64 word = load(to);
      u32 n = unmarked(marks(word) | (word & HIGH), (u32)(r->end - to));
      to += n;
      r->at = to;
      if (n == 8 || to == r->end) continue;
    }
    u8 c = *r->at;
    if (c == '"') {
      r->at++;
      *len = (u32)(to - from);
      return from;
    }
    if (c < 0x20) {
      bad(r, "a control character in a string");
      return NULL;
    }
    if (c == '\\') {
      r->at++;
      if (!(to = read_escape(r, to))) return NULL;
      continue;
    }
    u32 n = 1;
    if (c >= 0x80 && !(n = rune_length(r->at, r->end))) {
      bad(r, "not UTF-8");
      return NULL;
    }
    *to++ = *r->at++;
    if (n > 1) *to++ = *r->at++;
    if (n > 2) *to++ = *r->at++;
    if (n > 3) *to++ = *r->at++;
  }
  bad(r, "a string without an end");
  return NULL;
}

static struct node *read_word(struct reader *r, const char *word, enum kind kind, int is_member) {
  for (; *word; word++)
    if (!skip(r, (u8)*word)) return bad(r, "a value is missing");
  return new_node(kind, is_member);
}

static struct node *read_value(struct reader *r, int is_member);

// read_children reads the rest of an array or an object, up to and with its closing bracket.
static struct node *read_children(struct reader *r, struct node *n) {
  int object = n->kind == OBJECT;
  u8 close = object ? '}' : ']';
  struct node **tail = &n->child;
  skip_space(r);
  if (skip(r, close)) return n;
  if (++r->depth > MAX_DEPTH) return bad(r, "arrays and objects are nested more than 64 deep");
  for (;;) {
    u8 *key = NULL;
    u32 key_len = 0;
    if (object) {
      skip_space(r);
      if (!skip(r, '"')) return bad(r, "a key is missing");
      if (!(key = read_string(r, &key_len))) return NULL;
      skip_space(r);
      if (!skip(r, ':')) return bad(r, "a colon is missing");
    }
    skip_space(r);
    struct node *c = read_value(r, object);
    if (!c) return NULL;
    if (object) c->key = key, c->key_len = key_len;
    *tail = c;
    tail = &c->next;
    skip_space(r);
    if (skip(r, close)) break;
    if (!skip(r, ',')) return bad(r, "a comma or a closing bracket is missing");
  }
  r->depth--;
  if (!object) return n;
  n->child = sort(n->child);
  for (struct node *c = n->child; c->next; c = c->next)
    if (compare_keys(c, c->next) == 0) return bad(r, "a key occurs twice in an object");
  return n;
}

static struct node *read_value(struct reader *r, int is_member) {
  if (r->at == r->end) return bad(r, "a value is missing");
  struct node *n;
  switch (*r->at) {
  case 'n': return read_word(r, "null", NUL, is_member);
  case 'f': return read_word(r, "false", FALSE, is_member);
  case 't': return read_word(r, "true", TRUE, is_member);
  case '"':
    if (!(n = new_node(STRING, is_member))) return NULL;
    r->at++;
    n->text = read_string(r, &n->len);
    return n->text ? n : NULL;
  case '[': case '{':
    if (!(n = new_node(*r->at == '[' ? ARRAY : OBJECT, is_member))) return NULL;
    r->at++;
    return read_children(r, n);
  default: return read_number(r, is_member);
  }
}

// --- Writing: at the top of the heap. Allocate nothing between the beginning and the end of a text. ---

static void put(u8 c) {
  if (room(1)) *top++ = c;
}

static NOINLINE void put_bytes(const u8 *b, u32 n) {
  if (!room(n)) return;
  copy(top, b, n);
  top += n;
}

#define put_text(literal) put_bytes((const u8 *)(literal), sizeof(literal) - 1)

static void set_u32(u8 *at, u32 v) { __builtin_memcpy(at, &v, 4); } // WebAssembly is little-endian

static NOINLINE void put_u32(u32 v) {
  if (!room(4)) return;
  set_u32(top, v);
  top += 4;
}

static NOINLINE void put_decimal(u32 v) {
  u8 digits[10];
  u32 n = 0;
  do digits[n++] = (u8)('0' + v % 10);
  while (v /= 10);
  while (n) put(digits[--n]);
}

// put_string escapes as little as JSON allows (RFC 8785, section 3.2.2.2).
static NOINLINE void put_string(const u8 *s, u32 n) {
  static const char hex[] = "0123456789abcdef";
  put('"');
  for (u32 i = 0; i < n; i++) {
    u32 from = i, k;
    do i += k = unmarked(marks(load(s + i)), n - i);
    while (k == 8);
    put_bytes(s + from, i - from);
    if (i == n) break;
    u8 c = s[i];
    put('\\');
    switch (c) {
    case '"': case '\\': put(c); break;
    case '\b': put('b'); break;
    case '\f': put('f'); break;
    case '\n': put('n'); break;
    case '\r': put('r'); break;
    case '\t': put('t'); break;
    default:
      put_text("u00");
      put((u8)hex[c >> 4]);
      put((u8)hex[c & 15]);
    }
  }
  put('"');
}

static void put_zeros(i32 n) {
  while (n-- > 0) put('0');
}

// put_number spells a number as ECMAScript and RFC 8785 do, but with all of its digits.
static void put_number(const struct node *n) {
  i32 digits = (i32)n->len;
  if (!digits) {
    put('0');
    return;
  }
  if (n->negative) put('-');
  if (n->exp > 0 && n->exp <= 21) {
    i32 whole = n->exp < digits ? n->exp : digits;
    put_bytes(n->text, (u32)whole);
    put_zeros(n->exp - digits);
    if (digits > whole) {
      put('.');
      put_bytes(n->text + whole, (u32)(digits - whole));
    }
  } else if (n->exp <= 0 && n->exp > -6) {
    put_text("0.");
    put_zeros(-n->exp);
    put_bytes(n->text, n->len);
  } else {
    put(n->text[0]);
    if (digits > 1) {
      put('.');
      put_bytes(n->text + 1, n->len - 1);
    }
    i32 e = n->exp - 1;
    put('e');
    put(e < 0 ? '-' : '+');
    put_decimal((u32)(e < 0 ? -e : e));
  }
}

// put_value writes the canonical text of a tree: keys sorted by their bytes, no spaces.
static void put_value(const struct node *n) {
  switch (n->kind) {
  case NUL: put_text("null"); return;
  case FALSE: put_text("false"); return;
  case TRUE: put_text("true"); return;
  case NUMBER: put_number(n); return;
  case STRING: put_string(n->text, n->len); return;
  }
  int object = n->kind == OBJECT;
  put(object ? '{' : '[');
  for (const struct node *c = n->child; c && !wrong; c = c->next) {
    if (c != n->child) put(',');
    if (object) {
      put_string(c->key, c->key_len);
      put(':');
    }
    put_value(c);
  }
  put(object ? '}' : ']');
}

// --- The frames of the resolver ABI, version 1. ---

#define MAGIC 0x314d5944u
enum flag { DELETED = 1, ANCESTOR = 2 };
enum status { VALUE = 0, ERROR = 3, SELECT = 4 };

struct sibling {
  u32 flags, index, type_len, len;
  u64 time_ms;
  u8 *type, *value;
};

struct frame {
  u8 *at, *end;
};

static NOINLINE u8 *take(struct frame *f, u32 n) {
  static u8 none[8];
  if ((u32)(f->end - f->at) < n) {
    fail("malformed request frame");
    return n <= sizeof none ? none : NULL;
  }
  u8 *taken = f->at;
  f->at += n;
  return taken;
}

static NOINLINE u32 take_u32(struct frame *f) {
  u8 *p = take(f, 4);
  return (u32)p[0] | (u32)p[1] << 8 | (u32)p[2] << 16 | (u32)p[3] << 24;
}

static u64 take_u64(struct frame *f) {
  u64 low = take_u32(f);
  return low | (u64)take_u32(f) << 32;
}

static u8 *take_bytes(struct frame *f, u32 *len) {
  *len = take_u32(f);
  return take(f, *len);
}

#define JSON "application/json"

// text_length is that of a text that ends with a zero byte.
static NOINLINE u32 text_length(const char *text) {
  u32 n = 0;
  while (text[n]) n++;
  return n;
}

// begin writes the head of a response and returns where it starts; what is put until end() is the payload.
static NOINLINE u8 *begin(enum status status, const char *type) {
  u32 n = text_length(type);
  u8 *at = top;
  put_u32(status);
  put_u32(n);
  put_bytes((const u8 *)type, n);
  put_u32(0);
  return at;
}

static NOINLINE u64 end(u8 *response, const char *type) {
  u32 head = 12 + text_length(type), size = (u32)(top - response);
  if (wrong) return 0;
  set_u32(response + head - 4, size - head);
  return (u64)(u32)response << 32 | size;
}

// failure is the answer when something is wrong. It always has room: it takes the place of the request.
static u64 failure(u8 *request) {
  const char *why = wrong;
  wrong = NULL;
  top = request;
  u8 *at = begin(ERROR, "");
  if (wrong_sibling >= 0) {
    put_text("sibling ");
    put_decimal((u32)wrong_sibling);
    put_text(", byte ");
    put_decimal(wrong_byte);
    put_text(": ");
  }
  put_bytes((const u8 *)why, text_length(why));
  return end(at, "");
}

// merge is the plugin's rule: it answers n siblings, n > 0, with begin(), puts and end(), or calls fail(). The
// common ancestor is not among them; deletes are if the plugin wants them.
static u64 merge(struct sibling *siblings, u32 n);

EXPORT("dynamo_alloc") u8 *dynamo_alloc(u32 size) {
  top = &__heap_base;
  limit = (u32)__builtin_wasm_memory_size(0) * PAGE - SLACK;
  wrong = NULL;
  u8 *at = alloc(size);
  return at ? at : (u8 *)-1; // an address where the host cannot write
}

EXPORT("dynamo_resolve_v1") u64 dynamo_resolve_v1(u8 *request, u32 size) {
  struct frame f = {request, request + size};
  u32 unused, n = 0;
  if (take_u32(&f) != MAGIC) fail("malformed request frame");
  take_u32(&f); // flags
  take_bytes(&f, &unused); // keyspace
  take_bytes(&f, &unused); // key
  u32 count = take_u32(&f);
  if (count > size / 20) fail("malformed request frame"); // each takes 20 bytes at least
  struct sibling *siblings = wrong ? NULL : alloc(count * sizeof(struct sibling));
  for (u32 i = 0; i < count && !wrong; i++) {
    struct sibling *s = &siblings[n];
    s->index = i;
    s->flags = take_u32(&f);
    s->time_ms = take_u64(&f);
    s->type = take_bytes(&f, &s->type_len);
    s->value = take_bytes(&f, &s->len);
    if (!(s->flags & ANCESTOR)) n++;
  }
  if (f.at != f.end || !n) fail("malformed request frame");
  u64 response = wrong ? 0 : merge(siblings, n);
  return wrong ? failure(request) : response;
}

// --- What most plugins do. ---

// parse reads the value of a sibling, which must be of one kind; what names it in a message.
static NOINLINE struct node *parse(struct sibling *s, enum kind kind, const char *what) {
  struct reader r = {s->value, s->value, s->value + s->len, 0, (i32)s->index};
  skip_space(&r);
  struct node *n = read_value(&r, 0);
  if (!n) return NULL;
  if (n->kind != kind) {
    r.at = r.start;
    return bad(&r, what);
  }
  skip_space(&r);
  if (r.at != r.end) return bad(&r, "something follows the value");
  return n;
}

// refuse blames the value of a sibling as a whole.
static NOINLINE struct node *refuse(struct sibling *s, const char *why) {
  struct reader r = {s->value, s->value, s->value, 0, (i32)s->index};
  return bad(&r, why);
}

// append adds a list to the end of another, of which tail is the end, and returns the new end.
static struct node **append(struct node **tail, struct node *list) {
  *tail = list;
  while (*tail) tail = &(*tail)->next;
  return tail;
}

// largest_counts merges sorted lists of counts, each key with its largest.
static struct node *largest_counts(struct node *list) {
  list = sort(list);
  for (struct node *n = list; n;) {
    struct node *next = n->next;
    if (next && compare_keys(n, next) == 0) {
      if (compare_numbers(next, n) > 0) {
        n->text = next->text;
        n->len = next->len;
        n->exp = next->exp;
      }
      n->next = next->next;
    } else {
      n = next;
    }
  }
  return list;
}

// distinct drops all but the first of equal keys in a sorted list.
static struct node *distinct(struct node *list) {
  for (struct node *n = list; n;) {
    if (n->next && compare_keys(n, n->next) == 0)
      n->next = n->next->next;
    else
      n = n->next;
  }
  return list;
}

#endif
