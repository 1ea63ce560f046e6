//! Which guests are booted, with which devices, and which cases run in each.

#[path = "plan/can.rs"]
mod can;
#[path = "plan/cuse.rs"]
mod cuse;
#[path = "plan/gpio.rs"]
mod gpio;
#[path = "plan/i2c.rs"]
mod i2c;
#[path = "plan/input.rs"]
mod input;
#[path = "plan/onewire.rs"]
mod onewire;
#[path = "plan/pwm.rs"]
mod pwm;
#[path = "plan/serial_tty.rs"]
mod serial_tty;
#[path = "plan/spi.rs"]
mod spi;

/// A guest, or a pair of guests, and the cases that share its boot.
#[derive(Default)]
pub(crate) struct Boot {
    /// Names its log directory.
    pub name: &'static str,
    /// The guest script under `tests/vm/`.
    pub script: &'static str,
    /// The second guest's script when there are two; it runs the cases, `devices` are the first's.
    pub partner: Option<&'static str>,
    /// More arguments for QEMU; `{dir}` is a directory for sockets and images.
    pub devices: &'static [&'static str],
    /// More options for `scripts/lab`, word by word; `{dir}` is the same directory.
    pub options: &'static [&'static str],
    /// Sparse disk images made in `{dir}` before the boot: file name and size in bytes.
    pub images: &'static [(&'static str, u64)],
    pub cases: Vec<Case>,
    /// Its cases measure time: no other guest runs meanwhile.
    pub alone: bool,
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

/// One of each class that is no everyday one. What a program fetches is this project's documents.
const CLASS_DEVICES: &[&str] = &[
    "-device qemu-xhci,id=xhci,p2=8,p3=4",
    concat!(
        "-netdev user,id=slirp,tftp=",
        env!("CARGO_MANIFEST_DIR"),
        "/docs"
    ),
    "-device usb-net,bus=xhci.0,netdev=slirp,serial=LABNET1",
    "-chardev socket,id=slot,path={dir}/card,server=on,wait=off",
    "-chardev socket,id=card,path={dir}/card",
    "-device usb-ccid,id=reader,bus=xhci.0,serial=LABCCID1",
    "-device ccid-card-passthru,bus=reader.0,chardev=slot",
    "-device virtserialport,bus=labserial.0,chardev=card,name=lab.card",
    concat!(
        "-device usb-mtp,bus=xhci.0,serial=LABMTP1,rootdir=",
        env!("CARGO_MANIFEST_DIR"),
        "/docs"
    ),
    // Ports above p3 are no USB 3 ones.
    "-drive if=none,id=high,format=raw,file={dir}/high.img",
    "-device usb-uas,id=high-uas,bus=xhci.0,port=5,serial=LABUAS2",
    "-device scsi-hd,bus=high-uas.0,drive=high",
    "-drive if=none,id=super,format=raw,file={dir}/super.img",
    "-device usb-uas,id=super-uas,bus=xhci.0,port=4,serial=LABUAS3",
    "-device scsi-hd,bus=super-uas.0,drive=super",
];

const CLASS_IMAGES: &[(&str, u64)] = &[("high.img", 64 * MIB), ("super.img", 64 * MIB)];

const STICK_ONLY: &[&str] = &[
    "-device qemu-xhci,id=xhci",
    "-drive if=none,id=stick,format=raw,file={dir}/stick.img",
    "-device usb-storage,bus=xhci.0,drive=stick,serial=LABSTICK1",
];

/// A stick that QEMU can unplug and keeps the image of.
const UNPLUGGABLE: &[&str] = &[
    "-device qemu-xhci,id=xhci,p2=4,p3=4",
    "-blockdev driver=file,node-name=image,filename={dir}/stick.img",
    "-blockdev driver=raw,node-name=stick,file=image",
    "-device usb-storage,id=stick,bus=xhci.0,port=2,drive=stick,serial=LABSTICK1",
    "-chardev null,id=nowhere",
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
        links(),
        unplug(),
        resets(),
        refusal(),
        classes(),
        identity(),
        gadget(),
        usbtest(),
        audio(),
        many(),
        cycles(),
        can::boot(),
        cuse::boot(),
        gpio::boot(),
        i2c::boot(),
        input::boot(),
        onewire::boot(),
        pwm::boot(),
        serial_tty::boot(),
        spi::boot(),
    ]
}

/// Hub and laptop as two namespaces of one guest.
fn bridge(name: &'static str, script: &'static str, cases: Vec<Case>) -> Boot {
    Boot {
        name,
        script,
        devices: USB_DEVICES,
        images: USB_IMAGES,
        cases,
        ..Boot::default()
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
            pass(
                "usb_low_speed::a_mouse_moves_the_pointer",
                "low_speed_mouse",
            ),
        ],
    )
}

fn lifecycle() -> Boot {
    bridge(
        "lifecycle",
        "lifecycle.sh",
        vec![
            pass("lifecycle::detaches_give_the_device_back", "detach"),
            pass(
                "lifecycle::interrupted_clients_give_the_device_back",
                "client_interrupted",
            ),
            pass(
                "lifecycle::interrupted_servers_give_the_device_back",
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
    let cases = vec![
        pass("kill::a_server_killed_at_random_moments", "server"),
        pass("kill::a_client_killed_at_random_moments", "client"),
    ];
    Boot {
        // As for the unplugged.
        options: &["--virtual-time"],
        ..bridge("kill", "kill.sh", cases)
    }
}

fn links() -> Boot {
    Boot {
        // As for the unplugged.
        options: &["--virtual-time"],
        ..bridge(
            "links",
            "links.sh",
            vec![pass("links::a_disk_lives_through_cut_links", "cuts")],
        )
    }
}

fn unplug() -> Boot {
    Boot {
        name: "unplug",
        script: "unplug.sh",
        devices: UNPLUGGABLE,
        // How soon a device is home is the bridge's time, not the emulator's.
        options: &["--virtual-time"],
        images: USB_IMAGES,
        cases: vec![
            pass(
                "unplug::a_device_unplugged_while_it_is_read_comes_back_whole",
                "under_way",
            ),
            pass("unplug::five_detaches_while_it_is_read", "detached"),
            pass(
                "unplug::another_device_at_the_port_takes_its_place",
                "another_one",
            ),
        ],
        ..Boot::default()
    }
}

fn resets() -> Boot {
    bridge(
        "reset",
        "reset.sh",
        vec![
            pass(
                "reset::a_reset_on_the_laptop_resets_the_owners_device",
                "on_laptop",
            ),
            pass("reset::a_disk_is_read_right_during_resets", "under_load"),
            pass("reset::a_reset_at_the_owner_is_lived_through", "on_hub"),
            pass("reset::a_device_moves_before_its_hub_is_worn_out", "moves"),
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

fn classes() -> Boot {
    Boot {
        name: "classes",
        script: "classes.sh",
        devices: CLASS_DEVICES,
        images: CLASS_IMAGES,
        cases: vec![
            pass("classes::a_network_adapter_reaches_a_gateway", "network"),
            pass("classes::a_card_in_a_reader_is_read", "card"),
            pass("classes::a_file_comes_from_a_media_player", "player"),
            pass("classes::a_uas_disk_works_at_high_speed", "disk"),
            pass(
                "classes::a_uas_disk_at_super_speed_is_refused_with_the_reason",
                "refused_disk",
            ),
            pass("classes::a_security_key_registers_and_signs", "key"),
        ],
        ..Boot::default()
    }
}

fn identity() -> Boot {
    bridge(
        "identity",
        "identity.sh",
        vec![
            pass("identity::lsusb_says_the_same_on_both_sides", "descriptors"),
            pass("identity::a_disks_transfers_are_the_same", "disk_trace"),
            pass(
                "identity::a_keyboards_transfers_are_the_same",
                "keyboard_trace",
            ),
            pass(
                "identity::a_serial_adapters_transfers_are_the_same",
                "serial_trace",
            ),
        ],
    )
}

/// Devices that the guest's own gadget functions make on an emulated controller of the kernel.
fn gadgets(name: &'static str, script: &'static str, cases: Vec<Case>) -> Boot {
    Boot {
        name,
        script,
        cases,
        ..Boot::default()
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

/// The speaker takes all that comes: with QEMU's own small buffer it would drop what comes early.
const SOUND_DEVICES: &[&str] = &[
    "-device qemu-xhci,id=xhci,p2=8,p3=8",
    "-audiodev wav,id=wav,path={dir}/speaker.wav,out.mixing-engine=off,out.fixed-settings=off",
    "-device usb-audio,bus=xhci.0,audiodev=wav,buffer=1920000,serial=LABSPEAKER1",
];

fn audio() -> Boot {
    Boot {
        name: "audio",
        script: "audio.sh",
        devices: SOUND_DEVICES,
        options: &[
            "--virtual-time",
            "--share",
            "{dir}",
            "--env",
            "LAB_SCRATCH={dir}",
        ],
        cases: vec![
            pass(
                "lab::a_missing_frame_of_a_stream_is_found",
                "a_missing_frame",
            ),
            pass(
                "lab::streams_arrive_whole_without_the_bridge",
                "streams_without_the_bridge",
            ),
            pass(
                "usb_audio::what_is_played_arrives_sample_by_sample",
                "played",
            ),
            pass("usb_audio::a_recording_has_no_gap", "recorded"),
            pass("usb_video::a_film_has_no_gap", "filmed"),
            pass(
                "usb_video::a_film_at_high_speed_has_no_gap",
                "filmed_at_high_speed",
            ),
        ],
        ..Boot::default()
    }
}

/// Sixteen: sticks at super speed, adapters at full speed, tablets at high speed.
const MANY_DEVICES: &[&str] = &[
    "-device qemu-xhci,id=xhci,p2=15,p3=15",
    "-drive if=none,id=s1,format=raw,file={dir}/s1.img",
    "-device usb-storage,bus=xhci.0,drive=s1,serial=MANYDISK1",
    "-drive if=none,id=s2,format=raw,file={dir}/s2.img",
    "-device usb-storage,bus=xhci.0,drive=s2,serial=MANYDISK2",
    "-drive if=none,id=s3,format=raw,file={dir}/s3.img",
    "-device usb-storage,bus=xhci.0,drive=s3,serial=MANYDISK3",
    "-drive if=none,id=s4,format=raw,file={dir}/s4.img",
    "-device usb-storage,bus=xhci.0,drive=s4,serial=MANYDISK4",
    "-drive if=none,id=s5,format=raw,file={dir}/s5.img",
    "-device usb-storage,bus=xhci.0,drive=s5,serial=MANYDISK5",
    "-drive if=none,id=s6,format=raw,file={dir}/s6.img",
    "-device usb-storage,bus=xhci.0,drive=s6,serial=MANYDISK6",
    "-chardev socket,id=c1,path={dir}/c1,server=on,wait=off -chardev socket,id=f1,path={dir}/c1",
    "-device usb-serial,bus=xhci.0,chardev=c1,serial=MANYTTY1",
    "-device virtserialport,bus=labserial.0,chardev=f1,name=lab.far1",
    "-chardev socket,id=c2,path={dir}/c2,server=on,wait=off -chardev socket,id=f2,path={dir}/c2",
    "-device usb-serial,bus=xhci.0,chardev=c2,serial=MANYTTY2",
    "-device virtserialport,bus=labserial.0,chardev=f2,name=lab.far2",
    "-chardev socket,id=c3,path={dir}/c3,server=on,wait=off -chardev socket,id=f3,path={dir}/c3",
    "-device usb-serial,bus=xhci.0,chardev=c3,serial=MANYTTY3",
    "-device virtserialport,bus=labserial.0,chardev=f3,name=lab.far3",
    "-chardev socket,id=c4,path={dir}/c4,server=on,wait=off -chardev socket,id=f4,path={dir}/c4",
    "-device usb-serial,bus=xhci.0,chardev=c4,serial=MANYTTY4",
    "-device virtserialport,bus=labserial.0,chardev=f4,name=lab.far4",
    "-device usb-tablet,bus=xhci.0,serial=MANYTABLET1",
    "-device usb-tablet,bus=xhci.0,serial=MANYTABLET2",
    "-device usb-tablet,bus=xhci.0,serial=MANYTABLET3",
    "-device usb-tablet,bus=xhci.0,serial=MANYTABLET4",
    "-device usb-tablet,bus=xhci.0,serial=MANYTABLET5",
    "-device usb-tablet,bus=xhci.0,serial=MANYTABLET6",
];

const MANY_IMAGES: &[(&str, u64)] = &[
    ("s1.img", MIB),
    ("s2.img", MIB),
    ("s3.img", MIB),
    ("s4.img", MIB),
    ("s5.img", MIB),
    ("s6.img", MIB),
];

const ADAPTER_ONLY: &[&str] = &[
    "-device qemu-xhci,id=xhci",
    "-chardev null,id=cable",
    "-device usb-serial,bus=xhci.0,chardev=cable,serial=LABFTDI1,always-plugged=on",
];

fn many() -> Boot {
    Boot {
        name: "many",
        script: "many.sh",
        devices: MANY_DEVICES,
        images: MANY_IMAGES,
        cases: vec![pass("many::sixteen_devices_are_used_at_once", "sixteen")],
        ..Boot::default()
    }
}

fn cycles() -> Boot {
    Boot {
        name: "cycles",
        script: "cycles.sh",
        devices: ADAPTER_ONLY,
        cases: vec![pass("many::many_cycles_leave_nothing_behind", "cycles")],
        ..Boot::default()
    }
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
        ..Boot::default()
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
        devices: USB_DEVICES,
        images: USB_IMAGES,
        cases: vec![
            pass("lab::the_stock_kernels_modules_load", "modules"),
            pass("lab::the_emulated_usb_devices_are_there", "usb_devices"),
            pass("lab::two_namespaces_reach_only_each_other", "namespaces"),
        ],
        ..Boot::default()
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
        ..Boot::default()
    }
}

fn panicking() -> Boot {
    Boot {
        name: "panicking",
        script: "detector.sh",
        cases: vec![Case {
            name: "detector::a_guest_that_panics_is_noticed",
            function: "panic",
            wanted: Wanted::Panic,
        }],
        ..Boot::default()
    }
}
