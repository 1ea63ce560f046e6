//! Reads values one by one, without a copy and without a tree.

use super::DecodeError;
use super::check::{self, Rules};
use super::head::{Head, Integer};

/// A cursor over one payload; every method takes one value off the front.
///
/// Fixed-shape arrays are read as
/// `let extra = reader.fixed_array(n)?; …n values…; reader.finish_fixed(extra)?`, which ignores
/// trailing elements a later version may add (profile 4.2).
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    rules: Rules,
}

impl<'a> Reader<'a> {
    /// A cursor at the start of `bytes`, with [`Rules::DEFAULT`].
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self::with(bytes, Rules::DEFAULT)
    }

    /// A cursor with an operation's own limits.
    pub const fn with(bytes: &'a [u8], rules: Rules) -> Self {
        Self { rest: bytes, rules }
    }

    /// The bytes not read yet.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// An array's number of elements, which follow.
    ///
    /// # Errors
    /// [`DecodeError`] when it is no array or has more elements than allowed or than bytes left.
    pub fn array_header(&mut self) -> Result<usize, DecodeError> {
        let Head::Array(count) = self.head()? else {
            return Err(DecodeError::Expected("an array"));
        };
        self.rules.array_allowed(count)
    }

    /// The header of an array of at least `least` elements; returns how many there are beyond.
    ///
    /// # Errors
    /// As [`Self::array_header`], and when there are fewer elements.
    pub fn fixed_array(&mut self, least: usize) -> Result<usize, DecodeError> {
        self.array_header()?
            .checked_sub(least)
            .ok_or(DecodeError::Expected("an array with more elements"))
    }

    /// A map's number of entries, each a key and a value, which follow. Duplicates are the caller's
    /// business.
    ///
    /// # Errors
    /// [`DecodeError`] when it is no map or has more entries than allowed or than bytes left.
    pub fn map_header(&mut self) -> Result<usize, DecodeError> {
        let Head::Map(count) = self.head()? else {
            return Err(DecodeError::Expected("a map"));
        };
        self.rules.map_allowed(count)
    }

    /// An integer that is not negative.
    ///
    /// # Errors
    /// [`DecodeError`] when it is something else.
    pub fn uint(&mut self) -> Result<u64, DecodeError> {
        match self.head()?.integer() {
            Some(Integer::Unsigned(value)) => Ok(value),
            Some(Integer::Negative(_)) => Err(DecodeError::Range),
            None => Err(DecodeError::Expected("an unsigned integer")),
        }
    }

    /// An integer.
    ///
    /// # Errors
    /// [`DecodeError`] when it is something else or does not fit.
    pub fn int(&mut self) -> Result<i64, DecodeError> {
        match self.head()?.integer() {
            Some(Integer::Unsigned(value)) => i64::try_from(value).map_err(|_| DecodeError::Range),
            Some(Integer::Negative(value)) => Ok(value),
            None => Err(DecodeError::Expected("an integer")),
        }
    }

    /// [`Self::uint`] that fits 32 bits.
    ///
    /// # Errors
    /// As [`Self::uint`]; `Range` when it does not fit.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        u32::try_from(self.uint()?).map_err(|_| DecodeError::Range)
    }

    /// [`Self::uint`] that fits 16 bits.
    ///
    /// # Errors
    /// As [`Self::uint`]; `Range` when it does not fit.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        u16::try_from(self.uint()?).map_err(|_| DecodeError::Range)
    }

    /// [`Self::uint`] that fits 8 bits.
    ///
    /// # Errors
    /// As [`Self::uint`]; `Range` when it does not fit.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        u8::try_from(self.uint()?).map_err(|_| DecodeError::Range)
    }

    /// [`Self::int`] that fits 32 bits.
    ///
    /// # Errors
    /// As [`Self::int`]; `Range` when it does not fit.
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        i32::try_from(self.int()?).map_err(|_| DecodeError::Range)
    }

    /// A byte string, borrowed from the payload.
    ///
    /// # Errors
    /// [`DecodeError`] when it is something else or cut short.
    pub fn bin(&mut self) -> Result<&'a [u8], DecodeError> {
        let Head::Bin(bytes) = self.head()? else {
            return Err(DecodeError::Expected("a byte string"));
        };
        Ok(bytes)
    }

    /// A text string, borrowed from the payload.
    ///
    /// # Errors
    /// [`DecodeError`] when it is something else, too long, or not UTF-8.
    pub fn str(&mut self) -> Result<&'a str, DecodeError> {
        let Head::Str(bytes) = self.head()? else {
            return Err(DecodeError::Expected("a string"));
        };
        self.rules.text(bytes)
    }

    /// A boolean.
    ///
    /// # Errors
    /// [`DecodeError`] when it is something else.
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        let Head::Bool(value) = self.head()? else {
            return Err(DecodeError::Expected("a boolean"));
        };
        Ok(value)
    }

    /// Nil.
    ///
    /// # Errors
    /// [`DecodeError`] when it is something else.
    pub fn nil(&mut self) -> Result<(), DecodeError> {
        let Head::Nil = self.head()? else {
            return Err(DecodeError::Expected("nil"));
        };
        Ok(())
    }

    /// Takes a nil off the front if one stands there, for "x or nil" elements.
    pub fn take_nil(&mut self) -> bool {
        let mut ahead = self.rest;
        let is_nil = matches!(Head::take(&mut ahead), Ok(Head::Nil));
        if is_nil {
            self.rest = ahead;
        }
        is_nil
    }

    /// Passes over one value of any type, with the full check of profile 4.2, and returns its bytes.
    ///
    /// # Errors
    /// [`DecodeError`] when a rule is broken.
    pub fn skip_value(&mut self) -> Result<&'a [u8], DecodeError> {
        let before = self.rest;
        check::value(&mut self.rest, &self.rules, 1)?;
        Ok(before
            .get(..before.len() - self.rest.len())
            .unwrap_or_default())
    }

    /// Passes over `extra` values and ends the payload: the counterpart of [`Self::fixed_array`]
    /// when the array is the payload.
    ///
    /// # Errors
    /// As [`Self::skip_value`] and [`Self::finish`].
    pub fn finish_fixed(mut self, extra: usize) -> Result<(), DecodeError> {
        self.skip_values(extra)?;
        self.finish()
    }

    /// Passes over `count` values.
    ///
    /// # Errors
    /// As [`Self::skip_value`].
    pub fn skip_values(&mut self, count: usize) -> Result<(), DecodeError> {
        for _ in 0..count {
            self.skip_value()?;
        }
        Ok(())
    }

    /// Ends the payload.
    ///
    /// # Errors
    /// `Trailing` when bytes are left.
    pub const fn finish(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(DecodeError::Trailing(left)),
        }
    }

    fn head(&mut self) -> Result<Head<'a>, DecodeError> {
        Head::take(&mut self.rest)
    }
}
