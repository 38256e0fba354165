#!/usr/bin/env bash
# Makes the disk guest: a disk image that boots in seconds and says what is on its disk. It is for tests of installations.
#   in:      OUT_DIR; packages from the machine's apt sources, unpacked; the installed sfdisk, mtools, syslinux, mke2fs, zstd
#   out:     OUT_DIR/disk.img.zst: GPT, a FAT partition with syslinux and a kernel (BIOS), and an ext4 root file system, of
#            which 40 MiB are given and the rest is for who installs it; OUT_DIR/SOURCES, as the other guests have it
#   refuses: machines other than x86_64; what is missing, by its package
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=../private-apt.sh
. "$here/../private-apt.sh"
# shellcheck source=kernel.sh
. "$here/kernel.sh"
# shellcheck source=modules.sh
. "$here/modules.sh"

[ $# -eq 1 ] || fail "wanted OUT_DIR, got $# arguments"
[ "$(uname -m)" = x86_64 ] || fail "wanted a machine that is x86_64, got $(uname -m): syslinux is for those alone"
for program in sfdisk mformat syslinux mke2fs zstd; do
    command -v $program >/dev/null || fail "wanted the program $program, got none; run: deploy/packages.sh test"
done
mkdir -p "$1"
out=$(cd "$1" && pwd)
lock_output "$out"
private_apt x86_64

inputs=("$0" "$here/kernel.sh" "$here/modules.sh" "$here/disk/init")
sources_now() {
    kernel=$(kernel_package)
    busybox=$(private_apt_version busybox-static)
    sources="${kernel:-no kernel}"$'\n'"busybox-static ${busybox:-none}"
}
current() {
    local input
    [ -s "$out/disk.img.zst" ] && [ "$(cat "$out/SOURCES" 2>/dev/null)" = "$sources" ] || return 1
    for input in "${inputs[@]}"; do [ ! "$input" -nt "$out/SOURCES" ] || return 1; done
}
sources_now
[ -z "${BOOTJACK_REFRESH:-}" ] && current && exit 0
private_apt_refresh
sources_now
if [ -z "$kernel" ] || [ -z "$busybox" ]; then fail "wanted a kernel and busybox-static in the apt sources, got: ${sources//$'\n'/, }"; fi
if current; then exit 0; fi

new=$out/.new.$$
trap 'rm -rf "$new"' EXIT
mkdir -p "$new/kernel" "$new/busybox" "$new/initramfs/bin" "$new/root"/{etc,var/lib/cloud}
say "unpacking $kernel"
unpack_kernel "${kernel% *}" "${kernel#* }" "$new/kernel"
private_apt_unpack busybox-static "$busybox" "$new/busybox"
install -m 0755 "$(find "$new/busybox" -type f -path '*bin/busybox')" "$new/initramfs/bin/busybox"
install -m 0755 "$here/disk/init" "$new/initramfs/init"
modules_tree "$new/kernel" "$new/initramfs" virtio_pci virtio_blk ahci sd_mod nvme ext4 crc32c_generic
(cd "$new/initramfs" && find . -mindepth 1 | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet) | zstd -q -10 >"$new/initrd.img"
cat >"$new/syslinux.cfg" <<END
serial 0 115200
default linux
label linux
  kernel vmlinuz
  initrd initrd.img
  append console=ttyS0,115200n8
END
echo 'bootjack disk guest' >"$new/root/etc/os-release"

say "making the disk"
disk=$new/disk.img
truncate -s 96M "$disk"
sfdisk -q "$disk" <<END
label: gpt
start=2048, size=32MiB, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, attrs=LegacyBIOSBootable
size=40MiB, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4
END
mformat -i "$disk@@1M" -T 65536 -h 255 -s 63 -c 4 ::
mcopy -i "$disk@@1M" "$new/kernel/vmlinuz" "$new/initrd.img" "$new/syslinux.cfg" ::
syslinux --offset $((1 << 20)) --install "$disk"
dd if=/usr/lib/syslinux/mbr/gptmbr.bin of="$disk" conv=notrunc status=none
mke2fs -q -t ext4 -L bootjack-root -E offset=$((33 << 20)),root_owner=0:0 -d "$new/root" "$disk" 40M
zstd -q -3 "$disk" -o "$new/disk.img.zst"
rm -f "$out/SOURCES"
mv "$new/disk.img.zst" "$out/disk.img.zst"
echo "$sources" >"$new/SOURCES"
mv "$new/SOURCES" "$out/SOURCES"
say "made $out/disk.img.zst ($(du -h "$out/disk.img.zst" | cut -f1))"
