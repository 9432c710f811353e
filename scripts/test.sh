#!/usr/bin/env bash
# Everything that must hold, in stages with budgets. Ends with one line of counts over all of them.
set -uo pipefail
cd "$(dirname "$0")/.."

passed=0
failed=0
slow=()
log=$(mktemp)
broken=$(mktemp)
trap 'rm -f "$log" "$broken"; kill $(jobs -p) 2>/dev/null' EXIT

# What properties and fuzzers draw is the same everywhere, so that a failure is the change's own; `make properties` and `make fuzz` draw anew.
export PROPTEST_RNG_SEED=${PROPTEST_RNG_SEED:-1}

# stage NAME BUDGET_SECONDS COMMAND…: runs it, counts its tests, says how long it took. What failed is said again at the end, and so is a stage over its
# budget, which has not failed: budgets are those of a machine that does nothing else.
stage() {
    local name=$1 budget=$2 started=$SECONDS status
    shift 2
    echo "== $name"
    "$@" 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    local took=$((SECONDS - started)) ok bad
    ok=$(grep -E '^test result:' "$log" | grep -oE '[0-9]+ passed' | awk '{n += $1} END {print n + 0}')
    bad=$(grep -E '^test result:' "$log" | grep -oE '[0-9]+ failed' | awk '{n += $1} END {print n + 0}')
    if [ "$((ok + bad))" -eq 0 ]; then
        # A stage without tests of its own counts as one.
        if [ "$status" -eq 0 ]; then ok=1; else bad=1; fi
    elif [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then
        bad=1
    fi
    passed=$((passed + ok))
    failed=$((failed + bad))
    if [ "$bad" -gt 0 ]; then
        echo "failed in $name:"
        awk 'told-- > 0 || /^test .*FAILED|^seed [0-9]+, after |make simulate SEED|^error/
            /panicked at/ {print; told = 1}' "$log" | head -40
    fi >>"$broken"
    echo "== $name: $ok passed, $bad failed, ${took} s of ${budget} s"
    [ "$took" -le "$budget" ] || slow+=("$name took ${took} s of ${budget} s")
}

# The programs, as the tests have built them: asked for by themselves some of what they depend on would be built without what tests need of it,
# and most of the rest with it once more.
programs() {
    cargo build --locked --workspace --bins --tests
}

# passes NAME COMMAND…: a command that counts as a test.
passes() {
    local name=$1
    shift
    if "$@"; then
        echo "test result: ok. 1 passed; 0 failed; $name"
    else
        echo "test result: FAILED. 0 passed; 1 failed; $name"
        return 1
    fi
}

# Short drills: data centers of this machine are lost under load, and nothing may be with them. A drill counts as a test.
drills() {
    programs || return
    local name well=0
    for name in power-panel split half-dead all-dark; do
        passes "$name" target/debug/drill "$name" --short || well=1
    done
    return "$well"
}

# Both at once, on a core each.
both() {
    "$1" &
    local first=$! well=0
    "$2" || well=1
    wait "$first" || well=1
    return "$well"
}

# Whole lives from seeds: the same is the same in every build, and those that are always lived, and fresh ones, end well. A failure prints its seed.
simulation() {
    programs && cargo build --release --locked -p ieum-simulation || return
    local well=0
    passes 'two processes and two builds live the same' scripts/same-lives.sh 100 || well=1
    fixed_lives() { passes "seeds $1 to $(($1 + 149))" target/release/ieum-simulation --seed "$1" --lives 150 --no-shrink; }
    fresh_lives() { passes 'fresh seeds' target/release/ieum-simulation --minutes 3 --no-shrink; }
    first_half() { fixed_lives 1; }
    second_half() { fixed_lives 151; }
    both first_half second_half || well=1
    both fresh_lives fresh_lives || well=1
    return "$well"
}

# All of the bugs that the simulation finds, not a third in turn: it is soon done, and a seed that has grown old is seen at once.
planted_by_seed() {
    scripts/planted-seeds.sh replay 0/1
}

# The crash tests mount file systems: with mount(2), so no package is needed, but root and /dev/fuse are.
[ -c /dev/fuse ] || modprobe fuse 2>/dev/null
if [ "$(id -u)" -ne 0 ] || [ ! -c /dev/fuse ]; then
    echo "Not root, or no /dev/fuse (modprobe fuse; in a container: --device /dev/fuse --cap-add SYS_ADMIN):" >&2
    echo "the tests of drill and those of ieum called power and disk will FAIL." >&2
fi

# The drills' slow network is made of TUN devices.
[ -c /dev/net/tun ] || { modprobe tun && mkdir -p /dev/net && mknod /dev/net/tun c 10 200; } 2>/dev/null
[ -c /dev/net/tun ] || echo "No /dev/net/tun (modprobe tun; in a container: --device /dev/net/tun --cap-add NET_ADMIN): the test of drill called net will FAIL." >&2

# The log's tests run a cluster of Debian's etcd, the drills' put data centers into namespaces.
scripts/packages.sh openssl:openssl etcd:etcd-server etcdctl:etcd-client ip:iproute2 nft:nftables ||
    echo "Tests of log-etcd, ieum and drill will FAIL." >&2

stage format 30 cargo fmt --all --check
stage lint 300 cargo clippy --workspace --all-targets --locked -- -D warnings

# What the last stages need is built beside the tests and drills, of the time that these leave: they wait for much. What it says is said again by the
# stage that needs it, if it failed.
nice -n 19 bash -c 'make --no-print-directory deny-tool; scripts/planted-seeds.sh build' >/dev/null 2>&1 &
builds=$!
stage tests 1300 cargo test --workspace --locked --no-fail-fast
stage drills 600 drills
wait "$builds"
stage simulation 900 simulation
stage 'planted by seed' 300 planted_by_seed
stage deny 240 make --no-print-directory deny

cat "$broken"
whole=2700
[ "$SECONDS" -le "$whole" ] || slow+=("everything took $SECONDS s of $whole s")
[ "${#slow[@]}" -eq 0 ] || printf 'over its budget: %s\n' "${slow[@]}"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
