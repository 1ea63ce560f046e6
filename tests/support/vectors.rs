//! Loads the profile's test vectors: `tests/vectors/vectors.json`, or the file that the environment
//! variable `MYCLERK_VECTORS` names.

use serde_json::Value;

/// The whole file.
pub(crate) fn load() -> Value {
    let path = std::env::var("MYCLERK_VECTORS").unwrap_or_else(|_| {
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/vectors.json").to_owned()
    });
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{path} cannot be read: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path} is no JSON: {error}"))
}

/// The bytes of a value that is a string of hexadecimal digits.
pub(crate) fn hex(value: &Value) -> Vec<u8> {
    let digits = value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no hexadecimal string"));
    decode(digits)
}

/// The number of a value that is a string of at most 16 hexadecimal digits.
pub(crate) fn hex_u64(value: &Value) -> u64 {
    hex(value)
        .iter()
        .fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

/// The entries of a value that is an object, in the order of the file's keys.
pub(crate) fn entries(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value
        .as_object()
        .unwrap_or_else(|| panic!("{value} is no object"))
        .iter()
        .map(|(name, value)| (name.as_str(), value))
}

/// The elements of a value that is an array.
pub(crate) fn elements(value: &Value) -> &[Value] {
    value
        .as_array()
        .unwrap_or_else(|| panic!("{value} is no array"))
}

fn decode(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    assert!(digits.len().is_multiple_of(2), "an odd number of digits");
    digits
        .chunks_exact(2)
        .map(|pair| {
            let pair = std::str::from_utf8(pair).expect("ASCII digits");
            u8::from_str_radix(pair, 16).unwrap_or_else(|_| panic!("{pair} is no byte"))
        })
        .collect()
}
