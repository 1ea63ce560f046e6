//! Any packets and any answer, against a model of what the kernel does with them.

use proptest::prelude::*;

use super::*;

/// What `vhci_recv_ret_submit` does with an answer: the data to the start of the buffer, then each
/// packet but the first to its offset, the last one first.
fn receive(buffer: &mut [u8], ret: &Ret) {
    let total: u32 = ret.packets.iter().map(|packet| packet.2).sum();
    assert_eq!(total, ret.head.actual_length, "the port would be dropped");
    buffer[..ret.data.len()].copy_from_slice(&ret.data);
    if ret.data.len() == buffer.len() {
        return;
    }
    let mut from = ret.data.len();
    for (offset, _, actual, _) in ret.packets.iter().skip(1).rev() {
        let (offset, actual) = (*offset as usize, *actual as usize);
        from -= actual;
        buffer.copy_within(from..from + actual, offset);
    }
}

proptest! {
    #[test]
    fn the_kernel_finds_each_packet_in_its_place(
        packets in proptest::collection::vec((1u32..64, 0u32..20, 0u32..64), 1..40),
    ) {
        let mut end = 0;
        let mut asked = Vec::new();
        let mut moved = Vec::new();
        let mut data = Vec::new();
        let mut expected = Vec::new();
        for (number, (length, gap, actual)) in (1u8..).zip(&packets) {
            asked.push((end, *length));
            let actual = (*actual).min(*length);
            moved.push((actual, 0));
            let content = vec![number; actual as usize];
            data.extend_from_slice(&content);
            expected.push((end as usize, content));
            end += length + gap;
        }
        let mut bench = Bench::new(1);
        bench.iso(1, IN, &asked);
        bench.iso_answer(1, 0, &moved, &data);
        let mut buffer = vec![0; end as usize];
        receive(&mut buffer, &bench.ret());
        for (offset, content) in expected {
            prop_assert_eq!(&buffer[offset..offset + content.len()], content);
        }
    }

    #[test]
    fn any_answer_is_refused_or_has_the_packets_that_were_asked_for(
        lengths in proptest::collection::vec(0u32..8, 1..5),
        status in any::<i32>(),
        results in proptest::collection::vec((0u32..9, any::<i32>()), 1..6),
        data in proptest::collection::vec(any::<u8>(), 0..20),
        fitting in any::<bool>(),
        unlinked in any::<bool>(),
        ep in prop_oneof![Just(IN), Just(OUT)],
    ) {
        let mut end = 0;
        let mut asked = Vec::new();
        for length in &lengths {
            asked.push((end, *length));
            end += length;
        }
        let total: u32 = results.iter().map(|(actual, _)| actual).sum();
        let data = if fitting && ep == IN { vec![1; total as usize] } else { data };
        let mut bench = Bench::new(1);
        bench.iso(1, ep, &asked);
        if unlinked {
            bench.unlink(2, 1);
        }
        if bench.respond(1, Status::Ok, iso_reply(status, &results, &data)).is_err() {
            prop_assert_eq!(bench.told(), vec![]);
            return Ok(());
        }
        let messages: Vec<_> = bench.urbs.messages().collect();
        let (Return::Submit(head), data, descriptors) = messages[0].parts() else {
            prop_assert!(unlinked && messages.len() == 1);
            return Ok(());
        };
        let packets = IsoDescriptor::parse_all(descriptors, end).expect("descriptors");
        let own: Vec<_> = packets.iter().map(|packet| (packet.offset, packet.length)).collect();
        prop_assert_eq!(own, asked);
        let sum: u32 = packets.iter().map(|packet| packet.actual_length).sum();
        let errors = packets.iter().filter(|packet| packet.status != 0).count();
        prop_assert_eq!(head.packets as usize, lengths.len());
        prop_assert_eq!((head.actual_length, head.error_count as usize), (sum, errors));
        prop_assert_eq!(data.len(), if ep == IN { sum as usize } else { 0 });
        prop_assert!(packets.iter().all(|packet| packet.actual_length <= packet.length));
        prop_assert!(packets.iter().all(|packet| (-4095..=0).contains(&packet.status)));
    }
}
