# shellcheck shell=sh
# Sourced: disk SERIAL prints the device of the virtio disk with this serial, or nothing.
disk() {
    local block
    for block in /sys/block/vd*; do
        if [ "$(cat "$block/serial" 2>/dev/null)" = "$1" ]; then
            echo "/dev/${block##*/}"
            return 0
        fi
    done
    return 1
}

# argument NAME: the value of NAME=VALUE on the kernel's command line, or nothing. The boot loader of a cloud image has a command
# line of its own, so there the seed has a file of such words.
argument() { cat /proc/cmdline /etc/bootjack/cmdline 2>/dev/null | tr ' ' '\n' | sed -n "s/^$1=//p" | tail -n 1; }
