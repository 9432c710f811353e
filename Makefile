# What can be done here. Each target says what it needs; `make test` installs what tests need by itself.

CARGO ?= cargo
TOOLS := $(CURDIR)/.tools
# Commands or files, and Debian's packages that have them.
DRILL_NEEDS := etcd:etcd-server etcdctl:etcd-client ip:iproute2 nft:nftables mkfs.ext4:e2fsprogs '/usr/lib/*/faketime/libfaketime.so.1:libfaketime'

.PHONY: help run cluster test check fmt lint fast deny deny-tool drill bench join apart planted planted-seeds simulate simulate-speed fuzz properties

help: ## Show this list.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

run: ## Run the product on loopback, with its data in ./data.
	$(CARGO) run --release --locked -p ieum -- serve

test: ## Run everything: lints, licences, all tests. Ends with the counts.
	scripts/test.sh

check: fmt lint fast ## Formatting, lints and the fast tests.

fmt:
	$(CARGO) fmt --all --check

lint:
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

fast:
	$(CARGO) test --workspace --locked --lib --bins

deny: deny-tool ## Check dependencies: bans, licences, sources.
	PATH="$(TOOLS)/bin:$$PATH" $(CARGO) deny check bans licenses sources

deny-tool:
	@command -v cargo-deny >/dev/null || test -x $(TOOLS)/bin/cargo-deny || CARGO_PROFILE_DEV_DEBUG=0 $(CARGO) install --debug --locked --root $(TOOLS) cargo-deny@0.20.2

cluster: ## Run a cell over three data centers on this machine (namespaces; NODES=2 for two nodes in each). Needs root; installs etcd-server and iproute2.
	$(CARGO) build --release --locked -p ieum
	scripts/cluster.sh

drill: ## Lose data centers on purpose: NAME (all, which goes on where it was stopped), RUNS (5), SHORT=1, NODES (1 to 9 in each; results are kept of 1 only). Needs root, /dev/fuse (all-dark), /dev/net/tun (slow-link) and loop devices (half-dead, disk-full); installs what it needs.
	scripts/packages.sh $(DRILL_NEEDS)
	$(CARGO) build --release --locked -p ieum -p ieum-drill
	target/release/drill $(or $(NAME),all) --runs $(or $(RUNS),5) $(if $(SHORT),--short) --nodes $(or $(NODES),1)

bench: ## Measure; QUICK=1 for smaller sizes. Table and bench/results/latest.json.
	$(CARGO) run --release --locked -p ieum -- bench $(if $(QUICK),--quick)

join: ## Measure how long a node with an empty disk takes to join a cell of MESSAGES (1000000) that serves. Installs what it needs.
	scripts/packages.sh etcd:etcd-server etcdctl:etcd-client
	$(CARGO) build --release --locked -p ieum -p ieum-drill --bins
	target/release/ieum-join --messages $(or $(MESSAGES),1000000)

apart: ## Measure a cell over three data centers beside one on one machine, in turns: ROUNDS (5); GO_ON=1 keeps those that are there. Needs root and /dev/net/tun; installs what it needs.
	scripts/packages.sh $(DRILL_NEEDS)
	$(CARGO) build --release --locked -p ieum -p ieum-drill --bins
	target/release/ieum-apart --rounds $(or $(ROUNDS),5) $(if $(GO_ON),--go-on)

planted: ## Show for each planted bug which test catches it: BUGS (all).
	scripts/planted.sh $(BUGS)

planted-seeds: ## Look for a seed by which the simulation finds each planted bug of logic: BUGS (all whose seed does no more, and those without one), at most SECONDS (600) each. Goes on where it was stopped.
	SECONDS_EACH=$(or $(SECONDS),600) scripts/planted-seeds.sh find $(BUGS)

simulate: ## Live cells from seeds, faults and all: fresh ones until one ends badly, or for MINUTES; SEED shows one life (NODES, LENGTH in s and WITHOUT narrow it, FROM and TO in s choose what is shown; LIVES lives several).
	$(CARGO) run --release --locked -p ieum-simulation -- $(if $(SEED),--seed $(SEED) --lives $(or $(LIVES),1)) $(if $(MINUTES),--minutes $(MINUTES)) \
		$(if $(NODES),--nodes $(NODES)) $(if $(LENGTH),--length $(LENGTH)) $(if $(WITHOUT),--without $(WITHOUT)) $(if $(FROM),--from $(FROM)) $(if $(TO),--to $(TO))

simulate-speed: ## Measure how many times faster than life one core is, with a cell of six nodes.
	$(CARGO) build --release --locked -p ieum-simulation
	@git log -1 --format='commit %h' 2>/dev/null || true
	target/release/ieum-simulation --speed

fuzz: ## Damage valid input and watch every decoder, for SECONDS (30) per target.
	FUZZ_SECONDS=$(or $(SECONDS),30) $(CARGO) test --workspace --locked --no-fail-fast --test fuzz
	FUZZ_SECONDS=$(or $(SECONDS),30) $(CARGO) test --locked -p ieum --lib damaged_settings
	FUZZ_SECONDS=$(or $(SECONDS),30) $(CARGO) test --locked -p ieum-peer -p ieum-log-etcd --lib fuzz::

properties: ## Draw the property tests anew, SEEDS (20) times; a failure prints its seed.
	scripts/properties.sh $(or $(SEEDS),20)
