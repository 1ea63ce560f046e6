//! This machine resets the port of an attached device.

use myclerk::bus::usb::client::Ended;
use myclerk::bus::usb::op::ControlTransfer;
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;

use crate::rig::{DEVICE, Done, Rig, run};

const FIRST: [u8; 8] = [0x80, 6, 0, 1, 0, 0, 64, 0];
const WHOLE: [u8; 8] = [0x80, 6, 0, 1, 0, 0, 18, 0];
const CONFIGURE: [u8; 8] = [0x00, 9, 1, 0, 0, 0, 0, 0];

/// A device with a kernel that numbers its URBs.
struct Bench {
    rig: Rig,
    seqnum: u32,
}

impl Bench {
    /// After its first enumeration.
    async fn new() -> Self {
        let mut bench = Self {
            rig: Rig::new(),
            seqnum: 0,
        };
        for setup in [FIRST, WHOLE, CONFIGURE] {
            bench.exchange(setup).await;
        }
        bench
    }

    async fn ask(&mut self, setup: [u8; 8]) -> u32 {
        self.seqnum += 1;
        self.rig.kernel.control(self.seqnum, setup).await;
        self.seqnum
    }

    /// The server is asked for just that.
    async fn forwarded(&mut self, setup: [u8; 8]) -> u32 {
        let (corr, payload) = self.rig.server.request(Opcode::UsbControlTransfer).await;
        let (transfer, _) = ControlTransfer::decode(&payload).expect("a control transfer");
        assert_eq!(transfer.setup.to_bytes(), setup);
        corr
    }

    async fn answer(&mut self, seqnum: u32, corr: u32, setup: [u8; 8]) {
        let data = if setup[0] == 0x80 { DEVICE } else { &[] };
        self.rig.server.reply(corr, 0, data.len(), data);
        self.rig.kernel.expect(seqnum, 0, data).await;
    }

    async fn exchange(&mut self, setup: [u8; 8]) {
        let seqnum = self.ask(setup).await;
        let corr = self.forwarded(setup).await;
        self.answer(seqnum, corr, setup).await;
    }

    /// The server is asked for a reset, and for nothing else until it has answered.
    async fn reset(&mut self, status: Status, payload: &[u8]) {
        let (corr, _) = self.rig.server.request(Opcode::UsbReset).await;
        tokio::task::yield_now().await;
        assert!(self.rig.server.done.try_recv().is_err());
        self.rig.server.respond(corr, status, payload.to_vec());
    }
}

#[test]
fn a_reset_of_the_port_resets_the_servers_device_before_it_is_configured() {
    run(async {
        let mut bench = Bench::new().await;
        bench.exchange(FIRST).await;
        bench.exchange(WHOLE).await;
        let seqnum = bench.ask(CONFIGURE).await;
        bench.reset(Status::Ok, &[0x80]).await;
        let corr = bench.forwarded(CONFIGURE).await;
        bench.answer(seqnum, corr, CONFIGURE).await;
        // A driver sets the configuration again, which is no reset.
        bench.exchange(CONFIGURE).await;
    });
}

#[test]
fn a_device_that_does_not_answer_is_reset_before_it_is_asked_again() {
    run(async {
        let mut bench = Bench::new().await;
        let first = bench.ask(FIRST).await;
        let corr = bench.forwarded(FIRST).await;
        bench.seqnum += 1;
        let unlink = bench.seqnum;
        bench.rig.kernel.unlink(unlink, first).await;
        assert!(
            matches!(bench.rig.server.next().await, Done::Cancel(cancelled) if cancelled == corr)
        );
        bench.rig.server.reply(corr, -libc::ECONNRESET, 0, &[]);
        bench
            .rig
            .kernel
            .expect_unlink(unlink, -libc::ECONNRESET)
            .await;
        let seqnum = bench.ask(FIRST).await;
        bench.reset(Status::Ok, &[0x80]).await;
        let corr = bench.forwarded(FIRST).await;
        bench.answer(seqnum, corr, FIRST).await;
        bench.exchange(WHOLE).await;
        bench.exchange(CONFIGURE).await;
    });
}

#[test]
fn an_announced_reset_comes_before_the_kernels_first_look_and_only_while_it_is_announced() {
    run(async {
        let mut bench = Bench::new().await;
        let notice = bench.rig.attachment.handle().announce_reset();
        let seqnum = bench.ask(FIRST).await;
        bench.reset(Status::Ok, &[0x80]).await;
        let corr = bench.forwarded(FIRST).await;
        bench.answer(seqnum, corr, FIRST).await;
        bench.exchange(WHOLE).await;
        bench.exchange(CONFIGURE).await;
        drop(notice);
        bench.exchange(FIRST).await;
    });
}

#[test]
fn a_reset_that_the_server_refuses_does_not_stop_the_kernel() {
    run(async {
        let mut bench = Bench::new().await;
        bench.exchange(FIRST).await;
        bench.exchange(WHOLE).await;
        let seqnum = bench.ask(CONFIGURE).await;
        let refusal = b"\x81\xA3sub\xABunsupported";
        bench.reset(Status::BadRequest, refusal).await;
        let corr = bench.forwarded(CONFIGURE).await;
        bench.answer(seqnum, corr, CONFIGURE).await;
    });
}

#[test]
fn a_device_that_a_reset_has_changed_is_gone() {
    run(async {
        let mut bench = Bench::new().await;
        bench.exchange(FIRST).await;
        bench.exchange(WHOLE).await;
        bench.ask(CONFIGURE).await;
        let gone = b"\x81\xA3sub\xABdevice-gone";
        bench.reset(Status::ServiceUnavailable, gone).await;
        bench.rig.server.farewell().await;
        assert!(matches!(
            bench.rig.attachment.ended().await,
            Ended::DeviceGone
        ));
    });
}

#[test]
fn a_detach_does_not_wait_for_a_reset_that_takes_long() {
    run(async {
        let mut bench = Bench::new().await;
        bench.exchange(FIRST).await;
        bench.exchange(WHOLE).await;
        bench.ask(CONFIGURE).await;
        bench.rig.server.request(Opcode::UsbReset).await;
        bench.rig.attachment.handle().detach();
        bench.rig.server.farewell().await;
        assert!(matches!(
            bench.rig.attachment.ended().await,
            Ended::Detached
        ));
    });
}
