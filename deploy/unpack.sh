#!/usr/bin/env bash
# Unpacks distribution packages without installing them: theirs would start a service, or need what nobody uses here.
#   in:      OUT_DIR PACKAGE...
#   out:     the packages' files below OUT_DIR, of the versions that the machine's own sources have; nothing is done, and no
#            network used, where they are there and their lists are of this day
#   refuses: systems without apt; packages that the sources do not have
set -euo pipefail
# shellcheck source=private-apt.sh
. "$(dirname "$0")/private-apt.sh"

[ $# -ge 2 ] || fail "wanted OUT_DIR PACKAGE..., got $# arguments"
out=$1
shift
need dpkg flock
mkdir -p "$(dirname "$out")"
exec 9>"$out.lock"
flock 9
private_apt "$(uname -m)"
private_apt_refresh
versions=""
for package in "$@"; do
    version=$(private_apt_version "$package")
    [ -n "$version" ] || fail "wanted the package $package, got none; on Ubuntu the universe component must be enabled"
    versions="$versions$package $version"$'\n'
done
[ "$(cat "$out/VERSIONS" 2>/dev/null)" != "${versions%$'\n'}" ] || exit 0

new=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$new"' EXIT
while read -r package version; do private_apt_unpack "$package" "$version" "$new"; done <<<"${versions%$'\n'}"
printf '%s' "$versions" >"$new/VERSIONS"
rm -rf "$out"
mv "$new" "$out"
