use proptest::prelude::*;

use super::*;

const MSG: u32 = 1 << 20;
const BOTH: [Algorithm; 2] = [Algorithm::Lz4, Algorithm::Zstd];

fn container(algorithm: Algorithm, declared: u32, data: &[u8]) -> Vec<u8> {
    let mut container = vec![algorithm.to_u8()];
    container.extend(declared.to_be_bytes());
    container.extend(data);
    container
}

fn text() -> Vec<u8> {
    b"descriptors, device lists, logs. ".repeat(40)
}

#[test]
fn payloads_survive() {
    for algorithm in BOTH {
        let packed = compress(algorithm, &text(), MSG).unwrap();
        assert!(packed.len() + LEAST_SAVING <= text().len());
        assert_eq!(decompress(algorithm, &packed, MSG), Ok(text()));
    }
}

#[test]
fn a_payload_that_saves_less_than_64_bytes_is_not_packed() {
    for algorithm in BOTH {
        assert_eq!(
            compress(algorithm, b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", MSG),
            None
        );
        let noise: Vec<u8> = (0..4000u32)
            .map(|index| index.wrapping_mul(2_654_435_761).to_be_bytes()[0])
            .collect();
        assert_eq!(compress(algorithm, &noise[..60], MSG), None);
        assert_eq!(compress(algorithm, &[], MSG), None);
    }
}

#[test]
fn what_the_receiver_would_refuse_is_not_packed() {
    for algorithm in BOTH {
        assert_eq!(compress(algorithm, &text(), 100), None);
        assert_eq!(compress(algorithm, &vec![0; 1 << 20], MSG), None, "ratio");
        assert_eq!(compress(algorithm, &text().repeat(1000), u32::MAX), None);
    }
}

#[test]
fn only_the_selected_algorithm_is_unpacked() {
    let packed = compress(Algorithm::Lz4, &text(), MSG).unwrap();
    assert_eq!(
        decompress(Algorithm::Zstd, &packed, MSG),
        Err(DecompressError::Algorithm(0))
    );
    assert_eq!(
        decompress(Algorithm::Lz4, &[7, 0, 0, 0, 0], MSG),
        Err(DecompressError::Algorithm(7))
    );
    assert_eq!(
        decompress(Algorithm::Lz4, &[0, 0, 0, 0], MSG),
        Err(DecompressError::Cut)
    );
}

#[test]
fn msg_and_1_mib_are_the_limits_of_a_decompressed_payload() {
    for (declared, limit, allowed) in [(1001, 1000, 1000), ((1 << 20) + 1, 16 << 20, 1 << 20)] {
        for algorithm in BOTH {
            assert_eq!(
                decompress(
                    algorithm,
                    &container(algorithm, declared, &vec![0; 100_000]),
                    limit
                ),
                Err(DecompressError::TooLarge {
                    declared,
                    limit: allowed
                })
            );
        }
    }
}

#[test]
fn more_than_64_times_the_data_is_refused() {
    for algorithm in BOTH {
        assert_eq!(
            decompress(
                algorithm,
                &container(algorithm, 10 * 64 + 1025, &[0; 10]),
                MSG
            ),
            Err(DecompressError::Ratio {
                declared: 1665,
                compressed: 10
            })
        );
        assert!(!matches!(
            decompress(
                algorithm,
                &container(algorithm, 10 * 64 + 1024, &[0; 10]),
                MSG
            ),
            Err(DecompressError::Ratio { .. })
        ));
    }
}

#[test]
fn more_or_less_than_declared_is_refused() {
    for algorithm in BOTH {
        let packed = compress(algorithm, &text(), MSG).unwrap();
        let length = u32::try_from(text().len()).unwrap();
        for declared in [0, length - 1, length + 1] {
            let lie = container(algorithm, declared, &packed[HEADER_LEN..]);
            assert!(decompress(algorithm, &lie, MSG).is_err());
        }
        let cut = &packed[..packed.len() - 1];
        assert!(decompress(algorithm, cut, MSG).is_err());
        assert!(decompress(algorithm, &[&packed[..], &[0]].concat(), MSG).is_err());
    }
}

/// A frame with one raw block.
fn raw_frame(header: &[u8], content: &[u8]) -> Vec<u8> {
    let mut frame = ZSTD_MAGIC.to_vec();
    frame.extend(header);
    let block = u32::try_from(content.len()).unwrap() << 3 | 1;
    frame.extend(&block.to_le_bytes()[..3]);
    frame.extend(content);
    frame
}

fn unpack(frame: &[u8], length: u32) -> Result<Vec<u8>, DecompressError> {
    decompress(
        Algorithm::Zstd,
        &container(Algorithm::Zstd, length, frame),
        MSG,
    )
}

#[test]
fn a_zstd_window_above_8_mib_is_refused() {
    let window = |descriptor| unpack(&raw_frame(&[0x00, descriptor], b"content"), 7);
    assert_eq!(window(13 << 3), Ok(b"content".to_vec()));
    assert_eq!(window(13 << 3 | 1), Err(DecompressError::Frame));
    assert_eq!(window(31 << 3 | 7), Err(DecompressError::Frame));
    assert_eq!(
        unpack(&raw_frame(&[0x40, 14 << 3, 0, 0], &[7; 256]), 256),
        Err(DecompressError::Frame)
    );
}

#[test]
fn a_zstd_dictionary_is_refused() {
    assert_eq!(
        unpack(&raw_frame(&[0x21, 0, 7], b"content"), 7),
        Err(DecompressError::Frame)
    );
}

#[test]
fn a_zstd_frame_of_another_length_is_refused_before_it_is_unpacked() {
    for header in [
        &[0x20, 8][..],
        &[0x60, 7, 0],
        &[0xA0, 8, 0, 0, 0],
        &[0xE0, 7, 0, 0, 0, 0, 0, 0, 1],
    ] {
        assert_eq!(
            unpack(&raw_frame(header, b"content"), 7),
            Err(DecompressError::Frame)
        );
    }
    assert_eq!(
        unpack(&raw_frame(&[0x20, 7], b"content"), 7),
        Ok(b"content".to_vec())
    );
    assert_eq!(
        unpack(&raw_frame(&[0xA0, 7, 0, 0, 0], b"content"), 7),
        Ok(b"content".to_vec())
    );
    let long = [7; 300];
    assert_eq!(
        unpack(&raw_frame(&[0x60, 44, 0], &long), 300),
        Ok(long.to_vec())
    );
}

#[test]
fn exactly_one_zstd_frame_is_unpacked() {
    let frame = raw_frame(&[0x20, 7], b"content");
    let empty = raw_frame(&[0x20, 0], b"");
    let skippable = b"\x50\x2a\x4d\x18\x01\x00\x00\x00x";
    for two in [
        [&frame[..], &empty].concat(),
        [&frame[..], skippable].concat(),
        [skippable, &frame[..]].concat(),
        [&frame[..], b"x"].concat(),
    ] {
        assert_eq!(unpack(&two, 7), Err(DecompressError::Frame));
    }
}

#[test]
fn a_cut_zstd_frame_header_is_refused() {
    let frame = raw_frame(&[0xE0, 7, 0, 0, 0, 0, 0, 0, 0], b"content");
    for end in 0..frame.len() {
        assert!(unpack(&frame[..end], 7).is_err());
    }
    assert!(unpack(&frame, 7).is_ok());
}

proptest! {
    #[test]
    fn arbitrary_containers_never_panic(
        algorithm in prop_oneof![Just(Algorithm::Lz4), Just(Algorithm::Zstd)],
        declared in 0u32..2000,
        magic in any::<bool>(),
        data in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let data = if magic { [&ZSTD_MAGIC[..], &data].concat() } else { data };
        let result = decompress(algorithm, &container(algorithm, declared, &data), MSG);
        if let Ok(out) = result {
            prop_assert_eq!(out.len(), usize::try_from(declared).unwrap());
        }
    }

    #[test]
    fn any_compressible_payload_survives(
        pattern in proptest::collection::vec(any::<u8>(), 20..200),
        times in 4usize..30,
    ) {
        let payload = pattern.repeat(times);
        for algorithm in BOTH {
            if let Some(packed) = compress(algorithm, &payload, MSG) {
                prop_assert_eq!(decompress(algorithm, &packed, MSG), Ok(payload.clone()));
            }
        }
    }
}
