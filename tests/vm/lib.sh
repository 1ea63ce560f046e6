# Sourced by the guest scripts. Each of them defines functions `case_NAME` and ends with
# `run_cases "$@"`; the arguments are the cases wanted.
#
# Lines for the host (tests/vm/guest.rs reads them):
#   BEGIN name seconds        a case starts and ends within so many seconds
#   CASE name ok|FAIL reason  its result
#   QMP json                  a command for this guest's QEMU
#   DONE                      the script has run all of them

set -euo pipefail

SCRIPT=$(realpath "$0")
WORK=${LAB_WORK:-/run/cases}
CASE_LIMIT=90

# Log lines are searched for words.
export NO_COLOR=1

# --- cases --------------------------------------------------------------------------------------

fail() {
    echo "$1" >"$CASE_DIR/reason"
    exit 1
}

# expect_eq WHAT WANTED FOUND
expect_eq() {
    [[ $2 == "$3" ]] || fail "$1: expected '$2', found '$3'"
}

# wait_for SECONDS COMMAND...: until it succeeds; false when the time is over.
wait_for() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || return 1
        sleep 0.1
    done
}

# must_come SECONDS WHAT COMMAND...: the same, and the case fails without it.
must_come() {
    local limit=$1 what=$2
    shift 2
    wait_for "$limit" "$@" || fail "$what did not come within $limit s"
}

# rounds USUAL THOROUGH: how often something is repeated (MYCLERK_VM_THOROUGH).
rounds() { if [[ -n ${LAB_THOROUGH:-} ]]; then echo "$2"; else echo "$1"; fi; }

# The guest's time in milliseconds.
now_ms() {
    local now=$EPOCHREALTIME
    echo $((${now/./} / 1000))
}

# must FAIL-TEXT COMMAND...
must() {
    local what=$1
    shift
    "$@" || fail "$what: '$*' ended with $?"
}

limit_of() {
    local name=LIMIT_${1}
    echo "${!name:-$CASE_LIMIT}"
}

run_cases() {
    if [[ ${1:-} == --one ]]; then
        one_case "$2"
        return
    fi
    mkdir -p "$WORK"
    if declare -F prepare >/dev/null; then prepare; fi
    local name
    for name in "$@"; do judge "$name"; done
    echo DONE
}

# Runs one case in a process of its own and prints its result.
judge() {
    local name=$1 limit status=0 reason='' complaint
    export CASE_DIR=$WORK/$name
    mkdir -p "$CASE_DIR"
    limit=$(limit_of "$name")
    echo "BEGIN $name $limit"
    echo "lab: case $name begins" >/dev/kmsg
    timeout -k 10 "$limit" bash "$SCRIPT" --one "$name" 2>&1 || status=$?
    # Threads of the kernel that end after the case's last command still belong to it.
    udevadm settle --timeout=20 || true
    if [[ $status -eq 124 || $status -eq 137 ]]; then
        reason="ran longer than $limit s"
    elif [[ $status -ne 0 ]]; then
        reason=$(head -n 1 "$CASE_DIR/reason" 2>/dev/null || echo "ended with $status")
    elif [[ -s $CASE_DIR/unclean ]]; then
        reason=$(head -n 1 "$CASE_DIR/unclean")
    fi
    complaint=$(kernel_complaints "$name")
    if [[ -n $complaint ]]; then
        reason="${reason:+$reason; }the kernel said: ${complaint%%$'\n'*}"
        printf 'kernel: %s\n' "$complaint"
    fi
    if [[ -n $reason ]]; then
        dump_logs
        echo "CASE $name FAIL $reason"
    else
        echo "CASE $name ok"
    fi
}

one_case() {
    set -E
    trap 'case_broke "$BASH_COMMAND" "$LINENO" "${FUNCNAME[*]}"' ERR
    trap 'set +e; trap - ERR; stop_all' EXIT
    trap 'exit 143' TERM
    "case_$1"
}

case_broke() {
    local status=$?
    # A subshell's failure may be handled; if it is not, its caller fails too.
    [[ $BASH_SUBSHELL -eq 0 ]] || return 0
    [[ -s $CASE_DIR/reason ]] || echo "'$1' ended with $status (line $2, in $3)" >"$CASE_DIR/reason"
}

# What the case's daemons and tools left behind.
dump_logs() {
    local log
    for log in "$CASE_DIR"/*.log; do
        [[ -s $log ]] || continue
        echo "--- ${log##*/}"
        tail -n 40 "$log"
    done
    echo "--- kernel"
    kernel_log "${name:-}" | tail -n 40
}

# --- kernel -------------------------------------------------------------------------------------

# The kernel's messages since the case began, each with facility and level in front.
kernel_log() {
    dmesg -x | awk -v mark="lab: case $1 begins" 'seen; index($0, mark) { seen = 1 }'
}

# Complaints at any level; error level and above is one by itself.
KERNEL_COMPLAINTS='WARNING|BUG|Oops|[Ll]ockdep|BOGUS|general protection|unable to handle'
KERNEL_COMPLAINTS+='|circular locking|suspicious RCU|blocked for more than|rcu.*stall|soft lockup'
KERNEL_COMPLAINTS+='|refcount_t|use-after-free|scheduling while atomic|Call Trace|UBSAN|KASAN'
KERNEL_COMPLAINTS+='|vhci_hcd.*(unknown|cannot|fail|error|invalid)|usbip_core.*(fail|error|invalid)'
KERNEL_COMPLAINTS+='|device descriptor read|not accepting address|unable to enumerate'
KERNEL_COMPLAINTS+='|I/O error|EXT4-fs (error|warning)|did not claim interface'

# vhci says this of every full-speed device before its first reset (vhci_hub_control()).
KERNEL_NOISE='vhci_hcd: vhci_device speed not set'
# Detaching shuts the port's socket before it stops the thread that writes to it
# (vhci_shutdown_connection()): a request that a driver makes in between finds it shut.
KERNEL_NOISE+='|vhci_hcd: sendmsg failed!, ret=-32 for 48'

kernel_complaints() {
    local allowed=$KERNEL_NOISE
    [[ ! -s $CASE_DIR/allowed ]] || allowed+="|$(paste -sd '|' "$CASE_DIR/allowed")"
    kernel_log "$1" |
        grep -E "^[a-z]+ *:(emerg|alert|crit|err) |$KERNEL_COMPLAINTS" |
        grep -vE "$allowed" || true
}

# A complaint that is right in this case, as an extended regular expression.
allow_kernel() { echo "$1" >>"$CASE_DIR/allowed"; }

# --- two machines in one kernel -----------------------------------------------------------------

SRV_ADDRESS=10.77.0.1
CLI_ADDRESS=10.77.0.2

make_namespaces() {
    ip netns add srv
    ip netns add cli
    ip link add veth-srv netns srv type veth peer name veth-cli netns cli
    ip -n srv address add $SRV_ADDRESS/24 dev veth-srv
    ip -n cli address add $CLI_ADDRESS/24 dev veth-cli
    local side
    for side in srv cli; do
        ip -n $side link set lo up
        ip -n $side link set "veth-$side" up
    done
}

on_srv() { ip netns exec srv "$@"; }
on_cli() { ip netns exec cli "$@"; }

# --- processes ----------------------------------------------------------------------------------

# start NAME COMMAND...: in the background, output to NAME.log; stopped when the case ends.
start() {
    local name=$1
    shift
    # The shell lets its background processes ignore Ctrl-C, which is what `stop` sends.
    env --default-signal=INT,QUIT "$@" >>"$CASE_DIR/$name.log" 2>&1 </dev/null &
    echo $! >"$CASE_DIR/$name.pid"
}

pid_of() { cat "$CASE_DIR/$1.pid"; }

running() { kill -0 "$(pid_of "$1")" 2>/dev/null; }

stopped() { ! running "$1"; }

# stop NAME [SIGNAL]: and waits; a process that stays fails the case.
stop() {
    local pid
    pid=$(pid_of "$1")
    kill -s "${2:-INT}" "$pid" 2>/dev/null || true
    wait_for 20 stopped "$1" || {
        where_threads_are "$pid" >"$CASE_DIR/$1.threads.log" 2>&1
        fail "the end of $1 did not come within 20 s"
    }
    rm "$CASE_DIR/$1.pid"
}

# where_threads_are PID: what keeps a process that should have ended.
where_threads_are() {
    local task
    for task in "/proc/$1/task"/*; do
        echo "$(basename "$task") $(cat "$task/comm") $(cat "$task/wchan") $(cat "$task/syscall")"
        cat "$task/stack"
    done
    grep -E '^(Sig|Shd)' "/proc/$1/status"
}

# At a case's end, failed or not: clients go before servers, so newest first.
stop_all() {
    local file pid
    for file in $(ls -t "$CASE_DIR"/*.pid 2>/dev/null); do
        pid=$(cat "$file")
        kill -s INT "$pid" 2>/dev/null || continue
        wait_for 15 process_gone "$pid" || {
            echo "$(basename "$file" .pid) did not end when asked to" >"$CASE_DIR/unclean"
            kill -s KILL "$pid" 2>/dev/null
        }
    done
}

process_gone() { ! kill -0 "$1" 2>/dev/null; }

# --- devices ------------------------------------------------------------------------------------

# The sysfs directory of a USB device by vendor and product, at its owner or as vhci made it.
owned_usb() { usb_in '/pci|/dummy_hcd' "$1" "$2"; }
remote_usb() { usb_in '/vhci_hcd' "$1" "$2"; }

usb_in() {
    local entry path
    for entry in /sys/bus/usb/devices/*; do
        [[ -e $entry/idVendor ]] || continue
        path=$(realpath "$entry")
        if [[ $path =~ $1 && $(<"$path/idVendor") == "$2" && $(<"$path/idProduct") == "$3" ]]; then
            echo "$path"
            return 0
        fi
    done
    return 1
}

# by_serial CONTROLLER SERIAL: the same by serial number, at one kind of controller: /pci, /dummy_hcd
# or /vhci_hcd.
by_serial() {
    local entry path
    for entry in /sys/bus/usb/devices/*/serial; do
        [[ $(<"$entry") == "$2" ]] || continue
        path=$(dirname "$(realpath "$entry")")
        if [[ $path == *"$1"* ]]; then
            echo "$path"
            return 0
        fi
    done
    return 1
}

# The driver of a device's first interface; false without one.
driver_of() {
    local link
    link=$(realpath -e "$1":*.0/driver 2>/dev/null || realpath -e "$1"/*:1.0/driver) || return 1
    basename "$link"
}

has_driver() { [[ $(driver_of "$1") == "$2" ]]; }

# The device node of a class below a sysfs directory: node_below DIR block|tty|input
node_below() {
    local found
    found=$(find "$1/" -path "*/$2/*" -name dev 2>/dev/null | sort | head -n 1)
    [[ -n $found ]] || return 1
    found=$(sed -n 's/^DEVNAME=//p' "${found%/dev}/uevent")
    [[ -b /dev/$found || -c /dev/$found ]] || return 1
    echo "/dev/$found"
}

# Every port of vhci is free. Controllers after the first have a status file each.
all_ports_free() {
    ! awk '$3 ~ /^[0-9]+$/ && $3 != 4' /sys/devices/platform/vhci_hcd.0/status* | grep -q .
}

# udev reads a new disk's signatures; taken away under it, the kernel rightly reports I/O errors.
probed() { udevadm settle --timeout=30; }

# watch_bus NAME DIR: usbmon's text trace of the bus that a device is on, from now on in NAME.log.
watch_bus() {
    local trace
    trace=/sys/kernel/debug/usb/usbmon/$(<"$2/busnum")u
    start "$1" cat "$trace"
    must_come 10 "the trace of bus ${trace##*/}" has_open "$1" "$trace"
}

has_open() { readlink "/proc/$(pid_of "$1")/fd/"* | grep -qx "$2"; }

qmp() { echo "QMP $*"; }
