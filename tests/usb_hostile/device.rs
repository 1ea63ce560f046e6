//! Devices that lie about themselves: at the owner who reads them, in its list, and at the client
//! that is told what they say.

use core::task::{Context, Poll};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use myclerk::bus::usb::client::Ended;
use myclerk::bus::usb::descriptor::{
    Descriptors, MAX_CONFIGURATIONS, MAX_ENDPOINTS, MAX_INTERFACES, MAX_SETTINGS,
};
use myclerk::bus::usb::enumerate::{self, Location};
use myclerk::bus::usb::fake::Fake;
use myclerk::bus::usb::hardware::{Opening, UsbDevice, UsbHost, UsbPort};
use myclerk::bus::usb::op::AttachResponse;
use myclerk::bus::usb::server::End;
use myclerk::kernel::usbfs::{Completion, Transfer};
use myclerk::kernel::usbip_pdu::{Command, Submit};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;
use nix::errno::Errno;

use crate::client::{Bench, bulk};
use crate::descriptions::hostile;
use crate::fuzz::kernel::Kernel;
use crate::fuzz::rig::{self, Rig, run};
use crate::memory::Peak;

/// Most bytes that reading one device may take: what the largest device that fits in the limits
/// needs, and the same again while vectors grow.
const MOST: i64 = 3 << 20;

/// A device that says anything of itself and takes everything.
#[derive(Clone)]
struct Liar {
    /// One answer for each time it is read, the last one for ever.
    descriptors: Vec<Vec<u8>>,
    configurations: Vec<u8>,
    bos: Vec<u8>,
    /// More than was asked for is said to have come.
    boasts: bool,
    reads: Arc<(AtomicUsize, AtomicUsize)>,
    fake: Fake,
}

impl Liar {
    fn new(descriptors: Vec<Vec<u8>>) -> Self {
        Self {
            descriptors,
            configurations: vec![1],
            bos: Vec::new(),
            boasts: false,
            reads: Arc::default(),
            fake: Fake::new(),
        }
    }
}

fn nth<T: Clone + Default>(answers: &[T], reads: &AtomicUsize) -> T {
    let at = reads.fetch_add(1, Ordering::Relaxed);
    let answer = answers.get(at).or(answers.last());
    answer.cloned().unwrap_or_default()
}

impl UsbHost for Liar {
    fn open<'a>(&'a self, _: &Location) -> Opening<'a> {
        let device: Box<dyn UsbDevice> = Box::new(self.clone());
        Box::pin(async move { Ok(device) })
    }
}

impl UsbDevice for Liar {
    fn submit(&self, _: Transfer) -> Result<(), Errno> {
        // The kernel knows better what there is.
        Err(Errno::ENOENT)
    }

    fn claim(&self, _: u8) -> Result<(), Errno> {
        Ok(())
    }

    fn reap(&self) -> Result<Option<Completion>, Errno> {
        self.fake.reap()
    }

    fn poll_completed(&self, context: &mut Context<'_>) -> Poll<()> {
        self.fake.poll_completed(context)
    }

    fn port(&self) -> Arc<dyn UsbPort> {
        Arc::new(self.clone())
    }
}

impl UsbPort for Liar {
    fn descriptors(&self) -> io::Result<Vec<u8>> {
        Ok(nth(&self.descriptors, &self.reads.0))
    }

    fn active_configuration(&self) -> Result<u8, Errno> {
        Ok(nth(&self.configurations, &self.reads.1))
    }

    fn speed(&self) -> Result<u8, Errno> {
        Ok(200)
    }

    fn control(&self, _: [u8; 8], data: &mut [u8], _: u32) -> Result<usize, Errno> {
        for (to, from) in data.iter_mut().zip(&self.bos) {
            *to = *from;
        }
        let told = self.bos.len().min(data.len());
        Ok(if self.boasts { usize::MAX } else { told })
    }

    fn discard(&self, key: u64) -> Result<(), Errno> {
        UsbPort::discard(&self.fake, key)
    }

    fn claim(&self, _: u8) -> Result<(), Errno> {
        Ok(())
    }

    fn disconnect_claim(&self, interface: u8) -> Result<(), Errno> {
        // It has more interfaces than the fake.
        let _ = self.fake.disconnect_claim(interface);
        Ok(())
    }

    fn release(&self, interface: u8) -> Result<(), Errno> {
        let _ = UsbPort::release(&self.fake, interface);
        Ok(())
    }

    fn driver(&self, _: u8) -> Result<Option<String>, Errno> {
        Ok(None)
    }

    fn connect(&self, _: u8) -> Result<(), Errno> {
        Ok(())
    }

    fn set_configuration(&self, _: u8) -> Result<(), Errno> {
        Ok(())
    }

    fn set_interface(&self, _: u8, _: u8) -> Result<(), Errno> {
        Ok(())
    }

    fn clear_halt(&self, _: u8) -> Result<(), Errno> {
        Ok(())
    }

    fn reset(&self) -> Result<(), Errno> {
        Ok(())
    }
}

#[test]
fn no_description_is_read_as_more_than_a_device_can_have() {
    for (what, bytes) in hostile() {
        let peak = Peak::begin();
        let device = Descriptors::parse(&bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(peak.bytes() < MOST, "{what}: {} bytes", peak.bytes());
        assert!(device.configurations.len() <= MAX_CONFIGURATIONS, "{what}");
        for configuration in &device.configurations {
            let settings = &configuration.settings;
            assert!(settings.len() <= MAX_INTERFACES * MAX_SETTINGS, "{what}");
            assert!(configuration.interfaces().len() <= MAX_INTERFACES, "{what}");
            let mut endpoints = settings.iter().map(|setting| setting.endpoints.len());
            assert!(endpoints.all(|count| count <= MAX_ENDPOINTS), "{what}");
        }
    }
}

#[test]
fn a_listed_device_has_no_more_interfaces_than_the_list_has_room_for() {
    for (what, bytes) in hostile() {
        let listed = enumerate::settings(&bytes, 1).unwrap_or_default();
        assert!(
            listed.len() <= enumerate::MAX_LISTED,
            "{what}: {}",
            listed.len()
        );
    }
}

#[test]
fn the_owner_serves_whatever_the_device_says_of_itself() {
    for (what, bytes) in hostile() {
        run(async {
            let liar = Liar::new(vec![bytes.clone()]);
            let mut bench = Bench::start(&liar, liar.fake.clone(), None);
            let (status, payload) = bench.attached().await;
            assert_eq!(status, Status::Ok, "{what}");
            let response = AttachResponse::decode(&payload).expect("an attach response");
            assert_eq!(
                response.desc, bytes,
                "{what}: it is for the client to judge"
            );
            for address in (0..=u8::MAX).filter(|address| address & 0x70 == 0) {
                if address & 0x0f != 0 {
                    let len = u32::from(address & 0x80 != 0);
                    bench.request(Opcode::UsbBulkTransfer, bulk(address, len));
                }
            }
            bench.request(Opcode::UsbReset, Vec::new());
            bench.request(Opcode::UsbSetConfiguration, vec![0x91, 1]);
            let end = bench.detach().await;
            assert_eq!(end, End::Detached, "{what}");
        });
    }
}

#[test]
fn a_device_that_is_another_one_at_every_look_is_served_as_it_was_first_read() {
    let good = rig::DESCRIPTORS.to_vec();
    for (what, other) in hostile() {
        run(async {
            let mut liar = Liar::new(vec![good.clone(), other.clone()]);
            liar.configurations = vec![1, 2, 255, 0];
            let mut bench = Bench::start(&liar, liar.fake.clone(), None);
            let (_, payload) = bench.attached().await;
            let response = AttachResponse::decode(&payload).expect("an attach response");
            assert_eq!(
                (response.desc.as_slice(), response.cfg),
                (&good[..], 1),
                "{what}"
            );
            bench.request(Opcode::UsbReset, Vec::new());
            bench.request(Opcode::UsbBulkTransfer, bulk(0x81, 4));
            assert_eq!(bench.detach().await, End::Detached, "{what}");
        });
    }
}

#[test]
fn what_is_no_device_is_refused() {
    for bytes in [Vec::new(), vec![18, 1], vec![18; 18], vec![0; 64]] {
        run(async {
            let liar = Liar::new(vec![bytes.clone()]);
            let mut bench = Bench::start(&liar, liar.fake.clone(), None);
            let (status, _) = bench.attached().await;
            assert!(!status.is_success());
            assert!(matches!(bench.ended().await, End::Refused(_)));
        });
    }
}

#[test]
fn a_bos_that_lies_is_left_out_or_no_longer_than_it_may_be() {
    let with_bos = |bos: &[u8], boasts: bool| {
        let mut liar = Liar::new(vec![rig::DESCRIPTORS.to_vec()]);
        // bcdUSB 3.0: it has one.
        liar.descriptors[0][3] = 3;
        liar.bos = bos.to_vec();
        liar.boasts = boasts;
        liar
    };
    let whole: &[u8] = &[5, 15, 12, 0, 1, 7, 16, 2, 0, 0, 0, 0];
    let cases: [(&[u8], bool, usize); 8] = [
        (whole, false, whole.len()),
        (&[5, 15, 0xff, 0xff, 255], false, 0),
        (&[5, 15, 0, 0, 255], false, 0),
        (&[5, 15, 4, 0, 255], false, 0),
        (&[5, 15], false, 0),
        (&[5, 2, 12, 0, 1], false, 0),
        (&[], false, 0),
        // Said to be whole, though nothing came: 64 KiB of nothing at most.
        (&[5, 15, 0xff, 0xff, 255], true, 65_535),
    ];
    for (bos, boasts, length) in cases {
        run(async {
            let liar = with_bos(bos, boasts);
            let mut bench = Bench::start(&liar, liar.fake.clone(), None);
            let (status, payload) = bench.attached().await;
            assert_eq!(status, Status::Ok);
            let response = AttachResponse::decode(&payload).expect("an attach response");
            let found = response.desc.len() - rig::DESCRIPTORS.len();
            assert_eq!(found, length, "{bos:?}");
            assert_eq!(bench.detach().await, End::Detached);
        });
    }
}

#[test]
fn the_client_takes_whatever_it_is_told_of_a_device_and_serves_what_exists() {
    for (what, bytes) in hostile() {
        run(async {
            let peak = Peak::begin();
            let mut rig = Rig::new(&bytes, Kernel::default()).expect("a device descriptor");
            assert!(peak.bytes() < MOST, "{what}: {} bytes", peak.bytes());
            for seqnum in 0..32_u32 {
                let [ep, ..] = seqnum.to_le_bytes();
                let read = Submit {
                    seqnum,
                    devid: 0x0001_0002,
                    input: seqnum >= 16,
                    ep: ep & 15,
                    transfer_flags: 0,
                    length: 0,
                    start_frame: 0,
                    packets: 0,
                    interval: 0,
                    setup: [0x80, 6, 0, 1, 0, 0, 0, 0],
                };
                rig.kernel.submitted(read, Vec::new());
                rig.say(&Command::Submit(read).to_bytes());
            }
            rig.settle(64).await;
            let open = rig.server.asked.borrow().len();
            assert_eq!(rig.kernel.waiting(), open, "{what}: refused or asked for");
            assert!(matches!(rig.end().await, Ended::Kernel), "{what}");
        });
    }
}
