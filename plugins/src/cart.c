// cart: {"items":{SKU:quantity}}, each SKU with its largest quantity. It is the rule of examples/cart-merge;
// README.md names the SKUs that the two spell differently.
#include "../lib/plugin.h"

#define SHAPE "not a cart, {\"items\":{SKU:quantity}}"

static u64 merge(struct sibling *s, u32 n) {
  struct node items = {.kind = OBJECT}, **tail = &items.child;
  for (u32 i = 0; i < n; i++) {
    struct node *cart = parse(&s[i], OBJECT, SHAPE);
    if (!cart) return 0;
    struct node *m = member(cart, "items");
    if (!m || m->kind != OBJECT || m->next || m != cart->child) {
      refuse(&s[i], SHAPE);
      return 0;
    }
    for (struct node *q = m->child; q; q = q->next)
      if (!is_count(q)) {
        refuse(&s[i], "a quantity is no integer from 0 to 9007199254740991");
        return 0;
      }
    tail = append(tail, m->child);
  }
  items.child = largest_counts(items.child);
  u8 *response = begin(VALUE, JSON);
  put_text("{\"items\":");
  put_value(&items);
  put('}');
  return end(response, JSON);
}
