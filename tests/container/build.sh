#!/usr/bin/env bash
# Builds the Dockerfile with buildah where no registry of images can be reached: on a base of distribution packages, with this
# machine's Rust lent to it.
#   in:      OUT_DIR; x86_64 or aarch64, without it this machine's (the other one is built across, and not run); packages: deploy/packages.sh build test
#   out:     OUT_DIR/dockerfile.tar (an OCI archive) and OUT_DIR/bootjackd (the program in it); nothing is done where they are newer than the
#            sources
#   refuses: systems without apt; users who are not root
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=../../deploy/private-apt.sh
. deploy/private-apt.sh

[ $# -eq 1 ] || [ $# -eq 2 ] || fail "wanted OUT_DIR [ARCH], got $# arguments"
platform=linux/$(deb_arch "${2:-$(uname -m)}")
need mmdebstrap buildah cargo
mkdir -p "$1"
out=$(cd "$1" && pwd)
exec 9>"$out/.lock"
flock 9
newer=$(find Cargo.toml Cargo.lock Dockerfile api deploy/profiles deploy/static.sh ipxe src "$0" -newer "$out/dockerfile.tar" -print -quit 2>/dev/null || echo all)
[ -n "$newer" ] || exit 0
[ "$(id -u)" -eq 0 ] || fail "wanted root, got $(id -un); run: deploy/as-root.sh $0 $1"

# Images and containers of our own, beside none of the user's.
export CONTAINERS_STORAGE_CONF=$out/storage.conf
printf '[storage]\ndriver = "overlay"\ngraphroot = "%s"\nrunroot = "%s"\n' "$out/storage" "$out/run" >"$CONTAINERS_STORAGE_CONF"

private_apt "$(uname -m)"
private_apt_refresh
if [ ! -e "$out/base.tar" ]; then
    private_apt_tree root "gcc libc6-dev make pkg-config ca-certificates" "$out/base.new.tar"
    mv "$out/base.new.tar" "$out/base.tar"
fi
if ! buildah inspect --type image bootjack-test-rust >/dev/null 2>&1; then
    base=$(buildah from scratch)
    buildah add -q "$base" "$out/base.tar" / >/dev/null
    buildah config --env PATH=/usr/local/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin --env CARGO_HOME=/usr/local/cargo "$base"
    buildah commit -q --rm "$base" bootjack-test-rust >/dev/null
fi

say "building the Dockerfile"
cargo fetch --quiet --locked
rm -f "$out/dockerfile.tar"
buildah build --quiet --platform "$platform" --build-arg BUILDPLATFORM="linux/$(deb_arch "$(uname -m)")" --isolation chroot --network host \
    --volume "$(rustc --print sysroot):/usr/local/rust:ro" \
    --volume "${CARGO_HOME:-$HOME/.cargo}/registry:/usr/local/cargo/registry" \
    --build-arg RUST_IMAGE=localhost/bootjack-test-rust --build-arg CARGO_PROFILE=dev \
    --tag bootjackd:dockerfile . >"$out/log" 2>&1 8>&- 9>&- ||
    { tail -40 "$out/log" >&2; fail "buildah could not build the Dockerfile"; }
built=$(buildah from bootjackd:dockerfile)
cp "$(buildah mount "$built")/bootjackd" "$out/bootjackd"
buildah umount "$built" >/dev/null
buildah rm "$built" >/dev/null
buildah push -q bootjackd:dockerfile "oci-archive:$out/dockerfile.new.tar:bootjackd:dockerfile"
mv "$out/dockerfile.new.tar" "$out/dockerfile.tar"
say "made $out/dockerfile.tar"
