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
    NEAR=$(uart 10) FAR=$(uart 11)
    local port
    for port in "$NEAR" "$FAR"; do
        python3 "$CALLS" base "/dev/$port" 3000000
    done
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
    NEAR=/dev/$(uart 10)
    FAR=/dev/$(uart 11)
    [[ -c $NEAR && -c $FAR ]] || fail "the guest has no UARTs: '$NEAR', '$FAR'"
    # Fewer interrupts, each of which costs an emulated processor much. A speed below 2400 makes it 1, and it
    # stays so.
    echo 14 | tee "/sys/class/tty/${NEAR##*/}/rx_trig_bytes" >"/sys/class/tty/${FAR##*/}/rx_trig_bytes"
    stty -F "$FAR" 115200 raw -echo
    bridge_up
    ID=$(port_id)
    share "$ID"
    attach_tty
}

port_id() { hub list --local --json | jq -re '.. | .id? // empty' | grep -E "^serial:(.*00:10\.0|${NEAR#/dev/}\$)"; }

# attach_tty OPTION...
attach_tty() {
    TTY=$(attach_bus "$ID" "$@")
    expect_eq "the name of the tty" /dev/ttyMC0 "$TTY"
    must_come 10 "$TTY" test -c "$TTY"
    udevadm settle --timeout=20
}

# calls WHAT MORE...: what a program does on the tty; it says what went wrong.
calls() {
    local what=$1
    shift
    python3 "$CALLS" "$what" "$@" >"$CASE_DIR/$what.log" 2>&1 || fail "$what: $(tail -n 1 "$CASE_DIR/$what.log")"
}

# same_as_real SETTING...: a UART of this machine and the remote one show the same after it.
same_as_real() {
    stty -F "$FAR" "$@"
    stty -F "$TTY" "$@"
    stty -aF "$FAR" >"$CASE_DIR/real"
    stty -aF "$TTY" >"$CASE_DIR/remote"
    diff "$CASE_DIR/real" "$CASE_DIR/remote" >"$CASE_DIR/stty.log" || fail "stty -a differs after '$*'"
}

gone() { [[ ! -e $1 ]]; }

# opened NODE: whether a program has it open.
opened() { find /proc/[0-9]*/fd -lname "$1" 2>/dev/null | grep -q .; }

closed() { ! opened "$1"; }

# waits NAME CALL: whether it stands in that call of its third file: its number, with its arguments.
waits() { [[ $(cat "/proc/$(pid_of "$1")/syscall") == "${2/ / 0x3 }"* ]]; }

READ=0
IOCTL=16

LIMIT_calls=150
case_calls() {
    local before
    before=$(stty -gF "/dev/$(uart 10)")
    tty_up
    expect_eq "the group of $TTY" "dialout 660" "$(stat -c '%G %a' "$TTY")"
    local links=(/dev/myclerk/hub/*)
    expect_eq "the link in /dev/myclerk/hub" "$TTY" "$(realpath "${links[0]}")"
    same_as_real sane ixon 9600
    same_as_real raw 57600 cs7 parenb parodd cstopb -echo
    expect_eq "the owner's speed" 57600 "$(stty -F "$NEAR" speed)"
    same_as_real sane 1200 -icanon min 3 time 7 intr ^K
    same_as_real sane 115200 crtscts ixoff -clocal clocal
    same_as_real raw -echo 115200 cs8 -parenb -cstopb -crtscts -ixoff hupcl
    calls calls "$TTY" "$FAR"
    calls close_alone "$TTY" "$FAR" "$(pid_of hub)"
    kept
    killed
    detach_bus "$ID"
    must_come 10 "the end of $TTY" gone "$TTY"
    [[ ! -e /run/myclerk/names/${TTY##*/} ]] || fail "the name is still there"
    expect_eq "the owner's settings" "$before" "$(stty -gF "$NEAR")"
}

# A program that keeps the tty for itself.
kept() {
    start keeper python3 "$CALLS" keep "$TTY" "$FAR"
    must_come 30 "the keeper" grep -q kept "$CASE_DIR/keeper.log"
    ! setpriv --reuid=nobody --regid=dialout --clear-groups head -c 1 "$TTY" 2>"$CASE_DIR/other.log" ||
        fail "a second program opened a tty that is kept"
    must "what the second program was told" grep -qi 'busy' "$CASE_DIR/other.log"
    stop keeper KILL
}

# Programs that are killed while they wait go at once, and a reader takes no byte with it.
killed() {
    # Programs before have set VMIN to 0, with which no read waits.
    stty -F "$TTY" raw -echo
    start watcher python3 "$CALLS" wait_for_lines "$TTY" "$FAR"
    must_come 20 "a program that waits for the lines" waits watcher "$IOCTL 0x545c"
    start reader cat "$TTY"
    must_come 20 "a reader" waits reader "$READ "
    stop watcher KILL
    stop reader KILL
    stty -F "$TTY" sane -echo
    start next head -c 6 "$TTY"
    must_come 20 "the next reader" waits next "$READ "
    printf 'after\n' >"$FAR"
    must_come 20 "the line at the next reader" grep -qx after "$CASE_DIR/next.log"
    rm "$CASE_DIR/next.pid"
    must_come 20 "the end of the next reader" closed "$TTY"
}

LIMIT_lines=120
case_lines() {
    tty_up
    calls loop "$TTY" "$NEAR"
    trace_lines
    laptop serial pulse "hub/$ID" --esp32-boot >"$CASE_DIR/pulse.log"
    steps_were "a pattern at the owner" '4 2 0'
    waited 100 50
    laptop serial pulse "hub/$ID" rts=1,break=1:20ms break=0 rts=0 >"$CASE_DIR/pulse.log"
    steps_were "a pattern with a break" '4 break over 0'
    calls reset "$TTY" "$FAR"
    # The first open raises both lines, the last close drops them.
    steps_were "a program that sets both lines" '6 4 2 0 break over'
    echo 0 >$TRACE/events/kprobes/enable

    stty -F "$TTY" raw -echo
    start breaks python3 "$CALLS" take_break "$TTY" "$FAR"
    must_come 20 "who waits for a break" waits breaks "$READ "
    qmp '{"execute":"chardev-send-break","arguments":{"id":"near"}}'
    must_come 20 "a break that was received" grep -q counted "$CASE_DIR/breaks.log"
    rm "$CASE_DIR/breaks.pid"
}

TRACE=/sys/kernel/tracing

# From now on the kernel notes what the driver of the UARTs is told about lines and breaks.
trace_lines() {
    echo mono >$TRACE/trace_clock
    echo 'p:mctrl serial8250_do_set_mctrl lines=$arg2:x32' >$TRACE/kprobe_events
    echo 'p:brk serial8250_break_ctl on=$arg2:s32' >>$TRACE/kprobe_events
    echo 1 >$TRACE/events/kprobes/enable
    echo >$TRACE/trace
}

# Each step of the lines at the owner's driver, "SECONDS STEP" a line: DTR is 2 and RTS 4, both are 6.
steps() {
    sed -nE 's/^.* ([0-9.]+): (mctrl|brk): .*(lines|on)=(0x[0-9a-f]+|-?[0-9]+)$/\1 \2 \4/p' $TRACE/trace |
        while read -r when what value; do
            case $what$value in
                brk-1) step=break ;;
                brk0) step=over ;;
                *) step=$((value & 6)) ;;
            esac
            [[ $step == "${last:-}" ]] || echo "$when $step"
            last=$step
        done
}

# steps_were WHAT STEPS: those and no others since the last look.
steps_were() {
    steps >"$CASE_DIR/steps.log"
    echo >$TRACE/trace
    expect_eq "$1" "$2" "$(cut -d' ' -f2 "$CASE_DIR/steps.log" | paste -sd' ')"
}

# waited MS...: between the last steps at least so long.
waited() {
    awk -v wanted="$*" 'BEGIN { split(wanted, ms, " ") }
        NR > 1 && ($1 - last) * 1000 < ms[NR - 1] { print "step " NR; exit 1 } { last = $1 }' \
        "$CASE_DIR/steps.log" || fail "a step came too soon: $(paste -sd' ' "$CASE_DIR/steps.log")"
}

# terminal NAME READY LEAVE COMMAND: what is typed there arrives, and what comes is shown.
terminal() {
    local name=$1 ready=$2 leave=$3 command=$4
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
    # shellcheck disable=SC2086 # one key a word
    "${TMUX[@]}" send-keys -t "$name" $leave
    must_come 20 "the end of $name" closed "$TTY"
}

shows() { "${TMUX[@]}" capture-pane -p -t "$1" | grep -q "$2"; }

LIMIT_terminals=150
case_terminals() {
    tty_up
    export TERM=screen HOME=$CASE_DIR
    "${TMUX[@]}" new-session -d -s keeps-the-server
    terminal picocom 'Terminal ready' 'C-a C-x' "picocom -b 115200 $TTY"
    terminal minicom 'Welcome to minicom' 'C-a q Enter' "minicom -o -D $TTY -b 115200"
    terminal screen '' 'C-a k y' "screen -q $TTY 115200"
    "${TMUX[@]}" kill-server
}

# same WHAT A B
same() {
    expect_eq "$1" "$(sha256sum <"$2")" "$(sha256sum <"$3")"
}

LIMIT_transfers=200
case_transfers() {
    tty_up
    stty -F "$FAR" 3000000
    stty -F "$TTY" raw -echo 3000000
    expect_eq "the owner's speed" 3000000 "$(stty -F "$NEAR" speed)"
    head -c 1048576 /dev/urandom >"$CASE_DIR/sent"
    mkdir "$CASE_DIR/got"
    exec 5<>"$TTY" 6<>"$FAR"
    both_ways
    zmodem
    both_ways
    xmodem
    calls lost "$NEAR" "$TTY" "$FAR"
    exec 5>&- 6>&-
}

zmodem() {
    (cd "$CASE_DIR/got" && exec timeout 120 rz -b -q <&6 >&6 2>"$CASE_DIR/rz.log") &
    timeout 120 sz -b -q "$CASE_DIR/sent" <&5 >&5 2>"$CASE_DIR/sz.log" || fail "sz ended with $?"
    wait $! || fail "rz ended with $?"
    same "what zmodem brought" "$CASE_DIR/sent" "$CASE_DIR/got/sent"
}

# Its blocks are answered one by one: a smaller file than zmodem's.
xmodem() {
    head -c 65536 "$CASE_DIR/sent" >"$CASE_DIR/blocks"
    timeout 100 rx -b -c -q "$CASE_DIR/got/blocks" <&6 >&6 2>"$CASE_DIR/rx.log" &
    timeout 100 sx -b -k -q "$CASE_DIR/blocks" <&5 >&5 2>"$CASE_DIR/sx.log" || fail "sx ended with $?"
    wait $! || fail "rx ended with $?"
    same "what xmodem brought" "$CASE_DIR/blocks" "$CASE_DIR/got/blocks"
}

both_ways() {
    local size=131072 others=()
    head -c $size "$CASE_DIR/sent" >"$CASE_DIR/there"
    tail -c $size "$CASE_DIR/sent" >"$CASE_DIR/back"
    cat "$CASE_DIR/there" >&5 &
    others+=($!)
    cat "$CASE_DIR/back" >&6 &
    others+=($!)
    timeout 90 head -c $size <&6 >"$CASE_DIR/got/there" &
    others+=($!)
    timeout 90 head -c $size <&5 >"$CASE_DIR/got/back"
    wait "${others[@]}"
    same "the stream from the laptop" "$CASE_DIR/there" "$CASE_DIR/got/there"
    same "the stream to the laptop" "$CASE_DIR/back" "$CASE_DIR/got/back"
}

# hung_up NAME: what a program is told whose tty has gone.
hung_up() {
    must_come 30 "the end of $1" stopped "$1"
    expect_eq "what $1 was told" "read 0, write EIO, ioctl EIO, poll 1d" "$(tail -n 1 "$CASE_DIR/$1.log")"
    rm "$CASE_DIR/$1.pid"
    must_come 20 "the end of $TTY" gone "$TTY"
}

# reads NAME: a program that waits for bytes.
reads() {
    start "$1" python3 "$CALLS" hang_up "$TTY" "$FAR"
    must_come 30 "a program that reads" waits "$1" "$READ "
}

DRIVER=/sys/bus/pci/drivers/serial

LIMIT_hang_up=120
case_hang_up() {
    tty_up
    reads detached
    laptop detach "hub/$ID" >>"$CASE_DIR/attach.log" 2>&1 || fail "detach: $(tail -n 1 "$CASE_DIR/attach.log")"
    hung_up detached
    must_come 30 "the end of the owner's use" unused "$ID"

    # The adapter at the owner goes, and comes again.
    attach_tty
    reads unplugged
    echo 0000:00:10.0 >$DRIVER/unbind
    hung_up unplugged
    must_come 20 "a list without the port" no_port
    echo 0000:00:10.0 >$DRIVER/bind
    must_come 20 "the port's return" port_id
    NEAR=/dev/$(uart 10)
    expect_eq "the port that came back" "$ID" "$(port_id)"

    # The owner is gone for a while: the reader waits, and the port is as it was afterwards.
    attach_tty --grace 600
    stty -F "$FAR" 57600
    stty -F "$TTY" raw -echo 57600 -hupcl
    start reader head -c 6 "$TTY"
    must_come 20 "a reader" opened "$TTY"
    stop hub KILL
    must_come 60 "the loss of the session" attached_live false
    stty -F "$NEAR" 9600
    start_hub
    must_come 60 "the owner's return" attached_live true
    expect_eq "the owner's speed" 57600 "$(stty -F "$NEAR" speed)"
    printf 'after\n' >"$FAR"
    must_come 20 "the line at the reader that waited" grep -qx after "$CASE_DIR/reader.log"
    rm "$CASE_DIR/reader.pid"
    detach_bus "$ID"

    attach_tty --grace 1
    reads killed
    stop hub KILL
    hung_up killed
}

no_port() { ! port_id; }

run_cases "$@"
