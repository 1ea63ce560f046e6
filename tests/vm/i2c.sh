#!/bin/bash
# I2C buses of the hub, used by the laptop: one with chips behind an emulated adapter, the kernel's stub,
# and the SMBus of QEMU's chip set.
source "${BASH_SOURCE[0]%/*}/lib.sh"
source "${BASH_SOURCE[0]%/*}/bridge.sh"

CALLS=${BASH_SOURCE[0]%/*}/i2c.py
STRICT=0x30
CHECKED=0x40
BROKEN=0x41
LM75=0x48
EEPROM=0x50

prepare() {
    modprobe -a vhci-hcd cuse i2c-dev i2c-tiny-usb i2c-i801 at24
    modprobe i2c-stub chip_addr=0x1c,0x1d
    wait_for 10 test -c /dev/cuse
    make_namespaces
}

# bus_named TEXT: the number of the kernel's adapter that is called so.
bus_named() { grep -l "$1" /sys/class/i2c-dev/i2c-*/name | head -n 1 | sed 's/.*i2c-\([0-9]*\).name/\1/'; }

# The bus with the chips, as an adapter of the hub: its number in OWN, its id in ID.
lab_up() {
    mkfifo "$CASE_DIR/orders"
    head -c 256 /dev/urandom >"$CASE_DIR/content"
    start chips stdbuf -oL "$VM_TOOLS" --tool i2c "$CASE_DIR/orders" "$CASE_DIR/content"
    must_come 40 "the bus with the chips" lab_bus
    OWN=$(lab_bus)
    ID=i2c:i2c-$OWN
}

lab_bus() { made_by Lab; }

# made_by MANUFACTURER: the number of the bus at that adapter.
made_by() {
    local bus
    for bus in /sys/class/i2c-dev/i2c-*; do
        [[ $(cat "$(realpath "$bus")/../../../../manufacturer" 2>/dev/null) == "$1" ]] || continue
        [[ -c /dev/${bus##*/} ]] && echo "${bus##*-}" && return 0
    done
    return 1
}

# order WORDS...: to the chips; done when this returns.
order() {
    local before
    before=$(grep -c "^done $*$" "$CASE_DIR/chips.log") || true
    echo "$*" >"$CASE_DIR/orders"
    must_come 20 "the order $*" ordered "$before" "$*"
}

ordered() { [[ $(grep -c "^done $2$" "$CASE_DIR/chips.log") -gt $1 ]]; }

# bus_up [OPTION...]: the bus with the chips on the laptop, as number HERE.
bus_up() {
    lab_up
    bridge_up
    share "$ID"
    here "$ID" "$@"
}

# here ID [OPTION...]
here() {
    HERE=$(attach_bus "$@")
    [[ $HERE == /dev/i2c-* ]] || fail "$1 became '$HERE'"
    HERE=${HERE#/dev/i2c-}
    must_come 10 "/dev/i2c-$HERE" test -c "/dev/i2c-$HERE"
}

# same COMMAND...: the owner's bus and the remote one, each in place of BUS, say the same and end alike.
same() {
    local wanted found
    wanted=$(said "$OWN" "$@")
    found=$(said "$HERE" "$@")
    expect_eq "$*" "$wanted" "$found"
}

said() {
    local bus=$1 status=0
    shift
    { "${@/#BUS/$bus}" || status=$?; echo "ended with $status"; } 2>&1 | sed "s/i2c-$bus\b/i2c-BUS/g"
}

# says TEXT COMMAND...
says() {
    local wanted=$1
    shift
    expect_eq "$*" "$wanted" "$("$@" 2>&1)"
}

# spent COUNT COMMAND...: so many transactions at the owner, each of which was a round trip.
spent() {
    local wanted=$1 before
    shift
    before=$(transactions)
    "$@" >/dev/null 2>&1 || true
    expect_eq "transactions of $*" "$wanted" "$(($(transactions) - before))"
}

transactions() {
    order report >&2
    sed -n 's/^transactions \([0-9]*\) .*/\1/p' "$CASE_DIR/chips.log" | tail -n 1
}

gone() { [[ ! -e $1 ]]; }

LIMIT_tools=200
case_tools() {
    bus_up
    [[ $HERE != "$OWN" ]] || fail "the laptop has no bus of its own"
    expect_eq "the new adapter" MyClerk "$(cat "$(realpath /sys/class/i2c-dev/i2c-"$HERE")/../../../../manufacturer")"
    i2cdetect -l | grep "^i2c-$HERE\b.*i2c-tiny-usb" >/dev/null || fail "i2cdetect -l: $(i2cdetect -l)"
    if hub export "i2c:i2c-$HERE" >"$CASE_DIR/export.log" 2>&1; then fail "a bus that stands for another was offered"; fi
    grep -q 'stands for the bus of another machine' "$CASE_DIR/export.log" || fail "export: $(<"$CASE_DIR/export.log")"

    same i2cdetect -y BUS
    said "$HERE" i2cdetect -y BUS | grep '^30: 30 ' >/dev/null || fail "the chip at 0x30 is not found"
    same i2cdetect -F BUS
    same i2cget -y BUS $LM75 0 w
    same i2cdump -y BUS $EEPROM i
    must i2cset i2cset -y "$HERE" $EEPROM 0x10 0x5a
    says 0x5a i2cget -y "$OWN" $EEPROM 0x10
    must i2cset i2cset -y "$OWN" $EEPROM 0x11 0x12 0x13 i
    says "0x5a 0x12 0x13" i2ctransfer -y "$HERE" w1@$EEPROM 0x10 r3
    # A chip that forgets its register at a stop: a read that ends the transaction belongs to it, one
    # before its end does not, as docs/i2c.md says.
    says "0x5d 0x52" i2ctransfer -y "$HERE" w1@$STRICT 7 r2
    says $'0x5d\n0xee' i2ctransfer -y "$HERE" w1@$STRICT 7 r1 r1
    says $'0x5d\n0x52' i2ctransfer -y "$OWN" w1@$STRICT 7 r1 r1
    spent 112 i2cdetect -y "$HERE"
    spent 1 i2cget -y "$HERE" $EEPROM 0
    spent 8 i2cdump -y "$HERE" $EEPROM i
    spent 1 i2ctransfer -y "$HERE" w1@$STRICT 7 r2
    # PEC, good and bad, and nobody there.
    must i2cset i2cset -y "$HERE" $CHECKED 5 0x77 bp
    says 0x77 i2cget -y "$HERE" $CHECKED 5 bp
    same i2cget -y BUS $BROKEN 5 bp
    same i2cget -y BUS 0x11 0
    same i2ctransfer -y BUS r1@0x11
    said "$HERE" i2cget -y BUS $BROKEN 5 bp | grep -x 'ended with 2' >/dev/null || fail "a wrong PEC was taken"
    # What the bus says otherwise is an error of the adapter, at either.
    allow_kernel 'i2c.*failure (reading|writing) data'
    order fail
    said "$HERE" i2cget -y BUS $EEPROM 0 | grep -x 'ended with 2' >/dev/null || fail "a bus that fails was read"
    same i2cget -y BUS $EEPROM 0
    detach_adapter "$ID"

    smbus_only "$(bus_named 'SMBus stub')" 0x1c
    smbus_only "$(bus_named 'I801')" 0x50
}

detach_adapter() {
    laptop detach "hub/$1" >>"$CASE_DIR/attach.log" 2>&1 || fail "detach: $(tail -n 1 "$CASE_DIR/attach.log")"
    must_come 30 "the end of the adapter" gone "/dev/i2c-$HERE"
}

# smbus_only NUMBER CHIP: a bus of the hub whose adapter knows SMBus alone.
smbus_only() {
    local chip=$2
    OWN=$1
    [[ -n $OWN ]] || fail "the hub has no such bus: $(i2cdetect -l)"
    share "i2c:i2c-$OWN"
    here "i2c:i2c-$OWN"
    same i2cdetect -y BUS
    must i2cset i2cset -y "$HERE" "$chip" 0x20 0x34
    says 0x34 i2cget -y "$OWN" "$chip" 0x20
    must i2cset i2cset -y "$HERE" "$chip" 0x22 0xbeef w
    says 0xbeef i2cget -y "$OWN" "$chip" 0x22 w
    same i2cget -y BUS "$chip" 0x20 w
    same i2cdump -y -r 0x18-0x2f BUS "$chip" b
    same i2ctransfer -y BUS "r1@$chip"
    detach_adapter "i2c:i2c-$OWN"
}

# A driver that looks for chips, as the thermometer's does, holds a lock of the kernel's I2C meanwhile
# (core_lock), and who opens a bus waits for it. Hub and laptop are one kernel here, so what it tries on the
# laptop's bus times out; it is loaded in no other case.
LIMIT_drivers=150
case_drivers() {
    bus_up
    modprobe lm75
    local bus=/sys/bus/i2c/devices/i2c-$HERE eeprom=/sys/bus/i2c/devices/$HERE-0050/eeprom
    order cycle 1
    echo 24c02 $EEPROM >"$bus/new_device"
    must_come 20 "the EEPROM's file" test -e "$eeprom"
    expect_eq "the EEPROM" "$(sha256sum <"$CASE_DIR/content")" "$(sha256sum <"$eeprom")"
    spent 2 cat "$eeprom"
    # Each byte is a write after which the chip does not answer at once.
    printf 'remote bus' | dd of="$eeprom" bs=10 seek=4 conv=notrunc status=none
    printf 'remote bus' | dd of="$CASE_DIR/content" bs=10 seek=4 conv=notrunc status=none
    expect_eq "the EEPROM after a write" "$(sha256sum <"$CASE_DIR/content")" "$(sha256sum <"$eeprom")"
    order content
    expect_eq "what the chip holds" "$(od -An -v -tx1 "$CASE_DIR/content" | tr -d ' \n')" \
        "$(sed -n 's/^content //p' "$CASE_DIR/chips.log" | tail -n 1)"

    echo lm75 $LM75 >"$bus/new_device"
    must_come 20 "the thermometer" compgen -G "/sys/bus/i2c/devices/$HERE-0048/hwmon/hwmon*/temp1_input"
    local temperature
    temperature=$(compgen -G "/sys/bus/i2c/devices/$HERE-0048/hwmon/hwmon*/temp1_input")
    expect_eq "the temperature" 25000 "$(<"$temperature")"
    spent 1 cat "$temperature"
    order temperature -2688
    expect_eq "the temperature in the cold" -10500 "$(<"$temperature")"
    # To the tools it is a chip that a driver has.
    said "$HERE" i2cdetect -y BUS $LM75 $LM75 | grep UU >/dev/null || fail "the driver's chip is not shown as in use"

    # The owner goes and comes: the drivers stay.
    allow_kernel 'i2c.*failure (reading|writing) (data|status|functionality)'
    stop hub KILL
    must_come 60 "the loss of the session" attached_live false
    if cat "$temperature" >/dev/null 2>&1; then fail "a temperature without an owner"; fi
    start_hub
    must_come 60 "the owner's return" attached_live true
    order temperature 5120
    expect_eq "the temperature afterwards" 20000 "$(<"$temperature")"
    detach_adapter "$ID"
    must_come 20 "the end of the thermometer" gone "$temperature"
    modprobe -r lm75
}

LIMIT_cuse=120
case_cuse() {
    bus_up --as cuse
    expect_eq "the number of the device" 1000 "$HERE"
    same i2cdetect -y BUS
    same i2cdetect -F BUS
    same i2cget -y BUS $LM75 0 w
    same i2cdump -y BUS $EEPROM i
    must i2cset i2cset -y "$HERE" $EEPROM 0x10 0x5a
    says 0x5a i2cget -y "$OWN" $EEPROM 0x10
    same i2ctransfer -y BUS r1@0x11
    same i2ctransfer -y BUS w1@$STRICT 7 r1 r1
    says $'0x5d\n0x52' i2ctransfer -y "$HERE" w1@$STRICT 7 r1 r1
    spent 112 i2cdetect -y "$HERE"
    spent 1 i2ctransfer -y "$HERE" w1@$STRICT 7 r1 r1
    python3 "$CALLS" calls "/dev/i2c-$HERE" >"$CASE_DIR/calls.log" 2>&1 || fail "calls: $(tail -n 1 "$CASE_DIR/calls.log")"

    # A driver of the owner's kernel takes the chip.
    echo 24c02 $EEPROM >"/sys/bus/i2c/devices/i2c-$OWN/new_device"
    must_come 10 "the owner's driver" test -e "/sys/bus/i2c/devices/$OWN-0050/eeprom"
    says EBUSY python3 "$CALLS" say "/dev/i2c-$HERE" EBUSY
    says ok python3 "$CALLS" say "/dev/i2c-$HERE" ok force
    echo $EEPROM >"/sys/bus/i2c/devices/i2c-$OWN/delete_device"
    detach_adapter "$ID"

    smbus_by_cuse "$(bus_named 'SMBus stub')" 0x1c
}

# smbus_by_cuse NUMBER CHIP
smbus_by_cuse() {
    OWN=$1
    share "i2c:i2c-$OWN"
    here "i2c:i2c-$OWN" --as cuse --name i2c-77
    expect_eq "the number that was chosen" 77 "$HERE"
    must i2cset i2cset -y "$HERE" "$2" 0x22 0xcafe w
    same i2cget -y BUS "$2" 0x22 w
    same i2ctransfer -y BUS "r1@$2"
    detach_adapter "i2c:i2c-$OWN"
}

as_second() { COMMAND=(ip netns exec cli2 "$MYCLERK" --state "$CASE_DIR/second" --run "$CASE_DIR/run-second" "$@"); }

second() {
    as_second "$@"
    "${COMMAND[@]}"
}

# A second laptop, in a namespace of its own.
second_joins() {
    ip netns add cli2
    ip link add veth-srv2 netns srv type veth peer name veth-cli2 netns cli2
    ip -n srv address add 10.77.1.1/24 dev veth-srv2
    ip -n cli2 address add 10.77.1.2/24 dev veth-cli2
    ip -n srv link set veth-srv2 up
    ip -n cli2 link set veth-cli2 up
    ip -n cli2 route add $SRV_ADDRESS via 10.77.1.1
    admit second
    hub acl grant "$ID" second
    as_second client
    start second "${COMMAND[@]}"
    must_come 60 "the bus on the second laptop" second attach "hub/$ID" --as cuse
}

LIMIT_clients=150
case_clients() {
    bus_up
    second_joins
    must_come 10 /dev/i2c-1000 test -c /dev/i2c-1000
    local name node
    local -A nodes=([owner]=$OWN [laptop]=$HERE [second]=1000)
    for name in "${!nodes[@]}"; do
        node=/dev/i2c-${nodes[$name]}
        start "$name-use" python3 "$CALLS" stress "$node" "${nodes[$name]}" 60
    done
    for name in "${!nodes[@]}"; do
        must_come 90 "the end of what $name does" stopped "$name-use"
        [[ ! -s $CASE_DIR/$name-use.log ]] || fail "$name: $(tail -n 1 "$CASE_DIR/$name-use.log")"
        rm "$CASE_DIR/$name-use.pid"
    done
    order report
    grep '^transactions' "$CASE_DIR/chips.log" | tail -n 1 | awk '$2 < 180 || $4 != 0 { exit 1 }' ||
        fail "at the chips: $(grep '^transactions' "$CASE_DIR/chips.log")"

    # One that may only read reads registers, and changes nothing.
    hub acl grant "$ID" second --mode r >>"$CASE_DIR/acl.log" 2>&1 || fail "acl: $(tail -n 1 "$CASE_DIR/acl.log")"
    must i2cget i2cget -y 1000 $LM75 0 w
    if i2cset -y 1000 $EEPROM 0x10 0x77 2>/dev/null; then fail "a reader wrote"; fi
}

LIMIT_outage=120
case_outage() {
    # A local adapter says the same when it is unplugged.
    allow_kernel 'i2c.*failure (reading|writing) (data|status|functionality)'
    # So does vhci of a port whose other end was killed.
    allow_kernel 'vhci_hcd: sendmsg failed!, ret=-32'
    bus_up --as cuse --grace 600
    start reader python3 "$CALLS" say "/dev/i2c-$HERE" ENODEV
    must_come 20 "an answer" grep -qx ok "$CASE_DIR/reader.log"
    stop hub KILL
    must_come 60 "an answer without an owner" grep -qx ETIMEDOUT "$CASE_DIR/reader.log"
    must_come 20 "the word of it" attached_live false
    start_hub
    must_come 60 "the owner's return" attached_live true
    must_come 20 "answers again" said_last reader ok
    # The chips are unplugged at the owner.
    stop chips KILL
    must_come 60 "an answer without chips" said_last reader ENODEV
    must_come 20 "the reader's end" stopped reader
    rm "$CASE_DIR/reader.pid"
    must_come 30 "the end of the device" gone "/dev/i2c-$HERE"
    rm "$CASE_DIR/orders"

    # An owner that does not come back takes the adapter with it.
    lab_up
    must_come 30 "the bus at the hub again" offered
    here "$ID" --grace 1
    stop hub KILL
    must_come 60 "the end of the adapter" gone "/dev/i2c-$HERE"
}

offered() { hub export "$ID" && hub acl grant "$ID" laptop; }

said_last() { [[ $(tail -n 1 "$CASE_DIR/$1.log") == "$2" ]]; }

run_cases "$@"
