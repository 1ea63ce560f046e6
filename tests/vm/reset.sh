#!/bin/bash
# What an attachment has to live through: resets on either machine, and the end of vhci's numbers.
source "${BASH_SOURCE[0]%/*}/lib.sh"
source "${BASH_SOURCE[0]%/*}/bridge.sh"

# As many URBs as a hub may number in the case of the moves.
SEQNUM_LIMIT=1500

prepare() {
    modprobe vhci-hcd
    make_namespaces
}

# node_of SYSFS-DIR: its file below /dev/bus/usb, as usbreset names it.
node_of() { printf '%03d/%03d' "$(<"$1/busnum")" "$(<"$1/devnum")"; }

# reset_of SYSFS-DIR
reset_of() { must "usbreset" usbreset "$(node_of "$1")" >>"$CASE_DIR/usbreset.log" 2>&1; }

# The kernel's lines of this case that say so of the device on its owner's bus.
owner_resets() {
    kernel_log "${CASE_DIR##*/}" | grep -c 'reset .* USB device number .* using xhci_hcd' || true
}

# readable DISK: 1 MiB of it, past every cache.
readable() { dd if="$1" of=/dev/null bs=64k count=16 iflag=direct status=none; }

hash_of() {
    dd if="$1" bs=1M count=4 iflag=direct status=none | sha256sum | cut -d' ' -f1
}

laptop_port() {
    laptop status --json | jq -e 'first(.. | objects | .attached? | arrays)[0].port'
}

# The laptop resets the stick: its driver keeps the disk, and the owner's device is reset too.
LIMIT_on_laptop=180
case_on_laptop() {
    local disk before round
    bridge_up
    share $STICK_ID
    attach_with_disk
    # shellcheck disable=SC2086 # vendor and product are two words
    for round in 1 2 3; do
        before=$(owner_resets)
        reset_of "$(remote_usb $STICK)"
        expect_eq "resets at the owner in round $round" 1 "$(($(owner_resets) - before))"
        expect_eq "the disk" "$disk" "$(remote_node $STICK block)"
        readable "$disk"
    done
    before=$(owner_resets)
    expect_eq "what myclerk reset says" "hub/$STICK_ID was reset." "$(laptop reset "hub/$STICK_ID")"
    expect_eq "resets by myclerk reset" 1 "$(($(owner_resets) - before))"
    readable "$disk"
    # shellcheck disable=SC2086
    detach $STICK_ID $STICK usb-storage
}

# The same while the disk is being read.
LIMIT_under_load=180
case_under_load() {
    local disk wanted
    bridge_up
    share $STICK_ID
    attach_with_disk
    wanted=$(hash_of "$disk")
    start reader bash -c "for i in 1 2 3; do
        dd if=$disk bs=1M count=4 iflag=direct status=none | sha256sum; done"
    # shellcheck disable=SC2086
    while running reader; do
        reset_of "$(remote_usb $STICK)"
    done
    expect_eq "what was read during resets" "$wanted  -" "$(sort -u "$CASE_DIR/reader.log")"
    rm "$CASE_DIR/reader.pid"
    # shellcheck disable=SC2086
    detach $STICK_ID $STICK usb-storage
}

# Somebody at the hub resets the stick while the laptop has it, idle and busy.
LIMIT_on_hub=240
case_on_hub() {
    local disk round
    bridge_up
    share $STICK_ID
    attach_with_disk
    # The owner's disk driver loses the device again while it looks at it.
    allow_kernel 'I/O error|hostbyte|Sense|Synchronize Cache|Read Capacity|Asking for cache'
    # shellcheck disable=SC2086
    for round in 1 2 3; do
        reset_of "$(owned_usb $STICK)"
        must_come 60 "the disk after reset $round" readable "$disk"
        has_driver "$(owned_usb $STICK)" usbfs || fail "the owner kept the device after reset $round"
    done
    start reader bash -c "for i in 1 2 3; do
        dd if=$disk of=/dev/null bs=1M count=4 iflag=direct status=none; done"
    # shellcheck disable=SC2086
    reset_of "$(owned_usb $STICK)"
    must_come 120 "the end of the reading" stopped reader
    rm "$CASE_DIR/reader.pid"
    must_come 60 "the disk" readable "$disk"
    # shellcheck disable=SC2086
    detach $STICK_ID $STICK usb-storage
}

# Every hub can number so few URBs that the device moves while it is read; the owner never has it
# back in between.
LIMIT_moves=240
case_moves() {
    local disk first wanted moves
    bridge_up
    share $STICK_ID
    attach_with_disk
    wanted=$(hash_of "$disk")
    # shellcheck disable=SC2086
    detach $STICK_ID $STICK usb-storage
    stop laptop INT
    mkdir -p "$CASE_DIR/config"
    printf '[client.usb]\nseqnum_limit = %s\n' $SEQNUM_LIMIT >"$CASE_DIR/config/seqnum.toml"
    as_laptop --config "$CASE_DIR/config" client
    start laptop "${COMMAND[@]}"
    must_come 30 "a session between laptop and hub" laptop_connected

    # Taken away while it is read, a disk has I/O errors by right.
    allow_kernel 'I/O error|device offline error|Buffer I/O|rejecting I/O|Sense|hostbyte|driverbyte|CDB|SCSI'
    # A hub that earlier cases have worn out is left while the kernel enumerates.
    allow_kernel 'usb [0-9]+-1: (device descriptor read/8, error -110|enqueue for inactive port)'
    allow_kernel 'usb usb[0-9]+-port1: unable to enumerate USB device'
    attach_with_disk
    first=$(laptop_port)
    while [[ $(laptop_port) == "$first" ]]; do
        dd if="$disk" of=/dev/null bs=4k count=200 iflag=direct status=none 2>/dev/null || true
    done
    # shellcheck disable=SC2086
    must_come 60 "the disk on its new port" remote_node $STICK block
    # shellcheck disable=SC2086
    disk=$(remote_node $STICK block)
    must_come 30 "the new disk's first block" readable "$disk"
    # shellcheck disable=SC2086
    has_driver "$(owned_usb $STICK)" usbfs || fail "the owner's driver had the device in between"
    expect_eq "what the laptop reads after the move" "$wanted" "$(hash_of "$disk")"
    moves=$(grep -c 'moved to a port of another hub' "$CASE_DIR/laptop.log")
    [[ $moves -ge 1 ]] || fail "the daemon said nothing of a move"
    expect_eq "attaches at the hub" 2 "$(grep -c 'USB device attached' "$CASE_DIR/hub.log")"
    # shellcheck disable=SC2086
    detach $STICK_ID $STICK usb-storage
}

run_cases "$@"
