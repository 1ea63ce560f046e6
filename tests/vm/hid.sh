#!/bin/bash
# A keyboard and a tablet at the hub, used by the laptop; QEMU presses the keys. It has nothing at low
# speed: that is a mouse in software.
source "${BASH_SOURCE[0]%/*}/lib.sh"
source "${BASH_SOURCE[0]%/*}/bridge.sh"
source "${BASH_SOURCE[0]%/*}/software.sh"

prepare() {
    modprobe vhci-hcd
    modprobe usbmon
    make_namespaces
}

# The node of a device's event interface, not its mouse or joystick twin. Both devices have vendor
# 0627 and product 0001: they are told apart by serial number.
event_of() {
    local where found
    where=$(by_serial "$1" "$2") || return 1
    found=$(find "$where/" -path '*/event*/dev' | sort | head -n 1)
    [[ -n $found ]] || return 1
    found=/dev/input/$(basename "$(dirname "$found")")
    [[ -c $found ]] && echo "$found"
}

# borrow DEVICE-ID SERIAL [EXPORT-OPTION]: attached, with evtest running on it.
borrow() {
    share "$1" "${@:3}"
    laptop attach "hub/$1" >>"$CASE_DIR/attach.log" 2>&1 || fail "attach: $(tail -n 1 "$CASE_DIR/attach.log")"
    must_come 30 "the event device of $2" event_of /vhci_hcd "$2"
    start evtest stdbuf -oL evtest "$(event_of /vhci_hcd "$2")"
    must_come 20 "evtest on $2" grep -q 'Testing ...' "$CASE_DIR/evtest.log"
}

# give_back DEVICE-ID SERIAL
give_back() {
    stop evtest
    laptop detach "hub/$1" >>"$CASE_DIR/attach.log" 2>&1 || fail "detach: $(tail -n 1 "$CASE_DIR/attach.log")"
    must_come 30 "$2 back at its owner" event_of /pci "$2"
}

evtest_saw() { grep -q "$1" "$CASE_DIR/evtest.log"; }

# events JSON: one input report
events() {
    qmp "{\"execute\":\"input-send-event\",\"arguments\":{\"events\":[$1]}}"
}

key() {
    events "{\"type\":\"key\",\"data\":{\"down\":$2,\"key\":{\"type\":\"qcode\",\"data\":\"$1\"}}}"
}

LIMIT_keys=120
case_keys() {
    bridge_up
    borrow $KEYBOARD_ID LABKBD1 --force
    local letter
    for letter in a s d; do
        key $letter true
        must_come 20 "KEY_${letter^^} down" evtest_saw "(KEY_${letter^^}), value 1"
        key $letter false
        must_come 20 "KEY_${letter^^} up" evtest_saw "(KEY_${letter^^}), value 0"
    done
    give_back $KEYBOARD_ID LABKBD1
}

LIMIT_pointer=120
case_pointer() {
    bridge_up
    borrow $TABLET_ID LABTABLET1
    events '{"type":"abs","data":{"axis":"x","value":12345}},{"type":"abs","data":{"axis":"y","value":23456}}'
    must_come 20 "the pointer's x" evtest_saw '(ABS_X), value 12345'
    must_come 20 "the pointer's y" evtest_saw '(ABS_Y), value 23456'
    events '{"type":"btn","data":{"down":true,"button":"left"}}'
    must_come 20 "the button down" evtest_saw '(BTN_LEFT), value 1'
    events '{"type":"btn","data":{"down":false,"button":"left"}}'
    must_come 20 "the button up" evtest_saw '(BTN_LEFT), value 0'
    give_back $TABLET_ID LABTABLET1
}

# The LED report at the owner's bus: SET_REPORT, output report, with caps lock (bit 1) on or off.
led_report() {
    grep -Eq " s 21 09 0200 .* = $1" "$CASE_DIR/bus.log"
}

LIMIT_caps_lock=120
case_caps_lock() {
    bridge_up
    borrow $KEYBOARD_ID LABKBD1 --force
    watch_bus bus "$(by_serial /pci LABKBD1)"
    key caps_lock true
    key caps_lock false
    must_come 20 "the key" evtest_saw '(KEY_CAPSLOCK), value 0'
    must_come 20 "the LED's light at the owner" led_report 02
    key caps_lock true
    key caps_lock false
    must_come 20 "the LED's end at the owner" led_report 00
    give_back $KEYBOARD_ID LABKBD1
}

moves() { sed -n 's/.*(REL_X), value //p' "$CASE_DIR/evtest.log"; }

thirty_moves() { (($(moves | wc -l) >= 30)); }

# follow_moves USB-DIRECTORY: the mouse goes 1, 2, 3 ... 100 points to the right, and again. Whatever
# looked at it before has taken some of them.
follow_moves() {
    expect_eq "the twin's speed" 1.5 "$(<"$1/speed")"
    must_come 30 "the event device of $1" node_below "$1" input
    probed
    start evtest stdbuf -oL evtest "$(node_below "$1" input)"
    must_come 60 "the thirtieth move" thirty_moves
    stop evtest
    moves | awk 'NR > 1 && $1 != last % 100 + 1 { exit 1 } { last = $1 }' ||
        fail "a move is missing: $(moves | paste -sd ' ')"
}

LIMIT_low_speed_mouse=120
case_low_speed_mouse() {
    local owned
    plug_in mouse LABMOUSE1 usbhid
    bridged LABMOUSE1 usbhid follow_moves
}

run_cases "$@"
