#!/bin/bash
# Taking and giving back, ten times each way: the owner's driver has the device again every time.
source "${BASH_SOURCE[0]%/*}/lib.sh"
source "${BASH_SOURCE[0]%/*}/bridge.sh"

ROUNDS=$(rounds 1 10)

prepare() {
    modprobe vhci-hcd
    make_namespaces
}

# The stick is local and its first block can be read.
take_stick() {
    attach_with_disk
    dd if="$disk" of=/dev/null bs=512 count=1 iflag=direct status=none
}

LIMIT_detach=300
case_detach() {
    local disk round
    bridge_up
    share $STICK_ID
    for ((round = 1; round <= ROUNDS; round++)); do
        echo "round $round"
        take_stick
        # shellcheck disable=SC2086 # vendor and product are two words
        detach $STICK_ID $STICK usb-storage
    done
    expect_eq "devices still attached" 0 "$(laptop status --json |
        jq -e 'first(.. | objects | .attached? | arrays) | length')"
}

LIMIT_client_interrupted=600
case_client_interrupted() {
    local disk round
    bridge_up
    share $STICK_ID
    for ((round = 1; round <= ROUNDS; round++)); do
        echo "round $round"
        take_stick
        stop laptop INT
        # shellcheck disable=SC2086
        must_be_home $STICK usb-storage
        start_laptop
    done
}

LIMIT_server_interrupted=600
case_server_interrupted() {
    local disk round
    bridge_up
    share $STICK_ID
    for ((round = 1; round <= ROUNDS; round++)); do
        echo "round $round"
        take_stick
        stop hub INT
        # shellcheck disable=SC2086
        must_be_home $STICK usb-storage
        start_hub
        must_come 60 "the laptop's next session" laptop_connected
    done
}

# Not asked to end but ended: closing usbfs and the socket of vhci, and the guardian, have to be
# enough.
LIMIT_server_killed=120
case_server_killed() {
    local disk
    bridge_up
    share $STICK_ID
    take_stick
    stop hub KILL
    # shellcheck disable=SC2086
    must_be_home $STICK usb-storage
    start_hub
    must_come 60 "the laptop's next session" laptop_connected
    take_stick
    # shellcheck disable=SC2086
    detach $STICK_ID $STICK usb-storage
}

LIMIT_client_killed=120
case_client_killed() {
    local disk
    bridge_up
    share $STICK_ID
    take_stick
    stop laptop KILL
    # shellcheck disable=SC2086
    must_be_home $STICK usb-storage
    start_laptop
    take_stick
    # shellcheck disable=SC2086
    detach $STICK_ID $STICK usb-storage
}

run_cases "$@"
