#!/bin/bash
# A CAN bus with two controllers: one is the hub's and lent, the other, in namespace bus, is the bus's
# other node. The laptop's programs have a virtual interface.
#
# QEMU's controllers have no bit timing and room for five frames: what is sent to them faster than their
# driver runs is lost there. So a burst takes a pair of interfaces for the bus, and over the controllers
# go protocols that wait for answers.
source "${BASH_SOURCE[0]%/*}/lib.sh"
source "${BASH_SOURCE[0]%/*}/bridge.sh"

BUS=can:can0
FAR=can1
NEAR=mc-can0
ADAPTER=${BASH_SOURCE[0]%/*}/slcan.py

prepare() {
    local module
    for module in can-raw can-isotp can-j1939 vcan vxcan slcan kvaser_pci; do
        modprobe "$module"
    done
    # An emulated reader that prints each frame is slower than a burst, on a real interface too.
    echo $((4 << 20)) >/proc/sys/net/core/rmem_default
    make_namespaces
    ip netns add bus
    must_come 20 "both controllers" test -e /sys/class/net/$FAR
    ip link set can0 netns srv
    ip link set $FAR netns bus
    ip -n srv link set can0 type can bitrate 1000000
    ip -n bus link set $FAR up type can bitrate 1000000
    ip link add pair0 netns srv type vxcan peer name pair1 netns bus
    ip -n srv link set pair0 up
    ip -n bus link set pair1 up
}

# on bus|srv|cli|cli2 COMMAND...
on() { ip netns exec "$@"; }

# attach_can DEVICE INTERFACE [OPTION]...
attach_can() {
    local device=$1 interface=$2 made
    shift 2
    made=$(attach_bus "$device" "$@")
    expect_eq "what $device is here" "$interface" "$made"
    on cli ip link show "$interface" up | grep -q . || fail "$interface is not up"
}

on_bus() {
    bridge_up
    share $BUS
    attach_can $BUS $NEAR
}

# reattach [OPTION]...
reattach() {
    detach_bus $BUS
    interface_gone cli $NEAR || fail "$NEAR is still there"
    attach_can $BUS $NEAR "$@"
}

interface_gone() { ! on "$1" ip link show "$2" 2>/dev/null | grep -q .; }

# How many sockets of a namespace take frames of an interface.
listeners() { on "$1" cat /proc/net/can/rcvlist_* | awk -v interface="$2" '$1 == interface' | wc -l; }

listen() { (($(listeners "$1" "$2") == $3)); }

more_listen() { (($(listeners "$1" "$2") > $3)); }

# hear NAME WHERE INTERFACE COMMAND...: in the background, once it takes frames of the interface.
hear() {
    local name=$1 where=$2 interface=$3 before
    shift 3
    rm -f "$CASE_DIR/$name.log"
    before=$(listeners "$where" "$interface")
    start "$name" ip netns exec "$where" "$@"
    must_come 20 "$name at $interface" more_listen "$where" "$interface" "$before"
}

# Frames that a candump -L heard.
frames() { cut -d' ' -f3 "$CASE_DIR/$1.log"; }

heard() { (($(wc -l <"$CASE_DIR/$1.log") >= $2)); }

# must_hear NAME COUNT WHAT
must_hear() {
    wait_for 60 heard "$1" "$2" || fail "$3: $(wc -l <"$CASE_DIR/$1.log") of $2 frames came within 60 s"
}

# must_be NAME FRAME...: exactly these, in this order.
must_be() {
    local name=$1
    shift
    must_hear "$name" $# "frames of $name"
    expect_eq "frames of $name" "$*" "$(frames "$name" | paste -sd ' ')"
}

link_of() { ip -n srv -details -statistics -json link show "$1"; }

# counted INTERFACE tx|rx: frames, by the owner's kernel.
counted() { link_of "$1" | jq ".[0].stats64.$2.packets"; }

bitrate() { link_of "$1" | jq '.[0].linkinfo.info_data.bittiming.bitrate'; }

case_tools() {
    on_bus
    local sent
    sent=$(counted can0 tx)
    hear far bus $FAR candump -L $FAR
    hear near cli $NEAR candump -L $NEAR
    # Remote frames ask for no data here: QEMU's controller stores data bytes of theirs that it does not
    # count when the driver is done with the frame, and all later frames are torn (frame2buff_pel()).
    local ours=(123#DEADBEEF 1ABCDEF0#R 7FF# 00000001#0102030405060708) frame
    local theirs=(000#1122334455667788 1FFFFFFF# 123#R 5A5#00)
    for frame in "${ours[@]}"; do on cli cansend $NEAR "$frame"; done
    must_hear far 4 "from the laptop"
    for frame in "${theirs[@]}"; do on bus cansend $FAR "$frame"; done
    must_be near "${ours[@]}" "${theirs[@]}"
    must_be far "${ours[@]}" "${theirs[@]}"
    expect_eq "frames that the owner's controller sent" 4 $(($(counted can0 tx) - sent))
    stop near

    reattach -o own=true
    hear near cli $NEAR candump -L $NEAR
    on cli cansend $NEAR 321#0A
    must_be near 321#0A 321#0A
    stop near

    reattach -o filter=100:700 -o filter=00000200:9FFFFFFF
    expect_eq "filters in the owner's kernel" 2 "$(listeners srv can0)"
    hear near cli $NEAR candump -L $NEAR
    for frame in 0FF#01 100#02 1FF#03 200#04 00000200#05; do on bus cansend $FAR "$frame"; done
    must_be near 100#02 1FF#03 00000200#05
    stop near

    reattach -o bitrate=250000
    expect_eq "the owner's bit rate while it is attached" 250000 "$(bitrate can0)"
    detach_bus $BUS
    expect_eq "the owner's bit rate afterwards" 1000000 "$(bitrate can0)"
    interface_gone cli $NEAR || fail "$NEAR is still there"
}

# counting ID COUNT: what cangen -D i sends.
counting() {
    awk -v id="$1" -v n="$2" 'BEGIN { for (i = 0; i < n; i++)
        printf "%s#%02X%02X000000000000\n", id, i % 256, i / 256 }'
}

# must_count NAME ID COUNT
must_count() {
    must_hear "$1" "$3" "cangen's frames"
    counting "$2" "$3" >"$CASE_DIR/wanted"
    frames "$1" >"$CASE_DIR/found"
    diff "$CASE_DIR/wanted" "$CASE_DIR/found" >"$CASE_DIR/differences" ||
        fail "cangen's frames at $1: $(head -n 2 "$CASE_DIR/differences" | paste -sd ' ')"
}

# Packets on the laptop's network, both ways.
packets() { ip -n cli -statistics -json link show veth-cli | jq '.[0].stats64 | .rx.packets + .tx.packets'; }

# on_pair INTERFACE [OPTION]...: one end of the pair is lent.
on_pair() {
    bridge_up
    share can:pair0
    attach_can can:pair0 "$@"
}

LIMIT_load=180
case_load() {
    on_pair mc-pair0
    local before tx rx
    tx=$(counted pair0 tx) rx=$(counted pair0 rx)
    sequence bus pair1 cli mc-pair0
    sequence cli mc-pair0 bus pair1

    before=$(packets)
    hear far bus pair1 candump -L pair1,2A1:7FF
    hear near cli mc-pair0 candump -L mc-pair0,1A1:7FF
    start generator ip netns exec bus cangen -g 0 -p 1000 -I 1A1 -L 8 -D i -n 3000 pair1
    must "cangen on the laptop" on cli cangen -g 0 -p 1000 -I 2A1 -L 8 -D i -n 3000 mc-pair0
    must_count near 1A1 3000
    must_count far 2A1 3000
    echo "6000 frames in $(($(packets) - before)) packets"
    (($(packets) - before < 3000)) || fail "6000 frames took $(($(packets) - before)) packets"
    expect_eq "frames that the owner sent" 4000 $(($(counted pair0 tx) - tx))
    expect_eq "frames that it received" 4000 $(($(counted pair0 rx) - rx))
}

# sequence FROM INTERFACE TO INTERFACE: the receiver ends with an error at the first gap.
sequence() {
    hear receiver "$3" "$4" cansequence -r -q -v "$4"
    hear counter "$3" "$4" candump -L "$4"
    must "cansequence from $1" on "$1" cansequence --poll --loop=1000 "$2"
    must_hear counter 1000 "cansequence from $1"
    running receiver || fail "cansequence from $1: $(tail -n 1 "$CASE_DIR/receiver.log")"
    stop receiver
    stop counter
}

LIMIT_answers=150
case_answers() {
    on_bus
    full_duplex bus $FAR cli $NEAR
    full_duplex cli $NEAR bus $FAR
    isotp cli $NEAR bus $FAR
    isotp bus $FAR cli $NEAR
}

# full_duplex HOST INTERFACE DUT INTERFACE: the DUT sends each frame back with more in it.
full_duplex() {
    hear dut "$3" "$4" canfdtest -v "$4"
    on "$1" canfdtest -g -v -f 3 -l 200 "$2" >"$CASE_DIR/host.log" 2>&1 ||
        fail "canfdtest from $1: $(tail -n 1 "$CASE_DIR/host.log")"
    stop dut
}

# isotp FROM INTERFACE TO INTERFACE: the longest message of the classic protocol, in blocks of four.
isotp() {
    local text
    text=$(head -c 4095 /dev/urandom | od -An -v -tx1 | tr -d '\n')
    hear received "$3" "$4" isotprecv -b 4 -s 321 -d 123 "$4"
    echo "$text" | on "$1" isotpsend -b -s 123 -d 321 "$2" || fail "isotpsend from $1 ended with $?"
    must_come 60 "the message from $1" stopped received
    expect_eq "the message from $1" "$(tr -d ' \n' <<<"${text^^}")" "$(tr -d ' \n' <"$CASE_DIR/received.log")"
    rm "$CASE_DIR/received.pid"
}

# Two nodes want one address: the one with the lower name has it, the other one takes the next. Then a
# file goes from one to the other, by these addresses.
case_j1939() {
    on_pair mc-pair0
    hear claims bus pair1 candump -L pair1,00EE0000:00FF0000
    start first ip netns exec bus j1939acd -v -r 128-130 -c "$CASE_DIR/first.jacd" 00000000000000A1 pair1
    must_come 60 "the first claim" claimed 18EEFF80#A100000000000000
    start second ip netns exec cli j1939acd -v -r 128-130 -c "$CASE_DIR/second.jacd" 00000000000000B2 mc-pair0
    must_come 60 "the second claim" claimed 18EEFF81#B200000000000000
    head -c 10000 /dev/urandom >"$CASE_DIR/file"
    start copy ip netns exec cli j1939cat -r mc-pair0:0x81
    must_come 20 "j1939cat's socket" has_socket copy
    must "sending from the bus" on bus python3 -c "$SEND_J1939" "$CASE_DIR/file"
    must_come 60 "the file" same_file
}

# Debian's j1939cat does not send on this kernel, whose notices are longer than it has room for.
SEND_J1939='
import socket, sys
node = socket.socket(socket.AF_CAN, socket.SOCK_DGRAM, socket.CAN_J1939)
node.bind(("pair1", socket.J1939_NO_NAME, socket.J1939_NO_PGN, 0x80))
node.sendto(open(sys.argv[1], "rb").read(), ("pair1", socket.J1939_NO_NAME, 0x12300, 0x81))
'

claimed() { frames claims | grep -qx "$1"; }

same_file() { cmp -s "$CASE_DIR/file" "$CASE_DIR/copy.log"; }

has_socket() { readlink "/proc/$(pid_of "$1")/fd/"* | grep -q '^socket:'; }

# No controller with FD can be emulated for this kernel.
case_fd() {
    on_pair bench --as vxcan --name bench
    expect_eq "MTU" 72 "$(on cli cat /sys/class/net/bench/mtu)"
    hear far bus pair1 candump -L pair1
    hear near cli bench candump -L bench
    hear extra cli bench candump -x bench,456:7FF
    local long frame
    long=$(printf '%02X' {1..64})
    # The kernel adds a flag to FD frames, which candump shows: 4.
    local ours=("123##5$long" "1ABCDEF0##4" 123#DEADBEEF) theirs=("456##7$long" 456#R2)
    for frame in "${ours[@]}"; do on cli cansend bench "$frame"; done
    must_hear far 3 "from the laptop"
    for frame in "${theirs[@]}"; do on bus cansend pair1 "$frame"; done
    must_be far "${ours[@]}" "${theirs[@]}"
    must_be near "${ours[@]}" "${theirs[@]}"
    must_come 20 "both frames with their direction" heard extra 2
    expect_eq "frames that look received" 2 "$(grep -c ' RX ' "$CASE_DIR/extra.log")"
    generated cli bench
    generated bus pair1
    frames far >"$CASE_DIR/far"
    frames near >"$CASE_DIR/near"
    cmp "$CASE_DIR/far" "$CASE_DIR/near" || fail "the two ends heard different frames"
    detach_bus can:pair0
    must_come 10 "the end of the interface" interface_gone cli bench
    interface_gone cli .bench || fail "the pair's other end is still there"
}

# generated FROM INTERFACE: 500 FD frames whose identifiers, lengths and data count up.
generated() {
    local before
    before=$(wc -l <"$CASE_DIR/far.log")
    must "cangen on $1" on "$1" cangen -f -b -g 0 -p 1000 -I i -L i -D i -n 500 "$2"
    must_hear far $((before + 500)) "cangen -f from $1"
    must_hear near $((before + 500)) "cangen -f from $1"
}

as_second() {
    COMMAND=(ip netns exec cli2 "$MYCLERK" --state "$CASE_DIR/second" --run "$CASE_DIR/run-second" "$@")
}

second() {
    as_second "$@"
    "${COMMAND[@]}"
}

# A second laptop, in a namespace of its own, that has the bus too.
second_joins() {
    ip netns add cli2
    ip link add veth-srv2 netns srv type veth peer name veth-cli2 netns cli2
    ip -n srv address add 10.77.1.1/24 dev veth-srv2
    ip -n cli2 address add 10.77.1.2/24 dev veth-cli2
    ip -n srv link set veth-srv2 up
    ip -n cli2 link set veth-cli2 up
    ip -n cli2 link set lo up
    ip -n cli2 route add $SRV_ADDRESS via 10.77.1.1
    admit second
    hub acl grant $BUS second
    as_second client
    start second "${COMMAND[@]}"
    must_come 60 "the bus on the second laptop" second attach hub/$BUS
}

LIMIT_clients=300
case_clients() {
    ip -n srv link set can0 down
    on_bus
    second_joins
    listen srv can0 2 || fail "$(listeners srv can0) sockets at the owner's interface"
    hear one cli $NEAR candump -L $NEAR
    hear two cli2 $NEAR candump -L $NEAR
    hear far bus $FAR candump -L $FAR
    on cli cansend $NEAR 111#01
    must_hear two 1 "from the first laptop"
    on cli2 cansend $NEAR 222#02
    must_hear one 2 "from the second laptop"
    on bus cansend $FAR 333#03
    # Each frame once: no one hears its own again.
    must_be one 111#01 222#02 333#03
    must_be two 111#01 222#02 333#03
    must_be far 111#01 222#02 333#03

    stop laptop KILL
    must_come 120 "the end of the killed laptop's use" listen srv can0 1
    start_laptop
    if laptop attach hub/$BUS -o bitrate=250000 >"$CASE_DIR/refused.log" 2>&1; then
        fail "one of two set the bit rate"
    fi
    grep -q 'others have the interface open' "$CASE_DIR/refused.log" || fail "no reason for the refusal"
    expect_eq "the bit rate after the refusal" 1000000 "$(bitrate can0)"
    # What the killed one left behind is replaced.
    attach_can $BUS $NEAR
    listen srv can0 2 || fail "$(listeners srv can0) sockets at the owner's interface after a new attach"
    laptop detach hub/$BUS
    second detach hub/$BUS
    must_come 20 "the owner's interface as it was" is_down srv can0
    outage
}

# The hub is gone for a while, then for good.
outage() {
    must_come 60 "the bus on the second laptop again" second attach hub/$BUS --grace 600
    hear patient cli2 $NEAR candump -L $NEAR
    stop hub KILL
    must_come 60 "the loss of the session" second_is false
    start_hub
    must_come 60 "the session's return" second_is true
    on bus cansend $FAR 444#04
    on cli2 cansend $NEAR 555#05
    must_be patient 444#04 555#05
    stop patient

    second detach hub/$BUS
    must_come 60 "the bus on the second laptop for the last time" second attach hub/$BUS --grace 1
    hear orphan cli2 $NEAR candump -L $NEAR
    stop hub KILL
    must_come 60 "the end of the interface without a hub" interface_gone cli2 $NEAR
    must_come 20 "the end of its candump" stopped orphan
    grep -qE 'Network is down|No such device' "$CASE_DIR/orphan.log" || fail "candump: $(cat "$CASE_DIR/orphan.log")"
    rm "$CASE_DIR/orphan.pid"
}

# second_is LIVE: whether the second laptop's interface has its owner.
second_is() { second status --json | jq -e --argjson live "$1" '.client.attached[0].live == $live'; }

is_down() { ip -n "$1" -json link show "$2" | jq -e '.[0].flags | index("UP") == null'; }

# An adapter at a serial line is the owner's controller: its errors are those that this script wants.
case_errors() {
    local adapter=slcan0
    start adapter python3 "$ADAPTER" "$CASE_DIR/bus"
    must_come 20 "the adapter's interface" test -s "$CASE_DIR/adapter.log"
    ip link set "$(head -n 1 "$CASE_DIR/adapter.log")" netns srv name $adapter
    ip -n srv link set $adapter up type can bitrate 500000
    bridge_up
    share can:$adapter
    attach_can can:$adapter mc-$adapter -o errors=true
    hear near cli mc-$adapter candump -L mc-$adapter,0:0,#FFFFFFFF
    on cli cansend mc-$adapter 123#AA
    must_come 20 "the frame at the adapter" grep -qx t1231AA "$CASE_DIR/adapter.log"
    # A bit, a CRC and an overrun error; then as a controller does that loses its bus.
    bus_says t4561BB e3bco sw096000 sp130000 sb256000
    must_be near 123#AA 456#BB 2000008C#0001090800000000 \
        20000204#0004000000000060 20000204#0010000000000082 20000040#0000000000000000
    expect_eq "the owner's state" BUS-OFF "$(bus_state $adapter)"
    expect_eq "the state that the laptop is told" bus-off \
        "$(laptop can status hub/can:$adapter --json | jq -r .state)"
    stop near

    # Setting it starts it again.
    detach_bus can:$adapter
    attach_can can:$adapter mc-$adapter -o errors=true -o bitrate=250000
    expect_eq "the owner's state" ERROR-ACTIVE "$(bus_state $adapter)"
    expect_eq "what the adapter was told" "t1231AA C C S5 O" "$(tail -n +5 "$CASE_DIR/adapter.log" | paste -sd ' ')"
    hear near cli mc-$adapter candump -L mc-$adapter
    bus_says t4561CC
    on cli cansend mc-$adapter 123#DD
    must_come 20 "a frame at the adapter after the restart" grep -qx t1231DD "$CASE_DIR/adapter.log"
    must_hear near 2 "after the restart"
    laptop can configure hub/can:$adapter --bitrate 500000 >"$CASE_DIR/configure.log" 2>&1 ||
        fail "configure: $(tail -n 1 "$CASE_DIR/configure.log")"
    must_come 20 "the bit rate of the laptop at the adapter" adapter_heard "C C S6 O"
    detach_bus can:$adapter
}

# What the adapter was told last.
adapter_heard() { [[ $(tail -n 4 "$CASE_DIR/adapter.log" | paste -sd ' ') == "$1" ]]; }

bus_state() { link_of "$1" | jq -r '.[0].linkinfo.info_data.state'; }

bus_says() { printf '%s\n' "$@" >"$CASE_DIR/bus"; }

run_cases "$@"
