use super::*;

#[test]
#[cfg(target_pointer_width = "64")]
fn the_structures_have_the_kernels_size() {
    assert_eq!(abi::SIZES, [16, 16, 16, 34]);
}

#[test]
fn a_file_that_is_no_bus_is_refused_by_every_call() {
    let bus = Bus::open(Path::new("/dev/null")).unwrap();
    assert_eq!(bus.functionality(), Err(Errno::ENOTTY));
    assert_eq!(bus.select(0x50, false, false), Err(Errno::ENOTTY));
    assert_eq!(bus.set_pec(true), Err(Errno::ENOTTY));
    let message = Message {
        addr: 0x50,
        flags: flag::READ,
        data: vec![0; 4],
    };
    assert_eq!(bus.transfer(&mut [message]), Err(Errno::ENOTTY));
    let command = Command {
        read: true,
        command: 0,
        size: size::BYTE,
    };
    let answer = bus.smbus(command, &mut [0; SMBUS_DATA]);
    assert_eq!(answer, Err(Errno::ENOTTY));
}

#[test]
fn a_message_that_is_longer_than_its_length_can_say_is_not_sent() {
    let bus = Bus::open(Path::new("/dev/null")).unwrap();
    let message = Message {
        addr: 0x50,
        flags: 0,
        data: vec![0; 0x1_0000],
    };
    assert_eq!(bus.transfer(&mut [message]), Err(Errno::EINVAL));
}
