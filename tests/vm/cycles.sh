#!/bin/bash
# One device taken and given back many times: nothing stays behind.
source "${BASH_SOURCE[0]%/*}/lib.sh"
source "${BASH_SOURCE[0]%/*}/bridge.sh"

CYCLES=$(rounds 12 200)
# Both daemons have everything that they will ever need after so many of them.
WARM=20
# What a daemon may have more in the end: caches that fill up, pages that its heap keeps.
MORE_KIB=768

prepare() {
    modprobe vhci-hcd
    make_namespaces
}

# usage NAME: resident memory in KiB, open files and threads of a daemon.
usage() {
    local pid
    pid=$(pid_of "$1")
    echo "$(awk '/^VmRSS/ { print $2 }' "/proc/$pid/status")" \
        "$(find "/proc/$pid/fd" -mindepth 1 | wc -l)" \
        "$(find "/proc/$pid/task" -mindepth 1 -maxdepth 1 | wc -l)"
}

# flat NAME BEFORE: a daemon's usage is what it was, but for a little memory.
flat() {
    local name=$1 memory files threads memory_then files_then threads_then
    read -r memory_then files_then threads_then <<<"$2"
    read -r memory files threads <<<"$(usage "$name")"
    echo "$name: $2 -> $memory $files $threads (KiB, files, threads)"
    ((files <= files_then + 1)) || fail "$name has $files open files instead of $files_then"
    # Threads that wait for the kernel end ten seconds after their last work.
    ((threads <= threads_then + 2)) || fail "$name has $threads threads instead of $threads_then"
    ((memory <= memory_then + MORE_KIB)) || fail "$name grew from $memory_then to $memory KiB"
}

# udev hears of every device as before but has nothing to do for it: its rules would take most of an
# emulated processor's time.
without_udev_rules() {
    mount -t tmpfs none /usr/lib/udev/rules.d
    mount -t tmpfs none /run/udev/rules.d
    udevadm control --reload
}

with_udev_rules() {
    umount /usr/lib/udev/rules.d /run/udev/rules.d
    udevadm control --reload
}

LIMIT_cycles=600
case_cycles() {
    local taken=0 owned hub_then laptop_then
    # A device that is given back while its driver still sets it up: ftdi_sio waits five seconds for an
    # answer that cannot come, because its probing keeps the hub from noticing the disconnection.
    allow_kernel 'ftdi_sio ttyUSB[0-9]+: Unable to (read|write) latency timer: -(19|110)'
    allow_kernel 'usb [0-9]+-1?[0-9]: enqueue for inactive port'
    bridge_up
    share $ADAPTER_ID
    # shellcheck disable=SC2086 # vendor and product are two words
    owned=$(owned_usb $ADAPTER)
    without_udev_rules
    while ((taken < CYCLES)); do
        "$VM_TOOLS" --tool take "$CASE_DIR/run-laptop" $ADAPTER_ID "$owned/${owned##*/}:1.0/driver" $WARM \
            >"$CASE_DIR/take.log" 2>&1 || fail "after $taken cycles: $(tail -n 1 "$CASE_DIR/take.log")"
        ((taken += WARM))
        echo "after $taken cycles in $SECONDS s: hub $(usage hub), laptop $(usage laptop)"
        [[ -n ${hub_then:-} ]] || hub_then=$(usage hub)
        [[ -n ${laptop_then:-} ]] || laptop_then=$(usage laptop)
    done
    flat hub "$hub_then"
    flat laptop "$laptop_then"
    must_come 30 "the freedom of all ports" all_ports_free
    with_udev_rules
}

run_cases "$@"
