#!/bin/bash
# Devices that go away under way, come back, or come back as another one.
source "${BASH_SOURCE[0]%/*}/lib.sh"
source "${BASH_SOURCE[0]%/*}/bridge.sh"

prepare() {
    modprobe vhci-hcd
    modprobe usb-storage
    # A disk is scanned at once instead of a second later.
    echo 0 >/sys/module/usb_storage/parameters/delay_use
    make_namespaces
}

# The same stick, or an adapter in its place: both at one port of the emulated controller.
plug_stick() { plug stick "\"driver\":\"usb-storage\",\"drive\":\"stick\",\"serial\":\"LABSTICK1\""; }

# Without the last word QEMU plugs it in only while somebody is at the other end.
plug_adapter() {
    plug adapter '"driver":"usb-serial","chardev":"nowhere","serial":"LABFTDI1","always-plugged":true'
}

plug() {
    qmp "{\"execute\":\"device_add\",\"arguments\":{\"id\":\"$1\",\"bus\":\"xhci.0\",\"port\":\"2\",$2}}"
}

unplug() { qmp "{\"execute\":\"device_del\",\"arguments\":{\"id\":\"$1\"}}"; }

# The first 4 MiB, past every cache.
hash_of() { dd if="$1" bs=1M count=4 iflag=direct status=none | sha256sum | cut -d' ' -f1; }

# The owner's own stick holds 4 MiB that nobody can guess; their hash in `wanted`.
prepare_stick() {
    local disk
    # shellcheck disable=SC2086 # vendor and product are two words
    must_come 30 "the stick at its owner" home_with $STICK usb-storage
    # shellcheck disable=SC2086
    must_come 30 "the owner's disk" owned_node $STICK block
    # shellcheck disable=SC2086
    disk=$(owned_node $STICK block)
    head -c 4M /dev/urandom >"$CASE_DIR/content"
    dd if="$CASE_DIR/content" of="$disk" bs=1M oflag=direct conv=fsync status=none
    wanted=$(sha256sum <"$CASE_DIR/content" | cut -d' ' -f1)
    probed
}

# Reads the remote disk for as long as it is there.
start_reading() {
    rm -f "$CASE_DIR/reading.log"
    start reading dd if="$disk" of=/dev/null bs=64k iflag=direct
    must_come 20 "the reader's progress" has_read
}

has_read() { (($(awk '$1 == "rchar:" { print $2 }' "/proc/$(pid_of reading)/io") > 1 << 20)); }

reading_failed() {
    must_come "$1" "the reader's end" stopped reading
    grep -qE 'error reading|No such device' "$CASE_DIR/reading.log" ||
        fail "the reader has not seen an error: $(tail -n 1 "$CASE_DIR/reading.log")"
    rm -f "$CASE_DIR/reading.pid"
}

no_port_in_use() { [[ $(ports_in_use) == 0 ]]; }

LIMIT_under_way=200
case_under_way() {
    local disk wanted round
    allow_lost_disk
    bridge_up
    prepare_stick
    share $STICK_ID
    for round in 1 2 3; do
        echo "round $round"
        attach_with_disk
        start_reading
        unplug stick
        reading_failed 10
        must_come 10 "a free port" no_port_in_use
        plug_stick
        # shellcheck disable=SC2086
        must_come 30 "the stick at its owner" home_with $STICK usb-storage
        attach_with_disk
        expect_eq "what is read after the replug" "$wanted" "$(hash_of "$disk")"
        # shellcheck disable=SC2086
        detach $STICK_ID $STICK usb-storage
    done
    grep -q 'device unplugged.*LABSTICK1' "$CASE_DIR/hub.log" || fail "the hub has not logged it"
}

LIMIT_detached=150
case_detached() {
    local disk wanted round began took
    allow_lost_disk
    bridge_up
    prepare_stick
    share $STICK_ID
    for round in 1 2 3 4 5; do
        attach_with_disk
        start_reading
        began=$(now_ms)
        laptop detach "hub/$STICK_ID"
        # shellcheck disable=SC2086
        must_come 30 "the driver of the owner's stick" home_with $STICK usb-storage
        took=$(($(now_ms) - began))
        echo "round $round: home after $took ms"
        ((took <= HOME_WITHIN_MS)) || fail "the stick needed $took ms to be home"
        reading_failed 10
        # shellcheck disable=SC2086
        must_be_home $STICK usb-storage
        expect_eq "vhci ports in use" 0 "$(ports_in_use)"
    done
    attach_with_disk
    expect_eq "what is read afterwards" "$wanted" "$(hash_of "$disk")"
}

waiting() { laptop status --json | jq -e '.client.attached | any(.waiting != null)'; }

attached_ids() { laptop status --json | jq -r '[.client.attached[] | .device] | join(" ")'; }

# The stick runs at super speed and the adapter at full speed: at two ports of one socket.
LIMIT_another_one=150
case_another_one() {
    local port
    allow_lost_disk
    bridge_up
    # shellcheck disable=SC2086
    must_come 30 "the stick at its owner" home_with $STICK usb-storage
    # shellcheck disable=SC2086
    port=usb@$(basename "$(owned_usb $STICK)")
    share "$port"
    laptop attach "hub/$port"
    # shellcheck disable=SC2086
    must_come 30 "the remote disk" remote_node $STICK block
    probed
    unplug stick
    must_come 20 "the waiting" waiting
    plug_adapter
    # shellcheck disable=SC2086
    must_come 30 "the adapter in its place" remote_node $ADAPTER tty
    expect_eq "what is attached" "$port" "$(attached_ids)"

    unplug adapter
    must_come 20 "the waiting again" waiting
    laptop detach "hub/$port"
    plug_stick
    # shellcheck disable=SC2086
    must_come 30 "the stick at its owner" home_with $STICK usb-storage
    expect_eq "what is attached" "" "$(attached_ids)"
    expect_eq "vhci ports in use" 0 "$(ports_in_use)"
}

run_cases "$@"
