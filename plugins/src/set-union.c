// set-union: JSON arrays as sets. The result holds each element of any of them once, sorted by the bytes of its
// canonical text. Elements may be any JSON; 1 and 1.0 are the same element.
#include "../lib/plugin.h"

static u64 merge(struct sibling *s, u32 n) {
  struct node *elements = NULL, **tail = &elements;
  for (u32 i = 0; i < n; i++) {
    struct node *set = parse(&s[i], ARRAY, "not an array");
    if (!set) return 0;
    for (struct node *e = set->child; e; e = e->next) {
      struct node *c = new_node(e->kind, 1);
      if (!c) return 0;
      c->key = top;
      put_value(e);
      c->key_len = (u32)(top - c->key);
      if (wrong) return 0;
      *tail = c;
      tail = &c->next;
    }
  }
  u8 *response = begin(VALUE, JSON);
  put('[');
  elements = distinct(sort(elements));
  for (struct node *e = elements; e && !wrong; e = e->next) {
    if (e != elements) put(',');
    put_bytes(e->key, e->key_len);
  }
  put(']');
  return end(response, JSON);
}
