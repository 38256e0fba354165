# Bootjack's menu. Each target does all its own set-up on a fresh machine that has Rust, git, make and root or sudo.
#
#   make lab                 the lab of lab.toml: a provisioner VM with the container, and two machines that boot from it
#   make try                 boot one machine from the network, without a provisioner VM, and watch it (FIRMWARE=bios, ARCH=aarch64)
#   make test                all tests: pure ones, real clients, real firmware
#   make lint                formatting and clippy
#   make build               the programs, in target/release
#   make install             the programs, their manual, the unit and its user; after make build (PREFIX, DESTDIR)
#   make installer           kernel and initramfs of the profile disk-image, in target/installer (ARCH=aarch64)
#   make image               bootjackd as a container image, target/image/bootjackd.tar, without a container engine (ARCH=aarch64:
#                            for the other architecture, target/image/bootjackd-aarch64.tar)
#   make provisioner         the image of the lab's provisioner, where `bootjack up` looks for it
#   make bench               how fast it is: DHCP's steps, DHCP, the API and TFTP beside others (BENCH_ROUNDS, BENCH_SECONDS, BENCH_SIZES)

.DEFAULT_GOAL := help
.PHONY: help lab try test lint build install installer image provisioner bench test-needs test-packages test-build packages-build
.SILENT:

ARCH ?= x86_64
FIRMWARE ?= uefi
PREFIX ?= /usr/local
PROGRAMS ?= target/release
LAB_FLAGS ?=
# Has cargo run the programs it built by deploy/as-root.sh.
AS_ROOT = CARGO_TARGET_$$(rustc -vV | sed -n 's/^host: //p' | tr a-z- A-Z_)_RUNNER=$(CURDIR)/deploy/as-root.sh
LAB_GUEST_x86_64 := deploy/guest/debian.sh target/guest/debian-x86_64 x86_64
LAB_GUEST_aarch64 := deploy/guest/tiny.sh target/guest/tiny-aarch64 aarch64
LAB_PACKAGES_x86_64 := lab
LAB_PACKAGES_aarch64 := lab-aarch64

TRY_UNTIL_x86_64 := cloud-init
TRY_UNTIL_aarch64 := "console:bootjack-guest: done"

help:
	sed -n 's/^#   //p' Makefile

packages-build:
	deploy/packages.sh build

build: packages-build
	cargo build --release --workspace

# Builds nothing, so that root needs no compiler. systemd reads units, users and settings below /usr/local/lib and below /usr/lib.
install:
	for program in bootjackd bootjack; do \
		[ -x "$(PROGRAMS)/$$program" ] || { echo "make install: $(PROGRAMS)/$$program is missing; run: make build" >&2; exit 1; }; \
	done
	install -d "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(PREFIX)/share/man/man1" "$(DESTDIR)$(PREFIX)/share/doc/bootjack" \
		"$(DESTDIR)$(PREFIX)/lib/systemd/system" "$(DESTDIR)$(PREFIX)/lib/sysusers.d" "$(DESTDIR)$(PREFIX)/lib/sysctl.d"
	for program in bootjackd bootjack; do \
		install -m 755 "$(PROGRAMS)/$$program" "$(DESTDIR)$(PREFIX)/bin/$$program" || exit 1; \
	done
	"$(PROGRAMS)/bootjack" man "$(DESTDIR)$(PREFIX)/share/man/man1"
	deploy/manual.sh "$(PROGRAMS)/bootjackd" > "$(DESTDIR)$(PREFIX)/share/man/man1/bootjackd.1"
	sed 's,/usr/local/bin/,$(PREFIX)/bin/,' deploy/bootjackd.service > "$(DESTDIR)$(PREFIX)/lib/systemd/system/bootjackd.service"
	install -m 644 deploy/bootjack.sysusers "$(DESTDIR)$(PREFIX)/lib/sysusers.d/bootjack.conf"
	install -m 644 deploy/bootjack.sysctl "$(DESTDIR)$(PREFIX)/lib/sysctl.d/50-bootjack.conf"
	install -m 644 deploy/bootjackd.toml README.md LICENSE "$(DESTDIR)$(PREFIX)/share/doc/bootjack/"

installer:
	deploy/packages.sh build lab
	deploy/installer/build.sh target/installer/$(ARCH) $(ARCH)

# A program that needs no libraries, and boot programs for machines of both architectures. Without ARCH it is for this machine.
IMAGE_ARCH := $(if $(filter file,$(origin ARCH)),$(shell uname -m),$(ARCH))
IMAGE_TAR := target/image/bootjackd$(if $(filter $(IMAGE_ARCH),$(shell uname -m)),,-$(IMAGE_ARCH)).tar

image: packages-build
	deploy/packages.sh lab
	for arch in x86_64 aarch64; do ipxe/programs.sh "target/image/programs/$$arch" "$$arch"; done
	mkdir -p target/image/ipxe
	cp target/image/programs/*/*.efi target/image/programs/*/*.kpxe target/image/ipxe/
	deploy/static.sh $(IMAGE_ARCH)
	cargo build --release --package bootjack
	target/release/bootjack image container --program target/$(IMAGE_ARCH)-unknown-linux-gnu/release/bootjackd \
		--arch $(IMAGE_ARCH) --boot-programs target/image/ipxe --to $(IMAGE_TAR)

provisioner: packages-build
	deploy/packages.sh lab
	cargo build --release --package bootjack
	target/release/bootjack image build provisioner

# As the user who called it: only the packages above want root.
lab: image provisioner
	deploy/guest/debian.sh target/guest/debian-x86_64 x86_64
	target/release/bootjack up --wait=cloud-init --timeout 45m $(LAB_FLAGS)
	echo "make lab: log in with target/release/bootjack shell node-1; end it with target/release/bootjack down"

try: packages-build
	deploy/packages.sh $(LAB_PACKAGES_$(ARCH))
	ipxe/programs.sh target/ipxe $(ARCH)
	$(LAB_GUEST_$(ARCH))
	cargo build --release --workspace
	target/release/bootjack down --lab deploy/lab/try-$(ARCH).toml
	target/release/bootjack up --lab deploy/lab/try-$(ARCH).toml --firmware $(FIRMWARE) --wait=$(TRY_UNTIL_$(ARCH)) --console $(LAB_FLAGS)
	echo "make try: log in with target/release/bootjack shell --lab deploy/lab/try-$(ARCH).toml node-1; end it with target/release/bootjack down --lab deploy/lab/try-$(ARCH).toml"

test-packages:
	deploy/packages.sh build test

test-needs: test-packages
	deploy/unpack.sh target/test/relay isc-dhcp-relay
	deploy/unpack.sh target/test/dhcpd isc-dhcp-server
	deploy/unpack.sh target/test/etcd etcd-server etcd-client
	for arch in x86_64 aarch64; do deploy/guest/tiny.sh "target/guest/tiny-$$arch" "$$arch" || exit 1; done
	deploy/guest/debian.sh target/guest/debian-x86_64 x86_64
	deploy/guest/disk.sh target/guest/disk-x86_64
	deploy/as-root.sh deploy/guest/cloud.sh target/guest/cloud-x86_64
	deploy/provisioner/build.sh target/provisioner/$$(uname -m)
	deploy/installer/build.sh target/installer/x86_64 x86_64
	ipxe/programs.sh target/ipxe all
	deploy/unpack.sh target/test/readers cloud-init ignition
	deploy/unpack.sh target/test/debian-installer debian-installer-12-netboot-amd64
	deploy/as-root.sh tests/container/build.sh target/test/container
	/usr/bin/python3 tests/grpc_client.py setup target/tmp/grpc-client
	/usr/bin/python3 tests/readers.py setup target/tmp/readers

test-build: test-packages
	cargo build --workspace
	cargo test --workspace --no-run

# The tests with network namespaces need root: theirs, sudo's, or that of a user namespace.
test:
	$(MAKE) -j2 test-needs test-build
	env "$(AS_ROOT)" cargo test --workspace --offline

# As root like the tests, for the same reason.
bench:
	deploy/packages.sh build bench
	benches/kea.sh target/bench/kea
	benches/tftpd-hpa.sh target/bench/tftpd-hpa
	cargo bench --bench dhcp --bench field --bench api --bench store --bench tftp --no-run
	cargo bench --offline --bench dhcp
	env "$(AS_ROOT)" cargo bench --offline --bench field
	env "$(AS_ROOT)" cargo bench --offline --bench api
	cargo bench --offline --bench store
	env "$(AS_ROOT)" cargo bench --offline --bench tftp

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
