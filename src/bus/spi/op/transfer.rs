//! What moves bytes: `SPI_TRANSFER`, `SPI_WRITE` and `SPI_READ`.

use super::{OpError, Transfer, check, narrow};
use crate::kernel::spidev::MAX_TRANSFERS;
use crate::wire::msgpack::{Reader, Writer};
use crate::wire::opcode::Opcode;

/// Most transfers of a message in the profile.
pub const PROFILE_TRANSFERS: usize = 16;

/// Elements of a transfer in the profile, and those beyond it.
const ELEMENTS: usize = 5;
const MORE: usize = 5;
/// Bytes by which the encoded answer can be longer than its data: two arrays.
const OVERHEAD: u32 = 16;
/// The same for each of several pieces of data.
const PIECE_OVERHEAD: u32 = 5;

/// `SPI_TRANSFER`: `[[*[tx, rx-len, delay-us, cs-change, hz]]]`, performed as one message. As many
/// bytes are received as sent, where both are wanted.
///
/// A transfer that needs them has five elements more, which are 0 where nothing is wanted:
/// `bits, tx-nbits, rx-nbits, word-delay-us, idle-len`. The last is the length of a transfer of which
/// nothing is sent and nothing kept.
pub fn encode_transfer(transfers: &[Transfer]) -> Vec<u8> {
    let bytes: usize = transfers
        .iter()
        .map(|transfer| transfer.tx.len() + 32)
        .sum();
    let mut out = Vec::with_capacity(bytes);
    let mut writer = Writer::new(&mut out);
    writer.array(1);
    writer.array(count(transfers.len()));
    for transfer in transfers {
        let more = !is_profile(transfer);
        writer.array(count(if more { ELEMENTS + MORE } else { ELEMENTS }));
        writer.bin(&transfer.tx);
        writer.uint(transfer.rx_len);
        writer.uint(transfer.delay_us);
        writer.bool(transfer.cs_change);
        writer.uint(transfer.hz);
        if more {
            writer.uint(transfer.bits);
            writer.uint(transfer.tx_nbits);
            writer.uint(transfer.rx_nbits);
            writer.uint(transfer.word_delay_us);
            writer.uint(transfer.idle_len);
        }
    }
    out
}

/// Whether the profile can say it.
pub fn is_profile(transfer: &Transfer) -> bool {
    let wires = [transfer.bits, transfer.tx_nbits, transfer.rx_nbits];
    wires == [0; 3] && transfer.word_delay_us == 0 && transfer.idle_len == 0
}

/// Reads a `SPI_TRANSFER`.
///
/// # Errors
/// [`OpError`] when it has another shape, there is none or more than [`MAX_TRANSFERS`], a field is out of
/// range, or one receives another number of bytes than it sends.
pub fn decode_transfer(payload: &[u8]) -> Result<Vec<Transfer>, OpError> {
    let mut reader = Reader::new(payload);
    let extra = reader.fixed_array(1)?;
    let entries = reader.array_header()?;
    check("entries", (1..=MAX_TRANSFERS).contains(&entries))?;
    let mut transfers = Vec::with_capacity(entries);
    for _ in 0..entries {
        transfers.push(read_transfer(&mut reader)?);
    }
    reader.finish_fixed(extra)?;
    Ok(transfers)
}

fn read_transfer(reader: &mut Reader<'_>) -> Result<Transfer, OpError> {
    let more = reader.fixed_array(ELEMENTS)?;
    let mut transfer = Transfer {
        tx: reader.bin()?.to_vec(),
        rx_len: reader.u32()?,
        delay_us: narrow("delay-us", reader.u32()?)?,
        cs_change: reader.bool()?,
        hz: reader.u32()?,
        ..Transfer::default()
    };
    if let Some(rest) = more.checked_sub(MORE) {
        transfer.bits = narrow("bits", reader.u32()?)?;
        transfer.tx_nbits = narrow("tx-nbits", reader.u32()?)?;
        transfer.rx_nbits = narrow("rx-nbits", reader.u32()?)?;
        transfer.word_delay_us = narrow("word-delay-us", reader.u32()?)?;
        transfer.idle_len = reader.u32()?;
        reader.skip_values(rest)?;
    } else {
        reader.skip_values(more)?;
    }
    check("rx-len", transfer.is_consistent())?;
    Ok(transfer)
}

/// How many bytes the transfers receive.
pub fn received_len(transfers: &[Transfer]) -> u64 {
    transfers.iter().map(|one| u64::from(one.rx_len)).sum()
}

/// `[[*bin]]`: the answer to `SPI_TRANSFER`, what each transfer received.
pub fn encode_received(received: &[Vec<u8>]) -> Vec<u8> {
    let bytes: usize = received.iter().map(|bytes| bytes.len() + 5).sum();
    let mut out = Vec::with_capacity(bytes + 6);
    let mut writer = Writer::new(&mut out);
    writer.array(1);
    writer.array(count(received.len()));
    for bytes in received {
        writer.bin(bytes);
    }
    out
}

/// Reads the answer to transfers that receive so many bytes each, and returns the bytes one after the
/// other.
///
/// # Errors
/// [`OpError`] when it has another shape, or any transfer received more or less.
pub fn decode_received(payload: &[u8], lengths: &[u32]) -> Result<Vec<u8>, OpError> {
    let mut reader = Reader::new(payload);
    let extra = reader.fixed_array(1)?;
    check("entries", reader.array_header()? == lengths.len())?;
    let mut received = Vec::with_capacity(payload.len());
    for length in lengths {
        let bytes = reader.bin()?;
        check("bin", u32::try_from(bytes.len()) == Ok(*length))?;
        received.extend_from_slice(bytes);
    }
    reader.finish_fixed(extra)?;
    Ok(received)
}

/// `SPI_WRITE`: `[bin]`, one transfer with the device's settings.
pub fn encode_write(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 6);
    let mut writer = Writer::new(&mut out);
    writer.array(1);
    writer.bin(bytes);
    out
}

/// Reads a `SPI_WRITE`.
///
/// # Errors
/// [`OpError`] when it has another shape.
pub fn decode_write(payload: &[u8]) -> Result<&[u8], OpError> {
    let mut reader = Reader::new(payload);
    let extra = reader.fixed_array(1)?;
    let bytes = reader.bin()?;
    reader.finish_fixed(extra)?;
    Ok(bytes)
}

/// `SPI_READ`: `[len]`, one transfer with the device's settings.
pub fn encode_read(len: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out);
    writer.array(1);
    writer.uint(len);
    out
}

/// Reads a `SPI_READ`.
///
/// # Errors
/// [`OpError`] when it has another shape.
pub fn decode_read(payload: &[u8]) -> Result<u32, OpError> {
    let mut reader = Reader::new(payload);
    let extra = reader.fixed_array(1)?;
    let len = reader.u32()?;
    reader.finish_fixed(extra)?;
    Ok(len)
}

/// `[bin]`: the answer to `SPI_READ`.
pub fn encode_read_answer(bytes: &[u8]) -> Vec<u8> {
    encode_write(bytes)
}

/// Reads the answer to `SPI_READ` of so many bytes.
///
/// # Errors
/// [`OpError`] when it has another shape or brings more.
pub fn decode_read_answer(payload: &[u8], len: u32) -> Result<&[u8], OpError> {
    let bytes = decode_write(payload)?;
    check(
        "bin",
        u32::try_from(bytes.len()).is_ok_and(|count| count <= len),
    )?;
    Ok(bytes)
}

/// The length that an operation of this bus declares for its answer, in bytes (profile 11.2).
pub fn declared_reply(opcode: Opcode, payload: &[u8]) -> Option<u32> {
    if opcode == Opcode::SpiRead {
        return Some(decode_read(payload).ok()?.saturating_add(OVERHEAD));
    }
    if opcode == Opcode::SpiTransfer {
        return declared_received(payload).ok();
    }
    None
}

/// Of a `SPI_TRANSFER`, without a copy of what is sent.
fn declared_received(payload: &[u8]) -> Result<u32, OpError> {
    let mut reader = Reader::new(payload);
    let _extra = reader.fixed_array(1)?;
    let entries = reader.array_header()?;
    let mut total = OVERHEAD;
    for _ in 0..entries {
        let rest = reader.fixed_array(2)?;
        reader.bin()?;
        let piece = reader.u32()?.saturating_add(PIECE_OVERHEAD);
        total = total.saturating_add(piece);
        reader.skip_values(rest)?;
    }
    Ok(total)
}

fn count(elements: usize) -> u32 {
    u32::try_from(elements).unwrap_or(u32::MAX)
}
