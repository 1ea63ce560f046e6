//! The serde side of decoding.
//!
//! `rmp-serde` decodes more than profile 4 allows (structs from arrays, field names from integers,
//! text for bytes) and refuses what it allows (trailing elements of tuples), hence this one. It runs
//! on checked bytes only, so it carries no limits of its own.

use core::fmt::Display;

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::DecodeError;
use super::check::{self, Rules};
use super::head::Head;

/// No limits: the bytes have been checked with the caller's rules.
const CHECKED: Rules = Rules {
    depth: usize::MAX,
    map: usize::MAX,
    array: usize::MAX,
    str: usize::MAX,
};

impl serde::de::Error for DecodeError {
    fn custom<T: Display>(message: T) -> Self {
        Self::Shape(message.to_string())
    }
}

pub(super) struct Deserializer<'de> {
    rest: &'de [u8],
}

impl<'de> Deserializer<'de> {
    /// `checked` has passed [`check::check`].
    pub(super) const fn new(checked: &'de [u8]) -> Self {
        Self { rest: checked }
    }

    fn seq<V: Visitor<'de>>(&mut self, count: usize, visitor: V) -> Result<V::Value, DecodeError> {
        let mut elements = Elements {
            de: self,
            left: count,
        };
        let value = visitor.visit_seq(&mut elements)?;
        for _ in 0..elements.left {
            check::value(&mut elements.de.rest, &CHECKED, 0)?;
        }
        Ok(value)
    }

    fn map<V: Visitor<'de>>(&mut self, count: usize, visitor: V) -> Result<V::Value, DecodeError> {
        let mut elements = Elements {
            de: self,
            left: count,
        };
        let value = visitor.visit_map(&mut elements)?;
        match elements.left {
            0 => Ok(value),
            _ => Err(DecodeError::Expected("a map with fewer entries")),
        }
    }

    fn text(&mut self) -> Result<&'de str, DecodeError> {
        let Head::Str(bytes) = Head::take(&mut self.rest)? else {
            return Err(DecodeError::Expected("a string"));
        };
        CHECKED.text(bytes)
    }

    fn bin(&mut self) -> Result<&'de [u8], DecodeError> {
        let Head::Bin(bytes) = Head::take(&mut self.rest)? else {
            return Err(DecodeError::Expected("a byte string"));
        };
        Ok(bytes)
    }
}

impl<'de> serde::Deserializer<'de> for &mut Deserializer<'de> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match Head::take(&mut self.rest)? {
            Head::Nil => visitor.visit_unit(),
            Head::Bool(value) => visitor.visit_bool(value),
            Head::Uint(value) => visitor.visit_u64(value),
            Head::Int(value) => visitor.visit_i64(value),
            Head::Float(value) => visitor.visit_f64(value),
            Head::Str(bytes) => visitor.visit_borrowed_str(CHECKED.text(bytes)?),
            Head::Bin(bytes) => visitor.visit_borrowed_bytes(bytes),
            Head::Array(count) => self.seq(count, visitor),
            Head::Map(count) => self.map(count, visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let mut ahead = self.rest;
        if matches!(Head::take(&mut ahead)?, Head::Nil) {
            self.rest = ahead;
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let Head::Map(count) = Head::take(&mut self.rest)? else {
            return Err(DecodeError::Expected("a map"));
        };
        self.map(count, visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let mut ahead = self.rest;
        // A key that is no text names no field of ours: it is an unknown key, to be ignored.
        if matches!(Head::take(&mut ahead)?, Head::Str(_)) {
            return visitor.visit_borrowed_str(self.text()?);
        }
        self.rest = ahead;
        visitor.visit_borrowed_str("")
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_enum(BorrowedStrDeserializer::new(self.text()?))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_borrowed_bytes(self.bin()?)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        check::value(&mut self.rest, &CHECKED, 0)?;
        visitor.visit_unit()
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char unit unit_struct seq tuple
        tuple_struct
    }
}

/// What is left of an array's elements or a map's entries.
struct Elements<'a, 'de> {
    de: &'a mut Deserializer<'de>,
    left: usize,
}

impl<'de> SeqAccess<'de> for &mut Elements<'_, 'de> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        seed.deserialize(&mut *self.de).map(Some)
    }

    /// Never the declared count: it is the peer's, and our elements may be larger than its bytes.
    fn size_hint(&self) -> Option<usize> {
        None
    }
}

impl<'de> MapAccess<'de> for &mut Elements<'_, 'de> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DecodeError> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        seed.deserialize(&mut *self.de).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, DecodeError> {
        seed.deserialize(&mut *self.de)
    }

    fn size_hint(&self) -> Option<usize> {
        None
    }
}
