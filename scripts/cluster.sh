#!/usr/bin/env bash
# Three data centers on this machine: namespaces dc-a, dc-b and dc-c, in each a member of etcd and a node (two with NODES=2), joined by a
# bridge in the namespace `world`, which this machine is connected to. Ctrl-C stops everything and removes the namespaces. Data stays in DATA.
set -euo pipefail
cd "$(dirname "$0")/.."

ieum=${IEUM:-target/release/ieum}
data=${DATA:-data-cluster}
nodes=${NODES:-1}
dcs=(a b c)

fail() { echo "cluster: $*" >&2; exit 1; }
[ "$(id -u)" -eq 0 ] || fail "namespaces need root"
scripts/packages.sh etcd:etcd-server ip:iproute2 || exit 1
[ -x "$ieum" ] || fail "no $ieum: cargo build --release"
case $nodes in 1 | 2) ;; *) fail "NODES is 1 or 2" ;; esac
for ns in world dc-a dc-b dc-c; do
    ip netns list | grep -qw "$ns" && fail "the namespace $ns is there already; is another cluster running? (ip netns del $ns)"
done
mkdir -p "$data"
ieum=$(realpath "$ieum") data=$(realpath "$data")

pids=()
stop() {
    trap '' INT TERM
    # Nodes before etcd, the last started first: what they were given is appended.
    local at
    for ((at = ${#pids[@]} - 1; at >= 0; at--)); do
        kill "${pids[at]}" 2>/dev/null && wait "${pids[at]}" 2>/dev/null || true
    done
    local ns
    for ns in world dc-a dc-b dc-c; do ip netns del "$ns" 2>/dev/null || true; done
    ip link del ieum-world 2>/dev/null || true
    echo "Stopped. The data is in $data."
}
trap 'stop; exit 0' INT TERM
trap 'stop' EXIT

# 10.77.0.254 is the bridge, .253 this machine, .1 to .3 the data centers.
ip netns add world
ip -n world link set lo up
ip -n world link add bridge type bridge
ip -n world addr add 10.77.0.254/24 dev bridge
ip -n world link set bridge up
join() { # NAMESPACE NAME ADDRESS
    ip link add "$2" type veth peer name "up-$2" netns world
    ip -n world link set "up-$2" master bridge up
    if [ -n "$1" ]; then
        ip link set "$2" netns "$1"
        ip -n "$1" addr add "$3/24" dev "$2"
        ip -n "$1" link set "$2" up
    else
        ip addr add "$3/24" dev "$2"
        ip link set "$2" up
    fi
}
join "" ieum-world 10.77.0.253
for at in 0 1 2; do
    ns=dc-${dcs[at]}
    ip netns add "$ns"
    ip -n "$ns" link set lo up
    join "$ns" "net-${dcs[at]}" "10.77.0.$((at + 1))"
done

members=
for at in 0 1 2; do members+=${members:+,}${dcs[at]}=http://10.77.0.$((at + 1)):2380; done
for at in 0 1 2; do
    host=10.77.0.$((at + 1))
    ip netns exec "dc-${dcs[at]}" etcd --name "${dcs[at]}" --data-dir "$data/etcd-${dcs[at]}" \
        --listen-client-urls "http://$host:2379" --advertise-client-urls "http://$host:2379" \
        --listen-peer-urls "http://$host:2380" --initial-advertise-peer-urls "http://$host:2380" \
        --initial-cluster "$members" --initial-cluster-state new \
        --pre-vote --heartbeat-interval 100 --election-timeout 500 --snapshot-count 2000 \
        >>"$data/etcd-${dcs[at]}.log" 2>&1 &
    pids+=($!)
done

# node NUMBER DC_INDEX PORT_OFFSET [--found]: starts a node.
peers='["http://10.77.0.1:7400", "http://10.77.0.2:7400", "http://10.77.0.3:7400"]'
endpoints=() addresses=() node_pids=()
node() {
    local number=$1 at=$2 offset=$3 host=10.77.0.$(($2 + 1)) name=node-$1
    shift 3
    local second=$(((at + 1) % 3 + 1)) third=$(((at + 2) % 3 + 1))
    cat >"$data/$name.toml" <<TOML
[node]
number = $number
dc = "${dcs[at]}"
data = "$data/$name"

[log]
engine = "etcd"
endpoints = ["http://$host:2379", "http://10.77.0.$second:2379", "http://10.77.0.$third:2379"]

[peers]
listen = "$host:$((7400 + offset))"
addresses = $peers
trusted_network = true # nobody else is in these namespaces

[listen]
address = "$host:$((8080 + offset))"
endpoints = ["http://$host:$((8080 + offset))"]
TOML
    [ ! -f "$data/$name.log" ] || mv "$data/$name.log" "$data/$name.log.before"
    ip netns exec "dc-${dcs[at]}" "$ieum" serve --config "$data/$name.toml" "$@" >"$data/$name.out" 2>>"$data/$name.log" &
    node_pids[number]=$!
    pids+=("$!")
    endpoints+=("http://$host:$((8080 + offset))")
    addresses[number]="Node $number in data center ${dcs[at]}: http://$host:$((8080 + offset))"
}
# served NUMBER: waits until the node serves, or has halted because the log is lost.
served() {
    local number=$1 waited=0 log=$data/node-$1.log
    until grep -q "Ieum is running" "$data/node-$number.out"; do
        kill -0 "${node_pids[number]}" 2>/dev/null || fail "node $number ended: $(tail -n 3 "$log")"
        if grep -q "this node has halted" "$log"; then
            echo "Node $number has halted, because the log is lost (docs/operating/log-lost.md): $ieum log reseed --config $data/node-1.toml"
            return
        fi
        waited=$((waited + 1))
        [ "$waited" -lt 600 ] || fail "node $number does not serve after a minute: $log"
        sleep 0.1
    done
    echo "${addresses[number]}"
}
known() { "$ieum" node list --config "$data/node-1.toml" | grep -q "^Node $1 "; }

# Those that have data first, all at once: they may need each other.
again=()
for ((number = 1; number <= 3 * nodes; number++)); do
    if [ -d "$data/node-$number/log" ]; then
        node "$number" $(((number - 1) % 3)) $(((number - 1) / 3))
        again+=("$number")
    fi
done
for number in "${again[@]}"; do served "$number"; done
for ((number = 1; number <= 3 * nodes; number++)); do
    at=$(((number - 1) % 3)) offset=$(((number - 1) / 3))
    [ -z "${node_pids[number]:-}" ] || continue
    if [ "$number" -eq 1 ]; then
        node 1 0 0 --found
    else
        known "$number" || "$ieum" node add "$number" --dc "${dcs[at]}" --config "$data/node-1.toml" >/dev/null
        node "$number" "$at" "$offset"
    fi
    served "$number"
done

servers=$(IFS=,; echo "${endpoints[*]}")
cat <<WORDS

A cell over three data centers is running. From this machine:
  export IEUM_SERVER=$servers
  $ieum account register --handle minji --name 민지
  $ieum chat
Who is a member and how they are:  $ieum node list --config $data/node-1.toml
Cut a data center off:             ip -n world link set up-net-a down      (and: up)
A shell inside of one:             ip netns exec dc-a bash
Stop with Ctrl-C. / 종료하려면 Ctrl-C를 누르세요.
WORDS
wait
