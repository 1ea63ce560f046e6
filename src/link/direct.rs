//! The direct form: one operation as a whole sealed message, for tiny nodes (profile 9.1).

use crate::wire::{
    compress, direct,
    flags::{Flags, Tier},
    fragment::Header,
    opcode::Opcode,
    time::Mono,
};

use super::{Link, event::Violation, receive::Arrival};

impl Link {
    /// Takes a message in direct form; `flags` and `opcode` are those of its header. It means the
    /// same as the frame it stands for. Of the core opcodes only NOP may come here.
    ///
    /// # Errors
    /// As [`Self::handle_record`].
    pub fn handle_direct(
        &mut self,
        now: Mono,
        tier: Tier,
        age_secs: u32,
        opcode: Opcode,
        flags: Flags,
        plaintext: &[u8],
    ) -> Result<(), Violation> {
        if opcode == Opcode::Nop {
            return self.guards.idle_frame(now);
        }
        if opcode.is_core() || opcode == Opcode::Record {
            return Err(Violation::payload("not an operation in direct form"));
        }
        let at = Arrival {
            now,
            tier,
            age_secs,
        };
        if !flags.fragment {
            return self.take_direct(&at, opcode, flags, plaintext);
        }
        let (header, piece) = Header::parse(plaintext).map_err(|_| BAD_FRAGMENT)?;
        let unit = self.reassembler.accept(now, flags, header, piece);
        match unit.map_err(|_| BAD_FRAGMENT)? {
            Some(unit) => self.take_direct(&at, opcode, unit.flags, &unit.bytes),
            None => Ok(()),
        }
    }

    fn take_direct(
        &mut self,
        at: &Arrival,
        opcode: Opcode,
        flags: Flags,
        plaintext: &[u8],
    ) -> Result<(), Violation> {
        let unpacked;
        let plaintext = if flags.compressed {
            let limit = self.config.local.msg;
            unpacked = self
                .config
                .selected
                .and_then(|algorithm| compress::decompress(algorithm, plaintext, limit).ok())
                .ok_or(Violation::decompress("a message that cannot be unpacked"))?;
            unpacked.as_slice()
        } else {
            plaintext
        };
        let frame = direct::parse(opcode, plaintext)
            .map_err(|_| Violation::payload("a malformed direct message"))?;
        self.take_frame(at, frame)
    }
}

const BAD_FRAGMENT: Violation = Violation::fragment("contradicting or too many fragments");
