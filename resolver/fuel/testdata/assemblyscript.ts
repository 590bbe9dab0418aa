// A guest in AssemblyScript: floats, strings, maps, sorting, garbage.
// Build: asc guest.ts -O3 --runtime incremental --use abort= --enable simd -o assemblyscript.wasm

export function nbody(steps: i32): f64 {
  const n = 5;
  const x = new StaticArray<f64>(n), y = new StaticArray<f64>(n), vx = new StaticArray<f64>(n), vy = new StaticArray<f64>(n), m = new StaticArray<f64>(n);
  for (let i = 0; i < n; i++) { x[i] = i * 1.7 + 0.3; y[i] = 4.0 / (i + 1); m[i] = 1.0 + i * 0.25; }
  for (let s = 0; s < steps; s++) {
    for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) if (i != j) {
      const dx = x[j] - x[i], dy = y[j] - y[i];
      const d = dx * dx + dy * dy + 0.01;
      const f = 0.001 * m[j] / (d * Math.sqrt(d));
      vx[i] += dx * f; vy[i] += dy * f;
    }
    for (let i = 0; i < n; i++) { x[i] += vx[i]; y[i] += vy[i]; }
  }
  let e: f64 = 0;
  for (let i = 0; i < n; i++) e += x[i] * y[i];
  return e;
}

export function words(n: i32): i32 {
  const m = new Map<string, i32>();
  for (let i = 0; i < n; i++) {
    const k = "key" + ((i * 7919) % 101).toString();
    m.set(k, (m.has(k) ? m.get(k) : 0) + 1);
  }
  const keys = m.keys();
  keys.sort();
  let h: i32 = 17;
  for (let i = 0; i < keys.length; i++) {
    const k = keys[i];
    for (let j = 0; j < k.length; j++) h = h * 31 + k.charCodeAt(j);
    h = h * 31 + m.get(k);
  }
  return h;
}

export function sieve(n: i32): i32 {
  const a = new Uint8Array(n);
  let c = 0;
  for (let i = 2; i < n; i++) {
    if (a[i]) continue;
    c++;
    for (let j = i + i; j < n; j += i) a[j] = 1;
  }
  return c;
}

export function fib(n: i32): i32 { return n < 2 ? n : fib(n - 1) + fib(n - 2); }

export function vectors(n: i32): f32 {
  let v = f32x4(1, 2, 3, 4), w = f32x4.splat(0);
  for (let i = 0; i < n; i++) {
    w = f32x4.add(w, f32x4.mul(v, f32x4.splat(<f32>i)));
    w = f32x4.sqrt(f32x4.max(w, v));
  }
  return f32x4.extract_lane(w, 0) + f32x4.extract_lane(w, 1) * f32x4.extract_lane(w, 2) - f32x4.extract_lane(w, 3);
}

export function tight(n: i32): i32 {
  let h: u32 = 2166136261;
  for (let i = 0; i < n; i++) h = (h ^ <u32>i) * 16777619;
  return h;
}
