#!/bin/bash
# Either half killed at random moments, again and again: the kernel has nothing to complain about,
# the device goes home by itself, the next attach works.
source "${BASH_SOURCE[0]%/*}/lib.sh"
source "${BASH_SOURCE[0]%/*}/bridge.sh"

ROUNDS=$(rounds 4 25)
SEED=7575
MOMENTS=(attach transfer detach idle)

prepare() {
    modprobe vhci-hcd
    modprobe usb-storage
    # A disk is scanned at once instead of a second later.
    echo 0 >/sys/module/usb_storage/parameters/delay_use
    make_namespaces
}

# The owner's device; its place does not change, and a file test needs no process.
find_home() {
    # shellcheck disable=SC2086 # vendor and product are two words
    must_come 30 "the stick at its owner" home_with $STICK usb-storage
    # shellcheck disable=SC2086
    home=$(owned_usb $STICK)
    probed
}

is_home() { [[ $home/${home##*/}:1.0/driver -ef /sys/bus/usb/drivers/usb-storage ]]; }

remote_disk() {
    local blocks=(/sys/devices/platform/vhci_hcd.*/usb*/*-*/*:1.0/host*/target*/*/block/sd*)
    [[ -e ${blocks[0]} && -b /dev/${blocks[0]##*/} ]] || return 1
    disk=/dev/${blocks[0]##*/}
}

# daemon_says NAME TEXT TIMES: so often over all its lives. Asking it would start a program.
daemon_says() { [[ $(grep -c "$2" "$CASE_DIR/$1.log") -ge $3 ]]; }

# The next attach waits for the session by itself.
restart() {
    if [[ $1 == hub ]]; then
        as_hub serve --listen "$HUB_ADDRESS"
        start hub "${COMMAND[@]}"
        must_come 30 "the next server" daemon_says hub "server started" $((round + 1))
    else
        as_laptop client
        start laptop "${COMMAND[@]}"
        must_come 30 "the next client" daemon_says laptop "client started" $((round + 1))
    fi
}

# The stick is local and can be read.
have_stick() {
    laptop attach "hub/$STICK_ID" >>"$CASE_DIR/attach.log" 2>&1 ||
        fail "attach in round $round: $(tail -n 3 "$CASE_DIR/attach.log" | tr '\n' ' ')"
    must_come 30 "the remote disk in round $round" remote_disk
    dd if="$disk" of=/dev/null bs=512 count=1 iflag=direct status=none ||
        fail "the remote disk cannot be read in round $round"
}

quietly() { "$@" >>"$CASE_DIR/interrupted.log" 2>&1; }

# at_moment NAME: what is under way when the half is killed.
at_moment() {
    case $1 in
        attach)
            quietly laptop detach "hub/$STICK_ID"
            quietly laptop attach "hub/$STICK_ID" &
            ;;
        transfer) quietly dd if="$disk" of=/dev/null bs=64k iflag=direct & ;;
        detach) quietly laptop detach "hub/$STICK_ID" & ;;
        idle) true & ;;
    esac
    working=$!
}

# What the kernel rightly says of a device that is gone while it is enumerated, or read. Only on the
# buses of vhci, 3 to 18: the owner's stick never goes away.
allow_lost_device() {
    local bus='([3-9]|1[0-9])'
    allow_kernel "usb $bus-1?[0-9]: (device descriptor read/|device not accepting address)"
    allow_kernel "usb $bus-1?[0-9]: enqueue for inactive port"
    allow_kernel "usb $bus-1?[0-9]: (unable to (read|get) |can't (read|set) |string descriptor 0 read)"
    allow_kernel "usb usb$bus-port1?[0-9]: (attempt power cycle|unable to enumerate USB device)"
    allow_lost_disk
}

# kills HALF: one in each round, alternating in what it interrupts.
kills() {
    local half=$1 home disk='' round moment delay working began took worst=0
    RANDOM=$SEED
    echo "seed $SEED, $ROUNDS rounds"
    allow_lost_device
    bridge_up
    find_home
    share $STICK_ID
    # udev reads every new disk, which here costs more than all the rest of a round.
    udevadm control --stop-exec-queue
    for ((round = 1; round <= ROUNDS; round++)); do
        moment=${MOMENTS[round % 4]}
        delay=$((RANDOM % 600))
        have_stick
        at_moment "$moment"
        sleep "$(printf '0.%03d' $delay)"
        kill -KILL "$(pid_of "$half")"
        began=$(now_ms)
        until is_home; do
            (($(now_ms) - began < 30000)) || fail "no driver in round $round, killed in $moment"
            sleep 0.02
        done
        took=$(($(now_ms) - began))
        echo "round $round: killed in $moment after $delay ms, home after $took ms"
        ((took <= worst)) || worst=$took
        wait "$working" || true
        must_come 10 "the end of the $half" stopped "$half"
        restart "$half"
    done
    udevadm control --start-exec-queue
    have_stick
    # shellcheck disable=SC2086
    detach $STICK_ID $STICK usb-storage
    expect_eq "vhci ports in use" 0 "$(ports_in_use)"
    ((worst <= HOME_WITHIN_MS)) || fail "a device needed $worst ms to be home"
}

LIMIT_server=400
case_server() { kills hub; }

LIMIT_client=400
case_client() { kills laptop; }

run_cases "$@"
