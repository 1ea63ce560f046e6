//! The header in front of each piece, and what can be wrong with fragments.

/// Bytes of the fragment header.
pub const HEADER_LEN: usize = 12;

/// The header in front of each piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Names the unit: per direction, ascending, unique in the session.
    pub message_id: u32,
    /// Which piece, from 0; below `count`.
    pub index: u16,
    /// How many pieces, at least 2.
    pub count: u16,
    /// Bytes of the whole unit.
    pub total: u32,
}

/// Why a fragment is not acceptable; each of them ends the session with 0x10 "fragment".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FragmentError {
    /// The header is cut.
    #[error("a fragment header is cut")]
    Cut,
    /// A piece without bytes.
    #[error("an empty fragment")]
    Empty,
    /// Fewer than two pieces, an index beyond the count, or more pieces than bytes.
    #[error("fragment {index} of {count} of {total} bytes")]
    Numbers {
        /// As announced.
        index: u16,
        /// As announced.
        count: u16,
        /// As announced.
        total: u32,
    },
    /// The unit would be larger than our `limits.msg`.
    #[error("a unit of {total} bytes where {limit} are allowed")]
    TooLarge {
        /// As announced.
        total: u32,
        /// Ours.
        limit: u32,
    },
    /// More unfinished units than [`crate::wire::limits::REASSEMBLIES`] on an ordered path.
    #[error("too many unfinished units")]
    TooManyUnits,
    /// An ordered path delivered a piece that is not the unit's next, or a unit that does not
    /// ascend.
    #[error("piece {index} of unit {message_id} is out of order")]
    Order {
        /// Of the unit.
        message_id: u32,
        /// Of the piece.
        index: u16,
    },
    /// Two pieces disagree on flags, count, total or bytes, or do not add up to the total.
    #[error("the pieces of unit {0} contradict each other")]
    Contradiction(u32),
}

impl Header {
    /// Reads a header and returns it with the piece that follows.
    ///
    /// # Errors
    /// [`FragmentError`] when the header contradicts itself or the piece is empty.
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), FragmentError> {
        let ([i0, i1, i2, i3, x0, x1, c0, c1, t0, t1, t2, t3], piece) = bytes
            .split_first_chunk::<HEADER_LEN>()
            .ok_or(FragmentError::Cut)?;
        let header = Self {
            message_id: u32::from_be_bytes([*i0, *i1, *i2, *i3]),
            index: u16::from_be_bytes([*x0, *x1]),
            count: u16::from_be_bytes([*c0, *c1]),
            total: u32::from_be_bytes([*t0, *t1, *t2, *t3]),
        };
        if header.count < 2
            || header.index >= header.count
            || header.total < u32::from(header.count)
        {
            return Err(FragmentError::Numbers {
                index: header.index,
                count: header.count,
                total: header.total,
            });
        }
        if piece.is_empty() {
            return Err(FragmentError::Empty);
        }
        Ok((header, piece))
    }

    /// Appends the header.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.message_id.to_be_bytes());
        out.extend_from_slice(&self.index.to_be_bytes());
        out.extend_from_slice(&self.count.to_be_bytes());
        out.extend_from_slice(&self.total.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header {
        message_id: 0x0102_0304,
        index: 1,
        count: 3,
        total: 112,
    };

    #[test]
    fn a_header_survives() {
        let mut bytes = Vec::new();
        HEADER.emit(&mut bytes);
        assert_eq!(bytes, [1, 2, 3, 4, 0, 1, 0, 3, 0, 0, 0, 112]);
        assert_eq!(Header::parse(&bytes), Err(FragmentError::Empty));
        bytes.push(9);
        assert_eq!(Header::parse(&bytes), Ok((HEADER, &[9][..])));
        assert_eq!(Header::parse(&bytes[..11]), Err(FragmentError::Cut));
    }

    #[test]
    fn numbers_that_cannot_be_are_refused() {
        for (index, count, total) in [(0, 0, 9), (0, 1, 9), (3, 3, 9), (0, 10, 9)] {
            let mut bytes = Vec::new();
            Header {
                index,
                count,
                total,
                ..HEADER
            }
            .emit(&mut bytes);
            bytes.push(0);
            assert_eq!(
                Header::parse(&bytes),
                Err(FragmentError::Numbers {
                    index,
                    count,
                    total
                })
            );
        }
    }
}
