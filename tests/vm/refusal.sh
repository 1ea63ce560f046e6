#!/bin/bash
# Those who may not: each is refused and logged once, and the laptop that may is served after it.
source "${BASH_SOURCE[0]%/*}/lib.sh"
source "${BASH_SOURCE[0]%/*}/bridge.sh"

REFUSED='connection refused|connection ended before a handshake'
USE_REFUSED='use of a device refused'

prepare() {
    modprobe vhci-hcd
    make_namespaces
}

mark_log() { MARK=$(($(wc -l <"$CASE_DIR/hub.log") + 1)); }

# logged PATTERN: how many lines of the hub's log since the mark match.
logged() { tail -n "+$MARK" "$CASE_DIR/hub.log" | grep -Ec "$1" || true; }

logged_at_least() { (($(logged "$1") >= $2)); }

# logged_once PATTERN WHAT: one line came and so far no second; the case's end counts again.
logged_once() {
    must_come 30 "the log line for $2" logged_at_least "$1" 1
    expect_eq "log lines for $2" 1 "$(logged "$1")"
}

# The hub is the process it was, and the laptop gets the stick from it.
still_serves() {
    local disk
    expect_eq "the hub's process" "$1" "$(hub_pid)"
    attach_with_disk
    dd if="$disk" of=/dev/null bs=512 count=1 iflag=direct status=none
    # shellcheck disable=SC2086 # vendor and product are two words
    detach $STICK_ID $STICK usb-storage
}

hub_pid() {
    hub status --json | jq -e 'first(.. | objects | select(has("listen")) | .pid | numbers)'
}

# refused_attach TEXT: the laptop may not attach the stick, and is told so by the exit code.
refused_attach() {
    local status=0
    laptop attach "hub/$STICK_ID" >"$CASE_DIR/refused.log" 2>&1 || status=$?
    [[ $status -eq 4 || $status -eq 5 ]] || fail "$1: attach ended with $status instead of 4 or 5"
    # shellcheck disable=SC2086
    if remote_usb $STICK >/dev/null; then fail "$1: the stick is attached all the same"; fi
    # shellcheck disable=SC2086
    home_with $STICK usb-storage || fail "$1: the owner's driver lost the stick"
}

# laptop_sees WORDS: exactly these devices are offered to it. A list of another shape fails too.
laptop_sees() {
    local seen
    laptop list --json >"$CASE_DIR/list.json"
    seen=$(jq -er '[.remote[].devices[].id] | join(" ") | "seen:" + .' "$CASE_DIR/list.json")
    expect_eq "devices that the laptop sees" "seen:$1" "$seen"
}

LIMIT_without_acl_entry=150
case_without_acl_entry() {
    local pid before
    bridge_up
    pid=$(hub_pid)
    hub export $STICK_ID
    laptop_sees ""
    mark_log
    refused_attach "without an entry"
    before=$(logged "$USE_REFUSED")
    hub acl grant $STICK_ID laptop
    laptop_sees $STICK_ID
    still_serves "$pid"
    hub acl revoke $STICK_ID laptop
    laptop_sees ""
    refused_attach "after the entry was taken back"
    expect_eq "log lines for the first refused use" 1 "$before"
    expect_eq "log lines for both refused uses" 2 "$(logged "$USE_REFUSED")"
}

# The laptop sees the stick and asks for it, so that it is the hub that says no.
LIMIT_read_only_entry=150
case_read_only_entry() {
    local pid
    bridge_up
    pid=$(hub_pid)
    hub export $STICK_ID
    hub acl grant $STICK_ID laptop --mode r
    laptop_sees $STICK_ID
    mark_log
    refused_attach "with an entry for reading"
    expect_eq "log lines for the refused use" 1 "$(logged "$USE_REFUSED")"
    hub acl grant $STICK_ID laptop
    still_serves "$pid"
    expect_eq "log lines at the end" 1 "$(logged "$USE_REFUSED")"
}

LIMIT_revoked_node=150
case_revoked_node() {
    local pid
    bridge_up
    pid=$(hub_pid)
    share $STICK_ID
    attach_with_disk
    hub revoke laptop
    # shellcheck disable=SC2086
    must_be_home $STICK usb-storage
    stop laptop INT

    # With its old certificate it knocks once, is refused, and does not try for ever.
    mark_log
    as_laptop client
    start laptop "${COMMAND[@]}"
    must_come 30 "the laptop's knowledge that it is refused" laptop_link refused
    logged_once "$REFUSED" "the revoked laptop"
    stop laptop INT

    # The same machine may join again, as a new node.
    rm -rf "$CASE_DIR/laptop"
    join_laptop
    start_laptop
    hub acl grant $STICK_ID laptop
    still_serves "$pid"
}

LIMIT_foreign_family=120
case_foreign_family() {
    local pid
    bridge_up
    pid=$(hub_pid)
    share $STICK_ID
    mark_log
    STRANGER=(ip netns exec cli "$MYCLERK" --state "$CASE_DIR/stranger" --run "$CASE_DIR/run-stranger")
    "${STRANGER[@]}" init --name laptop >"$CASE_DIR/stranger-init.log" 2>&1
    start stranger "${STRANGER[@]}" client --connect "hub=$HUB_ADDRESS"
    logged_once "$REFUSED" "the other family's node"
    if "${STRANGER[@]}" attach "hub/$STICK_ID" >>"$CASE_DIR/stranger.log" 2>&1; then
        fail "the other family's node attached the stick"
    fi
    stop stranger INT
    still_serves "$pid"
    expect_eq "log lines for the other family's node at the end" 1 "$(logged "$REFUSED")"
}

# knock NAME: sends standard input to the hub's port as one connection, until the hub closes it.
knock() {
    mark_log
    timeout 60 ip netns exec cli python3 -c '
import socket, sys
peer = socket.create_connection(("'$SRV_ADDRESS'", '$PORT'))
try:
    peer.sendall(sys.stdin.buffer.read())
    peer.shutdown(socket.SHUT_WR)
    while peer.recv(4096):
        pass
except OSError:
    pass  # reset at any point: closed is what counts; one that stays open meets the time limit
' || fail "$1: the hub keeps the connection"
    logged_once "$REFUSED" "$1"
}

LIMIT_garbage=180
case_garbage() {
    local pid
    bridge_up
    pid=$(hub_pid)
    share $STICK_ID
    head -c 65536 /dev/urandom | knock "random bytes"
    printf 'GET / HTTP/1.1\r\nHost: hub\r\n\r\n' | knock "an HTTP request"
    # a TLS 1.2 ClientHello's record and handshake headers, then nothing that fits them
    { printf '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' && head -c 506 /dev/urandom; } |
        knock "a TLS hello"
    printf '\xff\xff\xff\xff' | knock "a length of four gigabytes"
    printf '' | knock "a connection without a byte"
    still_serves "$pid"
    MARK=1
    expect_eq "log lines for five connections" 5 "$(logged "$REFUSED")"
}

run_cases "$@"
