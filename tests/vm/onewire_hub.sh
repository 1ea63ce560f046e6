#!/bin/bash
# The first of two guests: a hub with ten thermometers at an adapter, for as long as the other guest
# needs it. That one gives orders by files of the directory that both can write.
source "${BASH_SOURCE[0]%/*}/lib.sh"

export CASE_DIR=$WORK/hub
mkdir -p "$CASE_DIR"
trap 'set +e; stop_all; dump_logs' EXIT
trap 'case_broke "$BASH_COMMAND" "$LINENO" "onewire_hub.sh"; tell_the_laptop' ERR

tell_the_laptop() {
    cp "$CASE_DIR/reason" "$LAB_SHARED/failure"
    wait_for 240 test -e "$LAB_SHARED/done"
}

HUB=("$MYCLERK" --state "$CASE_DIR/state" --run "$CASE_DIR/run")
BUS=onewire:w1_bus_master1
DEVICES=/sys/bus/w1/devices

start_hub() {
    start hub "${HUB[@]}" serve --listen 10.78.0.1:7575
    must_come 60 "the hub's control socket" "${HUB[@]}" status
}

plug_in() {
    start wire "$VM_TOOLS" --tool onewire-bus "$CASE_DIR/orders" 10
    must_come 60 "the bus" test -e $DEVICES/w1_bus_master1
}

# wire ORDER...: to the bus, and waits for its answer.
wire() {
    local before
    before=$(grep -cFx "$*" "$CASE_DIR/wire.log" || true)
    echo "$*" >"$CASE_DIR/orders"
    must_come 20 "the bus' answer" answered "$before" "$*"
}

answered() { [[ $(grep -cFx "$2" "$CASE_DIR/wire.log") -gt $1 ]]; }

order_wire() { wire "$@"; }
order_hub_killed() { stop hub KILL; }
order_hub_back() { start_hub; }
order_unplugged() { stop wire; }
order_plugged_in() { plug_in; }
# What was done on the bus since the last such order, without the searches of both kernels.
order_log() {
    local lines
    lines=$(grep -c '^did ' "$CASE_DIR/wire.log" || true)
    wire log
    grep '^did ' "$CASE_DIR/wire.log" | tail -n +$((lines + 1)) | grep -v search >"$LAB_SHARED/log" || true
}

modprobe -a vhci-hcd ds2490 w1_therm
mkfifo "$CASE_DIR/orders"
plug_in
"${HUB[@]}" init --name hub >"$CASE_DIR/init.log" 2>&1
start_hub
"${HUB[@]}" export $BUS
"${HUB[@]}" acl grant $BUS 'role:bench'
start invite "${HUB[@]}" invite --yes --json --role bench
token() { jq -Rr 'fromjson? | .. | .token? // empty' "$CASE_DIR/invite.log" | grep . ; }
must_come 60 "the invite's token" token
token | head -n 1 >"$LAB_SHARED/token.new"
mv "$LAB_SHARED/token.new" "$LAB_SHARED/token"

number=1
until [[ -e $LAB_SHARED/done ]]; do
    if [[ -e $LAB_SHARED/order.$number ]]; then
        read -r -a words <"$LAB_SHARED/order.$number"
        "order_${words[0]}" "${words[@]:1}"
        touch "$LAB_SHARED/obeyed.$number"
        number=$((number + 1))
    fi
    sleep 0.1
done
