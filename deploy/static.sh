#!/usr/bin/env bash
# Builds bootjackd as one program that needs no libraries, for this machine's processor or for the other one.
#   in:      x86_64|aarch64; for the other one, what cargo has a target for (rustup target add) and the distribution's C compiler
#            for it, or else both unpacked from Debian's packages rustc-web and gcc-TRIPLE, without installing anything
#   out:     target/TRIPLE/release/bootjackd; target/cross/ARCH (the unpacked compilers, and their VERSIONS)
#   refuses: systems without apt where compilers have to be unpacked, and those whose archive lacks rustc-web
#   environment: as private-apt.sh; CARGO_PROFILE (default: release)
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=private-apt.sh
. deploy/private-apt.sh

[ $# -eq 1 ] || fail "wanted x86_64 or aarch64, got $# arguments"
arch=$1
deb_arch "$arch" >/dev/null
host=$(uname -m)
triple=$arch-unknown-linux-gnu
profile=${CARGO_PROFILE:-release}
export RUSTFLAGS="-C target-feature=+crt-static"

# closure ARCH PACKAGE...: "NAME VERSION" of all that apt would install for them on an empty machine.
closure() {
    private_apt "$1"
    private_apt_refresh
    shift
    papt apt-get -s --no-install-recommends install "$@" 2>/dev/null | sed -n 's/^Inst \([^ ]*\) (\([^ ]*\).*/\1 \2/p'
}

# Of those, what no machine has that builds Rust: compilers, and the libraries they are linked with.
not_here() {
    grep -E "^(rustc-web|libstd-rust-web|libllvm|libclang|libz3|libedit|libbsd|libmd|libxml2|libicu|libisl|libmpc|libmpfr|libgmp|libcc1|libjansson|libctf|libbinutils|(gcc|cpp|binutils)-[^ ]*$gnu|[^ ]*-$(deb_arch "$arch")-cross )"
}

# unpack_all PARENT_ARCH: reads "NAME VERSION" lines.
unpack_all() {
    local package version
    while read -r package version; do private_apt_unpack "$package" "$version" "$root.new"; done
}

# Compilers from packages, below target/cross.
unpack_compilers() {
    local own other
    own=$(closure "$host" rustc-web "gcc-${gnu}" "libc6-dev-$(deb_arch "$arch")-cross" | not_here)
    other=$(closure "$arch" libstd-rust-web-dev | grep '^libstd-rust-web')
    case $own in *rustc-web*) ;; *) fail "wanted the package rustc-web, got none in the archive of $(codename); run: rustup target add $triple, and install gcc-$gnu" ;; esac
    [ "$(cat "$root/VERSIONS" 2>/dev/null)" != "$own"$'\n'"$other" ] || return 0
    say "unpacking compilers for $arch"
    rm -rf "$root.new"
    mkdir -p "$root.new"
    private_apt "$host"
    unpack_all <<<"$own"
    private_apt "$arch"
    unpack_all <<<"$other"
    echo "$own"$'\n'"$other" >"$root.new/VERSIONS"
    rm -rf "$root"
    mv "$root.new" "$root"
}

build() {
    cargo build --locked --profile "$profile" --target "$triple" --package bootjackd
}

if [ "$arch" = "$host" ]; then
    build
    exit 0
fi
gnu=$arch-linux-gnu
# Debian's spelling of x86_64.
gnu=${gnu/x86_64/x86-64}
root=$PWD/target/cross/$arch
name=$(echo "$triple" | tr a-z- A-Z_)
compiler=$arch-linux-gnu-gcc
archiver=$arch-linux-gnu-ar
sysroot=$(rustc --print sysroot)
if [ -d "$sysroot/lib/rustlib/$triple" ] && command -v "$compiler" >/dev/null; then
    say "building with the installed target $triple and $compiler"
else
    mkdir -p target/cross
    unpack_compilers
    compiler=$(echo "$root"/usr/bin/"$arch"-linux-gnu-gcc-[0-9]*)
    archiver=$root/usr/bin/$archiver
    libraries=$root/usr/lib:$root/usr/lib/$host-linux-gnu
    export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    # The standard library must be of the compiler that it is used by, so this one also builds what runs here.
    export RUSTC=$root/usr/bin/rustc
    [ -x "$compiler" ] && [ -x "$RUSTC" ] || fail "wanted compilers below $root, got none; remove the directory and try again"
fi
export "CARGO_TARGET_${name}_LINKER=$compiler"
lower=$(echo "$triple" | tr - _)
export "CC_$lower=$compiler" "AR_$lower=$archiver"
build
