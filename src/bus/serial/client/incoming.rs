//! What came from the owner and has not gone through the line discipline. It is bounded by the
//! stream's credit: the owner is told of what has left it.

use std::collections::VecDeque;

/// Breaks that are kept until their turn comes.
const BREAKS: usize = 64;

#[derive(Debug)]
enum Piece {
    Bytes { bytes: Vec<u8>, done: usize },
    Break,
}

/// Bytes, and the breaks between them as far as their place is known.
#[derive(Debug, Default)]
pub struct Incoming {
    pieces: VecDeque<Piece>,
    breaks: usize,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// A break.
    Break,
}

impl Incoming {
    /// Bytes arrived.
    pub fn push(&mut self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.pieces.push_back(Piece::Bytes { bytes, done: 0 });
        }
    }

    /// The line was in the break condition.
    pub fn push_break(&mut self) {
        if self.breaks < BREAKS {
            self.breaks += 1;
            self.pieces.push_back(Piece::Break);
        }
    }

    /// What comes next.
    pub fn next(&self) -> Option<Next<'_>> {
        self.pieces.front().map(|piece| match piece {
            Piece::Bytes { bytes, done } => Next::Bytes(bytes.get(*done..).unwrap_or_default()),
            Piece::Break => Next::Break,
        })
    }

    /// So many bytes of it are used up, or the break.
    pub fn advance(&mut self, count: usize) {
        match self.pieces.front_mut() {
            Some(Piece::Bytes { bytes, done }) => {
                *done += count;
                if *done >= bytes.len() {
                    self.pieces.pop_front();
                }
            }
            Some(Piece::Break) => {
                self.breaks -= 1;
                self.pieces.pop_front();
            }
            None => {}
        }
    }

    /// Forgets everything; how many bytes that were.
    pub fn clear(&mut self) -> usize {
        self.breaks = 0;
        let left = |piece| match piece {
            Piece::Bytes { bytes, done } => bytes.len() - done,
            Piece::Break => 0,
        };
        self.pieces.drain(..).map(left).sum()
    }
}
