#!/bin/bash
# A UART of the hub is a tty of the laptop; at the other end of its cable is a second UART of this
# guest.
source "${BASH_SOURCE[0]%/*}/lib.sh"
source "${BASH_SOURCE[0]%/*}/bridge.sh"

CALLS=${BASH_SOURCE[0]%/*}/serial_tty.py
TMUX=(tmux -L tty)

prepare() {
    modprobe cuse
    wait_for 10 test -c /dev/cuse
    # Where the daemon's sockets are outside of the cases.
    mkdir -p /run/myclerk
    make_namespaces
}

# uart ADDRESS: the tty of the UART in that slot.
uart() {
    local tty
    for tty in /sys/class/tty/ttyS*; do
        [[ $(realpath "$tty") != */0000:00:"$1".0/* ]] || basename "$tty"
    done
}

# Hub and laptop with the near UART attached as $TTY; the far one is $FAR.
tty_up() {
    NEAR=$(uart 10)
    FAR=/dev/$(uart 11)
    [[ -n $NEAR && -c $FAR ]] || fail "the guest has no UARTs: '$NEAR', '$FAR'"
    stty -F "$FAR" 115200 raw -echo
    bridge_up
    ID=$(hub list --local --json | jq -r '.. | .id? // empty' | grep -E "^serial:(.*00:10\.0|$NEAR\$)")
    share "$ID"
    attach_tty
}

attach_tty() {
    TTY=$(attach_bus "$ID")
    expect_eq "the name of the tty" /dev/ttyMC0 "$TTY"
    must_come 10 "$TTY" test -c "$TTY"
    udevadm settle --timeout=20
}

# same_as_real SETTING...: a UART of this machine and the remote one show the same after it.
same_as_real() {
    if [[ $# -gt 0 ]]; then
        stty -F "$FAR" "$@"
        stty -F "$TTY" "$@"
    fi
    stty -aF "$FAR" >"$CASE_DIR/real"
    stty -aF "$TTY" >"$CASE_DIR/remote"
    diff "$CASE_DIR/real" "$CASE_DIR/remote" >"$CASE_DIR/stty.log" || fail "stty -a differs after '$*'"
}

LIMIT_calls=150
case_calls() {
    tty_up
    expect_eq "the group of $TTY" "dialout 660" "$(stat -c '%G %a' "$TTY")"
    local links=(/dev/myclerk/hub/*)
    expect_eq "the link in /dev/myclerk/hub" "$TTY" "$(realpath "${links[0]}")"
    same_as_real sane 9600
    same_as_real raw 57600 cs7 parenb parodd cstopb -echo
    expect_eq "the owner's speed" 57600 "$(stty -F "/dev/$NEAR" speed)"
    same_as_real sane 1200 -icanon min 3 time 7 intr ^K
    same_as_real sane 115200 crtscts ixoff -clocal clocal
    same_as_real raw -echo 115200 cs8 -parenb -cstopb -crtscts -ixoff hupcl
    python3 "$CALLS" calls "$TTY" "$FAR" >"$CASE_DIR/calls.log" 2>&1 || fail "calls: $(tail -n 1 "$CASE_DIR/calls.log")"

    # A program that keeps the tty for itself.
    start keeper python3 "$CALLS" keep "$TTY" "$FAR"
    must_come 30 "the keeper" grep -q kept "$CASE_DIR/keeper.log"
    ! setpriv --reuid=nobody --regid=dialout --clear-groups head -c 1 "$TTY" 2>"$CASE_DIR/other.log" ||
        fail "a second program opened a tty that is kept"
    must "what the second program was told" grep -qi 'busy' "$CASE_DIR/other.log"
    stop keeper KILL

    # A reader that is killed goes at once and takes no byte with it.
    start reader cat "$TTY"
    must_come 20 "a reader" opened "$TTY"
    stop reader KILL
    start next head -c 6 "$TTY"
    must_come 20 "the next reader" opened "$TTY"
    printf 'after\n' >"$FAR"
    must_come 20 "the line at the next reader" grep -qx after "$CASE_DIR/next.log"
    rm "$CASE_DIR/next.pid"
    detach_bus "$ID"
    must_come 10 "the end of $TTY" gone "$TTY"
    [[ ! -e /run/myclerk/names/${TTY##*/} ]] || fail "the name is still there"
}

gone() { [[ ! -e $1 ]]; }

# opened NODE: whether a program has it open.
opened() { find /proc/[0-9]*/fd -lname "$1" 2>/dev/null | grep -q .; }

closed() { ! opened "$1"; }

# terminal NAME READY COMMAND: what is typed there arrives, and what comes is shown.
terminal() {
    local name=$1 ready=$2 command=$3
    "${TMUX[@]}" new-session -d -s "$name" -x 80 -y 24 "$command"
    must_come 40 "$name on $TTY" opened "$TTY"
    must_come 40 "$name's greeting" shows "$name" "$ready"
    start "$name-far" timeout 40 head -c 12 "$FAR"
    must_come 20 "a reader at the far end" opened "$FAR"
    "${TMUX[@]}" send-keys -t "$name" -l 'typed there!'
    must_come 40 "what was typed in $name" grep -q 'typed there!' "$CASE_DIR/$name-far.log"
    rm "$CASE_DIR/$name-far.pid"
    printf 'said to %s' "$name" >"$FAR"
    must_come 40 "what was said to $name" shows "$name" "said to $name"
    "${TMUX[@]}" kill-session -t "$name"
    must_come 20 "the end of $name" closed "$TTY"
}

shows() { "${TMUX[@]}" capture-pane -p -t "$1" | grep -q "$2"; }

LIMIT_terminals=150
case_terminals() {
    tty_up
    export TERM=screen HOME=$CASE_DIR
    "${TMUX[@]}" new-session -d -s keeps-the-server
    terminal picocom 'Terminal ready' "picocom -b 115200 $TTY"
    terminal minicom 'Welcome to minicom' "minicom -o -D $TTY -b 115200"
    terminal screen '' "screen -q $TTY 115200"
    "${TMUX[@]}" kill-server
}

# same WHAT A B
same() {
    expect_eq "$1" "$(sha256sum <"$2")" "$(sha256sum <"$3")"
}

LIMIT_transfers=200
case_transfers() {
    tty_up
    stty -F "$TTY" raw -echo 115200
    exec 5<>"$TTY" 6<>"$FAR"
    mkdir -p "$CASE_DIR/got"
    head -c 1048576 /dev/urandom >"$CASE_DIR/sent"
    (cd "$CASE_DIR/got" && exec timeout 120 rz -b -q <&6 >&6 2>"$CASE_DIR/rz.log") &
    timeout 120 sz -b -q "$CASE_DIR/sent" <&5 >&5 2>"$CASE_DIR/sz.log" || fail "sz ended with $?"
    wait $! || fail "rz ended with $?"
    same "what zmodem brought" "$CASE_DIR/sent" "$CASE_DIR/got/sent"

    # Both ways at once.
    head -c 524288 /dev/urandom >"$CASE_DIR/back"
    cat "$CASE_DIR/sent" >&5 &
    cat "$CASE_DIR/back" >&6 &
    timeout 90 head -c 1048576 <&6 >"$CASE_DIR/far" &
    timeout 90 head -c 524288 <&5 >"$CASE_DIR/near"
    wait
    same "the stream from the laptop" "$CASE_DIR/sent" "$CASE_DIR/far"
    same "the stream to the laptop" "$CASE_DIR/back" "$CASE_DIR/near"

    # A program that does not read holds the sender.
    stty -F "$TTY" ixoff
    stty -F "$FAR" ixon
    base64 "$CASE_DIR/sent" >"$CASE_DIR/text"
    start sender cp "$CASE_DIR/text" /proc/self/fd/6
    must_come 60 "a sender that is held" held sender
    timeout 90 head -c "$(stat -c %s "$CASE_DIR/text")" <&5 >"$CASE_DIR/read"
    same "what a slow reader got" "$CASE_DIR/text" "$CASE_DIR/read"
    must_come 20 "the end of the sender" stopped sender
    rm "$CASE_DIR/sender.pid"
    exec 5>&- 6>&-
}

# held NAME: it has been writing to the tty and takes no time.
held() {
    local before after
    before=$(awk '{ print $14 + $15, $3 }' "/proc/$(pid_of "$1")/stat")
    sleep 2
    after=$(awk '{ print $14 + $15, $3 }' "/proc/$(pid_of "$1")/stat")
    [[ $before == "$after" && $after == *S ]]
}

# hung_up NAME: what a program is told whose tty has gone.
hung_up() {
    must_come 30 "the end of $1" stopped "$1"
    expect_eq "what $1 was told" "read 0, write EIO, ioctl EIO, poll 1d" "$(tail -n 1 "$CASE_DIR/$1.log")"
    rm "$CASE_DIR/$1.pid"
    must_come 20 "the end of $TTY" gone "$TTY"
}

LIMIT_hang_up=120
case_hang_up() {
    tty_up
    start detached python3 "$CALLS" hang_up "$TTY" "$FAR"
    must_come 30 "a program that reads" grep -q reading "$CASE_DIR/detached.log"
    laptop detach "hub/$ID" >>"$CASE_DIR/attach.log" 2>&1 || fail "detach: $(tail -n 1 "$CASE_DIR/attach.log")"
    hung_up detached
    must_come 30 "the end of the owner's use" unused "$ID"

    attach_tty
    start killed python3 "$CALLS" hang_up "$TTY" "$FAR"
    must_come 30 "a program that reads" grep -q reading "$CASE_DIR/killed.log"
    stop hub KILL
    hung_up killed
}

run_cases "$@"
