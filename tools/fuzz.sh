#!/bin/sh
# Runs every fuzz target of the module, one after the other, FUZZTIME each.
#
# Before Go 1.27 the fuzzer can report "context deadline exceeded" of its own clock when FUZZTIME ends
# (go.dev/issue/75804). That finds nothing, so such a run is made again; a failing input is never passed over.
set -eu
GO=${GO:-go}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# The output is kept beside being shown, and the exit status is that of the test.
fuzz() {
	(cd "$1" && $GO test -run '^$' -fuzz "^$2\$" -fuzztime "${FUZZTIME:-3s}" -fuzzminimizetime 1s .) >"$log" 2>&1 && status=0 || status=$?
	cat "$log"
	return "$status"
}

n=0
for dir in $($GO list -f '{{if .TestGoFiles}}{{.Dir}}{{end}}{{if .XTestGoFiles}} {{.Dir}}{{end}}' ./... | tr ' ' '\n' | sort -u); do
	for target in $(grep -hoE '^func Fuzz[A-Za-z0-9_]+' "$dir"/*_test.go 2>/dev/null | sed 's/func //' | sort -u); do
		echo "fuzz $dir $target"
		tries=1
		until fuzz "$dir" "$target"; do
			grep -q 'context deadline exceeded' "$log" && ! grep -qE 'Failing input|panic:' "$log" && [ "$tries" -lt 3 ] || exit 1
			tries=$((tries + 1))
		done
		n=$((n + 1))
	done
done
[ "$n" -gt 0 ] || { echo "no fuzz target found"; exit 1; }
echo "$n fuzz targets ran"
