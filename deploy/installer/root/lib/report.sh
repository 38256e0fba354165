# shellcheck shell=sh disable=SC2154,SC2015
# Sourced after say.sh and settings.sh. What is told to the server, by the machine's call-backs.
#   in:      $events, where they go
#   out:     calls that reached it, or a line in the log; a machine that ends (done, failed) tries for minutes

# call SECONDS EVENT [CURL-ARGUMENT...]: until it is heard, or the time is over, or it is refused for good.
call() {
    local ends event answer
    ends=$(($(date +%s) + $1))
    event=$2
    shift 2
    while :; do
        answer=$(curl -sS -m 20 -o /dev/null -w '%{http_code}' "$@" -X POST "$events$event" 2>>"$log")
        case $answer in
            2*) return 0 ;;
            4*) say "call-back $event was refused: $answer"; return 1 ;;
        esac
        [ "$(date +%s)" -lt "$ends" ] || { say "call-back $event was not heard: ${answer:-no answer}"; return 1; }
        sleep 3
    done
}

started() { call 120 started; }

# progress PERCENT TEXT: never in the way; the next one tells more.
progress() {
    say "$1 % $2"
    call 1 progress --data-urlencode "percent=$1" --data-urlencode "text=$2" &
}

# The server must know before the machine starts again, or it would install once more.
finished() { call 900 "done" --data-urlencode "text=$1"; }

failed() {
    touch /run/told
    say "failed: $1"
    tail -n 40 "$log" >/run/tail
    call 120 failed --data-urlencode "reason=$1" --data-urlencode log@/run/tail
}

# The end of it: told, and what was begun taken back.
fail() {
    [ ! -e /run/writing ] || take_back
    failed "$*"
    exit 1
}
