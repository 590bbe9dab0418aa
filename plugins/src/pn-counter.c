// pn-counter: {"p":{actor:n},"n":{actor:n}}, a counter that goes both ways. Each actor counts its own increments in p
// and decrements in n, which never shrink; the largest of each is kept. The counter reads sum(p) - sum(n). (Shapiro et
// al., "A comprehensive study of Convergent and Commutative Replicated Data Types", 2011, specification 7.)
#include "../lib/plugin.h"

// collect appends the counts of one side, which may be missing, and returns the new end, NULL if it fails.
static struct node **collect(struct sibling *s, struct node *side, struct node **tail) {
  if (!side) return tail;
  if (side->kind != OBJECT) {
    refuse(s, "p and n are to be objects, {actor:count}");
    return NULL;
  }
  for (struct node *c = side->child; c; c = c->next)
    if (!is_count(c)) {
      refuse(s, "a count is no integer from 0 to 9007199254740991");
      return NULL;
    }
  return append(tail, side->child);
}

static u64 merge(struct sibling *s, u32 n) {
  struct node plus = {.kind = OBJECT}, minus = {.kind = OBJECT};
  struct node **plus_tail = &plus.child, **minus_tail = &minus.child;
  for (u32 i = 0; i < n; i++) {
    struct node *counter = parse(&s[i], OBJECT, "not a counter, {\"p\":{actor:n},\"n\":{actor:n}}");
    if (!counter) return 0;
    struct node *p = member(counter, "p"), *m = member(counter, "n");
    for (struct node *c = counter->child; c; c = c->next)
      if (c != p && c != m) {
        refuse(&s[i], "a counter has no other members than p and n");
        return 0;
      }
    if (!(plus_tail = collect(&s[i], p, plus_tail)) || !(minus_tail = collect(&s[i], m, minus_tail))) return 0;
  }
  plus.child = largest_counts(plus.child);
  minus.child = largest_counts(minus.child);
  u8 *response = begin(VALUE, JSON);
  put_text("{\"n\":");
  put_value(&minus);
  put_text(",\"p\":");
  put_value(&plus);
  put('}');
  return end(response, JSON);
}
