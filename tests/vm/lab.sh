#!/bin/bash
# The lab itself: what every other guest script relies on.
source "${BASH_SOURCE[0]%/*}/lib.sh"

case_modules() {
    local module
    for module in usbip-core vhci-hcd usbmon vcan cuse usb-storage ftdi_sio; do
        must "module $module" modprobe "$module"
    done
    must_come 10 "vhci's attach file" test -w /sys/devices/platform/vhci_hcd.0/attach
    expect_eq "free ports of the first vhci controller" 240 \
        "$(cat /sys/devices/platform/vhci_hcd.0/nports)"
    must_come 10 /dev/cuse test -c /dev/cuse
}

case_usb_devices() {
    local id
    # stick, FTDI adapter, tablet and keyboard (which share vendor and product)
    for id in 46f4:0001 0403:6001 0627:0001; do
        must_come 20 "USB device $id" lsusb -d "$id"
    done
    expect_eq "input devices" 2 "$(lsusb -d 0627:0001 | wc -l)"
    must_come 20 "the stick's disk" node_below "$(owned_usb 46f4 0001)" block
    must_come 20 "the adapter's tty" node_below "$(owned_usb 0403 6001)" tty
}

case_namespaces() {
    make_namespaces
    must_come 20 "a ping from cli to srv" on_cli ping -c 1 -W 1 $SRV_ADDRESS
    must_come 20 "a ping from srv to cli" on_srv ping -c 1 -W 1 $CLI_ADDRESS
    if ping -c 1 -W 1 $SRV_ADDRESS >/dev/null 2>&1; then
        fail "the root namespace reaches the server: the two machines are not apart"
    fi
}

run_cases "$@"
