//! The kernel's messages, and the answers to it.

use myclerk::kernel::usbip_pdu::{
    Command, HEADER, ISO_DESCRIPTOR, IsoDescriptor, MAX_BUFFER, MAX_ISO_PACKETS, MAX_PACKETS,
    Return,
};

use super::bytes::Bytes;
use super::kernel::{self, Kernel};
use super::rig::{DESCRIPTORS, Rig, run};

/// Bytes of the kernel's end of the socket, in pieces, through the real reader. The first byte is
/// the size of a piece.
///
/// # Panics
/// When the client half answers what was not asked.
pub fn commands(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let piece = usize::from(bytes.u8()) + 1;
    let stream = bytes.take(usize::MAX);
    for header in stream.as_chunks::<HEADER>().0 {
        command(header);
    }
    run(async {
        let mut kernel = Kernel::lenient();
        for (command, iso) in kernel::commands(stream) {
            match command {
                Command::Submit(submit) => kernel.submitted(submit, iso),
                Command::Unlink(unlink) => kernel.unlinked(unlink),
            }
        }
        let mut rig = Rig::new(DESCRIPTORS, kernel).expect("a device");
        for piece in stream.chunks(piece.max(stream.len() / 64)) {
            rig.say(piece);
            rig.settle(1).await;
        }
        rig.end().await;
    });
}

/// A header is refused, or within the limits and the same after a round trip.
fn command(header: &[u8; HEADER]) {
    let Ok(command) = Command::parse(header) else {
        return;
    };
    if let Command::Submit(submit) = command {
        assert!(submit.length <= MAX_BUFFER && submit.packets <= MAX_PACKETS);
        assert!(submit.ep < 16 && submit.data_len() <= submit.length);
        assert!(submit.iso_len() <= MAX_PACKETS as usize * ISO_DESCRIPTOR);
    }
    assert_eq!(Command::parse(&command.to_bytes()), Ok(command));
}

/// Answers to the kernel as another program would read them. The first two bytes are the length of
/// the buffer that isochronous descriptors are read for.
///
/// # Panics
/// When reading is not the opposite of writing, or a packet lies outside of its buffer.
pub fn answers(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let buffer = u32::from(bytes.u16());
    let rest = bytes.take(usize::MAX);
    for header in rest.as_chunks::<HEADER>().0 {
        if let Ok(answer) = Return::parse(header) {
            assert_eq!(Return::parse(&answer.to_bytes()), Ok(answer));
        }
    }
    let Ok(packets) = IsoDescriptor::parse_all(rest, buffer) else {
        return;
    };
    assert!(packets.len() <= MAX_ISO_PACKETS as usize);
    let mut written = Vec::new();
    for packet in &packets {
        assert!(u64::from(packet.offset) + u64::from(packet.length) <= u64::from(buffer));
        packet.write(&mut written);
    }
    assert_eq!(written, rest);
}
