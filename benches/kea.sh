#!/usr/bin/env bash
# Unpacks Kea's DHCPv4 server without installing it: its package would start a service.
#   in:      OUT_DIR
#   out:     OUT_DIR/usr/sbin/kea-dhcp4 and its libraries, of the version that the machine's own sources have; what else it
#            is linked with comes with kea-admin (deploy/packages.sh bench)
#   refuses: systems without apt
set -euo pipefail
[ $# -eq 1 ] || { echo "kea.sh: wanted OUT_DIR, got $# arguments" >&2; exit 1; }
exec "$(dirname "$0")/../deploy/unpack.sh" "$1" kea-common kea-dhcp4-server
