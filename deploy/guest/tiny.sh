#!/usr/bin/env bash
# Makes the tiny guest: a distribution kernel and a busybox initramfs that asks DHCP, fetches its NoCloud
# documents, prints both on the console and powers off. It is for tests of what a machine is given.
#   in:      OUT_DIR [x86_64|aarch64]; packages from the machine's apt sources, unpacked, never installed
#   out:     OUT_DIR/vmlinuz, OUT_DIR/initrd.img, OUT_DIR/SOURCES (package and version); left alone if they
#            are newer than the scripts and of the same package versions
#   refuses: systems without apt; architectures the sources do not carry
# The command line of the guest needs console=ttyS0 (x86_64) or console=ttyAMA0 (aarch64).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=../private-apt.sh
. "$here/../private-apt.sh"
# shellcheck source=kernel.sh
. "$here/kernel.sh"

# What a guest of QEMU may have between itself and the server. A name the kernel lacks is built in or left out.
drivers="virtio_pci virtio_mmio virtio_rng virtio_net e1000 e1000e vmxnet3 af_packet"

# copy_modules KERNEL_DIR TARGET_DIR: uncompressed, numbered so that /modules/* is the order to load them in.
copy_modules() {
    local driver path number=100 name
    for driver in $drivers; do
        modprobe -d "$1" -S "$kernel_release" --show-depends "$driver" 2>/dev/null || true
    done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' |
        while read -r path; do
            name=$(basename "$path")
            number=$((number + 1))
            case $name in
                *.ko) cp "$path" "$2/$number-$name" ;;
                *.ko.xz) xz -dc "$path" >"$2/$number-${name%.xz}" ;;
                *.ko.zst) zstd -qdc "$path" >"$2/$number-${name%.zst}" ;;
                *.ko.gz) gzip -dc "$path" >"$2/$number-${name%.gz}" ;;
            esac
        done
}

case $# in 1 | 2) ;; *) fail "wanted OUT_DIR [x86_64|aarch64], got $# arguments" ;; esac
arch=${2:-$(uname -m)}
[ "$arch" != arm64 ] || arch=aarch64
need cpio zstd xz depmod modprobe
lock_output "$1"
private_apt "$arch"

inputs=("$0" "$here/kernel.sh" "$here/tiny/init" "$here/tiny/udhcpc")
outputs=(vmlinuz initrd.img)
watched=busybox-static
settle_sources

mkdir -p "$new/kernel" "$new/root"/{bin,etc,modules}
unpack_kernel "$new/kernel"
busybox_into "$new/root"
copy_modules "$new/kernel" "$new/root/modules"
install -m 0755 "$here/tiny/init" "$here/tiny/udhcpc" "$new/root/"
say "packing the initramfs"
cpio_of "$new/root" | zstd -q -19 >"$new/initrd.img"
mv "$new/kernel/vmlinuz" "$new/vmlinuz"
publish
