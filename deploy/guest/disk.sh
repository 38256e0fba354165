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
# shellcheck source=syslinux.sh
. "$here/syslinux.sh"

[ $# -eq 1 ] || fail "wanted OUT_DIR, got $# arguments"
need_syslinux zstd
lock_output "$1"
private_apt x86_64

inputs=("$0" "$here/kernel.sh" "$here/modules.sh" "$here/syslinux.sh" "$here/disk/init")
outputs=(disk.img.zst)
watched=busybox-static
settle_sources

mkdir -p "$new/kernel" "$new/root"/{etc,var/lib/cloud}
unpack_kernel "$new/kernel"
mv "$new/kernel/vmlinuz" "$new/vmlinuz"
busybox_into "$new/initramfs"
install -m 0755 "$here/disk/init" "$new/initramfs/init"
modules_tree "$new/kernel" "$new/initramfs" virtio_pci virtio_blk ahci sd_mod nvme ext4 crc32c_generic
cpio_of "$new/initramfs" | zstd -q -10 >"$new/initrd.img"
echo 'bootjack disk guest' >"$new/root/etc/os-release"

say "making the disk"
syslinux_disk "$new" 96 32 40 bootjack-root "console=ttyS0,115200n8"
zstd -q -3 "$new/disk.img" -o "$new/disk.img.zst"
publish
