#!/bin/bash
# A CAN bus with two controllers: one is the hub's and lent, the other is the bus's other node. The
# laptop's programs have a virtual interface.
source "${BASH_SOURCE[0]%/*}/lib.sh"
source "${BASH_SOURCE[0]%/*}/bridge.sh"

BUS=can:can0
FAR=can1
NEAR=mc-can0

prepare() {
    local module
    for module in can-raw can-isotp can-j1939 vcan vxcan kvaser_pci; do
        modprobe "$module"
    done
    make_namespaces
    must_come 20 "both controllers" test -e /sys/class/net/$FAR
    ip link set can0 netns srv
    ip -n srv link set can0 up type can bitrate 1000000
    ip link set $FAR up type can bitrate 1000000
}

on_bus() {
    bridge_up
    share $BUS
    laptop attach hub/$BUS "$@" >>"$CASE_DIR/attach.log" 2>&1 ||
        fail "attach: $(tail -n 1 "$CASE_DIR/attach.log")"
    must_come 10 "the interface" on_cli ip link show $NEAR
}

lines() { [[ $(wc -l <"$1") -ge $2 ]]; }

# hear NAME COMMAND...: candump in the background, once it listens; its frames in NAME.log
hear() {
    local name=$1
    shift
    start "$name" "$@"
    must_come 10 "$name" listening "$(pid_of "$name")"
}

listening() { ls -l "/proc/$1/fd" 2>/dev/null | grep -q socket; }

case_tools() {
    on_bus
    hear far candump -L $FAR
    hear near ip netns exec cli candump -L $NEAR
    on_cli cansend $NEAR 123#DEADBEEF
    on_cli cansend $NEAR 1ABCDEF0#R4
    cansend $FAR 7FF#0102030405060708
    cansend $FAR 00000001#
    must_come 20 "the frames on the bus" lines "$CASE_DIR/far.log" 4
    must_come 20 "the frames on the laptop" lines "$CASE_DIR/near.log" 4
    expect_eq "frames on the bus" "$(cut -d' ' -f3 "$CASE_DIR/far.log" | sort)" \
        "$(cut -d' ' -f3 "$CASE_DIR/near.log" | sort)"
    must "the owner's statistics" on_srv ip -details -statistics link show can0
    laptop detach hub/$BUS
    must_come 10 "the end of the interface" interface_gone
}

interface_gone() { ! on_cli ip link show $NEAR; }

# Numbered frames both ways: cansequence ends with an error at the first gap.
LIMIT_sequence=150
case_sequence() {
    on_bus
    start far cansequence -r -v $FAR
    start near ip netns exec cli cansequence -r -v $NEAR
    hear count-far candump -L $FAR
    hear count-near ip netns exec cli candump -L $NEAR
    must "sending from the laptop" on_cli cansequence --loop=1000 $NEAR
    must_come 60 "1000 frames on the bus" lines "$CASE_DIR/count-far.log" 1000
    must "sending from the bus" cansequence --loop=1000 --poll $FAR
    must_come 60 "2000 frames on the laptop" lines "$CASE_DIR/count-near.log" 2000
    numbered "$CASE_DIR/count-far.log"
    numbered "$CASE_DIR/count-near.log"
}

# The one byte of data counts up within each burst.
numbered() {
    awk -F'#' '{ n = NR - 1; if (n >= 1000) n -= 1000
        if (sprintf("%02X", n % 256) != substr($2, 1, 2)) { print "frame " NR ": " $0; exit 1 } }' "$1" ||
        fail "a gap or another order in ${1##*/}"
}

case_isotp() {
    on_bus
    local text
    text=$(head -c 4095 /dev/urandom | od -An -v -tx1 | tr -d '\n')
    start received isotprecv -s 321 -d 123 $FAR
    must_come 10 "isotprecv" running received
    echo "$text" | on_cli isotpsend -s 123 -d 321 $NEAR
    must_come 60 "4095 bytes" lines "$CASE_DIR/received.log" 1
    expect_eq "the message" "$(tr -d ' \n' <<<"$text" | tr a-f A-F)" \
        "$(head -n 1 "$CASE_DIR/received.log" | tr -d ' \n')"
}

run_cases "$@"
