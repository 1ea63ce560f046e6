#!/bin/bash
# Sixteen devices at once.
source "${BASH_SOURCE[0]%/*}/lib.sh"
source "${BASH_SOURCE[0]%/*}/bridge.sh"

STICKS=6
ADAPTERS=4
TABLETS=6

prepare() {
    modprobe vhci-hcd
    make_namespaces
}

ids() {
    local n
    for ((n = 1; n <= STICKS; n++)); do echo "usb:46f4:0001:MANYDISK$n"; done
    for ((n = 1; n <= ADAPTERS; n++)); do echo "usb:0403:6001:MANYTTY$n"; done
    for ((n = 1; n <= TABLETS; n++)); do echo "usb:0627:0001:MANYTABLET$n"; done
}

# node_of PART-OF-PATH SERIAL block|tty|hidraw
node_of() {
    local where
    where=$(by_serial "$1" "$2") && node_below "$where" "$3"
}

# Every stick says its own name at its first block.
name_sticks() {
    local n
    for ((n = 1; n <= STICKS; n++)); do
        must_come 30 "disk $n" node_of /pci "MANYDISK$n" block
        echo "this is MANYDISK$n" | dd of="$(node_of /pci "MANYDISK$n" block)" bs=512 conv=sync,fsync \
            oflag=direct status=none
    done
}

# Each on its own, all at the same time.
attach_all() {
    local id pids=() pid
    for id in $(ids); do
        laptop attach "hub/$id" >"$CASE_DIR/attach-${id##*:}.log" 2>&1 &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do
        wait "$pid" || fail "an attach ended with $?: $(grep -h error "$CASE_DIR"/attach-*.log | head -n 1)"
    done
}

read_stick() {
    must_come 30 "the remote disk of $1" node_of /vhci_hcd "$1" block
    expect_eq "the first block of $1" "this is $1" \
        "$(dd if="$(node_of /vhci_hcd "$1" block)" bs=512 count=1 iflag=direct status=none | tr -d '\0')"
}

# read_adapter SERIAL FAR-END
read_adapter() {
    local tty line=
    must_come 30 "the remote tty of $1" node_of /vhci_hcd "$1" tty
    tty=$(node_of /vhci_hcd "$1" tty)
    stty -F "$tty" raw -echo clocal -crtscts
    exec 5<>"$tty"
    echo "for $1" >"/dev/virtio-ports/$2"
    read -r -t 30 -u 5 line || fail "$1: no byte came"
    exec 5>&-
    expect_eq "what came through $1" "for $1" "$line"
}

# A tablet is asked for its report (GET_REPORT by HIDIOCGINPUT: number 0, then six bytes).
read_tablet() {
    must_come 30 "the remote hidraw of $1" node_of /vhci_hcd "$1" hidraw
    expect_eq "the length of the report of $1" 7 "$(python3 -c '
import fcntl, sys
report = bytearray(16)
with open(sys.argv[1], "r+b", 0) as device:
    print(fcntl.ioctl(device, 3 << 30 | len(report) << 16 | ord("H") << 8 | 0x0a, report))
' "$(node_of /vhci_hcd "$1" hidraw)")"
}

read_all() {
    local n
    for ((n = 1; n <= STICKS; n++)); do read_stick "MANYDISK$n"; done
    for ((n = 1; n <= ADAPTERS; n++)); do read_adapter "MANYTTY$n" "lab.far$n"; done
    for ((n = 1; n <= TABLETS; n++)); do read_tablet "MANYTABLET$n"; done
}

attached() { laptop status --json | jq -e 'first(.. | objects | .attached? | arrays) | length'; }

# home_by_serial SERIAL DRIVER: its owner's driver has it.
home_by_serial() { has_driver "$(by_serial /pci "$1")" "$2"; }

all_home() {
    local n
    for ((n = 1; n <= STICKS; n++)); do home_by_serial "MANYDISK$n" usb-storage || return 1; done
    for ((n = 1; n <= ADAPTERS; n++)); do home_by_serial "MANYTTY$n" ftdi_sio || return 1; done
    for ((n = 1; n <= TABLETS; n++)); do home_by_serial "MANYTABLET$n" usbhid || return 1; done
}

LIMIT_sixteen=240
case_sixteen() {
    name_sticks
    bridge_up
    share 'usb:*'
    attach_all
    expect_eq "devices attached at once" 16 "$(attached)"
    read_all
    probed
    laptop detach --all >"$CASE_DIR/detach.log" 2>&1
    expect_eq "devices still attached" 0 "$(attached)"
    must_come 60 "every owner's driver" all_home
    must_come 30 "the freedom of all ports" all_ports_free
    probed
}

run_cases "$@"
