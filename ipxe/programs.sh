#!/usr/bin/env bash
# Collects network boot programs out of distribution packages.
#   in:      OUT_DIR [x86_64|aarch64|all]; the ipxe package: installed, or downloaded and only unpacked
#   out:     OUT_DIR/undionly.kpxe, ipxe.efi, snponly.efi (x86_64); OUT_DIR/ipxe-arm64.efi (aarch64);
#            OUT_DIR/SOURCES, one line per file: name, package, version, sha256
#   refuses: an installed file that differs from its package's own checksum; an unsigned archive
#   environment: BOOTJACK_IPXE_SUITE  release to take aarch64 from if this one has none (Debian: trixie)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=../deploy/private-apt.sh
. "$here/../deploy/private-apt.sh"

case $# in 1 | 2) ;; *) fail "wanted OUT_DIR [x86_64|aarch64|all], got $# arguments" ;; esac
case ${2:-all} in x86_64 | aarch64 | all) wanted=${2:-all} ;; *) fail "wanted x86_64, aarch64 or all, got '$2'" ;; esac
need sha256sum md5sum flock

mkdir -p "$1"
out=$(cd "$1" && pwd)
exec 9>"$out/.lock"
flock 9
new=$out/.new.$$
rm -rf "$out"/.new.*
mkdir "$new"
trap 'rm -rf "$new"' EXIT

files=""
case $wanted in x86_64 | all) files="undionly.kpxe ipxe.efi snponly.efi" ;; esac
case $wanted in aarch64 | all) files="$files ipxe-arm64.efi" ;; esac

installed_version() { dpkg-query -W -f '${db:Status-Status} ${Version}' ipxe 2>/dev/null | sed -n 's/^installed //p' || true; }
available_version() { (private_apt x86_64 "${1:-}" && private_apt_version ipxe); }

# collected: what was asked for is there, is what SOURCES says, and comes from a version that is current.
collected() {
    local file version installed available
    [ -e "$out/SOURCES" ] && [ ! "$0" -nt "$out/SOURCES" ] && [ -z "${BOOTJACK_REFRESH:-}" ] || return 1
    (cd "$out" && awk '{ print $4 "  " $1 }' SOURCES | sha256sum --status -c -) || return 1
    installed=$(installed_version)
    for file in $files; do
        read -r _ _ version _ < <(grep "^$file " "$out/SOURCES") || return 1
        [ "$version" != "$installed" ] || continue
        for available in "$(available_version)" "$(available_version "$suite")"; do
            [ "$version" != "$available" ] || continue 2
        done
        return 1
    done
}

# take TREE VERSION FILE...: copies what the unpacked package at TREE has of the files still wanted.
take() {
    local tree=$1 version=$2 file candidate source
    shift 2
    for file in "$@"; do
        [ ! -e "$new/$file" ] || continue
        for candidate in "$file" "$(other_name "$file")"; do
            for source in "$tree/usr/lib/ipxe/$candidate" "$tree/boot/$candidate"; do
                [ -f "$source" ] || continue
                cp "$source" "$new/$file"
                chmod 0644 "$new/$file"
                echo "$file ipxe $version $(sha256sum <"$new/$file" | cut -d' ' -f1)" >>"$new/SOURCES"
                continue 3
            done
        done
    done
}

other_name() {
    case $1 in
        ipxe.efi) echo ipxe-amd64.efi ;;
        *) echo "$1" ;;
    esac
}

missing() { local file; for file in $files; do [ -e "$new/$file" ] || echo "$file"; done; }

# The machine's own package, only if its files are what the package brought.
take_installed() {
    local version
    version=$(installed_version)
    [ -n "$version" ] || return 0
    (cd / && grep -h ' usr/lib/ipxe/\| boot/' "$(dpkg-query --control-path ipxe md5sums)" | md5sum --status -c -) ||
        fail "wanted the files of the installed package ipxe $version, got changed ones; run: apt-get install --reinstall ipxe"
    say "taking from the installed package ipxe $version"
    # shellcheck disable=SC2086  # words are file names
    take "" "$version" $files
}

# take_downloaded [SUITE]
take_downloaded() {
    local version
    private_apt x86_64 "${1:-}"
    private_apt_refresh
    version=$(private_apt_version ipxe)
    [ -n "$version" ] || return 0
    say "unpacking ipxe $version${1:+ from $1}"
    private_apt_unpack ipxe "$version" "$new/tree"
    # shellcheck disable=SC2086  # words are file names
    take "$new/tree" "$version" $files
    rm -rf "$new/tree"
}

suite=${BOOTJACK_IPXE_SUITE:-}
[ -n "$suite" ] || [ "$(distribution)" != debian ] || suite=trixie
if collected; then exit 0; fi

take_installed
# snponly.efi alone is not worth a download: not every release has it.
case $(missing) in '' | snponly.efi) ;; *) [ -n "$(installed_version)" ] || take_downloaded ;; esac
case $(missing) in '' | snponly.efi) ;; *) [ -z "$suite" ] || take_downloaded "$suite" ;; esac
case $(missing) in
    '') ;;
    snponly.efi) say "this release has no snponly.efi; ipxe.efi serves in its place" ;;
    *) fail "wanted $(missing | tr '\n' ' ')in a package ipxe, got none; set BOOTJACK_IPXE_SUITE to a release whose ipxe has it" ;;
esac

# Lines of files that were collected before and are not asked for now stay.
if [ -e "$out/SOURCES" ]; then
    while read -r name rest; do
        [ -e "$new/$name" ] || [ ! -e "$out/$name" ] || echo "$name $rest"
    done <"$out/SOURCES" >>"$new/SOURCES"
fi
sort -o "$new/SOURCES" "$new/SOURCES"
for file in $files; do [ ! -e "$new/$file" ] || mv "$new/$file" "$out/$file"; done
mv "$new/SOURCES" "$out/SOURCES"
say "collected in $out: $(cut -d' ' -f1 "$out/SOURCES" | tr '\n' ' ')"
