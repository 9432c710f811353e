#!/usr/bin/env bash
# For each bug in crates/planted/planted.txt, or each of those named: switches it on and runs the tests that must catch it. A test must pass
# without the bug and fail with it.
set -uo pipefail
cd "$(dirname "$0")/.."

only=" $* "
caught=0
missed=0
declare -A sound

run() { # package, target, test
    local test=(cargo test --quiet --locked -p "$1" --features ieum-planted/enabled "--$2" ${3:+"$3"})
    # Built apart: a slow build is no test that hangs.
    "${test[@]}" --no-run || return
    # A test that waits for ever for what the bug took away has not passed either.
    timeout --signal=KILL 120 "${test[@]}" -- --exact "$4" 2>&1
}

# Tests of the real binary mount it; cargo builds another package's programs only when told to.
cargo build --quiet --locked -p ieum-drill --bins || exit 1

printf '%-26s %-9s %s\n' BUG RESULT TEST
while read -r bug package target name; do
    case $bug in '' | '#'*) continue ;; esac
    [ "$#" -eq 0 ] || [[ $only = *" $bug "* ]] || continue
    kind=${target%%=*}
    file=${target#*=}
    [ "$file" = "$target" ] && file=
    key="$package $target $name"
    if [ -z "${sound[$key]:-}" ]; then
        output=$(run "$package" "$kind" "$file" "$name")
        if grep -qE '^test result: ok. 1 passed' <<<"$output"; then sound[$key]=yes; else sound[$key]=no; fi
    fi
    output=$(IEUM_PLANTED=$bug run "$package" "$kind" "$file" "$name")
    status=$?
    if [ "${sound[$key]}" = yes ] && { [ "$status" -eq 137 ] || grep -qE '^test result: FAILED. 0 passed; 1 failed' <<<"$output"; }; then
        result=caught
        caught=$((caught + 1))
    else
        result=MISSED
        missed=$((missed + 1))
        [ "${sound[$key]}" = yes ] || result='UNSOUND'
    fi
    printf '%-26s %-9s %s %s %s\n' "$bug" "$result" "$package" "$target" "$name"
done <crates/planted/planted.txt

echo "planted: $caught passed, $missed failed"
[ "$missed" -eq 0 ]
