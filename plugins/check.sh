#!/bin/sh
# Compiles the ready-made resolvers anew and compares them with those in the tree: check.sh [CLANG]. Another compiler
# than the one in COMPILER gives other bytes, so there is nothing to compare then; the test of package seal still
# tells whether a source was changed since.
set -eu
clang=${1:-clang}
cd "$(dirname "$0")"
have=$(./build.sh --version "$clang" 2>/dev/null || true)
want=$(cat COMPILER)
if [ "$have" != "$want" ]; then
	echo "plugins-check: not compared: this is ${have:-no clang}; the modules are of $want"
	exit 0
fi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
./build.sh "$out" "$clang"
(cd .. && ${GO:-go} run ./plugins/seal plugins "$out")
diff -r "$out" wasm
echo "plugins-check: the modules are those of their sources"
