#!/bin/bash
# Two SPI devices of the hub (tests/vm/boot/spi-lab.c) are devices of the laptop: one whose lines are
# wired to each other, and a flash chip.
source "${BASH_SOURCE[0]%/*}/lib.sh"
source "${BASH_SOURCE[0]%/*}/bridge.sh"

PROGRAM=${BASH_SOURCE[0]%/*}/spi.py
LAB=/sys/kernel/debug/spi-lab
LOOP_ID=spi:spidev0.0
FLASH_ID=spi:spidev0.1

prepare() {
    modprobe cuse
    wait_for 10 test -c /dev/cuse
    # Where the daemon's sockets are outside of the cases.
    mkdir -p /run/myclerk
    make_namespaces
    controller_up
    # What a program asks for that the controller cannot do.
    echo 'spidev spi0\.[01]: setup: unsupported mode bits' >/run/spi-allowed
}

controller_up() {
    modprobe spi-lab
    must_come 10 "the devices of the hub" test -c /dev/spidev0.0 -a -c /dev/spidev0.1
}

# bus_up DEVICE-ID...: offered by the hub and granted.
bus_up() {
    allow_kernel "$(</run/spi-allowed)"
    bridge_up
    local id
    for id in "$@"; do share "$id"; done
}

# attach_as NAME DEVICE-ID [OPTION]...: the device is there under that name.
attach_as() {
    local name=$1
    shift
    expect_eq "the name of $1" "/dev/$name" "$(attach_bus "$@")"
    must_come 10 "/dev/$name" test -c "/dev/$name"
    udevadm settle --timeout=20
}

# spoken_to NODE: how the kernel speaks to a device.
spoken_to() {
    python3 - "$1" <<'PYTHON'
import fcntl, struct, sys
with open(sys.argv[1], "rb") as device:
    get = lambda number, kind: struct.unpack(kind, fcntl.ioctl(device, number, bytes(4))[: struct.calcsize(kind)])[0]
    print(get(0x80046B05, "I"), get(0x80016B03, "B"), get(0x80046B04, "I"))
PYTHON
}

messages() { grep -c '^message' $LAB/log; }
forget_log() { echo >$LAB/log; }

gone() { [[ ! -e $1 ]]; }

# The same calls on the kernel's own device and on the remote one: results and what reached the
# controller are equal.
LIMIT_calls=150
case_calls() {
    allow_kernel "$(</run/spi-allowed)"
    must "calls on the owner's device" python3 "$PROGRAM" calls /dev/spidev0.0 >"$CASE_DIR/own" 2>"$CASE_DIR/own.log"
    local own
    own=$(spoken_to /dev/spidev0.0)
    bus_up $LOOP_ID
    hub list --local | grep -q dh2228fv || fail "the list does not name the chip"
    attach_as spidev1.0 $LOOP_ID
    expect_eq "the group of the device" "myclerk 660" "$(stat -c '%G %a' /dev/spidev1.0)"
    local links=(/dev/myclerk/hub/*)
    expect_eq "the link in /dev/myclerk/hub" /dev/spidev1.0 "$(realpath "${links[0]}")"
    python3 "$PROGRAM" calls /dev/spidev1.0 >"$CASE_DIR/remote" 2>"$CASE_DIR/remote.log" ||
        fail "calls: $(tail -n 1 "$CASE_DIR/remote.log")"
    diff "$CASE_DIR/own" "$CASE_DIR/remote" >"$CASE_DIR/calls.log" ||
        fail "calls end otherwise: $(grep -m 1 '^[<>]' "$CASE_DIR/calls.log")"
    local said
    for said in "message many -> (4064," "message of 511 -> (4088," "message too large -> EMSGSIZE" \
        "message wild to send -> EFAULT" "message odd words -> EINVAL" "32 bits -> b'32 bits!"; do
        grep -qF "$said" "$CASE_DIR/remote" || fail "nothing is said of '$said'"
    done
    detach_bus $LOOP_ID
    must_come 10 "the end of the device" gone /dev/spidev1.0
    expect_eq "the owner's settings" "$own" "$(spoken_to /dev/spidev0.0)"
}

# tool NAME COMMAND...: its output in NAME.log.
tool() {
    local name=$1
    shift
    "$@" >"$CASE_DIR/$name.log" 2>&1 || fail "$name: $(tail -n 1 "$CASE_DIR/$name.log")"
}

# spidev_test OPTION...: the same output on both devices.
spidev_test() {
    "$LAB_TOOLS/spidev_test" -D /dev/spidev0.0 "$@" >"$CASE_DIR/test.own.log" 2>&1 || fail "spidev_test $*"
    "$LAB_TOOLS/spidev_test" -D /dev/spidev1.0 "$@" >"$CASE_DIR/test.log" 2>&1 ||
        fail "spidev_test $*: $(tail -n 1 "$CASE_DIR/test.log")"
    diff "$CASE_DIR/test.own.log" "$CASE_DIR/test.log" >"$CASE_DIR/test.diff.log" || fail "spidev_test $* differs"
}

LIMIT_tools=150
case_tools() {
    bus_up $LOOP_ID $FLASH_ID
    attach_as spidev1.0 $LOOP_ID
    attach_as spidev7.1 $FLASH_ID --name spidev7.1

    spidev_test -v
    grep -q 'RX | FF FF FF FF FF FF 40 00' "$CASE_DIR/test.log" || fail "spidev_test received something else"
    spidev_test -v -H -O -s 1234567 -d 10 -p 'hello\x20world'
    spidev_test -v -l -S 4096 -I 3 -b 16
    spidev_test -v -2
    tool python python3 - <<'PYTHON'
import spidev
device = spidev.SpiDev(1, 0)
device.max_speed_hz = 250_000
device.mode = 0b11
device.bits_per_word = 16
assert (device.max_speed_hz, device.mode, device.bits_per_word) == (250_000, 3, 16)
device.bits_per_word = 8
data = [n % 251 for n in range(4096)]
assert device.xfer2(data) == data
assert device.xfer(data[:100], 100_000, 7, 9 - 1) == data[:100]
assert device.xfer3([n % 251 for n in range(10_000)]) == tuple(n % 251 for n in range(10_000))
device.writebytes2(bytes(5000))
assert device.readbytes(300) == [0] * 300
device.lsbfirst = True
assert device.lsbfirst
device.close()
PYTHON
    flash_image
}

sum_of() { sha256sum | cut -d' ' -f1; }

# flashrom's own look, read, erase and write, with the chip's memory as the witness.
flash_image() {
    local programmer=(flashrom -p "linux_spi:dev=/dev/spidev7.1,spispeed=20000" -c W25X10)
    tool probe "${programmer[@]}"
    grep -q 'Found Winbond flash chip "W25X10" (128 kB, SPI)' "$CASE_DIR/probe.log" || fail "flashrom knows no chip"
    # 40 KiB in the middle are another content.
    head -c $((128 << 10)) /dev/zero | tr '\0' '\377' >"$CASE_DIR/image"
    head -c $((40 << 10)) /dev/urandom | dd of="$CASE_DIR/image" bs=4k seek=9 conv=notrunc status=none
    tool write "${programmer[@]}" -w "$CASE_DIR/image"
    grep -q VERIFIED "$CASE_DIR/write.log" || fail "flashrom did not verify: $(tail -n 1 "$CASE_DIR/write.log")"
    expect_eq "the chip's memory" "$(sum_of <"$CASE_DIR/image")" "$(sum_of <$LAB/flash)"
    # One ioctl here is one message there.
    local own
    forget_log
    tool read_own flashrom -p linux_spi:dev=/dev/spidev0.1,spispeed=20000 -c W25X10 -r "$CASE_DIR/own"
    own=$(messages)
    forget_log
    tool read "${programmer[@]}" -r "$CASE_DIR/back"
    expect_eq "the number of messages" "$own" "$(messages)"
    expect_eq "what was read" "$(sum_of <"$CASE_DIR/image")" "$(sum_of <"$CASE_DIR/back")"
    tool erase "${programmer[@]}" -E
    expect_eq "the memory after it" "" "$(tr -d '\377' <$LAB/flash | head -c 1 | tr '\0' x)"
}

# told NAME WHAT: what the calls of a program that has the device open come to.
told() {
    local lines
    lines=$(wc -l <"$CASE_DIR/$1.log")
    echo "$2" >&"$TELL"
    must_come 60 "the end of '$2'" more_lines "$1" "$lines"
    tail -n 1 "$CASE_DIR/$1.log"
}

more_lines() { [[ $(wc -l <"$CASE_DIR/$1.log") -gt $2 ]]; }

WELL="calls ((6, '68656c6c6f21'), b'\\x00\\x00', 2, 0)"
all_told() { echo "calls ('$1', '$1', '$1', '$1')"; }

# user NODE: a program has it open until the case ends.
user() {
    mkfifo "$CASE_DIR/tell"
    exec {TELL}<>"$CASE_DIR/tell"
    # shellcheck disable=SC2016
    start user bash -c 'exec python3 -u "$0" told "$1" <"$2"' "$PROGRAM" "$1" "$CASE_DIR/tell"
    must_come 30 "the program" grep -q opened "$CASE_DIR/user.log"
}

LIMIT_endings=170
case_endings() {
    bus_up $LOOP_ID $FLASH_ID
    attach_as spidev1.0 $LOOP_ID --grace 60
    user /dev/spidev1.0
    told user set
    expect_eq "the owner's device" "517 16 10000000" "$(spoken_to /dev/spidev0.0 | sed 's/ [0-9]*$/ 10000000/')"
    expect_eq "calls" "$WELL" "$(told user calls)"

    # The owner is gone for a while.
    stop hub KILL
    must_come 60 "the loss of the session" attached_live false
    expect_eq "calls without an owner" "$(all_told ETIMEDOUT)" "$(told user calls)"
    local settings
    settings=$(told user settings)
    # Somebody at the owner changes what was set.
    "$LAB_TOOLS/spidev_test" -D /dev/spidev0.0 >"$CASE_DIR/meanwhile.log"
    start_hub
    must_come 60 "the owner's return" attached_live true
    expect_eq "settings after it" "$settings" "$(told user settings)"
    expect_eq "the mode at the owner" 517 "$(spoken_to /dev/spidev0.0 | cut -d' ' -f1)"
    expect_eq "calls after it" "$WELL" "$(told user calls)"

    # An error of the controller's is the program's.
    echo 71 >$LAB/fail
    expect_eq "a call that fails" "calls ('EPROTO', b'\\x00\\x00', 2, 0)" "$(told user calls)"

    # The hardware leaves.
    rmmod spi_lab
    must_come 30 "the end of the device" attached_live false
    expect_eq "calls without hardware" "$(all_told ESHUTDOWN)" "$(told user calls)"
    stop user KILL
    exec {TELL}>&-
    rm "$CASE_DIR/tell"
    must_come 20 "the end of the device" gone /dev/spidev1.0

    # It comes back and its owner does not.
    controller_up
    must_come 30 "the device in the list" listed $LOOP_ID
    attach_as spidev1.0 $LOOP_ID --grace 3
    user /dev/spidev1.0
    stop hub KILL
    must_come 60 "the loss of the session" attached_live false
    must_come 30 "the end of the grace time" ends_with ENODEV
    expect_eq "calls after the grace time" "$(all_told ENODEV)" "$(told user calls)"
    stop user KILL
    must_come 20 "the end of the attachment" detached $LOOP_ID
    must_come 20 "the end of the device" gone /dev/spidev1.0
}

ends_with() { [[ $(told user calls) == "$(all_told "$1")" ]]; }
detached() { ! attached "$1"; }
listed() { hub list --local --json | jq -e --arg device "$1" 'any(.local[]; .id == $device)'; }

run_cases "$@"
