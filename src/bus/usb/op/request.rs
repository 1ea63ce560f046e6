//! The small operations on an attached device: descriptors, configuration, halt, reset.

use super::{EndpointAddress, OpError};
use crate::wire::msgpack::{self, Reader, Writer};

/// `USB_GET_DESCRIPTOR` `[type, index, lang, len]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetDescriptor {
    /// `bDescriptorType`.
    pub kind: u8,
    /// Which one of that type.
    pub index: u8,
    /// Language id of a string, otherwise 0.
    pub lang: u16,
    /// Bytes wanted at most.
    pub len: u16,
}

impl GetDescriptor {
    /// Appends the request.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer::new(out);
        writer.array(4);
        writer.uint(self.kind);
        writer.uint(self.index);
        writer.uint(self.lang);
        writer.uint(self.len);
    }

    /// Reads a request.
    ///
    /// # Errors
    /// [`OpError`] when a field is missing or does not fit its type.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let mut reader = Reader::new(payload);
        let extra = reader.fixed_array(4)?;
        let request = Self {
            kind: reader.u8()?,
            index: reader.u8()?,
            lang: reader.u16()?,
            len: reader.u16()?,
        };
        reader.finish_fixed(extra)?;
        Ok(request)
    }
}

/// `[bin]`: the answer to [`GetDescriptor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorReply<'a> {
    /// The descriptor as the device gave it.
    pub descriptor: &'a [u8],
}

impl<'a> DescriptorReply<'a> {
    /// Appends the reply.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer::new(out);
        writer.array(1);
        writer.bin(self.descriptor);
    }

    /// Reads a reply to a request for at most `len` bytes.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape or brings more than was asked for.
    pub fn decode(payload: &'a [u8], len: u16) -> Result<Self, OpError> {
        let mut reader = Reader::new(payload);
        let extra = reader.fixed_array(1)?;
        let descriptor = reader.bin()?;
        reader.finish_fixed(extra)?;
        if descriptor.len() > usize::from(len) {
            return Err(OpError::Length);
        }
        Ok(Self { descriptor })
    }
}

/// `USB_SET_CONFIGURATION` `[cfg]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetConfiguration {
    /// `bConfigurationValue`, 0 for none.
    pub configuration: u8,
}

impl SetConfiguration {
    /// Appends the request.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer::new(out);
        writer.array(1);
        writer.uint(self.configuration);
    }

    /// Reads a request.
    ///
    /// # Errors
    /// [`OpError`] when the field is missing or above 255.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let mut reader = Reader::new(payload);
        let extra = reader.fixed_array(1)?;
        let configuration = reader.u8()?;
        reader.finish_fixed(extra)?;
        Ok(Self { configuration })
    }
}

/// `USB_SET_INTERFACE` `[if, alt]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetInterface {
    /// `bInterfaceNumber`.
    pub interface: u8,
    /// `bAlternateSetting`.
    pub alternate: u8,
}

impl SetInterface {
    /// Appends the request.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer::new(out);
        writer.array(2);
        writer.uint(self.interface);
        writer.uint(self.alternate);
    }

    /// Reads a request.
    ///
    /// # Errors
    /// [`OpError`] when a field is missing or above 255.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let mut reader = Reader::new(payload);
        let extra = reader.fixed_array(2)?;
        let request = Self {
            interface: reader.u8()?,
            alternate: reader.u8()?,
        };
        reader.finish_fixed(extra)?;
        Ok(request)
    }
}

/// `USB_CLEAR_HALT` `[ep]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClearHalt {
    /// The halted endpoint.
    pub ep: EndpointAddress,
}

impl ClearHalt {
    /// Appends the request.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer::new(out);
        writer.array(1);
        writer.uint(self.ep.to_u8());
    }

    /// Reads a request.
    ///
    /// # Errors
    /// [`OpError`] when the field is missing or no endpoint's address.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let mut reader = Reader::new(payload);
        let extra = reader.fixed_array(1)?;
        let ep = EndpointAddress::read(&mut reader)?;
        reader.finish_fixed(extra)?;
        Ok(Self { ep })
    }
}

/// Appends `{}`: `USB_DEVICE_LIST`, `USB_DEVICE_DETACH` and `USB_RESET`, and every answer without content.
pub fn encode_empty(out: &mut Vec<u8>) {
    Writer::new(out).map(0);
}

/// Reads `{}`, which may also be no bytes at all (profile 4.2). Unknown keys are ignored.
///
/// # Errors
/// [`OpError`] when it is anything but a map.
pub fn decode_empty(payload: &[u8]) -> Result<(), OpError> {
    Ok(msgpack::decode_empty(payload)?)
}
