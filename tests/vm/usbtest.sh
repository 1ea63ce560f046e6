#!/bin/bash
# The kernel's own conformance tests, testusb and usbtest, on its SourceSink gadget: at the device's
# owner, and over the bridge. What passes there has to pass here. `scripts/conformance` makes the
# table of docs/usb.md from the lines RESULT speed way case verdict.
source "${BASH_SOURCE[0]%/*}/lib.sh"
source "${BASH_SOURCE[0]%/*}/bridge.sh"
source "${BASH_SOURCE[0]%/*}/configfs.sh"

# usbtest without isochronous (15, 16, 22, 23) and interrupt (25, 26) endpoints, which dummy_hcd and
# the SourceSink function do not have.
CASES="0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 17 18 19 20 21 24 27 28 29"
UNLINK_CASES="11 12 24"
UNLINK_ROUNDS=$(rounds 3 20)
ITERATIONS=${USBTEST_ITERATIONS:-4}

# Two gadgets: one that checks a pattern in what it gets and sends it, so that misplaced bytes are
# seen, and one of zeroes for the two throughput cases, which run only without a pattern.
PATTERNED=PATTERN1
PLAIN=PLAIN1

# A discard that meets dummy_hcd's timer at work makes the timer fire once more, with nothing to do.
DUMMY_NOISE='dummy_hcd.*timer fired with no URBs pending'

prepare() {
    modprobe vhci-hcd
    modprobe usbtest pattern=1
    configfs_up 2
    make_namespaces
}

gadgets_at() {
    local name number=0 pattern=1 function
    for name in $PATTERNED $PLAIN; do
        make_gadget $name 0525 a4a0 "$1"
        add_function $name SourceSink.0
        echo $pattern >"$function/pattern"
        link_functions $name
        plug $name $number
        number=$((number + 1)) pattern=0
    done
}

# The parameters of a case. Reads are of whole packets, or they would overflow, and so are the parts
# of a scatter list; other writes and control data are of odd lengths. Case 10 has 16 kinds of
# control request, which takes as many at once.
parameters_of() {
    case $1 in
        3) echo -s 2048 -v 421 ;;
        10) echo -g 32 ;;
        14 | 21) echo -s 1000 -v 13 ;;
        *) echo -s 2048 -v 1024 -g 8 ;;
    esac
}

# run_case CASE NODE: pass, absent (the driver has no such case for the device), or the error.
run_case() {
    local out
    # It opens every device of the directory.
    # shellcheck disable=SC2046 # several words
    out=$("$LAB_TOOLS/testusb" -A "${2%/*}" -D "$2" -t "$1" -c "$ITERATIONS" $(parameters_of "$1") 2>&1) || true
    case $out in
        *"test $1,"*secs*) echo pass ;;
        *"test $1 -->"*) echo "${out##*--> }" ;;
        *) echo absent ;;
    esac
}

# run_all SPEED WAY WHERE CASES: verdicts in `verdict`.
run_all() {
    local number node pattern patterned plain
    patterned=$(usbfs_node "$(by_serial "$3" $PATTERNED)")
    plain=$(usbfs_node "$(by_serial "$3" $PLAIN)")
    for number in $4; do
        node=$patterned pattern=1
        [[ $number != 2[78] ]] || node=$plain pattern=0
        echo $pattern >/sys/module/usbtest/parameters/pattern
        verdict[number]=$(run_case "$number" "$node")
        echo "RESULT $1 $2 $number ${verdict[number]}"
    done
}

bound() { has_driver "$(by_serial "$1" "$2")" usbtest; }

attach_gadgets() {
    local serial
    bridge_up
    for serial in $PATTERNED $PLAIN; do
        share usb:0525:a4a0:$serial
        laptop attach hub/usb:0525:a4a0:$serial >>"$CASE_DIR/attach.log" 2>&1 ||
            fail "attach: $(tail -n 1 "$CASE_DIR/attach.log")"
        must_come 30 "usbtest on the remote $serial" bound /vhci_hcd $serial
    done
}

detach_gadgets() {
    local serial
    for serial in $PATTERNED $PLAIN; do
        laptop detach hub/usb:0525:a4a0:$serial >>"$CASE_DIR/attach.log" 2>&1
        must_come 30 "usbtest on the owner's $serial" bound /dummy_hcd $serial
        drop_gadget $serial
    done
}

# speed_case SPEED NUMBER-OF-MBITS
speed_case() {
    local -a verdict=() direct=()
    local number failed='' round
    allow_kernel "$DUMMY_NOISE"
    gadgets_at "$1-speed"
    for number in $PATTERNED $PLAIN; do
        must_come 30 "usbtest on the owner's $number" bound /dummy_hcd "$number"
        expect_eq "the gadget's speed" "$2" "$(<"$(by_serial /dummy_hcd "$number")/speed")"
    done
    run_all "$1" direct /dummy_hcd "$CASES"
    direct=("${verdict[@]}")
    # Otherwise the comparison would say nothing.
    for number in $CASES; do
        [[ ${verdict[number]} == pass ]] || failed+=" $number: ${verdict[number]};"
    done
    [[ -z $failed ]] || fail "not passed at the owner:$failed"

    attach_gadgets
    for number in $PATTERNED $PLAIN; do
        expect_eq "the remote device's speed" "$2" "$(<"$(by_serial /vhci_hcd "$number")/speed")"
    done
    run_all "$1" bridged /vhci_hcd "$CASES"
    for number in $CASES; do
        [[ ${verdict[number]} == pass ]] || failed+=" $number: ${verdict[number]};"
    done
    [[ -z $failed ]] || fail "passed at the owner, not over the bridge:$failed"
    for ((round = 1; round <= UNLINK_ROUNDS; round++)); do
        run_all "$1" "unlink-$round" /vhci_hcd "$UNLINK_CASES"
        for number in $UNLINK_CASES; do
            [[ ${verdict[number]} == pass ]] ||
                fail "round $round, case $number over the bridge: ${verdict[number]}"
        done
    done
    detach_gadgets
}

LIMIT_high_speed=600
case_high_speed() { speed_case high 480; }

LIMIT_super_speed=600
case_super_speed() { speed_case super 5000; }

# The kernel's own usbip over TCP, for the table alone: nothing judges it. It can end this kernel or
# stop for ever, so every case is announced, and after the first crash the guest is left, to be
# booted again for what remains: USBTEST_REST, words of the form case or case:round.
LIMIT_kernel_usbip=900
case_kernel_usbip() {
    local speed=${USBTEST_SPEED:-high} serial busid word number
    modprobe usbip-host
    gadgets_at "$speed-speed"
    start usbipd usbipd
    must_come 10 "usbipd" grep -q 'listening' "$CASE_DIR/usbipd.log"
    for serial in $PATTERNED $PLAIN; do
        must_come 30 "usbtest on the owner's $serial" bound /dummy_hcd $serial
        busid=$(basename "$(by_serial /dummy_hcd $serial)")
        usbip bind -b "$busid" >>"$CASE_DIR/usbip.log" 2>&1
        usbip attach -r 127.0.0.1 -b "$busid" >>"$CASE_DIR/usbip.log" 2>&1
        must_come 30 "usbtest on the remote $serial" bound /vhci_hcd $serial
    done
    for word in ${USBTEST_REST:-$CASES}; do
        number=${word%:*}
        echo "BEGINS $word"
        # The log of all that usbip says would be long to search.
        dmesg --clear
        echo "lab: case usbip-$word begins" >/dev/kmsg
        rm -f "$CASE_DIR/verdict"
        run_all "$speed" usbip /vhci_hcd "$number" >"$CASE_DIR/verdict" &
        if ! wait_for 60 test -s "$CASE_DIR/verdict"; then
            echo "VERDICT $word hangs"
            give_up
        fi
        if kernel_complaints "usbip-$word" | grep -E 'BUG|Oops|WARNING|general protection'; then
            echo "VERDICT $word kernel oops"
            give_up
        fi
        if ! bound /vhci_hcd $PATTERNED; then
            echo "VERDICT $word connection lost"
            give_up
        fi
        echo "VERDICT $word $(cut -d' ' -f5- <"$CASE_DIR/verdict")"
    done
    give_up
}

# Nothing can be stopped in order any more.
give_up() {
    sleep 1
    echo b >/proc/sysrq-trigger
}

run_cases "$@"
