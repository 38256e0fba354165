#!/usr/bin/env bash
# Makes a disk image like those that distributions publish for clouds, with podman and nftables in it: cloud-init, ssh, and
# nothing of Bootjack's. It is for tests of a provisioner that is made from such an image where there is no network.
#   in:      OUT_DIR; packages from the machine's apt sources; the installed sfdisk, mtools, syslinux, mke2fs, qemu-img
#   out:     OUT_DIR/disk.qcow2: GPT, a FAT partition with syslinux and a kernel (BIOS), an ext4 root file system; OUT_DIR/SOURCES,
#            as the other guests have it
#   refuses: machines other than x86_64; users who are not root (deploy/as-root.sh); what is missing, by its package
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

include="systemd-sysv systemd-resolved dbus udev kmod iproute2 openssh-server sudo ca-certificates cloud-init netplan.io e2fsprogs
         podman crun conmon nftables"
watched="busybox-static systemd cloud-init podman libc6"
masked="apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer man-db.timer e2scrub_reap.service
        podman-auto-update.timer podman-auto-update.service podman.socket"

[ $# -eq 1 ] || fail "wanted OUT_DIR, got $# arguments"
[ "$(id -u)" -eq 0 ] || fail "wanted root, got $(id -un); run: deploy/as-root.sh $0 $1"
need_syslinux mmdebstrap qemu-img
lock_output "$1"
private_apt x86_64

inputs=("$0" "$here/kernel.sh" "$here/modules.sh" "$here/syslinux.sh" "$here/cloud/init")
outputs=(disk.qcow2)
settle_sources

mkdir -p "$new/kernel" "$new/root"
private_apt_tree root "$include" "$new/root.tar"
tar -xpf "$new/root.tar" -C "$new/root" --numeric-owner --exclude="./dev/*"
unpack_kernel "$new/kernel"
mv "$new/kernel/vmlinuz" "$new/vmlinuz"
busybox_into "$new/initramfs"
install -m 0755 "$here/cloud/init" "$new/initramfs/init"
modules_tree "$new/kernel" "$new/initramfs" virtio_pci virtio_blk ext4 crc32c_generic
cpio_of "$new/initramfs" | zstd -q -10 >"$new/initrd.img"
modules_without "arch/x86/kvm drivers/gpu drivers/infiniband drivers/media drivers/net/ethernet/mellanox sound" "$new/kernel" "$new/root"

# As an image is published: nobody's machine yet.
rm -f "$new/root/etc/machine-id" "$new/root/etc/hostname" "$new/root"/etc/ssh/ssh_host_*
: >"$new/root/etc/machine-id"
# There is no package locales to choose another by. (`locale: false` is what the schema of Debian 12's cloud-init refuses.)
sed -i '/^ *- locale$/d' "$new/root/etc/cloud/cloud.cfg"
for unit in $masked; do ln -sf /dev/null "$new/root/etc/systemd/system/$unit"; done
chroot "$new/root" systemctl -q enable systemd-networkd

say "making the disk"
syslinux_disk "$new" 2048 64 1982 cloudimg-rootfs "console=tty0 console=ttyS0,115200 quiet" -m 0 -O ^metadata_csum_seed,^orphan_file
qemu-img convert -f raw -O qcow2 "$new/disk.img" "$new/disk.qcow2"
publish
