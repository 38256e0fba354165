# shellcheck shell=bash
# Sourced by the scripts that make a disk which a machine with a BIOS starts from.
#   in:      a directory with vmlinuz, initrd.img and what is to be in the root file system, root/; the installed sfdisk, mtools,
#            syslinux and mke2fs
#   out:     DIR/disk.img: GPT, a FAT partition with syslinux, the kernel and the initramfs, and an ext4 root file system
#   refuses: machines other than x86_64, whose syslinux there is none of; what is missing, by its package

need_syslinux() {
    local program
    [ "$(uname -m)" = x86_64 ] || fail "wanted a machine that is x86_64, got $(uname -m): syslinux is for those alone"
    for program in sfdisk mformat syslinux mke2fs "$@"; do
        command -v "$program" >/dev/null || fail "wanted the program $program, got none; run: deploy/packages.sh test"
    done
}

# syslinux_disk DIR MIB FAT_MIB ROOT_MIB LABEL CMDLINE [OPTION...]: what lies behind the root file system is for who installs the disk.
# The options are mke2fs's.
syslinux_disk() {
    local dir=$1 mib=$2 fat=$3 root=$4 label=$5 append=$6 disk=$1/disk.img
    shift 6
    cat >"$dir/syslinux.cfg" <<END
serial 0 115200
default linux
label linux
  kernel vmlinuz
  initrd initrd.img
  append $append
END
    truncate -s "${mib}M" "$disk"
    sfdisk -q "$disk" <<END
label: gpt
start=2048, size=${fat}MiB, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, attrs=LegacyBIOSBootable
size=${root}MiB, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4
END
    mformat -i "$disk@@1M" -T $((fat * 2048)) -h 255 -s 63 -c 4 ::
    mcopy -i "$disk@@1M" "$dir/vmlinuz" "$dir/initrd.img" "$dir/syslinux.cfg" ::
    syslinux --offset $((1 << 20)) --install "$disk"
    dd if=/usr/lib/syslinux/mbr/gptmbr.bin of="$disk" conv=notrunc status=none
    mke2fs -q -t ext4 -L "$label" "$@" -E "offset=$(((1 + fat) << 20)),root_owner=0:0,lazy_itable_init=1" -d "$dir/root" "$disk" "${root}M"
}
