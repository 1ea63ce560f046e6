#!/bin/bash
# One program for each class of device, which uses the hub's device for its purpose on the laptop.
source "${BASH_SOURCE[0]%/*}/lib.sh"
source "${BASH_SOURCE[0]%/*}/bridge.sh"
source "${BASH_SOURCE[0]%/*}/configfs.sh"

NETWORK='0525 a4a2'
READER='08e6 4433'
PLAYER='46f4 0004'
DISK='46f4 0003'
KEY='1050 0120'

NETWORK_ID=usb:0525:a4a2:LABNET1
READER_ID=usb:08e6:4433:LABCCID1
PLAYER_ID=usb:46f4:0004:LABMTP1
# The same kind of disk at a USB 2 port and at a USB 3 port.
HIGH_SPEED_DISK_ID=usb:46f4:0003:LABUAS2
SUPER_SPEED_DISK_ID=usb:46f4:0003:LABUAS3
KEY_ID=usb:1050:0120:LABU2F1

# What QEMU's TFTP server and its media player hold.
SHARED_FILES=$LAB_REPO/docs

prepare() {
    modprobe vhci-hcd
    configfs_up 1
    make_namespaces
}

# laptop_sees VENDOR PRODUCT COMMAND...: libusb there finds no device of the hub's, although both
# machines are one kernel.
laptop_sees() {
    local device
    device=$(remote_usb "$1" "$2")
    # shellcheck disable=SC2016 # for the inner shell
    unshare --mount bash -c '
        mount -t tmpfs only /sys/bus/usb/devices
        for entry in "$1" "$1":* "$1"/*:*; do
            [[ ! -d $entry ]] || ln -s "$entry" /sys/bus/usb/devices/
        done
        shift
        exec "$@"' laptop "$device" "${@:3}"
}

# give_back DEVICE-ID VENDOR PRODUCT: a device that no kernel driver is for.
give_back() {
    laptop detach "hub/$1" >>"$CASE_DIR/attach.log" 2>&1 || fail "detach: $(tail -n 1 "$CASE_DIR/attach.log")"
    must_come 30 "the end of the remote device $2:$3" remote_gone "$2" "$3"
}

same_file() {
    expect_eq "the sum of $1" "$(sha256sum <"$SHARED_FILES/$1")" "$(sha256sum <"$CASE_DIR/$1")"
}

# --- network adapter ----------------------------------------------------------------------------

# The interface that a driver has made of the adapter.
remote_interface() {
    local entries
    # shellcheck disable=SC2086 # vendor and product are two words
    entries=("$(remote_usb $NETWORK)"/*:*/net/*)
    [[ -e ${entries[0]} ]] && basename "${entries[0]}"
}

LIMIT_network=240
case_network() {
    local interface address
    # It is asked before cdc_ether, at home and abroad, and does not want this configuration.
    allow_kernel 'cdc_subset .*: probe with driver cdc_subset failed with error -22'
    bridge_up
    share $NETWORK_ID
    # shellcheck disable=SC2086
    attach $NETWORK_ID $NETWORK
    must_come 30 "the network interface" remote_interface
    udevadm settle --timeout=20
    interface=$(remote_interface)
    # shellcheck disable=SC2086
    expect_eq "its driver" cdc_ether "$(driver_of "$(remote_usb $NETWORK)")"
    ip link set "$interface" up
    must "an address by DHCP" udhcpc -f -q -n -t 10 -i "$interface" >"$CASE_DIR/dhcp.log" 2>&1
    address=$(ip -json -4 address show dev "$interface" | jq -r '.[].addr_info[].local')
    [[ $address == 10.0.2.* ]] || fail "the adapter got the address '$address'"
    must "the gateway's echo" ping -c 3 -s 1400 -W 10 10.0.2.2
    must "a file by TFTP" timeout 40 tftp -m binary 10.0.2.2 -c get usb.md "$CASE_DIR/usb.md"
    same_file usb.md
    # shellcheck disable=SC2086
    detach $NETWORK_ID $NETWORK cdc_ether
}

# --- smart card reader --------------------------------------------------------------------------

LIMIT_card=240
case_card() {
    local found
    must_come 10 "the card's slot" test -e /dev/virtio-ports/lab.card
    head -c 1024 /dev/urandom >"$CASE_DIR/memory"
    start card python3 "$LAB_REPO/tests/vm/card.py" "$(realpath /dev/virtio-ports/lab.card)" \
        "$CASE_DIR/memory"
    bridge_up
    share $READER_ID
    # shellcheck disable=SC2086
    attach $READER_ID $READER
    must_come 10 "the card" grep -q inserted "$CASE_DIR/card.log"
    start pcscd pcscd --foreground
    must_come 30 "pcscd's socket" test -S /run/pcscd/pcscd.comm
    must_come 30 "the card in the reader" opensc-tool --atr
    opensc-tool --list-readers >"$CASE_DIR/readers.log"
    must "the reader's name" grep -q 'Yes.*LABCCID1' "$CASE_DIR/readers.log"
    found=$(opensc-tool --atr)
    expect_eq "the card's answer to reset" 3b:07:6c:61:62:63:61:72:64 "$found"
    opensc-tool --card-driver default --send-apdu 00:B0:01:00:F0 >"$CASE_DIR/apdu.log" 2>&1
    must "the card's answer" grep -q 'SW1=0x90, SW2=0x00' "$CASE_DIR/apdu.log"
    expect_eq "240 bytes of the card's memory" \
        "$(od -An -v -tx1 -w16 -j 256 -N 240 "$CASE_DIR/memory" | tr -d ' ')" \
        "$(sed -nE 's/^(([0-9A-F]{2} ){16}).*/\L\1/p' "$CASE_DIR/apdu.log" | tr -d ' ')"
    # libccid 1.5.2 loses the order to stop when it comes between two of its interrupt transfers, and then
    # waits ten minutes (mended in 1.5.3); a reader whose program is killed is given back as well.
    kill -s INT "$(pid_of pcscd)"
    wait_for 10 stopped pcscd || kill -s KILL "$(pid_of pcscd)"
    stop pcscd
    # shellcheck disable=SC2086
    give_back $READER_ID $READER
}

# --- media player -------------------------------------------------------------------------------

LIMIT_player=240
case_player() {
    local number
    bridge_up
    share $PLAYER_ID
    # shellcheck disable=SC2086
    attach $PLAYER_ID $PLAYER
    # shellcheck disable=SC2086
    laptop_sees $PLAYER mtp-files >"$CASE_DIR/files.log" 2>&1
    cat "$CASE_DIR/files.log"
    number=$(grep -B 1 'Filename: architecture.md' "$CASE_DIR/files.log" | sed -n 's/^File ID: //p')
    # shellcheck disable=SC2086
    laptop_sees $PLAYER mtp-getfile "$number" "$CASE_DIR/architecture.md"
    same_file architecture.md
    # shellcheck disable=SC2086
    give_back $PLAYER_ID $PLAYER
}

# --- SCSI disk ----------------------------------------------------------------------------------

LIMIT_disk=240
case_disk() {
    bridge_up
    share $HIGH_SPEED_DISK_ID
    # shellcheck disable=SC2086
    attach $HIGH_SPEED_DISK_ID $DISK
    # shellcheck disable=SC2086
    must_come 30 "the remote disk" remote_node $DISK block
    # shellcheck disable=SC2086
    disk=$(remote_node $DISK block)
    probed
    # shellcheck disable=SC2086
    expect_eq "its driver" uas "$(driver_of "$(remote_usb $DISK)")"
    head -c 1M /dev/urandom >"$CASE_DIR/data"
    dd if="$CASE_DIR/data" of="$disk" bs=64k oflag=direct conv=fsync status=none
    dd if="$disk" of="$CASE_DIR/back" bs=64k count=16 iflag=direct status=none
    must "what was written" cmp "$CASE_DIR/data" "$CASE_DIR/back"
    # shellcheck disable=SC2086
    detach $HIGH_SPEED_DISK_ID $DISK uas
}

# QEMU's disk has no bulk-only setting. Linux uses it at high speed; at super speed its driver wants
# streams (drivers/usb/storage/uas-detect.h), which vhci-hcd does not have.
LIMIT_refused_disk=240
case_refused_disk() {
    bridge_up
    share $SUPER_SPEED_DISK_ID
    if laptop attach "hub/$SUPER_SPEED_DISK_ID" >"$CASE_DIR/attach.log" 2>&1; then
        fail "the disk was attached"
    fi
    must "the reason" grep -q 'at super speed needs streams, and vhci-hcd has none' \
        "$CASE_DIR/attach.log"
    # shellcheck disable=SC2086
    must_come 30 "the disk's driver at its owner" has_driver "$(by_serial /pci LABUAS3)" uas
    if by_serial /vhci_hcd LABUAS3; then fail "the refused disk is there"; fi
    probed
}

# --- security key -------------------------------------------------------------------------------

# A HID gadget with the report descriptor of FIDO CTAP 2.1, 11.2.8.
plug_key() {
    # shellcheck disable=SC2086 # vendor and product are two words
    make_gadget LABU2F1 $KEY
    echo "Security key" >"$GADGETS/LABU2F1/strings/0x409/product"
    add_function LABU2F1 hid.0
    echo 64 >"$function/report_length"
    printf '%b' '\x06\xd0\xf1\x09\x01\xa1\x01\x09\x20\x15\x00\x26\xff\x00\x75\x08\x95\x40\x81\x02' \
        '\x09\x21\x15\x00\x26\xff\x00\x75\x08\x95\x40\x91\x02\xc0' >"$function/report_desc"
    link_functions LABU2F1
    plug LABU2F1 0
    must_come 20 "the gadget's node" test -c /dev/hidg0
}

LIMIT_key=240
case_key() {
    local node function
    plug_key
    mkdir "$CASE_DIR/key"
    start key python3 "$LAB_REPO/tests/vm/u2f_key.py" /dev/hidg0 "$CASE_DIR/key"
    bridge_up
    share $KEY_ID
    # shellcheck disable=SC2086
    attach $KEY_ID $KEY
    # shellcheck disable=SC2086
    must_come 30 "the key's hidraw node" remote_node $KEY hidraw
    # shellcheck disable=SC2086
    node=$(remote_node $KEY hidraw)
    must_come 20 "the key" grep -q ready "$CASE_DIR/key.log"
    fido2-token -L >"$CASE_DIR/tokens.log"
    must "the key in the list" grep -q "^$node: vendor=0x1050, product=0x0120" "$CASE_DIR/tokens.log"
    must "the key's version" timeout 20 fido2-token -I "$node"
    printf '%s\n' "$(head -c 32 /dev/urandom | base64)" lab.example user "$(echo user | base64)" \
        >"$CASE_DIR/registration"
    must "a registration" timeout 40 fido2-cred -M -u -i "$CASE_DIR/registration" -o "$CASE_DIR/registered" "$node"
    must "the attestation" fido2-cred -V -i "$CASE_DIR/registered" -o "$CASE_DIR/credential"
    sed 1d "$CASE_DIR/credential" >"$CASE_DIR/public.pem"
    printf '%s\n' "$(head -c 32 /dev/urandom | base64)" lab.example \
        "$(head -n 1 "$CASE_DIR/credential")" >"$CASE_DIR/challenge"
    must "an authentication" timeout 40 fido2-assert -G -u -p -i "$CASE_DIR/challenge" -o "$CASE_DIR/assertion" "$node"
    must "the signature" fido2-assert -V -p -i "$CASE_DIR/assertion" "$CASE_DIR/public.pem" es256
    # shellcheck disable=SC2086
    give_back $KEY_ID $KEY
}

run_cases "$@"
