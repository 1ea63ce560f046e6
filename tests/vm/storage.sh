#!/bin/bash
# A stick at the hub, used by the laptop.
source "${BASH_SOURCE[0]%/*}/lib.sh"
source "${BASH_SOURCE[0]%/*}/bridge.sh"

prepare() {
    modprobe vhci-hcd
    make_namespaces
}

# hash_of DISK OFFSET-MiB: of 16 MiB, past every cache
hash_of() {
    dd if="$1" bs=1M skip="$2" count=16 iflag=direct status=none | sha256sum | cut -d' ' -f1
}

# fill DISK OFFSET-MiB FILE
fill() {
    dd if="$3" of="$1" bs=1M seek="$2" oflag=direct conv=fsync status=none
}

random_file() {
    head -c 16M /dev/urandom >"$CASE_DIR/$1"
    sha256sum <"$CASE_DIR/$1" | cut -d' ' -f1
}

owned_disk() {
    # shellcheck disable=SC2086
    must_come 30 "the owner's disk" owned_node $STICK block
    # shellcheck disable=SC2086
    disk=$(owned_node $STICK block)
}

LIMIT_hashes=240
case_hashes() {
    local disk from_hub from_laptop
    from_hub=$(random_file from-hub)
    from_laptop=$(random_file from-laptop)
    bridge_up
    owned_disk
    fill "$disk" 0 "$CASE_DIR/from-hub"

    share $STICK_ID
    attach_with_disk
    expect_eq "what the laptop reads of the hub's 16 MiB" "$from_hub" "$(hash_of "$disk" 0)"
    fill "$disk" 16 "$CASE_DIR/from-laptop"
    expect_eq "what the laptop reads back" "$from_laptop" "$(hash_of "$disk" 16)"
    # shellcheck disable=SC2086
    detach $STICK_ID $STICK usb-storage

    owned_disk
    expect_eq "what the owner reads of the laptop's 16 MiB" "$from_laptop" "$(hash_of "$disk" 16)"
    expect_eq "what the owner reads of its own 16 MiB" "$from_hub" "$(hash_of "$disk" 0)"
}

LIMIT_filesystem=240
case_filesystem() {
    local disk
    bridge_up
    share $STICK_ID
    attach_with_disk
    mkfs.ext4 -q -F "$disk" >"$CASE_DIR/mkfs.log" 2>&1
    mkdir -p "$CASE_DIR/mnt"
    mount "$disk" "$CASE_DIR/mnt"
    cp -a "$LAB_REPO/tests" "$LAB_REPO/src" "$CASE_DIR/mnt/"
    diff -r "$LAB_REPO/src" "$CASE_DIR/mnt/src"
    umount "$CASE_DIR/mnt"
    must "fsck on the laptop" fsck.ext4 -f -n "$disk" >"$CASE_DIR/fsck-laptop.log" 2>&1
    # shellcheck disable=SC2086
    detach $STICK_ID $STICK usb-storage

    owned_disk
    must "fsck on the hub" fsck.ext4 -f -n "$disk" >"$CASE_DIR/fsck-hub.log" 2>&1
    mount -o ro "$disk" "$CASE_DIR/mnt"
    diff -r "$LAB_REPO/src" "$CASE_DIR/mnt/src"
    umount "$CASE_DIR/mnt"
}

run_cases "$@"
