#!/usr/bin/env bash
# Unpacks tftpd-hpa without installing it: its package would start a service.
#   in:      OUT_DIR
#   out:     OUT_DIR/usr/sbin/in.tftpd, of the version that the machine's own sources have
#   refuses: systems without apt
set -euo pipefail
# shellcheck source=../deploy/private-apt.sh
. "$(dirname "$0")/../deploy/private-apt.sh"

[ $# -eq 1 ] || fail "wanted OUT_DIR, got $# arguments"
out=$1
need dpkg
private_apt "$(uname -m)"
private_apt_refresh
version=$(private_apt_version tftpd-hpa)
[ -n "$version" ] || fail "wanted the package tftpd-hpa, got none"
[ "$(cat "$out/VERSION" 2>/dev/null)" != "$version" ] || exit 0

mkdir -p "$(dirname "$out")"
new=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$new"' EXIT
private_apt_unpack tftpd-hpa "$version" "$new"
echo "$version" >"$new/VERSION"
rm -rf "$out"
mv "$new" "$out"
