//! Bytes from anybody.

use super::*;

fn arbitrary(link: &mut Link, bytes: &[u8]) -> Result<(), Violation> {
    let tier = Tier::T4;
    link.handle_record(Mono::from_secs(5), tier, 0, bytes)?;
    let flags = Flags::sealed(tier);
    link.handle_direct(
        Mono::from_secs(5),
        tier,
        0,
        Opcode::DeviceList,
        flags,
        bytes,
    )
}

proptest::proptest! {
    #[test]
    fn no_plaintext_makes_a_link_panic(
        records in proptest::collection::vec(
            proptest::collection::vec(proptest::num::u8::ANY, 0..120),
            1..20,
        ),
        ordered in proptest::bool::ANY,
    ) {
        let mut link = Link::new(Mono::ZERO, LinkConfig {
            ordered,
            selected: Some(Algorithm::Zstd),
            ..config(false, Limits::DEFAULT)
        });
        for bytes in records {
            let _ = arbitrary(&mut link, &bytes);
            while link.poll_event().is_some() {}
            let mut out = Vec::new();
            while link.fill_record(Mono::from_secs(6), 4096, &mut out).is_some() {}
        }
    }

    #[test]
    fn no_sequence_of_well_formed_frames_makes_a_link_panic(
        frames in proptest::collection::vec(
            (0u32..6, 0u8..8, 0u16..40, 0u32..4, 0usize..40),
            1..60,
        ),
        ordered in proptest::bool::ANY,
    ) {
        let mut link = Link::new(Mono::ZERO, LinkConfig {
            ordered,
            ..config(false, Limits::DEFAULT)
        });
        for (stream, kind, op, corr, length) in frames {
            let opcode = Opcode::ALL[usize::from(op) * 3 % Opcode::ALL.len()];
            let status = Status::from_u8(u8::try_from(op).unwrap());
            let body = match kind {
                0 => Body::Data { fin: op % 3 == 0 },
                1 => Body::Request { opcode, corr },
                2 => Body::Response { corr, status, more: op % 2 == 0 },
                3 => Body::Event { opcode },
                4 => Body::Credit { limit: u64::from(op) << 20 },
                5 => Body::Cancel { corr },
                6 => Body::Reset { status },
                _ => Body::Pad,
            };
            let _ = arbitrary(&mut link, &record(stream, body, &vec![0x80; length]));
            while let Some(event) = link.poll_event() {
                if let LinkEvent::Request { stream, corr, .. } = event {
                    let _ = link.respond(stream, corr, status, vec![0x80], op % 4 == 1);
                    let _ = link.data(stream, vec![1; length], false);
                }
            }
            let mut out = Vec::new();
            while link.fill_record(Mono::from_secs(6), 4096, &mut out).is_some() {}
        }
    }
}
