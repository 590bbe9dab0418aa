// json.h: JSON in, sorted lists of keys, canonical JSON out.
#ifndef JSON_H
#define JSON_H

#include "memory.h"

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

#endif
