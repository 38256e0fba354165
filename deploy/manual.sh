#!/bin/sh
# Writes the manual page of a program, out of what its --help says of itself and of each of its verbs.
#   in:      PROGRAM
#   out:     the page, in roff, on standard output
#   refuses: programs that do not answer --help
set -eu

[ $# -eq 1 ] || { echo "manual.sh: wanted PROGRAM, got $# arguments" >&2; exit 2; }
program=$1
name=$(basename "$program")
COLUMNS=96
export COLUMNS

# Text as it stands: a backslash, and a point or an apostrophe where a line begins, mean something to roff.
literal() { sed -e 's/\\/\\e/g' -e "s/^\([.']\)/\\\\\&\1/" -e 's/-/\\-/g'; }

# The verbs in a help text, in its order.
verbs() { awk '/^Commands:/ { on = 1; next } on && /^[^ ]/ { exit } on && /^  [a-z]/ && $1 != "help" { print $1 }'; }

# The help of what was typed, and of each verb below it.
chapters() {
    help=$("$program" "$@" --help) || { echo "manual.sh: $program $* --help failed" >&2; exit 1; }
    if [ $# -gt 0 ]; then printf '.SS "%s"\n' "$name $*"; fi
    printf '.nf\n'
    printf '%s\n' "$help" | literal
    printf '.fi\n'
    for verb in $(printf '%s\n' "$help" | verbs); do (chapters "$@" "$verb"); done
}

version=$("$program" --version)
about=$("$program" --help | head -n 1 | sed 's/\.$//')
printf '.TH %s 1 "" "%s" "Bootjack"\n' "$(printf '%s' "$name" | tr '[:lower:]' '[:upper:]')" "$version"
printf '.SH NAME\n%s \\- %s\n' "$name" "$(printf '%s' "$about" | literal)"
printf '.SH COMMANDS\n'
chapters
printf '.SH FILES\n.TP\n.I /etc/bootjack/bootjackd.toml\nThe configuration of bootjackd(1).\n'
