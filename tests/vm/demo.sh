#!/bin/bash
# The demonstration's guest: every command is shown with what it prints. Any that fails ends it.
source "${BASH_SOURCE[0]%/*}/lib.sh"
source "${BASH_SOURCE[0]%/*}/bridge.sh"

export CASE_DIR=/run/demo
mkdir -p "$CASE_DIR/mnt"

# Without mounts of their own: those would lack configfs and tracefs.
as_hub() { COMMAND=(nsenter --net=/run/netns/srv "$MYCLERK" --state "$CASE_DIR/hub" --run "$CASE_DIR/run-hub" "$@"); }
as_laptop() { COMMAND=(nsenter --net=/run/netns/cli "$MYCLERK" --state "$CASE_DIR/laptop" --run "$CASE_DIR/run-laptop" "$@"); }

bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'
[[ -t 1 || -n ${DEMO_COLOUR:-} ]] || bold='' dim='' plain=''

fail() {
    echo "demo: $1" >&2
    dump_logs >&2
    exit 1
}

say() { printf '\n%s# %s%s\n' "$dim" "$1" "$plain"; }

# on MACHINE COMMAND...: shows and runs it
on() {
    local machine=$1
    shift
    printf '%s%s$ %s%s\n' "$bold" "$machine" "$*" "$plain"
    case $1 in
        myclerk) "$machine" "${@:2}" || fail "'$*' ended with $?" ;;
        *) "$@" || fail "'$*' ended with $?" ;;
    esac
}

# A board at the end of the adapter's cable: it answers each line that it gets.
board() {
    local line
    exec 6<>/dev/virtio-ports/lab.far
    while IFS= read -r -d $'\r' line <&6; do
        printf '\r\nboard> you said: %s\r\n' "${line//[^[:print:]]/}" >&6
    done
}

# The hub's CAN controller, with another node on its bus, its GPIO chip, with a button at line 5, and its I2C
# bus, with a thermometer at 0x48 that says 21.5 degrees.
BUS=can:can0
CHIP=gpio:bench
THERMOMETER=0x48
make_bus() {
    modprobe kvaser_pci
    must_come 20 "both controllers" test -e /sys/class/net/can1
    ip link set can0 netns srv
    ip -n srv link set can0 up type can bitrate 500000
    ip link set can1 up type can bitrate 500000
}
make_chip() {
    local chip=/sys/kernel/config/gpio-sim/bench
    modprobe configfs
    mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config
    modprobe gpio-sim
    # As in gpio.sh.
    echo 0 >/sys/kernel/tracing/options/record-cmd
    mkdir -p "$chip/bank0/line5"
    echo 8 >"$chip/bank0/num_lines"
    echo bench >"$chip/bank0/label"
    echo button >"$chip/bank0/line5/name"
    echo 1 >"$chip/live"
    BUTTON=/sys/devices/platform/$(<"$chip/dev_name")/$(<"$chip/bank0/chip_name")/sim_gpio5
}

make_i2c_bus() {
    modprobe i2c-dev
    modprobe i2c-stub chip_addr="$THERMOMETER"
    local bus
    for bus in /sys/class/i2c-dev/i2c-*; do
        [[ $(<"$bus/name") == 'SMBus stub driver' ]] && HUB_BUS=${bus##*i2c-}
    done
    # The first byte on the wire is the low one of a word.
    i2cset -y "$HUB_BUS" "$THERMOMETER" 0x00 0x8015 w
}

modprobe -a vhci-hcd can-raw vcan
make_namespaces
make_bus
make_chip
make_i2c_bus
must_come 10 "the far end of the cable" test -e /dev/virtio-ports/lab.far
board &
trap 'kill %1 2>/dev/null; stop_all' EXIT

say "The hub has a stick, a serial adapter, a CAN bus, a GPIO chip and an I2C bus. It founds a family and offers them."
on hub myclerk init --name hub
printf '%shub$ myclerk serve &%s\n' "$bold" "$plain"
start_hub
on hub myclerk list
I2C=$(hub list --json | jq -r '.. | objects | .id? // empty | select(startswith("i2c:"))' | head -n 1)
on hub myclerk export $STICK_ID
on hub myclerk export $ADAPTER_ID
on hub myclerk export $BUS
on hub myclerk export $CHIP
on hub myclerk export "$I2C"

say "The laptop joins with a token that works once."
printf '%shub$ myclerk invite --yes%s\n' "$bold" "$plain"
as_hub invite --yes --json
start invite "${COMMAND[@]}"
must_come 30 "the invite's token" token_of invite
token_of invite
on laptop myclerk join "$(token_of invite)" "$HUB_ADDRESS" --name laptop
printf '%slaptop$ myclerk client &%s\n' "$bold" "$plain"
start_laptop

say "Nothing is there for it until the hub grants it."
on laptop myclerk list
on hub myclerk acl grant $STICK_ID laptop
on hub myclerk acl grant $ADAPTER_ID laptop
on hub myclerk acl grant $BUS laptop
on hub myclerk acl grant $CHIP laptop
on hub myclerk acl grant "$I2C" laptop
on laptop myclerk list

say "The stick becomes a disk of the laptop."
on laptop myclerk attach hub/$STICK_ID
# shellcheck disable=SC2086 # vendor and product are two words
must_come 30 "the remote disk" remote_node $STICK block
# shellcheck disable=SC2086
disk=$(remote_node $STICK block)
probed
on laptop lsblk -o NAME,SIZE,TRAN,FSTYPE,LABEL "$disk"
on laptop mount "$disk" "$CASE_DIR/mnt"
on laptop cat "$CASE_DIR/mnt/hello.txt"
on laptop umount "$CASE_DIR/mnt"

say "The adapter becomes a tty; a board at the far end of its cable answers."
on laptop myclerk attach hub/$ADAPTER_ID
# shellcheck disable=SC2086
must_come 30 "the remote tty" remote_node $ADAPTER tty
# shellcheck disable=SC2086
tty=$(remote_node $ADAPTER tty)
printf '%slaptop$ picocom -b 115200 %s%s\n' "$bold" "$tty" "$plain"
tmux -L demo new-session -d -x 78 -y 12 "picocom -q -b 115200 $tty"
screen() { tmux -L demo capture-pane -p | sed '/^$/d'; }
answers() { screen | grep 'you said: hello, board'; }
# The first bytes may be typed before picocom has set the line up.
asked() { tmux -L demo send-keys 'hello, board' Enter && wait_for 3 answers; }
must_come 30 "the board's answer" asked
screen
tmux -L demo kill-server

say "The CAN bus becomes an interface; another node of the bus talks."
on laptop myclerk attach hub/$BUS
must_come 20 "the interface" on_cli ip link show mc-can0
printf '%slaptop$ candump -t z mc-can0 &%s\n' "$bold" "$plain"
start candump ip netns exec cli stdbuf -oL candump -t z mc-can0
heard() { grep -q "$1" "$CASE_DIR/candump.log"; }
# The first frames may come before candump listens.
talks() { cansend can1 123#48692121 && wait_for 2 heard '48 69 21 21'; }
must_come 20 "the other node's frame" talks
printf '%slaptop$ cansend mc-can0 7DF#0201050000000000%s\n' "$bold" "$plain"
on_cli cansend mc-can0 7DF#0201050000000000
must_come 20 "the laptop's own frame" heard '02 01 05'
stop candump
cat "$CASE_DIR/candump.log"

say "The GPIO chip becomes a chip of the laptop; somebody presses the button at the hub's."
on laptop myclerk attach hub/$CHIP
chip=$(laptop status --json | jq -r --arg id $CHIP '.client.attached[] | select(.device == $id) | .files[0]')
on laptop gpioinfo "${chip#/dev/}"
printf '%slaptop$ gpiomon --num-events=2 %s 5 &%s\n' "$bold" "${chip#/dev/}" "$plain"
start gpiomon stdbuf -oL gpiomon --num-events=2 "${chip#/dev/}" 5
used() { gpioinfo "${chip#/dev/}" | grep -q 'gpiomon'; }
must_come 30 "gpiomon's request" used
pressed() {
    local level
    for level in up down; do echo pull-$level >"$BUTTON/pull"; done
    wait_for 3 stopped gpiomon
}
must_come 30 "both edges" pressed
rm "$CASE_DIR/gpiomon.pid"
cat "$CASE_DIR/gpiomon.log"

say "The I2C bus becomes an adapter of the laptop; a driver of its kernel reads the hub's thermometer."
on laptop myclerk attach "hub/$I2C"
adapter=$(laptop status --json | jq -r --arg id "$I2C" '.client.attached[] | select(.device == $id) | .files[0]')
number=${adapter#/dev/i2c-}
on laptop i2cdetect -l
on laptop i2cdetect -y "$number" 0x40 0x4f
modprobe lm75
printf '%slaptop$ echo lm75 %s > /sys/bus/i2c/devices/i2c-%s/new_device%s\n' "$bold" "$THERMOMETER" "$number" "$plain"
echo "lm75 $THERMOMETER" >"/sys/bus/i2c/devices/i2c-$number/new_device"
thermometer=$(echo "/sys/bus/i2c/devices/$number-0048/hwmon"/hwmon*/temp1_input)
on laptop cat "$thermometer"
[[ $(<"$thermometer") == 21500 ]] || fail "the thermometer does not say 21.5 degrees"

say "Who uses what:"
on laptop myclerk status
on hub myclerk status

say "And back."
on laptop myclerk detach --all
# shellcheck disable=SC2086
must_be_home $STICK usb-storage
on hub myclerk list
say "Everything is the hub's own again."
