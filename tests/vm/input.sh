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

# with_pad: plugged in and offered by the hub.
with_pad() {
    bridge_up
    mkfifo "$CASE_DIR/orders"
    plug_pad
    share $PAD_ID
}

# plug_pad: its node in `real`.
plug_pad() {
    rm -f "$CASE_DIR/pad.log"
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

# What evtest said of a device. The noise is filtered at the owner.
described() { sed -n '/^Input device ID/,/^Testing/p' "$CASE_DIR/$1.log" | grep -v 'Fuzz'; }

# recordings SIDE NODE: evemu's record of every event, and what libinput makes of them, which is what
# a desktop sees.
recordings() {
    start "$1-evemu" stdbuf -oL evemu-record "$2"
    start "$1-libinput" stdbuf -oL libinput debug-events --device "$2"
    must_come 20 "evemu-record on $2" recorded "$1-evemu" 'Waiting for events'
    must_come 20 "libinput on $2" recorded "$1-libinput" DEVICE_ADDED
}

# Name, ids, properties, bits and axes without fuzz.
evemu_device() {
    sed -En '/^[NIPBLS]:/p; s/^(A: [^ ]+ [^ ]+ [^ ]+) [^ ]+/\1/p' "$CASE_DIR/$1-evemu.log"
}

# The events of both without their times and the numbers of nodes.
evemu_packets() { sed -En 's/^E: [0-9.]+ ([0-9a-f]{4} [0-9a-f]{4} -?[0-9]+).*/\1/p' "$CASE_DIR/$1-evemu.log"; }
seen_by_libinput() {
    sed -E 's/^[- ]event[0-9]+ *//; s/\+?[0-9.]+s//' "$CASE_DIR/$1-libinput.log" | grep -E '^(DEVICE|POINTER_BUTTON)'
}

SIDES=(real remote)
BTN_LEFT=272

LIMIT_packets=150
case_packets() {
    local real remote step side
    with_pad
    borrow_pad -o grab=false
    record description "$real"
    stop description
    record remote "$remote"
    expect_eq "what the device is" "$(described description)" "$(described remote)"
    recordings real "$real"
    recordings remote "$remote"
    order '4 4 458756, 1 30 1'
    order '1 30 0'
    for step in {1..40}; do
        order "2 0 $step, 2 1 -$step"
    done
    order '3 47 0, 3 57 100, 3 53 1000, 3 54 500, 3 0 1000, 3 1 500, 1 330 1, 1 325 1'
    order '3 47 1, 3 57 101, 3 53 2000, 3 54 700'
    for step in {1..40}; do
        order "3 47 0, 3 53 $((1000 + step)), 3 47 1, 3 54 $((700 + step))"
    done
    order '3 47 0, 3 57 -1, 3 47 1, 3 57 -1, 1 330 0, 1 325 0'
    order '3 3 -20000'
    order "1 $BTN_LEFT 1"
    order "1 $BTN_LEFT 0"
    order '1 304 1'
    order '1 304 0'
    for side in "${SIDES[@]}"; do
        must_come 20 "the last packet in evemu's record of the $side device" \
            recorded "$side-evemu" 'EV_KEY / BTN_SOUTH *0'
        must_come 20 "the button in libinput's of the $side device" \
            recorded "$side-libinput" 'BTN_LEFT.*released'
        stop "$side-libinput"
        stop "$side-evemu"
    done
    stop remote
    expect_eq "evemu's description" "$(evemu_device real)" "$(evemu_device remote)"
    expect_eq "the packets" "$(evemu_packets real)" "$(evemu_packets remote)"
    expect_eq "packets at the hub" 90 "$(evemu_packets real | grep -c '^0000 0000')"
    expect_eq "what libinput sees" "$(seen_by_libinput real)" "$(seen_by_libinput remote)"
    expect_eq "what libinput sees at the hub" "DEVICE_ADDED POINTER_BUTTON POINTER_BUTTON" \
        "$(seen_by_libinput real | awk '{ print $1 }' | xargs)"
    back
    laptop detach "hub/$PAD_ID"
    must_come 20 "the end of the remote pad" no_remote_input
    # The rate of repetition is as it was found.
    must_come 20 "the first delay at the pad" last_delay 40000
}

# set_here TYPE CODE VALUE: a program of the laptop sets something of the pad.
set_here() {
    "$VM_TOOLS" --tool input-set "$remote" "$@"
    must_come 20 "$* at the pad" pad_said "^$*\$"
}

# What goes back: a LED, a tone, the repetition.
back() {
    set_here 17 1 1
    set_here 17 1 0
    set_here 18 2 440
    set_here 20 0 30000
}

last_delay() { [[ $(grep '^20 0 ' "$CASE_DIR/pad.log" | tail -n 1) == "20 0 $1" ]]; }

LIMIT_effects=90
case_effects() {
    local real remote
    with_pad
    # Another program of the hub has an effect at the pad, so that numbers differ.
    start other "$VM_TOOLS" --tool input-hold "$real"
    must_come 20 "the other program's effect" pad_said '^upload 0'
    borrow_pad
    "$VM_TOOLS" --tool input-effects "$remote" >"$CASE_DIR/effects.log" 2>&1 ||
        fail "effects: $(tail -n 1 "$CASE_DIR/effects.log")"
    # The second effect was left behind by a program that ended.
    must_come 20 "the end of the last effect" pad_said '^erase 2'
    expect_eq "the program's numbers" "effects 0 and 1" "$(<"$CASE_DIR/effects.log")"
    expect_eq "what the pad was told" "$(told)" "$(grep -Ev '^(node|17 |18 |20 |21 [0-9]+ 0$)' "$CASE_DIR/pad.log")"
}

told() {
    cat <<END
upload 0 Rumble { strong: 1, weak: 7 } [500, 20]
upload 1 Rumble { strong: 60000, weak: 7 } [500, 20]
upload 2 Periodic { wave: Square, period: 100, magnitude: -3000, offset: 4, phase: 5, envelope: [10, 20, 30, 40] } [500, 20]
21 96 32768
21 97 4096
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
    with_pad
    borrow_pad --grace 600
    hold
    stop hub KILL
    must_come 30 "the key's release" recorded remote '(KEY_A), value 0'
    must_come 30 "the finger's end" recorded remote '(ABS_MT_TRACKING_ID), value -1'
    order '1 30 0, 3 57 -1'
    expect_eq "the pad without its owner" "$remote" "$(remote_input)"
    # The same device goes on when the owner is back.
    start_hub
    must_come 60 "the owner's return" attached_live true
    order '1 304 1'
    must_come 30 "a key after the outage" recorded remote '(BTN_SOUTH), value 1'
    order '1 304 0'
    must_come 30 "its release" recorded remote '(BTN_SOUTH), value 0'
    laptop detach "hub/$PAD_ID"
    must_come 20 "the end of the remote pad" no_remote_input
    # For good.
    borrow_pad --grace 1
    stop hub KILL
    must_come 60 "the end of the remote pad without its owner" no_remote_input
}

LIMIT_killed_user=90
case_killed_user() {
    local real remote
    with_pad
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

# Its programs read more slowly than the pad works: the hub's buffer overruns.
LIMIT_overrun=120
case_overrun() {
    local real remote step moves=600
    with_pad
    borrow_pad
    hold
    kill -s STOP "$(pid_of hub)"
    {
        echo '1 30 0, 1 31 1, 3 47 0, 3 57 -1, 3 47 2, 3 57 8, 3 53 11, 3 54 12'
        for ((step = 1; step <= moves; step++)); do echo "2 0 $step, 2 1 1"; done
        echo '3 3 1234'
    } >"$CASE_DIR/orders"
    must_come 60 "the pad's last packet" state_has '(3, 1234)'
    state_has 'keys \[31\]' || fail "the hub's kernel has other keys: $(state "$real")"
    state_has '(57, \[-1, -1, 8, -1, -1\])' || fail "the hub's kernel has other contacts: $(state "$real")"
    [[ $(state "$real") != "$(state "$remote")" ]] || fail "the hub was not stopped"
    kill -s CONT "$(pid_of hub)"
    must_come 30 "the owner's state at the laptop" same_state
    must_come 10 "evtest's last packet" recorded remote '(ABS_RX), value 1234'
    (($(grep -c '(REL_X)' "$CASE_DIR/remote.log") < moves)) || fail "nothing was dropped"
    order '1 31 0'
    must_come 20 "the next release" recorded remote '(KEY_S), value 0'
}

state() { "$VM_TOOLS" --tool input-state "$1"; }
state_has() { state "$real" | grep -q "$1"; }
same_state() { [[ $(state "$real") == "$(state "$remote")" ]]; }

LIMIT_unplugged=120
case_unplugged() {
    local real remote
    with_pad
    # A program of the hub has it for itself.
    start other stdbuf -oL evtest --grab "$real"
    must_come 20 "evtest's grab" recorded other 'Testing ...'
    if laptop attach "hub/$PAD_ID" >"$CASE_DIR/refused.log" 2>&1; then fail "a grabbed device was given"; fi
    recorded refused "evtest (process $(pid_of other))" || fail "the refusal names nobody: $(<"$CASE_DIR/refused.log")"
    stop other

    # Now the laptop has.
    borrow_pad
    record real "$real"
    recorded real 'grabbed by another process' || fail "the hub's programs still have the device"
    hold
    stop pad
    must_come 30 "the key's release" recorded remote '(KEY_A), value 0'
    must_come 30 "the finger's end" recorded remote '(ABS_MT_TRACKING_ID), value -1'
    must_come 30 "the end of the remote pad" no_remote_input
    if recorded real '^Event:'; then fail "the hub's programs saw: $(grep -m 1 '^Event:' "$CASE_DIR/real.log")"; fi

    plug_pad
    borrow_pad
    record again "$remote"
    order '1 31 1'
    must_come 30 "a key of the pad that is back" recorded again '(KEY_S), value 1'
}

run_cases "$@"
