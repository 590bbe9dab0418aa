// json-merge: objects are merged key by key, at every depth. Where anything else meets, the greater value stands:
// null < false < true < numbers by value < strings by bytes < arrays by their canonical text < objects.
//
// Why not the newer one? A merged object is as new as its newest part, so an old member of it would beat a newer one
// of the next sibling: the result would depend on what was merged first.
#include "../lib/plugin.h"

// compare_values orders what is not merged; arrays are to be spelled before. All objects are equal here.
static i32 compare_values(struct node *a, struct node *b) {
  if (a->kind != b->kind) return a->kind < b->kind ? -1 : 1;
  if (a->kind == NUMBER) return compare_numbers(a, b);
  return compare(a->text, a->len, b->text, b->len); // null, true and false have no text
}

// spell gives an array its canonical text, once.
static void spell(struct node *n) {
  if (n->kind != ARRAY || n->text) return;
  u8 *from = top;
  put_value(n);
  n->text = from;
  n->len = (u32)(top - from);
}

// join merges a sorted list of members that may have keys in common. It consumes the list.
static struct node *join(struct node *list) {
  for (struct node *first = list; first && !wrong;) {
    struct node *other = first->next;
    struct node *best = first, *members = NULL, **tail = &members;
    if (first->kind == OBJECT) tail = append(tail, first->child);
    u32 objects = first->kind == OBJECT;
    for (; other && compare_keys(first, other) == 0; other = other->next) {
      if (other->kind == OBJECT) {
        tail = append(tail, other->child);
        objects++;
      }
      spell(best);
      spell(other);
      if (compare_values(other, best) > 0) best = other;
    }
    if (objects > 1) {
      best->child = join(sort(members));
      best->text = NULL;
    }
    if (best != first) {
      first->kind = best->kind;
      first->negative = best->negative;
      first->text = best->text;
      first->len = best->len;
      first->child = best->child;
    }
    first->next = other;
    first = other;
  }
  return list;
}

static u64 merge(struct sibling *s, u32 n) {
  struct node all = {.kind = OBJECT}, **tail = &all.child;
  for (u32 i = 0; i < n; i++) {
    struct node *object = parse(&s[i], OBJECT, "not an object");
    if (!object) return 0;
    tail = append(tail, object->child);
  }
  all.child = join(sort(all.child));
  u8 *response = begin(VALUE, JSON);
  put_value(&all);
  return end(response, JSON);
}
