#!/bin/sh
# Lets the simulator hunt for the mutants. Usage: tools/sim/mutants.sh [flags of the test]
set -eu
cd "$(dirname "$0")/../.."
GO=${GO:-go}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
overlay=$($GO run ./node/sim/mutants/generate "$tmp")
$GO test -c -tags mutants -overlay "$overlay" -o "$tmp/mutants.test" ./node/sim/mutants
cd node/sim/mutants
"$tmp/mutants.test" -test.run '^TestMutants$' -test.timeout 3h -test.v "$@"
