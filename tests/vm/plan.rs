//! Which guests are booted, with which devices, and which cases run in each.

/// A guest, or a pair of guests, and the cases that share its boot.
pub(crate) struct Boot {
    /// Names its log directory.
    pub name: &'static str,
    /// The guest script under `tests/vm/`.
    pub script: &'static str,
    /// The second guest's script when there are two.
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
    "-device qemu-xhci,id=xhci",
    "-drive if=none,id=stick,format=raw,file={dir}/stick.img",
    "-device usb-storage,bus=xhci.0,drive=stick,serial=LABSTICK1",
    "-chardev socket,id=cable,path={dir}/cable,server=on,wait=off",
    "-chardev socket,id=far,path={dir}/cable",
    "-device usb-serial,bus=xhci.0,chardev=cable,serial=LABFTDI1",
    "-device virtserialport,bus=labserial.0,chardev=far,name=lab.far",
    "-device usb-kbd,bus=xhci.0,serial=LABKBD1",
    "-device usb-tablet,bus=xhci.0,serial=LABTABLET1",
];

const USB_IMAGES: &[(&str, u64)] = &[("stick.img", 64 * MIB)];

pub(crate) fn boots() -> Vec<Boot> {
    vec![lab(), misbehaving(), panicking()]
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
