#!/bin/bash
# Guests that misbehave, to prove that the harness notices.
source "${BASH_SOURCE[0]%/*}/lib.sh"

case_passing() { true; }

case_warning() {
    echo "WARNING: CPU: 0 PID: 1 at drivers/usb/usbip/vhci_hcd.c:1 detector" >/dev/kmsg
}

case_error_level() { echo "<3>detector: an error without a known word" >/dev/kmsg; }

case_failing_command() {
    grep -q nothing /dev/null
    true
}

LIMIT_slow=3
case_slow() { sleep 600; }

# Nothing in the guest goes on from here: the result line never comes.
LIMIT_hang=3
case_hang() {
    kill -STOP "$PPID" "$(ps -o ppid= -p "$PPID")"
    sleep 600
}

case_panic() { echo c >/proc/sysrq-trigger; }

run_cases "$@"
