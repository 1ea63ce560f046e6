//! What came from the owner and has not gone through the line discipline. It is bounded by the
//! stream's credit: the owner is told of what has left it.

use std::collections::VecDeque;

/// Bytes, in the pieces in which they arrived.
#[derive(Debug, Default)]
pub struct Incoming {
    pieces: VecDeque<Vec<u8>>,
    /// Of the first piece.
    done: usize,
}

impl Incoming {
    /// Bytes arrived.
    pub fn push(&mut self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.pieces.push_back(bytes);
        }
    }

    /// What comes next; nothing is never some.
    pub fn next(&self) -> Option<&[u8]> {
        self.pieces.front().and_then(|piece| piece.get(self.done..))
    }

    /// So many bytes of that are used up.
    pub fn advance(&mut self, count: usize) {
        self.done += count;
        if self
            .pieces
            .front()
            .is_some_and(|piece| self.done >= piece.len())
        {
            self.done = 0;
            self.pieces.pop_front();
        }
    }

    /// How many bytes there are.
    pub fn count(&self) -> usize {
        let all: usize = self.pieces.iter().map(Vec::len).sum();
        all - self.done
    }

    /// Forgets everything; how many bytes that were.
    pub fn clear(&mut self) -> usize {
        let length = self.count();
        self.pieces.clear();
        self.done = 0;
        length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_used_up_once() {
        let mut incoming = Incoming::default();
        incoming.push(b"abc".to_vec());
        incoming.push(Vec::new());
        incoming.push(b"de".to_vec());
        assert_eq!(incoming.next(), Some(b"abc".as_slice()));
        incoming.advance(2);
        assert_eq!(incoming.next(), Some(b"c".as_slice()));
        incoming.advance(1);
        assert_eq!(incoming.next(), Some(b"de".as_slice()));
        incoming.advance(1);
        assert_eq!(incoming.clear(), 1);
        assert_eq!(incoming.next(), None);
    }
}
