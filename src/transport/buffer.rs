//! The buffer in which a message travels to a transport.

/// Bytes before the message: its length as a big-endian `u32` (profile 15.2).
pub(crate) const PREFIX: usize = 4;

/// One message with its length in front, contiguous, so that a byte stream needs a single write
/// and a message transport can skip four bytes. Slack may stand before it, because a sealed record
/// is built around its plaintext.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Framed {
    bytes: Vec<u8>,
    start: usize,
}

impl Framed {
    /// Takes a buffer whose bytes from `start` to its end are `BE32 length || message`. Gives the
    /// buffer back when that is not so.
    ///
    /// # Errors
    /// The untouched buffer when the prefix is missing, is zero or names another length.
    pub fn new(bytes: Vec<u8>, start: usize) -> Result<Self, Vec<u8>> {
        let framed = bytes
            .get(start..)
            .and_then(<[u8]>::split_first_chunk::<PREFIX>);
        let fits = framed.is_some_and(|(prefix, message)| {
            !message.is_empty()
                && u32::try_from(message.len())
                    .is_ok_and(|length| length == u32::from_be_bytes(*prefix))
        });
        if fits {
            Ok(Self { bytes, start })
        } else {
            Err(bytes)
        }
    }

    /// Copies a message behind its length; `None` when it is empty or longer than 4 GiB.
    pub fn copy_of(message: &[u8]) -> Option<Self> {
        let length = u32::try_from(message.len()).ok().filter(|&len| len > 0)?;
        let mut bytes = Vec::with_capacity(PREFIX + message.len());
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(message);
        Some(Self { bytes, start: 0 })
    }

    /// The message without its length.
    pub fn message(&self) -> &[u8] {
        self.bytes.get(self.start + PREFIX..).unwrap_or_default()
    }

    /// The message behind its length, as it stands on a byte stream.
    pub fn framed(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// The whole buffer, slack included, and where the length stands in it.
    pub fn into_parts(self) -> (Vec<u8>, usize) {
        (self.bytes, self.start)
    }

    /// Puts parts together again that [`Self::into_parts`] gave.
    pub(crate) fn from_parts(bytes: Vec<u8>, start: usize) -> Self {
        Self { bytes, start }
    }
}

#[cfg(test)]
mod tests {
    use super::Framed;

    #[test]
    fn the_slack_in_front_is_not_part_of_the_message() {
        let framed = Framed::new(vec![9, 9, 0, 0, 0, 2, 7, 8], 2).unwrap();
        assert_eq!(framed.message(), [7, 8]);
        assert_eq!(framed.framed(), [0, 0, 0, 2, 7, 8]);
        assert_eq!(framed.into_parts(), (vec![9, 9, 0, 0, 0, 2, 7, 8], 2));
    }

    #[test]
    fn a_wrong_prefix_gives_the_buffer_back() {
        for (bytes, start) in [
            (vec![], 0),
            (vec![0, 0, 0], 0),
            (vec![0, 0, 0, 0], 0),
            (vec![0, 0, 0, 1, 7], 6),
            (vec![0, 0, 0, 1, 7, 8], 0),
            (vec![0, 0, 0, 3, 7, 8], 0),
        ] {
            assert_eq!(Framed::new(bytes.clone(), start), Err(bytes));
        }
    }

    #[test]
    fn a_copy_carries_its_length() {
        let framed = Framed::copy_of(b"hello").unwrap();
        assert_eq!(framed.framed(), b"\0\0\0\x05hello");
        assert_eq!(Framed::copy_of(b""), None);
    }
}
