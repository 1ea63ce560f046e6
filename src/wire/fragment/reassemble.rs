//! Putting pieces together again, within limits.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use super::header::{FragmentError, Header};
use crate::wire::flags::Flags;
use crate::wire::limits::REASSEMBLIES;
use crate::wire::time::Mono;

/// How long an unordered path may take for one unit (profile 13.1).
pub const REASSEMBLY_TIME: Duration = Duration::from_secs(30);

/// Finished units that an unordered path remembers, so that a late duplicate starts nothing.
const REMEMBERED: usize = 64;

/// A unit that is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Flags of the unfragmented frame or direct message: those of the pieces without F.
    pub flags: Flags,
    /// Kind … Payload, or the direct form's plaintext.
    pub bytes: Vec<u8>,
}

/// The unfinished units of one direction of a session.
///
/// Memory grows with the bytes received, never with a declared total.
#[derive(Debug)]
pub struct Reassembler {
    ordered: bool,
    limit: u32,
    /// Oldest first.
    units: VecDeque<Unfinished>,
    highest: Option<u32>,
    finished: VecDeque<u32>,
}

#[derive(Debug)]
struct Unfinished {
    message_id: u32,
    flags: Flags,
    count: u16,
    total: u32,
    received: u32,
    expires: Mono,
    pieces: Pieces,
}

#[derive(Debug)]
enum Pieces {
    Ordered { next: u16, bytes: Vec<u8> },
    Unordered(BTreeMap<u16, Vec<u8>>),
}

impl Reassembler {
    /// For a path that keeps order or not, with our `limits.msg` in bytes.
    pub const fn new(ordered: bool, limit: u32) -> Self {
        Self {
            ordered,
            limit,
            units: VecDeque::new(),
            highest: None,
            finished: VecDeque::new(),
        }
    }

    /// Number of unfinished units, at most [`REASSEMBLIES`].
    pub fn unfinished(&self) -> usize {
        self.units.len()
    }

    /// Takes a piece and returns the unit that it completes.
    ///
    /// On an unordered path duplicates are ignored, and the oldest unfinished unit makes room for a
    /// ninth, since its pieces may have been lost.
    ///
    /// # Errors
    /// [`FragmentError`], which ends the session with 0x10 "fragment".
    pub fn accept(
        &mut self,
        now: Mono,
        flags: Flags,
        header: Header,
        piece: &[u8],
    ) -> Result<Option<Unit>, FragmentError> {
        self.expire(now);
        if !self.ordered && self.finished.contains(&header.message_id) {
            return Ok(None);
        }
        let known = |unit: &Unfinished| unit.message_id == header.message_id;
        let at = match self.units.iter().position(known) {
            Some(at) => at,
            None => self.start(now, flags, header)?,
        };
        let unit = self.units.get_mut(at);
        let complete = unit.map_or(Ok(false), |unit| unit.add(flags, header, piece))?;
        Ok(if complete { self.finish(at) } else { None })
    }

    /// Drops the units of an unordered path that took longer than [`REASSEMBLY_TIME`].
    pub fn expire(&mut self, now: Mono) {
        if !self.ordered {
            self.units.retain(|unit| now < unit.expires);
        }
    }

    /// When [`Self::expire`] is due next.
    pub fn next_timeout(&self) -> Option<Mono> {
        if self.ordered {
            return None;
        }
        self.units.iter().map(|unit| unit.expires).min()
    }

    /// Makes room for a new unit and returns its place.
    fn start(&mut self, now: Mono, flags: Flags, header: Header) -> Result<usize, FragmentError> {
        if header.total > self.limit {
            return Err(FragmentError::TooLarge {
                total: header.total,
                limit: self.limit,
            });
        }
        let ascends = self
            .highest
            .is_none_or(|highest| header.message_id > highest);
        if self.ordered && !(ascends && header.index == 0) {
            return Err(FragmentError::Order {
                message_id: header.message_id,
                index: header.index,
            });
        }
        if self.units.len() >= REASSEMBLIES {
            if self.ordered {
                return Err(FragmentError::TooManyUnits);
            }
            self.units.pop_front();
        }
        self.highest = self.highest.max(Some(header.message_id));
        self.units.push_back(Unfinished {
            message_id: header.message_id,
            flags,
            count: header.count,
            total: header.total,
            received: 0,
            expires: now.after(REASSEMBLY_TIME),
            pieces: if self.ordered {
                Pieces::Ordered {
                    next: 0,
                    bytes: Vec::new(),
                }
            } else {
                Pieces::Unordered(BTreeMap::new())
            },
        });
        Ok(self.units.len() - 1)
    }

    fn finish(&mut self, at: usize) -> Option<Unit> {
        let unit = self.units.remove(at)?;
        if !self.ordered {
            if self.finished.len() >= REMEMBERED {
                self.finished.pop_front();
            }
            self.finished.push_back(unit.message_id);
        }
        Some(Unit {
            flags: Flags {
                fragment: false,
                ..unit.flags
            },
            bytes: match unit.pieces {
                Pieces::Ordered { bytes, .. } => bytes,
                Pieces::Unordered(pieces) => pieces.into_values().collect::<Vec<_>>().concat(),
            },
        })
    }
}

impl Unfinished {
    /// Adds a piece; true when it was the last one missing.
    fn add(&mut self, flags: Flags, header: Header, piece: &[u8]) -> Result<bool, FragmentError> {
        let contradiction = FragmentError::Contradiction(self.message_id);
        if flags != self.flags || header.count != self.count || header.total != self.total {
            return Err(contradiction);
        }
        let arrived = match &mut self.pieces {
            Pieces::Ordered { next, bytes } => {
                if header.index != *next {
                    return Err(FragmentError::Order {
                        message_id: self.message_id,
                        index: header.index,
                    });
                }
                bytes.extend_from_slice(piece);
                *next += 1;
                *next
            }
            Pieces::Unordered(pieces) => {
                if let Some(first) = pieces.get(&header.index) {
                    return if first == piece {
                        Ok(false)
                    } else {
                        Err(contradiction)
                    };
                }
                pieces.insert(header.index, piece.to_vec());
                // At most `count` different indices.
                u16::try_from(pieces.len()).unwrap_or(u16::MAX)
            }
        };
        let received = u32::try_from(piece.len())
            .ok()
            .and_then(|piece| self.received.checked_add(piece))
            .filter(|received| *received <= self.total)
            .ok_or(contradiction)?;
        self.received = received;
        match (arrived == self.count, received == self.total) {
            (true, true) => Ok(true),
            (false, false) => Ok(false),
            (true, false) | (false, true) => Err(contradiction),
        }
    }
}

#[cfg(test)]
mod tests;
