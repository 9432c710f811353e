#!/usr/bin/env bash
# Lives LIVES (100) short lives in processes of their own, twice in a release build and once in a debug build, and compares the hash of all that happened
# in each and the digest of the view at its end. Both builds have to be there.
set -uo pipefail
cd "$(dirname "$0")/.."

lives=${1:-100}
[ "$lives" -ge 2 ] || { echo 'at least 2 lives' >&2; exit 2; }
told=$(mktemp -d)
trap 'rm -rf "$told"; kill $(jobs -p) 2>/dev/null' EXIT

# live NAME BUILD FIRST LIVES
live() {
    # For most of a life so short everything comes to rest.
    "target/$2/ieum-simulation" --seed "$3" --lives "$4" --length 10 --hashes >"$told/$1" || echo "$1 failed" >&2
}

# The debug build is several times slower: two thirds of its lives take as long as all the rest.
most=$((lives * 2 / 3))
live debug debug 1 "$most" &
live release release 1 "$lives"
live again release 1 "$lives"
live rest debug "$((most + 1))" "$((lives - most))"
wait
cat "$told/rest" >>"$told/debug"

for name in debug release again; do
    [ "$(wc -l <"$told/$name")" -eq "$lives" ] || { echo "$name lived $(wc -l <"$told/$name") of $lives lives" >&2; exit 1; }
done
[ "$(cut -d ' ' -f 2 "$told/release" | sort -u | wc -l)" -eq "$lives" ] || { echo 'two seeds are the same life' >&2; exit 1; }
diff "$told/release" "$told/again" && diff "$told/release" "$told/debug"
