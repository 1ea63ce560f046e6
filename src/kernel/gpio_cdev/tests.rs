use super::*;

/// Of a 64-bit C compiler with the kernel's header.
#[test]
fn the_structures_have_the_sizes_of_the_kernel() {
    assert_eq!(abi::SIZES, [68, 256, 592, 272, 16, 48]);
}

#[test]
fn a_file_that_is_no_chip_is_told_as_such() {
    let chip = Chip::open(Path::new("/dev/null")).unwrap();
    assert_eq!(chip.info(), Err(Errno::ENOTTY));
    assert_eq!(chip.line_info(0), Err(Errno::ENOTTY));
    let requested = chip.request(&[0], "test", &Config::default());
    assert_eq!(requested.unwrap_err(), Errno::ENOTTY);
}

#[test]
fn more_lines_or_attributes_than_the_kernel_takes_are_not_sent() {
    let chip = Chip::open(Path::new("/dev/null")).unwrap();
    let config = Config::default();
    assert_eq!(
        chip.request(&[0; 65], "", &config).unwrap_err(),
        Errno::EINVAL
    );
    let config = Config {
        attributes: vec![(Attribute::Values(0), 0); 11],
        ..config
    };
    assert_eq!(chip.request(&[0], "", &config).unwrap_err(), Errno::E2BIG);
}

#[test]
fn an_event_is_taken_apart_as_the_kernel_wrote_it() {
    let mut bytes = [0xEE; 48];
    bytes[..8].copy_from_slice(&7_000_000_001u64.to_ne_bytes());
    bytes[8..12].copy_from_slice(&2u32.to_ne_bytes());
    bytes[12..16].copy_from_slice(&5u32.to_ne_bytes());
    bytes[16..20].copy_from_slice(&9u32.to_ne_bytes());
    let event = Event {
        time_ns: 7_000_000_001,
        rising: false,
        offset: 5,
        seqno: 9,
    };
    assert_eq!(abi::event(&bytes), event);
    bytes[8..12].copy_from_slice(&1u32.to_ne_bytes());
    assert!(abi::event(&bytes).rising);
}

#[test]
fn names_end_at_their_zero() {
    assert_eq!(text(b"GPIO4\0\0x"), "GPIO4");
    assert_eq!(text(b"full"), "full");
}
