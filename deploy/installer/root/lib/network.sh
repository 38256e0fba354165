# shellcheck shell=sh disable=SC2154,SC2015
# Sourced. In: $mac, the card to ask first. Out: an address, kept up by udhcpc for as long as the installer runs.

# Cards with a hardware address, the wanted one first.
cards() {
    local dir
    for dir in /sys/class/net/*; do
        [ "$(cat "$dir/type")" = 1 ] || continue
        case $(cat "$dir/address") in
            "$mac") echo "0 ${dir##*/}" ;;
            *) echo "$(cat "$dir/ifindex") ${dir##*/}" ;;
        esac
    done | sort -n | sed 's/.* //'
}

network_up() {
    local card
    ip link set lo up
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        for card in $(cards); do
            ip link set "$card" up
            # -n: gives up by itself; else it stays behind and renews.
            if udhcpc -i "$card" -n -t 5 -T 2 -A 1 -s /udhcpc >/run/udhcpc 2>&1 </dev/null; then
                say "network $card $(cat "/sys/class/net/$card/address") $(ip -4 -o addr show dev "$card" | sed 's/.*inet \([^ ]*\).*/\1/')"
                return 0
            fi
        done
        sleep 1
    done
    say "no network: $(cards | tr '\n' ' ')$(tail -n 1 /run/udhcpc 2>/dev/null)"
    return 1
}
