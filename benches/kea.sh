#!/usr/bin/env bash
# Unpacks Kea's DHCPv4 server without installing it: its package would start a service.
#   in:      OUT_DIR
#   out:     OUT_DIR/usr/sbin/kea-dhcp4 and its libraries, of the version that the machine's own sources have; what else it
#            is linked with comes with kea-admin (deploy/packages.sh bench)
#   refuses: systems without apt
set -euo pipefail
# shellcheck source=../deploy/private-apt.sh
. "$(dirname "$0")/../deploy/private-apt.sh"

[ $# -eq 1 ] || fail "wanted OUT_DIR, got $# arguments"
out=$1
need dpkg
private_apt "$(uname -m)"
private_apt_refresh
version=$(private_apt_version kea-dhcp4-server)
[ -n "$version" ] || fail "wanted the package kea-dhcp4-server, got none; on Ubuntu the universe component must be enabled"
[ "$(cat "$out/VERSION" 2>/dev/null)" != "$version" ] || exit 0

mkdir -p "$(dirname "$out")"
new=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$new"' EXIT
for package in kea-common kea-dhcp4-server; do private_apt_unpack "$package" "$version" "$new"; done
echo "$version" >"$new/VERSION"
rm -rf "$out"
mv "$new" "$out"
