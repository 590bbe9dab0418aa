// plugin.h is all that a ready-made resolver needs beside its rule: memory, the frames of the resolver ABI,
// JSON in and canonical JSON out. A plugin includes it once, defines merge() and is complete.
//
// Nothing here traps. Whatever goes wrong calls fail(), of which the first message counts; everybody then returns
// early, and the answer is an error (status 3), upon which the store keeps the siblings as they are.
#ifndef PLUGIN_H
#define PLUGIN_H

#include "json.h"
#include "memory.h"

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
