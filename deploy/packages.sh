#!/usr/bin/env bash
# Installs the operating system's packages that Bootjack's build, lab and tests need.
#   in:      one or more groups:  build  lab  lab-aarch64  test  bench   (test includes both labs)
#   out:     the packages, installed from the machine's own sources; only what is missing, without
#            recommended extras; no output and no network when nothing is missing
#   refuses: systems other than Debian and its relatives, and macOS (Homebrew); users without sudo
# No package named here starts a service: DHCP and TFTP appear as clients only, and dnsmasq-base has no unit. The servers of
# Kea and tftpd-hpa, which do, are unpacked and not installed (benches/kea.sh, benches/tftpd-hpa.sh), and so is the relay agent
# of the tests and their etcd (deploy/unpack.sh).
set -euo pipefail

fail() { echo "packages.sh: $*" >&2; exit 1; }
say() { echo "packages.sh: $*" >&2; }

# A Rust build with bundled C (ring, sqlite and the like).
build="gcc libc6-dev make pkg-config ca-certificates git"

# Virtual machines, their firmware and boot programs, and what builds the guests under deploy/guest/.
lab="qemu-system-x86 qemu-utils ipxe ipxe-qemu ovmf seabios
     busybox-static binutils cpio gzip xz-utils zstd kmod mmdebstrap libarchive-tools uidmap debian-archive-keyring
     iproute2 openssh-client curl ca-certificates e2fsprogs util-linux"

# Emulated aarch64 machines on top of the above.
lab_aarch64="qemu-system-arm qemu-efi-aarch64"

# Real clients and tools for the tests in network namespaces.
test="isc-dhcp-client udhcpc fdisk mtools e2fsprogs systemd dbus-daemon dnsmasq-base tftp-hpa atftp tcpdump python3 python3-venv python3-yaml libcap2-bin procps
      kea-admin buildah podman runc genisoimage"

# Makes a disk that a PC boots (deploy/guest/disk.sh); Debian has it for PCs alone.
case $(uname -m) in x86_64) test="$test syslinux syslinux-common" ;; esac

# Readers of the documents that profiles make, and what an unpacked cloud-init (deploy/unpack.sh) imports to hold them against its
# schema; installed, it would configure this machine.
readers="debconf perl grub-common python3-yaml python3-jsonschema python3-configobj python3-jinja2 python3-oauthlib
         python3-requests python3-jsonpatch python3-serial python3-netifaces"

# What `make bench` measures against, perfdhcp (in kea-admin), what brings broadcasts to its socket, and what tftpd-hpa links.
bench="dnsmasq-base kea-admin nftables iproute2 libwrap0"

packages_of() {
    case $1 in
        build) echo "$build" ;;
        lab) echo "$lab" ;;
        lab-aarch64) echo "$lab $lab_aarch64" ;;
        test) echo "$lab $lab_aarch64 $test $readers" ;;
        bench) echo "$bench" ;;
        *) fail "wanted groups out of: build lab lab-aarch64 test bench, got '$1'" ;;
    esac
}

on_macos() {
    local wanted="" group
    for group in "$@"; do
        case $group in
            build) xcode-select -p >/dev/null 2>&1 || fail "wanted a C compiler, got none; run: xcode-select --install" ;;
            lab | lab-aarch64) wanted="qemu" ;;
            bench) say "group bench is Linux-only (network namespaces)" ;;
            test) say "group test is Linux-only (network namespaces, dhclient); installing QEMU alone"; wanted="qemu" ;;
        esac
    done
    case " $* " in *" lab"*) say "guest images (deploy/guest) and boot programs (ipxe/programs.sh) are built on Linux only" ;; esac
    [ -n "$wanted" ] || return 0
    command -v brew >/dev/null || fail "wanted Homebrew, got none; install Homebrew, or QEMU by other means"
    brew list --versions "$wanted" >/dev/null && return 0
    say "installing with Homebrew: $wanted"
    brew install "$wanted"
}

missing_of() {
    local package
    for package in "$@"; do
        # "installed" alone is not asked for: a package on hold counts too.
        case $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true) in
            installed) ;;
            *) echo "$package" ;;
        esac
    done | sort -u
}

on_debian() {
    local group missing as_root=() log
    # shellcheck disable=SC2046  # words are package names
    missing=$(missing_of $(for group in "$@"; do packages_of "$group"; done))
    [ -n "$missing" ] || return 0
    missing=${missing//$'\n'/ }

    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null ||
            fail "wanted root or sudo, got user $(id -un) without sudo; as root run: apt-get install --no-install-recommends $missing"
        sudo -n true 2>/dev/null || [ -t 0 ] ||
            fail "wanted sudo without a password (no terminal to ask on), got a prompt; as root run: apt-get install --no-install-recommends $missing"
        as_root=(sudo)
    fi
    local apt=(${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get -qq -y
        -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 -o APT::Install-Recommends=false)

    log=$(mktemp)
    # shellcheck disable=SC2064  # the name is fixed now
    trap "rm -f '$log'" EXIT
    say "reading package lists"
    "${apt[@]}" update >"$log" 2>&1 ||
        { cat "$log" >&2; fail "apt-get update failed; check the machine's apt sources and network"; }
    # What is there in a version that does not go with the others (from backports, say) is removed by apt for their sake, and
    # installed again in one that does.
    local _
    for _ in first second; do
        say "installing: $missing"
        # shellcheck disable=SC2086  # words are package names
        "${apt[@]}" install $missing >"$log" 2>&1 ||
            { cat "$log" >&2; fail "apt-get could not install: $missing; on Ubuntu the universe component must be enabled"; }
        # shellcheck disable=SC2046  # words are package names
        missing=$(missing_of $(for group in "$@"; do packages_of "$group"; done))
        [ -n "$missing" ] || return 0
        missing=${missing//$'\n'/ }
    done
    fail "apt-get says that it has installed them, and they are not there: $missing"
}

[ $# -gt 0 ] || fail "wanted one or more groups out of: build lab lab-aarch64 test bench, got none"
for group in "$@"; do packages_of "$group" >/dev/null; done

case $(uname -s) in
    Darwin) on_macos "$@" ;;
    Linux)
        if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
            fail "wanted Debian, Ubuntu or a relative (apt), got another system; install the equivalents of: $(for group in "$@"; do packages_of "$group"; done | tr -s ' \n' ' ')"
        fi
        on_debian "$@"
        ;;
    *) fail "wanted Linux or macOS, got $(uname -s)" ;;
esac
