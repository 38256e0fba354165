# shellcheck shell=bash
# Sourced by the scripts that take files out of distribution packages without installing them, or make trees of a release.
#   in:      private_apt ARCH [SUITE]    ARCH is x86_64 or aarch64; SUITE another release of the same
#                                        distribution, from the same mirror
#   out:     functions that ask and unpack packages of that architecture and suite, and install them into trees, in an apt state of
#            its own under $BOOTJACK_CACHE (default: bootjack/ in the user's cache directory); apt checks
#            the archive's signatures against the distribution's keyring; nothing of the machine's own
#            apt configuration is changed, its proxy and Acquire settings are used
#   refuses: systems without apt; packages the sources do not have
#   environment: BOOTJACK_APT_SOURCES  a sources.list to use instead of the machine's own sources
#                BOOTJACK_REFRESH=1    read the package lists again even if they are less than a day old

PATH=$PATH:/usr/sbin:/sbin

say() { echo "${0##*/}: $*" >&2; }
fail() { say "$@"; exit 1; }

need() {
    local program
    for program in "$@"; do
        command -v "$program" >/dev/null ||
            fail "wanted the program $program, got none; run: deploy/packages.sh lab"
    done
}

deb_arch() {
    case $1 in
        x86_64) echo amd64 ;;
        aarch64) echo arm64 ;;
        *) fail "wanted architecture x86_64 or aarch64, got '$1'" ;;
    esac
}

distribution() { (. /etc/os-release && case "$ID ${ID_LIKE:-}" in *ubuntu*) echo ubuntu ;; *) echo debian ;; esac); }
codename() { (. /etc/os-release && echo "${VERSION_CODENAME:-}"); }

# The machine's own archive entries as sources.list lines; a third party's are left out.
own_sources() {
    local suite=$1 own keyring options="" release uri component origin
    own=$(codename)
    keyring=/usr/share/keyrings/$(distribution)-archive-keyring.gpg
    [ ! -r "$keyring" ] || options="[signed-by=$keyring] "
    # shellcheck disable=SC2016  # the fields are expanded by apt
    apt-get indextargets --format '$(RELEASE) $(REPO_URI) $(COMPONENT) $(ORIGIN)' 'Created-By: Packages' | sort -u |
        while read -r release uri component origin; do
            # shellcheck disable=SC2016
            # An origin that apt has not read yet is shown unexpanded.
            case $origin in Debian | Ubuntu | '$(ORIGIN)') ;; *) continue ;; esac
            case $release in *-backports | *-proposed | experimental) continue ;; esac
            case $own in '' | "${release%%-*}") ;; *) continue ;; esac
            if [ -z "$suite" ]; then
                echo "deb $options$uri $release $component"
            elif [ "$release" = "$own" ] && { [ "$component" = main ] || [ "$component" = universe ]; }; then
                echo "deb $options$uri $suite $component"
            fi
        done
}

private_apt() {
    local arch suite=${2:-}
    need apt-get apt-cache apt-config dpkg flock
    arch=$(deb_arch "$1")
    private_apt_dir=${BOOTJACK_CACHE:-${XDG_CACHE_HOME:-${HOME:?wanted HOME, XDG_CACHE_HOME or BOOTJACK_CACHE, got none}/.cache}/bootjack}/apt-${suite:-$(codename)}-$arch
    private_apt_arch=$arch
    mkdir -p "$private_apt_dir"/{state/lists/partial,cache/archives/partial,empty}
    exec 8>"$private_apt_dir/lock"
    flock 8
    if [ -n "${BOOTJACK_APT_SOURCES:-}" ]; then
        cat "$BOOTJACK_APT_SOURCES"
    else
        own_sources "$suite"
    fi >"$private_apt_dir/sources.list.new"
    [ -s "$private_apt_dir/sources.list.new" ] ||
        fail "wanted the archive of $(distribution) $(codename) among the apt sources, got none; name a sources.list in BOOTJACK_APT_SOURCES"
    if cmp -s "$private_apt_dir/sources.list.new" "$private_apt_dir/sources.list"; then
        rm "$private_apt_dir/sources.list.new"
    else
        mv "$private_apt_dir/sources.list.new" "$private_apt_dir/sources.list"
        rm -f "$private_apt_dir/refreshed"
    fi
    : >>"$private_apt_dir/status"
    {
        apt-config dump | grep '^Acquire::' | grep -v '^Acquire::IndexTargets\|^Acquire::Languages' || true
        cat <<END
Dir::State "$private_apt_dir/state";
Dir::State::status "$private_apt_dir/status";
Dir::Cache "$private_apt_dir/cache";
Dir::Cache::srcpkgcache "";
Dir::Log "$private_apt_dir";
Dir::Etc::SourceList "$private_apt_dir/sources.list";
Dir::Etc::SourceParts "$private_apt_dir/empty";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "$private_apt_dir/empty";
Dir::Etc::Main "/dev/null";
Dir::Etc::Parts "$private_apt_dir/empty";
APT::Architecture "$arch";
APT::Architectures { "$arch"; };
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::GzipIndexes "true";
END
    } >"$private_apt_dir/apt.conf"
    flock -u 8
}

papt() { APT_CONFIG=$private_apt_dir/apt.conf "$@"; }

# Reads the package lists, at most once a day; older lists are good enough when there is no network.
private_apt_refresh() {
    local stamp=$private_apt_dir/refreshed
    flock 8
    if [ -n "${BOOTJACK_REFRESH:-}" ] || [ -z "$(find "$stamp" -mtime -1 2>/dev/null)" ]; then
        say "reading package lists ($private_apt_arch)"
        if papt apt-get -qq update >"$private_apt_dir/update.log" 2>&1; then
            touch "$stamp"
        elif [ -e "$stamp" ]; then
            say "could not read them, using those of $(date -r "$stamp" +%F)"
        else
            cat "$private_apt_dir/update.log" >&2
            fail "apt-get update failed; check the machine's apt sources and network"
        fi
    fi
    flock -u 8
}

# The version apt would take, or nothing.
private_apt_version() {
    papt apt-cache policy "$1" 2>/dev/null | sed -n 's/^  Candidate: //p' | grep -v '^(none)$' || true
}

private_apt_depends() { papt apt-cache depends --important "$1" 2>/dev/null | sed -n 's/^ *|\{0,1\}Depends: //p'; }

# private_apt_unpack PACKAGE VERSION DIR
private_apt_unpack() {
    local download status=0
    download=$(mktemp -d)
    (cd "$download" && papt apt-get -qq download "$1=$2" >log 2>&1) || status=$?
    if [ $status -ne 0 ]; then
        cat "$download/log" >&2
        rm -rf "$download"
        fail "wanted package $1 $2 ($private_apt_arch), got an error from apt-get download; the lists may be old: set BOOTJACK_REFRESH=1"
    fi
    mkdir -p "$3"
    dpkg -x "$download"/*.deb "$3"
    rm -rf "$download"
}

# How this user makes trees: $mode of mmdebstrap, and $as_root, before what is root of them.
tree_mode() {
    if [ "$(id -u)" -eq 0 ]; then
        mode=root
        as_root=()
    elif ! command -v newuidmap >/dev/null; then
        fail "wanted root or the program newuidmap, got user $(id -un) without; run: deploy/packages.sh lab"
    elif ! grep -q "^$(id -un):\|^$(id -u):" /etc/subuid 2>/dev/null; then
        fail "wanted root, or a range of user ids in /etc/subuid, got $(id -un) without; run: sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $(id -un)"
    elif ! unshare --user --map-auto --map-root-user true 2>/dev/null; then
        fail "wanted root, or user namespaces, got $(id -un) and a kernel that refuses them; see: sysctl kernel.unprivileged_userns_clone kernel.apparmor_restrict_unprivileged_userns"
    else
        mode=unshare
        # shellcheck disable=SC2034  # used by who sources this
        as_root=(unshare --user --map-auto --map-root-user --fork)
    fi
}

# private_apt_tree MODE "PACKAGE..." FILE: the release in a tree of its own, made by mmdebstrap in that mode, as a tar archive: what no
# system is without, and those of the packages that the release has (it may have one of them inside another), without what is
# there to be read.
private_apt_tree() {
    local package path line included="" options=(--variant=minbase --mode="$1" --format=tar
        --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"')
    for package in $2; do
        [ -z "$(private_apt_version "$package")" ] || included="$included${included:+,}$package"
    done
    for path in doc man info locale lintian i18n; do options+=(--dpkgopt="path-exclude=/usr/share/$path/*"); done
    while read -r line; do options+=(--aptopt="${line%;}"); done < <(grep -i '^Acquire::.*proxy' "$private_apt_dir/apt.conf" || true)
    say "installing $(codename) into a tree of its own ($1): $included"
    # Without our locks' descriptors: mmdebstrap's hooks number theirs from the next free one and dash knows one digit only.
    mmdebstrap "${options[@]}" --include="$included" "$(codename)" "$3" "$private_apt_dir/sources.list" >"$3.log" 2>&1 8>&- 9>&- ||
        { cat "$3.log" >&2; fail "mmdebstrap could not make the tree"; }
}
