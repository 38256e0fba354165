# shellcheck shell=bash disable=SC2154
# Sourced after kernel.sh by the scripts whose guests load kernel modules by what hardware they find.
#   in:      an unpacked kernel (unpack_kernel); names of modules, or directories of them
#   out:     the modules named and what they depend on, uncompressed, below TARGET_DIR/lib/modules/RELEASE, with the indices that
#            modprobe reads; or all but those in the directories
#   refuses: nothing: a name that the kernel lacks is built in, or is not for this processor

# modules_tree KERNEL_DIR TARGET_DIR MODULE...
modules_tree() {
    local from=$1 to=$2 module path target
    shift 2
    for module in "$@"; do
        modprobe -d "$from" -S "$kernel_release" --show-depends "$module" 2>/dev/null || true
    done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | sort -u |
        while read -r path; do
            target=$to/lib/modules/$kernel_release/${path##*/"$kernel_release"/}
            mkdir -p "$(dirname "$target")"
            case $path in
                *.ko) cp "$path" "$target" ;;
                *.ko.xz) xz -dc "$path" >"${target%.xz}" ;;
                *.ko.zst) zstd -qdc "$path" >"${target%.zst}" ;;
                *.ko.gz) gzip -dc "$path" >"${target%.gz}" ;;
            esac
        done
    cp "$from/lib/modules/$kernel_release"/modules.{order,builtin,builtin.modinfo} "$to/lib/modules/$kernel_release/"
    depmod -b "$to" "$kernel_release"
    # busybox reads these alone.
    find "$to/lib/modules/$kernel_release" -maxdepth 1 -name 'modules.*' ! -name modules.dep ! -name modules.alias \
        ! -name modules.symbols ! -name modules.softdep ! -name modules.builtin -delete
}

# modules_without "DIRECTORY..." KERNEL_DIR TARGET_DIR: moves the others, and makes the indices anew.
modules_without() {
    local path from=$2/lib/modules/$kernel_release
    for path in $1; do rm -rf "$from/kernel/$path"; done
    depmod -b "$2" "$kernel_release"
    rm -f "$from"/{build,source}
    mkdir -p "$3/usr/lib/modules"
    mv "$from" "$3/usr/lib/modules/"
}
