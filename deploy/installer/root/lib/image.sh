# shellcheck shell=sh disable=SC2154,SC2015
# Sourced. The image, from its URL to the disk.
#   in:      $image (a URL), $sha256 of what is there, $target
#   out:     the disk's content
#   refuses: another digest; an image larger than the disk; a download that does not go on for minutes
#
# The first MiB, and with it the partition table, is written last, when everything else is on the disk and the digest is right:
# half an image has nothing to boot, whatever ends the installation.

# What the server says of the image: its length, its first octets, whether a broken transfer can go on.
look_at_image() {
    local code
    curl -fsS --retry 5 --retry-connrefused -r 0-7 -D /run/head "$image" 2>>"$log" | head -c 8 >/run/magic
    code=$(sed -n 's/^HTTP[^ ]* \([0-9]*\).*/\1/p' /run/head | tail -n 1)
    case $code in
        206) length=$(tr -d '\r' </run/head | sed -n 's/^[Cc]ontent-[Rr]ange: bytes [^/]*\/\([0-9]*\)$/\1/p') ;;
        200) length=$(tr -d '\r' </run/head | sed -n 's/^[Cc]ontent-[Ll]ength: \([0-9]*\)$/\1/p') ;;
        *) fail "image: ${image##*/}: the server answers ${code:-nothing}: $(tail -n 1 "$log")" ;;
    esac
    can_resume=$([ "$code" = 206 ] && echo true || echo false)
    [ -n "$length" ] && [ "$length" -gt 0 ] || fail "image: ${image##*/}: the server does not say how long it is"
    case $(hexdump -e '8/1 "%02x"' /run/magic) in
        28b52ffd*) format=zstd ;;
        1f8b*) format=gzip ;;
        fd377a585a00*) format=xz ;;
        514649fb*) format=qcow2 ;;
        *) format=raw ;;
    esac
    say "image ${image##*/} $length bytes $format"
}

# fetch: the image on standard output, from where it broke off; 1: nobody takes it any more, 2: it does not go on. Ten times
# without an octet more, and it is over.
fetch() {
    local offset=0 tries=0 got
    while :; do
        : >/run/copied
        curl -fsS --connect-timeout 10 --speed-limit 1000 --speed-time 30 -r "$offset-" "$image" 2>>"$log" |
            sh -c 'echo $$ >/run/fetching; exec gnu-dd bs=128k 2>/run/copied' || return 1
        got=$(sed -n 's/^\([0-9]*\) bytes.*/\1/p' /run/copied)
        [ -n "$got" ] || return 1
        offset=$((offset + got))
        echo "$offset" >/run/offset
        [ "$offset" -lt "$length" ] || return 0
        if [ "$got" -gt 0 ]; then tries=0; else tries=$((tries + 1)); fi
        if [ "$can_resume" != true ] || [ $tries -ge 10 ]; then
            say "broke off at $offset of $length bytes"
            return 2
        fi
        say "broke off at $offset of $length bytes; going on"
        sleep 3
    done
}

# Tells how far it is, now and then: what the pipe has passed since the last beginning, and before it.
watch_fetch() {
    local told=-1 passed percent
    while sleep 1; do
        passed=$(sed -n 's/^wchar: //p' "/proc/$(cat /run/fetching 2>/dev/null)/io" 2>/dev/null)
        percent=$((($(cat /run/offset) + ${passed:-0}) * 90 / length))
        # In larger steps when it goes fast, or else every half minute.
        if [ "$percent" -le 90 ] && [ $percent -ge $((told + 5)) ]; then
            told=$percent
            progress $percent "writing ${image##*/}"
        fi
    done
}

unpacked() {
    case $format in
        zstd) zstd -dcq --long=31 2>>"$log" ;;
        gzip) gzip -dc 2>>"$log" ;;
        xz) xz -dc 2>>"$log" ;;
        *) cat ;;
    esac
}
unpack() {
    unpacked && return 0
    # The digest says more of an image that is not sound; of a disk that is full it says nothing.
    sleep 1
    [ -e /run/status.disk ] || cat >/dev/null
    return 1
}

# All but the first MiB, which waits.
to_disk() {
    dd bs=1M count=1 iflag=fullblock of=/run/first 2>/dev/null &&
        dd bs=1M iflag=fullblock seek=1 of="$target" conv=notrunc,fsync 2>/run/written
}

# noted FILE COMMAND: its status, since a pipe keeps the last one's alone.
noted() {
    local file=$1
    shift
    "$@"
    echo $? >"/run/status.$file"
}

write_image() {
    local digest watcher
    echo 0 >/run/offset
    mkfifo /run/to-hash
    sha256sum </run/to-hash >/run/digest &
    watch_fetch &
    watcher=$!
    if [ "$format" = qcow2 ]; then
        room_for_qcow2
        noted fetch fetch | tee /run/to-hash >/tmp/image.qcow2
        echo 0 >/run/status.unpack
        echo 0 >/run/status.disk
    else
        begin_writing
        noted fetch fetch | tee /run/to-hash | noted unpack unpack | noted disk to_disk
    fi
    kill $watcher
    while [ ! -s /run/digest ]; do sleep 0.2; done
    [ "$(cat /run/status.fetch)" != 2 ] || fail "image: cannot be fetched whole: $(tail -n 1 "$log")"
    [ "$(cat /run/status.disk)" = 0 ] ||
        fail "disk ${target##*/} ($(bytes_of "${target##*/}") bytes) cannot take the image: $(grep -v 'records\|copied' /run/written | tail -n 1)"
    digest=$(cut -d ' ' -f 1 /run/digest)
    [ "$digest" = "$sha256" ] || fail "image: its SHA-256 is $digest, wanted $sha256"
    [ "$(cat /run/status.unpack)" = 0 ] || fail "image: it is no sound $format: $(tail -n 1 "$log")"
    if [ "$format" = qcow2 ]; then from_qcow2; fi
    say "the image is as wanted; its first MiB follows"
    dd if=/run/first of="$target" bs=1M conv=notrunc,fsync 2>>"$log" || fail "disk ${target##*/} cannot be written: $(tail -n 1 "$log")"
}

# Its clusters lie in any order: it must be whole before it can be read.
room_for_qcow2() {
    local free
    free=$(($(sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' /proc/meminfo) * 1024 - 134217728))
    [ "$length" -lt "$free" ] || fail "image: a qcow2 of $length bytes needs that much memory and 128 MiB, and $((free > 0 ? free : 0)) are free; make it a raw one: qemu-img convert -O raw IMAGE.qcow2 IMAGE && zstd IMAGE"
}

from_qcow2() {
    local virtual
    virtual=$(qemu-img info --output=json /tmp/image.qcow2 2>>"$log" | sed -n 's/^ *"virtual-size": \([0-9]*\).*/\1/p' | head -n 1)
    [ -n "$virtual" ] || fail "image: it is no sound qcow2: $(tail -n 1 "$log")"
    if qemu-img info --output=json /tmp/image.qcow2 | grep -q '"backing-filename"'; then fail "image: it is the difference to another one, its backing file"; fi
    [ "$virtual" -le "$(bytes_of "${target##*/}")" ] || fail "disk ${target##*/} ($(bytes_of "${target##*/}") bytes) is smaller than the image ($virtual)"
    begin_writing
    progress 90 "unpacking ${image##*/}"
    qemu-img dd -f qcow2 -O raw bs=1M count=1 if=/tmp/image.qcow2 of=/run/first >>"$log" 2>&1 || fail "image: $(tail -n 1 "$log")"
    # Both begin after the first MiB.
    qemu-img convert -n --image-opts --target-image-opts \
        driver=raw,offset=1048576,file.driver=qcow2,file.file.driver=file,file.file.filename=/tmp/image.qcow2 \
        driver=raw,offset=1048576,file.driver=host_device,file.filename="$target" 2>>"$log" ||
        fail "disk ${target##*/} cannot take the image: $(tail -n 1 "$log")"
    rm /tmp/image.qcow2
}
