#!/bin/sh
# Builds the simulator: whole clusters of real nodes as one WebAssembly module. Usage: tools/sim/build.sh OUT [go build flags]
#
# pebble does not build for wasip1: a few definitions are missing that depend on the operating system. They are added to
# a copy of its sources; nothing of it is changed.
#
# Goroutines begin with the stack that most of them come to need: in WebAssembly a stack that grows is dear, and a message
# of the simulated network takes several goroutines. A runtime where that is not said in this way stays as it is.
set -eu
cd "$(dirname "$0")/../.."
case "$1" in /*) out=$1 ;; *) out=$OLDPWD/$1 ;; esac
shift
GO=${GO:-go}
tmp=$(mktemp -d)
trap 'chmod -R u+w "$tmp"; rm -rf "$tmp"' EXIT
pebble=github.com/cockroachdb/pebble/v2
cp -R "$($GO list -m -f '{{.Dir}}' $pebble)" "$tmp/pebble"
chmod -R u+w "$tmp/pebble"
cp -R tools/sim/pebble/. "$tmp/pebble"
cp go.mod "$tmp/sim.mod"
cp go.sum "$tmp/sim.sum"
$GO mod edit -replace "$pebble=$tmp/pebble" "$tmp/sim.mod"
stack=$($GO env GOROOT)/src/runtime/stack.go
sed 's/^var startingStackSize uint32 = fixedStack$/var startingStackSize uint32 = 16384/' "$stack" >"$tmp/stack.go"
printf '{"Replace":{"%s":"%s"}}\n' "$stack" "$tmp/stack.go" >"$tmp/overlay.json"
GOOS=wasip1 GOARCH=wasm GOFLAGS= $GO build -overlay "$tmp/overlay.json" -modfile "$tmp/sim.mod" -trimpath -buildvcs=false -ldflags='-s -w -buildid=' "$@" -o "$out" ./node/sim/guest
