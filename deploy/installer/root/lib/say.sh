# shellcheck shell=sh
# Sourced. What happens, in lines: on the console, and in the log whose end goes with a failure.
log=/run/log

say() {
    echo "bootjack-installer: $*" >/dev/console
    echo "$*" >>"$log"
}
