# Sourced by the guest scripts after lib.sh: the hub in namespace srv and the laptop in namespace
# cli, each with state of its own for every case.

PORT=7575
HUB_ADDRESS=$SRV_ADDRESS:$PORT

STICK='46f4 0001'
ADAPTER='0403 6001'

STICK_ID=usb:46f4:0001:LABSTICK1
ADAPTER_ID=usb:0403:6001:LABFTDI1
KEYBOARD_ID=usb:0627:0001:LABKBD1
TABLET_ID=usb:0627:0001:LABTABLET1

# Until the owner's driver has a device again that was not given back in order, in the guest's time.
HOME_WITHIN_MS=3000

# The words before a subcommand, for each machine.
as_hub() { COMMAND=(ip netns exec srv "$MYCLERK" --state "$CASE_DIR/hub" --run "$CASE_DIR/run-hub" "$@"); }
as_laptop() { COMMAND=(ip netns exec cli "$MYCLERK" --state "$CASE_DIR/laptop" --run "$CASE_DIR/run-laptop" "$@"); }

hub() {
    as_hub "$@"
    "${COMMAND[@]}"
}

laptop() {
    as_laptop "$@"
    "${COMMAND[@]}"
}

start_hub() {
    as_hub serve --listen "$HUB_ADDRESS"
    start hub "${COMMAND[@]}"
    must_come 30 "the hub's control socket" hub status
}

start_laptop() {
    as_laptop client
    start laptop "${COMMAND[@]}"
    must_come 30 "a session between laptop and hub" laptop_connected
}

# laptop_link WORD: whether the connection to the hub stands so.
laptop_link() {
    laptop status --json | jq -e --arg link "$1" 'any(.. | objects; .link? == $link)'
}

laptop_connected() { laptop_link connected; }

# A family with a hub, and a laptop that joins it by a token; both daemons run afterwards.
bridge_up() {
    hub init --name hub >"$CASE_DIR/init.log" 2>&1
    start_hub
    join_laptop
    start_laptop
}

join_laptop() { admit laptop; }

# admit MACHINE: it joins the hub's family by a token; its command is called as it is.
admit() {
    # The token of an earlier invite of this case is of no use.
    rm -f "$CASE_DIR/invite.log"
    as_hub invite --yes --json
    start invite "${COMMAND[@]}"
    must_come 30 "the invite's token" token_of invite
    "$1" join "$(token_of invite)" "$HUB_ADDRESS" --name "$1" >"$CASE_DIR/join.log" 2>&1 ||
        fail "join: $(tail -n 1 "$CASE_DIR/join.log")"
    must_come 20 "the end of the invite" stopped invite
    rm -f "$CASE_DIR/invite.pid"
}

# The token that an invite printed; other lines of its log are none of JSON's.
token_of() {
    local token
    token=$(jq -Rr 'fromjson? | .. | .token? // empty' "$CASE_DIR/$1.log" | head -n 1)
    [[ -n $token ]] && echo "$token"
}

# share DEVICE-ID [OPTION]: offered by the hub, granted to the laptop.
share() {
    hub export "$@"
    hub acl grant "$1" laptop
}

# attach DEVICE-ID VENDOR PRODUCT: prints the sysfs directory of the device that vhci made.
attach() {
    laptop attach "hub/$1" >>"$CASE_DIR/attach.log" 2>&1 || fail "attach: $(tail -n 1 "$CASE_DIR/attach.log")"
    must_come 30 "the remote device $1" remote_usb "$2" "$3"
}

# attach_bus DEVICE-ID [OPTION]...: prints what the device of another bus became, a line each.
attach_bus() {
    local device=$1
    shift
    laptop attach "hub/$device" --json "$@" >"$CASE_DIR/attached.json" 2>>"$CASE_DIR/attach.log" ||
        fail "attach: $(tail -n 1 "$CASE_DIR/attach.log")"
    jq -r '.files[]' "$CASE_DIR/attached.json"
}

# attached DEVICE-ID: whether the laptop has it.
attached() {
    laptop status --json | jq -e --arg device "$1" 'any(.client.attached[]; .device == $device)'
}

# attached_live true|false: whether the laptop's only device has a session with its owner.
attached_live() { laptop status --json | jq -e --argjson live "$1" '.client.attached[0].live == $live'; }

# user_of DEVICE-ID: the node that uses a device of the hub.
user_of() {
    hub list --local --json | jq -re --arg device "$1" '.local[] | select(.id == $device) | .user.name'
}

# detach_bus DEVICE-ID: back at its owner afterwards.
detach_bus() {
    laptop detach "hub/$1" >>"$CASE_DIR/attach.log" 2>&1 || fail "detach: $(tail -n 1 "$CASE_DIR/attach.log")"
    must_come 30 "the end of the owner's use of $1" unused "$1"
}

unused() { [[ $(user_of "$1") == null ]]; }

# attach_with_disk: the shared stick is local, its disk in `disk`.
attach_with_disk() {
    # shellcheck disable=SC2086 # vendor and product are two words
    attach $STICK_ID $STICK
    # shellcheck disable=SC2086
    must_come 30 "the remote disk" remote_node $STICK block
    # shellcheck disable=SC2086
    disk=$(remote_node $STICK block)
    probed
}

# detach DEVICE-ID VENDOR PRODUCT DRIVER: the owner's driver has it again afterwards.
detach() {
    # Whoever has written to a disk makes udev look at it once more.
    probed
    laptop detach "hub/$1" >>"$CASE_DIR/attach.log" 2>&1 || fail "detach: $(tail -n 1 "$CASE_DIR/attach.log")"
    must_be_home "$2" "$3" "$4"
}

must_be_home() {
    must_come 30 "the end of the remote device $1:$2" remote_gone "$1" "$2"
    must_come 30 "driver $3 on the owner's device $1:$2" home_with "$1" "$2" "$3"
    probed
}

# How many ports of vhci are in use; the third column is 004 for a free one.
ports_in_use() {
    awk '$1 != "hub" && $3 != "004"' /sys/devices/platform/vhci_hcd.0/status* | wc -l
}

# What the kernel rightly says of a disk that went away while it was read, set up, or looked through
# for partitions.
allow_lost_disk() {
    allow_kernel '(I/O error|Buffer I/O error on|device offline error).* dev sd[a-z]'
    allow_kernel 'sd [0-9:]+: \[sd[a-z]\] (Asking for cache data failed|Assuming drive cache|No Caching mode page)'
    allow_kernel 'sd [0-9:]+: \[sd[a-z]\] (Read Capacity\([0-9]+\) failed|Sense not available|Test WP failed)'
    # "scsi" as long as no driver is bound, "sd" afterwards.
    allow_kernel '(scsi|sd) [0-9:]+: rejecting I/O to (dead|offline) device'
    allow_kernel '(ldm_validate_partition_table\(\): Disk read failed|unable to read (RDB block|partition table))'
}

remote_gone() { ! remote_usb "$1" "$2"; }

home_with() { has_driver "$(owned_usb "$1" "$2")" "$3"; }

# The node of the remote or the owner's own device, once it is there:
# disk=$(remote_node VENDOR PRODUCT block)
remote_node() {
    local where
    where=$(remote_usb "$1" "$2") && node_below "$where" "$3"
}

owned_node() {
    local where
    where=$(owned_usb "$1" "$2") && node_below "$where" "$3"
}
