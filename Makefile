# The commands of this project; `make help` lists them. The work is done by cargo and by scripts/.
.DEFAULT_GOAL := help
.PHONY: help run test check deps guest-image ceph-up ceph-down bench tempest clean

# Where state lives between runs: `make run DIR=/srv/umbel`, `make ceph-up DIR=/tmp/ceph`.
RUN_DIR = $(or $(DIR),.umbel/run)
CEPH_DIR = $(or $(DIR),.umbel/ceph)
GUEST = .umbel/guest.img

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## a cloud with a server in it, on local disks; stays up until Ctrl-C. DIR= keeps its state elsewhere
	@scripts/deps.sh run
	@scripts/guest-image.sh $(GUEST)
	cargo build --release --package umbel
	@exec $${CARGO_TARGET_DIR:-target}/release/umbel up --demo --dir $(RUN_DIR) $(ARGS)

test: ## everything: lints, unit tests, three databases, Ceph, QEMU, the real openstack client
	@scripts/test.sh

check: ## what needs no service: format, lints, layers, tidiness, links
	@scripts/test.sh check

deps: ## installs the Debian packages that `make test` needs
	@scripts/deps.sh test

guest-image: ## the small Linux disk that the demo and the tests boot
	@scripts/deps.sh run
	@scripts/guest-image.sh $(GUEST)

ceph-up: ## a private one-node Ceph below DIR (default .umbel/ceph)
	@scripts/deps.sh ceph
	@scripts/ceph-up.sh $(CEPH_DIR)

ceph-down: ## stops it; its data stay
	@scripts/ceph-down.sh $(CEPH_DIR)

bench: ## measures boot, batch, list and token on a private cloud and prints the medians
	@bench/run.sh $(ARGS)

tempest: ## the tests of tests/tempest/pass.txt against a private cloud; ARGS=--all runs every one of the claimed suites
	@scripts/tempest.sh $(ARGS)

clean: ## removes what was built or downloaded; state of a cloud or a Ceph below .umbel stays
	cargo clean
	rm -rf .venv .venv-tempest $(GUEST) $(GUEST).inputs .umbel/guest-debs
