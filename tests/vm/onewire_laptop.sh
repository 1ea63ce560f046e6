#!/bin/bash
# The second of two guests: a laptop whose kernel reads the thermometers of the first.
source "${BASH_SOURCE[0]%/*}/lib.sh"

LAPTOP=("$MYCLERK" --state "$WORK/state" --run "$WORK/run")
BUS=hub/onewire:w1_bus_master1
DEVICES=/sys/bus/w1/devices

tell_the_hub() { touch "$LAB_SHARED/done"; }

connected() { "${LAPTOP[@]}" status --json | jq -e 'any(.. | objects; .link? == "connected")'; }
attached_live() { "${LAPTOP[@]}" status --json | jq -e --argjson live "$1" '.client.attached[0].live == $live'; }
nothing_attached() { "${LAPTOP[@]}" status --json | jq -e '.client.attached == []'; }

hub_speaks() { [[ -s $LAB_SHARED/token || -s $LAB_SHARED/failure ]]; }
hub_works() { [[ ! -s $LAB_SHARED/failure ]] || fail "the first guest: $(<"$LAB_SHARED/failure")"; }

# hub_must ORDER...: and waits until it is done.
hub_must() {
    local number
    number=$(($(cat "$WORK/orders" 2>/dev/null || echo 0) + 1))
    echo $number >"$WORK/orders"
    echo "$*" >"$LAB_SHARED/order.new"
    mv "$LAB_SHARED/order.new" "$LAB_SHARED/order.$number"
    must_come 60 "the hub's end of '$*'" obeyed_or_broken $number
    hub_works
}

obeyed_or_broken() { [[ -e $LAB_SHARED/obeyed.$1 || -s $LAB_SHARED/failure ]]; }

prepare() {
    export CASE_DIR=$WORK/prepare
    mkdir -p "$CASE_DIR"
    # Searches every second, and five without a device are its end: ten and ten would be minutes.
    modprobe wire timeout=1 slave_ttl=5
    modprobe -a vhci-hcd ds2490 w1_therm
    must_come 180 "the hub's token" hub_speaks
    hub_works
    "${LAPTOP[@]}" join "$(<"$LAB_SHARED/token")" 10.78.0.1:7575 --name laptop >"$CASE_DIR/join.log" 2>&1
}

# The name of a thermometer, and its file.
name_of() { printf '28-%012x' "$1"; }
file_of() { echo "$DEVICES/$(name_of "$1")/$2"; }

# What a thermometer says in thousandths of a degree; nothing while it cannot be read.
temperature() { cat "$(file_of "$1" temperature)"; }
reads() { [[ $(temperature "$1") == "$2" ]]; }
there() { [[ -e $(file_of "$1" temperature) ]]; }
gone() { ! there "$1"; }
count() { find $DEVICES/ -name '28-*' | wc -l; }
all_there() { [[ $(count) == 10 ]]; }
no_bus() { ! ls $DEVICES/w1_bus_master* 2>/dev/null; }

write() { echo "$1" >"$2"; }

# operations COMMAND...: on thermometer 3, as its owner's bus saw them.
operations() {
    hub_must log
    "$@" >/dev/null
    hub_must log
    grep -c 5528030000000000 "$LAB_SHARED/log"
}

# What ds2490 rightly says when its adapter is pulled out while the kernel searches the bus.
allow_pulled_out() {
    allow_kernel 'usb [0-9.-]+: Failed to (write 1-wire data|read 1-wire data|send [a-z ]*control message) .*err=-(19|71|104|108)\.$'
}

attach_bus() {
    allow_pulled_out
    start laptop "${LAPTOP[@]}" client
    must_come 60 "a session with the hub" connected
    "${LAPTOP[@]}" attach $BUS --json >"$CASE_DIR/attached.json" 2>"$CASE_DIR/attach.log" ||
        fail "attach: $(tail -n 1 "$CASE_DIR/attach.log")"
    expect_eq "the bus" w1_bus_master1 "$(jq -r '.files[]' "$CASE_DIR/attached.json")"
    must_come 60 "ten thermometers" all_there
}

LIMIT_thermometers=120
case_thermometers() {
    hub_must wire warm 1 344
    hub_must wire warm 10 -171
    attach_bus
    expect_eq "thermometer 1" 21500 "$(temperature 1)"
    expect_eq "thermometer 10" -10687 "$(temperature 10)"
    expect_eq "thermometer 5, which nobody set" 20000 "$(temperature 5)"
    hub_must wire warm 1 345
    expect_eq "thermometer 1 after a change" 21562 "$(temperature 1)"
    expect_eq "its supply" 1 "$(<"$(file_of 1 ext_power)")"
    # What is written there is in the chip, and stored.
    echo 9 >"$(file_of 2 resolution)"
    echo '65 75' >"$(file_of 2 alarms)"
    expect_eq "the resolution" 9 "$(<"$(file_of 2 resolution)")"
    expect_eq "the alarms" '65 75' "$(<"$(file_of 2 alarms)")"
    # What each costs at the owner, as docs/onewire.md has it.
    expect_eq "operations of a reading" 2 "$(operations temperature 3)"
    expect_eq "operations of a look at the supply" 1 "$(operations cat "$(file_of 3 ext_power)")"
    expect_eq "operations of a new resolution" 3 "$(operations write 10 "$(file_of 3 resolution)")"
    # It is never offered again.
    must_come 30 "the mark of a remote bus" grep -qx 251 $DEVICES/w1_bus_master1/w1_master_max_slave_count
    "${LAPTOP[@]}" detach $BUS >>"$CASE_DIR/attach.log" 2>&1
    must_come 60 "the end of the bus" no_bus
    expect_eq "devices without their bus" 0 "$(count)"
}

LIMIT_changes=120
case_changes() {
    attach_bus
    # Between the limits: all but number 4, which is hot. All convert at once.
    hub_must wire warm all 1152
    hub_must wire warm 4 1600
    echo trigger >$DEVICES/w1_bus_master1/therm_bulk_read
    must_come 30 "the conversion of all" grep -qx 1 $DEVICES/w1_bus_master1/therm_bulk_read
    expect_eq "operations of a reading after it" 1 "$(operations temperature 3)"
    expect_eq "devices with an alarm" "$(name_of 4)" "$("$VM_TOOLS" --tool onewire-alarms 1)"
    hub_must wire remove 7
    must_come 60 "the end of the removed device" gone 7
    expect_eq "the others" 9 "$(count)"
    hub_must wire add 7
    must_come 60 "the device that is back" there 7
    must_come 20 "its temperature" reads 7 20000
}

LIMIT_owserver=120
case_owserver() {
    hub_must wire warm 6 -96
    attach_bus
    start owserver owserver --foreground --w1 -p 127.0.0.1:4304
    must_come 60 "owserver's view of the bus" ow_sees 28.060000000000
    expect_eq "what owserver reads" -6 "$(ow_reads 28.060000000000)"
    hub_must wire warm 6 40
    expect_eq "what owserver reads after a change" 2.5 "$(ow_reads 28.060000000000)"
}

ow_reads() { owread -s 127.0.0.1:4304 "/uncached/$1/temperature" | tr -d ' '; }

ow_sees() { owdir -s 127.0.0.1:4304 | grep -q "$1"; }

LIMIT_outage=150
case_outage() {
    hub_must wire warm 1 400
    attach_bus
    expect_eq "the temperature" 25000 "$(temperature 1)"
    hub_must hub_killed
    must_come 60 "the end of the session" attached_live false
    [[ -z $(temperature 1) ]] || fail "there is a temperature without an owner"
    hub_must wire warm 1 416
    hub_must hub_back
    must_come 60 "the session" attached_live true
    must_come 60 "all devices" all_there
    must_come 20 "the temperature" reads 1 26000
    # The adapter of the hub is pulled out.
    hub_must unplugged
    must_come 90 "the end of the bus" no_bus
    must_come 20 "the end of the attachment" nothing_attached
    hub_must plugged_in
}

if [[ ${1:-} != --one ]]; then
    trap tell_the_hub EXIT
    read -r -a cases <<<"$LAB_CASES"
    set -- "${cases[@]}"
fi
run_cases "$@"
