#!/usr/bin/env bash
# Which planted bugs the simulation finds (crates/planted/seeds.txt, which says what the lines mean).
#
#   planted-seeds.sh find [BUG…]   looks for a seed of each of these bugs, or of all whose seed shows it no more and of those without one;
#                                  goes on where it was stopped. At most SECONDS (600) each, JOBS (all cores) at once. Writes the file.
#   planted-seeds.sh replay N/OF   lives every OF-th of the recorded seeds, from the N-th on (from 0), with the bug and without it
set -uo pipefail
cd "$(dirname "$0")/.."

list=crates/planted/seeds.txt
work=target/planted-seeds
export planted=$work/planted clean=$work/clean
export SECONDS_EACH=${SECONDS_EACH:-600}
jobs=${JOBS:-$(nproc)}

# Both programs are made in one folder, so that what they depend on is built once.
build() {
    mkdir -p "$work/found" || return
    cargo build --quiet --release --locked -p ieum-simulation --features ieum-planted/enabled || return
    cp target/release/ieum-simulation "$planted" || return
    cargo build --quiet --release --locked -p ieum-simulation || return
    cp target/release/ieum-simulation "$clean"
}

# with_bug BUG SECONDS ARGUMENTS…: says what the program says; success if a life ended badly, and not the program.
with_bug() {
    local bug=$1 seconds=$2 said status
    shift 2
    said=$(IEUM_PLANTED=$bug timeout --signal=KILL "$seconds" "$planted" "$@" --no-shrink 2>&1)
    status=$?
    echo "$said"
    [ "$status" -eq 1 ] && grep -q '^make simulate SEED=' <<<"$said"
}

# without_bug SEED NODES LENGTH: success if the life ends well.
without_bug() {
    timeout --signal=KILL 120 "$clean" --seed "$1" --lives 1 --nodes "$2" --length "$3" --hashes --no-shrink >/dev/null 2>&1
}

# shows BUG SEED NODES LENGTH: whether the life shows the bug.
shows() {
    with_bug "$1" 120 --seed "$2" --nodes "$3" --length "$4" --hashes >/dev/null && without_bug "$2" "$3" "$4"
}

# Of what the program says of a life that ends badly: its seed, nodes and length; when it did; what broke.
seed_of() { sed -n 's/^make simulate SEED=\([0-9]*\) NODES=\([0-9]*\) LENGTH=\([0-9]*\).*/\1 \2 \3/p' | head -1; }
after_of() { sed -n 's/^seed [0-9]*, after \([0-9:.]*\): .*/\1/p' | head -1; }
what_of() { sed -n 's/^seed [0-9]*, after [0-9:.]*: //p' | head -1 | cut -c1-100; }

# shorter BUG SEED NODES LENGTH AFTER: the length in seconds of a life with this seed that shows the bug, as short as is found soon.
shorter() {
    local bug=$1 seed=$2 nodes=$3 length=$4 after=$5 minutes seconds try
    IFS=: read -r minutes seconds <<<"$after"
    try=$((10#$minutes * 60 + 10#${seconds%.*} + 1))
    for try in 15 30 60 120 240 480 "$try"; do
        if [ "$try" -lt "$length" ] && shows "$bug" "$seed" "$nodes" "$try"; then
            echo "$try"
            return
        fi
    done
    echo "$length"
}

# find_one BUG: a line for the list, or nothing if none was found in time.
find_one() {
    local bug=$1 first=1 began=$EPOCHREALTIME lives=0 hours=0 left said seed nodes length after short
    while :; do
        left=$(awk -v began="$began" -v now="$EPOCHREALTIME" -v most="$SECONDS_EACH" 'BEGIN {print int(most - now + began)}')
        [ "$left" -gt 0 ] || break
        said=$(with_bug "$bug" "$left" --seed "$first" --lives 1000000) || break
        read -r seed nodes length < <(seed_of <<<"$said")
        lives=$((lives + seed - first + 1))
        hours=$(sed -n 's/^.* lives, \([0-9.]*\) simulated hours.*/\1/p' <<<"$said" | tail -1 | awk -v before="$hours" '{print before + $1}')
        if without_bug "$seed" "$nodes" "$length"; then
            after=$(after_of <<<"$said")
            short=$(shorter "$bug" "$seed" "$nodes" "$length" "$after")
            said=$(with_bug "$bug" 120 --seed "$seed" --nodes "$nodes" --length "$short" --hashes)
            awk -v began="$began" -v now="$EPOCHREALTIME" -v line="$bug seed $seed $nodes $short | $(after_of <<<"$said"), $lives lives of $hours hours in" \
                -v what="$(what_of <<<"$said")" 'BEGIN {printf "%s %.1f s | %s\n", line, now - began, what}'
            return
        fi
        echo "$bug: seed $seed ends badly without it, too" >&2
        first=$((seed + 1))
    done
}

# look BUG: keeps its line if that still holds, or looks for another one.
look() {
    local bug=$1 kind seed nodes length rest found
    [ ! -e "$work/found/$bug" ] || return 0
    read -r _ kind seed nodes length rest < <(grep "^$bug " "$list")
    if [ "$kind" = seed ] && shows "$bug" "$seed" "$nodes" "$length"; then
        grep "^$bug " "$list" >"$work/found/.$bug"
    else
        found=$(find_one "$bug")
        [ -n "$found" ] || found="$bug unfound in $SECONDS_EACH s of one core"
        echo "$found" | tee "$work/found/.$bug"
    fi
    mv "$work/found/.$bug" "$work/found/$bug"
}

# Puts what was found into the list. A reason that somebody gave for a bug that is not found stays.
record() {
    local line bug kind rest new
    while read -r line; do
        read -r bug kind rest <<<"$line"
        new=
        [ -z "$bug" ] || [ "${bug#\#}" != "$bug" ] || [ ! -e "$work/found/$bug" ] || new=$(cat "$work/found/$bug")
        case "$kind $new" in
        'unfound '*' unfound '*) [ "$rest" = 'not looked for yet' ] || new= ;;
        esac
        echo "${new:-$line}"
    done <"$list" >"$work/list" && cp "$work/list" "$list"
}

find_all() {
    build || return
    rm -rf "$work/found.of"
    # What was found with another program says nothing.
    local of
    of=$(cat "$planted" "$clean" | sha256sum)
    [ "$of" = "$(cat "$work/of" 2>/dev/null)" ] || { rm -rf "$work/found" && mkdir "$work/found" && echo "$of" >"$work/of"; }
    export list work
    export -f with_bug without_bug shows seed_of after_of what_of shorter find_one look
    local bugs=("$@") bug
    for bug in "$@"; do rm -f "$work/found/$bug"; done
    [ "$#" -gt 0 ] || mapfile -t bugs < <(awk '$2 == "seed" || $2 == "unfound" {print $1}' "$list")
    # Stopped or not, what was found is kept.
    trap record EXIT
    printf '%s\n' "${bugs[@]}" | xargs -P "$jobs" -I{} bash -c 'look {}'
}

# replay_one BUG SEED NODES LENGTH: a line of the result, as tests have them.
replay_one() {
    local bug=$1 seed=$2 nodes=$3 length=$4
    if ! with_bug "$bug" 120 --seed "$seed" --nodes "$nodes" --length "$length" --hashes >/dev/null; then
        echo "$bug: seed $seed, which showed it, ends well: make planted-seeds"
    elif ! without_bug "$seed" "$nodes" "$length"; then
        echo "$bug: seed $seed ends badly without it, too: make simulate SEED=$seed NODES=$nodes LENGTH=$length"
    else
        echo "test result: ok. 1 passed; 0 failed; $bug by seed $seed"
        return
    fi
    echo "test result: FAILED. 0 passed; 1 failed; $bug"
    exit 1
}

replay() {
    build || return
    local part=${1%/*} of=${1#*/}
    export -f with_bug without_bug replay_one
    awk -v part="$part" -v of="$of" '$2 == "seed" {if (n++ % of == part) print $1, $3, $4, $5}' "$list" |
        xargs -P "$jobs" -L1 bash -c 'replay_one "$@"' _
}

case ${1:-} in
find) shift && find_all "$@" ;;
build) build ;;
replay) replay "${2:?which part: N/OF}" ;;
*) sed -n '2,6s/^# \?//p' "$0" && exit 2 ;;
esac
