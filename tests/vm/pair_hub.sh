#!/bin/bash
# The first of two guests: a hub with a stick, for as long as the other guest needs it.
source "${BASH_SOURCE[0]%/*}/lib.sh"

export CASE_DIR=$WORK/hub
mkdir -p "$CASE_DIR"
trap 'set +e; stop_all; dump_logs; other_guest_done' EXIT
trap 'case_broke "$BASH_COMMAND" "$LINENO" "pair_hub.sh"; tell_the_laptop' ERR

# A guest that fails stays up: the other one reports, and other cases need only the network.
tell_the_laptop() { cp "$CASE_DIR/reason" "$LAB_SHARED/failure"; }

other_guest_done() { wait_for 240 test -e "$LAB_SHARED/done"; }

if [[ " $LAB_CASES " != *" storage_read "* ]]; then exit 0; fi

STICK_ID=usb:46f4:0001:LABSTICK1
HUB=("$MYCLERK" --state "$CASE_DIR/state" --run "$CASE_DIR/run")

must_come 60 "the stick" owned_usb 46f4 0001
must_come 60 "the stick's disk" node_below "$(owned_usb 46f4 0001)" block
probed
disk=$(node_below "$(owned_usb 46f4 0001)" block)
head -c 4M /dev/urandom >"$CASE_DIR/content"
dd if="$CASE_DIR/content" of="$disk" bs=1M oflag=direct conv=fsync status=none
sha256sum <"$CASE_DIR/content" >"$LAB_SHARED/sum"

"${HUB[@]}" init --name hub >"$CASE_DIR/init.log" 2>&1
start hub "${HUB[@]}" serve --listen 10.78.0.1:7575
must_come 60 "the hub's control socket" "${HUB[@]}" status
"${HUB[@]}" export $STICK_ID
"${HUB[@]}" acl grant $STICK_ID 'role:bench'
start invite "${HUB[@]}" invite --yes --json --role bench
token() { jq -Rr 'fromjson? | .. | .token? // empty' "$CASE_DIR/invite.log" | grep . ; }
must_come 60 "the invite's token" token
token | head -n 1 >"$LAB_SHARED/token.new"
mv "$LAB_SHARED/token.new" "$LAB_SHARED/token"
must_come 240 "the end of the other guest" test -e "$LAB_SHARED/done"
