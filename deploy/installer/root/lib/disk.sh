# shellcheck shell=sh disable=SC2154,SC2015
# Sourced. Which disk, and whether it may be written.
#   in:      $disk (which), $wipe, $machine
#   out:     $target, a disk's device
#   refuses: no disk; more than one, where nobody said which; a disk that holds anything, unless wipe is set or it bears the mark
#            of an earlier installation of this very machine: to install a machine again is one call, and a machine that came
#            with data keeps it, even if somebody reserved its address by mistake
#
# The mark is in the last sector before the first MiB, where no partition begins and no boot loader goes.
MARK_SECTOR=2047
# Elsewhere in tests.
SYS=${SYS:-/sys}
DEV=${DEV:-/dev}

# Disks that stay in the machine: no removable ones, no USB sticks, none that cannot be written.
disks() {
    local dir name
    for dir in "$SYS"/block/*; do
        name=${dir##*/}
        case $name in loop* | ram* | zram* | sr* | fd* | md* | dm-* | nbd* | mtdblock* | mmcblk*boot* | mmcblk*rpmb) continue ;; esac
        [ "$(cat "$dir/removable")" = 0 ] && [ "$(cat "$dir/ro")" = 0 ] && [ "$(cat "$dir/size")" -gt 0 ] || continue
        case $(readlink -f "$dir") in */usb[0-9]*) continue ;; esac
        echo "$name"
    done
}

serial_of() { cat "$SYS/block/$1/serial" "$SYS/block/$1/device/serial" 2>/dev/null || tail -c +5 "$SYS/block/$1/device/vpd_pg80" 2>/dev/null; }
wwn_of() { cat "$SYS/block/$1/wwid" "$SYS/block/$1/device/wwid" 2>/dev/null; }
bytes_of() { echo $(($(cat "$SYS/block/$1/size") * 512)); }

# A line for people: sda 480103981056 bytes serial=S3 wwn=naa.5
described() {
    local name
    for name in $(disks); do
        echo "$name $(($(bytes_of "$name") / 1000000)) MB serial=$(serial_of "$name" | head -n 1 | tr -dc '!-~')"
    done | tr '\n' ',' | sed 's/,$//; s/,/, /g'
}

matching() {
    local name
    for name in $(disks); do
        case $disk in
            serial=*) [ "$(serial_of "$name" | head -n 1 | tr -dc '!-~')" = "${disk#serial=}" ] && echo "$name" ;;
            wwn=*) [ "$(wwn_of "$name" | head -n 1 | tr -dc '!-~')" = "${disk#wwn=}" ] && echo "$name" ;;
            smallest | "") echo "$name" ;;
            *) [ "$name" = "${disk#/dev/}" ] && echo "$name" ;;
        esac
    done
}

choose_disk() {
    local found
    # Disks come to light after their controllers do.
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        found=$(matching)
        if [ "$disk" = smallest ]; then
            found=$(for name in $found; do echo "$(bytes_of "$name") $name"; done | sort -n | sed -n '1s/.* //p')
        fi
        [ -z "$found" ] || break
        sleep 1
    done
    [ -n "$(disks)" ] || fail "no disk in this machine that can be written"
    [ -n "$found" ] || fail "no disk is $disk; there are: $(described)"
    [ "$(echo "$found" | wc -l)" = 1 ] ||
        fail "more than one disk, and the variable disk does not say which (a name, serial=…, wwn=… or smallest): $(described)"
    target=$DEV/$found
    say "disk $found of $(described)"
}

# first_sectors and last ones: a MiB each, where tables, file systems, RAID and LVM have what they are known by.
ends_of() {
    dd if="$target" bs=1M count=1 2>/dev/null
    dd if="$target" bs=512 skip=$(($(bytes_of "${target##*/}") / 512 - 2048)) 2>/dev/null
}

check_disk() {
    local mark held
    [ "$(bytes_of "${target##*/}")" -ge 4194304 ] || fail "disk ${target##*/} has less than 4 MiB"
    [ "$(ends_of | tr -d '\0' | wc -c)" != 0 ] || return 0
    mark=$(dd if="$target" bs=512 skip="$MARK_SECTOR" count=1 2>/dev/null | tr -d '\0' | head -n 1)
    case $mark in "bootjack disk-image machine=$machine "*) say "disk was this machine's before: $mark"; return 0 ;; esac
    if [ "$wipe" = true ]; then
        say "disk is not empty, and wipe is set"
        return 0
    fi
    held=$(blkid -p -o export "$target" 2>/dev/null | grep '^TYPE=\|^PTTYPE=\|^LABEL=' | tr '\n' ' ')
    fail "disk ${target##*/} is not empty (${held:-no file system that is known}), and no earlier installation of $machine; set the variable wipe = true to have it overwritten"
}

# mark STATE: written over a sector that is free, or not at all.
mark() {
    printf 'bootjack disk-image machine=%s %s\n' "$machine" "$1" >/run/mark
    dd if=/run/mark of="$target" bs=512 seek="$MARK_SECTOR" conv=notrunc,fsync 2>/dev/null
}

wipe_ends() {
    dd if=/dev/zero of="$target" bs=1M count=1 conv=notrunc,fsync 2>/dev/null
    dd if=/dev/zero of="$target" bs=512 count=2048 seek=$(($(bytes_of "${target##*/}") / 512 - 2048)) conv=notrunc,fsync 2>/dev/null
}

# What was begun is nothing to boot from, and next time known for what it is.
begin_writing() {
    touch /run/writing
    wipe_ends && mark writing || fail "disk ${target##*/} cannot be written: $(dmesg | tail -n 1)"
}
take_back() {
    umount /mnt 2>/dev/null
    wipe_ends
    mark writing
}
