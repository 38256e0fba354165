# shellcheck shell=sh disable=SC2154,SC2015
# Sourced. What is done to the system on the disk before it runs.
#   in:      $target with the image on it; $grow, $seed, $seed_url
#   out:     the last partition as large as the disk allows, and an ext file system in it (xfs and btrfs grow when they are
#            mounted: cloud-init does that); cloud-init's documents in the root file system
#   refuses: an image without a root file system that can be mounted, where documents are to be put into it

# The last partition by where it begins, as a number; none on a disk that is one file system.
last_partition() {
    local dir
    for dir in /sys/block/"${target##*/}"/*/start; do
        [ -e "$dir" ] || continue
        dir=${dir%/start}
        echo "$(cat "$dir/start") $(cat "$dir/partition")"
    done | sort -n | tail -n 1 | sed 's/.* //'
}

# first_partition_at: the sector, of which the mark wants to know.
first_partition_at() { cat /sys/block/"${target##*/}"/*/start 2>/dev/null | sort -n | head -n 1; }

device_of() {
    case $target in
        *[0-9]) echo "${target}p$1" ;;
        *) echo "$target$1" ;;
    esac
}

reread() {
    blockdev --rereadpt "$target" 2>>"$log" || { sleep 1; blockdev --rereadpt "$target" 2>>"$log"; }
}

type_of() { blkid -p -o value -s TYPE "$1" 2>/dev/null; }

# From now on the disk is this machine's. Where an image has something in that sector, the next installation needs `wipe`.
mark_installed() {
    local first
    first=$(first_partition_at)
    if [ -n "$first" ] && [ "$first" -gt "$MARK_SECTOR" ] &&
        [ "$(dd if=/run/first bs=512 skip="$MARK_SECTOR" count=1 2>/dev/null | tr -d '\0' | wc -c)" = 0 ]; then
        mark installed
    else
        say "no room for a mark; installing this machine again will need wipe = true"
    fi
}

grow_last() {
    local number device
    [ "$grow" = true ] || return 0
    number=$(last_partition)
    device=$target
    if [ -n "$number" ]; then
        # GPT keeps a copy at the end of the disk, which is elsewhere now.
        if [ "$(blkid -p -o value -s PTTYPE "$target")" = gpt ]; then
            sfdisk -q --no-reread --relocate gpt-bak-std "$target" >>"$log" 2>&1 || fail "grow: the partition table cannot be put right: $(tail -n 1 "$log")"
        fi
        echo ", +" | sfdisk -q --no-reread --force -N "$number" "$target" >>"$log" 2>&1 ||
            fail "grow: partition $number cannot be made larger: $(tail -n 1 "$log")"
        reread
        device=$(device_of "$number")
    fi
    case $(type_of "$device") in
        ext2 | ext3 | ext4)
            # 1: put right.
            e2fsck -fp "$device" >>"$log" 2>&1
            [ $? -le 1 ] && resize2fs "$device" >>"$log" 2>&1 || fail "grow: the file system on ${device#/dev/} cannot be made larger: $(tail -n 1 "$log")"
            ;;
        *) say "grow: ${device#/dev/} holds $(type_of "$device" || true); its system grows it" ;;
    esac
    say "grow: ${device#/dev/} has $(($(cat "/sys/class/block/${device#/dev/}/size") / 2048)) MiB"
}

# Mounts the root file system on /mnt; answers where in it the root is. Fedora keeps it in a subvolume.
mount_root() {
    local dir device root
    for dir in /sys/block/"${target##*/}"/*/partition /sys/block/"${target##*/}"; do
        dir=${dir%/partition}
        device=/dev/${dir##*/}
        case $(type_of "$device") in ext[234] | xfs | btrfs) ;; *) continue ;; esac
        mount -t "$(type_of "$device")" "$device" /mnt 2>>"$log" || continue
        for root in /mnt /mnt/root /mnt/@ /mnt/@/.snapshots/1/snapshot; do
            if [ -e $root/etc/os-release ] || [ -L $root/etc/os-release ] || [ -e $root/usr/lib/os-release ]; then
                echo $root
                return 0
            fi
        done
        umount /mnt
    done
    return 1
}

# cloud-init looks there before it asks any network (DataSourceNoCloud's seed directory).
put_seed() {
    local root dir document
    [ "$seed" = true ] || return 0
    root=$(mount_root) || fail "seed: the image has no root file system with an os-release in it (ext4, xfs, btrfs); set the variable seed = false if it needs no cloud-init documents"
    dir=$root/var/lib/cloud/seed/nocloud
    mkdir -p "$dir"
    for document in meta-data user-data vendor-data network-config; do
        curl -fsS -m 30 --retry 5 --retry-connrefused -o "$dir/$document" "$seed_url$document" 2>>"$log" ||
            fail "seed: $document: $(tail -n 1 "$log")"
        chmod 0600 "$dir/$document"
    done
    umount /mnt || fail "seed: the root file system cannot be unmounted"
    say "seed: cloud-init finds its documents in /var/lib/cloud/seed/nocloud"
}
