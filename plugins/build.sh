#!/bin/sh
# Compiles the ready-made resolvers into the directory OUT: build.sh OUT [CLANG]. With --version for OUT it prints the
# versions of the compiler and its linker instead; the same versions give the same bytes.
set -eu
out=$1
clang=${2:-clang}
if [ "$out" = --version ]; then
	"$clang" --version | head -n 1
	"$("$clang" --print-prog-name=wasm-ld)" --version
	exit 0
fi
cd "$(dirname "$0")"
for source in src/*.c; do
	name=$(basename "$source" .c)
	"$clang" --target=wasm32 -std=c11 -Os -mbulk-memory -ffreestanding -nostdlib \
		-Wall -Wextra -Werror -Wno-unused-function \
		-Wl,--no-entry -Wl,--strip-all -Wl,--stack-first -Wl,-z,stack-size=32768 \
		-o "$out/$name.wasm" "$source"
done
