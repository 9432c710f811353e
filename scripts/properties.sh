#!/usr/bin/env bash
# Runs every property test with fresh seeds, SEEDS times, and stops at the first that fails: PROPTEST_RNG_SEED=… cargo test draws the same again.
set -euo pipefail
cd "$(dirname "$0")/.."

# Files with property tests, as arguments for cargo: the crate's library, or the test program that a file belongs to.
targets() {
    grep -rlE 'proptest!|TestRunner::new' crates --include='*.rs' | while IFS=/ read -r _ crate kind rest; do
        case $kind/$rest in
            tests/*) program=${rest%%/*}; echo "-p ieum-$crate --test ${program%.rs}" ;;
            *) echo "-p ieum-$crate --lib" ;;
        esac
    done | sort -u
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
mapfile -t programs < <(targets)
for round in $(seq "$1"); do
    seed=$(od -An -N6 -tu8 /dev/urandom | tr -d ' ')
    for program in "${programs[@]}"; do
        # shellcheck disable=SC2086 # the words are arguments
        PROPTEST_RNG_SEED=$seed cargo test --locked --quiet $program >"$log" 2>&1 ||
            { cat "$log"; echo "PROPTEST_RNG_SEED=$seed cargo test $program fails" >&2; exit 1; }
    done
    echo "seed $seed: ${#programs[@]} programs passed ($round of $1)"
done
