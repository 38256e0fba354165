# shellcheck shell=sh disable=SC2154,SC2015
# The installation, step by step.
#   in:      the kernel's command line (settings.sh); a network with DHCP; one disk
#   out:     status 0, and the server knows: the disk has the image, and the machine is to start from it; or else status 1, the
#            reason told
#   refuses: what each step says; nothing on a disk is touched before the disk, the image's address and its server are sound
. /lib/say.sh
. /lib/settings.sh
. /lib/report.sh
. /lib/network.sh
. /lib/disk.sh
. /lib/image.sh
. /lib/system.sh

read_settings
begun=$(date +%s)
network_up || exit 1
check_settings
started || fail "this attempt is over"
choose_disk
check_disk
look_at_image
write_image
reread
mark_installed
grow_last
put_seed
sync
# A system that nobody can log in to is half an installation too: until here all of it is taken back.
rm /run/writing
finished "${image##*/} on ${target##*/} in $(($(date +%s) - begun)) s" || exit 1
say "done"
