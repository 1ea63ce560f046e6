#!/bin/bash
# The second of two guests: a laptop that uses the stick of the first over a real network card.
source "${BASH_SOURCE[0]%/*}/lib.sh"

LAPTOP=("$MYCLERK" --state "$WORK/state" --run "$WORK/run")

tell_the_hub() { touch "$LAB_SHARED/done"; }

connected() { "${LAPTOP[@]}" status --json | jq -e 'any(.. | objects; .link? == "connected")'; }

hub_speaks() { [[ -s $LAB_SHARED/token || -s $LAB_SHARED/failure ]]; }

LIMIT_ping=60
case_ping() {
    must_come 50 "an answer of the first guest" ping -c 1 -W 1 10.78.0.1
}

LIMIT_storage_read=240
case_storage_read() {
    local disk where
    modprobe vhci-hcd
    must_come 180 "the hub's token" hub_speaks
    [[ -s $LAB_SHARED/token ]] || fail "the first guest: $(<"$LAB_SHARED/failure")"
    "${LAPTOP[@]}" join "$(<"$LAB_SHARED/token")" 10.78.0.1:7575 --name laptop >"$CASE_DIR/join.log" 2>&1
    start laptop "${LAPTOP[@]}" client
    must_come 60 "a session with the hub" connected
    "${LAPTOP[@]}" attach hub/usb:46f4:0001:LABSTICK1 >"$CASE_DIR/attach.log" 2>&1
    must_come 60 "the remote stick" remote_usb 46f4 0001
    where=$(remote_usb 46f4 0001)
    must_come 60 "the remote disk" node_below "$where" block
    disk=$(node_below "$where" block)
    probed
    expect_eq "the hash of what the hub wrote" "$(cut -d' ' -f1 "$LAB_SHARED/sum")" \
        "$(dd if="$disk" bs=1M count=4 iflag=direct status=none | sha256sum | cut -d' ' -f1)"
    "${LAPTOP[@]}" detach --all >>"$CASE_DIR/attach.log" 2>&1
    must_come 30 "the end of the remote stick" gone
}

gone() { ! remote_usb 46f4 0001; }

if [[ ${1:-} != --one ]]; then
    trap tell_the_hub EXIT
    read -r -a cases <<<"$LAB_CASES"
    set -- "${cases[@]}"
fi
run_cases "$@"
