//! The messages that `vhci-hcd` exchanges over its socket: 48 bytes big-endian, then data, then
//! isochronous descriptors (kernel `Documentation/usb/usbip_protocol.rst`).
//!
//! Both directions of both kinds are here, because the other end of the socket is played by tests.
//! The kernel's bytes are checked like anybody's: a local program may hold the socket.

/// Bytes of every header.
pub const HEADER: usize = 48;
/// Longest transfer buffer that a URB can have, in bytes (kernel `usb_submit_urb`).
pub const MAX_BUFFER: u32 = i32::MAX.cast_unsigned();
/// Most packets of an isochronous URB that USB/IP carries (kernel `USBIP_MAX_ISO_PACKETS`). The end
/// that has the device refuses more; `vhci_tx.c`, which speaks here, sends what a driver submits.
pub const MAX_ISO_PACKETS: u32 = 1024;
/// Most packets of any URB: their descriptors are counted in an `int`.
pub const MAX_PACKETS: u32 = MAX_BUFFER / 16;
/// Bytes of one isochronous descriptor.
pub const ISO_DESCRIPTOR: usize = 16;

/// `transfer_flags`: a short read is an error (kernel `USBIP_URB_SHORT_NOT_OK`).
pub const SHORT_NOT_OK: u32 = 0x0001;
/// `transfer_flags`: start as soon as possible (kernel `USBIP_URB_ISO_ASAP`).
pub const ISO_ASAP: u32 = 0x0002;
/// `transfer_flags`: end with an empty packet (kernel `USBIP_URB_ZERO_PACKET`).
pub const ZERO_PACKET: u32 = 0x0040;

const CMD_SUBMIT: u32 = 1;
const CMD_UNLINK: u32 = 2;
const RET_SUBMIT: u32 = 3;
const RET_UNLINK: u32 = 4;

/// Why bytes from the socket are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PduError {
    /// The command is not one that goes in this direction.
    #[error("command {0} is unknown")]
    Command(u32),
    /// The direction is neither 0 nor 1.
    #[error("direction {0} does not exist")]
    Direction(u32),
    /// The endpoint's number is above 15.
    #[error("endpoint {0} does not exist")]
    Endpoint(u32),
    /// The buffer is longer than [`MAX_BUFFER`].
    #[error("a transfer buffer of {0} bytes is too long")]
    Buffer(u32),
    /// More packets than [`MAX_PACKETS`], or than [`MAX_ISO_PACKETS`] where that is the limit.
    #[error("{0} isochronous packets are too many")]
    Packets(u32),
    /// A packet does not lie inside the buffer, or half a descriptor was given.
    #[error("an isochronous packet outside its buffer")]
    IsoBounds,
}

/// What the kernel sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// A URB.
    Submit(Submit),
    /// A URB is given up.
    Unlink(Unlink),
}

/// `CMD_SUBMIT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submit {
    /// Names the URB.
    pub seqnum: u32,
    /// What was written to `attach`.
    pub devid: u32,
    /// True for a transfer from the device.
    pub input: bool,
    /// 0–15, without direction.
    pub ep: u8,
    /// [`SHORT_NOT_OK`], [`ISO_ASAP`], [`ZERO_PACKET`] and bits that mean nothing here.
    pub transfer_flags: u32,
    /// Bytes of the transfer buffer, at most [`MAX_BUFFER`].
    pub length: u32,
    /// Isochronous only.
    pub start_frame: u32,
    /// Isochronous packets, 0 for every other kind; at most [`MAX_PACKETS`].
    pub packets: u32,
    /// The URB's interval in (micro)frames.
    pub interval: u32,
    /// The SETUP packet of a control transfer.
    pub setup: [u8; 8],
}

/// `CMD_UNLINK`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unlink {
    /// Names this command.
    pub seqnum: u32,
    /// Names the URB that is given up.
    pub target: u32,
}

impl Command {
    /// Reads a header.
    ///
    /// # Errors
    /// [`PduError`]; the stream cannot be followed any further then.
    pub fn parse(header: &[u8; HEADER]) -> Result<Self, PduError> {
        let words = words(header);
        let [command, seqnum, devid, direction, ep, ..] = words;
        match command {
            CMD_SUBMIT => Submit::parse(seqnum, devid, direction, ep, header).map(Self::Submit),
            CMD_UNLINK => Ok(Self::Unlink(Unlink {
                seqnum,
                target: words[5],
            })),
            other => Err(PduError::Command(other)),
        }
    }

    /// The header.
    pub fn to_bytes(self) -> [u8; HEADER] {
        match self {
            Self::Submit(submit) => submit.to_bytes(),
            Self::Unlink(unlink) => header(
                [
                    CMD_UNLINK,
                    unlink.seqnum,
                    0,
                    0,
                    0,
                    unlink.target,
                    0,
                    0,
                    0,
                    0,
                ],
                [0; 8],
            ),
        }
    }
}

impl Submit {
    /// Bytes of data behind the header: the buffer of a transfer to the device.
    pub const fn data_len(&self) -> u32 {
        if self.input { 0 } else { self.length }
    }

    /// Bytes of isochronous descriptors behind the data.
    pub const fn iso_len(&self) -> usize {
        self.packets as usize * ISO_DESCRIPTOR
    }

    fn parse(
        seqnum: u32,
        devid: u32,
        direction: u32,
        ep: u32,
        header: &[u8; HEADER],
    ) -> Result<Self, PduError> {
        let [
            ..,
            transfer_flags,
            length,
            start_frame,
            packets,
            interval,
            _,
            _,
        ] = words(header);
        let [.., s0, s1, s2, s3, s4, s5, s6, s7] = *header;
        let input = match direction {
            0 => false,
            1 => true,
            other => return Err(PduError::Direction(other)),
        };
        let Ok(number @ 0..=15) = u8::try_from(ep) else {
            return Err(PduError::Endpoint(ep));
        };
        if length > MAX_BUFFER {
            return Err(PduError::Buffer(length));
        }
        // Other URBs carry 0, or -1 in newer kernels.
        let packets = match packets {
            u32::MAX => 0,
            0..=MAX_PACKETS => packets,
            other => return Err(PduError::Packets(other)),
        };
        Ok(Self {
            seqnum,
            devid,
            input,
            ep: number,
            transfer_flags,
            length,
            start_frame,
            packets,
            interval,
            setup: [s0, s1, s2, s3, s4, s5, s6, s7],
        })
    }

    fn to_bytes(self) -> [u8; HEADER] {
        header(
            [
                CMD_SUBMIT,
                self.seqnum,
                self.devid,
                u32::from(self.input),
                u32::from(self.ep),
                self.transfer_flags,
                self.length,
                self.start_frame,
                self.packets,
                self.interval,
            ],
            self.setup,
        )
    }
}

/// What the kernel is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    /// A URB has completed.
    Submit(RetSubmit),
    /// An unlink has been dealt with.
    Unlink(RetUnlink),
}

/// `RET_SUBMIT`. An unknown `seqnum` makes the kernel drop the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetSubmit {
    /// The URB's name.
    pub seqnum: u32,
    /// 0 or a negative errno.
    pub status: i32,
    /// Bytes moved; the data of a read follows, and for an isochronous URB the sum of its packets.
    pub actual_length: u32,
    /// Isochronous only.
    pub start_frame: u32,
    /// As in the URB.
    pub packets: u32,
    /// Isochronous packets with a status other than 0.
    pub error_count: u32,
}

/// `RET_UNLINK`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetUnlink {
    /// The name of the unlink command.
    pub seqnum: u32,
    /// `-ECONNRESET`: the URB was given up and no `RET_SUBMIT` follows. 0: it had completed and its
    /// `RET_SUBMIT` came before.
    pub status: i32,
}

impl Return {
    /// Reads a header.
    ///
    /// # Errors
    /// [`PduError::Command`] when it is no answer.
    pub fn parse(header: &[u8; HEADER]) -> Result<Self, PduError> {
        let [
            command,
            seqnum,
            _,
            _,
            _,
            status,
            actual_length,
            start_frame,
            packets,
            error_count,
            ..,
        ] = words(header);
        let status = status.cast_signed();
        match command {
            RET_SUBMIT => Ok(Self::Submit(RetSubmit {
                seqnum,
                status,
                actual_length,
                start_frame,
                packets,
                error_count,
            })),
            RET_UNLINK => Ok(Self::Unlink(RetUnlink { seqnum, status })),
            other => Err(PduError::Command(other)),
        }
    }

    /// The header.
    pub fn to_bytes(self) -> [u8; HEADER] {
        let words = match self {
            Self::Submit(ret) => [
                RET_SUBMIT,
                ret.seqnum,
                0,
                0,
                0,
                ret.status.cast_unsigned(),
                ret.actual_length,
                ret.start_frame,
                ret.packets,
                ret.error_count,
            ],
            Self::Unlink(ret) => {
                let status = ret.status.cast_unsigned();
                [RET_UNLINK, ret.seqnum, 0, 0, 0, status, 0, 0, 0, 0]
            }
        };
        header(words, [0; 8])
    }
}

/// One packet of an isochronous URB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IsoDescriptor {
    /// Where it starts in the transfer buffer.
    pub offset: u32,
    /// Bytes it may have.
    pub length: u32,
    /// Bytes it had.
    pub actual_length: u32,
    /// 0 or a negative errno.
    pub status: i32,
}

impl IsoDescriptor {
    /// Reads one descriptor, whatever it says.
    pub fn from_bytes(bytes: &[u8; ISO_DESCRIPTOR]) -> Self {
        let [offset, length, actual_length, status] = be_words(bytes);
        Self {
            offset,
            length,
            actual_length,
            status: status.cast_signed(),
        }
    }

    /// True when the packet lies inside a buffer of `buffer` bytes.
    pub fn is_inside(&self, buffer: u32) -> bool {
        self.offset
            .checked_add(self.length)
            .is_some_and(|end| end <= buffer)
    }

    /// Reads the descriptors of a URB whose buffer has `buffer` bytes. The two result fields are as
    /// they came: in a command they are left over from the URB's last use.
    ///
    /// # Errors
    /// [`PduError`] when there are too many, a rest that is no descriptor, or a packet that does not
    /// lie inside the buffer.
    pub fn parse_all(bytes: &[u8], buffer: u32) -> Result<Vec<Self>, PduError> {
        let (descriptors, rest) = bytes.as_chunks::<ISO_DESCRIPTOR>();
        if !rest.is_empty() {
            return Err(PduError::IsoBounds);
        }
        match u32::try_from(descriptors.len()) {
            Ok(0..=MAX_ISO_PACKETS) => {}
            Ok(count) => return Err(PduError::Packets(count)),
            Err(_) => return Err(PduError::Packets(u32::MAX)),
        }
        descriptors
            .iter()
            .map(|descriptor| {
                let packet = Self::from_bytes(descriptor);
                let inside = packet.is_inside(buffer);
                inside.then_some(packet).ok_or(PduError::IsoBounds)
            })
            .collect()
    }

    /// The descriptor's bytes.
    pub fn to_bytes(self) -> [u8; ISO_DESCRIPTOR] {
        let mut bytes = [0; ISO_DESCRIPTOR];
        let words = [
            self.offset,
            self.length,
            self.actual_length,
            self.status.cast_unsigned(),
        ];
        for (chunk, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *chunk = word.to_be_bytes();
        }
        bytes
    }

    /// Appends the descriptor.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_bytes());
    }
}

fn words(header: &[u8; HEADER]) -> [u32; 12] {
    be_words(header)
}

/// `N` big-endian words; bytes beyond are ignored, missing ones are 0.
fn be_words<const N: usize>(bytes: &[u8]) -> [u32; N] {
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = u32::from_be_bytes(*bytes);
    }
    words
}

fn header(words: [u32; 10], tail: [u8; 8]) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    let (chunks, _) = header.as_chunks_mut::<4>();
    for (chunk, word) in chunks.iter_mut().zip(words) {
        *chunk = word.to_be_bytes();
    }
    let (_, end) = header.split_at_mut(HEADER - tail.len());
    end.copy_from_slice(&tail);
    header
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SUBMIT: Submit = Submit {
        seqnum: 0x0102_0304,
        devid: 0x0001_0002,
        input: true,
        ep: 2,
        transfer_flags: 0x0200 | SHORT_NOT_OK,
        length: 64,
        start_frame: 0,
        packets: 0,
        interval: 4,
        setup: [0x80, 6, 0, 1, 0, 0, 18, 0],
    };

    #[test]
    fn a_submit_has_the_layout_of_the_kernel() {
        let bytes = Command::Submit(SUBMIT).to_bytes();
        let expected = b"\0\0\0\x01\x01\x02\x03\x04\0\x01\0\x02\0\0\0\x01\0\0\0\x02\
            \0\0\x02\x01\0\0\0\x40\0\0\0\0\0\0\0\0\0\0\0\x04\x80\x06\0\x01\0\0\x12\0";
        assert_eq!(&bytes, expected);
        assert_eq!(Command::parse(&bytes), Ok(Command::Submit(SUBMIT)));
        assert_eq!((SUBMIT.data_len(), SUBMIT.iso_len()), (0, 0));
    }

    #[test]
    fn minus_one_packets_are_none() {
        let mut bytes = Command::Submit(SUBMIT).to_bytes();
        bytes[32..36].copy_from_slice(&[0xFF; 4]);
        assert_eq!(Command::parse(&bytes), Ok(Command::Submit(SUBMIT)));
    }

    #[test]
    fn an_unlink_names_its_target_in_the_sixth_word() {
        let unlink = Command::Unlink(Unlink {
            seqnum: 9,
            target: 7,
        });
        let bytes = unlink.to_bytes();
        assert_eq!(
            bytes[..24],
            *b"\0\0\0\x02\0\0\0\x09\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x07"
        );
        assert_eq!(Command::parse(&bytes), Ok(unlink));
    }

    #[test]
    fn answers_have_the_layout_of_the_kernel() {
        let ret = Return::Submit(RetSubmit {
            seqnum: 5,
            status: -32,
            actual_length: 6,
            start_frame: 0,
            packets: 0,
            error_count: 1,
        });
        let bytes = ret.to_bytes();
        assert_eq!(
            bytes[..40],
            *b"\0\0\0\x03\0\0\0\x05\0\0\0\0\0\0\0\0\0\0\0\0\
            \xFF\xFF\xFF\xE0\0\0\0\x06\0\0\0\0\0\0\0\0\0\0\0\x01"
        );
        assert_eq!(Return::parse(&bytes), Ok(ret));
        let ret = Return::Unlink(RetUnlink {
            seqnum: 6,
            status: -104,
        });
        assert_eq!(Return::parse(&ret.to_bytes()), Ok(ret));
    }

    #[test]
    fn fields_outside_their_range_are_refused() {
        let with = |at: usize, word: u32| {
            let mut bytes = Command::Submit(SUBMIT).to_bytes();
            bytes[at..at + 4].copy_from_slice(&word.to_be_bytes());
            Command::parse(&bytes)
        };
        assert_eq!(with(0, RET_SUBMIT), Err(PduError::Command(RET_SUBMIT)));
        assert_eq!(with(12, 2), Err(PduError::Direction(2)));
        assert_eq!(with(16, 16), Err(PduError::Endpoint(16)));
        assert_eq!(with(16, 0x0100), Err(PduError::Endpoint(0x0100)));
        assert_eq!(
            with(24, MAX_BUFFER + 1),
            Err(PduError::Buffer(MAX_BUFFER + 1))
        );
        assert_eq!(with(24, u32::MAX), Err(PduError::Buffer(u32::MAX)));
        assert_eq!(
            with(32, MAX_PACKETS + 1),
            Err(PduError::Packets(MAX_PACKETS + 1))
        );
        assert_eq!(with(32, 0xFFFF_FFFE), Err(PduError::Packets(0xFFFF_FFFE)));
    }

    #[test]
    fn isochronous_packets_lie_inside_the_buffer() {
        let parse = |offset, length, actual_length| {
            let mut bytes = Vec::new();
            IsoDescriptor {
                offset,
                length,
                actual_length,
                status: -18,
            }
            .write(&mut bytes);
            IsoDescriptor::parse_all(&bytes, 100).map(|packets| packets[0].status)
        };
        assert_eq!(parse(40, 60, 60), Ok(-18));
        assert_eq!(parse(41, 60, 0), Err(PduError::IsoBounds));
        assert_eq!(parse(u32::MAX, 2, 0), Err(PduError::IsoBounds));
        assert_eq!(parse(0, 4, u32::MAX), Ok(-18));
        assert_eq!(
            IsoDescriptor::parse_all(&[0; 17], 100),
            Err(PduError::IsoBounds)
        );
        assert_eq!(
            IsoDescriptor::parse_all(&vec![0; 16 * 1025], 100),
            Err(PduError::Packets(1025))
        );
    }

    fn any_header() -> impl Strategy<Value = [u8; HEADER]> {
        (
            0u32..6,
            proptest::array::uniform32(any::<u8>()),
            any::<[u8; 12]>(),
        )
            .prop_map(|(command, middle, end)| {
                let mut bytes = [0; HEADER];
                bytes[..4].copy_from_slice(&command.to_be_bytes());
                bytes[4..36].copy_from_slice(&middle);
                bytes[36..].copy_from_slice(&end);
                bytes
            })
    }

    proptest! {
        #[test]
        fn any_header_is_refused_or_bounded(bytes in any_header()) {
            if let Ok(Command::Submit(submit)) = Command::parse(&bytes) {
                prop_assert!(submit.length <= MAX_BUFFER && submit.packets <= MAX_PACKETS);
                prop_assert!(submit.ep < 16);
            }
            let _ = Return::parse(&bytes);
        }

        #[test]
        fn any_submit_survives(
            seqnum in any::<u32>(),
            input in any::<bool>(),
            ep in 0u8..16,
            transfer_flags in any::<u32>(),
            length in 0..=MAX_BUFFER,
            packets in 0..=MAX_PACKETS,
            setup in any::<[u8; 8]>(),
        ) {
            let submit = Submit { seqnum, input, ep, transfer_flags, length, packets, setup, ..SUBMIT };
            let bytes = Command::Submit(submit).to_bytes();
            prop_assert_eq!(Command::parse(&bytes), Ok(Command::Submit(submit)));
        }

        #[test]
        fn any_descriptors_are_refused_or_inside(
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
            buffer in any::<u32>(),
        ) {
            if let Ok(packets) = IsoDescriptor::parse_all(&bytes, buffer) {
                for packet in packets {
                    prop_assert!(u64::from(packet.offset) + u64::from(packet.length) <= u64::from(buffer));
                }
            }
        }
    }
}
