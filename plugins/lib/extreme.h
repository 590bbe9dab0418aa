// extreme.h is max and min: values are JSON numbers, the one furthest in DIRECTION wins. They are compared exactly, as
// decimals, not as floating point.
#include "plugin.h"

static u64 merge(struct sibling *s, u32 n) {
  struct node *best = NULL;
  for (u32 i = 0; i < n; i++) {
    struct node *v = parse(&s[i], NUMBER, "not a number");
    if (!v) return 0;
    if (!best || compare_numbers(v, best) * DIRECTION > 0) best = v;
  }
  u8 *response = begin(VALUE, JSON);
  put_number(best);
  return end(response, JSON);
}
