#!/bin/bash
# A character device whose server is a process of the guest (tests/vm/echo.rs).
source "${BASH_SOURCE[0]%/*}/lib.sh"

NAME=lab/echo
NODE=/dev/$NAME
CALLS=${BASH_SOURCE[0]%/*}/echo.py

prepare() {
    modprobe cuse
    wait_for 10 test -c /dev/cuse
}

serve() {
    start "${1:-server}" "$VM_TOOLS" --tool echo "$NAME"
}

served() {
    rm -f "$CASE_DIR/server.log"
    serve
    must_come 30 "$NODE" server_said 'device ready'
    [[ -c $NODE ]] || fail "the server is ready without $NODE"
}

server_said() { grep -q "$1" "$CASE_DIR/server.log"; }

no_node() { [[ ! -e $NODE ]]; }

# calls NAME: what a program does on the device; it says what went wrong.
calls() { python3 "$CALLS" "$1" "$NODE" >"$CASE_DIR/calls.log" 2>&1 || fail "$1: $(tail -n 1 "$CASE_DIR/calls.log")"; }

case_bytes() {
    served
    calls bytes
    server_said "open by .* of 0" || fail "the caller's user is not root"
    start poller python3 "$CALLS" poller "$NODE"
    must_come 30 "a waiting poller" server_said 'a poller waits'
    start reader head -c 6 "$NODE"
    must_come 30 "a waiting reader" server_said 'a reader waits'
    echo first >"$NODE"
    must_come 20 "the first line at the reader" stopped reader
    expect_eq "what the reader got" first "$(cat "$CASE_DIR/reader.log")"
    echo second >"$NODE"
    must_come 20 "the second line at the poller" stopped poller
    expect_eq "what the poller got" "woke for second" "$(cat "$CASE_DIR/poller.log")"
    rm "$CASE_DIR/reader.pid" "$CASE_DIR/poller.pid"
}

case_signals() {
    served
    calls signals
    start reader cat "$NODE"
    must_come 30 "a waiting reader" server_said 'a reader waits'
    stop reader KILL
    # Nothing of it goes to those who do not read any more.
    echo afterwards >"$NODE"
    expect_eq "what comes back" afterwards "$(head -c 11 "$NODE")"
}

case_ioctls() {
    served
    calls ioctls
}

case_ending() {
    served
    serve second
    must_come 30 "the refusal of a node that is there" grep -q 'in use' "$CASE_DIR/second.log"
    rm "$NODE"
    serve third
    must_come 30 "the kernel's refusal of a second device" grep -q 'in use' "$CASE_DIR/third.log"
    must_come 20 "the end of who was refused" stopped third
    stop server KILL

    served
    start orphan python3 "$CALLS" orphan "$NODE"
    must_come 30 "a waiting reader" server_said 'a reader waits'
    stop server KILL
    must_come 20 "the end of the waiting call" stopped orphan
    expect_eq "what the calls say" "ECONNABORTED POLLERR ENOTCONN" "$(cat "$CASE_DIR/orphan.log")"
    rm "$CASE_DIR"/{orphan,second,third}.pid
    must_come 10 "the end of $NODE" no_node
    [[ ! -e /sys/class/cuse/lab!echo ]] || fail "the device is still there"

    # Somebody ends the device while its server lives.
    served
    echo 1 >/sys/class/cuse/lab!echo/abort
    must_come 20 "the end of the server" stopped server
    rm "$CASE_DIR/server.pid"
    must_come 10 "the end of $NODE" no_node
}

run_cases "$@"
