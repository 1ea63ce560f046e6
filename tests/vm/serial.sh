#!/bin/bash
# An FTDI adapter at the hub, used by the laptop; the far end of its cable is a port of this guest.
source "${BASH_SOURCE[0]%/*}/lib.sh"
source "${BASH_SOURCE[0]%/*}/bridge.sh"

prepare() {
    modprobe vhci-hcd
    modprobe usbmon
    make_namespaces
}

# The requests that ftdi_sio makes for a line setting (drivers/usb/serial/ftdi_sio.h): SET_BAUDRATE
# with the divisor of 3 MHz, its eighths in the upper bits, and SET_DATA with bits, parity in bits
# 8-10 and stop bits in bits 11-13.
SETTINGS=(
    '9600 cs8 -parenb -cstopb|4138|0008'
    '115200 cs8 -parenb -cstopb|001a|0008'
    '300 cs7 parenb -parodd -cstopb|2710|0207'
    '19200 cs8 parenb parodd cstopb|809c|1108'
)

# came REQUEST VALUE: whether the owner's bus has seen that vendor request since the last mark.
came() {
    tail -n "+$MARK" "$CASE_DIR/bus.log" | grep -q " s 40 $1 $2 "
}

# both_ways SETTING: 2 KiB of every byte value in each direction.
both_ways() {
    head -c 2048 /dev/urandom >"$CASE_DIR/out"
    head -c 2048 "$CASE_DIR/out" >"$TTY"
    timeout 30 head -c 2048 <&6 >"$CASE_DIR/in" || fail "$1: the far end waits for bytes"
    must "$1: bytes from the laptop" cmp "$CASE_DIR/out" "$CASE_DIR/in"
    head -c 2048 /dev/urandom >"$CASE_DIR/out"
    cat "$CASE_DIR/out" >&6
    timeout 30 head -c 2048 <"$TTY" >"$CASE_DIR/in" || fail "$1: the laptop waits for bytes"
    must "$1: bytes to the laptop" cmp "$CASE_DIR/out" "$CASE_DIR/in"
}

LIMIT_line_settings=180
case_line_settings() {
    local setting stty divisor data
    bridge_up
    share $ADAPTER_ID
    # shellcheck disable=SC2086 # vendor and product are two words
    watch_bus bus "$(owned_usb $ADAPTER)"
    # shellcheck disable=SC2086
    attach $ADAPTER_ID $ADAPTER
    # shellcheck disable=SC2086
    must_come 30 "the remote tty" remote_node $ADAPTER tty
    # shellcheck disable=SC2086
    TTY=$(remote_node $ADAPTER tty)
    [[ $TTY == /dev/ttyUSB* ]] || fail "the adapter became $TTY, not a ttyUSB"
    must_come 10 "the far end's port" test -e /dev/virtio-ports/lab.far
    exec 6<>/dev/virtio-ports/lab.far
    stty -F "$TTY" raw -echo clocal -crtscts -ixon -ixoff
    exec 5<>"$TTY"
    for setting in "${SETTINGS[@]}"; do
        IFS='|' read -r stty divisor data <<<"$setting"
        MARK=$(($(wc -l <"$CASE_DIR/bus.log") + 1))
        # shellcheck disable=SC2086 # a list of settings
        stty -F "$TTY" $stty
        must_come 10 "SET_BAUDRATE $divisor at the adapter for '$stty'" came 03 "$divisor"
        must_come 10 "SET_DATA $data at the adapter for '$stty'" came 04 "$data"
        both_ways "$stty"
    done
    exec 5>&-
    # shellcheck disable=SC2086
    detach $ADAPTER_ID $ADAPTER ftdi_sio
}

run_cases "$@"
