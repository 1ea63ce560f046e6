//! `I2C_WRITE_BYTE`, `I2C_READ_BYTE`, `I2C_WRITE_BLOCK`, `I2C_READ_BLOCK`: what chips with registers are
//! asked for, with a register number of one byte or without one.

use super::{MAX_LENGTH, OpError, check_address, read_device};
use crate::wire::msgpack::{Reader, Writer};

/// `I2C_WRITE_BYTE` `[dev, addr, reg or nil, value]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteByte {
    /// The bus's id.
    pub dev: String,
    /// The chip's address, of seven bits.
    pub addr: u16,
    /// Where to; `None` writes the value alone.
    pub reg: Option<u8>,
    /// What.
    pub value: u8,
}

/// `I2C_READ_BYTE` `[dev, addr, reg or nil]` -> `[value]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadByte {
    /// The bus's id.
    pub dev: String,
    /// The chip's address, of seven bits.
    pub addr: u16,
    /// Where from; `None` reads without writing first.
    pub reg: Option<u8>,
}

/// `I2C_WRITE_BLOCK` `[dev, addr, reg or nil, bin]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteBlock {
    /// The bus's id.
    pub dev: String,
    /// The chip's address, of seven bits.
    pub addr: u16,
    /// Where to; `None` writes the data alone.
    pub reg: Option<u8>,
    /// What; with the register at most [`MAX_LENGTH`] bytes.
    pub data: Vec<u8>,
}

/// `I2C_READ_BLOCK` `[dev, addr, reg or nil, len]` -> `[bin]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadBlock {
    /// The bus's id.
    pub dev: String,
    /// The chip's address, of seven bits.
    pub addr: u16,
    /// Where from; `None` reads without writing first.
    pub reg: Option<u8>,
    /// How many bytes, at most [`MAX_LENGTH`].
    pub len: u16,
}

fn start(writer: &mut Writer<'_>, count: u32, dev: &str, addr: u16, reg: Option<u8>) {
    writer.array(count);
    writer.str(dev);
    writer.uint(addr);
    match reg {
        Some(reg) => writer.uint(reg),
        None => writer.nil(),
    }
}

fn read_start(reader: &mut Reader<'_>) -> Result<(String, u16, Option<u8>), OpError> {
    let dev = read_device(reader)?;
    let addr = reader.u16()?;
    check_address(addr, false)?;
    let reg = if reader.take_nil() {
        None
    } else {
        Some(reader.u8()?)
    };
    Ok((dev, addr, reg))
}

impl WriteByte {
    /// The encoded request.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        start(&mut writer, 4, &self.dev, self.addr, self.reg);
        writer.uint(self.value);
        out
    }

    /// Reads a request.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape or a field is out of range.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let mut reader = Reader::new(payload);
        let extra = reader.fixed_array(4)?;
        let (dev, addr, reg) = read_start(&mut reader)?;
        let value = reader.u8()?;
        reader.finish_fixed(extra)?;
        Ok(Self {
            dev,
            addr,
            reg,
            value,
        })
    }
}

impl ReadByte {
    /// The encoded request.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        start(
            &mut Writer::new(&mut out),
            3,
            &self.dev,
            self.addr,
            self.reg,
        );
        out
    }

    /// Reads a request.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape or a field is out of range.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let mut reader = Reader::new(payload);
        let extra = reader.fixed_array(3)?;
        let (dev, addr, reg) = read_start(&mut reader)?;
        reader.finish_fixed(extra)?;
        Ok(Self { dev, addr, reg })
    }

    /// `[value]`: the answer.
    pub fn encode_reply(value: u8) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        writer.array(1);
        writer.uint(value);
        out
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape.
    pub fn decode_reply(payload: &[u8]) -> Result<u8, OpError> {
        let mut reader = Reader::new(payload);
        let extra = reader.fixed_array(1)?;
        let value = reader.u8()?;
        reader.finish_fixed(extra)?;
        Ok(value)
    }
}

impl WriteBlock {
    /// The encoded request.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.data.len() + 80);
        let mut writer = Writer::new(&mut out);
        start(&mut writer, 4, &self.dev, self.addr, self.reg);
        writer.bin(&self.data);
        out
    }

    /// Reads a request.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape or a field is out of range.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let mut reader = Reader::new(payload);
        let extra = reader.fixed_array(4)?;
        let (dev, addr, reg) = read_start(&mut reader)?;
        let data = reader.bin()?;
        reader.finish_fixed(extra)?;
        if data.len() + usize::from(reg.is_some()) > usize::from(MAX_LENGTH) {
            return Err(OpError::Field("bin"));
        }
        Ok(Self {
            dev,
            addr,
            reg,
            data: data.to_vec(),
        })
    }
}

impl ReadBlock {
    /// The encoded request.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        start(&mut writer, 4, &self.dev, self.addr, self.reg);
        writer.uint(self.len);
        out
    }

    /// Reads a request.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape or a field is out of range.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let mut reader = Reader::new(payload);
        let extra = reader.fixed_array(4)?;
        let (dev, addr, reg) = read_start(&mut reader)?;
        let len = reader.u16()?;
        reader.finish_fixed(extra)?;
        if len > MAX_LENGTH {
            return Err(OpError::Field("len"));
        }
        Ok(Self {
            dev,
            addr,
            reg,
            len,
        })
    }
}
