//! Which port a device gets.

use std::rc::Rc;

use myclerk::bus::usb::client::{self, Ended};
use myclerk::bus::usb::op::{AttachResponse, Speed};
use myclerk::kernel::vhci::{PortId, Vhci};

use crate::kernel::Sysfs;
use crate::rig::{device, run, stream};

#[test]
fn attaching_takes_a_port_by_speed_and_follows_the_kernels_end() {
    run(async {
        let sysfs = Sysfs::new();
        let vhci = Rc::new(Vhci::at(sysfs.path()));
        let (outlet, inbound, mut server) = stream();
        let device = AttachResponse {
            spd: Speed::Super,
            ..device()
        };
        let attachment =
            client::attach(&vhci, &device, outlet, inbound).expect("an attached device");
        assert_eq!(attachment.port(), PortId(1));
        let written = sysfs.written("attach");
        let fields: Vec<_> = written.split(' ').collect();
        let ["1", _, "65538", "5"] = fields.as_slice() else {
            panic!("{written:?} was written");
        };
        // Nobody has taken a reference to the kernel's end, so it is closed by now.
        server.farewell().await;
        assert!(matches!(attachment.ended().await, Ended::Kernel));
        assert_eq!(sysfs.written("detach"), "", "the port is free already");
    });
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
