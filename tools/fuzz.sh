#!/bin/sh
# Runs every fuzz target of the module, one after the other, FUZZTIME each.
set -eu
GO=${GO:-go}
n=0
for dir in $($GO list -f '{{if .TestGoFiles}}{{.Dir}}{{end}}{{if .XTestGoFiles}} {{.Dir}}{{end}}' ./... | tr ' ' '\n' | sort -u); do
	for target in $(grep -hoE '^func Fuzz[A-Za-z0-9_]+' "$dir"/*_test.go 2>/dev/null | sed 's/func //' | sort -u); do
		echo "fuzz $dir $target"
		(cd "$dir" && $GO test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-3s}" -fuzzminimizetime 1s . )
		n=$((n + 1))
	done
done
[ "$n" -gt 0 ] || { echo "no fuzz target found"; exit 1; }
echo "$n fuzz targets ran"
