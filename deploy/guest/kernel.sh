# shellcheck shell=bash disable=SC2154
# Sourced after private-apt.sh by the scripts that make what a machine boots: a kernel with an initramfs, or a disk.
#   in:      of the script: $outputs (names of files) in $out, $inputs (paths), and $watched, the packages by whose versions it is
#            told whether the outputs are current; $recipe, if it is told by more
#   out:     the kernel package's name and version; its image and modules unpacked into a directory; outputs that appear
#            whole or not at all, built by one run at a time in $new, and are left alone where nothing new would go in
#   refuses: a suite that lacks the distribution's kernel for virtual machines, or a package that is watched

# Of the script, not of who runs it.
recipe=""
watched=""

# One builder at a time per output directory; the lock goes with the process, and so does what it makes.
lock_output() {
    mkdir -p "$1"
    out=$(cd "$1" && pwd)
    exec 9>"$out/.lock"
    flock 9
    rm -rf "$out"/.new.*
    new=$out/.new.$$
}

# What would go in, by the package lists at hand.
sources_now() {
    local package version
    kernel=$(kernel_package)
    sources=${recipe:+recipe $recipe$'\n'}${kernel:-no kernel}
    for package in $watched; do
        version=$(private_apt_version "$package")
        sources="$sources"$'\n'"$package ${version:-none}"
    done
}

# The outputs hold these package versions and are newer than the inputs.
is_current() {
    local name
    for name in "${outputs[@]}"; do [ -s "$out/$name" ] || return 1; done
    [ "$(cat "$out/SOURCES" 2>/dev/null)" = "$sources" ] || return 1
    for name in "${inputs[@]}"; do [ ! "$name" -nt "$out/SOURCES" ] || return 1; done
}

# Ends the script where the outputs are current; otherwise lists of today say what goes in.
settle_sources() {
    sources_now
    [ -n "${BOOTJACK_REFRESH:-}" ] || ! is_current || exit 0
    private_apt_refresh
    sources_now
    ! is_current || exit 0
    ! grep -q '^no kernel$\| none$' <<<"$sources" ||
        fail "wanted a kernel and $watched for $private_apt_arch in the apt sources, got: ${sources//$'\n'/, }; name a sources.list that has them in BOOTJACK_APT_SOURCES"
    mkdir -p "$new"
    trap 'rm -rf "$new"' EXIT
}

# Moves the outputs into place: SOURCES vouches for the rest, so it goes first and comes last.
publish() {
    local name
    rm -f "$out/SOURCES"
    for name in "${outputs[@]}"; do
        chmod 0644 "$new/$name"
        mv "$new/$name" "$out/$name"
    done
    echo "$sources" >"$new/SOURCES"
    mv "$new/SOURCES" "$out/SOURCES"
    (cd "$out" && say "made in $out:$(du -h "${outputs[@]}" | awk '{ printf " %s (%s)", $2, $1 }')")
}

# cpio_of DIR: an archive as the kernel unpacks it.
cpio_of() { (cd "$1" && find . -mindepth 1 | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet); }

# busybox_into DIR: that of the package busybox-static, as DIR/bin/busybox.
busybox_into() {
    private_apt_unpack busybox-static "$(private_apt_version busybox-static)" "$new/busybox"
    mkdir -p "$1/bin"
    install -m 0755 "$(find "$new/busybox" -type f -path '*bin/busybox')" "$1/bin/busybox"
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

# unpack_kernel DIR: afterwards DIR/vmlinuz, DIR/lib/modules/* with its modules.dep, of $kernel.
unpack_kernel() {
    local package=${kernel% *} version=${kernel#* } dir=$1 modules image
    say "unpacking $kernel"
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
