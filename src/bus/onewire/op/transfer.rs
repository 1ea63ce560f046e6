//! `ONEWIRE_READ` and `ONEWIRE_WRITE`.

use super::{MAX_DATA, MAX_PULLUP_MS, OpError, Rom, read_data, read_device, read_rom};
use crate::wire::msgpack::{Reader, Writer};

/// `select`: reset and address first, in one go with the transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Select {
    /// The device of that code (`MATCH ROM`).
    Rom(Rom),
    /// All devices (`SKIP ROM`).
    Skip,
}

impl Select {
    fn write(select: Option<Self>, writer: &mut Writer<'_>) {
        match select {
            None => writer.nil(),
            Some(Self::Rom(rom)) => writer.bin(&rom.0),
            Some(Self::Skip) => writer.bool(true),
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, OpError> {
        if reader.take_nil() {
            return Ok(None);
        }
        match Reader::new(reader.rest()).bool() {
            Ok(true) => Ok(reader.bool().map(|_| Some(Self::Skip))?),
            Ok(false) => Err(OpError::Field("select")),
            Err(_) => read_rom(reader).map(|rom| Some(Self::Rom(rom))),
        }
    }
}

/// `ONEWIRE_READ` `[dev, n, ?select, ?bytes]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// The bus.
    pub dev: String,
    /// Bytes wanted, 1 to [`MAX_DATA`].
    pub count: usize,
    /// Reset and address first.
    pub select: Option<Select>,
    /// What is written between that and the reading; only where the owner announced it (`wr`). At most
    /// [`MAX_DATA`] bytes.
    pub before: Vec<u8>,
}

impl Read {
    /// The encoded request.
    pub fn encode(&self) -> Vec<u8> {
        let elements = match (self.before.is_empty(), self.select) {
            (false, _) => 4,
            (true, Some(_)) => 3,
            (true, None) => 2,
        };
        let mut out = Vec::with_capacity(96 + self.before.len());
        let mut writer = Writer::new(&mut out);
        writer.array(elements);
        writer.str(&self.dev);
        writer.uint(u64::try_from(self.count).unwrap_or(u64::MAX));
        if elements > 2 {
            Select::write(self.select, &mut writer);
        }
        if elements > 3 {
            writer.bin(&self.before);
        }
        out
    }

    /// Reads a request.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape, the id is empty or too long, a length is out of range, or
    /// the CRC of the ROM code is wrong.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let mut reader = Reader::new(payload);
        let mut extra = reader.fixed_array(2)?;
        let dev = read_device(&mut reader)?;
        let count = usize::try_from(reader.uint()?).unwrap_or(usize::MAX);
        if !(1..=MAX_DATA).contains(&count) {
            return Err(OpError::Field("n"));
        }
        let select = optional(&mut reader, &mut extra, Select::read)?.flatten();
        let before = optional(&mut reader, &mut extra, |reader| {
            if reader.take_nil() {
                return Ok(Vec::new());
            }
            read_data(reader, MAX_DATA).map(<[u8]>::to_vec)
        })?;
        reader.finish_fixed(extra)?;
        Ok(Self {
            dev,
            count,
            select,
            before: before.unwrap_or_default(),
        })
    }
}

/// `ONEWIRE_WRITE` `[dev, bin, ?select, ?pullup-ms]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The bus.
    pub dev: String,
    /// The bytes, 1 to [`MAX_DATA`].
    pub data: Vec<u8>,
    /// Reset and address first.
    pub select: Option<Select>,
    /// Milliseconds of strong pull-up afterwards, 0 for none; at most [`MAX_PULLUP_MS`].
    pub pullup_ms: u32,
}

impl Write {
    /// The encoded request.
    pub fn encode(&self) -> Vec<u8> {
        let elements = match (self.pullup_ms, self.select) {
            (1.., _) => 4,
            (0, Some(_)) => 3,
            (0, None) => 2,
        };
        let mut out = Vec::with_capacity(96 + self.data.len());
        let mut writer = Writer::new(&mut out);
        writer.array(elements);
        writer.str(&self.dev);
        writer.bin(&self.data);
        if elements > 2 {
            Select::write(self.select, &mut writer);
        }
        if elements > 3 {
            writer.uint(self.pullup_ms);
        }
        out
    }

    /// Reads a request.
    ///
    /// # Errors
    /// As [`Read::decode`].
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let mut reader = Reader::new(payload);
        let mut extra = reader.fixed_array(2)?;
        let dev = read_device(&mut reader)?;
        let data = read_data(&mut reader, MAX_DATA)?.to_vec();
        if data.is_empty() {
            return Err(OpError::Field("bin"));
        }
        let select = optional(&mut reader, &mut extra, Select::read)?.flatten();
        let pullup = optional(&mut reader, &mut extra, |reader| {
            let none = reader.take_nil();
            Ok(if none { 0 } else { reader.u32()? })
        })?;
        reader.finish_fixed(extra)?;
        let pullup_ms = pullup.unwrap_or(0);
        if pullup_ms > MAX_PULLUP_MS {
            return Err(OpError::Field("pullup-ms"));
        }
        Ok(Self {
            dev,
            data,
            select,
            pullup_ms,
        })
    }
}

/// The next element, if there is one.
fn optional<'a, T>(
    reader: &mut Reader<'a>,
    extra: &mut usize,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, OpError>,
) -> Result<Option<T>, OpError> {
    let Some(left) = extra.checked_sub(1) else {
        return Ok(None);
    };
    *extra = left;
    read(reader).map(Some)
}

/// `[bin]`: the answer to [`Read`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// As many bytes as were asked for.
    pub data: Vec<u8>,
}

impl Data {
    /// The encoded answer.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.data.len() + 8);
        let mut writer = Writer::new(&mut out);
        writer.array(1);
        writer.bin(&self.data);
        out
    }

    /// Reads the answer to a request for so many bytes.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape or another length.
    pub fn decode(payload: &[u8], count: usize) -> Result<Self, OpError> {
        let mut reader = Reader::new(payload);
        let extra = reader.fixed_array(1)?;
        let data = reader.bin()?.to_vec();
        reader.finish_fixed(extra)?;
        if data.len() != count {
            return Err(OpError::Field("bin"));
        }
        Ok(Self { data })
    }
}
