//! The kernel's side of a channel, played in memory.

mod bytes;
mod channel;
mod rounds;

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;

use super::*;

const ID: u64 = 0x1122_3344_5566_7788;

/// A message of the kernel's: header, the fields of the opcode, and what follows them.
fn message(opcode: u32, id: u64, fields: &[u8]) -> Vec<u8> {
    let length = u32::try_from(40 + fields.len()).unwrap();
    let mut message = Vec::new();
    for word in [length, opcode] {
        message.extend(word.to_ne_bytes());
    }
    message.extend(id.to_ne_bytes());
    message.extend(0_u64.to_ne_bytes());
    for word in [1000_u32, 100, 4242, 0] {
        message.extend(word.to_ne_bytes());
    }
    message.extend(fields);
    message
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn config() -> Config {
    Config {
        name: "ttyMC12".to_owned(),
        max_read: 0,
        max_write: u32::MAX,
    }
}
