# The verbs of a developer. Tests and demo run as root: they make network namespaces and load eBPF programs.

CARGO ?= cargo
export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: help setup build demo test test-build fuzz fuzz-build vm check bench bless deb clean

# what `make fuzz` runs, for how many seconds each; 0 is until Ctrl-C
TARGET ?= all
TIME ?= 60

help:
	@echo "make demo   the main job on real packets, in network namespaces"
	@echo "make test   every test; says which were the slowest"
	@echo "make fuzz   random input, a minute each; TARGET=frames, fit, toml, programs or hostile, TIME=seconds, SEED=number"
	@echo "make vm     the package under systemd, the packet tests and the kernel's GUE receiver, in virtual machines"
	@echo "make check  format, lints, documentation"
	@echo "make bench  what packets, copies and files cost, in ratios; writes docs/bench.json, plots and tables (ten minutes)"
	@echo "make bless  rewrite the golden files; review the diff"
	@echo "make deb    the Debian package, into target/deb"

setup:
	@./setup.sh

build:
	@./setup.sh demo
	$(CARGO) build --release --locked

demo: build
	$(CARGO) run --release --locked --quiet --package traffic-mirror-tests --bin demo

test: setup build
	./tests/run.sh --workspace

# only compiles
test-build: setup build
	$(CARGO) test --profile tests --locked --workspace --no-run

fuzz-build: setup build
	./tests/fuzz/run.sh build

fuzz: setup build
	./tests/fuzz/run.sh "$(TARGET)" "$(TIME)"

vm: setup build
	./tests/vm/setup.sh
	./packaging/deb/build.sh
	./tests/vm/run.sh package packets

check: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- --deny warnings
# what only the BPF target compiles, as daemon/build.rs builds it
	RUSTC_BOOTSTRAP=1 $(CARGO) clippy --locked --package traffic-mirror-ebpf --bin mirror \
		-Zbuild-std=core --target bpfel-unknown-none --target-dir target/bpf -- --deny warnings
	cd tests/fuzz && $(CARGO) fmt --check && $(CARGO) clippy --locked --release -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items

bench: setup build
	$(CARGO) run --release --locked --quiet --package traffic-mirror-tests --bin bench -- --publish

bless: setup
	BLESS=1 $(CARGO) test --release --locked --package traffic-mirror-tests --test golden

deb: build
	./packaging/deb/build.sh

clean:
	$(CARGO) clean
