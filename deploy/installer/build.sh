#!/usr/bin/env bash
# Makes the installer that the profile disk-image boots: a distribution kernel, and an initramfs of the distribution's own
# programs with the scripts under root/, which writes a disk image to a machine's disk.
#   in:      OUT_DIR [x86_64|aarch64]; packages from the machine's apt sources, unpacked, never installed
#   out:     OUT_DIR/vmlinuz, OUT_DIR/initrd.img, OUT_DIR/SOURCES (packages and versions); left alone if they are newer than
#            the scripts and of the same package versions
#   refuses: systems without apt; architectures the sources do not carry
# Nothing of the other architecture is run, so that either is built on any machine.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
guest=$here/../guest
# shellcheck source=../private-apt.sh
. "$here/../private-apt.sh"
# shellcheck source=../guest/kernel.sh
. "$guest/kernel.sh"
# shellcheck source=../guest/modules.sh
. "$guest/modules.sh"

packages="busybox-static ca-certificates coreutils curl e2fsprogs fdisk qemu-utils util-linux zstd"
programs="curl zstd qemu-img blkid sfdisk e2fsck resize2fs"

# What a machine may have between itself and the server, and its disks. Cards that need firmware of their own beside the
# module (bnx2, some tg3) are not brought up: that firmware is no free package.
network="virtio_pci virtio_mmio virtio_net e1000 e1000e igb igbvf igc ixgbe ixgbevf i40e iavf ice r8169 8139cp tg3 bnxt_en
         mlx4_en mlx5_core cxgb4 be2net sfc atlantic ena gve vmxnet3 hv_netvsc xen-netfront af_packet
         macb stmmac dwmac-generic thunder_xcv nicvf hns3 hclge xgene-enet fec mvneta mvpp2"
disks="virtio_blk virtio_scsi ahci ahci_platform ata_piix sata_nv nvme sd_mod sr_mod megaraid_sas mpt3sas mptsas mptspi hpsa smartpqi
       aacraid arcmsr isci vmw_pvscsi hv_storvsc xen-blkfront mmc_block sdhci-pci sdhci-acpi hisi_sas_v3_hw"
file_systems="ext4 xfs btrfs vfat nls_cp437 nls_ascii nls_utf8 crc32c_generic crc32c-intel crc32_pclmul xxhash_generic
              blake2b_generic sha256_generic"
others="virtio_rng virtio_console hv_vmbus hyperv_keyboard rtc_cmos rtc-efi"

case $# in 1 | 2) ;; *) fail "wanted OUT_DIR [x86_64|aarch64], got $# arguments" ;; esac
arch=${2:-$(uname -m)}
[ "$arch" != arm64 ] || arch=aarch64
need cpio zstd xz depmod modprobe readelf
lock_output "$1"
private_apt "$arch"

mapfile -t inputs < <(find "$0" "$guest/kernel.sh" "$guest/modules.sh" "$here/root" -type f)
# Kernel and programs are made anew less often than the scripts, which are an archive of their own behind them.
programs_inputs=("$0" "$guest/kernel.sh" "$guest/modules.sh")
outputs=(vmlinuz initrd.img)
watched=$packages

# sources_now: what would go in, by the package lists at hand: the kernel for any machine, the programs' packages, and the
# libraries that those depend on.
sources_now() {
    local meta all
    case $(distribution) in
        ubuntu) meta=linux-image-generic ;;
        *) meta=linux-image-$private_apt_arch ;;
    esac
    kernel=$(kernel_package "$meta")
    # shellcheck disable=SC2086  # words are package names
    all=$(papt apt-cache depends --recurse --important $packages 2>/dev/null | grep '^lib\|^zlib' | sort -u || true)
    # shellcheck disable=SC2086
    unpacked=$(papt apt-cache policy $packages $all 2>/dev/null |
        awk '/^[^ ]/ { sub(/:$/, ""); name = $0 } /^  Candidate:/ && $2 != "(none)" { print name, $2 }' | sort -u)
    sources="${kernel:-no kernel}"$'\n'"$unpacked"
}
settle_sources
for package in $packages; do
    grep -q "^$package " <<<"$unpacked" || fail "wanted the package $package for $arch in the apt sources, got none"
done

# take_program NAME [AS] and take_library NAME: the file of that name out of the packages, and all that it needs.
take_program() {
    local found
    found=$(find "$new/packages" -path "*bin/$1" -type f | head -n 1)
    [ -n "$found" ] || fail "wanted the program $1 in the packages, got none"
    install -m 0755 "$found" "$new/root/bin/${2:-$1}"
    take_needed "$found"
}
take_library() {
    local found
    [ ! -e "$new/root/lib/$1" ] || return 0
    found=$(find "$new/packages" -path "*lib*/$1" ! -type d | head -n 1)
    [ -n "$found" ] || fail "wanted the library $1 in the packages, got none"
    found=$(realpath "$found")
    install -m 0755 "$found" "$new/root/lib/$1"
    take_needed "$found"
}
take_needed() {
    local name
    for name in $(readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'); do take_library "$name"; done
    # The program interpreter is named by its whole path.
    name=$(readelf -l "$1" 2>/dev/null | sed -n 's/.*interpreter: \(.*\)\]/\1/p')
    [ -z "$name" ] || { take_library "${name##*/}"; [ -e "$new/root$name" ] || ln -s "/lib/${name##*/}" "$new/root$name"; }
}

pack() { cpio_of "$1" | zstd -q -15 -T0; }

have_programs() { (
    out=$out/programs
    inputs=("${programs_inputs[@]}")
    is_current
); }

make_programs() {
    mkdir -p "$new/kernel" "$new/packages" "$new/download" "$new/programs" "$new/root"/{bin,etc,lib}
    ln -s lib "$new/root/lib64"
    ln -s bin "$new/root/sbin"
    unpack_kernel "$new/kernel"
    # shellcheck disable=SC2086  # words are module names
    modules_tree "$new/kernel" "$new/root" $network $disks $file_systems $others
    say "unpacking $(wc -l <<<"$unpacked") packages of programs and libraries"
    mapfile -t wanted <<<"${unpacked// /=}"
    (cd "$new/download" && papt apt-get -qq download "${wanted[@]}" >log 2>&1) ||
        { cat "$new/download/log" >&2; fail "apt-get download failed; the lists may be old: set BOOTJACK_REFRESH=1"; }
    for package in "$new/download"/*.deb; do dpkg -x "$package" "$new/packages"; done
    install -m 0755 "$(find "$new/packages" -type f -path '*bin/busybox')" "$new/root/bin/busybox"
    for program in $programs; do take_program "$program"; done
    # busybox's does not say how many octets it passed, and its shell takes its own programs for those of that name.
    take_program dd gnu-dd
    # Looked for by name when it is needed, by no NEEDED: names of servers (https, in-house URLs).
    for library in libnss_dns.so.2 libnss_files.so.2; do
        [ -z "$(find "$new/packages" -name "$library")" ] || take_library "$library"
    done
    cat "$new/packages"/usr/share/ca-certificates/*/*.crt >"$new/root/etc/ca.crt"
    echo "hosts: files dns" >"$new/root/etc/nsswitch.conf"
    say "packing programs and drivers"
    pack "$new/root" >"$new/programs/initrd.img"
    cp "$new/kernel/vmlinuz" "$new/programs/vmlinuz"
    echo "$sources" >"$new/programs/SOURCES"
    rm -rf "$out/programs"
    mv "$new/programs" "$out/programs"
}

if ! have_programs; then make_programs; fi
mkdir -p "$new/scripts"
cp -R "$here/root/." "$new/scripts/"
chmod 0755 "$new/scripts/init" "$new/scripts/udhcpc"
{ cat "$out/programs/initrd.img" && pack "$new/scripts"; } >"$new/initrd.img"
cp "$out/programs/vmlinuz" "$new/vmlinuz"
publish
