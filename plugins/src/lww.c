// lww: the last write wins, deletes included. The sibling with the largest time is taken as it is; of equally new
// ones a value beats a delete, then the greater bytes win, then the greater content type.
#include "../lib/plugin.h"

// Its presence asks the store for concurrent deletes; it is never called.
EXPORT("dynamo_wants_deleted") void wants_deleted(void) {}

static int newer(struct sibling *a, struct sibling *b) {
  if (a->time_ms != b->time_ms) return a->time_ms > b->time_ms;
  if ((a->flags ^ b->flags) & DELETED) return b->flags & DELETED;
  i32 order = compare(a->value, a->len, b->value, b->len);
  return (order ? order : compare(a->type, a->type_len, b->type, b->type_len)) > 0;
}

static u64 merge(struct sibling *s, u32 n) {
  struct sibling *last = s;
  for (u32 i = 1; i < n; i++)
    if (newer(&s[i], last)) last = &s[i];
  u8 *response = begin(SELECT, "");
  put_u32(last->index);
  return end(response, "");
}
