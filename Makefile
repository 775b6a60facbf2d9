# The verbs of a developer. Tests and demo run as root: they make network namespaces and load eBPF programs.

CARGO ?= cargo
export PATH := $(PATH):$(HOME)/.cargo/bin
# what --version and build_info say; a source without git may be given one
export TRAFFIC_MIRROR_REVISION ?= $(shell git describe --always --dirty --abbrev=12 --exclude='*' 2>/dev/null)

.PHONY: help setup build demo test test-build fuzz fuzz-build vm vm-arm64 container check bench bless deb deb-arm64 package reproducible clean

# What is shipped bears no path of the machine that has built it. The build of the eBPF object has its own (daemon/build.rs).
REMAP = --remap-path-prefix=$(CURDIR)=/traffic-mirror --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=/cargo \
	--remap-path-prefix=$(shell rustc --print sysroot)=/rust
build demo bench deb deb-arm64: export RUSTFLAGS = $(REMAP)
deb-arm64 vm-arm64: export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER = aarch64-linux-gnu-gcc

# what `make fuzz` runs, for how many seconds each; 0 is until Ctrl-C
TARGET ?= all
TIME ?= 60

help:
	@echo "make demo   the main job on real packets, in network namespaces"
	@echo "make test   every test; says which were the slowest"
	@echo "make fuzz   random input, a minute each; TARGET=frames, fit, hello, quic, toml, programs or hostile, TIME=seconds, SEED=number"
	@echo "make vm     the package under systemd, the packet tests and the kernel's GUE receiver, in virtual machines"
	@echo "make vm-arm64  the arm64 package and the packet tests in emulated arm64 machines"
	@echo "make container  the install chapter of README.md, Ansible and Puppet, in Debian containers with systemd"
	@echo "make check  format, lints, documentation"
	@echo "make bench  what packets, copies and files cost, in ratios; writes docs/bench.json, plots and tables (ten minutes)"
	@echo "make bless  rewrite the golden files; review the diff"
	@echo "make deb    the Debian packages, into target/deb; make deb-arm64 builds those for arm64, too"
	@echo "make package  checks the packages; make reproducible builds them from another directory and compares"

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

vm: setup deb
	./tests/vm/setup.sh
	./tests/vm/run.sh package boot collector packets

vm-arm64: setup deb-arm64
	ARCH=arm64 ./tests/vm/setup.sh
	ARCH=arm64 ./tests/vm/run.sh boot packets

container: setup deb
	./tests/vm/setup.sh
	./tests/container/run.sh install collector ansible puppet

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
	BLESS=1 $(CARGO) test --profile tests --locked --package traffic-mirror-tests --test golden

deb: build
	$(CARGO) build --release --locked --package traffic-mirror-collector --package traffic-mirror-resolver
	./packaging/deb/setup.sh
	./packaging/deb/build.sh

deb-arm64: build
	./packaging/deb/setup.sh arm64
	$(CARGO) build --release --locked --target aarch64-unknown-linux-gnu \
		--package traffic-mirror --package traffic-mirror-collector --package traffic-mirror-resolver
	./packaging/deb/build.sh arm64

package: deb
	./tests/package.sh

reproducible: deb
	./tests/reproducible.sh

clean:
	$(CARGO) clean
