//! Cutting a unit into pieces.

use super::header::{HEADER_LEN, Header};
use crate::wire::flags::Flags;
use crate::wire::varint;

/// A unit on its way out, one piece at a time.
#[derive(Clone, Debug)]
pub struct Splitter {
    flags: Flags,
    head: Vec<u8>,
    payload: Vec<u8>,
    piece: usize,
    message_id: Option<u32>,
    next: u16,
    count: u16,
    total: u32,
}

impl Splitter {
    /// Cuts the unit `head || payload` into pieces of `piece` bytes, the last one shorter.
    ///
    /// `flags` are those of the unfragmented frame or direct message; `head` is what
    /// [`FrameHead::emit_unit_head`](crate::wire::frame::FrameHead::emit_unit_head) wrote, empty in
    /// direct form. `None` when one piece is enough, or 65535 are not.
    pub fn new(flags: Flags, head: Vec<u8>, payload: Vec<u8>, piece: usize) -> Option<Self> {
        let length = head.len().checked_add(payload.len())?;
        let total = u32::try_from(length).ok()?;
        if piece == 0 || length <= piece {
            return None;
        }
        Some(Self {
            flags: Flags {
                fragment: true,
                ..flags
            },
            head,
            payload,
            piece,
            message_id: None,
            next: 0,
            count: u16::try_from(length.div_ceil(piece)).ok()?,
            total,
        })
    }

    /// Pieces not emitted yet.
    pub const fn left(&self) -> u16 {
        self.count - self.next
    }

    /// True before the first piece is emitted: until then the unit may still be dropped. Later it
    /// must be sent whole, or it occupies one of the receiver's reassemblies for good.
    pub const fn is_untouched(&self) -> bool {
        self.next == 0
    }

    /// Bytes that [`Self::emit_frame`] appends next, 0 when nothing is left.
    pub fn next_frame_len(&self) -> usize {
        if self.left() == 0 {
            return 0;
        }
        let frame = 1 + HEADER_LEN + self.next_piece_len();
        varint::len(as_u64(frame)) + frame
    }

    /// Bytes of the next piece alone, 0 when nothing is left.
    pub fn next_piece_len(&self) -> usize {
        let length = self.head.len() + self.payload.len();
        length
            .saturating_sub(usize::from(self.next) * self.piece)
            .min(self.piece)
    }

    /// Appends the next piece as a frame. The unit takes its message id from `ids`, which is then
    /// advanced, with its first piece, so that ids ascend in the order in which units start.
    ///
    /// Returns false, and appends nothing, when no piece is left.
    pub fn emit_frame(&mut self, ids: &mut u32, out: &mut Vec<u8>) -> bool {
        if self.left() == 0 {
            return false;
        }
        varint::write(out, as_u64(1 + HEADER_LEN + self.next_piece_len()));
        out.push(self.flags.to_u8());
        self.emit_piece(ids, out)
    }

    /// Appends fragment header and next piece, the plaintext of a direct message with F. See
    /// [`Self::emit_frame`].
    pub fn emit_piece(&mut self, ids: &mut u32, out: &mut Vec<u8>) -> bool {
        if self.left() == 0 {
            return false;
        }
        let message_id = *self.message_id.get_or_insert_with(|| {
            let id = *ids;
            *ids = ids.wrapping_add(1);
            id
        });
        Header {
            message_id,
            index: self.next,
            count: self.count,
            total: self.total,
        }
        .emit(out);
        let start = usize::from(self.next) * self.piece;
        let end = start + self.next_piece_len();
        let split = self.head.len();
        let part = |bytes: &[u8], from: usize, to: usize, out: &mut Vec<u8>| {
            out.extend_from_slice(bytes.get(from..to).unwrap_or_default());
        };
        part(&self.head, start.min(split), end.min(split), out);
        part(
            &self.payload,
            start.saturating_sub(split),
            end.saturating_sub(split),
            out,
        );
        self.next += 1;
        true
    }
}

fn as_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::flags::Tier;

    const PLAIN: Flags = Flags::plain(Tier::T0);

    #[test]
    fn a_unit_that_fits_one_piece_is_not_cut() {
        assert!(Splitter::new(PLAIN, vec![0; 10], vec![0; 38], 48).is_none());
        assert!(Splitter::new(PLAIN, vec![0; 10], vec![0; 39], 48).is_some());
        assert!(Splitter::new(PLAIN, vec![], vec![0; 10], 0).is_none());
    }

    #[test]
    fn more_than_65535_pieces_are_not_possible() {
        assert!(Splitter::new(PLAIN, vec![], vec![0; 65535], 1).is_some());
        assert!(Splitter::new(PLAIN, vec![], vec![0; 65536], 1).is_none());
    }

    #[test]
    fn a_unit_takes_its_id_when_it_starts() {
        let mut ids = 7;
        let mut out = Vec::new();
        let mut early = Splitter::new(PLAIN, vec![1; 3], vec![2; 3], 4).unwrap();
        let mut late = early.clone();
        assert!(late.emit_piece(&mut ids, &mut out));
        assert!(early.emit_piece(&mut ids, &mut out));
        assert!(late.emit_piece(&mut ids, &mut out));
        assert!(!late.emit_piece(&mut ids, &mut out));
        assert_eq!(ids, 9);
        assert_eq!(out[..16], [0, 0, 0, 7, 0, 0, 0, 2, 0, 0, 0, 6, 1, 1, 1, 2]);
        assert_eq!(out[16..20], [0, 0, 0, 8]);
        assert_eq!(out[32..], [0, 0, 0, 7, 0, 1, 0, 2, 0, 0, 0, 6, 2, 2]);
    }

    #[test]
    fn the_announced_frame_length_is_the_emitted_one() {
        let mut ids = 0;
        let mut splitter = Splitter::new(PLAIN, vec![0; 5], vec![0; 200], 60).unwrap();
        for left in (0..4).rev() {
            let mut out = Vec::new();
            let announced = splitter.next_frame_len();
            assert!(splitter.emit_frame(&mut ids, &mut out));
            assert_eq!((out.len(), splitter.left()), (announced, left));
            assert!(!splitter.is_untouched());
        }
        assert_eq!(splitter.next_frame_len(), 0);
        assert!(!splitter.emit_frame(&mut ids, &mut Vec::new()));
    }
}
