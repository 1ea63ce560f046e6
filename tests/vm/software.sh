# Sourced by the guest scripts after bridge.sh: devices that are processes of the guest
# (tests/vm/device), on vhci ports of the kernel that also has their twins.

tool() { "$VM_TOOLS" --tool "$@"; }

# plug_in TOOL SERIAL DRIVER: its sysfs directory is in `owned`.
plug_in() {
    start "$1" "$VM_TOOLS" --tool "$1"
    must_come 30 "the $1" by_serial /vhci_hcd "$2"
    owned=$(by_serial /vhci_hcd "$2")
    must_come 30 "the driver $3" has_driver "$owned" "$3"
}

# The device of that serial number that the bridge made, which is not `owned`.
twin_of() {
    local entry path
    for entry in /sys/bus/usb/devices/*/serial; do
        path=$(dirname "$(realpath "$entry")")
        [[ $(<"$entry") == "$1" && $path != "$owned" ]] || continue
        echo "$path"
        return 0
    done
    return 1
}

no_twin() { ! twin_of "$1"; }

# bridged SERIAL DRIVER COMMAND...: which gets the twin's directory as its last argument. A device
# and its twin have one kernel here, so it is named by its port.
bridged() {
    local id serial=$1 driver=$2
    shift 2
    id=usb@$(basename "$owned")
    bridge_up
    share "$id" --force
    laptop attach "hub/$id" >"$CASE_DIR/attach.log" 2>&1 || fail "attach: $(tail -n 1 "$CASE_DIR/attach.log")"
    must_come 30 "the twin of $serial" twin_of "$serial"
    "$@" "$(twin_of "$serial")"
    laptop detach "hub/$id" >"$CASE_DIR/attach.log" 2>&1 || fail "detach: $(tail -n 1 "$CASE_DIR/attach.log")"
    must_come 30 "the end of the twin of $serial" no_twin "$serial"
    must_come 30 "the driver $driver at the owner" has_driver "$owned" "$driver"
}
