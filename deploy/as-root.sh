#!/usr/bin/env bash
# Runs a program as root, for tests that make network namespaces.
#   in:      a program and its arguments
#   out:     whatever it does; its exit status
#   refuses: users who are neither root, nor may use sudo without being asked, nor may make a user namespace
set -euo pipefail

if [ "$(id -u)" -eq 0 ]; then
    exec "$@"
fi
if sudo -n true 2>/dev/null; then
    exec sudo --preserve-env --non-interactive -- env "PATH=$PATH" "$@"
fi
in_namespace=(unshare --user --map-root-user --net --mount --fork --kill-child)
if "${in_namespace[@]}" true 2>/dev/null && [ -w /dev/net/tun ]; then
    # The program finds an empty /run, where its namespaces get their names.
    exec "${in_namespace[@]}" sh -c 'mount -t tmpfs none /run && exec "$@"' sh "$@"
fi
if [ -t 0 ]; then
    exec sudo --preserve-env -- env "PATH=$PATH" "$@"
fi
echo "as-root.sh: wanted root, got user $(id -un) without sudo and without user namespaces; run it as root" >&2
exit 1
