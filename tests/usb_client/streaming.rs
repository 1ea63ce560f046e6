//! Isochronous streams through both halves to a fake device: 0x06 takes packets, 0x86 counts.

use myclerk::bus::usb::client::Ended;
use myclerk::bus::usb::server::End;
use myclerk::kernel::usbip_pdu::Return;

use crate::isochronous::packet;
use crate::pair::Pair;
use crate::rig::run;

const EP: u8 = 6;

impl Pair {
    /// A device whose isochronous endpoints are enabled by the kernel's driver.
    async fn streaming() -> Self {
        let mut pair = Self::new().await;
        pair.kernel.control(1, [0x01, 11, 2, 0, 1, 0, 0, 0]).await;
        pair.kernel.expect(1, 0, &[]).await;
        pair
    }
}

/// Packets with three unused bytes behind each.
fn spaced(count: u32, length: u32) -> Vec<(u32, u32)> {
    let place = |packet| (packet * (length + 3), length);
    (0..count).map(place).collect()
}

fn counted(from: usize, bytes: usize) -> Vec<u8> {
    (0..=u8::MAX).cycle().skip(from % 256).take(bytes).collect()
}

#[test]
fn a_long_write_reaches_the_device_without_its_gaps() {
    run(async {
        let mut pair = Pair::streaming().await;
        let places = spaced(200, 5);
        let buffer: Vec<u8> = (0..200 * 8u32)
            .map(|at| if at % 8 < 5 { b'x' } else { b'.' })
            .take(200 * 8 - 3)
            .collect();
        pair.kernel.iso_on(2, EP, false, &buffer, &places).await;
        pair.kernel.expect(2, 0, &[]).await;
        let back = pair.kernel.descriptors(200, 1600).await;
        assert!(back.iter().all(|packet| packet.actual_length == 5));
        assert_eq!(pair.device.written(0x06), [b'x'; 1000]);
        assert_eq!(pair.device.complaints(), Vec::<String>::new());
    });
}

#[test]
fn a_stream_of_reads_has_no_gap() {
    run(async {
        let mut pair = Pair::streaming().await;
        pair.device.pace(0x86);
        let places = spaced(8, 100);
        for seqnum in 2..6 {
            pair.kernel.iso_on(seqnum, EP, true, &[], &places).await;
        }
        while pair.device.in_flight() < 4 {
            tokio::task::yield_now().await;
        }
        for round in 0..50 {
            assert_eq!(pair.device.tick(0x86, 8), 8, "a gap in round {round}");
            let (answer, data) = pair.kernel.answer().await;
            let Return::Submit(ret) = answer else {
                panic!("{answer:?}");
            };
            let fields = (ret.seqnum, ret.status, ret.actual_length, ret.error_count);
            assert_eq!(fields, (round + 2, 0, 800, 0));
            assert_eq!(data, counted(round as usize * 800, 800));
            let back = pair.kernel.descriptors(8, 824).await;
            assert_eq!(back[7], packet(721, 100, 100, 0));
            // As a driver does in the completion of each URB.
            pair.kernel.iso_on(round + 6, EP, true, &[], &places).await;
        }
    });
}

#[test]
fn bad_packets_are_reported_where_they_were() {
    run(async {
        let mut pair = Pair::streaming().await;
        for (bytes, status) in [(2, 0), (0, -libc::EILSEQ), (1, -libc::EOVERFLOW)] {
            pair.device.plan_packet(0x86, bytes, status);
        }
        pair.kernel.iso_on(2, EP, true, &[], &spaced(4, 4)).await;
        let (answer, data) = pair.kernel.answer().await;
        let Return::Submit(ret) = answer else {
            panic!("{answer:?}");
        };
        let fields = (ret.status, ret.actual_length, ret.packets, ret.error_count);
        assert_eq!((fields, data), ((0, 7, 4, 2), counted(0, 7)));
        assert_eq!(
            pair.kernel.descriptors(4, 28).await,
            [
                packet(0, 4, 2, 0),
                packet(7, 4, 0, -libc::EILSEQ),
                packet(14, 4, 1, -libc::EOVERFLOW),
                packet(21, 4, 4, 0)
            ]
        );
    });
}

/// Three reads, 2 to 4, which the device has and lets wait.
async fn three_reads() -> Pair {
    let mut pair = Pair::streaming().await;
    pair.device.pace(0x86);
    for seqnum in 2..5 {
        pair.kernel
            .iso_on(seqnum, EP, true, &[], &spaced(4, 4))
            .await;
    }
    while pair.device.in_flight() < 3 {
        tokio::task::yield_now().await;
    }
    pair
}

#[test]
fn a_stream_that_is_stopped_is_unlinked_on_the_device_too() {
    run(async {
        let mut pair = three_reads().await;
        pair.device.tick(0x86, 2);
        // The first had begun: what it brought is not lost.
        pair.kernel.unlink(12, 2).await;
        pair.kernel
            .expect(2, -libc::ECONNRESET, &counted(0, 8))
            .await;
        pair.kernel.descriptors(4, 28).await;
        pair.kernel.expect_unlink(12, 0).await;
        for seqnum in 3..5 {
            pair.kernel.unlink(seqnum + 10, seqnum).await;
            pair.kernel
                .expect_unlink(seqnum + 10, -libc::ECONNRESET)
                .await;
        }
        assert_eq!(pair.device.in_flight(), 0);
        pair.kernel.control(20, [0x01, 11, 0, 0, 1, 0, 0, 0]).await;
        pair.kernel.expect(20, 0, &[]).await;
        assert_eq!(pair.device.complaints(), Vec::<String>::new());
    });
}

#[test]
fn pulling_the_plug_on_a_stream_ends_both_halves() {
    run(async {
        let pair = three_reads().await;
        pair.device.unplug();
        let ended = pair.attachment.ended().await;
        assert!(
            matches!(ended, Ended::DeviceGone | Ended::Reset(_)),
            "{ended:?}"
        );
        assert_eq!(pair.server.await.expect("a task's end"), End::DeviceGone);
    });
}
