//! See [`myclerk_fuzz::commands::commands`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| myclerk_fuzz::commands::commands(data));
