//! See [`myclerk_fuzz::ops::ops`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| myclerk_fuzz::ops::ops(data));
