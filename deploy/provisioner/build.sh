#!/usr/bin/env bash
# Makes the provisioner's disk image: a small Debian (on Ubuntu: Ubuntu) that runs bootjackd in a container.
#   in:      OUT_DIR [x86_64|aarch64]; packages from the machine's apt sources; init and root/ beside this file
#   out:     OUT_DIR/vmlinuz, OUT_DIR/initrd.img, OUT_DIR/root.qcow2 (ext4, no partitions), OUT_DIR/image.json (what they are),
#            OUT_DIR/SOURCES (what went in); left alone where that is what would go in now
#   refuses: architectures other than the machine's own; users who may neither be root nor map user ids; what is missing, by
#            its package
#   environment: as private-apt.sh
# The machine is told its disks by their serials, see init, and everything else by a CIDATA disk.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=../private-apt.sh
. "$here/../private-apt.sh"
# shellcheck source=../guest/kernel.sh
. "$here/../guest/kernel.sh"
# shellcheck source=../guest/modules.sh
. "$here/../guest/modules.sh"

# podman, not docker.io: nothing to wait for before the first container, and 150 MB less (docs/decisions.md). cloud-init serves
# user-data of the lab's owner; it does not run otherwise: its four starts of Python cost more than the rest of the boot.
include="systemd-sysv dbus udev kmod iproute2 iputils-ping openssh-server nftables podman crun conmon e2fsprogs
         ca-certificates cloud-init tcpdump"
watched="systemd openssh-server podman crun cloud-init libc6"

# Units that only cost time in a machine that is made anew whenever something changes.
masked="apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer man-db.timer
        motd-news.timer e2scrub_reap.service systemd-pstore.service systemd-firstboot.service systemd-hwdb-update.service
        systemd-machine-id-commit.service systemd-journal-flush.service systemd-update-utmp.service
        systemd-update-utmp-runlevel.service systemd-networkd-wait-online.service ldconfig.service cloud-init-hotplugd.socket
        getty@tty1.service podman-auto-update.timer podman-auto-update.service podman-restart.service podman.socket
        systemd-timesyncd.service systemd-rfkill.socket"

# Kernel modules that no virtual machine of this kind needs.
dropped="arch/x86/kvm drivers/block/drbd drivers/net/ethernet/mellanox drivers/comedi drivers/gpu drivers/hid
         drivers/infiniband drivers/media drivers/staging drivers/target drivers/iio drivers/isdn drivers/bluetooth
         drivers/thunderbolt drivers/net/wireless sound fs/btrfs fs/ceph fs/gfs2 fs/nfs fs/nfsd fs/ocfs2 fs/smb fs/cifs
         fs/ksmbd fs/xfs fs/jfs fs/reiserfs fs/ubifs net/bluetooth net/ceph net/dccp net/kcm net/mac80211 net/wireless net/mpls
         net/rds net/sctp net/smc net/sunrpc net/tipc"

# What the root file system is found in before its modules are there.
early="virtio_pci virtio_mmio virtio_blk ext4 crc32c_generic isofs"

# MiB that are needed while it is made.
room=3072

case $# in 1 | 2) ;; *) fail "wanted OUT_DIR [x86_64|aarch64], got $# arguments" ;; esac
arch=${2:-$(uname -m)}
[ "$arch" != arm64 ] || arch=aarch64
[ "$arch" = "$(uname -m)" ] || fail "wanted this machine's architecture $(uname -m), got $arch; build on a machine of that kind"
need mmdebstrap cpio zstd depmod modprobe mke2fs qemu-img sha256sum
mkdir -p "$1"
out=$(cd "$1" && pwd)
lock_output "$out"
private_apt "$arch"

# By content and not by age: `bootjack image build` writes these files anew each time.
recipe=$(cd "$here/.." && find provisioner private-apt.sh guest/kernel.sh guest/modules.sh -type f | LC_ALL=C sort |
    xargs sha256sum | sha256sum | cut -c1-64)
sources_now() {
    local package
    kernel=$(kernel_package)
    busybox=$(private_apt_version busybox-static)
    sources="recipe $recipe"$'\n'"${kernel:-no kernel}"$'\n'"busybox-static ${busybox:-none}"
    for package in $watched; do sources="$sources"$'\n'"$package $(private_apt_version "$package")"; done
}
current() {
    local name
    for name in vmlinuz initrd.img root.qcow2 image.json; do [ -s "$out/$name" ] || return 1; done
    [ "$(cat "$out/SOURCES" 2>/dev/null)" = "$sources" ]
}
sources_now
[ -z "${BOOTJACK_REFRESH:-}" ] && current && exit 0
private_apt_refresh
sources_now
if [ -z "$kernel" ] || [ -z "$busybox" ]; then
    fail "wanted a kernel for virtual machines and busybox-static in the apt sources, got: ${sources//$'\n'/, }; name a sources.list that has them in BOOTJACK_APT_SOURCES"
fi
if current; then exit 0; fi

if [ "$(id -u)" -eq 0 ]; then
    mode=root
    as_root=()
elif ! command -v newuidmap >/dev/null; then
    fail "wanted root or the program newuidmap, got user $(id -un) without; run: deploy/packages.sh lab"
elif ! grep -q "^$(id -un):\|^$(id -u):" /etc/subuid 2>/dev/null; then
    fail "wanted root, or a range of user ids in /etc/subuid, got $(id -un) without; run: sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $(id -un)"
elif ! unshare --user --map-auto --map-root-user true 2>/dev/null; then
    fail "wanted root, or user namespaces, got $(id -un) and a kernel that refuses them; see: sysctl kernel.unprivileged_userns_clone kernel.apparmor_restrict_unprivileged_userns"
else
    mode=unshare
    as_root=(unshare --user --map-auto --map-root-user --fork)
fi

# The tree, its archive and the disk at once.
free=$(df --output=avail -m "$out" | tail -n 1)
[ "$free" -ge "$room" ] || fail "wanted $room MiB free in $out, got $((free)); make room, or name another directory"

# A release may have one of them inside another package.
included=""
for package in $include; do
    [ -z "$(private_apt_version "$package")" ] || included="$included${included:+,}$package"
done

new=$out/.new.$$
trap '"${as_root[@]}" rm -rf "$new"' EXIT
mkdir -p "$new/kernel" "$new/busybox" "$new/early/bin" "$new/over/usr/lib/modules"
options=(--variant=minbase --mode="$mode" --format=tar --include="$included"
    --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"')
for path in doc man info locale lintian i18n; do options+=(--dpkgopt="path-exclude=/usr/share/$path/*"); done
while read -r line; do options+=(--aptopt="${line%;}"); done < <(grep -i '^Acquire::.*proxy' "$private_apt_dir/apt.conf" || true)
say "installing $(codename) into a tree of its own ($mode): $included"
# Without our locks' descriptors: its hooks number theirs from the next free one and dash knows one digit only.
mmdebstrap "${options[@]}" "$(codename)" "$new/root.tar" "$private_apt_dir/sources.list" >"$new/log" 2>&1 8>&- 9>&- ||
    { cat "$new/log" >&2; fail "mmdebstrap could not make the tree"; }

say "unpacking $kernel"
unpack_kernel "${kernel% *}" "${kernel#* }" "$new/kernel"
private_apt_unpack busybox-static "$busybox" "$new/busybox"
install -m 0755 "$(find "$new/busybox" -type f -path '*bin/busybox')" "$new/early/bin/busybox"
install -m 0755 "$here/init" "$new/early/init"
# shellcheck disable=SC2086  # words are module names
modules_tree "$new/kernel" "$new/early" $early
(cd "$new/early" && find . -mindepth 1 | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet) | zstd -q -19 >"$new/initrd.img"
for path in $dropped; do rm -rf "$new/kernel/lib/modules/$kernel_release/kernel/$path"; done
depmod -b "$new/kernel" "$kernel_release"
rm -f "$new/kernel/lib/modules/$kernel_release"/{build,source}
mv "$new/kernel/lib/modules/$kernel_release" "$new/over/usr/lib/modules/"

# What lies over the tree: our units and masks.
cp -r "$here/root/." "$new/over/"
find "$new/over" -type d -exec chmod 0755 {} +
find "$new/over" -type f -exec chmod 0644 {} +
find "$new/over/usr/lib/bootjack" -type f -exec chmod 0755 {} +
units=$new/over/etc/systemd/system
for unit in $masked; do ln -s /dev/null "$units/$unit"; done
wanted() { mkdir -p "$units/$2.wants" && ln -s "$1" "$units/$2.wants/"; }
wanted /lib/systemd/system/systemd-networkd.service multi-user.target
wanted /lib/systemd/system/nftables.service sysinit.target
wanted ../bootjackd.service multi-user.target
: >"$new/over/etc/machine-id"
mkdir -p "$new/over/var"
touch "$new/over/etc/.updated" "$new/over/var/.updated"

# No loop device and no mount: mke2fs takes a directory, and ownership as this (or the mapped) root sees it.
say "making the disk"
truncate -s 4G "$new/root.img"
"${as_root[@]}" sh -euc '
    mkdir "$1/tree"
    # Who is root of a namespace alone makes no devices, and the kernel brings its own.
    tar -xpf "$1/root.tar" -C "$1/tree" --numeric-owner --exclude="./dev/*"
    rm -f "$1/tree/etc/machine-id" "$1"/tree/etc/ssh/ssh_host_*
    # The tree has /lib as a link to /usr/lib: over it, not instead of it.
    (cd "$1/over" && tar -cf - --owner=0 --group=0 .) | tar -xpf - -C "$1/tree" --numeric-owner --keep-directory-symlink
    mke2fs -q -t ext4 -L bootjack -m 0 -O ^metadata_csum_seed,^orphan_file -E root_owner=0:0,lazy_itable_init=1 \
        -d "$1/tree" "$1/root.img"
    rm -rf "$1/tree"
' sh "$new"
qemu-img convert -f raw -O qcow2 -o cluster_size=65536 "$new/root.img" "$new/root.qcow2"
mv "$new/kernel/vmlinuz" "$new/vmlinuz"

digest() { sha256sum "$new/$1" | cut -c1-64; }
cat >"$new/image.json" <<END
{
  "kind": "bootjack-provisioner",
  "version": 1,
  "arch": "$arch",
  "distribution": "$(distribution) $(codename)",
  "kernel": { "file": "vmlinuz", "sha256": "$(digest vmlinuz)", "release": "$kernel_release" },
  "initrd": { "file": "initrd.img", "sha256": "$(digest initrd.img)" },
  "root": { "file": "root.qcow2", "sha256": "$(digest root.qcow2)", "format": "qcow2" },
  "recipe": "$recipe"
}
END
# SOURCES vouches for the rest, so it goes first and comes last.
rm -f "$out/SOURCES"
for name in vmlinuz initrd.img root.qcow2 image.json; do
    chmod 0644 "$new/$name"
    mv "$new/$name" "$out/$name"
done
echo "$sources" >"$new/SOURCES"
mv "$new/SOURCES" "$out/SOURCES"
say "made $out/root.qcow2 ($(du -h "$out/root.qcow2" | cut -f1)), vmlinuz and initrd.img ($(du -h "$out/initrd.img" | cut -f1))"
