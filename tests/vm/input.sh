#!/bin/bash
# A gamepad with a touchpad, LEDs and motors at the hub (tests/vm/input_tool.rs), used by the laptop.
# Both see it in one kernel: the laptop's has myclerk in its phys.
source "${BASH_SOURCE[0]%/*}/lib.sh"
source "${BASH_SOURCE[0]%/*}/bridge.sh"

PAD_ID=hid:1209:4c50:lab/pad

prepare() {
    modprobe evdev
    modprobe uinput
    make_namespaces
}

# plug_pad: its node in `real`.
plug_pad() {
    mkfifo "$CASE_DIR/orders"
    start pad stdbuf -oL "$VM_TOOLS" --tool pad "$CASE_DIR/orders"
    must_come 20 "the pad" pad_said '^node '
    real=$(sed -n 's/^node //p' "$CASE_DIR/pad.log")
    probed
}

pad_said() { grep -q "$1" "$CASE_DIR/pad.log"; }

# order PACKET: the pad does this, "TYPE CODE VALUE, TYPE CODE VALUE".
order() { echo "$1" >"$CASE_DIR/orders"; }

# The node of the laptop's device.
remote_input() {
    local phys
    phys=$(grep -l '^myclerk/hub/' /sys/class/input/event*/device/phys) || return 1
    phys=${phys%/device/phys}
    [[ -c /dev/input/${phys##*/} ]] && echo "/dev/input/${phys##*/}"
}

no_remote_input() { ! remote_input; }

# borrow_pad OPTION...: attached, its node in `remote`.
borrow_pad() {
    share $PAD_ID
    laptop attach "hub/$PAD_ID" "$@" >>"$CASE_DIR/attach.log" 2>&1 ||
        fail "attach: $(tail -n 1 "$CASE_DIR/attach.log")"
    must_come 30 "the remote pad" remote_input
    remote=$(remote_input)
    probed
}

# record NAME NODE
record() {
    start "$1" stdbuf -oL evtest "$2"
    must_come 20 "evtest on $2" grep -q 'Testing ...' "$CASE_DIR/$1.log"
}

recorded() { grep -q "$2" "$CASE_DIR/$1.log"; }

# What evtest said of a device, and its events without their times.
# The noise is filtered at the owner.
described() { sed -n '/^Input device ID/,/^Testing/p' "$CASE_DIR/$1.log" | grep -v 'Fuzz'; }
packets() { sed -n 's/^Event: time [0-9.]*, //p' "$CASE_DIR/$1.log"; }

LIMIT_packets=120
case_packets() {
    local real remote step
    bridge_up
    plug_pad
    borrow_pad -o grab=false
    record real "$real"
    record remote "$remote"
    expect_eq "what the device is" "$(described real)" "$(described remote)"
    order '4 4 458756, 1 30 1'
    order '1 30 0'
    for step in {1..40}; do
        order "2 0 $step, 2 1 -$step"
    done
    order '3 47 0, 3 57 100, 3 53 1000, 3 54 500, 1 330 1, 1 325 1'
    order '3 47 1, 3 57 101, 3 53 2000, 3 54 700'
    for step in {1..40}; do
        order "3 47 0, 3 53 $((1000 + step)), 3 47 1, 3 54 $((700 + step))"
    done
    order '3 47 0, 3 57 -1, 3 47 1, 3 57 -1, 1 330 0, 1 325 0'
    order '3 0 -20000'
    order '1 304 1'
    order '1 304 0'
    must_come 20 "the last packet at the hub" recorded real '(BTN_SOUTH), value 0'
    must_come 20 "the last packet at the laptop" recorded remote '(BTN_SOUTH), value 0'
    stop real
    stop remote
    expect_eq "the packets" "$(packets real)" "$(packets remote)"
    (($(packets real | grep -c SYN_REPORT) == 88)) || fail "the hub's evtest saw $(packets real | grep -c SYN_REPORT) packets"
    "$VM_TOOLS" --tool input-set "$remote" 17 1 1
    must_come 20 "the light at the pad" pad_said '^17 1 1'
    "$VM_TOOLS" --tool input-set "$remote" 17 1 0
    must_come 20 "the end of the light" pad_said '^17 1 0'
    laptop detach "hub/$PAD_ID"
    must_come 20 "the end of the remote pad" no_remote_input
}

LIMIT_effects=90
case_effects() {
    local real remote
    bridge_up
    plug_pad
    # Another program of the hub has an effect at the pad, so that numbers differ.
    start other "$VM_TOOLS" --tool input-hold "$real"
    must_come 20 "the other program's effect" pad_said '^upload 0'
    borrow_pad
    "$VM_TOOLS" --tool input-effects "$remote" >"$CASE_DIR/effects.log" 2>&1 ||
        fail "effects: $(tail -n 1 "$CASE_DIR/effects.log")"
    # The second effect was left behind by a program that ended.
    must_come 20 "the end of the last effect" pad_said '^erase 2'
    expect_eq "the program's numbers" "effects 0 and 1" "$(<"$CASE_DIR/effects.log")"
    expect_eq "what the pad was told" "$(told)" "$(grep -Ev '^(node|17 |21 [0-9]+ 0$)' "$CASE_DIR/pad.log")"
}

told() {
    cat <<END
upload 0 Rumble { strong: 1, weak: 7 } [500, 20]
upload 1 Rumble { strong: 60000, weak: 7 } [500, 20]
upload 2 Periodic { wave: Square, period: 100, magnitude: -3000, offset: 4, phase: 5, envelope: [10, 20, 30, 40] } [500, 20]
21 96 32768
21 1 2
upload 1 Rumble { strong: 1000, weak: 7 } [500, 20]
21 2 1
erase 1
erase 2
END
}

# hold: a key and a finger are down at both sides.
hold() {
    record remote "$remote"
    order '1 30 1, 3 47 0, 3 57 7, 3 53 9'
    must_come 20 "the key at the laptop" recorded remote '(KEY_A), value 1'
}

LIMIT_killed_owner=90
case_killed_owner() {
    local real remote
    bridge_up
    plug_pad
    borrow_pad
    hold
    stop hub KILL
    must_come 30 "the key's release" recorded remote '(KEY_A), value 0'
    must_come 30 "the finger's end" recorded remote '(ABS_MT_TRACKING_ID), value -1'
    must_come 30 "the end of the remote pad" no_remote_input
}

LIMIT_killed_user=90
case_killed_user() {
    local real remote
    bridge_up
    plug_pad
    borrow_pad
    hold
    stop laptop KILL
    must_come 30 "the key's release" recorded remote '(KEY_A), value 0'
    must_come 30 "the end of the remote pad" no_remote_input
    # The hub's own programs see what the pad does again.
    record real "$real"
    order '1 31 1'
    must_come 30 "a key at the hub" recorded real '(KEY_S), value 1'
}

run_cases "$@"
