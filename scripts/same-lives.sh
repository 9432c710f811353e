#!/usr/bin/env bash
# Lives LIVES (100) short lives in three processes, two of a release build and one of a debug build, and compares the hash of all that happened
# in each and the digest of the view at its end. Both builds have to be there.
set -uo pipefail
cd "$(dirname "$0")/.."

lives=${1:-100}
told=$(mktemp -d)
trap 'rm -rf "$told"; kill $(jobs -p) 2>/dev/null' EXIT

# live NAME PROGRAM
live() {
    # For most of a life so short everything comes to rest.
    "$2" --seed 1 --lives "$lives" --length 10 --hashes >"$told/$1" || echo "$1 failed" >&2
}

live debug target/debug/ieum-simulation &
live release target/release/ieum-simulation
live again target/release/ieum-simulation
wait

for name in debug release again; do
    [ "$(wc -l <"$told/$name")" -eq "$lives" ] || { echo "$name lived $(wc -l <"$told/$name") of $lives lives" >&2; exit 1; }
done
[ "$(cut -d ' ' -f 2 "$told/release" | sort -u | wc -l)" -eq "$lives" ] || { echo 'two seeds are the same life' >&2; exit 1; }
diff "$told/release" "$told/again" && diff "$told/release" "$told/debug"
