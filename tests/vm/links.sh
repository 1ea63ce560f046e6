#!/bin/bash
# Links that break while a disk is written and read: a pause for programs, and every byte right.
source "${BASH_SOURCE[0]%/*}/lib.sh"
source "${BASH_SOURCE[0]%/*}/bridge.sh"

CUTS=$(rounds 8 1000)
MIB=$(rounds 8 60)
SEED=7575

prepare() {
    modprobe vhci-hcd
    modprobe usb-storage
    modprobe tcp_diag
    # A disk is scanned at once instead of a second later.
    echo 0 >/sys/module/usb_storage/parameters/delay_use
    make_namespaces
}

sessions() { grep -c ' connected node=' "$CASE_DIR/laptop.log"; }
resumed() { grep -c 'the device goes on' "$CASE_DIR/laptop.log"; }
has_more() { (($("$1") > $2)); }

# The laptop's kernel ends the connection; the hub hears of it unless the link is down.
break_connection() { on_cli ss -K dst "$SRV_ADDRESS" dport = $PORT >/dev/null; }

# cut MS: the connection breaks. Without a time both ends hear of it; with one the link is down for so
# long, and the hub goes on believing in the old session.
cut() {
    local before
    before=$(resumed) || true
    if (($1 == 0)); then
        break_connection
    else
        on_cli ip link set veth-cli down
        break_connection
        sleep "$(printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)))"
        on_cli ip link set veth-cli up
    fi
    began=$(now_ms)
    must_come 60 "the device after cut $round" has_more resumed "$before"
    took=$(($(now_ms) - began))
}

# Writes what nobody can guess and reads it back, for as long as the file `more` is there.
write_and_read() {
    local pass=0
    while [[ -e $CASE_DIR/more || $pass == 0 ]]; do
        head -c "${MIB}M" /dev/urandom >"$CASE_DIR/content"
        dd if="$CASE_DIR/content" of="$disk" bs=64k oflag=direct conv=fsync status=none || return 1
        dd if="$disk" bs=64k count=$((MIB * 16)) iflag=direct status=none |
            cmp - "$CASE_DIR/content" || return 1
        pass=$((pass + 1))
        echo "$pass" >"$CASE_DIR/passes"
    done
}

LIMIT_cuts=400
case_cuts() {
    local disk='' round began took all=() length port
    RANDOM=$SEED
    echo "seed $SEED, $CUTS cuts"
    bridge_up
    # shellcheck disable=SC2086 # vendor and product are two words
    must_come 30 "the stick at its owner" home_with $STICK usb-storage
    share $STICK_ID
    attach_with_disk
    port=$(vhci_ports)
    expect_eq "seconds that the kernel waits for the disk" 90 "$(cat "/sys/block/${disk##*/}/device/timeout")"
    touch "$CASE_DIR/more"
    write_and_read >"$CASE_DIR/writing.log" 2>&1 &
    writer=$!
    for ((round = 1; round <= CUTS; round++)); do
        sleep "$(printf '0.%03d' $((RANDOM % 1000)))"
        length=0
        ((round % 3)) || length=$((RANDOM % 1500 + 100))
        cut $length
        all+=("$took")
    done
    # Longer than the kernel waits for an ordinary disk.
    [[ -z ${LAB_THOROUGH:-} ]] || cut 40000
    rm "$CASE_DIR/more"
    wait "$writer" || fail "the disk was not written or read: $(tail -n 2 "$CASE_DIR/writing.log")"
    echo "measured: $(cat "$CASE_DIR/passes") times $MIB MiB written and read during $CUTS cuts"
    printf '%s\n' "${all[@]}" | sort -n |
        awk '{ t[NR] = $1 } END { print "measured: the device goes on so many ms after the link is back: least " t[1] ", median " t[int((NR + 1) / 2)] ", most " t[NR] }'
    expect_eq "the port" "$port" "$(vhci_ports)"
    expect_eq "USB disks that this machine ever saw" 1 \
        "$(kernel_log cuts | grep -c 'vhci_hcd.*Device attached')"
    grep -q 'resumed=true' "$CASE_DIR/hub.log" || fail "no session was resumed"
    # shellcheck disable=SC2086
    detach $STICK_ID $STICK usb-storage
}

# Which ports are in use.
vhci_ports() { awk '$1 != "hub" && $3 != "004" { print $2 }' /sys/devices/platform/vhci_hcd.0/status*; }

run_cases "$@"
