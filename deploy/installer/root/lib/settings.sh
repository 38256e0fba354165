# shellcheck shell=sh disable=SC2034,SC2015,SC2018,SC2019
# Sourced. The kernel's command line, as settings.
#   in:      bootjack.events=URL/     where call-backs go
#            bootjack.seed_url=URL/   where cloud-init's documents are
#            bootjack.image=URL       the image
#            bootjack.sha256=HEX      of the file at that URL, as it is fetched
#            bootjack.machine=ID      whose disk it is from now on
#            bootjack.mac=MAC         the card to ask first
#            bootjack.disk=WHICH      "" for the only one; a name, serial=TEXT, wwn=TEXT, smallest
#            bootjack.wipe=true       whatever the disk holds, it goes
#            bootjack.grow=false      the last partition stays as it is
#            bootjack.seed=false      the image needs no documents
#   out:     variables of these names; the last of several arguments wins, as for the kernel itself

read_settings() {
    events="" seed_url="" image="" sha256="" machine="" mac="" disk="" wipe=false grow=true seed=true
    set -f
    # shellcheck disable=SC2013  # words are what is wanted
    for word in $(cat /proc/cmdline); do
        case $word in
            bootjack.events=*) events=${word#*=} ;;
            bootjack.seed_url=*) seed_url=${word#*=} ;;
            bootjack.seed=*) seed=${word#*=} ;;
            bootjack.image=*) image=${word#*=} ;;
            bootjack.sha256=*) sha256=$(echo "${word#*=}" | tr 'A-F' 'a-f') ;;
            bootjack.machine=*) machine=${word#*=} ;;
            bootjack.mac=*) mac=$(echo "${word#*=}" | tr 'A-F-' 'a-f:') ;;
            bootjack.disk=*) disk=${word#*=} ;;
            bootjack.wipe=*) wipe=${word#*=} ;;
            bootjack.grow=*) grow=${word#*=} ;;
        esac
    done
    set +f
    sha256=${sha256#sha256:}
}

# yes_or_no VALUE: as templates and people write it.
yes_or_no() {
    case $(echo "$1" | tr 'A-Z' 'a-z') in
        true | yes | 1) echo true ;;
        false | no | 0) echo false ;;
        *) echo "neither" ;;
    esac
}

# Before anything is touched.
check_settings() {
    [ -n "$events" ] || fail "wanted bootjack.events=URL on the kernel's command line, got none"
    [ -n "$image" ] || fail "no image; give the machine the variable image or image_url"
    [ -n "$machine" ] || fail "wanted bootjack.machine=ID on the kernel's command line, got none"
    [ "$(echo -n "$sha256" | tr -d 0-9a-f | wc -c)" = 0 ] && [ ${#sha256} = 64 ] ||
        fail "image_sha256 is not a SHA-256 (64 hexadecimal digits), but: $sha256"
    wipe=$(yes_or_no "$wipe")
    grow=$(yes_or_no "$grow")
    seed=$(yes_or_no "$seed")
    case "$wipe $grow $seed" in *neither*) fail "one of the variables wipe, grow and seed is neither true nor false" ;; esac
}
