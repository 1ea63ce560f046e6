# Sourced by the guest scripts after lib.sh: USB gadgets of this kernel itself, described through
# configfs and plugged into dummy_hcd, whose ports and devices are one driver. Every gadget's serial
# number is its name.

GADGETS=/sys/kernel/config/usb_gadget

# configfs_up COUNT: so many controllers, each with a high-speed and a super-speed port.
configfs_up() {
    modprobe dummy_hcd is_super_speed=1 num="$1"
    modprobe libcomposite
    mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config
}

# make_gadget NAME VENDOR PRODUCT [SPEED]: high-speed or super-speed.
make_gadget() {
    local gadget=$GADGETS/$1
    mkdir "$gadget" "$gadget/strings/0x409" "$gadget/configs/c.1"
    echo "0x$2" >"$gadget/idVendor"
    echo "0x$3" >"$gadget/idProduct"
    echo "$1" >"$gadget/strings/0x409/serialnumber"
    echo "${4:-high-speed}" >"$gadget/max_speed"
}

# add_function NAME TYPE.INSTANCE: its directory is in `function` afterwards, to be configured
# before link_function.
add_function() {
    function=$GADGETS/$1/functions/$2
    mkdir "$function"
}

# link_functions NAME: all of a gadget's functions become interfaces, in the order of their names.
link_functions() {
    local each
    for each in "$GADGETS/$1"/functions/*; do
        ln -s "$each" "$GADGETS/$1/configs/c.1/"
    done
}

# plug NAME CONTROLLER: the device appears at the owner's bus with that number of dummy_hcd.
plug() {
    echo "dummy_udc.$2" >"$GADGETS/$1/UDC"
    must_come 30 "the gadget $1" by_serial /dummy_hcd "$1"
    udevadm settle --timeout=30
}

# unplug NAME: the cable is pulled; the gadget can be plugged in again.
unplug() { echo >"$GADGETS/$1/UDC"; }

# drop_gadget NAME
drop_gadget() {
    local gadget=$GADGETS/$1 link
    [[ -z $(<"$gadget/UDC") ]] || unplug "$1"
    for link in "$gadget"/configs/c.1/*; do
        [[ ! -L $link ]] || rm "$link"
    done
    rmdir "$gadget"/functions/* "$gadget/configs/c.1" "$gadget/strings/0x409" "$gadget"
}

# usbfs_node SYSFS-DIRECTORY
usbfs_node() { printf '/dev/bus/usb/%03d/%03d\n' "$(<"$1/busnum")" "$(<"$1/devnum")"; }
