//! Which port a device gets.

use std::rc::Rc;

use myclerk::bus::usb::client::{self, AttachError, Ended};
use myclerk::bus::usb::op::{AttachResponse, Speed};
use myclerk::kernel::vhci::{PortId, Vhci};

use crate::kernel::Sysfs;
use crate::rig::{DEVICE, device, run, stream};

#[test]
fn attaching_takes_a_port_by_speed_and_follows_the_kernels_end() {
    for (speed, port, code) in [
        (Speed::Low, 0, "1"),
        (Speed::Full, 0, "2"),
        (Speed::High, 0, "3"),
        (Speed::Super, 1, "5"),
    ] {
        run(async {
            let sysfs = Sysfs::new();
            let vhci = Rc::new(Vhci::at(sysfs.path()));
            let (outlet, inbound, mut server) = stream();
            let device = AttachResponse {
                spd: speed,
                ..device()
            };
            let attachment =
                client::attach(&vhci, &device, outlet, inbound).expect("an attached device");
            assert_eq!(attachment.port(), PortId(port));
            let written = sysfs.written("attach");
            let fields: Vec<_> = written.split(' ').collect();
            let [at, _, "65538", kind] = fields.as_slice() else {
                panic!("{written:?} was written");
            };
            assert_eq!((*at, *kind), (&*port.to_string(), code));
            // Nobody has taken a reference to the kernel's end, so it is closed by now.
            server.farewell().await;
            assert!(matches!(attachment.ended().await, Ended::Kernel));
            assert_eq!(sysfs.written("detach"), "", "the port is free already");
        });
    }
}

#[test]
fn a_device_without_descriptors_or_speed_takes_no_port() {
    run(async {
        let sysfs = Sysfs::new();
        let vhci = Rc::new(Vhci::at(sysfs.path()));
        for device in [
            AttachResponse {
                desc: vec![9; 18],
                ..device()
            },
            AttachResponse {
                spd: Speed::Unknown(9),
                ..device()
            },
        ] {
            let (outlet, inbound, _server) = stream();
            let error = client::attach(&vhci, &device, outlet, inbound);
            assert!(error.is_err());
        }
        assert_eq!(sysfs.written("attach"), "");
    });
}

/// A disk with the given interface protocols as its alternate settings: 0x50 bulk-only, 0x62 UAS.
fn disk(spd: Speed, protocols: &[u8]) -> AttachResponse {
    let settings = protocols
        .iter()
        .zip(0..)
        .flat_map(|(protocol, alternate)| [9, 4, 0, alternate, 0, 8, 6, *protocol, 0]);
    let length = 9 + 9 * u8::try_from(protocols.len()).expect("few settings");
    let mut desc = DEVICE.to_vec();
    desc.extend([9, 2, length, 0, 1, 1, 0, 0x80, 50]);
    desc.extend(settings);
    AttachResponse {
        desc,
        spd,
        ..device()
    }
}

#[test]
fn a_disk_that_needs_streams_takes_no_port_and_the_reason_is_told() {
    run(async {
        let sysfs = Sysfs::new();
        let vhci = Rc::new(Vhci::at(sysfs.path()));
        for spd in [Speed::Super, Speed::SuperPlus] {
            let (outlet, inbound, _server) = stream();
            let refused = client::attach(&vhci, &disk(spd, &[0x62]), outlet, inbound);
            let error = refused.expect_err("a refusal");
            assert!(matches!(error, AttachError::Streams), "{error}");
        }
        assert_eq!(sysfs.written("attach"), "");
    });
}

#[test]
fn a_disk_with_a_bulk_only_setting_or_at_high_speed_needs_no_streams() {
    run(async {
        for disk in [
            disk(Speed::Super, &[0x50, 0x62]),
            disk(Speed::Super, &[0x62, 0x50]),
            disk(Speed::High, &[0x62]),
            disk(Speed::Super, &[]),
        ] {
            let sysfs = Sysfs::new();
            let vhci = Rc::new(Vhci::at(sysfs.path()));
            let (outlet, inbound, _server) = stream();
            client::attach(&vhci, &disk, outlet, inbound).expect("an attached device");
            assert_ne!(sysfs.written("attach"), "");
        }
    });
}
