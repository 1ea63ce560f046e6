//! `struct can_frame` and `struct canfd_frame` (kernel `include/uapi/linux/can.h`).

use core::fmt;

/// Most data bytes of a classic frame.
pub const MAX_CLASSIC: usize = 8;
/// Most data bytes of a CAN FD frame.
pub const MAX_FD: usize = 64;
/// Bytes of `struct can_frame`.
pub(super) const CLASSIC_BYTES: usize = 16;
/// Bytes of `struct canfd_frame`.
pub(super) const FD_BYTES: usize = 72;
/// Where the data begins in both.
const HEAD: usize = 8;
/// `CANFD_BRS | CANFD_ESI`.
const FLAGS: u8 = 0x03;
/// `CANFD_FDF`: set by the kernel since 5.14, ours only to tell the frames apart.
const FDF: u8 = 0x04;

/// One frame. Its data is never longer than its format allows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    id: u32,
    flags: u8,
    length: u8,
    data: [u8; MAX_FD],
}

/// Why there can be no such frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// An identifier of 11 bits above 0x7ff.
    #[error("the identifier has more bits than its format")]
    Id,
    /// A remote or error frame in CAN FD, which has none; the bits BRS and ESI without FD.
    #[error("flags that contradict each other")]
    Flags,
    /// More than 8 bytes, or more than 64 with FD.
    #[error("{0} bytes of data")]
    Length(usize),
}

impl Frame {
    /// `CAN_EFF_FLAG`: the identifier has 29 bits.
    pub const EXTENDED: u32 = 1 << 31;
    /// `CAN_RTR_FLAG`: a remote frame, which asks for data.
    pub const REMOTE: u32 = 1 << 30;
    /// `CAN_ERR_FLAG`: an error frame, made by the kernel and never on a bus.
    pub const ERROR: u32 = 1 << 29;
    /// Flag: the data at the data bit rate (`CANFD_BRS`).
    pub const BRS: u8 = 0x01;
    /// Flag: the sender is error passive (`CANFD_ESI`).
    pub const ESI: u8 = 0x02;
    /// Flag: a CAN FD frame.
    pub const FD: u8 = FDF;

    /// A frame with the identifier and flags of `SocketCAN`. A remote frame's data is as long as what
    /// it asks for, at most 8; what the bytes are means nothing.
    ///
    /// # Errors
    /// [`FrameError`].
    pub fn new(id: u32, flags: u8, data: &[u8]) -> Result<Self, FrameError> {
        let fd = flags & Self::FD != 0;
        let special = id & (Self::REMOTE | Self::ERROR) != 0;
        if id & (Self::EXTENDED | Self::ERROR) == 0 && id & !Self::REMOTE > 0x7FF {
            return Err(FrameError::Id);
        }
        if flags & !(FLAGS | FDF) != 0 || (fd && special) || (!fd && flags != 0) {
            return Err(FrameError::Flags);
        }
        let most = if fd { MAX_FD } else { MAX_CLASSIC };
        let mut frame = Self {
            id,
            flags,
            length: 0,
            data: [0; MAX_FD],
        };
        let room = frame.data.get_mut(..data.len());
        match (u8::try_from(data.len()), room) {
            (Ok(length), Some(room)) if data.len() <= most => {
                frame.length = length;
                if id & Self::REMOTE == 0 {
                    room.copy_from_slice(data);
                }
                Ok(frame)
            }
            (_, _) => Err(FrameError::Length(data.len())),
        }
    }

    /// The identifier with its three format bits.
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// [`Frame::BRS`], [`Frame::ESI`], [`Frame::FD`].
    pub const fn flags(&self) -> u8 {
        self.flags
    }

    /// The data.
    pub fn data(&self) -> &[u8] {
        // INVARIANT: `length` is at most 64, the length of `data`.
        self.data
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }

    /// A CAN FD frame.
    pub const fn is_fd(&self) -> bool {
        self.flags & Self::FD != 0
    }

    /// An error frame.
    pub const fn is_error(&self) -> bool {
        self.id & Self::ERROR != 0
    }

    /// The kernel's form: 16 bytes, or 72 with FD, at the front of the array.
    pub(super) fn to_raw(self) -> ([u8; FD_BYTES], usize) {
        let mut raw = [0; FD_BYTES];
        let (head, data) = raw.split_at_mut(HEAD);
        head.copy_from_slice(&self.head());
        data.copy_from_slice(&self.data);
        let bytes = if self.is_fd() {
            FD_BYTES
        } else {
            CLASSIC_BYTES
        };
        (raw, bytes)
    }

    fn head(&self) -> [u8; HEAD] {
        let [a, b, c, d] = self.id.to_ne_bytes();
        [a, b, c, d, self.length, self.flags, 0, 0]
    }

    /// What a read of a raw socket gave; `None` for what is neither of the two structures.
    pub(super) fn from_raw(raw: &[u8]) -> Option<Self> {
        let (head, data) = raw.split_first_chunk::<HEAD>()?;
        let [a, b, c, d, length, flags, ..] = *head;
        let flags = match raw.len() {
            CLASSIC_BYTES => 0,
            FD_BYTES => flags & FLAGS | FDF,
            _ => return None,
        };
        let id = u32::from_ne_bytes([a, b, c, d]);
        Self::new(id, flags, data.get(..usize::from(length))?).ok()
    }
}

impl fmt::Debug for Frame {
    /// As `candump` writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.id & 0x1FFF_FFFF;
        if self.id & (Self::EXTENDED | Self::ERROR) == 0 {
            write!(f, "{id:03X}#")?;
        } else {
            write!(f, "{:08X}#", id | self.id & Self::ERROR)?;
        }
        if self.is_fd() {
            write!(f, "#{:X}", self.flags & FLAGS)?;
        }
        if self.id & Self::REMOTE != 0 {
            return write!(f, "R{}", self.length);
        }
        self.data()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_frame_without_sense_is_none() {
        let new = |id, flags, length| Frame::new(id, flags, &[0; 65][..length]).err();
        assert_eq!(new(0x7FF, 0, 8), None);
        assert_eq!(new(0x800, 0, 0), Some(FrameError::Id));
        assert_eq!(new(0x800 | Frame::REMOTE, 0, 0), Some(FrameError::Id));
        assert_eq!(new(0x1FFF_FFFF | Frame::EXTENDED, 0, 0), None);
        assert_eq!(new(0x1FFF_FFFF | Frame::ERROR, 0, 8), None);
        assert_eq!(new(1, 0, 9), Some(FrameError::Length(9)));
        assert_eq!(new(1, Frame::FD, 64), None);
        assert_eq!(new(1, Frame::FD, 65), Some(FrameError::Length(65)));
        assert_eq!(new(1, Frame::BRS, 0), Some(FrameError::Flags));
        assert_eq!(new(1, 0x08 | Frame::FD, 0), Some(FrameError::Flags));
        let remote = 1 | Frame::REMOTE;
        assert_eq!(new(remote, Frame::FD, 0), Some(FrameError::Flags));
        assert_eq!(new(remote, 0, 8), None);
    }

    #[test]
    fn frames_are_written_as_candump_does() {
        let text = |id, flags, data: &[u8]| format!("{:?}", Frame::new(id, flags, data).unwrap());
        assert_eq!(text(0x123, 0, &[0xDE, 0xAD]), "123#DEAD");
        assert_eq!(text(0x1 | Frame::EXTENDED, 0, &[]), "00000001#");
        assert_eq!(text(0x123 | Frame::REMOTE, 0, &[0; 4]), "123#R4");
        assert_eq!(text(0x123, Frame::FD | Frame::BRS, &[1]), "123##101");
        assert_eq!(text(0x4 | Frame::ERROR, 0, &[0; 2]), "20000004#0000");
    }

    #[test]
    fn the_kernels_form_of_a_classic_frame_has_its_bytes() {
        let frame = Frame::new(0x123, 0, &[1, 2, 3]).unwrap();
        let (raw, bytes) = frame.to_raw();
        let id = 0x123u32.to_ne_bytes();
        let wanted = [&id[..], &[3, 0, 0, 0, 1, 2, 3, 0, 0, 0, 0, 0]].concat();
        assert_eq!(raw[..bytes], wanted);
    }

    proptest! {
        #[test]
        fn what_the_kernel_is_given_comes_back(
            id: u32,
            flags in 0u8..8,
            data in proptest::collection::vec(any::<u8>(), 0..=64),
        ) {
            if let Ok(frame) = Frame::new(id, flags, &data) {
                let (raw, bytes) = frame.to_raw();
                prop_assert_eq!(Frame::from_raw(&raw[..bytes]), Some(frame));
            }
        }

        #[test]
        fn no_bytes_of_the_kernel_make_a_frame_that_cannot_be(
            raw in proptest::collection::vec(any::<u8>(), 0..=80),
        ) {
            if let Some(frame) = Frame::from_raw(&raw) {
                prop_assert_eq!(Frame::new(frame.id(), frame.flags(), frame.data()), Ok(frame));
            }
        }
    }
}
