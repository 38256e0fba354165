#!/usr/bin/env bash
# Makes the Debian guest: a whole minimal Debian (on Ubuntu: Ubuntu) with systemd, cloud-init and sshd as
# an initramfs, so that a machine which gets a kernel, this file and NoCloud documents is up without a disk.
#   in:      OUT_DIR [x86_64]; packages from the machine's apt sources; the files under debian/
#   out:     OUT_DIR/vmlinuz, OUT_DIR/initrd.img (cpio, zstd), OUT_DIR/SOURCES (package and version); left
#            alone if they are newer than the scripts and of the same package versions
#   refuses: architectures other than the machine's own; users who may neither be root nor map user ids
# Kernel command line of the guest:
#   console=ttyS0 ds=nocloud;dsmode=net;s=http://SERVER/PATH/
# No root=, no ip=. Memory: 3 GB. dsmode=net may be left out from cloud-init 23.3 on; 22.4 (Debian 12) needs it, or
# the older spelling ds=nocloud-net;s=..., and does not ask for network-config over HTTP.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=../private-apt.sh
. "$here/../private-apt.sh"
# shellcheck source=kernel.sh
. "$here/kernel.sh"
# shellcheck source=modules.sh
. "$here/modules.sh"

include="systemd-sysv systemd-resolved dbus udev kmod iproute2 iputils-ping cloud-init openssh-server sudo ca-certificates"
watched="systemd cloud-init openssh-server libc6"

# Units that only cost time where the disk is memory.
masked="apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer
        man-db.timer motd-news.timer e2scrub_reap.service systemd-pstore.service systemd-firstboot.service
        systemd-hwdb-update.service systemd-machine-id-commit.service systemd-journal-flush.service
        systemd-random-seed.service systemd-update-utmp.service systemd-update-utmp-runlevel.service
        ldconfig.service cloud-init-hotplugd.socket getty@tty1.service"

# Before 24.3 the stage before the network is a program run of its own, some seconds under emulation, and has
# nothing to find here: documents come by HTTP. Later versions need its unit.
masked_before_24_3="cloud-init-local.service"

# Kernel modules of machines that no one boots into memory.
dropped="arch/x86/kvm drivers/block/drbd drivers/net/ethernet/mellanox drivers/comedi drivers/gpu drivers/hid drivers/infiniband drivers/media drivers/staging drivers/target
         drivers/iio drivers/isdn drivers/bluetooth drivers/thunderbolt drivers/net/wireless sound
         fs/btrfs fs/ceph fs/gfs2 fs/nfs fs/nfsd fs/ocfs2 fs/smb fs/cifs fs/ksmbd fs/xfs fs/jfs fs/reiserfs fs/ubifs
         net/bluetooth net/ceph net/dccp net/kcm net/mac80211 net/wireless net/mpls net/openvswitch net/rds
         net/sctp net/smc net/sunrpc net/tipc"

case $# in 1 | 2) ;; *) fail "wanted OUT_DIR [x86_64], got $# arguments" ;; esac
arch=${2:-$(uname -m)}
[ "$arch" = "$(uname -m)" ] || fail "wanted this machine's architecture $(uname -m), got $arch; build on a machine of that kind"
need mmdebstrap bsdtar cpio zstd depmod
lock_output "$1"
private_apt "$arch"

mapfile -t inputs < <(find "$0" "$here/kernel.sh" "$here/modules.sh" "$here/debian" -type f)
outputs=(vmlinuz initrd.img)
settle_sources

tree_mode
mkdir -p "$new/kernel"
private_apt_tree "$mode" "$include" "$new/root.tar"
unpack_kernel "$new/kernel"
modules_without "$dropped" "$new/kernel" "$new/over"

# What lies over the tree: our configuration, masks, and the traces of a first boot that need not be made anew.
cp -r "$here/debian/root/." "$new/over/"
mkdir -p "$new/over/etc/systemd/system/multi-user.target.wants" "$new/over/etc/systemd/system/network-online.target.wants" \
    "$new/over/etc/systemd/system/sysinit.target.wants" "$new/over/var"
dpkg --compare-versions "$(private_apt_version cloud-init)" ge 24.3 || masked="$masked $masked_before_24_3"
for unit in $masked; do ln -s /dev/null "$new/over/etc/systemd/system/$unit"; done
ln -s /lib/systemd/system/systemd-networkd.service "$new/over/etc/systemd/system/multi-user.target.wants/"
ln -s /lib/systemd/system/systemd-networkd-wait-online.service "$new/over/etc/systemd/system/network-online.target.wants/"
ln -s ../host-keys.service "$new/over/etc/systemd/system/sysinit.target.wants/"
ln -s ../run/systemd/resolve/stub-resolv.conf "$new/over/etc/resolv.conf"
ln -s usr/lib/systemd/systemd "$new/over/init"
: >"$new/over/etc/machine-id"
touch "$new/over/etc/.updated" "$new/over/var/.updated"
find "$new/over" -type d -exec chmod 0755 {} +
find "$new/over" -type f -exec chmod 0644 {} +

# Two cpio archives in one file, the second over the first.
say "packing the initramfs"
{
    # Some names of certificates are not ASCII.
    LC_ALL=C.UTF-8 bsdtar -cf - --format newc -X "$here/debian/leave-out" "@$new/root.tar"
    cpio_of "$new/over"
} | zstd -q -T0 -"${BOOTJACK_ZSTD_LEVEL:-15}" >"$new/initrd.img"
mv "$new/kernel/vmlinuz" "$new/vmlinuz"
publish
