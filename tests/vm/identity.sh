#!/bin/bash
# A device is the same on both machines: to lsusb, and on the wire.
source "${BASH_SOURCE[0]%/*}/lib.sh"
source "${BASH_SOURCE[0]%/*}/bridge.sh"

prepare() {
    modprobe vhci-hcd
    modprobe usbmon
    make_namespaces
}

# describe SYSFS-DIRECTORY: all that lsusb can say, without the numbers of bus and device
describe() {
    lsusb -v -s "$(<"$1/busnum"):$(<"$1/devnum")" 2>&1 | sed -E 's/^Bus [0-9]+ Device [0-9]+: //'
}

# The ids of the hub's devices; those of the laptop are in the same kernel's list once they are there.
devices() {
    hub list --local --json | jq -r '.. | .id? // empty' | grep '^usb:'
}

LIMIT_descriptors=240
case_descriptors() {
    local device serial asked=() all
    bridge_up
    all=$(devices)
    for device in $all; do
        serial=${device##*:}
        describe "$(by_serial /pci "$serial")" >"$CASE_DIR/$serial.hub"
        must "the description of $device" grep -q iSerial "$CASE_DIR/$serial.hub"
        share "$device" --force
        laptop attach "hub/$device" >>"$CASE_DIR/attach.log" 2>&1 &
        asked+=($!)
    done
    wait "${asked[@]}" || fail "attach: $(tail -n 1 "$CASE_DIR/attach.log")"
    for device in $all; do
        serial=${device##*:}
        must_come 30 "$device on the laptop" by_serial /vhci_hcd "$serial"
        describe "$(by_serial /vhci_hcd "$serial")" >"$CASE_DIR/$serial.laptop"
        must "the same description of $device" diff -u "$CASE_DIR/$serial.hub" "$CASE_DIR/$serial.laptop"
    done
    laptop detach --all
}

# borrow DEVICE-ID SERIAL: attached, with its sysfs directory at both ends in `owner` and `user`.
borrow() {
    share "$1" --force
    laptop attach "hub/$1" >>"$CASE_DIR/attach.log" 2>&1 || fail "attach: $(tail -n 1 "$CASE_DIR/attach.log")"
    owner=$(by_serial /pci "$2")
    must_come 30 "$1 on the laptop" by_serial /vhci_hcd "$2"
    user=$(by_serial /vhci_hcd "$2")
}

# compare_traces ENDPOINT...: of the device in `owner` and `user`, both in the trace "bus".
compare_traces() {
    probed
    must_come 20 "the end of the transfers" quiet
    must "the same transfers of ${owner##*/} and ${user##*/}" compare "$CASE_DIR/bus.log" "$@"
    # The comparison sees a single status that differs.
    spoil "$(<"$user/busnum")" "$(<"$user/devnum")" <"$CASE_DIR/bus.log" >"$CASE_DIR/spoilt"
    if compare "$CASE_DIR/spoilt" "$@"; then fail "the spoilt trace passes"; fi
}

# compare TRACE ENDPOINT...
compare() {
    python3 "$LAB_REPO/tests/vm/compare_traces.py" "$1" "$(<"$owner/busnum")" \
        "$(<"$owner/devnum")" "$(<"$user/busnum")" "$(<"$user/devnum")" "${@:2}"
}

# spoil BUS DEVICE: one transfer in a trace stalls that did not.
spoil() {
    awk -v "at=$(printf '^Bi:%d:%03d:|^Ii:%d:%03d:' "$1" "$2" "$1" "$2")" \
        '!done && $3 == "C" && $4 ~ at { $5 = "-32"; done = 1 } { print }'
}

# Nothing has come for a moment: cat has written what there was.
quiet() {
    local size
    size=$(stat -c %s "$CASE_DIR/bus.log")
    sleep 0.5
    [[ $size == "$(stat -c %s "$CASE_DIR/bus.log")" ]]
}

# watch_all: usbmon's trace of every bus in "bus"
watch_all() {
    start bus cat /sys/kernel/debug/usb/usbmon/0u
    must_come 10 "the trace" has_open bus /sys/kernel/debug/usb/usbmon/0u
}

LIMIT_disk_trace=240
case_disk_trace() {
    local owner user disk
    bridge_up
    # shellcheck disable=SC2086 # vendor and product are two words
    must_come 30 "the owner's disk" owned_node $STICK block
    # shellcheck disable=SC2086
    disk=$(owned_node $STICK block)
    head -c 1M /dev/urandom >"$CASE_DIR/data"
    dd if="$CASE_DIR/data" of="$disk" bs=1M oflag=direct status=none
    watch_all
    borrow $STICK_ID LABSTICK1
    # shellcheck disable=SC2086
    must_come 30 "the remote disk" remote_node $STICK block
    # shellcheck disable=SC2086
    disk=$(remote_node $STICK block)
    probed
    dd if="$disk" of="$CASE_DIR/back" bs=1M count=1 iflag=direct status=none
    must "what was read" cmp "$CASE_DIR/data" "$CASE_DIR/back"
    dd if="$CASE_DIR/data" of="$disk" bs=64k count=4 seek=16 oflag=direct status=none
    compare_traces 0 81 02
    # shellcheck disable=SC2086
    detach $STICK_ID $STICK usb-storage
}

LIMIT_keyboard_trace=240
case_keyboard_trace() {
    local owner user letter node
    bridge_up
    watch_all
    borrow $KEYBOARD_ID LABKBD1
    udevadm settle --timeout=20
    node=$(find "$user/" -path '*/event*/dev' | sort | head -n 1)
    start evtest stdbuf -oL evtest "/dev/input/$(basename "${node%/dev}")"
    must_come 20 "evtest" grep -q 'Testing ...' "$CASE_DIR/evtest.log"
    for letter in a caps_lock caps_lock; do
        key "$letter" true
        key "$letter" false
    done
    must_come 20 "the LED's end" grep -q 'LED_CAPSL), value 0' "$CASE_DIR/evtest.log"
    compare_traces 0 81
    stop evtest
    laptop detach --all
}

key() {
    local event='"type":"key","data":{"down":'$2',"key":{"type":"qcode","data":"'$1'"}}'
    qmp "{\"execute\":\"input-send-event\",\"arguments\":{\"events\":[{$event}]}}"
}

LIMIT_serial_trace=240
case_serial_trace() {
    local owner user tty
    bridge_up
    watch_all
    borrow $ADAPTER_ID LABFTDI1
    # shellcheck disable=SC2086
    must_come 30 "the remote tty" remote_node $ADAPTER tty
    # shellcheck disable=SC2086
    tty=$(remote_node $ADAPTER tty)
    must_come 10 "the far end's port" test -e /dev/virtio-ports/lab.far
    exec 6<>/dev/virtio-ports/lab.far
    stty -F "$tty" raw -echo clocal -crtscts -ixon -ixoff 115200
    exec 5<>"$tty"
    head -c 600 /dev/urandom >"$CASE_DIR/out"
    cat "$CASE_DIR/out" >"$tty"
    timeout 30 head -c 600 <&6 >"$CASE_DIR/in"
    cat "$CASE_DIR/out" >&6
    timeout 30 head -c 600 <"$tty" >"$CASE_DIR/in"
    must "bytes to the laptop" cmp "$CASE_DIR/out" "$CASE_DIR/in"
    compare_traces 0 81 02
    exec 5>&-
    # shellcheck disable=SC2086
    detach $ADAPTER_ID $ADAPTER ftdi_sio
}

run_cases "$@"
