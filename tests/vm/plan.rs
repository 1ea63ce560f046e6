//! Which guests are booted, with which devices, and which cases run in each.

/// A guest, or a pair of guests, and the cases that share its boot.
pub(crate) struct Boot {
    /// Names its log directory.
    pub name: &'static str,
    /// The guest script under `tests/vm/`.
    pub script: &'static str,
    /// The second guest's script when there are two; it runs the cases, `devices` are the first's.
    pub partner: Option<&'static str>,
    /// More arguments for QEMU; `{dir}` is a directory for sockets and images.
    pub devices: &'static [&'static str],
    /// Sparse disk images made in `{dir}` before the boot: file name and size in bytes.
    pub images: &'static [(&'static str, u64)],
    pub cases: Vec<Case>,
}

pub(crate) struct Case {
    /// As the result line names it.
    pub name: &'static str,
    /// `case_…` in the guest script.
    pub function: &'static str,
    pub wanted: Wanted,
}

/// What the guest has to report. Everything but `Pass` tests the harness itself.
#[derive(Debug)]
pub(crate) enum Wanted {
    Pass,
    FailWith(&'static str),
    Hang,
    Panic,
}

const MIB: u64 = 1 << 20;

/// One of each kind of device, all at one controller; the adapter's far end is a port of the same
/// guest, so that a script holds both ends of the cable.
const USB_DEVICES: &[&str] = &[
    "-device qemu-xhci,id=xhci,p2=8,p3=8",
    "-drive if=none,id=stick,format=raw,file={dir}/stick.img",
    "-device usb-storage,bus=xhci.0,drive=stick,serial=LABSTICK1",
    "-chardev socket,id=cable,path={dir}/cable,server=on,wait=off",
    "-chardev socket,id=far,path={dir}/cable",
    "-device usb-serial,bus=xhci.0,chardev=cable,serial=LABFTDI1",
    "-device virtserialport,bus=labserial.0,chardev=far,name=lab.far",
    "-device usb-kbd,bus=xhci.0,serial=LABKBD1",
    "-device usb-tablet,bus=xhci.0,serial=LABTABLET1",
];

const STICK_ONLY: &[&str] = &[
    "-device qemu-xhci,id=xhci",
    "-drive if=none,id=stick,format=raw,file={dir}/stick.img",
    "-device usb-storage,bus=xhci.0,drive=stick,serial=LABSTICK1",
];

const USB_IMAGES: &[(&str, u64)] = &[("stick.img", 64 * MIB)];

pub(crate) fn boots() -> Vec<Boot> {
    vec![
        lab(),
        misbehaving(),
        panicking(),
        two_guests(),
        storage(),
        serial(),
        hid(),
        lifecycle(),
        kill(),
        refusal(),
        gadget(),
        usbtest(),
    ]
}

/// Hub and laptop as two namespaces of one guest.
fn bridge(name: &'static str, script: &'static str, cases: Vec<Case>) -> Boot {
    Boot {
        name,
        script,
        partner: None,
        devices: USB_DEVICES,
        images: USB_IMAGES,
        cases,
    }
}

fn storage() -> Boot {
    bridge(
        "storage",
        "storage.sh",
        vec![
            pass("usb_storage::16_mib_have_one_hash_at_both_ends", "hashes"),
            pass(
                "usb_storage::an_ext4_with_a_tree_checks_clean",
                "filesystem",
            ),
        ],
    )
}

fn serial() -> Boot {
    let case = pass(
        "usb_serial::bytes_pass_both_ways_at_several_line_settings",
        "line_settings",
    );
    bridge("serial", "serial.sh", vec![case])
}

fn hid() -> Boot {
    bridge(
        "hid",
        "hid.sh",
        vec![
            pass("usb_hid::keys_pressed_at_the_owner_arrive", "keys"),
            pass("usb_hid::pointer_events_at_the_owner_arrive", "pointer"),
            pass("usb_hid::the_caps_lock_led_goes_back", "caps_lock"),
        ],
    )
}

fn lifecycle() -> Boot {
    bridge(
        "lifecycle",
        "lifecycle.sh",
        vec![
            pass("lifecycle::ten_detaches_give_the_device_back", "detach"),
            pass(
                "lifecycle::ten_interrupted_clients_give_the_device_back",
                "client_interrupted",
            ),
            pass(
                "lifecycle::ten_interrupted_servers_give_the_device_back",
                "server_interrupted",
            ),
            pass(
                "lifecycle::a_killed_client_leaves_the_device_usable",
                "client_killed",
            ),
            pass(
                "lifecycle::a_killed_server_leaves_the_device_usable",
                "server_killed",
            ),
        ],
    )
}

fn kill() -> Boot {
    bridge(
        "kill",
        "kill.sh",
        vec![
            pass("kill::a_server_killed_25_times_at_random_moments", "server"),
            pass("kill::a_client_killed_25_times_at_random_moments", "client"),
        ],
    )
}

fn refusal() -> Boot {
    bridge(
        "refusal",
        "refusal.sh",
        vec![
            pass("refusal::a_node_without_an_acl_entry", "without_acl_entry"),
            pass("refusal::a_node_with_a_read_only_entry", "read_only_entry"),
            pass("refusal::a_revoked_node", "revoked_node"),
            pass("refusal::a_node_of_another_family", "foreign_family"),
            pass("refusal::garbage_on_the_port", "garbage"),
        ],
    )
}

/// Devices that the guest's own gadget functions make on an emulated controller of the kernel.
fn gadgets(name: &'static str, script: &'static str, cases: Vec<Case>) -> Boot {
    Boot {
        name,
        script,
        partner: None,
        devices: &[],
        images: &[],
        cases,
    }
}

fn gadget() -> Boot {
    gadgets(
        "gadget",
        "gadget.sh",
        vec![
            pass("gadget::bytes_pass_both_ways_through_an_acm_port", "acm"),
            pass("gadget::hid_reports_go_in_and_out", "hid"),
            pass(
                "gadget::a_disk_and_its_backing_file_have_one_hash",
                "mass_storage",
            ),
            pass(
                "gadget::the_three_functions_of_one_device_work_together",
                "composite",
            ),
        ],
    )
}

fn usbtest() -> Boot {
    gadgets(
        "usbtest",
        "usbtest.sh",
        vec![
            pass(
                "usbtest::every_case_that_passes_direct_passes_bridged_at_high_speed",
                "high_speed",
            ),
            pass(
                "usbtest::every_case_that_passes_direct_passes_bridged_at_super_speed",
                "super_speed",
            ),
        ],
    )
}

fn two_guests() -> Boot {
    Boot {
        name: "pair",
        script: "pair_hub.sh",
        partner: Some("pair_laptop.sh"),
        devices: STICK_ONLY,
        images: USB_IMAGES,
        cases: vec![
            pass("pair::two_guests_reach_each_other", "ping"),
            pass("pair::a_stick_is_read_from_another_kernel", "storage_read"),
        ],
    }
}

fn pass(name: &'static str, function: &'static str) -> Case {
    Case {
        name,
        function,
        wanted: Wanted::Pass,
    }
}

fn lab() -> Boot {
    Boot {
        name: "lab",
        script: "lab.sh",
        partner: None,
        devices: USB_DEVICES,
        images: USB_IMAGES,
        cases: vec![
            pass("lab::the_stock_kernels_modules_load", "modules"),
            pass("lab::the_emulated_usb_devices_are_there", "usb_devices"),
            pass("lab::two_namespaces_reach_only_each_other", "namespaces"),
        ],
    }
}

fn misbehaving() -> Boot {
    let fails = |name, function, text| Case {
        name,
        function,
        wanted: Wanted::FailWith(text),
    };
    Boot {
        name: "misbehaving",
        script: "detector.sh",
        partner: None,
        devices: &[],
        images: &[],
        cases: vec![
            fails(
                "detector::a_kernel_warning_fails_its_case",
                "warning",
                "the kernel said",
            ),
            fails(
                "detector::any_kernel_error_fails_its_case",
                "error_level",
                "the kernel said",
            ),
            fails(
                "detector::a_failing_command_is_named",
                "failing_command",
                "grep -q nothing",
            ),
            fails(
                "detector::a_case_over_its_time_fails",
                "slow",
                "ran longer than 3 s",
            ),
            pass("detector::a_case_after_failed_ones_can_pass", "passing"),
            Case {
                name: "detector::a_guest_that_hangs_is_noticed",
                function: "hang",
                wanted: Wanted::Hang,
            },
        ],
    }
}

fn panicking() -> Boot {
    Boot {
        name: "panicking",
        script: "detector.sh",
        partner: None,
        devices: &[],
        images: &[],
        cases: vec![Case {
            name: "detector::a_guest_that_panics_is_noticed",
            function: "panic",
            wanted: Wanted::Panic,
        }],
    }
}
