/*
 * The cart merge as a module of the function form, in AssemblyScript:
 *
 *   npx asc cart.ts --outFile cart.wasm -O3 --runtime stub --use abort=cart/stop
 *
 * A cart is {"items":{"SKU":quantity,...}}. Merged, it has every SKU of any cart with its largest quantity,
 * in ascending order of the SKUs' UTF-8 bytes and without spaces: replicas compare bytes. What is no cart is
 * refused, and the store then keeps all versions.
 *
 * AssemblyScript's strings are UTF-16, which orders some characters differently and cannot tell broken text,
 * so SKUs are kept as bytes. The runtime "stub" never frees memory: every merge begins with fresh memory.
 */

const REQUEST_MAGIC: u32 = 0x314d5944;
const FLAG_ANCESTOR: u32 = 2;
const STATUS_VALUE: u32 = 0;
const STATUS_ERROR: u32 = 3;
const CONTENT_TYPE = "application/json";

/** 2^53 - 1: every JSON reader holds it exactly. */
const MAX_QUANTITY: u64 = 9007199254740991;

const NOT_A_CART = 'not a cart: want {"items":{"SKU":quantity}}';
const BAD_TEXT = "a string is not proper text";
const BAD_QUANTITY = "a quantity must be an integer from 0 to 9007199254740991";
const BAD_FRAME = "malformed request frame";

/** What the compiler calls where a program cannot go on. The store takes the trap for a failed merge. */
function stop(message: string | null, file: string | null, line: u32, column: u32): void {
  unreachable();
}

/* --- carts --- */

/** One SKU of one cart. Its name is the bytes from at to end, decoded. */
class Item {
  constructor(public at: usize, public end: usize, public cart: i32, public quantity: u64) {}
}

function compareSKU(a: Item, b: Item): i32 {
  const n = min(a.end - a.at, b.end - b.at);
  let i: usize = 0;
  for (; n - i >= 8; i += 8) {
    const x = load<u64>(a.at + i), y = load<u64>(b.at + i);
    if (x != y) return bswap<u64>(x) < bswap<u64>(y) ? -1 : 1;
  }
  for (; i < n; i++) {
    const x = load<u8>(a.at + i), y = load<u8>(b.at + i);
    if (x != y) return x < y ? -1 : 1;
  }
  const x = a.end - a.at, y = b.end - b.at;
  return x == y ? 0 : x < y ? -1 : 1;
}

/** By SKU and then by cart, so that a SKU twice in one cart stands side by side. */
function compare(a: Item, b: Item): i32 {
  const c = compareSKU(a, b);
  return c != 0 ? c : a.cart - b.cart;
}

/**
 * Where the characters end that mean themselves: ASCII without control characters, quotes and backslashes. It takes
 * eight at once: loops by the byte are what takes the time in a module that counts its steps.
 */
function plain(s: usize, end: usize): usize {
  const ones: u64 = 0x0101010101010101, tops: u64 = 0x8080808080808080;
  for (; end - s >= 8; s += 8) {
    const v = load<u64>(s);
    // A top bit for each byte that is not plain; beyond the first one there may be more.
    const found = (v | (v - ones * 0x20) | ((v ^ (ones * 0x22)) - ones) | ((v ^ (ones * 0x5c)) - ones)) & tops;
    if (found != 0) return s + ((ctz<u64>(found) >> 3) as usize);
  }
  for (; s < end; s++) {
    const c = load<u8>(s);
    if (c < 0x20 || c >= 0x80 || c == 0x22 || c == 0x5c) break;
  }
  return s;
}

/** Copies n bytes: memory.copy is worth its call for many. */
function move(to: usize, from: usize, n: usize): void {
  if (n > 64) {
    memory.copy(to, from, n);
    return;
  }
  for (; n >= 8; n -= 8, to += 8, from += 8) store<u64>(to, load<u64>(from));
  for (; n > 0; n--, to++, from++) store<u8>(to, load<u8>(from));
}

/** The length of the UTF-8 sequence at s, 0 if it is none. */
function runeSize(s: usize, end: usize): usize {
  const c = load<u8>(s);
  if (c < 0x80) return 1;
  const n: usize = c >= 0xc2 && c <= 0xdf ? 2 : c >= 0xe0 && c <= 0xef ? 3 : c >= 0xf0 && c <= 0xf4 ? 4 : 0;
  if (n == 0 || end - s < n) return 0;
  // No overlong forms, no surrogates, nothing above U+10FFFF.
  const low: u8 = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
  const high: u8 = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
  const second = load<u8>(s + 1);
  if (second < low || second > high) return 0;
  for (let i: usize = 2; i < n; i++) {
    if ((load<u8>(s + i) & 0xc0) != 0x80) return 0;
  }
  return n;
}

/** Reads one cart, which lies from at to end. At the first fault why is set and the reading ends. */
class Parser {
  why: string = "";
  /** Where the last string lies, decoded. */
  text: usize = 0;
  textEnd: usize = 0;
  /** The last quantity. */
  number: u64 = 0;

  constructor(public at: usize, public end: usize) {}

  refuse(why: string): bool {
    if (this.why.length == 0) this.why = why;
    return false;
  }

  /** The next character behind spaces, 0 at the end. */
  peek(): u8 {
    while (this.at < this.end) {
      const c = load<u8>(this.at);
      if (c != 0x20 && c != 0x09 && c != 0x0a && c != 0x0d) return c;
      this.at++;
    }
    return 0;
  }

  expect(want: u8): bool {
    if (this.peek() != want) return this.refuse(NOT_A_CART);
    this.at++;
    return true;
  }

  cart(cart: i32, items: Item[]): bool {
    if (!this.expect(0x7b) || !this.string()) return false;
    // The bytes of "items".
    if (this.textEnd - this.text != 5 || load<u32>(this.text) != 0x6d657469 || load<u8>(this.text + 4) != 0x73) return this.refuse(NOT_A_CART);
    if (!this.expect(0x3a) || !this.expect(0x7b)) return false;
    let more = this.peek() != 0x7d;
    while (more) {
      if (!this.string()) return false;
      const at = this.text, end = this.textEnd;
      if (!this.expect(0x3a) || !this.quantity()) return false;
      items.push(new Item(at, end, cart, this.number));
      more = this.peek() == 0x2c;
      if (more) this.at++;
    }
    if (!this.expect(0x7d) || !this.expect(0x7d)) return false;
    this.peek();
    return this.at == this.end || this.refuse("something follows the cart");
  }

  quantity(): bool {
    const first = this.peek();
    const start = this.at;
    let at = start, number: u64 = 0;
    for (; at < this.end; at++) {
      const c = load<u8>(at);
      if (c < 0x30 || c > 0x39) break;
      number = number * 10 + (c - 0x30);
      if (number > MAX_QUANTITY) return this.refuse(BAD_QUANTITY);
    }
    this.number = number;
    this.at = at;
    const digits = at - start;
    if (digits == 0 || (digits > 1 && first == 0x30)) return this.refuse(BAD_QUANTITY);
    // 1.0 and 1e2 end here, with something that is neither space nor comma nor brace.
    const after = this.peek();
    return after == 0x2c || after == 0x7d || this.refuse(BAD_QUANTITY);
  }

  /** Reads a string and decodes it where it lies: decoded text is never longer. */
  string(): bool {
    if (!this.expect(0x22)) return false;
    let out = plain(this.at, this.end);
    this.text = this.at;
    this.at = out;
    while (true) {
      if (this.at == this.end) return this.refuse(NOT_A_CART);
      const c = load<u8>(this.at);
      if (c < 0x20) return this.refuse("a control character in a string");
      if (c == 0x22) break;
      if (c == 0x5c) {
        const rune = this.escape();
        if (rune < 0) return this.refuse(BAD_TEXT);
        out = appendRune(out, rune);
        continue;
      }
      const n = runeSize(this.at, this.end);
      if (n == 0) return this.refuse("not valid UTF-8");
      memory.copy(out, this.at, n);
      out += n;
      this.at += n;
    }
    this.at++;
    this.textEnd = out;
    // U+FFFD is what decoders put where text was broken: two different SKUs could look the same.
    for (let s = plain(this.text, out); s + 2 < out; s++) {
      if (load<u8>(s) == 0xef && load<u8>(s + 1) == 0xbf && load<u8>(s + 2) == 0xbd) return this.refuse(BAD_TEXT);
    }
    return true;
  }

  /** Reads an escape and returns its character, or -1. */
  escape(): i32 {
    this.at++; // the backslash
    if (this.at == this.end) return -1;
    const c = load<u8>(this.at++);
    switch (c) {
      case 0x22:
      case 0x5c:
      case 0x2f: return c;
      case 0x62: return 0x08;
      case 0x66: return 0x0c;
      case 0x6e: return 0x0a;
      case 0x72: return 0x0d;
      case 0x74: return 0x09;
      case 0x75: break;
      default: return -1;
    }
    const code = this.hex4();
    if (code < 0xd800 || code > 0xdfff) return code;
    if (code >= 0xdc00 || this.end - this.at < 2 || load<u16>(this.at) != 0x755c) return -1;
    this.at += 2;
    const low = this.hex4();
    if (low < 0xdc00 || low > 0xdfff) return -1;
    return 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
  }

  /** Reads the four digits of \uXXXX, or returns -1. */
  hex4(): i32 {
    if (this.end - this.at < 4) return -1;
    let code = 0;
    for (let i = 0; i < 4; i++) {
      const c = load<u8>(this.at++), lower = c | 0x20;
      if (c >= 0x30 && c <= 0x39) code = (code << 4) | (c - 0x30);
      else if (lower >= 0x61 && lower <= 0x66) code = (code << 4) | (lower - 0x61 + 10);
      else return -1;
    }
    return code;
  }
}

/** Writes a character as UTF-8, which is never longer than its escape, and returns where it ends. */
function appendRune(out: usize, c: i32): usize {
  if (c < 0x80) {
    store<u8>(out, c as u8);
    return out + 1;
  }
  const n: i32 = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
  store<u8>(out, ((0xf00 >> n) | (c >> (6 * (n - 1)))) as u8);
  for (let i = 1; i < n; i++) {
    store<u8>(out + i, (0x80 | ((c >> (6 * (n - 1 - i))) & 0x3f)) as u8);
  }
  return out + n;
}

/** Makes one item of those with the same SKU, of sorted ones. Null: a cart has a SKU twice. */
function unite(items: Item[]): Item[] | null {
  const united: Item[] = [];
  for (let i = 0; i < items.length; i++) {
    const item = items[i];
    if (united.length == 0 || compareSKU(united[united.length - 1], item) != 0) {
      united.push(item);
      continue;
    }
    const same = united[united.length - 1];
    if (same.cart == item.cart) return null;
    same.cart = item.cart;
    same.quantity = max(same.quantity, item.quantity);
  }
  return united;
}

/* --- spelling --- */

/** Bytes in a row, growing. */
class Buffer {
  at: usize = 0;
  size: usize = 0;
  room: usize = 0;

  /** Makes room for n bytes more and returns where they go. */
  grow(n: usize): usize {
    if (this.size + n > this.room) {
      this.room = max<usize>(2 * this.room, this.size + n);
      const bigger = heap.alloc(this.room);
      memory.copy(bigger, this.at, this.size);
      this.at = bigger;
    }
    const to = this.at + this.size;
    this.size += n;
    return to;
  }

  u8(v: u8): void { store<u8>(this.grow(1), v); }
  u32(v: u32): void { store<u32>(this.grow(4), v); }
  bytes(from: usize, n: usize): void { move(this.grow(n), from, n); }
  /** Text of ASCII alone. */
  string(s: string): void {
    const n = s.length;
    let to = this.grow(n);
    for (let i = 0; i < n; i++) store<u8>(to++, s.charCodeAt(i) as u8);
  }
  number(v: u64): void {
    let n: usize = 1;
    for (let rest = v / 10; rest > 0; rest /= 10) n++;
    let to = this.grow(n) + n;
    do {
      store<u8>(--to, (0x30 + (v % 10)) as u8);
      v /= 10;
    } while (v > 0);
  }
}

/**
 * Spells a SKU as Go's encoding/json does: the short escapes, \u for other control characters and for U+2028
 * and U+2029 (line ends to old JavaScript), the rest as it is.
 */
function spellSKU(out: Buffer, item: Item): void {
  const digits = "0123456789abcdef";
  out.u8(0x22);
  let s = plain(item.at, item.end);
  out.bytes(item.at, s - item.at);
  while (s < item.end) {
    const c = load<u8>(s), n = runeSize(s, item.end);
    const lineEnd = n == 3 && c == 0xe2 && load<u8>(s + 1) == 0x80 && (load<u8>(s + 2) | 1) == 0xa9;
    if (c == 0x22) out.string('\\"');
    else if (c == 0x5c) out.string("\\\\");
    else if (c == 0x08) out.string("\\b");
    else if (c == 0x0c) out.string("\\f");
    else if (c == 0x0a) out.string("\\n");
    else if (c == 0x0d) out.string("\\r");
    else if (c == 0x09) out.string("\\t");
    else if (c < 0x20) out.string("\\u00" + digits.charAt(c >> 4) + digits.charAt(c & 15));
    else if (lineEnd) out.string(load<u8>(s + 2) == 0xa8 ? "\\u2028" : "\\u2029");
    else out.bytes(s, n);
    s += n;
  }
  out.u8(0x22);
}

function spell(out: Buffer, items: Item[]): void {
  out.string('{"items":{');
  for (let i = 0; i < items.length; i++) {
    if (i > 0) out.u8(0x2c);
    spellSKU(out, items[i]);
    out.u8(0x3a);
    out.number(items[i].quantity);
  }
  out.string("}}");
}

/* --- frames: little-endian integers, and bytes after their length --- */

class Frame {
  /** Something was not there; all that follows is empty. */
  bad: bool = false;
  /** The length of the last bytes. */
  size: usize = 0;

  constructor(public at: usize, public end: usize) {}

  take(n: usize): usize {
    if (this.bad || this.end - this.at < n) {
      this.bad = true;
      return 0;
    }
    const p = this.at;
    this.at += n;
    return p;
  }

  u32(): u32 {
    const p = this.take(4);
    return this.bad ? 0 : load<u32>(p);
  }

  bytes(): usize {
    this.size = this.u32();
    return this.take(this.size);
  }
}

/** answer = u32 status, bytes content type, bytes payload; returned as its address and length. */
function answer(status: u32, contentType: string, payload: Buffer): u64 {
  const out = new Buffer();
  out.u32(status);
  out.u32(contentType.length);
  out.string(contentType);
  out.u32(payload.size as u32);
  out.bytes(payload.at, payload.size);
  return ((out.at as u64) << 32) | (out.size as u64);
}

function fail(message: string): u64 {
  const text = new Buffer();
  text.string(message);
  return answer(STATUS_ERROR, "", text);
}

/* --- what the store calls --- */

/** Room for a request of size bytes. */
export function dynamo_alloc(size: usize): usize {
  return heap.alloc(size);
}

/**
 * request = u32 magic, u32 flags, bytes keyspace, bytes key, u32 count, count * sibling
 * sibling = u32 flags, u64 time, bytes content type, bytes value
 */
export function dynamo_resolve_v1(request: usize, size: usize): u64 {
  const f = new Frame(request, request + size);
  if (f.u32() != REQUEST_MAGIC) return fail(BAD_FRAME);
  f.u32(); // flags
  f.bytes(); // keyspace
  f.bytes(); // key
  const count = f.u32();
  const items: Item[] = [];
  for (let i: u32 = 0; i < count && !f.bad; i++) {
    const flags = f.u32();
    f.take(8); // time
    f.bytes(); // content type
    const value = f.bytes();
    // The version before the conflict tells nothing that a maximum needs.
    if (f.bad || (flags & FLAG_ANCESTOR) != 0) continue;
    const p = new Parser(value, value + f.size);
    if (!p.cart(i, items)) return fail(p.why);
  }
  if (f.bad || f.at != f.end) return fail(BAD_FRAME);
  const united = unite(items.sort(compare));
  if (united === null) return fail("a SKU is there twice");
  const out = new Buffer();
  spell(out, united);
  return answer(STATUS_VALUE, CONTENT_TYPE, out);
}
