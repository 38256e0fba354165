# shellcheck shell=bash disable=SC2154
# Sourced after private-apt.sh by the scripts that make a guest's vmlinuz and initrd.img.
#   in:      the output directory; the distribution's kernel for virtual machines, by its meta package
#   out:     the kernel package's name and version; its image and modules unpacked into a directory;
#            outputs that appear whole or not at all, built by one run at a time
#   refuses: a suite without such a kernel

# One builder at a time per output directory; the lock goes with the process.
lock_output() {
    mkdir -p "$1"
    exec 9>"$1/.lock"
    flock 9
    rm -rf "$1"/.new.*
}

# is_current OUT_DIR SOURCES INPUT...: the outputs hold these package versions and are newer than the inputs.
is_current() {
    local out=$1 sources=$2 input
    shift 2
    [ -s "$out/vmlinuz" ] && [ -s "$out/initrd.img" ] && [ "$(cat "$out/SOURCES" 2>/dev/null)" = "$sources" ] || return 1
    for input in "$@"; do [ ! "$input" -nt "$out/SOURCES" ] || return 1; done
}

# publish OUT_DIR NEW_DIR SOURCES: SOURCES vouches for the rest, so it goes first and comes last.
publish() {
    rm -f "$1/SOURCES"
    chmod 0644 "$2/vmlinuz" "$2/initrd.img"
    mv "$2/vmlinuz" "$1/vmlinuz"
    mv "$2/initrd.img" "$1/initrd.img"
    echo "$3" >"$2/SOURCES"
    mv "$2/SOURCES" "$1/SOURCES"
}

# kernel_package [META]: "PACKAGE VERSION" of the kernel that the meta package stands for now, or nothing; the one for
# virtual machines, unless another is named.
kernel_package() {
    local meta=${1:-} package
    if [ -z "$meta" ]; then
        case $(distribution) in
            ubuntu) meta=linux-image-virtual ;;
            *) meta=linux-image-cloud-$private_apt_arch ;;
        esac
    fi
    package=$(private_apt_depends "$meta" | grep -m1 '^linux-image-[0-9]' || true)
    [ -z "$package" ] || echo "$package $(private_apt_version "$package")"
}

# unpack_kernel PACKAGE VERSION DIR: afterwards DIR/vmlinuz, DIR/lib/modules/* with its modules.dep.
unpack_kernel() {
    local package=$1 version=$2 dir=$3 modules image
    private_apt_unpack "$package" "$version" "$dir"
    # Ubuntu keeps the modules in a package of their own.
    for modules in $(private_apt_depends "$package" | grep '^linux-modules-[0-9]' || true); do
        private_apt_unpack "$modules" "$(private_apt_version "$modules")" "$dir"
    done
    # Merged /usr: newer kernels bring /usr/lib/modules.
    [ -e "$dir/lib" ] || ln -s usr/lib "$dir/lib"
    image=$(echo "$dir"/boot/vmlinuz-*)
    [ -s "$image" ] || fail "wanted boot/vmlinuz-* in $package, got none"
    # Ubuntu's arm64 kernel is a gzip file, which no firmware takes.
    if gzip -t "$image" 2>/dev/null; then gzip -dc "$image" >"$dir/vmlinuz"; else cp "$image" "$dir/vmlinuz"; fi
    kernel_release=$(basename "$(echo "$dir"/lib/modules/*)")
    depmod -b "$dir" "$kernel_release"
}
