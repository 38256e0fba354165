#!/usr/bin/env bash
# Makes a cloud image: the Debian guest (debian.sh) on a disk that UEFI boots, which waits for a CIDATA disk to be told who it
# is. It is for tests of machines that start from images.
#   in:      OUT_DIR GUEST_DIR; GUEST_DIR is what debian.sh made; packages from the machine's apt sources, unpacked; the installed
#            sfdisk, mtools, mke2fs, bsdtar, zstd, qemu-img
#   out:     OUT_DIR/disk.qcow2: GPT, a FAT partition with systemd-boot and the kernel, and an ext4 root file system;
#            OUT_DIR/SOURCES, as the other guests have it
#   refuses: architectures other than the machine's own; users who may neither be root nor map user ids
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=../private-apt.sh
. "$here/../private-apt.sh"
# shellcheck source=kernel.sh
. "$here/kernel.sh"
# shellcheck source=modules.sh
. "$here/modules.sh"

[ $# -eq 2 ] || fail "wanted OUT_DIR GUEST_DIR, got $# arguments"
[ -s "$2/SOURCES" ] || fail "wanted the Debian guest in $2, got none; run: deploy/guest/debian.sh $2"
arch=$(uname -m)
case $arch in
    x86_64) efi=x64 console=ttyS0,115200n8 ;;
    aarch64 | arm64) arch=aarch64 efi=aa64 console=ttyAMA0 ;;
    *) fail "wanted a machine that is x86_64 or aarch64, got $arch" ;;
esac
need sfdisk mformat mcopy mmd mke2fs bsdtar zstd qemu-img depmod modprobe cpio
guest=$(cd "$2" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
lock_output "$out"
private_apt "$arch"

inputs=("$0" "$here/kernel.sh" "$here/modules.sh" "$here/cloud/init" "$here/cloud/root/etc/cloud/cloud.cfg.d/90-disk-root.cfg")
sources_now() {
    busybox=$(private_apt_version busybox-static)
    loader=$(private_apt_version systemd-boot-efi)
    sources="$(cat "$guest/SOURCES")"$'\n'"busybox-static ${busybox:-none}"$'\n'"systemd-boot-efi ${loader:-none}"
}
current() {
    local input
    [ -s "$out/disk.qcow2" ] && [ "$(cat "$out/SOURCES" 2>/dev/null)" = "$sources" ] || return 1
    for input in "${inputs[@]}"; do [ ! "$input" -nt "$out/SOURCES" ] || return 1; done
}
sources_now
[ -z "${BOOTJACK_REFRESH:-}" ] && current && exit 0
private_apt_refresh
sources_now
if [ -z "$busybox" ] || [ -z "$loader" ]; then fail "wanted busybox-static and systemd-boot-efi in the apt sources, got: ${sources//$'\n'/, }"; fi
if current; then exit 0; fi

if [ "$(id -u)" -eq 0 ]; then
    as_root=()
elif unshare --user --map-auto --map-root-user true 2>/dev/null; then
    as_root=(unshare --user --map-auto --map-root-user --fork)
else
    fail "wanted root, or user namespaces and a range in /etc/subuid, got $(id -un) without; see: deploy/guest/debian.sh"
fi

new=$out/.new.$$
trap '"${as_root[@]}" rm -rf "$new"' EXIT
mkdir -p "$new/busybox" "$new/loader" "$new/early/bin" "$new/kernel"
private_apt_unpack busybox-static "$busybox" "$new/busybox"
private_apt_unpack systemd-boot-efi "$loader" "$new/loader"
install -m 0755 "$(find "$new/busybox" -type f -path '*bin/busybox')" "$new/early/bin/busybox"
install -m 0755 "$here/cloud/init" "$new/early/init"

# The guest is a root file system already; what it has for a root in memory goes.
say "unpacking $guest/initrd.img"
zstd -qdc "$guest/initrd.img" >"$new/root.cpio"
# Two archives, the second over the first: it begins after the last but one of their ends.
second=$(LC_ALL=C grep -abo 'TRAILER!!!' "$new/root.cpio" | tail -n 2 | head -n 1 | cut -d: -f1)
"${as_root[@]}" sh -euc '
    mkdir "$1/tree"
    bsdtar -xpf "$1/root.cpio" -C "$1/tree" --numeric-owner
    cd "$1/tree"
    tail -c "+$3" "$1/root.cpio" | cpio -idmu --quiet 2>/dev/null
    rm -f init etc/cloud/cloud.cfg.d/90-ram-root.cfg etc/systemd/network/50-dhcp.network
    rm -f etc/systemd/system/host-keys.service etc/systemd/system/sysinit.target.wants/host-keys.service
    # Before the network: it is configured by what is found there.
    rm -f etc/systemd/system/cloud-init-local.service
    mkdir -p dev proc sys run tmp
    chmod 1777 tmp
    tar -C "$2" -cf - --owner=0 --group=0 . | tar -xpf - --keep-directory-symlink
    find etc/cloud -type f -exec chmod 0644 {} +
    mkdir -p "$1/kernel/lib"
    cp -r usr/lib/modules "$1/kernel/lib/"
' sh "$new" "$here/cloud/root" "$second"
kernel_release=$(basename "$(echo "$new"/kernel/lib/modules/*)")
modules_tree "$new/kernel" "$new/early" virtio_pci virtio_mmio virtio_blk ext4 crc32c_generic
(cd "$new/early" && find . -mindepth 1 | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet) | zstd -q -10 >"$new/initrd.img"
printf 'timeout 0\n' >"$new/loader.conf"
printf 'title Linux\nlinux /vmlinuz\ninitrd /initrd.img\noptions console=%s\n' "$console" >"$new/linux.conf"

say "making the disk"
disk=$new/disk.img
truncate -s 833M "$disk"
sfdisk -q "$disk" <<END
label: gpt
start=2048, size=64MiB, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B
size=766MiB, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4
END
esp="$disk@@1M"
mformat -i "$esp" -T 131072 -h 255 -s 63 -c 4 ::
mmd -i "$esp" ::/EFI ::/EFI/BOOT ::/loader ::/loader/entries
mcopy -i "$esp" "$new/loader/usr/lib/systemd/boot/efi/systemd-boot$efi.efi" "::/EFI/BOOT/BOOT${efi^^}.EFI"
mcopy -i "$esp" "$new/loader.conf" ::/loader/loader.conf
mcopy -i "$esp" "$new/linux.conf" ::/loader/entries/linux.conf
mcopy -i "$esp" "$guest/vmlinuz" "$new/initrd.img" ::
"${as_root[@]}" mke2fs -q -t ext4 -L cloud-root -m 0 -O ^metadata_csum_seed,^orphan_file \
    -E "offset=$((65 << 20)),root_owner=0:0,lazy_itable_init=1" -d "$new/tree" "$disk" 766M
qemu-img convert -f raw -O qcow2 "$disk" "$new/disk.qcow2"
rm -f "$out/SOURCES"
mv "$new/disk.qcow2" "$out/disk.qcow2"
echo "$sources" >"$new/SOURCES"
mv "$new/SOURCES" "$out/SOURCES"
say "made $out/disk.qcow2 ($(du -h "$out/disk.qcow2" | cut -f1))"
