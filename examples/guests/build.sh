#!/bin/sh
# Rebuilds the cart merge in each language that this machine has a compiler for. The small modules are
# committed, Go's go to bin/guests. What could not be built is named, and stays as it is.
set -eu
cd "$(dirname "$0")/../.."
GO=${GO:-go}
here=examples/guests
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# finish MODULE FILE: with samples for the test of the laws, the module becomes FILE.
finish() {
	$GO run ./examples/cart-merge/embed "$1" examples/cart-merge/samples/*.json
	cat "$1" >"$2" # keeps the mode
	echo "$2: $(wc -c <"$2") bytes"
}

without() { echo "left as it is: $1" >&2; }

go_modules() {
	mkdir -p bin/guests
	GOOS=wasip1 GOARCH=wasm $GO build -trimpath -buildmode=c-shared -ldflags=-s -o "$work/go.wasm" ./$here/go
	finish "$work/go.wasm" bin/guests/go.wasm
	GOOS=wasip1 GOARCH=wasm $GO build -trimpath -buildmode=c-shared -ldflags=-s -o "$work/go-parser.wasm" ./$here/go-parser
	finish "$work/go-parser.wasm" bin/guests/go-parser.wasm
	GOOS=wasip1 GOARCH=wasm $GO build -trimpath -ldflags=-s -o "$work/command-go.wasm" ./$here/command-go
	finish "$work/command-go.wasm" bin/guests/command-go.wasm
}

c() {
	clang=${CLANG:-clang}
	if ! command -v "$clang" >/dev/null || ! command -v wasm-ld >/dev/null; then
		without "c/cart.wasm and c-command/cart.wasm, they need clang and wasm-ld"
		return
	fi
	for form in c c-command; do
		"$clang" --target=wasm32 -std=c11 -O2 -ffreestanding -nostdlib -fno-builtin -Wall -Wextra -Werror \
			-Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=65536 -o "$work/c.wasm" $here/$form/cart.c
		finish "$work/c.wasm" $here/$form/cart.wasm
	done
}

rust() {
	for rustc in ${RUSTC:-rustc /usr/bin/rustc}; do
		root=$("$rustc" --print sysroot 2>/dev/null) || continue
		[ -d "$root/lib/rustlib/wasm32-unknown-unknown" ] || continue
		"$rustc" --edition=2021 --target=wasm32-unknown-unknown --crate-type=cdylib \
			-C opt-level=3 -C lto -C panic=abort -C strip=symbols -o "$work/rust.wasm" $here/rust/cart.rs
		finish "$work/rust.wasm" $here/rust/cart.wasm
		return
	done
	without "rust/cart.wasm, it needs rustc with the target wasm32-unknown-unknown"
}

assemblyscript() {
	if ! (mkdir "$work/as" && cd "$work/as" && npm install --silent --no-fund --no-audit --prefix . assemblyscript@0.28.20) >/dev/null 2>&1; then
		without "assemblyscript/cart.wasm, it needs npm and its registry"
		return
	fi
	cp $here/assemblyscript/cart.ts "$work/as/"
	(cd "$work/as" && node_modules/.bin/asc cart.ts --outFile cart.wasm -O3 --runtime stub --use abort=cart/stop)
	finish "$work/as/cart.wasm" $here/assemblyscript/cart.wasm
}

go_modules
c
rust
assemblyscript
