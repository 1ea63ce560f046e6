#!/bin/bash
# A PWM chip of the hub (tests/vm/boot/pwm-lab.c), run by the laptop.
source "${BASH_SOURCE[0]%/*}/lib.sh"
source "${BASH_SOURCE[0]%/*}/bridge.sh"

CLASS=/sys/class/pwm

prepare() {
    modprobe pwm-lab
    make_namespaces
}

chip_up() {
    bridge_up
    CHIP=$(basename $CLASS/pwmchip*)
    ID=pwm:$CHIP
    share "$ID"
}

# there CHANNEL: period and duty cycle in ns, polarity and whether it runs, by the hub's kernel;
# false when nobody has it.
there() {
    local channel=$CLASS/$CHIP/pwm$1
    [[ -e $channel ]] || return 1
    echo "$(<"$channel/period") $(<"$channel/duty_cycle") $(<"$channel/polarity") $(<"$channel/enable")"
}

# run CHANNEL OPTION...
run() { laptop pwm "hub/$ID" "$@" >"$CASE_DIR/pwm.log" 2>&1; }
must_run() { run "$@" || fail "pwm $*: $(tail -n 1 "$CASE_DIR/pwm.log")"; }

# refused WHAT TEXT CHANNEL OPTION...
refused() {
    local what=$1 text=$2
    shift 2
    if run "$@"; then fail "$what was accepted"; fi
    grep -q "$text" "$CASE_DIR/pwm.log" || fail "$what: $(<"$CASE_DIR/pwm.log")"
}

is_free() { ! there "$1"; }
is_attached() { laptop status --json | jq -e --arg device "$ID" 'any(.client.attached[]; .device == $device)'; }
is_detached() { ! is_attached; }

case_channel() {
    chip_up
    hub list --local | grep -q 'pwm-lab' || fail "the list does not name the chip's device"
    must_run 0 --period 20ms --duty 1.5ms
    expect_eq "channel 0" "20000000 1500000 normal 1" "$(there 0)"
    must_run 0 --period 20ms --duty 1.8ms
    expect_eq "its new duty cycle" "20000000 1800000 normal 1" "$(there 0)"
    must_run 1 --period 40us --duty 10us --polarity inversed
    expect_eq "channel 1" "40000 10000 inversed 1" "$(there 1)"
    # A shorter period than the duty cycle that was.
    must_run 0 --period 1ms --duty 250us --polarity inversed
    expect_eq "another period" "1000000 250000 inversed 1" "$(there 0)"

    refused "a channel that is not there" 'the chip has 2' 2 --period 1ms --duty 0ms
    refused "a duty cycle above the period" 'longer than the period' 1 --period 1ms --duty 2ms
    refused "a period that the chip cannot do" 'cannot do a period of 500 ns' 1 --period 500ns --duty 1ns
    expect_eq "channel 0 after what was refused" "1000000 250000 inversed 1" "$(there 0)"

    must_run 0 --off
    must_come 20 "the end of channel 0" is_free 0
    # A program of the hub has it.
    echo 0 >$CLASS/"$CHIP"/export
    refused "a channel that is in use" 'in use at its owner' 0 --period 1ms --duty 0ms
    echo 0 >$CLASS/"$CHIP"/unexport
    must_run 0 --period 1ms --duty 1ms
    is_attached || fail "a chip that runs is not shown as attached"
    laptop detach "hub/$ID"
    must_come 20 "the end of both channels" is_free 0
    is_free 1 || fail "channel 1 is not given back"
    must_come 20 "the end of the attachment" is_detached
}

case_cut() {
    chip_up
    must_run 0 --period 20ms --duty 1ms
    must_run 1 --period 20ms --duty 2ms --hold
    stop laptop KILL
    must_come 60 "the end of channel 0" is_free 0
    expect_eq "the channel that is held" "20000000 2000000 normal 1" "$(there 1)"
    # It can be had again, and ended.
    start_laptop
    must_run 1 --period 20ms --duty 3ms
    expect_eq "the channel that was held" "20000000 3000000 normal 1" "$(there 1)"
    must_run 1 --off
    must_come 20 "the end of channel 1" is_free 1
}

run_cases "$@"
