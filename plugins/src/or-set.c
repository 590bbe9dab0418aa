// or-set: {"adds":{element:[tag]},"removes":[tag]}, a set from which elements can be removed and to which they can be
// added again. Each add invents a tag, a remove names the tags it has seen: an add that the remover had not seen stays.
// Tags that were removed disappear from adds, and elements without a tag too: what is in the set are the keys of adds.
// (Shapiro et al., "A comprehensive study of Convergent and Commutative Replicated Data Types", 2011, specification 15,
// with the removed tags kept in one list.)
#include "../lib/plugin.h"

// tags appends to a list the strings of an array, each as its own sort key, and returns the new end, NULL if it fails.
static struct node **tags(struct sibling *s, struct node *array, struct node **tail) {
  if (array->kind != ARRAY) {
    refuse(s, "tags are to be in an array");
    return NULL;
  }
  for (struct node *t = array->child; t; t = t->next) {
    if (t->kind != STRING) {
      refuse(s, "a tag is to be a string");
      return NULL;
    }
    struct node *c = new_node(STRING, 1);
    if (!c) return NULL;
    c->key = c->text = t->text;
    c->key_len = c->len = t->len;
    *tail = c;
    tail = &c->next;
  }
  *tail = NULL;
  return tail;
}

// without drops from a sorted list what is in another.
static struct node *without(struct node *list, struct node *dropped) {
  struct node **link = &list;
  while (*link && dropped) {
    i32 order = compare_keys(*link, dropped);
    if (order > 0)
      dropped = dropped->next;
    else if (order < 0)
      link = &(*link)->next;
    else
      *link = (*link)->next;
  }
  return list;
}

static u64 merge(struct sibling *s, u32 n) {
  struct node adds = {.kind = OBJECT}, removes = {.kind = ARRAY};
  struct node **adds_tail = &adds.child, **removes_tail = &removes.child;
  for (u32 i = 0; i < n; i++) {
    struct node *set = parse(&s[i], OBJECT, "not a set, {\"adds\":{element:[tag]},\"removes\":[tag]}");
    if (!set) return 0;
    struct node *a = member(set, "adds"), *r = member(set, "removes");
    for (struct node *c = set->child; c; c = c->next)
      if (c != a && c != r) {
        refuse(&s[i], "a set has no other members than adds and removes");
        return 0;
      }
    if (r && !(removes_tail = tags(&s[i], r, removes_tail))) return 0;
    if (!a) continue;
    if (a->kind != OBJECT) {
      refuse(&s[i], "adds is to be an object, {element:[tag]}");
      return 0;
    }
    for (struct node *e = a->child; e; e = e->next) {
      struct node *list = NULL;
      if (!tags(&s[i], e, &list)) return 0;
      e->child = list;
    }
    adds_tail = append(adds_tail, a->child);
  }
  removes.child = distinct(sort(removes.child));
  struct node **link = &adds.child;
  adds.child = sort(adds.child);
  while (*link) {
    struct node *e = *link, **tail = append(&e->child, e->child);
    while (e->next && compare_keys(e, e->next) == 0) {
      tail = append(tail, e->next->child);
      e->next = e->next->next;
    }
    e->child = without(distinct(sort(e->child)), removes.child);
    if (e->child)
      link = &e->next;
    else
      *link = e->next;
  }
  u8 *response = begin(VALUE, JSON);
  put_text("{\"adds\":");
  put_value(&adds);
  put_text(",\"removes\":");
  put_value(&removes);
  put('}');
  return end(response, JSON);
}
