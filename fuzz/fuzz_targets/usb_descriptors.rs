//! See [`myclerk_fuzz::descriptors::descriptors`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| myclerk_fuzz::descriptors::descriptors(data));
