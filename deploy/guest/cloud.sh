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

include="systemd-sysv systemd-resolved dbus udev kmod iproute2 openssh-server sudo ca-certificates cloud-init netplan.io e2fsprogs
         podman crun conmon nftables"
watched="systemd cloud-init podman libc6"
masked="apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer man-db.timer e2scrub_reap.service
        podman-auto-update.timer podman-auto-update.service podman.socket"

[ $# -eq 1 ] || fail "wanted OUT_DIR, got $# arguments"
[ "$(uname -m)" = x86_64 ] || fail "wanted a machine that is x86_64, got $(uname -m): syslinux is for those alone"
[ "$(id -u)" -eq 0 ] || fail "wanted root, got $(id -un); run: deploy/as-root.sh $0 $1"
for program in mmdebstrap sfdisk mformat syslinux mke2fs qemu-img; do
    command -v $program >/dev/null || fail "wanted the program $program, got none; run: deploy/packages.sh test"
done
mkdir -p "$1"
out=$(cd "$1" && pwd)
lock_output "$out"
private_apt x86_64

inputs=("$0" "$here/kernel.sh" "$here/modules.sh" "$here/cloud/init")
sources_now() {
    local package
    kernel=$(kernel_package)
    busybox=$(private_apt_version busybox-static)
    sources="${kernel:-no kernel}"$'\n'"busybox-static ${busybox:-none}"
    for package in $watched; do sources="$sources"$'\n'"$package $(private_apt_version "$package")"; done
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
if [ -z "$kernel" ] || [ -z "$busybox" ]; then fail "wanted a kernel and busybox-static in the apt sources, got: ${sources//$'\n'/, }"; fi
if current; then exit 0; fi

new=$out/.new.$$
trap 'rm -rf "$new"' EXIT
mkdir -p "$new/kernel" "$new/busybox" "$new/initramfs/bin" "$new/root"
included=""
for package in $include; do
    [ -z "$(private_apt_version "$package")" ] || included="$included${included:+,}$package"
done
options=(--variant=minbase --mode=root --format=tar --include="$included"
    --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"')
for path in doc man info locale lintian i18n; do options+=(--dpkgopt="path-exclude=/usr/share/$path/*"); done
while read -r line; do options+=(--aptopt="${line%;}"); done < <(grep -i '^Acquire::.*proxy' "$private_apt_dir/apt.conf" || true)
say "installing $(codename) into a tree of its own: $included"
# Without our locks' descriptors: mmdebstrap's hooks number theirs from the next free one and dash knows one digit only.
mmdebstrap "${options[@]}" "$(codename)" "$new/root.tar" "$private_apt_dir/sources.list" >"$new/log" 2>&1 8>&- 9>&- ||
    { cat "$new/log" >&2; fail "mmdebstrap could not make the tree"; }
tar -xpf "$new/root.tar" -C "$new/root" --numeric-owner --exclude="./dev/*"

say "unpacking $kernel"
unpack_kernel "${kernel% *}" "${kernel#* }" "$new/kernel"
private_apt_unpack busybox-static "$busybox" "$new/busybox"
install -m 0755 "$(find "$new/busybox" -type f -path '*bin/busybox')" "$new/initramfs/bin/busybox"
install -m 0755 "$here/cloud/init" "$new/initramfs/init"
modules_tree "$new/kernel" "$new/initramfs" virtio_pci virtio_blk ext4 crc32c_generic
(cd "$new/initramfs" && find . -mindepth 1 | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet) | zstd -q -10 >"$new/initrd.img"
for path in arch/x86/kvm drivers/gpu drivers/infiniband drivers/media drivers/net/ethernet/mellanox sound; do
    rm -rf "$new/kernel/lib/modules/$kernel_release/kernel/$path"
done
depmod -b "$new/kernel" "$kernel_release"
rm -f "$new/kernel/lib/modules/$kernel_release"/{build,source}
mkdir -p "$new/root/usr/lib/modules"
mv "$new/kernel/lib/modules/$kernel_release" "$new/root/usr/lib/modules/"
cat >"$new/syslinux.cfg" <<END
serial 0 115200
default linux
label linux
  kernel vmlinuz
  initrd initrd.img
  append console=tty0 console=ttyS0,115200 quiet
END

# As an image is published: nobody's machine yet.
rm -f "$new/root/etc/machine-id" "$new/root/etc/hostname" "$new/root"/etc/ssh/ssh_host_*
: >"$new/root/etc/machine-id"
# There is no package locales to choose another by. (`locale: false` is what the schema of Debian 12's cloud-init refuses.)
sed -i '/^ *- locale$/d' "$new/root/etc/cloud/cloud.cfg"
for unit in $masked; do ln -sf /dev/null "$new/root/etc/systemd/system/$unit"; done
chroot "$new/root" systemctl -q enable systemd-networkd

say "making the disk"
disk=$new/disk.img
truncate -s 2G "$disk"
sfdisk -q "$disk" <<END
label: gpt
start=2048, size=64MiB, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, attrs=LegacyBIOSBootable
type=0FC63DAF-8483-4772-8E79-3D69D8477DE4
END
mformat -i "$disk@@1M" -T 131072 -h 255 -s 63 -c 4 ::
mcopy -i "$disk@@1M" "$new/kernel/vmlinuz" "$new/initrd.img" "$new/syslinux.cfg" ::
syslinux --offset $((1 << 20)) --install "$disk"
dd if=/usr/lib/syslinux/mbr/gptmbr.bin of="$disk" conv=notrunc status=none
mke2fs -q -t ext4 -L cloudimg-rootfs -m 0 -O ^metadata_csum_seed,^orphan_file \
    -E offset=$((65 << 20)),root_owner=0:0,lazy_itable_init=1 -d "$new/root" "$disk" $((2048 - 66))M
qemu-img convert -f raw -O qcow2 "$disk" "$new/disk.qcow2"
rm -f "$out/SOURCES"
mv "$new/disk.qcow2" "$out/disk.qcow2"
echo "$sources" >"$new/SOURCES"
mv "$new/SOURCES" "$out/SOURCES"
say "made $out/disk.qcow2 ($(du -h "$out/disk.qcow2" | cut -f1))"
