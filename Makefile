# Bootjack's menu. Each target does all its own set-up on a fresh machine that has Rust, git, make and root or sudo.
#
#   make lab                 boot a machine from the network and watch it (FIRMWARE=bios, ARCH=aarch64)
#   make test                all tests: pure ones, real clients, real firmware
#   make lint                formatting and clippy
#   make build               the programs, in target/release

.DEFAULT_GOAL := help
.PHONY: help lab test lint build guests-test packages-build
.SILENT:

ARCH ?= x86_64
FIRMWARE ?= uefi
LAB_FLAGS ?=
LAB_GUEST_x86_64 := deploy/guest/debian.sh target/guest/debian-x86_64 x86_64
LAB_GUEST_aarch64 := deploy/guest/tiny.sh target/guest/tiny-aarch64 aarch64
LAB_PACKAGES_x86_64 := lab
LAB_PACKAGES_aarch64 := lab-aarch64

help:
	sed -n 's/^#   //p' Makefile

packages-build:
	deploy/packages.sh build

build: packages-build
	cargo build --release --workspace

lab: packages-build
	deploy/packages.sh $(LAB_PACKAGES_$(ARCH))
	ipxe/programs.sh target/ipxe $(ARCH)
	$(LAB_GUEST_$(ARCH))
	cargo build --release --workspace
	target/release/bootjack lab --arch $(ARCH) --firmware $(FIRMWARE) $(LAB_FLAGS)

guests-test:
	deploy/packages.sh build test
	deploy/guest/tiny.sh target/guest/tiny-x86_64 x86_64

# The tests with network namespaces need root: theirs, sudo's, or that of a user namespace.
test: guests-test
	cargo build --workspace
	cargo test --workspace --no-run
	CARGO_TARGET_$$(rustc -vV | sed -n 's/^host: //p' | tr a-z- A-Z_)_RUNNER=$(CURDIR)/deploy/as-root.sh cargo test --workspace --offline

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
