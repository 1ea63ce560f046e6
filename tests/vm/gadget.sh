#!/bin/bash
# Devices that this kernel's own gadget functions make, used over the bridge: the hub's side holds
# the device, so a script sees both ends of what passes.
source "${BASH_SOURCE[0]%/*}/lib.sh"
source "${BASH_SOURCE[0]%/*}/bridge.sh"
source "${BASH_SOURCE[0]%/*}/configfs.sh"

VENDOR=1d6b
PRODUCT=0104

prepare() {
    modprobe vhci-hcd
    configfs_up 1
    make_namespaces
}

id_of() { echo "usb:$VENDOR:$PRODUCT:$1"; }

add_acm() { add_function "$1" acm.0; }

# A boot keyboard: a report of eight bytes in, one with five LEDs out (HID 1.11, appendix B.1).
add_hid() {
    add_function "$1" hid.0
    echo 1 >"$function/protocol"
    echo 1 >"$function/subclass"
    echo 8 >"$function/report_length"
    printf '%b' '\x05\x01\x09\x06\xa1\x01\x05\x07\x19\xe0\x29\xe7\x15\x00\x25\x01\x75\x01\x95\x08' \
        '\x81\x02\x95\x01\x75\x08\x81\x03\x95\x05\x75\x01\x05\x08\x19\x01\x29\x05\x91\x02\x95\x01' \
        '\x75\x03\x91\x03\x95\x06\x75\x08\x15\x00\x25\x65\x05\x07\x19\x00\x29\x65\x81\x00\xc0' \
        >"$function/report_desc"
}

# A disk of 8 MiB whose first half is random, in `backing`.
add_storage() {
    backing=$CASE_DIR/backing
    truncate -s 8M "$backing"
    head -c 4M /dev/urandom | dd of="$backing" conv=notrunc status=none
    add_function "$1" mass_storage.0
    echo 1 >"$function/lun.0/removable"
    echo "$backing" >"$function/lun.0/file"
}

# gadget_at_laptop NAME DRIVERS [EXPORT-OPTION]: plugged in, bound at its owner, exported and
# attached; `remote` is its directory.
gadget_at_laptop() {
    link_functions "$1"
    plug "$1" 0
    must_come 30 "the owner's drivers $2" drivers_are /dummy_hcd "$1" "$2"
    probed
    bridge_up
    share "$(id_of "$1")" "${@:3}"
    laptop attach "hub/$(id_of "$1")" >>"$CASE_DIR/attach.log" 2>&1 ||
        fail "attach: $(tail -n 1 "$CASE_DIR/attach.log")"
    must_come 30 "the laptop's drivers $2" drivers_are /vhci_hcd "$1" "$2"
    must_come 5 "no driver at the owner" drivers_are /dummy_hcd "$1" "$(sed 's/[a-z_-]\+/usbfs/g' <<<"$2")"
    remote=$(by_serial /vhci_hcd "$1")
    probed
}

# give_back NAME DRIVERS
give_back() {
    probed
    laptop detach "hub/$(id_of "$1")" >>"$CASE_DIR/attach.log" 2>&1 ||
        fail "detach: $(tail -n 1 "$CASE_DIR/attach.log")"
    must_come 30 "the owner's drivers $2" drivers_are /dummy_hcd "$1" "$2"
    probed
    drop_gadget "$1"
}

# drivers_are CONTROLLER SERIAL DRIVERS: of its interfaces, in their order.
drivers_are() {
    local device interface found=''
    device=$(by_serial "$1" "$2") || return 1
    for interface in "$device"/*:1.*; do
        found+=" $(basename "$(realpath -e "$interface/driver")")" || return 1
    done
    [[ ${found# } == "$3" ]]
}

# node_of DIRECTORY CLASS: as node_below, once it is there.
node_of() {
    must_come 30 "a device node of class $2" node_below "$1" "$2"
    node_below "$1" "$2"
}

# pass_bytes FROM TO WHAT: 16 KiB
pass_bytes() {
    head -c 16384 /dev/urandom >"$CASE_DIR/out"
    timeout 60 head -c 16384 <"$2" >"$CASE_DIR/in" &
    local reader=$!
    cat "$CASE_DIR/out" >"$1"
    wait $reader || fail "$3: waiting for bytes"
    must "$3" cmp "$CASE_DIR/out" "$CASE_DIR/in"
}

use_acm() {
    local tty
    tty=$(node_of "$remote" tty)
    [[ $tty == /dev/ttyACM* ]] || fail "the gadget's port became $tty"
    stty -F "$tty" raw -echo clocal
    stty -F /dev/ttyGS0 raw -echo clocal
    # Held open: the last close would hang the other end up.
    exec 5<>"$tty" 6<>/dev/ttyGS0
    pass_bytes "$tty" /dev/ttyGS0 "bytes to the gadget"
    pass_bytes /dev/ttyGS0 "$tty" "bytes from the gadget"
    exec 5>&- 6>&-
}

saw() { grep -q "$2" "$CASE_DIR/$1.log"; }

use_hid() {
    local event raw
    must_come 30 "an event device" test -e "$remote"/*/*/input/input*/event*/dev
    event=/dev/input/$(basename "$(dirname "$remote"/*/*/input/input*/event*/dev)")
    raw=$(node_of "$remote" hidraw)
    start evtest stdbuf -oL evtest "$event"
    must_come 20 "evtest" saw evtest 'Testing ...'
    start hidraw stdbuf -oL od -An -v -tx1 -w8 "$raw"
    must_come 10 "a reader of $raw" has_open hidraw "$raw"
    printf '\x02\x00\x04\x05\x00\x00\x00\x00' >/dev/hidg0
    must_come 20 "the report at the client's hidraw" saw hidraw '02 00 04 05 00 00 00 00'
    must_come 20 "shift at the client" saw evtest '(KEY_LEFTSHIFT), value 1'
    must_come 20 "A at the client" saw evtest '(KEY_A), value 1'
    printf '\x00\x00\x00\x00\x00\x00\x00\x00' >/dev/hidg0
    must_come 20 "the keys' end" saw evtest '(KEY_A), value 0'
    stop evtest
    stop hidraw

    start leds stdbuf -oL od -An -v -tx1 -w1 /dev/hidg0
    must_come 10 "a reader of the gadget" has_open leds /dev/hidg0
    # An output report: number 0 for "unnumbered", then num lock and scroll lock.
    printf '\x00\x05' >"$raw"
    must_come 20 "the output report at the gadget" saw leds 05
    stop leds
}

# hash_of FILE SKIP-MiB [FLAGS]: of 4 MiB
hash_of() { dd if="$1" bs=1M skip="$2" count=4 "${@:3}" status=none | sha256sum | cut -d' ' -f1; }

use_storage() {
    local disk
    disk=$(node_of "$remote" block)
    expect_eq "the first half of the disk" "$(hash_of "$backing" 0)" "$(hash_of "$disk" 0 iflag=direct)"
    head -c 4M /dev/urandom >"$CASE_DIR/new"
    dd if="$CASE_DIR/new" of="$disk" bs=1M seek=4 oflag=direct conv=fsync status=none
    expect_eq "the backing file after a write" "$(hash_of "$CASE_DIR/new" 0)" "$(hash_of "$backing" 4)"
}

ACM='cdc_acm cdc_acm'
HID='usbhid'
STORAGE='usb-storage'

LIMIT_acm=120
case_acm() {
    local function remote
    make_gadget ACM1 $VENDOR $PRODUCT
    add_acm ACM1
    gadget_at_laptop ACM1 "$ACM"
    use_acm
    give_back ACM1 "$ACM"
}

LIMIT_hid=120
case_hid() {
    local function remote
    make_gadget HID1 $VENDOR $PRODUCT
    add_hid HID1
    gadget_at_laptop HID1 "$HID" --force
    use_hid
    give_back HID1 "$HID"
}

LIMIT_mass_storage=180
case_mass_storage() {
    local function remote backing
    make_gadget DISK1 $VENDOR $PRODUCT
    add_storage DISK1
    gadget_at_laptop DISK1 "$STORAGE"
    use_storage
    give_back DISK1 "$STORAGE"
}

LIMIT_composite=240
case_composite() {
    local function remote backing disk
    make_gadget ALL1 $VENDOR $PRODUCT
    # Interface associations (USB 2.0 ECN): the two interfaces of ACM belong together.
    echo 0xef >"$GADGETS/ALL1/bDeviceClass"
    echo 2 >"$GADGETS/ALL1/bDeviceSubClass"
    echo 1 >"$GADGETS/ALL1/bDeviceProtocol"
    add_acm ALL1
    add_hid ALL1
    add_storage ALL1
    gadget_at_laptop ALL1 "$ACM $HID $STORAGE" --force
    # All at once: no function's transfers may get in the way of another's.
    use_storage &
    disk=$!
    use_acm
    use_hid
    wait $disk
    give_back ALL1 "$ACM $HID $STORAGE"
}

run_cases "$@"
