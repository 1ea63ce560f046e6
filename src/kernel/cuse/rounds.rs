//! The memory that an ioctl of a device reads and writes, learned in rounds (fs/fuse/ioctl.c).
//!
//! The kernel does not know how large an ioctl's argument is, nor what it points to. So the first
//! round brings the number alone; its answer names the pieces of the caller's memory that are
//! needed; the next round brings them and room for the output; and so on for pointers within. The
//! kernel keeps nothing from round to round, and the caller's memory may change in between: every
//! round is judged anew from its own bytes.

use super::{MAX_PIECES, MAX_TRANSFER};

/// A stretch of the *calling program's* memory.
///
/// **Where it lies and how long it is must come from the call's own `arg`, from bytes that the
/// caller itself passed in an earlier piece, and from constants; never from what a peer sent.**
/// Whoever chooses a piece reads and writes the caller's memory. The kernel only checks that it is
/// the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub(super) base: u64,
    pub(super) len: u32,
}

impl Piece {
    /// `len` bytes at the caller's address `arg`.
    pub fn at(arg: u64, len: u32) -> Self {
        Self { base: arg, len }
    }
}

/// One round of an `ioctl(2)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ioctl {
    /// As given to [`open`](super::Cuse::open).
    pub fh: u64,
    /// Which one.
    pub cmd: u32,
    /// The argument, most often an address in the caller's memory. Many are plain numbers.
    pub arg: u64,
    /// What the pieces of the last [`Pause::Again`] held, one after the other.
    pub input: Vec<u8>,
    /// How many bytes the caller's memory takes: those of the last [`Pause::Again`].
    pub out_size: u32,
    /// The caller is a 32-bit program on a 64-bit kernel: its pointers have four bytes.
    pub compat: bool,
}

impl Ioctl {
    /// For an argument that points to one structure: `input` bytes of it are read and `output`
    /// bytes are written, either of them 0 where it is not.
    ///
    /// ```ignore
    /// TCSETS => match call.argument(36, 0) {
    ///     Ok(bytes) => …,
    ///     Err(pause) => cuse.pause(id, &pause),
    /// }
    /// ```
    ///
    /// # Errors
    /// See [`Rounds::take`].
    pub fn argument(&self, input: u32, output: u32) -> Result<&[u8], Pause> {
        let mut rounds = self.rounds();
        rounds.give(Piece::at(self.arg, output));
        let bytes = rounds.take(Piece::at(self.arg, input))?;
        rounds.complete()?;
        Ok(bytes)
    }

    /// For arguments that point to more: takes the pieces one after the other.
    pub fn rounds(&self) -> Rounds<'_> {
        Rounds {
            ioctl: self,
            inputs: Vec::new(),
            outputs: Vec::new(),
            rest: &self.input,
        }
    }
}

/// Why an ioctl is not served in this round; answered by [`pause`](super::Cuse::pause).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pause {
    /// The kernel shall ask again with these pieces.
    Again {
        /// What it reads.
        inputs: Vec<Piece>,
        /// What it writes.
        outputs: Vec<Piece>,
    },
    /// This round is not what an earlier one asked for: the caller's memory changed meanwhile.
    Changed,
    /// More pieces or bytes than the kernel moves for a device of this kind.
    TooMuch,
}

/// Takes an ioctl's pieces from what the rounds so far brought.
#[derive(Debug)]
pub struct Rounds<'a> {
    ioctl: &'a Ioctl,
    inputs: Vec<Piece>,
    outputs: Vec<Piece>,
    rest: &'a [u8],
}

impl<'a> Rounds<'a> {
    /// The bytes of one piece.
    ///
    /// # Errors
    /// They are not there yet, or there are too many.
    pub fn take(&mut self, piece: Piece) -> Result<&'a [u8], Pause> {
        let taken = self.take_all(&[piece])?;
        Ok(taken.first().copied().unwrap_or_default())
    }

    /// The bytes of several pieces, which are one round and not several.
    ///
    /// # Errors
    /// As [`Rounds::take`].
    pub fn take_all(&mut self, pieces: &[Piece]) -> Result<Vec<&'a [u8]>, Pause> {
        self.inputs.extend_from_slice(pieces);
        let mut rest = self.rest;
        let mut taken = Vec::new();
        for piece in pieces {
            let split = usize::try_from(piece.len).map(|len| rest.split_at_checked(len));
            let Ok(Some((bytes, after))) = split else {
                return Err(self.again());
            };
            taken.push(bytes);
            rest = after;
        }
        self.rest = rest;
        Ok(taken)
    }

    /// The output goes there, after what was given before.
    pub fn give(&mut self, piece: Piece) {
        self.outputs.push(piece);
    }

    /// To be called when all pieces are named: everything is there and nothing else.
    ///
    /// # Errors
    /// The room for the output is not there yet, or what came is not what was asked for.
    pub fn complete(self) -> Result<(), Pause> {
        let room = total(&self.outputs);
        if !self.rest.is_empty() || room < u64::from(self.ioctl.out_size) {
            return Err(Pause::Changed);
        }
        if room > u64::from(self.ioctl.out_size) {
            return Err(self.again());
        }
        Ok(())
    }

    /// Asks for more than this round brought, which ends at the kernel's limits.
    fn again(&self) -> Pause {
        if !fits(&self.inputs, &self.outputs) {
            return Pause::TooMuch;
        }
        Pause::Again {
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
        }
    }
}

/// Whether the kernel takes them (`FUSE_IOCTL_MAX_IOV`, `fuse_verify_ioctl_iov`).
pub(super) fn fits(inputs: &[Piece], outputs: &[Piece]) -> bool {
    let count = |pieces: &[Piece]| pieces.iter().filter(|piece| piece.len > 0).count();
    let limit = u64::from(MAX_TRANSFER);
    count(inputs) + count(outputs) <= MAX_PIECES
        && total(inputs) <= limit
        && total(outputs) <= limit
}

fn total(pieces: &[Piece]) -> u64 {
    pieces.iter().map(|piece| u64::from(piece.len)).sum()
}
