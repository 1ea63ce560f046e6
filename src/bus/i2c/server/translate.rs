//! Transactions for adapters that know SMBus only, where the bus sees the same bits (SMBus 2.0, 5.5).

use crate::bus::i2c::op::{Action, MAX_BLOCK, Message, MessageFlags, Smbus};
use crate::kernel::i2c_dev::func;

/// The address, command byte and protocol of a transaction, if the adapter has one that is the same.
pub(super) fn smbus(funcs: u32, messages: &[Message]) -> Option<(u16, u8, Smbus)> {
    if messages
        .iter()
        .any(|message| message.flags != MessageFlags::NONE)
    {
        return None;
    }
    let has = |(needed, _): &(u32, Smbus)| funcs & needed == *needed;
    let (addr, command, candidates) = match messages {
        [message] => {
            let (command, candidates) = single(&message.action)?;
            (message.addr, command, candidates)
        }
        [
            Message {
                addr,
                action: Action::Write(data),
                ..
            },
            Message {
                addr: from,
                action: Action::Read(len),
                ..
            },
        ] if addr == from => {
            let (command, candidates) = combined(data, *len)?;
            (*addr, command, candidates)
        }
        _ => return None,
    };
    let (_, smbus) = candidates.into_iter().find(has)?;
    Some((addr, command, smbus))
}

/// What one message can be, the best first, each with what the adapter needs for it.
fn single(action: &Action) -> Option<(u8, Vec<(u32, Smbus)>)> {
    let quick = |read| (0, vec![(func::SMBUS_QUICK, Smbus::Quick { read })]);
    match action {
        Action::Read(0) => Some(quick(true)),
        Action::Read(1) => Some((0, vec![(func::SMBUS_READ_BYTE, Smbus::ReceiveByte)])),
        Action::Read(_) => None,
        Action::Write(data) => match &**data {
            [] => Some(quick(false)),
            [command] => {
                let candidates = vec![(func::SMBUS_WRITE_BYTE, Smbus::SendByte)];
                Some((*command, candidates))
            }
            [command, data @ ..] => Some((*command, written(data))),
        },
    }
}

fn written(data: &[u8]) -> Vec<(u32, Smbus)> {
    let mut candidates = Vec::new();
    match *data {
        [byte] => candidates.push((func::SMBUS_WRITE_BYTE_DATA, Smbus::WriteByte(byte))),
        [low, high] => {
            let word = u16::from_le_bytes([low, high]);
            candidates.push((func::SMBUS_WRITE_WORD_DATA, Smbus::WriteWord(word)));
        }
        _ => {}
    }
    if data.len() <= MAX_BLOCK {
        let block = Smbus::WriteI2cBlock(data.to_vec());
        candidates.push((func::SMBUS_WRITE_I2C_BLOCK, block));
    }
    if let [len, block @ ..] = data
        && usize::from(*len) == block.len()
        && (1..=MAX_BLOCK).contains(&block.len())
    {
        let block = Smbus::WriteBlock(block.to_vec());
        candidates.push((func::SMBUS_WRITE_BLOCK_DATA, block));
    }
    candidates
}

/// What a write and a read after a repeated start can be.
fn combined(data: &[u8], len: u16) -> Option<(u8, Vec<(u32, Smbus)>)> {
    match (data, len) {
        ([command, low, high], 2) => {
            let word = u16::from_le_bytes([*low, *high]);
            let call = (func::SMBUS_PROC_CALL, Smbus::ProcessCall(word));
            Some((*command, vec![call]))
        }
        ([command], 1..) => {
            let mut candidates = match len {
                1 => vec![(func::SMBUS_READ_BYTE_DATA, Smbus::ReadByte)],
                2 => vec![(func::SMBUS_READ_WORD_DATA, Smbus::ReadWord)],
                _ => Vec::new(),
            };
            if let Ok(len @ 1..=32) = u8::try_from(len) {
                candidates.push((func::SMBUS_READ_I2C_BLOCK, Smbus::ReadI2cBlock(len)));
            }
            Some((*command, candidates))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u32 = func::SMBUS_EMUL;

    fn found(funcs: u32, messages: &[Message]) -> Option<(u8, Smbus)> {
        let (addr, command, smbus) = smbus(funcs, messages)?;
        assert_eq!(addr, 0x50);
        Some((command, smbus))
    }

    fn write(data: &[u8]) -> Message {
        Message::write(0x50, data)
    }

    #[test]
    fn what_smbus_says_with_the_same_bits_is_said_in_smbus() {
        let read = |len| Message::read(0x50, len);
        for (messages, expected) in [
            (vec![write(&[])], (0, Smbus::Quick { read: false })),
            (vec![read(0)], (0, Smbus::Quick { read: true })),
            (vec![read(1)], (0, Smbus::ReceiveByte)),
            (vec![write(&[9])], (9, Smbus::SendByte)),
            (vec![write(&[9, 1])], (9, Smbus::WriteByte(1))),
            (vec![write(&[9, 1, 2])], (9, Smbus::WriteWord(0x0201))),
            (
                vec![write(&[9, 1, 2, 3])],
                (9, Smbus::WriteI2cBlock(vec![1, 2, 3])),
            ),
            (vec![write(&[9]), read(1)], (9, Smbus::ReadByte)),
            (vec![write(&[9]), read(2)], (9, Smbus::ReadWord)),
            (vec![write(&[9]), read(32)], (9, Smbus::ReadI2cBlock(32))),
            (
                vec![write(&[9, 1, 2]), read(2)],
                (9, Smbus::ProcessCall(0x0201)),
            ),
        ] {
            assert_eq!(found(ALL, &messages), Some(expected), "{messages:?}");
        }
    }

    #[test]
    fn what_smbus_cannot_say_is_not_said_otherwise() {
        let read = |len| Message::read(0x50, len);
        let stop = Message {
            flags: MessageFlags::STOP,
            ..read(1)
        };
        for messages in [
            vec![read(2)],
            vec![write(&[0; 34])],
            vec![write(&[9]), read(33)],
            vec![write(&[9]), read(0)],
            vec![write(&[9, 1]), read(1)],
            vec![write(&[9, 1, 2]), read(3)],
            vec![write(&[9]), Message::read(0x51, 1)],
            vec![read(1), read(1)],
            vec![write(&[9]), write(&[9]), read(1)],
            vec![stop],
        ] {
            assert_eq!(found(ALL, &messages), None, "{messages:?}");
        }
    }

    #[test]
    fn an_adapter_is_asked_for_what_it_has() {
        let word = [write(&[9, 7, 2])];
        let block = func::SMBUS_WRITE_I2C_BLOCK;
        assert_eq!(
            found(block, &word),
            Some((9, Smbus::WriteI2cBlock(vec![7, 2])))
        );
        let counted = [write(&[9, 2, 7, 8])];
        let blocks = func::SMBUS_WRITE_BLOCK_DATA;
        assert_eq!(
            found(blocks, &counted),
            Some((9, Smbus::WriteBlock(vec![7, 8])))
        );
        assert_eq!(found(blocks, &word), None);
        assert_eq!(found(0, &word), None);
    }
}
