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
watched="busybox-static systemd openssh-server podman crun cloud-init libc6"

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
lock_output "$1"
private_apt "$arch"

# By content and not by age: `bootjack image build` writes these files anew each time.
recipe=$(cd "$here/.." && find provisioner private-apt.sh guest/kernel.sh guest/modules.sh -type f | LC_ALL=C sort |
    xargs sha256sum | sha256sum | cut -c1-64)
inputs=()
outputs=(vmlinuz initrd.img root.qcow2 image.json)
settle_sources
tree_mode

# The tree, its archive and the disk at once.
free=$(df --output=avail -m "$out" | tail -n 1)
[ "$free" -ge "$room" ] || fail "wanted $room MiB free in $out, got $((free)); make room, or name another directory"

trap '"${as_root[@]}" rm -rf "$new"' EXIT
mkdir -p "$new/kernel"
private_apt_tree "$mode" "$include" "$new/root.tar"
unpack_kernel "$new/kernel"
busybox_into "$new/early"
install -m 0755 "$here/init" "$new/early/init"
# shellcheck disable=SC2086  # words are module names
modules_tree "$new/kernel" "$new/early" $early
cpio_of "$new/early" | zstd -q -19 >"$new/initrd.img"
modules_without "$dropped" "$new/kernel" "$new/over"

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
publish
