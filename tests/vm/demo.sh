#!/bin/bash
# The demonstration's guest: every command is shown with what it prints. Any that fails ends it.
source "${BASH_SOURCE[0]%/*}/lib.sh"
source "${BASH_SOURCE[0]%/*}/bridge.sh"

export CASE_DIR=/run/demo
mkdir -p "$CASE_DIR/mnt"

bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'
[[ -t 1 || -n ${DEMO_COLOUR:-} ]] || bold='' dim='' plain=''

fail() {
    echo "demo: $1" >&2
    dump_logs >&2
    exit 1
}

say() { printf '\n%s# %s%s\n' "$dim" "$1" "$plain"; }

# on MACHINE COMMAND...: shows and runs it
on() {
    local machine=$1
    shift
    printf '%s%s$ %s%s\n' "$bold" "$machine" "$*" "$plain"
    case $1 in
        myclerk) "$machine" "${@:2}" || fail "'$*' ended with $?" ;;
        *) "$@" || fail "'$*' ended with $?" ;;
    esac
}

# A board at the end of the adapter's cable: it answers each line that it gets.
board() {
    local line
    exec 6<>/dev/virtio-ports/lab.far
    while IFS= read -r -d $'\r' line <&6; do
        printf '\r\nboard> you said: %s\r\n' "${line//[^[:print:]]/}" >&6
    done
}

modprobe vhci-hcd
make_namespaces
must_come 10 "the far end of the cable" test -e /dev/virtio-ports/lab.far
board &
trap 'kill %1 2>/dev/null; stop_all' EXIT

say "The hub has a stick and a serial adapter. It founds a family and offers both."
on hub myclerk init --name hub
printf '%shub$ myclerk serve &%s\n' "$bold" "$plain"
start_hub
on hub myclerk list
on hub myclerk export $STICK_ID
on hub myclerk export $ADAPTER_ID

say "The laptop joins with a token that works once."
printf '%shub$ myclerk invite --yes%s\n' "$bold" "$plain"
as_hub invite --yes --json
start invite "${COMMAND[@]}"
must_come 30 "the invite's token" token_of invite
token_of invite
on laptop myclerk join "$(token_of invite)" "$HUB_ADDRESS" --name laptop
printf '%slaptop$ myclerk client &%s\n' "$bold" "$plain"
start_laptop

say "Nothing is there for it until the hub grants it."
on laptop myclerk list
on hub myclerk acl grant $STICK_ID laptop
on hub myclerk acl grant $ADAPTER_ID laptop
on laptop myclerk list

say "The stick becomes a disk of the laptop."
on laptop myclerk attach hub/$STICK_ID
# shellcheck disable=SC2086 # vendor and product are two words
must_come 30 "the remote disk" remote_node $STICK block
# shellcheck disable=SC2086
disk=$(remote_node $STICK block)
probed
on laptop lsblk -o NAME,SIZE,TRAN,FSTYPE,LABEL "$disk"
on laptop mount "$disk" "$CASE_DIR/mnt"
on laptop cat "$CASE_DIR/mnt/hello.txt"
on laptop umount "$CASE_DIR/mnt"

say "The adapter becomes a tty; a board at the far end of its cable answers."
on laptop myclerk attach hub/$ADAPTER_ID
# shellcheck disable=SC2086
must_come 30 "the remote tty" remote_node $ADAPTER tty
# shellcheck disable=SC2086
tty=$(remote_node $ADAPTER tty)
printf '%slaptop$ picocom -b 115200 %s%s\n' "$bold" "$tty" "$plain"
tmux -L demo new-session -d -x 78 -y 12 "picocom -q -b 115200 $tty"
screen() { tmux -L demo capture-pane -p | sed '/^$/d'; }
answers() { screen | grep 'you said: hello, board'; }
# The first bytes may be typed before picocom has set the line up.
asked() { tmux -L demo send-keys 'hello, board' Enter && wait_for 3 answers; }
must_come 30 "the board's answer" asked
screen
tmux -L demo kill-server

say "Who uses what:"
on laptop myclerk status
on hub myclerk status

say "And back."
on laptop myclerk detach --all
# shellcheck disable=SC2086
must_be_home $STICK usb-storage
on hub myclerk list
say "The stick and the adapter are back with the hub's own drivers."
