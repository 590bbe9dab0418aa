//! The cart merge as a module of the function form, in Rust with its standard library and no crates:
//!
//!     rustc --edition=2021 --target=wasm32-unknown-unknown --crate-type=cdylib \
//!       -C opt-level=3 -C lto -C panic=abort -C strip=symbols -o cart.wasm cart.rs
//!
//! A cart is {"items":{"SKU":quantity,...}}. Merged, it has every SKU of any cart with its largest
//! quantity, in ascending order of the SKUs' bytes and without spaces: replicas compare bytes. What is no
//! cart is refused, and the store then keeps all versions.

const REQUEST_MAGIC: u32 = 0x314d_5944;
const FLAG_ANCESTOR: u32 = 2;
const STATUS_VALUE: u32 = 0;
const STATUS_ERROR: u32 = 3;
const CONTENT_TYPE: &str = "application/json";

/// 2^53 - 1: every JSON reader holds it exactly.
const MAX_QUANTITY: u64 = 9_007_199_254_740_991;

const NOT_A_CART: &str = r#"not a cart: want {"items":{"SKU":quantity}}"#;
const BAD_TEXT: &str = "a string is not proper text";
const BAD_QUANTITY: &str = "a quantity must be an integer from 0 to 9007199254740991";
const BAD_FRAME: &str = "malformed request frame";

use std::borrow::Cow;

type Result<T> = std::result::Result<T, String>;

/// One SKU of one cart. Items are ordered by SKU, which Rust orders by its bytes, then by cart.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Item<'a> {
    sku: Cow<'a, str>, // of the request, unless it was spelled with an escape
    cart: u32,
    quantity: u64,
}

/// merge keeps every SKU with its largest quantity. Sorting goes by runs that are sorted already, as carts
/// are that were merged before: a map would look up each SKU.
fn merge(mut items: Vec<Item<'_>>) -> Result<Vec<Item<'_>>> {
    items.sort();
    for pair in items.windows(2) {
        if pair[0].sku == pair[1].sku && pair[0].cart == pair[1].cart {
            return Err(format!("SKU {:?} is there twice", pair[0].sku));
        }
    }
    items.dedup_by(|next, kept| {
        let same = next.sku == kept.sku;
        if same {
            kept.quantity = kept.quantity.max(next.quantity);
        }
        same
    });
    Ok(items)
}

/// Parser reads one cart.
struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    /// peek is the next character behind spaces.
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    fn expect(&mut self, want: u8) -> Result<()> {
        if self.peek() != Some(want) {
            return Err(NOT_A_CART.into());
        }
        self.at += 1;
        Ok(())
    }

    /// cart appends the items of the cart with this number.
    fn cart(&mut self, cart: u32, items: &mut Vec<Item<'a>>) -> Result<()> {
        self.expect(b'{')?;
        if self.string()? != "items" {
            return Err(NOT_A_CART.into());
        }
        self.expect(b':')?;
        self.expect(b'{')?;
        if self.peek() != Some(b'}') {
            loop {
                let sku = self.string()?;
                self.expect(b':')?;
                let quantity = self.quantity()?;
                items.push(Item { sku, cart, quantity });
                if self.peek() != Some(b',') {
                    break;
                }
                self.at += 1;
            }
        }
        self.expect(b'}')?;
        self.expect(b'}')?;
        match self.peek() {
            None => Ok(()),
            Some(_) => Err("something follows the cart".into()),
        }
    }

    fn quantity(&mut self) -> Result<u64> {
        self.peek();
        let rest = &self.text[self.at..];
        let mut digits = 0;
        let mut q = 0;
        for d in rest.bytes().take_while(u8::is_ascii_digit) {
            digits += 1;
            q = q * 10 + u64::from(d - b'0');
            if q > MAX_QUANTITY {
                return Err(BAD_QUANTITY.into());
            }
        }
        self.at += digits;
        // 1.0 and 1e2 end with something that is neither space nor comma nor brace.
        let ended = matches!(self.peek(), Some(b',' | b'}'));
        if ended && (digits == 1 || digits > 1 && !rest.starts_with('0')) {
            return Ok(q);
        }
        Err(BAD_QUANTITY.into())
    }

    fn string(&mut self) -> Result<Cow<'a, str>> {
        self.expect(b'"')?;
        let rest = &self.text[self.at..];
        let n = plain(rest.as_bytes());
        let mut text = Cow::Borrowed(&rest[..n]);
        self.at += n;
        loop {
            let c = self.text[self.at..].chars().next().ok_or(NOT_A_CART)?;
            self.at += c.len_utf8();
            match c {
                '"' => return Ok(text),
                '\\' => text.to_mut().push(self.escape()?),
                c if c < ' ' => return Err("a control character in a string".into()),
                c => text.to_mut().push(c),
            }
            // It is what decoders put where text was broken: two different SKUs could look the same.
            if text.ends_with('\u{fffd}') {
                return Err(BAD_TEXT.into());
            }
        }
    }

    fn escape(&mut self) -> Result<char> {
        let c = self.text.as_bytes().get(self.at).copied().ok_or(BAD_TEXT)?;
        self.at += 1;
        Ok(match c {
            b'"' | b'\\' | b'/' => c.into(),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let mut code = self.hex4()?;
                if (0xd800..0xdc00).contains(&code) {
                    if !self.text.as_bytes()[self.at..].starts_with(b"\\u") {
                        return Err(BAD_TEXT.into());
                    }
                    self.at += 2;
                    let low = self.hex4()?;
                    if !(0xdc00..0xe000).contains(&low) {
                        return Err(BAD_TEXT.into());
                    }
                    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                }
                char::from_u32(code).ok_or(BAD_TEXT)?
            }
            _ => return Err(BAD_TEXT.into()),
        })
    }

    /// hex4 reads the four digits of \uXXXX.
    fn hex4(&mut self) -> Result<u32> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4).ok_or(BAD_TEXT)?;
        self.at += 4;
        let mut code = 0;
        for &d in digits {
            code = code << 4 | char::from(d).to_digit(16).ok_or(BAD_TEXT)?;
        }
        Ok(code)
    }
}

/// plain counts the characters at the front of s that mean themselves: ASCII without control characters, quotes and
/// backslashes. It takes eight at once: loops by the byte are what takes the time in a module that counts its steps.
fn plain(s: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    let mut n = 0;
    for chunk in s.chunks_exact(8) {
        let v = u64::from_le_bytes(chunk.try_into().unwrap());
        let zeros = |v: u64| v.wrapping_sub(ONES);
        let low = v.wrapping_sub(ONES * 0x20);
        // A top bit for each byte that is not plain; beyond the first one there may be more.
        let found = (v | low | zeros(v ^ (ONES * 0x22)) | zeros(v ^ (ONES * 0x5c))) & TOPS;
        if found != 0 {
            return n + (found.trailing_zeros() / 8) as usize;
        }
        n += 8;
    }
    let is_plain = |c: &u8| (0x20..0x80).contains(c) && *c != b'"' && *c != b'\\';
    n + s[n..].iter().take_while(|c| is_plain(c)).count()
}

fn spell(items: &[Item<'_>]) -> String {
    let size: usize = items.iter().map(|i| i.sku.len() + 20).sum();
    let mut out = String::with_capacity(size + 16);
    out += r#"{"items":{"#;
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        spell_string(&mut out, &item.sku);
        out.push(':');
        spell_number(&mut out, item.quantity);
    }
    out + "}}"
}

fn spell_number(out: &mut String, v: u64) {
    if v >= 10 {
        spell_number(out, v / 10);
    }
    out.push(char::from(b'0' + (v % 10) as u8));
}

/// spell_string spells as Go's encoding/json does: the short escapes, \u for other control characters and
/// for U+2028 and U+2029 (line ends to old JavaScript), the rest as it is.
fn spell_string(out: &mut String, text: &str) {
    out.push('"');
    let n = plain(text.as_bytes());
    *out += &text[..n];
    for c in text[n..].chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{0}'..='\u{1f}' | '\u{2028}' | '\u{2029}' => *out += &format!("\\u{:04x}", c as u32),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Frame takes fields off the front of a request: little-endian integers, and bytes after their length.
struct Frame<'a>(&'a [u8]);

impl<'a> Frame<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        if self.0.len() < n {
            return Err(BAD_FRAME.into());
        }
        let (taken, rest) = self.0.split_at(n);
        self.0 = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32> {
        let b = self.take(4)?;
        Ok(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }

    fn bytes(&mut self) -> Result<&'a [u8]> {
        let n = self.u32()?;
        self.take(n as usize)
    }
}

/// resolve merges the siblings of a request.
///
///     request = u32 magic, u32 flags, bytes keyspace, bytes key, u32 count, count * sibling
///     sibling = u32 flags, u64 time, bytes content type, bytes value
fn resolve(request: &[u8]) -> Result<String> {
    let mut f = Frame(request);
    if f.u32()? != REQUEST_MAGIC {
        return Err(BAD_FRAME.into());
    }
    f.u32()?; // flags
    f.bytes()?; // keyspace
    f.bytes()?; // key
    let mut items = Vec::new();
    for cart in 0..f.u32()? {
        let flags = f.u32()?;
        f.take(8)?; // time
        f.bytes()?; // content type
        let value = f.bytes()?;
        // The version before the conflict tells nothing that a maximum needs.
        if flags & FLAG_ANCESTOR == 0 {
            let text = std::str::from_utf8(value).map_err(|_| "not valid UTF-8")?;
            Parser { text, at: 0 }.cart(cart, &mut items)?;
        }
    }
    match f.0 {
        [] => Ok(spell(&merge(items)?)),
        _ => Err(BAD_FRAME.into()),
    }
}

/// response = u32 status, bytes content type, bytes payload
fn response(status: u32, content_type: &str, payload: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(12 + content_type.len() + payload.len());
    out.extend_from_slice(&status.to_le_bytes());
    for field in [content_type, payload] {
        out.extend_from_slice(&(field.len() as u32).to_le_bytes());
        out.extend_from_slice(field.as_bytes());
    }
    out
}

/// dynamo_alloc makes room for a request. It is never freed: every merge begins with fresh memory.
#[no_mangle]
pub extern "C" fn dynamo_alloc(size: usize) -> *mut u8 {
    Box::leak(vec![0; size].into_boxed_slice()).as_mut_ptr()
}

/// dynamo_resolve_v1 returns the address of the answer in the upper half and its length in the lower.
///
/// # Safety
/// The request is what dynamo_alloc made room for.
#[no_mangle]
pub unsafe extern "C" fn dynamo_resolve_v1(request: *const u8, size: usize) -> u64 {
    let answer = match resolve(std::slice::from_raw_parts(request, size)) {
        Ok(merged) => response(STATUS_VALUE, CONTENT_TYPE, &merged),
        Err(message) => response(STATUS_ERROR, "", &message),
    };
    let answer = Box::leak(answer.into_boxed_slice());
    (answer.as_ptr() as u64) << 32 | answer.len() as u64
}
